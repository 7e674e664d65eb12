"""Whether a recorded run of a module can stand for all of its runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning
from torch.utils._python_dispatch import TorchDispatchMode

from retrofair.errors import InputError

# what torch says where it records numbers that left it, and calls no operator that we could see
LOST = ("NumPy array", "Python list")


@contextmanager
def recorded(kind: str, module: nn.Module, given: Sequence[Tensor]) -> Iterator[None]:
    """Around the writing of a recorded run.

    Raises:
        InputError: what runs depends on the values given. Torch warns of that, but also where only
            shapes are asked for, which is why the module is run once more to see.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", TracerWarning)
        yield
    told = [str(each.message) for each in said if issubclass(each.category, TracerWarning)]
    lost = any(sign in text for text in told for sign in LOST)
    if lost or (told and _reads_values(module, given)):
        raise InputError(
            "the network decides by the values of its input in Python (an if, a loop, an item()), "
            f"which a recorded run, as {kind} holds, cannot: choose torch_export, or write it with "
            "torch.where (format=, --format)"
        )


class _Reads(TorchDispatchMode):
    """Notes whether a number leaves a tensor, as it does for an `if`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: bool = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        names = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        self.seen = bool(self.seen or func in names)
        return func(*args, **(kwargs or {}))


def _reads_values(module: nn.Module, given: Sequence[Tensor]) -> bool:
    # told that it is recorded, as it was: transformers' networks then take no short cuts by values
    with mock.patch.object(torch.jit, "is_tracing", return_value=True), _Reads() as reads:
        module(*given)
    return bool(reads.seen)
