"""The state of a training after an epoch: one safetensors file, from which it goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.errors import InputError
from retrofair.files import replacing
from retrofair.networks.digest import digest

FILE = "training.safetensors"
NOTE = "training"  # under which the header holds all that is no tensor, as JSON
FREE = ("epochs", "patience")  # settings that may change in between: they only say when to stop


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Args:
        epoch: finished ones.
        waited: epochs since the lowest validation loss.
        best_loss: that loss.
        best: the state of the network then, on its device.
        seconds: of training so far.
    """

    epoch: int
    waited: int
    best_loss: float
    best: dict[str, Tensor]
    seconds: float

    @classmethod
    def start(cls, model: nn.Module) -> Progress:
        return cls(0, 0, float("inf"), _copy(model), 0.0)

    def after(self, model: nn.Module, loss: float, seconds: float) -> Progress:
        """With one more epoch, of this validation loss."""
        now = replace(
            self, epoch=self.epoch + 1, waited=self.waited + 1, seconds=self.seconds + seconds
        )
        if loss < self.best_loss:
            return replace(now, waited=0, best_loss=loss, best=_copy(model))
        return now


class Checkpoint:
    """A folder with the state of one training.

    Weights, best weights and the optimiser's moments are tensors of one safetensors file, the rest
    is JSON in its header: two files could be of two epochs after a crash.

    Raises:
        InputError: the folder holds the state of another training, or a damaged one.
    """

    def __init__(
        self, folder: Path, network: nn.Module, train: Batches, settings: Any, seed: int
    ) -> None:
        self.file = folder / FILE
        if folder.exists() and not folder.is_dir():
            raise InputError(f"expected a folder, but {folder} is a file (checkpoint)")
        self.about = {
            **{k: v for k, v in asdict(settings).items() if k not in FREE},
            "seed": seed,
            "network": digest(network)[:24],
            "labels": digest(train.y.double(), len(train))[:24],
        }

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        """Replace the state on disk by this one."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in progress.best.items()}
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
        values = {k: v for k, v in vars(progress).items() if k != "best"}
        note = json.dumps({"about": self.about, "progress": values})
        with replacing(self.file) as temporary:
            # copies: safetensors refuses tensors that share memory, as tied weights do
            save_file(
                {name: value.detach().cpu().clone() for name, value in tensors.items()},
                temporary,
                metadata={NOTE: note},
            )

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
        """Put the stored state into network and optimiser; a fresh start where there is none."""
        if not self.file.exists():
            return Progress.start(model)
        tensors, note = self._read()
        self._same(note["about"])
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adam": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        try:
            model.load_state_dict(parts["model"])
            state = optimiser.state_dict()
            for name, value in parts["adam"].items():
                index, _, moment = name.partition(".")
                state["state"].setdefault(int(index), {})[moment] = value
            optimiser.load_state_dict(state)
            now = model.state_dict()
            best = {name: value.to(now[name].device) for name, value in parts["best"].items()}
            return Progress(**note["progress"], best=best)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from None

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            with safe_open(self.file, framework="pt") as opened:
                note = json.loads((opened.metadata() or {})[NOTE])
                return {name: opened.get_tensor(name) for name in opened.keys()}, dict(note)  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise self._damaged(error) from None

    def _same(self, theirs: Any) -> None:
        known = theirs if isinstance(theirs, dict) else {}
        other = [name for name, value in self.about.items() if known.get(name) != value]
        if other:
            raise InputError(
                f"expected a checkpoint of the same training in {self.file.parent}, got one with "
                f"another {', '.join(other)}: name another folder (checkpoint), or delete this one"
            )

    def _damaged(self, error: Exception) -> InputError:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return InputError(
            f"expected the state of a training in {self.file}, but it cannot be read: {reason}; "
            "delete it to start anew (checkpoint)"
        )


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
