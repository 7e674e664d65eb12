"""Lower precision in forward passes, where the device computes in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

NATIVE = ("avx512_bf16", "amx_bf16", "bf16")  # names of a processor's instructions


def lower_precision(wanted: bool, device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where it is safe (torch.autocast), on a GPU or a CPU that has instructions for it.

    Without them a CPU would be slower than in single precision: there nothing changes.
    """
    if wanted and (device.type == "cuda" or (device.type == "cpu" and in_hardware())):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@cache
def in_hardware() -> bool:
    """Whether this CPU computes in bfloat16; older versions of torch do not tell."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name, False) for name in NATIVE)
