"""The original network with the best threshold: the yardstick for all methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone, record, rule_of, search_any
from retrofair.networks.recording import chances
from retrofair.objective import Objective


@dataclass(frozen=True)
class Threshold:
    """Leaves the weights alone and picks the threshold that is best by the objective.

    With more than two classes it picks an offset for each class's log-probability.
    """

    name: ClassVar[str] = "threshold"
    changes_weights: ClassVar[bool] = False
    classes: ClassVar[Literal["two", "any"]] = "any"

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        choice = search_any(data, objective).best(chances(model, data))
        return Fit(clone(model), rule_of(choice), (record(objective, choice, trial=0),))
