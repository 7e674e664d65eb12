"""Random perturbation of the weights (Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, records, rule_of
from retrofair.errors import InputError
from retrofair.objective import Objective
from retrofair.progress import track


@dataclass(frozen=True)
class Random:
    """Multiplies every weight by its own N(1, scale) draw; the best of many trials wins.

    Each trial starts from the original weights and gets its best threshold. BatchNorm's learned
    scale and shift are parameters like any other and are perturbed, as in the papers' code; its
    running mean and variance are statistics of the training data, not weights, and stay. With
    `batch_norm=False` neither is touched. The original weights count as trial 0, which the papers
    leave out, so that the result is never worse than choosing a threshold alone. With more than two
    classes each trial gets good offsets near the best ones so far, and the winner the best.

    Args:
        trials: perturbations tried.
        scale: standard deviation of the factors (the papers' slides call 0.1 a variance).
        batch_norm: perturb the scale and shift of normalisation layers too.

    Reference:
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, Algorithm 1.
    """

    trials: int = 101
    scale: float = 0.1
    batch_norm: bool = True
    name: ClassVar[str] = "random"
    changes_weights: ClassVar[bool] = True
    classes: ClassVar[Literal["two", "any"]] = "any"

    def __post_init__(self) -> None:
        if self.trials < 1 or not self.scale > 0:
            raise InputError(
                f"expected trials >= 1 and scale > 0, got {self.trials} and {self.scale}"
            )

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        model = clone(model)
        weights = Flat(model, batch_norm=self.batch_norm)
        best = Best.start(model, data, objective)
        choices = [best.choice]
        for _ in track(range(1, self.trials + 1), "random perturbation"):
            weights.scale_by(self.noise(len(weights), generator))
            choices.append(best.look())
        best.restore()
        return Fit(model, rule_of(best.choice), records(objective, choices))

    def noise(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The factors of one trial, (size,)."""
        return torch.empty(size).normal_(1.0, self.scale, generator=generator)


class Flat:
    """A network's weights as one vector, which its parameters are views of.

    One multiplication then perturbs the whole network, without a loop over its layers.
    """

    def __init__(self, model: nn.Module, *, batch_norm: bool = True) -> None:
        parameters = [
            parameter
            for module in model.modules()
            if batch_norm or not isinstance(module, _NORMS)
            for parameter in module.parameters(recurse=False)
        ]
        parameters = list({id(p): p for p in parameters}.values())  # tied weights count once
        if not parameters:
            raise InputError("expected a network with weights to perturb, got none")
        self.original = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.now = self.original.clone()
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.data = self.now[start:stop].view_as(parameter)
            start = stop

    def __len__(self) -> int:
        return len(self.original)

    def scale_by(self, factors: torch.Tensor) -> None:
        """Original weights times factors, in place."""
        torch.mul(self.original, factors.to(self.original.device), out=self.now)


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
