"""Data split into training, validation and test part; a table scaled on the training part."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np
import pandas as pd
import torch
from typing_extensions import TypeVar  # its own in Python 3.13: a default

from retrofair.data.encoders import Array
from retrofair.data.grouped import GroupedData
from retrofair.data.preparation import Preparation
from retrofair.data.streamed import Rows, StreamedData
from retrofair.errors import InputError, RetrofairWarning

Data = TypeVar("Data", GroupedData, StreamedData, default=GroupedData)
Shares = tuple[float, float, float]
SHARES: Shares = (0.6, 0.2, 0.2)
MOST_LABELS = 20  # different labels up to which each is looked at


@dataclass(frozen=True, eq=False)
class Splits(Generic[Data]):
    """The three parts of a data set, in memory or streamed."""

    train: Data
    valid: Data
    test: Data


def check_seed(seed: int) -> int:
    """The seed, if it is one.

    Raises:
        InputError: it is not a whole number from 0 to 2**63 - 1.
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**63:
        raise InputError(f"expected a seed from 0 to 2**63 - 1, got {seed!r} (seed, --seed)")
    return int(seed)


def split_frame(
    frame: pd.DataFrame,
    *,
    seed: int = 0,
    parts: Shares = SHARES,
    official: Array | None = None,
    **options: Any,
) -> Splits:
    """Split a table at random and prepare it with what the training part says.

    Categories are those of the whole table (no label is looked at for them), so that a rare one
    that fell into the test part still has its column; means and spreads are the training part's.

    Args:
        seed: of the permutation of the rows.
        parts: shares of training, validation and test data; they add up to 1.
        official: (n,) the part of each row, 0, 1 or 2, instead of one at random.
        options: those of `GroupedData.from_frame`.

    Raises:
        InputError: the shares are no partition, or as `GroupedData.from_frame`.
    """
    check_parts(parts)
    check_seed(seed)
    scale = options.get("scale", True)
    preparation = Preparation.fit(frame, **options)
    kept, _ = preparation.kept(frame)
    train, valid, test = positions(len(kept), seed, parts, _chosen(official, kept))
    if len(train):
        preparation = preparation.fitted(frame.iloc[kept[train]], scale=scale)
    data = GroupedData.prepared(preparation, frame)
    return Splits(data[train], data[valid], data[test])


def split_rows(
    data: Data, seed: int = 0, parts: Shares = SHARES, official: Array | None = None
) -> Splits[Data]:
    """Split data that are already prepared, such as images, at random.

    A group, or a group's rows of one label, that fell into the test part alone is warned about.

    Args:
        seed: of the permutation of the rows.
        parts: shares of training, validation and test data; they add up to 1.
        official: (n,) the part of each row, 0, 1 or 2, instead of one at random.

    Raises:
        InputError: the shares are no partition.

    Example:
        >>> data = GroupedData(x=torch.zeros(100, 2), y=torch.arange(100) % 2,
        ...                    group=torch.arange(100) // 50, group_names=("Female", "Male"))
        >>> [len(part) for part in vars(split_rows(data)).values()]
        [60, 20, 20]
    """
    check_parts(parts)
    chosen = positions(len(data), check_seed(seed), parts, official)
    train, valid, test = (data[torch.from_numpy(rows)] for rows in chosen)
    _warn_unseen(train, valid, test)
    return Splits(train, valid, test)


def with_favourable(splits: Splits[Data], favourable: int) -> Splits[Data]:
    """The same parts, which know the label that is good for a person: 0 or 1."""
    parts = (splits.train, splits.valid, splits.test)
    if all(part.favourable == favourable for part in parts):
        return splits
    return Splits(*(replace(part, favourable=favourable) for part in parts))


def with_label_names(splits: Splits[Data], names: tuple[str, ...]) -> Splits[Data]:
    """The same parts, which know what their labels are called."""
    parts = (splits.train, splits.valid, splits.test)
    return Splits(*(replace(part, label_names=names) for part in parts))


def check_parts(parts: Shares) -> None:
    """Refuse shares that are no partition."""
    if len(parts) != 3 or min(parts) < 0 or not abs(sum(parts) - 1) <= 1e-9:
        raise InputError(f"expected three shares that add up to 1, got {parts}")


def positions(
    n: int, seed: int, parts: Shares, official: Array | None = None
) -> tuple[Array, Array, Array]:
    """The rows of each part, of n rows."""
    if official is not None:
        train, valid, test = (np.flatnonzero(official == part) for part in range(3))
        return train, valid, test
    order = np.random.default_rng(seed).permutation(n)
    first, second = round(parts[0] * n), round((parts[0] + parts[1]) * n)
    return order[:first], order[first:second], order[second:]


def _chosen(official: Array | None, rows: Array) -> Array | None:
    return None if official is None else official[rows]


def _warn_unseen(train: Data, valid: Data, test: Data) -> None:
    """Say which groups, and labels of a group, only the test part has."""
    names = test.group_names
    for name, part in (("training", train), ("validation", valid)):
        if not len(part):
            continue
        unseen = [names[g] for g in sorted(_found(test) - _found(part))]
        cells = sorted(_found(test, labels=True) - _found(part, labels=True))
        unseen += [f"{names[g]} with label {y}" for g, y in cells if names[g] not in unseen]
        if unseen:
            warnings.warn(
                f"{', '.join(unseen)}: rows in the test part, and none in the {name} part; take "
                "another seed, other parts, or merge groups",
                RetrofairWarning,
                stacklevel=3,
            )


def _found(data: GroupedData | StreamedData, labels: bool = False) -> set[Any]:
    """The groups that have rows, with their labels if asked (of a number there are none)."""
    if not labels:
        return set(data.group.tolist())
    if len(torch.unique(data.y)) > MOST_LABELS:
        return set()
    return set(zip(data.group.tolist(), data.y.tolist(), strict=True))


def alike_in_parts(data: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """The rest and a share of the rows, of each group and label alike; rows keep their order."""
    random = np.random.default_rng(seed)
    _, label = np.unique(data.y.numpy(), return_inverse=True)
    cell = (label.max(initial=0) + 1) * data.group.numpy() + label
    held = np.zeros(len(data), bool)
    for each in np.unique(cell):
        rows = random.permutation(np.flatnonzero(cell == each))
        held[rows[: math.floor(share * len(rows) + 0.5)]] = True
    return data[np.flatnonzero(~held)], data[np.flatnonzero(held)]
