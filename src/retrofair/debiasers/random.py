"""Random perturbation of the weights (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, records, rule_of
from retrofair.debiasers.perturbed import Draws, Factors, perturbed
from retrofair.errors import InputError
from retrofair.networks.memory import AtOnce
from retrofair.networks.outputs import device_of
from retrofair.networks.parametrized import signed_note
from retrofair.objective import Objective
from retrofair.progress import track
from retrofair.thresholds import Choice


@dataclass(frozen=True)
class Random:
    """Multiplies every weight by its own N(1, scale) draw; the best of many trials wins.

    Each trial starts from the original weights and gets its best threshold. BatchNorm's learned
    scale and shift are parameters like any other and are perturbed, as in the papers' code; its
    running mean and variance are statistics of the training data, not weights, and stay. With
    `batch_norm=False` neither is touched. The original weights count as trial 0, which the papers
    leave out, so that the result is never worse than choosing a threshold alone. With more than two
    classes each trial gets good offsets near the best ones so far, and the winner the best.

    Of weights that are computed (torch.nn.utils.parametrizations) what they are computed of is
    perturbed; orthogonal ones by Householder's map stay as they are, with a note.

    The winner is kept as the state of the generator, not as weights, and drawn again at the end: of
    a large network there is one copy, whatever the number of trials. On a GPU the next trial's
    factors are drawn on the CPU meanwhile, so that they are the same ones, and a small network is
    tried with many trials' weights at once.

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
        original, model = model, clone(model)
        weights = perturbed(original, model, batch_norm=self.batch_norm)
        best = Best.start(model, data, objective, snapshots=False)
        device = device_of(model)
        ahead = device.type == "cuda"
        draws = Draws(weights, self.noise, generator, ahead=ahead, device=device)
        choices, winner = [best.choice], None
        steps = self._steps(draws, best, weights.together(data))
        for state, choice in track(steps, "random perturbation", self.trials):
            choices.append(choice)
            if best.choice is choice:
                winner = state
        if winner is None:
            weights.reset()
        else:
            weights.scale_by(draws.again(winner))
        best.restore()
        return Fit(
            model,
            rule_of(best.choice),
            records(objective, choices),
            notes=signed_note(model),
        )

    def _steps(
        self, draws: Draws, best: Best, together: int
    ) -> Iterator[tuple[torch.Tensor, Choice]]:
        """Each trial's state of the generator and what it is worth."""
        if together < 2:
            for state, factors in draws.take(self.trials):
                draws.weights.scale_by(factors)
                yield state, best.look()
            return
        at_once = AtOnce(together, "trials")

        def judged(some: Sequence[Factors]) -> list[Choice]:
            if at_once.most == 1:  # memory ran out: as above, where rows are halved too
                draws.weights.scale_by(some[0])
                return [best.look()]
            return list(best.judge_each(draws.weights.chances_of(some, best.data)))

        for part in draws.batches(self.trials, together):
            states, factors = zip(*part, strict=True)
            yield from zip(states, at_once.each(factors, judged), strict=True)

    def noise(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The factors of one trial, (size,)."""
        return torch.empty(size).normal_(1.0, self.scale, generator=generator)
