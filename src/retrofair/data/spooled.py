"""Rows that can only be read one after the other, copied to the disk and chosen from there."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.utils.data import default_collate

from retrofair.data.grouped import Batch
from retrofair.errors import InputError
from retrofair.progress import track

Parts = list[tuple[str | int, Tensor]]  # of a batch's x, by name or place


class SpooledRows:
    """A dataset with rows by index of one without: read once, memory-mapped since.

    The copy is as large as all rows together, and deleted with the last data that use it.

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
        files: list[BinaryIO] = []
        labels: list[tuple[Tensor, Tensor]] = []
        try:
            for item in track(source, "reading rows"):
                x, y, group = _batch(item)
                parts = self._parts(x, len(y))
                if not files:
                    files = [self._file(k).open("wb") for k in range(len(parts))]
                for file, (_, part) in zip(files, parts, strict=True):
                    part.contiguous().view(-1).view(torch.uint8).numpy().tofile(file)
                labels.append((y, group))
        except OSError as error:
            raise InputError(
                f"expected room for a copy of the rows in {self._folder}, but {error}: name a "
                "folder on a larger disk (spool=)"
            ) from None
        finally:
            for file in files:
                file.close()
        if not labels:
            raise InputError("expected rows to read, got none: an iterator that is used up?")
        self.y, self.group = (torch.cat(each) for each in zip(*labels, strict=True))
        self._mapped = [self._map(k) for k in range(len(self._shapes))]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> Batch:
        return self._chosen(i), self.y[i], self.group[i]

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index (m,)."""
        return self._chosen(index), self.y[index], self.group[index]

    def _chosen(self, index: Tensor | int) -> Any:
        parts = [part[index] for part in self._mapped]
        if self._kind is Tensor:
            return parts[0]
        names = [name for name, _, _ in self._shapes]
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

    def _map(self, k: int) -> Tensor:
        _, shape, dtype = self._shapes[k]
        numbers = len(self.y) * torch.Size(shape).numel()
        # private: what is written to a row stays in memory
        flat = torch.from_file(str(self._file(k)), shared=False, size=numbers, dtype=dtype)
        return flat.view(len(self.y), *shape)

    def _file(self, k: int) -> Path:
        return self._folder / f"{k}.bin"


def _batch(item: Any) -> Batch:
    if not isinstance(item, tuple | list) or len(item) != 3:
        kind = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
        raise InputError(f"expected rows (x, y, group), got {kind}")
    x, y, group = item
    try:
        y, group = (torch.as_tensor(each).detach().cpu() for each in (y, group))
    except (TypeError, ValueError, RuntimeError):
        raise InputError("expected y and group of each row to be numbers") from None
    if y.ndim == 0:  # one row, not a batch of them
        x, y, group = default_collate([(x, y, group)])
    return x, y.reshape(-1), group.reshape(-1)


def _split(x: Any) -> Parts:
    named = list(x.items()) if isinstance(x, dict) else None
    if named is None:
        named = list(enumerate([x] if isinstance(x, Tensor) else x))
    parts = [(name, torch.as_tensor(part).detach().cpu()) for name, part in named]
    if any(part.ndim == 0 for _, part in parts):
        raise InputError("expected x with a dimension of rows, got a number")
    return parts


def _said(shapes: list[tuple[str | int, tuple[int, ...], torch.dtype]]) -> str:
    return ", ".join(f"{shape} {str(dtype).split('.')[-1]}" for _, shape, dtype in shapes)
