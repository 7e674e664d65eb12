"""Files of numbers as arrays that are read where they lie, however large they are."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np

from retrofair.data.encoders import Array

# Linux's MAP_NORESERVE, which Python names from 3.13 on: or a private mapping must fit into memory
NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


def mapped(path: Path, offset: int = 0) -> Array:
    """The bytes of a file from an offset on, (b,) uint8.

    The array can be written to, as torch wants it, and nothing that is written reaches the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty.
    """
    with path.open("rb") as file:
        if sys.platform == "win32":
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        else:
            flags, rights = mmap.MAP_PRIVATE | NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            whole = mmap.mmap(file.fileno(), 0, flags=flags, prot=rights)
    return np.frombuffer(whole, dtype=np.uint8, offset=offset)
