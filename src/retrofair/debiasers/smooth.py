"""Measures of decisions that are no longer 0 or 1, to descend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.debiasers.base import search
from retrofair.metrics import (
    LargestGap,
    Measure,
    Rate,
    RateRatio,
    Several,
    SignedGap,
    WorstClass,
)
from retrofair.metrics.rates import SELECTION
from retrofair.networks.outputs import forward, probabilities
from retrofair.objective import Objective, Weighted

EDGE = 1e-3  # how near 0 or 1 a threshold is taken for centre


def centre(model: nn.Module, data: Batches, objective: Objective) -> float:
    """The logit at which the network performs best, whatever the bias: where decisions are made
    smooth. The threshold that keeps a bound is often one at which all are decided alike."""
    alone = Weighted(objective.bias_measure, 0.0, objective.performance_measure)
    return logit_of(search(data, alone).best(probabilities(model, data)).threshold)


def logit_of(threshold: float) -> float:
    """The logit of a threshold, not too near the ends."""
    inside = min(max(threshold, EDGE), 1 - EDGE)
    return math.log(inside / (1 - inside))


def sampled(
    model: nn.Module,
    data: Batches,
    measure: Measure,
    rows: int,
    generator: torch.Generator,
    *,
    middle: float | Tensor,
    sharpness: float,
    run: Callable[[Any], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The smooth bias of rows drawn from the data, their logits (n,) and labels (n,).

    Decisions are sigmoids of the logits around `middle`; with K > 2 classes the logits are (n, K)
    and decisions are their softmax, less `middle` (K,). `run` gives the logits of a batch's x in
    another way than the model alone.
    """
    x, y, group = data.sample(rows, generator)
    logit = (forward(model, x) if run is None else run(x)).cpu().float()
    if logit.ndim == 2:
        shares = torch.softmax(sharpness * (logit - middle), 1)
        bias = soft_bias_of_classes(measure, shares, y, group, len(data.group_names))
        return bias, logit, y
    decided = torch.sigmoid(sharpness * (logit - middle))
    return soft_bias(measure, soft_counts(decided, y, group, len(data.group_names))), logit, y


def soft_counts(decided: Tensor, y: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """(G, 2, 2) sums by group, label and decision, for decisions in [0, 1]."""
    cell = 2 * group.long() + y.long()
    rows = torch.zeros(2 * n_groups).index_add(0, cell, torch.ones_like(decided))
    positive = torch.zeros(2 * n_groups).index_add(0, cell, decided)
    return torch.stack([rows - positive, positive], 1).view(n_groups, 2, 2)


def soft_bias_of_classes(
    measure: Measure, decided: Tensor, y: Tensor, group: Tensor, n_groups: int
) -> Tensor:
    """The largest smooth bias of a class, one against the rest, of decisions (n, K) in [0, 1]."""
    if isinstance(measure, Several):
        each = zip(measure.measures, measure.scales, strict=True)
        of_each = [s * soft_bias_of_classes(one, decided, y, group, n_groups) for one, s in each]
        return torch.stack(of_each).amax()
    of_two = measure.measure if isinstance(measure, WorstClass) else measure
    biases = [
        soft_bias(of_two, soft_counts(decided[:, k], (y == k).long(), group, n_groups))
        for k in range(decided.shape[1])
    ]
    return torch.stack(biases).amax()


def soft_bias(measure: Measure, counts: Tensor) -> Tensor:
    """A measure's bias of soft counts (G, 2, 2), differentiable; 0 where fewer than two groups
    have the rows it compares."""
    if isinstance(measure, Several):
        each = zip(measure.measures, measure.scales, strict=True)
        return torch.stack([scale * soft_bias(one, counts) for one, scale in each]).amax()
    rates = [_rate(rate, counts) for rate in getattr(measure, "rates", ())]
    if isinstance(measure, SignedGap):
        return _from_last(torch.stack(rates).mean(0))
    if isinstance(measure, LargestGap):
        return torch.stack([_range(rate) for rate in rates]).amax()
    if isinstance(measure, RateRatio):
        return torch.stack([_ratio(rate, measure.worst) for rate in rates]).amax()
    return _range(_rate(SELECTION, counts))


def _rate(rate: Rate, counts: Tensor) -> Tensor:
    """(G,) with nan for groups without rows of the condition."""
    hits = (counts * torch.tensor(rate.hits)).sum((1, 2))
    base = (counts * torch.tensor(rate.base)).sum((1, 2))
    return torch.where(base > 0, hits / base.clamp(min=1e-12), torch.nan)


def _known(rate: Tensor) -> Tensor:
    return rate[~torch.isnan(rate)]


def _range(rate: Tensor) -> Tensor:
    known = _known(rate)
    return known.amax() - known.amin() if len(known) > 1 else known.new_zeros(())


def _from_last(rate: Tensor) -> Tensor:
    others = _known(rate[:-1])
    if torch.isnan(rate[-1]) or not len(others):
        return rate.new_zeros(())
    return (others - rate[-1]).abs().amax()


def _ratio(rate: Tensor, worst: bool) -> Tensor:
    """1 minus the smaller over the larger rate."""
    if worst:
        known = _known(rate)
        if len(known) < 2:
            return rate.new_zeros(())
        return 1 - known.amin() / known.amax().clamp(min=1e-6)
    others = _known(rate[:-1])
    if torch.isnan(rate[-1]) or not len(others):
        return rate.new_zeros(())
    low, high = torch.minimum(others, rate[-1]), torch.maximum(others, rate[-1])
    return (1 - low / high.clamp(min=1e-6)).amax()
