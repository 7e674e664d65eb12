"""A training's state after its last epoch, in one file that is replaced as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from retrofair.errors import InputError
from retrofair.files import json_text, replacing, save_tensors

FILE = "training.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Checkpoint:
    """Weights, the optimiser's moments, the weights of the epochs to choose from, the history.

    Args:
        folder: made where it does not exist.
        key: a name of what the training is of.
    """

    def __init__(self, folder: Path, key: str) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"expected a folder, got the file {folder} (checkpoint)")
        self.file, self.key = folder / FILE, key

    def write(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        weights: dict[int, dict[str, Tensor]],
        history: list[dict[str, Any]],
    ) -> None:
        tensors = {f"now.{name}": value for name, value in model.state_dict().items()}
        for epoch, state in weights.items():
            tensors |= {f"epoch.{epoch}.{name}": value for name, value in state.items()}
        for i, parameter in enumerate(model.parameters()):
            for name, value in optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{i}.{name}"] = value
        about = {
            "key": self.key,
            "history": json_text(history, None),
            "epochs": json_text(list(weights), None),
        }
        with replacing(self.file) as temporary:
            save_tensors(temporary, tensors, about)

    def read(
        self, model: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[dict[int, dict[str, Tensor]], list[dict[str, Any]]] | None:
        """The weights kept and the history; model and optimiser as they were. None: a new start.

        Raises:
            InputError: the file is damaged, or of another training.
        """
        if not self.file.exists():
            return None
        try:
            tensors = load_file(self.file)
            with safe_open(self.file, framework="pt") as opened:
                about = opened.metadata() or {}
        except SafetensorError as error:
            raise InputError(
                f"expected a training in {self.file.parent}, got a damaged file ({error}): delete "
                "it to begin again, or name another folder (checkpoint)"
            ) from error
        if about.get("key") != self.key:
            raise InputError(
                f"expected the same training as in {self.file.parent}, got other data, settings, "
                "similar people or weights: name another folder (checkpoint)"
            )
        model.load_state_dict(_part(tensors, "now."))
        for i, parameter in enumerate(model.parameters()):
            moments = _part(tensors, f"adam.{i}.")
            if moments:
                optimiser.state[parameter] = moments
        history = json.loads(about["history"])
        for row in history:
            row |= {name: float("nan") for name, value in row.items() if value is None}
        epochs = json.loads(about["epochs"])
        return {epoch: _part(tensors, f"epoch.{epoch}.") for epoch in epochs}, history


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
