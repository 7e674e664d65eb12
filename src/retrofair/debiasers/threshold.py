"""The original network with the best threshold: the yardstick for all methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone, record, search
from retrofair.debiasers.rules import Cut
from retrofair.networks.outputs import probabilities
from retrofair.objective import Objective


@dataclass(frozen=True)
class Threshold:
    """Leaves the weights alone and picks the threshold that is best by the objective."""

    name: ClassVar[str] = "threshold"
    changes_weights: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        choice = search(data, objective).best(probabilities(model, data))
        return Fit(clone(model), Cut(choice.threshold), (record(objective, choice, trial=0),))
