"""Measures compute where the counts are: numpy's arrays on the CPU, torch's on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def functions(array: Any) -> Any:
    """`torch` for its tensors, `numpy` for all else: the functions used here are called alike."""
    return torch if isinstance(array, torch.Tensor) else np


def largest(values: Sequence[Any]) -> Any:
    """Elementwise, of arrays of one shape; nan where one is."""
    do = functions(values[0])
    return do.asarray(values[0] if len(values) == 1 else do.amax(do.stack(list(values)), axis=0))
