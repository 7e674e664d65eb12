"""The state of a training after an epoch, from which it goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.networks.digest import digest
from retrofair.networks.kept import identity
from retrofair.networks.state_file import StateFile, moments, part, put_moments, under

FREE = ("epochs", "patience")  # settings that may change in between: they only say when to stop


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Args:
        epoch: finished ones.
        waited: epochs since the lowest validation loss.
        best_loss: that loss; None before the first epoch.
        best: the state of the network then, on its device.
        seconds: of training so far.
    """

    epoch: int
    waited: int
    best_loss: float | None
    best: dict[str, Tensor]
    seconds: float

    @classmethod
    def start(cls, model: nn.Module) -> Progress:
        return cls(0, 0, None, _copy(model), 0.0)

    def after(self, model: nn.Module, loss: float, seconds: float) -> Progress:
        """With one more epoch, of this validation loss."""
        now = replace(
            self, epoch=self.epoch + 1, waited=self.waited + 1, seconds=self.seconds + seconds
        )
        if self.best_loss is None or loss < self.best_loss:
            return replace(now, waited=0, best_loss=loss, best=_copy(model))
        return now


class Checkpoint:
    """A folder with the state of one training: weights, best weights, the optimiser's moments.

    Raises:
        InputError: the folder is a file.
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        train: Batches,
        valid: Batches,
        settings: Any,
        seed: int,
    ) -> None:
        about = {
            **{k: v for k, v in asdict(settings).items() if k not in FREE},
            "seed": seed,
            "network": digest(network)[:24],
            "training data": digest(*identity(train))[:24],
            "validation data": digest(*identity(valid))[:24],
        }
        self.state = StateFile(folder, about)

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        """Replace the state on disk by this one."""
        tensors = under("model", model.state_dict()) | under("best", progress.best)
        values = {k: v for k, v in vars(progress).items() if k != "best"}
        self.state.save(tensors | under("adam", moments(optimiser)), values)

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
        """Put the stored state into network and optimiser; a fresh start where there is none.

        Raises:
            InputError: the state is damaged, or that of another training.
        """
        found = self.state.read()
        if found is None:
            return Progress.start(model)
        tensors, values = found
        try:
            model.load_state_dict(part("model", tensors))
            put_moments(optimiser, part("adam", tensors))
            now = model.state_dict()
            best = {k: v.to(now[k].device) for k, v in part("best", tensors).items()}
            return Progress(**values, best=best)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise self.state.damaged(error) from None


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
