"""A table split into training, validation and test data, scaled on the training part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from retrofair.data.grouped import GroupedData
from retrofair.data.preparation import Preparation
from retrofair.errors import InputError


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set."""

    train: GroupedData
    valid: GroupedData
    test: GroupedData


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
    parts: tuple[float, float, float] = (0.6, 0.2, 0.2),
    **options: Any,
) -> Splits:
    """Split a table at random and prepare it with what the training part says.

    Categories are those of the whole table (no label is looked at for them), so that a rare one
    that fell into the test part still has its column; means and spreads are the training part's.

    Args:
        seed: of the permutation of the rows.
        parts: shares of training, validation and test data; they add up to 1.
        options: those of `GroupedData.from_frame`.

    Raises:
        InputError: the shares are no partition, or as `GroupedData.from_frame`.
    """
    if len(parts) != 3 or min(parts) < 0 or not abs(sum(parts) - 1) <= 1e-9:
        raise InputError(f"expected three shares that add up to 1, got {parts}")
    check_seed(seed)
    scale = options.get("scale", True)
    preparation = Preparation.fit(frame, **options)
    kept, _ = preparation.kept(frame)
    order = np.random.default_rng(seed).permutation(len(kept))
    first = round(parts[0] * len(kept))
    second = round((parts[0] + parts[1]) * len(kept))
    if first:
        preparation = preparation.fitted(frame.iloc[kept[order[:first]]], scale=scale)
    data = GroupedData.prepared(preparation, frame)
    return Splits(data[order[:first]], data[order[first:second]], data[order[second:]])
