"""Where cells compute: the CPU, or the GPU that a process sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from retrofair.data import Splits, StreamedData
from retrofair.data.grouped import Batch
from retrofair.errors import InputError, unknown

DEVICES = ("cpu", "cuda", "auto")
ROWS = 1024  # per batch of data that lie on a GPU
_current = torch.device("cpu")


def check_device(device: str) -> None:
    """Refuse what is no device's name.

    Raises:
        InputError: naming the option.
    """
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)


def device_here(device: str) -> torch.device:
    """The device that a name stands for in this process.

    Raises:
        InputError: it is cuda, and there is none.
    """
    check_device(device)
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise InputError(
            "expected a GPU that torch can use, found none: --device cpu, or auto to take one "
            "where there is one (CUDA_VISIBLE_DEVICES says which a process may see)"
        )
    return torch.device("cuda" if there and device != "cpu" else "cpu")


def current() -> torch.device:
    """Where the cell that runs in this process shall compute."""
    return _current


@contextmanager
def computing_on(device: str) -> Iterator[None]:
    """Cells that run meanwhile compute there."""
    global _current
    before, _current = _current, device_here(device)
    try:
        yield
    finally:
        _current = before


def name_of_current() -> str:
    """What people call it; "" for the CPU."""
    return "" if _current.type == "cpu" else torch.cuda.get_device_name(_current)


def placed(data: Any) -> Any:
    """Streamed data read into the memory of the current device, if that is not the CPU.

    Images are decoded, scaled and sent once, not for every pass of every method.
    """
    if _current.type == "cpu" or not isinstance(data, StreamedData):
        return data
    return _placed(data, str(_current))


@lru_cache(maxsize=6)  # validation and test data of three settings
def _placed(data: StreamedData, device: str) -> StreamedData:
    return on_device(data, torch.device(device))


def on_device(data: StreamedData, device: torch.device) -> StreamedData:
    """The same rows in the same order, x on a device, labels and groups on the CPU.

    Raises:
        InputError: x is no tensor.
    """
    parts = []
    for x, _, _ in data:
        if not isinstance(x, Tensor):
            raise InputError(
                f"expected x to be one tensor to place on a GPU, got a {type(x).__name__}"
            )
        parts.append(x.to(device))
    rows = Placed(torch.cat(parts), data.y, data.group)
    index = torch.arange(len(data))
    return dataclasses.replace(data, rows=rows, index=index, batch_rows=ROWS, workers=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """A dataset for `StreamedData` whose x, (n, ...), lies on some device."""

    x: Tensor
    y: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Batch:
        return self.x[row], self.y[row], self.group[row]

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index tensor."""
        return self.x[index.to(self.x.device)], self.y[index], self.group[index]


def placed_splits(splits: Splits, *parts: str) -> Splits:
    """Splits some of whose parts are placed."""
    return dataclasses.replace(splits, **{part: placed(getattr(splits, part)) for part in parts})
