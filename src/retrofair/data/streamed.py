"""Data that are read as they are needed: any dataset of (x, y, group), in bounded memory."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, default_convert

from retrofair.data.batches import alike, checked, codes
from retrofair.data.grouped import (
    UNSIGNED,
    Batch,
    GroupedData,
    as_index,
    check_favourable,
    check_groups,
)
from retrofair.data.label_names import checked_label_names
from retrofair.data.sampled import sampled
from retrofair.data.spooled import SpooledRows
from retrofair.errors import InputError

ROWS = 256  # of a batch, where nobody says how many
Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StreamedData:
    """Rows that stay where they are until they are needed: the twin of `GroupedData`.

    `debias`, `audit`, `frontier` and all else that takes data take it. Only labels and groups are
    in memory; x of a batch is a tensor, a tuple or a dict of tensors, whatever the network takes.
    `StreamedData.of` makes it from a dataset or a DataLoader.

    Args:
        rows: a dataset of any kind with rows by index, rows[i] = (x, y, group). One with a method
            `batch(index)`, which gives (x, y, group) of an index tensor, is read by it; one with
            `__getitems__` as DataLoaders do.
        y, group: (n,) of the rows that `index` chooses, in its order.
        group_names: the G names, as in `GroupedData`: the last is the privileged one.
        index: (n,) which rows of the dataset.
        batch_rows: rows per batch.
        workers: processes that read ahead.
        collate: makes a batch of a list of rows.
        notes: what was left out or assumed on the way.
        favourable: the label that is good for a person, 1 or 0 (see `GroupedData`).
        label_names: what the labels 0 to K - 1 are called, or empty (see `GroupedData`).
    """

    rows: Any
    y: Tensor
    group: Tensor
    group_names: tuple[str, ...]
    index: Tensor
    batch_rows: int = ROWS
    workers: int = 0
    collate: Collate = alike
    notes: tuple[str, ...] = ()
    favourable: int = 1
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_favourable(self.favourable)
        if self.batch_rows < 1 or self.workers < 0:
            raise InputError(
                "expected batch_rows >= 1 and workers >= 0, got "
                f"{self.batch_rows} and {self.workers}"
            )
        if not len(self.y) == len(self.group) == len(self.index):
            raise InputError(
                "expected y, group and index of one length, got "
                f"{len(self.y):,}, {len(self.group):,} and {len(self.index):,} rows"
            )
        for name, values in (("y", self.y), ("group", self.group)):
            if values.dtype in UNSIGNED:
                object.__setattr__(self, name, values.long())
        object.__setattr__(self, "group_names", tuple(str(name) for name in self.group_names))
        check_groups(self.group, self.group_names)
        object.__setattr__(self, "group", self.group.long())
        named = checked_label_names(self.label_names, self.y)
        object.__setattr__(self, "label_names", named)

    @classmethod
    def of(
        cls,
        source: Any,
        group_names: Sequence[str],
        *,
        batch_rows: int | None = None,
        workers: int | None = None,
        collate: Collate | None = None,
        spool: str | Path | None = None,
        label_names: Sequence[str] = (),
    ) -> StreamedData:
        """From a dataset of rows (x, y, group), or from a DataLoader of one.

        Of a DataLoader the dataset, its collation, batch size and number of workers are taken, and
        the rows that its sampler names; not its order: rows come in the dataset's, all of them
        where it shuffles or drops the last batch. Labels and groups are the dataset's `y` and
        `group`, one per row, where it has them; otherwise all rows are read once for them.

        Methods draw rows by index. A torch `IterableDataset`, or a DataLoader of one, has none: it
        is read to its end once, in its own order, into a copy on the disk that goes with the data;
        by one worker at most, as several would each give every row.

        Args:
            group_names: the G names, the privileged group's last.
            batch_rows, workers, collate: other than the DataLoader's; 256, 0 and torch's own
                without one.
            spool: the folder for such a copy; the system's for temporary files by default.
            label_names: what the labels 0 to K - 1 are called.

        Raises:
            InputError: what is neither, rows that are no (x, y, group), `y` and `group` of another
                number than the rows, codes of groups without a name, a sampler that names a row
                twice, or no room for a copy.

        Example:
            >>> rows = [(torch.ones(3, 8, 8), k % 2, k // 2) for k in range(4)]
            >>> data = StreamedData.of(rows, ("Female", "Male"), batch_rows=3)
            >>> [tuple(x.shape) for x, y, group in data]
            [(3, 3, 8, 8), (1, 3, 8, 8)]
        """
        if batch_rows is not None and batch_rows < 1:
            raise InputError(f"expected batch_rows >= 1, got {batch_rows}")
        if isinstance(source, DataLoader):
            batch_rows = source.batch_size if batch_rows is None else batch_rows
            workers = source.num_workers if workers is None else workers
            if collate is None and source.collate_fn not in (default_collate, default_convert):
                collate = source.collate_fn
            rows: Any = source.dataset
        else:
            rows = source
        batch_rows, workers = ROWS if batch_rows is None else batch_rows, workers or 0
        if isinstance(rows, IterableDataset):
            whole = isinstance(source, DataLoader) and source.batch_size is None
            loader: DataLoader[Any] = DataLoader(
                rows,
                batch_size=None if whole else batch_rows,  # the dataset itself gives batches
                collate_fn=collate or (None if whole else alike),
                num_workers=min(workers, 1),
            )
            rows, workers = SpooledRows(loader, spool), 0  # nothing is left to prepare
            source = None  # nor to choose
        if not (hasattr(rows, "__getitem__") and hasattr(rows, "__len__")):
            raise InputError(
                "expected a dataset with rows by index, rows[i] and len(rows), torch's "
                f"IterableDataset, or a DataLoader of either, got {type(source).__name__}"
            )
        if isinstance(source, DataLoader) and source.batch_size is None:
            _refuse_batches(source)
        index = sampled(source) if isinstance(source, DataLoader) else None
        notes = () if index is None else (f"{len(index):,} of {len(rows):,} rows: the sampler's",)
        index = torch.arange(len(rows)) if index is None else index
        n = len(index)
        made = cls(
            rows=rows,
            y=torch.zeros(n),
            group=torch.zeros(n, dtype=torch.long),
            group_names=tuple(group_names),
            index=index,
            batch_rows=batch_rows,
            workers=workers,
            collate=collate or alike,
            notes=notes,
        )
        if hasattr(rows, "y") and hasattr(rows, "group"):
            y, group = (part[index] for part in _known(rows))
        else:
            y, group = _labels(made)
        return dataclasses.replace(made, y=y, group=group, label_names=tuple(label_names))

    def __repr__(self) -> str:
        rows = torch.bincount(self.group, minlength=len(self.group_names)).tolist()
        groups = ", ".join(f"{name}: {n:,}" for name, n in zip(self.group_names, rows, strict=True))
        return f"StreamedData({type(self.rows).__name__}, {len(self):,} rows, groups=({groups}))"

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any) -> StreamedData:
        """The chosen rows (a slice, an index tensor or a mask), with the same groups."""
        index = as_index(index)
        try:
            chosen = self.index[index], self.y[index], self.group[index]
        except (IndexError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"expected rows from 0 to {len(self) - 1}, as a slice, index or mask: {error}"
            ) from None
        return dataclasses.replace(self, index=chosen[0], y=chosen[1], group=chosen[2])

    def __iter__(self) -> Iterator[Batch]:
        parts = self.index.split(self.batch_rows) if len(self) else ()
        if hasattr(self.rows, "batch") and not self.workers:
            for part in parts:
                yield checked(self.rows.batch(part))
            return
        batches: Any = _BatchesAhead(self.rows, self.collate)
        loader: DataLoader[Any] = DataLoader(
            batches,
            sampler=[part.tolist() for part in parts],
            batch_size=None,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(_seed()),  # or it draws from torch's own
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield checked(batch)

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement."""
        return self.batch(torch.randint(len(self), (rows,), generator=generator))

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index tensor (m,), in one batch."""
        chosen = self.index[index]
        if hasattr(self.rows, "batch"):
            return checked(self.rows.batch(chosen))
        return checked(_Batches(self.rows, self.collate)[chosen.tolist()])

    @property
    def x(self) -> Any:
        """x of all rows at once, read into memory."""
        if not len(self):
            raise InputError("expected rows to read, got none")
        parts = [x for x, _, _ in self]
        if ragged(parts):  # filled up to the longest of each batch: now to that of all
            return self.batch(torch.arange(len(self)))[0]
        if isinstance(parts[0], dict):
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if isinstance(parts[0], tuple | list):
            return tuple(torch.cat(each) for each in zip(*parts, strict=True))
        return torch.cat(parts)

    def read(self) -> GroupedData:
        """All rows in memory, where x is a tensor.

        Raises:
            InputError: x is a tuple or a dict of tensors.
        """
        x = self.x
        if not isinstance(x, Tensor):
            raise InputError(f"expected x to be one tensor to read, got a {type(x).__name__}")
        return GroupedData(
            x=x,
            y=self.y,
            group=self.group,
            group_names=self.group_names,
            notes=self.notes,
            favourable=self.favourable,
            label_names=self.label_names,
        )


def _known(rows: Any) -> tuple[Tensor, Tensor]:
    """y and group of every row, (n,) each, as the dataset has them."""
    y, group = codes(rows.y, "y"), codes(rows.group, "group")
    if not len(y) == len(group) == len(rows):
        raise InputError(
            f"expected y and group of one per row, {len(rows):,} each, as the dataset's own, got "
            f"{len(y):,} and {len(group):,}: give them the rows' length and order, or leave them "
            "out, and they are read from the rows"
        )
    return y, group


def _refuse_batches(loader: DataLoader[Any]) -> None:
    """Of a DataLoader without a batch size, which may leave it to its dataset to make batches."""
    rows: Any = loader.dataset
    row = rows[0] if loader.batch_sampler is None and len(rows) else None
    if (
        isinstance(row, tuple | list)
        and len(row) == 3
        and all(np.ndim(p) and len(p) > 1 for p in row[1:])
        and (not isinstance(row[0], Tensor) or len(row[0]) == len(row[1]) == len(row[2]))
    ):
        raise InputError(
            "expected a dataset of rows (x, y, group), got one of whole batches (batch_size=None), "
            f"of {len(row[1]):,} rows the first: rows are chosen one by one; make its items rows, "
            "or give an IterableDataset of the batches"
        )


def _labels(data: StreamedData) -> tuple[Tensor, Tensor]:
    """y and group of every row, (n,) each, from one pass over all of them."""
    # filled in: kept batch by batch, they would hold the batches' memory apart
    found = torch.zeros(2, len(data), dtype=torch.float64)
    kinds: list[torch.dtype] = []
    done = 0
    for _, *both in data:
        kinds = kinds or [part.dtype for part in both]
        for k, part in enumerate(both):
            kinds[k] = torch.promote_types(kinds[k], part.dtype)
            found[k, done : done + len(part)] = part
        done += len(both[0])
    y, group = (
        part.to(kind) for part, kind in zip(found, kinds or [data.y.dtype] * 2, strict=True)
    )
    return y, group


def _seed() -> int:
    """Of worker processes: torch's random state at the moment, which stays as it is."""
    state = torch.random.get_rng_state().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(state).digest()[:8], "little") >> 1


def ragged(parts: Sequence[Any]) -> bool:
    """Whether batches' x differ in more than the number of rows, as those of texts do."""
    shapes = set()
    for x in parts:
        each = x.values() if isinstance(x, dict) else [x] if isinstance(x, Tensor) else x
        shapes.add(tuple(tuple(part.shape[1:]) for part in each))
    return len(shapes) > 1


Rows = GroupedData | StreamedData  # data of which rows can be chosen


def in_order(data: Rows, order: Tensor, size: int) -> Iterator[Batch]:
    """Batches of `size` rows in an order (n,) of rows, read ahead where the data do so."""
    if isinstance(data, StreamedData):
        yield from dataclasses.replace(data[order], batch_rows=size)
    else:
        yield from map(data.batch, order.split(size))


class _Batches:
    """A dataset whose items are whole batches, by lists of rows."""

    def __init__(self, rows: Any, collate: Collate) -> None:
        self.rows, self.collate = rows, collate

    def __getitem__(self, index: list[int]) -> Any:
        if hasattr(self.rows, "batch"):
            return self.rows.batch(torch.tensor(index))
        many = getattr(self.rows, "__getitems__", None)
        found = many(index) if many is not None else [self.rows[i] for i in index]
        return self.collate(found)


class _BatchesAhead(_Batches):
    """The same in worker processes, out of which an error of ours comes as it is."""

    def __getitem__(self, index: list[int]) -> Any:
        try:
            return super().__getitem__(index)
        except InputError as error:  # raised, it would have the worker's traceback in its text
            return error
