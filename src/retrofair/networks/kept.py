"""Records of passes in a folder: memory-mapped arrays, written batch by batch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import (
    header_data_from_array_1_0,
    open_memmap,
    read_array_header_1_0,
    read_magic,
    write_array_header_1_0,
)
from torch import Tensor

from retrofair.data import Batches, GroupedData, StreamedData
from retrofair.data.mapped import mapped
from retrofair.errors import InputError
from retrofair.files import write_json
from retrofair.metrics import Array
from retrofair.networks.digest import digest
from retrofair.networks.memory import part_of

ABOUT = "about.json"
LOOKS = 16  # rows whose x tells data from others of the same labels and groups


class Kept:
    """One record: a folder of .npy files with a note of how many rows are done.

    Args:
        place: of this network, these data and these layers.
        layers: their names, in order.
        total: rows of the data.
    """

    def __init__(self, place: Path, layers: Sequence[str], total: int) -> None:
        self.place, self.layers, self.total = place, tuple(layers), total
        self.rows = self._done()

    @classmethod
    def of(cls, folder: Path, network: str, data: Batches, layers: Sequence[str]) -> Kept:
        """The record of a network (its digest), data and layers, begun or not."""
        name = digest(network, *identity(data), tuple(layers))
        return cls(folder / name[:24], layers, len(data))

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process is the one that writes this record, until the block ends."""
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            yield True
            return
        self.place.mkdir(parents=True, exist_ok=True)
        with (self.place / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            self.rows = self._done()  # what another has finished meanwhile
            yield True

    @property
    def whole(self) -> bool:
        return self.rows == self.total

    def add(self, found: Sequence[Tensor]) -> None:
        """The next rows: the network's outputs, then what each layer read.

        Raises:
            InputError: the disk is full, or what was written before is gone.
        """
        end = self.rows + len(found[0])
        try:
            for k, each in enumerate(found):
                self._write(k, np.ascontiguousarray(each.numpy(), dtype=np.float32))
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected room for representations in {self.place}, got {error}: name another "
                "folder, or go without (cache)"
            ) from None
        self.rows = end
        write_json(self.place / ABOUT, {"rows": end, "of": self.total, "layers": self.layers})

    def read(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs in memory, and each layer's inputs as they lie on the disk."""
        outputs, *inputs = (self._mapped(k) for k in range(1 + len(self.layers)))
        found = dict(zip(self.layers, map(torch.from_numpy, inputs), strict=True))
        return torch.from_numpy(np.array(outputs)), found

    def _write(self, k: int, values: Array) -> None:
        # not through a memory map, in which a full disk ends the process
        if not self.rows:
            self.place.mkdir(parents=True, exist_ok=True)
            with self._file(k).open("wb") as file:
                about = header_data_from_array_1_0(values)
                write_array_header_1_0(file, {**about, "shape": (self.total, *values.shape[1:])})
        with self._file(k).open("r+b") as file:
            read_magic(file)
            read_array_header_1_0(file)
            place = file.tell() + self.rows * values[0].nbytes
            if file.seek(0, os.SEEK_END) < place:
                raise ValueError(f"{self._file(k)} with fewer than its {self.rows:,} rows")
            file.seek(place)
            file.write(values.data)

    def _mapped(self, k: int) -> Array:
        try:
            # what readers write must not reach the file
            read: Any = open_memmap(self._file(k), mode="r")
            found: Array = mapped(self._file(k), read.offset).view(read.dtype).reshape(read.shape)
            return found
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected representations in {self._file(k)}, which cannot be read: {error}; "
                f"delete {self.place} (cache)"
            ) from None

    def _file(self, k: int) -> Path:
        return self.place / f"{k}.npy"

    def _done(self) -> int:
        try:
            about = json.loads((self.place / ABOUT).read_text(encoding="utf-8"))
            return int(about["rows"]) if about["of"] == self.total else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0


def identity(data: Any) -> list[Any]:
    """What tells data from others, for `digest`.

    Of data that are streamed, which are not read for it: labels, groups, size, x of 16 rows, and
    what a dataset says of itself (`identity()`: of images their files' names, sizes and times).
    """
    parts = [getattr(data, name) for name in ("judged", "drawn") if hasattr(data, name)]
    if parts:  # rows held out from training, and the others
        return [each for one in parts for each in identity(one)]
    data = getattr(data, "data", data)  # those that stay on a GPU
    common = [data.y, data.group, tuple(data.group_names)]
    if isinstance(data, GroupedData):
        return [data.x, *common]
    rows = getattr(data, "rows", None)
    own = rows.identity() if rows is not None and hasattr(rows, "identity") else []
    return [*_looks(data), *own, *common, getattr(data, "index", None)]


def looked_at(data: Any) -> tuple[Any, int]:
    """x of a few rows, and how many of them at once the data allow.

    The rows are spread over the data where they can be chosen, otherwise the first ones; x does
    not depend on how many are read at once.
    """
    data = getattr(data, "judged", data)
    data = getattr(data, "data", data)
    if hasattr(data, "__getitem__"):
        data = data[torch.linspace(0, len(data) - 1, min(LOOKS, len(data))).long()]
    if isinstance(data, StreamedData):
        rows = min(LOOKS, data.batch_rows)
        return replace(data, batch_rows=rows).x, rows
    x, _, _ = next(iter(data))
    return part_of(x, slice(LOOKS)), LOOKS


def _looks(data: Any) -> list[Any]:
    x, _ = looked_at(data)
    parts = list(x.values()) if isinstance(x, dict) else x
    return [digest(part) for part in ([parts] if isinstance(parts, Tensor) else parts)]
