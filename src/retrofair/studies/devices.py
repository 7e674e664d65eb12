"""Where cells compute: the CPU, or the GPU that a process sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from retrofair.errors import InputError, unknown

DEVICES = ("cpu", "cuda", "auto")
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
