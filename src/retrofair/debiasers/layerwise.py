"""Layer-wise optimisation of the weights by a black-box optimiser (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, record, trainable
from retrofair.debiasers.gbrt import GBRT
from retrofair.debiasers.rules import Cut
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array
from retrofair.networks.layers import representation, weight_layers
from retrofair.networks.memory import part_of
from retrofair.networks.parametrized import (
    PLAIN,
    has_signs,
    is_computed,
    own_parameters,
    signed_note,
)
from retrofair.networks.randomness import draw_seed
from retrofair.networks.replay import Replay
from retrofair.objective import Objective
from retrofair.progress import track

Edit = Callable[[Array], None]


@dataclass(frozen=True)
class Layerwise:
    """Optimises one layer at a time, each from the original network; the best layer wins.

    The papers search all weights of a layer, up to 100,000 dimensions, with 20 evaluations, in
    which no optimiser can learn anything. By default the search space here has a handful of
    dimensions that matter for bias: the directions in the layer's input along which the groups
    differ (overall and given the label), and the one along which the labels differ. A point says
    how much each direction is strengthened, weakened, erased or reversed on its way through the
    layer, with the mean left in place. `space="weights"` is the papers' space, a box of 2.2
    standard deviations around each weight, or around what a weight is computed of
    (torch.nn.utils.parametrizations; orthogonal ones by Householder's map stay as they are). Layers
    with computed weights have no directions and are left out.

    The optimiser is the papers' GBRT with a lower confidence bound; `optimizer="random"` spends
    the same budget at random, as the control. The original weights count as an evaluation, and
    each evaluation gets its best threshold (the papers' listing forgets to store it).

    Args:
        evaluations: per layer.
        layers: the last so many layers; None: all.
        space: "directions" or "weights".
        box: half the side of the search box (in directions: -1 erases one, in weights: deviations).
        optimizer: "gbrt" or "random".
        kappa: weight of the uncertainty in the lower confidence bound.

    Reference:
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, Algorithm 2.
    """

    evaluations: int = 20
    layers: int | None = None
    space: Literal["directions", "weights"] = "directions"
    box: float = 2.2
    optimizer: Literal["gbrt", "random"] = "gbrt"
    kappa: float = 0.3
    name: ClassVar[str] = "layerwise"
    changes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.evaluations < 1 or not self.box > 0 or self.kappa < 0:
            raise InputError(
                "expected evaluations >= 1, box > 0 and kappa >= 0, got "
                f"{self.evaluations}, {self.box} and {self.kappa}"
            )
        if self.layers is not None and self.layers < 1:
            raise InputError(f"expected layers >= 1 or None for all, got {self.layers}")
        if self.space not in ("directions", "weights"):
            raise unknown("space", self.space, ("directions", "weights"))
        if self.optimizer not in ("gbrt", "random"):
            raise unknown("optimizer", self.optimizer, ("gbrt", "random"))

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        model = clone(model)
        x, _, _ = next(iter(data))
        names = [
            name
            for name in weight_layers(model, part_of(x, slice(2)))
            if self._takes(model.get_submodule(name))
        ][-(self.layers or 0) :]
        if not names:
            raise InputError(
                "expected a linear or ungrouped convolution layer with a weight of its own for "
                f"space={self.space!r}, got none: use "
                + ("another method" if self.space == "weights" else "space='weights'")
                + f", or, where weights are computed (parametrizations), {PLAIN} on a copy first"
            )
        searched = {id(p) for name in names for p in model.get_submodule(name).parameters()}
        for parameter in model.parameters():  # no other weights change, nor need be kept
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in searched)
        best = Best.start(model, data, objective)
        history = [record(objective, best.choice, layer="", trial=0)]
        steps = [(name, trial) for name in names for trial in range(1, self.evaluations + 1)]
        optimiser = GBRT(1, np.random.default_rng(0))
        edit: Edit = _nothing
        replay: Replay | None = None
        for name, trial in track(steps, "layer-wise optimisation"):
            if trial == 1:
                edit(np.zeros(optimiser.dims))  # the layer before gets its weights back
                random = np.random.default_rng(draw_seed(generator))
                replay = Replay.of(model, data, name)  # or every evaluation runs all layers
                dims, edit = self._space(model, name, data, replay)
                initial = self.evaluations if self.optimizer == "random" else 10
                optimiser = GBRT(dims, random, initial=initial, kappa=self.kappa)
            point = optimiser.ask()
            edit(self.box * point)
            choice = best.look() if replay is None else best.judge(replay.chances())
            optimiser.tell(point, -choice.rank)
            history.append(record(objective, choice, layer=name, trial=trial))
        best.restore()
        trainable(model)
        notes = signed_note(model) if self.space == "weights" else ()
        return Fit(model, Cut(best.choice.threshold), tuple(history), notes=notes)

    def _takes(self, layer: nn.Module) -> bool:
        return not has_signs(layer) if self.space == "weights" else _is_plain(layer)

    def _space(
        self, model: nn.Module, name: str, data: Batches, replay: Replay | None
    ) -> tuple[int, Edit]:
        layer = model.get_submodule(name)
        if self.space == "weights":
            return _weight_box(layer)
        inputs = representation(model, data, layer) if replay is None else replay.inputs
        return _directions(layer, inputs, data.y.float(), data.group, len(data.group_names))


def _is_plain(layer: nn.Module) -> bool:
    """Whether the layer is its weight times its input: others have no directions to scale."""
    linear = isinstance(layer, nn.Linear)
    kernel = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups == 1
    return (linear or kernel) and not is_computed(layer)


def _nothing(_point: Array) -> None:
    """Before the first layer there is nothing to undo."""


def _weight_box(layer: nn.Module) -> tuple[int, Edit]:
    """All weights of the layer, or what they are computed of; a point is in standard deviations of
    each tensor."""
    parameters = own_parameters(layer)
    originals = [p.detach().clone() for p in parameters]
    spreads = [float(o.std(correction=0)) for o in originals]

    def edit(point: Array) -> None:
        start = 0
        with torch.no_grad():
            for parameter, original, spread in zip(parameters, originals, spreads, strict=True):
                part = torch.from_numpy(point[start : start + original.numel()]).float()
                start += original.numel()
                parameter.copy_(original + spread * part.view_as(original).to(original.device))

    return sum(o.numel() for o in originals), edit


def _directions(
    layer: Any, inputs: Tensor, y: Tensor, group: Tensor, n_groups: int
) -> tuple[int, Edit]:
    """Directions of the layer's input that matter; a point scales each, -1 erases it."""
    weight = layer.weight.detach().float().clone()
    bias = None if layer.bias is None else layer.bias.detach().float().clone()
    mean = inputs.mean(0)
    found = _group_directions(inputs, y, group, n_groups)
    flat = weight.flatten(2).mean(2) if weight.ndim > 2 else weight
    gain = (flat.cpu() @ found.T).norm(dim=0)  # how much of each direction passes the layer
    typical = flat.cpu().norm() / flat.shape[1] ** 0.5
    # A single output that ignores a direction could never learn to use it by scaling alone.
    steer = found[gain < typical] if weight.ndim == 2 and len(flat) == 1 else found[:0]

    def edit(point: Array) -> None:
        z = torch.from_numpy(point).float()
        scaled = (found.T * z[: len(found)]) @ found  # (in, in)
        change = torch.einsum("oi...,ij->oj...", weight.cpu(), scaled)
        if len(steer):
            change = change + typical * (z[len(found) :] @ steer)[None, :]
        with torch.no_grad():
            layer.weight.copy_((weight.cpu() + change).to(weight.device))
            if bias is not None:
                sums = change.flatten(2).sum(2) if change.ndim > 2 else change
                layer.bias.copy_((bias.cpu() - sums @ mean).to(bias.device))

    return len(found) + len(steer), edit


def _group_directions(inputs: Tensor, y: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Orthonormal rows: where groups differ overall, given each label, and where labels differ."""
    rows = []
    centred = inputs - inputs.mean(0)
    for chosen in (torch.ones_like(y, dtype=torch.bool), y == 0, y == 1):
        here, codes = centred[chosen], group[chosen]
        counts = torch.bincount(codes, minlength=n_groups).clamp(min=1)
        means = torch.zeros(n_groups, here.shape[1]).index_add_(0, codes, here) / counts[:, None]
        differences = (means - here.mean(0)) * counts[:, None].sqrt()
        rows.append(torch.linalg.svd(differences, full_matrices=False).Vh[0])
    rows.append(centred[y == 1].mean(0) - centred[y == 0].mean(0))
    directions = torch.linalg.qr(torch.stack(rows).T)
    independent = directions.R.diagonal().abs() > 1e-4 * directions.R.diagonal().abs().max()
    found: Tensor = directions.Q.T[independent].contiguous()
    return found
