"""Rows that can only be read one after the other, copied to the disk and chosen from there."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from retrofair.data.batches import alike, checked
from retrofair.data.grouped import Batch
from retrofair.data.mapped import mapped
from retrofair.errors import InputError
from retrofair.progress import track

Parts = list[tuple[str | int, Tensor]]  # of a batch's x, by name or place


class SpooledRows:
    """A dataset with rows by index of one without: read once, memory-mapped since.

    The copy is as large as all rows together, and deleted with the last data that use it in the
    process that made it. Other processes on the machine get it by its place.

    Args:
        source: batches (x, y, group), or single rows; as many as they are, but not without end.
        where: a folder for the copy; the system's for temporary files by default.

    Raises:
        InputError: items that are no (x, y, group), x of other shapes or types than the first
            batch's, or a disk that is full.
    """

    def __init__(self, source: Iterable[Any], where: str | Path | None = None) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="retrofair-rows-", dir=where))
        except OSError as error:
            raise InputError(f"expected a folder for the rows' copy: {error} (spool)") from None
        # when this object goes, also at the interpreter's end
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._kind: type = Tensor
        self._shapes: list[tuple[str | int, tuple[int, ...], torch.dtype]] = []
        kinds: list[torch.dtype] = []
        with ExitStack() as stack:
            files: list[BinaryIO] = []
            for item in track(source, "reading rows"):
                x, y, group = _batch(item)
                parts = [part for _, part in self._parts(x, len(y))]
                # labels too: kept in memory, they would hold the batches' memory apart
                parts += [y.double(), group.double()]
                if not files:
                    files = [self._opened(k, stack) for k in range(len(parts))]
                    kinds = [y.dtype, group.dtype]
                kinds = [
                    torch.promote_types(kinds[0], y.dtype),
                    torch.promote_types(kinds[1], group.dtype),
                ]
                self._write(files, parts)
        if not files:
            raise InputError("expected rows to read, got none: an iterator that is used up?")
        self._rows = self._file(len(files) - 1).stat().st_size // 8
        self._shapes += [("y", (), torch.float64), ("group", (), torch.float64)]
        self._map()
        self.y, self.group = (
            part.to(kind, copy=True) for part, kind in zip(self._mapped[-2:], kinds, strict=True)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_mapped"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._map()

    def __deepcopy__(self, _memo: dict[int, Any]) -> SpooledRows:
        return self  # nobody can change it

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, i: int) -> Batch:
        x = self._joined([part[i].clone() for part in self._mapped[:-2]])
        return x, self.y[i], self.group[i]

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index (m,)."""
        x = self._joined([part[index] for part in self._mapped[:-2]])
        return x, self.y[index], self.group[index]

    def _joined(self, parts: list[Tensor]) -> Any:
        if self._kind is Tensor:
            return parts[0]
        names = [name for name, _, _ in self._shapes[:-2]]
        return dict(zip(names, parts, strict=True)) if self._kind is dict else tuple(parts)

    def _parts(self, x: Any, rows: int) -> Parts:
        """A batch's tensors, alike in all batches."""
        parts = _split(x)
        shapes = [(name, tuple(part.shape[1:]), part.dtype) for name, part in parts]
        if not self._shapes:
            self._shapes = shapes
            self._kind = dict if isinstance(x, dict) else Tensor if isinstance(x, Tensor) else tuple
        if shapes != self._shapes:
            raise InputError(
                f"expected x of all rows alike, {_said(self._shapes)} as in the first batch, got "
                f"{_said(shapes)}: bring all rows to one shape, texts by padding to one length"
            )
        wrong = [len(part) for _, part in parts if len(part) != rows]
        if wrong:
            raise InputError(f"expected x of {rows:,} rows as y, got {wrong[0]:,}")
        return parts

    def _opened(self, k: int, stack: ExitStack) -> BinaryIO:
        try:
            return stack.enter_context(self._file(k).open("wb"))
        except OSError as error:
            raise self._full(error) from None

    def _write(self, files: list[BinaryIO], parts: list[Tensor]) -> None:
        try:
            for file, part in zip(files, parts, strict=True):
                part.contiguous().view(-1).view(torch.uint8).numpy().tofile(file)
        except OSError as error:
            raise self._full(error) from None

    def _full(self, error: OSError) -> InputError:
        return InputError(
            f"expected room for a copy of the rows in {self._folder}, but {error}: name a folder "
            "on a larger disk (spool=)"
        )

    def _map(self) -> None:
        try:
            found = [torch.from_numpy(mapped(self._file(k))) for k in range(len(self._shapes))]
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected the rows' copy in {self._folder}, which cannot be read: {error}. It "
                "goes with the data it was made for"
            ) from None
        self._mapped = [
            part.view(dtype).view(self._rows, *shape)
            for part, (_, shape, dtype) in zip(found, self._shapes, strict=True)
        ]

    def _file(self, k: int) -> Path:
        return self._folder / f"{k}.bin"


def _batch(item: Any) -> Batch:
    """A batch, of one row where the item is a row."""
    if isinstance(item, tuple | list) and len(item) == 3 and not np.ndim(item[1]):
        item = alike([item])
    x, y, group = checked(item)
    return x, y, group


def _split(x: Any) -> Parts:
    named = list(x.items()) if isinstance(x, dict) else None
    named = named or list(enumerate([x] if isinstance(x, Tensor) else x))
    return [(name, part.cpu()) for name, part in named]


def _said(shapes: list[tuple[str | int, tuple[int, ...], torch.dtype]]) -> str:
    return ", ".join(f"{shape} {str(dtype).split('.')[-1]}" for _, shape, dtype in shapes)
