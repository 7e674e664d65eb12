"""A name for what a result depends on, so that it is not computed twice."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn


def digest(*parts: Any) -> str:
    """A name that changes with the parts: tensors and networks by value, the rest by its text."""
    known = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            known.update(f"{tuple(part.shape)} {part.dtype}".encode())
            flat = part.detach().cpu().contiguous().reshape(-1)
            # numpy has no bfloat16; and no copy of what may be most of a large network
            known.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(part, nn.Module):
            known.update(repr(part).encode())
            stored = part.state_dict()
            others = {n: v for n, v in part.named_buffers() if n not in stored}
            for name, value in sorted((stored | others).items()):
                known.update(f"{name} {digest(value)}".encode())
        else:
            known.update(repr(part).encode())
    return known.hexdigest()
