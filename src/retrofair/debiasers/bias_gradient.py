"""Steps down the gradient of a smooth version of the bias alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, later, record
from retrofair.debiasers.critics import layer_rates
from retrofair.debiasers.rules import Cut
from retrofair.debiasers.smooth import centre, sampled
from retrofair.debiasers.tuning import Tuning
from retrofair.errors import InputError
from retrofair.networks.randomness import seeded
from retrofair.networks.threads import SMALL
from retrofair.objective import Objective
from retrofair.progress import track


@dataclass(frozen=True)
class BiasGradient:
    """Descends the smooth bias of minibatches, without any loss, and keeps the best on the way.

    The network was trained already: a few steps down the bias cost little performance, more of
    them much. After every look the exact best threshold is chosen; the best look wins, the
    original network included. The paper's measure of a minibatch is the covariance of output and
    group; here it is the measure itself of sigmoids around the threshold of the best performance,
    so that it serves any measure of rates. (For a callable measure selection rates stand in.)

    Args:
        looks, steps: looks, and minibatches before each.
        batch_size: rows per minibatch.
        learning_rate: of the network's last layer.
        large_rate: the same, of networks that train a million weights or more: at 1e-3 the first
            steps undo them, as no loss holds them back.
        early: the first tensor's share of that rate, in [0, 1].
        sharpness: of the sigmoids, per unit of the logit.

    Reference:
        Marcinkevics, Ozkan and Vogt (2022), Debiasing deep chest X-ray classifiers using intra-
        and post-processing methods, arXiv 2208.00781.
    """

    looks: int = 40
    steps: int = 10
    batch_size: int = 512
    learning_rate: float = 1e-3
    early: float = 1.0
    sharpness: float = 2.0
    large_rate: float = later(1e-4)
    name: ClassVar[str] = "bias_gradient"
    changes_weights: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.looks, self.steps) < 1 or self.batch_size < 2:
            raise InputError(
                "expected looks and steps >= 1 and batch_size >= 2, got "
                f"{self.looks}, {self.steps} and {self.batch_size}"
            )
        if min(self.learning_rate, self.large_rate, self.sharpness) <= 0:
            raise InputError("expected positive learning_rate, large_rate and sharpness")
        if not 0 <= self.early <= 1:
            raise InputError(f"expected early in [0, 1], got {self.early}")

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        model = clone(model)
        best = Best.start(model, data, objective)
        history = [record(objective, best.choice, look=0)]
        large = sum(p.numel() for p in model.parameters()) >= SMALL
        rate = self.large_rate if large else self.learning_rate
        optimiser = torch.optim.Adam(layer_rates(model, rate, self.early), fused=True)
        tuning = Tuning(model, data, trained=(), option="batch_size")
        for look in track(range(1, self.looks + 1), "bias gradient"):
            middle = centre(model, data, objective)
            with seeded(generator):
                step = partial(self._step, tuning, optimiser, data, objective, middle, generator)
                for _ in range(self.steps):
                    tuning.step(step, self.batch_size, generator)
            history.append(record(objective, best.look(), look=look))
        best.restore()
        return Fit(model, Cut(best.choice.threshold), tuple(history))

    def _step(
        self,
        tuning: Tuning,
        optimiser: torch.optim.Optimizer,
        data: Batches,
        objective: Objective,
        middle: float,
        generator: torch.Generator,
    ) -> None:
        bias, _, _ = sampled(
            tuning.model,
            data,
            objective.bias_measure,
            self.batch_size,
            generator,
            middle=middle,
            sharpness=self.sharpness,
            run=lambda x: tuning.forward(x)[0],
        )
        optimiser.zero_grad()
        if bias.requires_grad:  # not where a minibatch has one group only
            bias.backward()
            optimiser.step()
