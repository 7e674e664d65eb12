"""The state of something that takes long, in one safetensors file from which it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from retrofair.errors import InputError
from retrofair.files import json_text, replacing, save_tensors

FILE = "training.safetensors"
NOTE = "training"  # under which the header holds all that is no tensor, as JSON


class StateFile:
    """A folder with the state of one training.

    All tensors are in one file, and the rest is JSON in its header: two files could be of two
    epochs after a crash.

    Args:
        folder: made where it does not exist.
        about: what tells this training from others, as plain values.

    Raises:
        InputError: the folder is a file.
    """

    def __init__(self, folder: str | Path, about: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"expected a folder, but {folder} is a file (checkpoint)")
        self.file = self.folder / FILE
        self.about = json.loads(json_text(dict(about)))

    def save(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Replace the state on disk by this one; nan and infinity become null."""
        note = json_text({"about": self.about, "values": dict(values)}, None)
        with replacing(self.file) as temporary:
            save_tensors(temporary, tensors, {NOTE: note})

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the other values; None where there are none yet.

        Raises:
            InputError: the file is damaged, or the state of another training.
        """
        if not self.file.exists():
            return None
        try:
            with safe_open(self.file, framework="pt") as opened:
                note = json.loads((opened.metadata() or {})[NOTE])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            theirs, values = note["about"], dict(note["values"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise self.damaged(error) from None
        known = theirs if isinstance(theirs, dict) else {}
        other = [name for name, value in self.about.items() if known.get(name) != value]
        if other:
            raise InputError(
                f"expected a checkpoint of the same training in {self.folder}, got one with "
                f"another {', '.join(other)}: name another folder (checkpoint), or delete this one"
            )
        return tensors, values

    def damaged(self, error: Exception) -> InputError:
        """The error for a state that does not fit."""
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return InputError(
            f"expected the state of a training in {self.file}, but it cannot be read: {reason}; "
            "delete it to start anew (checkpoint)"
        )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a prefix before their names."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those under a prefix, without it."""
    start = f"{prefix}."
    return {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}


def moments(optimiser: Any) -> dict[str, Tensor]:
    """An optimiser's state as tensors, by the parameter's place."""
    found = optimiser.state_dict()["state"]
    return {f"{k}.{name}": value for k, state in found.items() for name, value in state.items()}


def put_moments(optimiser: Any, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `moments` gave."""
    state = optimiser.state_dict()
    for name, value in tensors.items():
        index, _, moment = name.partition(".")
        state["state"].setdefault(int(index), {})[moment] = value
    optimiser.load_state_dict(state)
    # A fused step walks weights and moments together in memory: both in one layout, or it is wrong.
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if parameter.ndim and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)
