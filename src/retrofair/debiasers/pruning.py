"""Removing the units through which the bias flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, record
from retrofair.debiasers.rules import Cut
from retrofair.debiasers.smooth import centre, sampled
from retrofair.debiasers.tuning import Tuning
from retrofair.errors import InputError
from retrofair.networks.layers import weight_layers
from retrofair.networks.memory import part_of
from retrofair.networks.parametrized import PLAIN, columns_of, is_computed, weight_of
from retrofair.objective import Objective
from retrofair.progress import track


@dataclass(frozen=True)
class Pruning:
    """Removes units, a few at a time, whose removal lowers the bias most, and keeps the best look.

    A unit is an input of a layer after the first: removing it sets all weights that read it to 0.
    What that does to the smooth bias is told to first order by the gradient: minus the sum of
    weight times slope. After each round the exact best threshold is chosen; the best round wins,
    the original network included. A network with a single layer has no units, and stays as it is.

    Of a weight that is computed (torch.nn.utils.parametrizations) the columns of what it is
    computed of are set to 0, where that makes its own 0: weight_norm and spectral_norm then scale
    the others anew, as they do in training. Units that an orthogonal weight reads cannot be
    removed: the layer is left as it is, with a note.

    Args:
        rounds: at most.
        share: of all units that are removed in each, at least one.
        rows: of the data by which units are judged, drawn anew in each round.
        sharpness: of the sigmoids that stand for decisions, per unit of the logit.

    Reference:
        Marcinkevics, Ozkan and Vogt (2022), Debiasing deep chest X-ray classifiers using intra-
        and post-processing methods, arXiv 2208.00781.
    """

    rounds: int = 50
    share: float = 0.01
    rows: int = 4096
    sharpness: float = 2.0
    name: ClassVar[str] = "pruning"
    changes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.rows < 2:
            raise InputError(
                f"expected rounds >= 1 and rows >= 2, got {self.rounds} and {self.rows}"
            )
        if not 0 < self.share <= 1 or self.sharpness <= 0:
            raise InputError(
                f"expected share in (0, 1] and sharpness > 0, got {self.share} and {self.sharpness}"
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
        best = Best.start(model, data, objective)
        history = [record(objective, best.choice, removed=0)]
        x, _, _ = next(iter(data))
        names = weight_layers(model, part_of(x, slice(2)))[1:]
        layers = {name: model.get_submodule(name) for name in names}
        columns = {name: columns_of(layer) for name, layer in layers.items()}
        weights = [each for each in columns.values() if each is not None]
        left = [name for name, each in columns.items() if each is None]
        if left and not weights:
            raise InputError(
                "expected a layer after the first whose units can be removed for pruning, but the "
                f"weight of {', '.join(left)} is computed, and no column of it can be made 0: use "
                f"another method, or {PLAIN} on a copy first"
            )
        removed = [torch.zeros(weight.shape[1], dtype=torch.bool) for weight in weights]
        units = sum(map(len, removed))
        tuning = Tuning(model, data, trained=(), option="rows")
        for _ in track(range(self.rounds if units else 0), "pruning"):
            gained = [
                torch.where(off, -torch.inf, gain)
                for off, gain in zip(
                    removed, self._gains(tuning, data, objective, weights, generator), strict=True
                )
            ]
            most = max(1, round(self.share * units))
            top = torch.cat(gained).topk(min(most, units))
            chosen = top.indices[top.values > 0]
            if not len(chosen):
                break
            _remove(weights, removed, chosen)
            if not all(map(_is_finite, layers.values())):
                break  # a normalised weight with nothing left is no number
            history.append(
                record(objective, best.look(), removed=int(sum(g.sum() for g in removed)))
            )
        best.restore()
        note = (
            f"No units that {', '.join(left)} reads were removed, as its weight is computed and no "
            "column of it can be made 0."
        )
        notes = (note,) if left else ()
        return Fit(model, Cut(best.choice.threshold), tuple(history), notes=notes)

    def _gains(
        self,
        tuning: Tuning,
        data: Batches,
        objective: Objective,
        weights: list[nn.Parameter],
        generator: torch.Generator,
    ) -> list[Tensor]:
        """By how much the bias of some rows falls without each unit."""
        middle = centre(tuning.model, data, objective)
        found: list[Tensor] = []

        def step() -> None:
            bias, _, _ = sampled(
                tuning.model,
                data,
                objective.bias_measure,
                self.rows,
                generator,
                middle=middle,
                sharpness=self.sharpness,
                run=lambda x: tuning.forward(x)[0],
            )
            found[:] = gains(bias, weights)

        tuning.step(step, self.rows, generator)
        return found


def gains(bias: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
    """By how much, to first order, the bias falls without each unit that a weight reads."""
    if not bias.requires_grad:
        return [torch.zeros(weight.shape[1]) for weight in weights]
    slopes = torch.autograd.grad(bias, weights, allow_unused=True)
    found = []
    for weight, slope in zip(weights, slopes, strict=True):
        product = weight.detach() * (0.0 if slope is None else slope)
        found.append(product.transpose(0, 1).flatten(1).sum(1).cpu())
    return found


def _is_finite(layer: nn.Module) -> bool:
    weight = weight_of(layer) if is_computed(layer) else None
    return weight is None or bool(torch.isfinite(weight).all())


def _remove(weights: list[nn.Parameter], removed: list[Tensor], chosen: Tensor) -> None:
    start = 0
    for weight, gone in zip(weights, removed, strict=True):
        here = chosen[(chosen >= start) & (chosen < start + len(gone))] - start
        gone[here] = True
        with torch.no_grad():
            weight[:, here.to(weight.device)] = 0
        start += len(gone)
