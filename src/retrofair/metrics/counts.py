"""Counts of rows by group, label and prediction: all that threshold-based measures need."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retrofair.errors import InputError

Array = npt.NDArray[Any]


def count(y: Array, prediction: Array, group: Array, n_groups: int) -> Array:
    """Count rows: (G, 2, 2) int64, indexed [group, label, prediction].

    Args:
        y: (n,) labels 0/1.
        prediction: (n,) decisions 0/1.
        group: (n,) codes in [0, G).

    Raises:
        InputError: lengths differ, or a value is outside its range.

    Example:
        >>> count(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 0, 1]), 2).tolist()
        [[[1, 0], [1, 0]], [[0, 0], [0, 1]]]
    """
    y, prediction, group = (np.asarray(a).reshape(-1) for a in (y, prediction, group))
    if not len(y) == len(prediction) == len(group):
        raise InputError(
            "expected labels, predictions and groups of one length, got "
            f"{len(y):,}, {len(prediction):,} and {len(group):,}"
        )
    if n_groups > 63:  # 4 * 64 codes no longer fit into one byte
        code = _bits(y, "labels", np.intp) * 2 + _bits(prediction, "predictions", np.intp)
        code += 4 * whole(group, n_groups, "group codes", np.intp)
        table: Array = np.bincount(code, minlength=4 * n_groups)
        return np.asarray(table.reshape(n_groups, 2, 2))
    code = whole(group, n_groups, "group codes", np.uint8)
    code = (code << 2) | (_bits(y, "labels", np.uint8) << 1)
    code |= _bits(prediction, "predictions", np.uint8)
    return _histogram(code)[: 4 * n_groups].reshape(n_groups, 2, 2)


def collapse(y: Array, group: Array, n_groups: int) -> Array:
    """Rows by group and label: (G, 2) int64."""
    return np.asarray(count(y, y, group, n_groups).sum(axis=-1))


def _histogram(code: Array) -> Array:
    """Frequencies of bytes. Two bytes are read as one number: half the additions."""
    pairs = code[: len(code) & ~1].view(np.uint16)
    table = np.bincount(pairs, minlength=65_536).reshape(256, 256)
    total: Array = table.sum(axis=0) + table.sum(axis=1)
    if len(code) & 1:
        total[code[-1]] += 1
    return total


def _bits(values: Array, name: str, dtype: type) -> Array:
    if values.dtype == bool:
        return values.view(np.uint8).astype(dtype, copy=False)
    return whole(values, 2, name, dtype)


def whole(values: Array, limit: int, name: str, dtype: type) -> Array:
    """The values as this dtype, after checking that they are whole and in [0, limit)."""
    if not len(values):
        return values.astype(dtype)
    if values.dtype.kind not in "iufb":
        raise InputError(f"expected numbers as {name}, got {values.dtype}")
    low, high = values.min(), values.max()
    fits = low >= 0 and high < limit
    small: Array = values.astype(dtype, copy=False) if fits else np.zeros(0, dtype)
    if not fits or (values.dtype.kind == "f" and (small != values).any()):
        raise InputError(f"expected whole {name} from 0 to {limit - 1}, got {low} to {high}")
    return small
