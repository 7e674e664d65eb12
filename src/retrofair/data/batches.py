"""Batches of a user's own dataset: checked, and in the forms that the library knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from retrofair.data.grouped import UNSIGNED, Batch
from retrofair.errors import InputError


def checked(batch: Any) -> Batch:
    """(x, y, group) of a batch: x a tensor, a tuple or a dict of tensors, the others (b,).

    Raises:
        InputError: other parts, or what is no numbers.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        kind = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise InputError(f"expected rows (x, y, group), got {kind}")
    x, y, group = batch
    return plain(x), codes(y, "y"), codes(group, "group")


def codes(values: Any, name: str) -> Tensor:
    """A number of each row, (b,), also where they come as (b, 1).

    Raises:
        InputError: no numbers, or several a row, as one-hot labels are.
    """
    try:
        found = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"expected {name} of each row to be a number, got {type(values).__name__}"
        ) from None
    if found.ndim > 1 and found.shape[1:].numel() != 1:
        raise InputError(
            f"expected {name} of each row to be a number, got several, of shape "
            f"{tuple(found.shape[1:])}: of a one-hot {name} give {name}.argmax(-1), its code"
        )
    return (found.long() if found.dtype in UNSIGNED else found).reshape(-1)


def plain(x: Any) -> Any:
    """x of a batch, of whatever kind of mapping or list it is, such as a tokenizer's."""
    if isinstance(x, Mapping):
        return {str(name): _tensor(part) for name, part in x.items()}
    if isinstance(x, tuple | list):
        return tuple(map(_tensor, x))
    return _tensor(x)


def alike(rows: list[Any]) -> Any:
    """Torch's own collation, with one clear error where rows are not alike.

    Raises:
        InputError: rows of several shapes, or of what is no numbers.
    """
    try:
        return default_collate(list(map(_signed, rows)))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"expected rows (x, y, group) of numbers and of one shape, which make a batch: {reason}"
            ". Bring them to one shape, or give collate=, which makes a batch of a list of rows"
        ) from None


def _signed(row: Any) -> Any:
    """A row with ints for numpy's uint64, of which torch makes no batch."""
    if not (isinstance(row, tuple | list) and any(isinstance(part, np.uint64) for part in row)):
        return row
    return tuple(int(part) if isinstance(part, np.uint64) else part for part in row)


def _tensor(part: Any) -> Tensor:
    try:
        found = torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            "expected x of a batch to be a tensor, or a tuple or dict of tensors, got "
            f"{type(part).__name__}"
        ) from None
    if not found.ndim:
        raise InputError("expected x of a batch with a dimension of rows, got a number")
    return found.detach()
