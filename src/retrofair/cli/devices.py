"""Where a network runs."""

from __future__ import annotations

import torch
from torch import nn

from retrofair.cli.notes import say
from retrofair.errors import InputError, unknown

DEVICES = ("auto", "cpu", "cuda")
MANY = 1_000_000  # weights from which a network goes to a GPU unasked


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        InputError: an unknown name, or cuda without a GPU.
    """
    if device not in DEVICES:
        raise unknown("choice for --device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "expected a GPU that torch can use for --device cuda, found none: say --device cpu "
            "(or auto), or install torch with CUDA"
        )


def placed(network: nn.Module, device: str) -> nn.Module:
    """The network where it is to run, which is said where nobody named the device."""
    if device == "auto":
        weights = sum(each.numel() for each in network.parameters())
        if weights < MANY or not torch.cuda.is_available():
            return network
        say(f"the network of {weights:,} weights runs on the GPU; --device cpu keeps it off")
        device = "cuda"
    return network.to(device)
