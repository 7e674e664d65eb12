"""Data whose rows belong to groups: features, a label and a group code per row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from retrofair.data.label_names import checked_label_names
from retrofair.data.learned import Missing
from retrofair.data.preparation import Preparation, prepare
from retrofair.errors import InputError

Batch = tuple[Any, Tensor, Tensor]
BATCH_ROWS = 65_536
BATCH_NUMBERS = 2**23  # of x in a batch: fewer rows of images than of a table
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # torch cannot compare these


@runtime_checkable
class Batches(Protocol):
    """All that an algorithm may ask of data: small enough for a stream to provide.

    Iterating gives batches `(x, y, group)` in a fixed order; `y` and `group` are the labels and
    group codes of all rows in that same order (a few bytes a row, so they always fit in memory);
    `x` of a batch is whatever the network takes. The last group is the privileged one.
    """

    @property
    def group_names(self) -> tuple[str, ...]: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def group(self) -> Tensor: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GroupedData:
    """Features, labels and groups in memory.

    Args:
        x: (n, ...) float32 features, finite.
        y: (n,) labels: 0/1, classes from 0 to K - 1, or any numbers for regression.
        group: (n,) integer codes into `group_names`.
        group_names: the G names. The last group is the privileged one; with two groups, 0 is
            unprivileged and 1 privileged. The names fix G, even where a group has no row.
        feature_names: one name per column of x, or empty.
        preparation: how a table became x, if it was one.
        notes: what was dropped, imputed or assumed on the way.
        favourable: the label that is good for a person, 1 or 0, by which `compare` says who gained
            and who lost; 0 for COMPAS, where 1 is to reoffend. No method and no measure reads it.
        label_names: what the labels 0 to K - 1 are called, or empty. Classifiers of transformers
            give their outputs in this order, by the names in their config.

    Raises:
        InputError: lengths differ, a code or label has no name, a value is not finite.

    Example:
        >>> data = GroupedData(x=torch.zeros(3, 2), y=torch.tensor([0, 1, 1]),
        ...                    group=torch.tensor([0, 1, 1]), group_names=("Female", "Male"))
        >>> len(data), len(data[1:])
        (3, 2)
    """

    x: Tensor
    y: Tensor
    group: Tensor
    group_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()
    preparation: Preparation | None = None
    notes: tuple[str, ...] = ()
    favourable: int = 1
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        check_favourable(self.favourable)
        exact = isinstance(self.x, Tensor)  # an array of doubles is no wish for a double network
        put(self, "x", _tensor(self.x, "x"))
        put(self, "y", _tensor(self.y, "y").reshape(-1))
        put(self, "group", _tensor(self.group, "group").reshape(-1))
        put(self, "group_names", tuple(str(name) for name in self.group_names))
        if not self.x.is_floating_point() or not exact:
            put(self, "x", self.x.float())
        if not self.x.ndim:
            raise InputError("expected x of shape (n, ...), got a single number")
        if not len(self.x) == len(self.y) == len(self.group):
            raise InputError(
                "expected x, y and group of one length, got "
                f"{len(self.x):,}, {len(self.y):,} and {len(self.group):,} rows"
            )
        check_groups(self.group, self.group_names)
        put(self, "group", self.group.long())
        for name, values in (("x", self.x), ("y", self.y)):
            _check_finite(name, values, self.feature_names)
        put(self, "label_names", checked_label_names(self.label_names, self.y))

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        label: str,
        sensitive: str | Sequence[str],
        positive: object = None,
        privileged: object = None,
        include_sensitive: bool = True,
        missing: Missing = "drop",
        drop: Sequence[str] = (),
        scale: bool = True,
        regression: bool = False,
        like: GroupedData | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> GroupedData:
        """Make grouped data from any table.

        Text columns become one 0/1 column per category; a two-valued sensitive column becomes one
        0/1 column (1 = privileged); numbers are standardised.

        Args:
            label: the column to predict.
            sensitive: the protected column, or several: their intersections are the groups.
            positive: the label's value that counts as 1; not needed for a 0/1 label.
            privileged: the privileged value (one per sensitive column). Without it: 1 of a 0/1
                column, otherwise the value with the largest share of positive labels.
            include_sensitive: keep the sensitive columns among the features.
            missing: "drop" rows with missing values, "impute" (median, or a category of its own),
                or "raise". Rows without label or group are always dropped. What happened is in
                `notes` and warned about.
            drop: columns to leave out.
            scale: standardise the numbers; False keeps the table's own units.
            regression: keep the label's numbers as they are.
            like: data made earlier (the training part): its categories, scaling and groups are
                applied, and all other options of preparation are taken from it.
            flags: further columns to encode as one 0/1 column, with the value that becomes 1.

        Raises:
            InputError: a column is unknown, the label has one class, a category is new.

        Example:
            >>> frame = pd.DataFrame({"age": [20, 30, 40, 50], "sex": ["F", "M", "F", "M"],
            ...                       "hired": ["no", "yes", "yes", "yes"]})
            >>> data = GroupedData.from_frame(frame, label="hired", positive="yes",
            ...                               sensitive="sex", privileged="M")
            >>> data.feature_names, data.group_names
            (('age', 'sex'), ('F', 'M'))
        """
        if like is not None:
            if like.preparation is None:
                raise InputError("expected like= to be made by from_frame, got data without one")
            preparation = like.preparation
        else:
            preparation = Preparation.fit(
                frame,
                label=label,
                sensitive=sensitive,
                positive=positive,
                privileged=privileged,
                include_sensitive=include_sensitive,
                missing=missing,
                drop=drop,
                scale=scale,
                regression=regression,
                flags=flags,
            )
        return cls.prepared(preparation, frame)

    @classmethod
    def prepared(cls, preparation: Preparation, frame: pd.DataFrame) -> GroupedData:
        """Apply a preparation that was made or read earlier to a table of the same columns.

        The way to new rows: nothing is learned from them, and columns, categories, groups and
        values of the label that the preparation does not know are refused. Columns that were left
        out on purpose when it was made may be there or not.

        Raises:
            InputError: a column is missing or new, a category, a group or a value of the label is
                new, an infinite number.

        Example:
            >>> frame = pd.DataFrame({"age": [20, 30, 40], "sex": ["F", "M", "F"],
            ...                       "hired": [0, 1, 1]})
            >>> old = GroupedData.from_frame(frame, label="hired", sensitive="sex", privileged="M")
            >>> GroupedData.prepared(old.preparation, frame.assign(age=[30, 30, 30])).x[:, 0]
            tensor([0., 0., 0.])
        """
        x, y, group, notes = prepare(preparation, frame)
        return cls(
            x=torch.from_numpy(x),
            y=torch.from_numpy(y),
            group=torch.from_numpy(group),
            group_names=preparation.group_names,
            feature_names=preparation.feature_names,
            preparation=preparation,
            notes=notes,
        )

    def __repr__(self) -> str:
        rows = torch.bincount(self.group, minlength=len(self.group_names)).tolist()
        groups = ", ".join(f"{name}: {n:,}" for name, n in zip(self.group_names, rows, strict=True))
        return f"GroupedData(x={tuple(self.x.shape)}, groups=({groups}))"

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> GroupedData:
        """The chosen rows (a slice, an index tensor or a mask), with the same groups."""
        index = as_index(index)
        try:
            y, group, x = self.y[index], self.group[index], self.x[index]
        except (IndexError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"expected rows from 0 to {len(self) - 1}, as a slice, index or mask: {error}"
            ) from None
        if y.ndim != 1:
            raise InputError(f"expected a slice, a list of rows or a mask, got {index!r}")
        return dataclasses.replace(self, x=x, y=y, group=group)

    def __iter__(self) -> Iterator[Batch]:
        size = max(1, min(BATCH_ROWS, BATCH_NUMBERS // max(1, self.x[:1].numel())))
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield self.x[rows], self.y[rows], self.group[rows]

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement."""
        return self.batch(torch.randint(len(self), (rows,), generator=generator))

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index tensor (m,)."""
        # several times as fast as x[index] on a minibatch
        x, y, group = (part.index_select(0, index) for part in (self.x, self.y, self.group))
        return x, y, group


def as_index(index: Any) -> Any:
    """A number, list or array of rows as what a tensor is indexed with; the rest as it is."""
    if isinstance(index, int | np.integer):
        index = [index]
    if isinstance(index, np.ndarray | list):
        index = np.asarray(index)
        index = torch.as_tensor(index if index.size else index.astype(np.int64))
    return index


def _tensor(values: Any, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(values).detach().cpu()
        return tensor.long() if tensor.dtype in UNSIGNED else tensor
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"expected {name} to be a tensor or an array of numbers, got {type(values).__name__};"
            " for a table use GroupedData.from_frame"
        ) from None


def check_favourable(favourable: object) -> int:
    """The label that is good for a person.

    Raises:
        InputError: it is neither 0 nor 1.
    """
    whole = isinstance(favourable, int | np.integer) and not isinstance(favourable, bool)
    if not whole or favourable not in (0, 1):
        raise InputError(
            f"expected the label that is good for a person, 0 or 1, got {favourable!r} "
            "(favourable, --favourable)"
        )
    return int(favourable)


def check_groups(group: Tensor, names: tuple[str, ...]) -> None:
    """Refuse codes that are no whole numbers or have no name, and names given twice."""
    if group.is_floating_point() and not bool((group.frac() == 0).all()):
        raise InputError("expected integer group codes, got fractions, NaN or infinity")
    if len(names) != len(set(names)):
        raise InputError(f"expected different group names, got {list(names)}")
    if len(group) and not 0 <= int(group.min()) <= int(group.max()) < len(names):
        raise InputError(
            f"expected group codes from 0 to {len(names) - 1} (one per group name), "
            f"got {int(group.min())} to {int(group.max())}"
        )


def _check_finite(name: str, values: Tensor, columns: tuple[str, ...]) -> None:
    if not values.is_floating_point() or bool(torch.isfinite(values.sum())):
        return
    bad = ~torch.isfinite(values)
    if not bool(bad.any()):
        return  # the sum overflowed, the values are fine
    where = ""
    if columns and values.ndim == 2 and len(columns) == values.shape[1]:
        named = [columns[i] for i in torch.nonzero(bad.any(dim=0)).flatten().tolist()[:5]]
        where = f" in {', '.join(named)}"
    raise InputError(
        f"expected finite numbers in {name}, got {int(bad.sum()):,} NaN or infinite values{where};"
        " drop or impute them (from_frame has missing=)"
    )
