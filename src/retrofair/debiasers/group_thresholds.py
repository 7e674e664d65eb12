"""A threshold for each group: the reference that a rule given the attribute can reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone, record, search
from retrofair.debiasers.curves import Curve, curves_of, range_maximum
from retrofair.debiasers.rules import PerGroup
from retrofair.errors import InputError
from retrofair.metrics import Array, LargestGap, RateRatio, SignedGap
from retrofair.metrics.performance import PRECISION
from retrofair.metrics.rates import FPR, SELECTION, TPR, Rate
from retrofair.networks.outputs import probabilities
from retrofair.objective import Constrained, Objective
from retrofair.thresholds import Choice

RISING: tuple[Rate, ...] = (SELECTION, TPR, FPR)  # rates that rise as a threshold falls
SHOWN = 64  # candidates whose bias is computed exactly
PLACES = 200  # of each of two rates, where the windows of both are tried together
BOUNDS = np.unique(np.concatenate([np.geomspace(1e-4, 1, 60), np.linspace(0.01, 1, 60), [2.0]]))
ROUNDS = 20
WITHIN = 1 - 1e-12  # of a bound that must be kept strictly


@dataclass(frozen=True)
class GroupThresholds:
    """The best threshold for each group, which needs everybody's group to decide.

    For measures that compare rates which rise as a threshold falls (selection, true and false
    positive rates) and performances that add up over groups, the answer is the best there is on
    the data, for any number of groups: the rates must lie in a window of width epsilon, and for
    each window every group chooses by itself. No grid over groups is searched. Windows of two
    rates together (equalized odds) are tried at 200 places of each, then more finely around the
    best. For all other measures, and for precision, thresholds are improved group by group, which
    can end in a local optimum.

    A weighted objective is solved for a hundred bounds on the bias, of which the best is taken.

    Raises:
        InputError: as for `debias`.

    Reference:
        Hardt, Price and Srebro (2016), Equality of opportunity in supervised learning (there with
        randomised thresholds).
    """

    name: ClassVar[str] = "group_thresholds"
    changes_weights: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        thresholds, counts = best_thresholds(
            probabilities(model, data),
            data.y.numpy(),
            data.group.numpy(),
            len(data.group_names),
            objective,
        )
        common = search(data, objective).best(probabilities(model, data))
        rank = float(objective.rank(counts))
        if rank < common.rank:  # only where thresholds were improved group by group
            thresholds, counts = (common.threshold,) * len(data.group_names), common.counts
        rule = PerGroup(thresholds)
        choice = Choice(rule.threshold, counts, rank)
        return Fit(clone(model), rule, (record(objective, choice, trial=0),))


def best_thresholds(
    probability: Array, y: Array, group: Array, n_groups: int, objective: Objective
) -> tuple[tuple[float, ...], Array]:
    """A threshold per group (positive means strictly above), and the counts (G, 2, 2).

    Args:
        probability, y, group: (n,) each; group codes in [0, n_groups).
    """
    if not np.isfinite(probability).all():
        raise InputError("expected finite probabilities")
    curves = curves_of(probability, y, group, n_groups, objective.performance_measure)
    measure = objective.bias_measure
    rates = getattr(measure, "rates", ())
    exact = isinstance(measure, SignedGap | LargestGap | RateRatio)
    exact = exact and all(rate in RISING for rate in rates)
    exact = exact and objective.performance_measure != PRECISION
    if exact:
        bounds = [objective.epsilon] if isinstance(objective, Constrained) else BOUNDS
        found = [_within(curves, measure, objective, float(bound)) for bound in bounds]
        found.append(np.array([int(curve.worth.argmax()) for curve in curves]))
    else:
        found = [_improved(curves, objective, start) for start in (0.25, 0.5, 0.75)]
    cuts = max(found, key=lambda cuts: float(objective.rank(_counts(curves, cuts))))
    own = [c.threshold(k) for c, k in zip(curves, cuts, strict=True)]
    # somebody of a group without rows is judged as most others are
    middle = float(np.median([t for c, t in zip(curves, own, strict=True) if len(c.scores)]))
    thresholds = tuple(t if len(c.scores) else middle for c, t in zip(curves, own, strict=True))
    return thresholds, _counts(curves, cuts)


def _counts(curves: list[Curve], cuts: Array) -> Array:
    return np.stack([curve.counts[k] for curve, k in zip(curves, cuts, strict=True)])


# --- all groups at once ---------------------------------------------------------------------------


def _within(curves: list[Curve], measure: object, objective: Objective, bound: float) -> Array:
    """(G,) the cuts of the best performance whose bias is below the bound."""
    assert isinstance(measure, SignedGap | LargestGap | RateRatio)
    rates = [_rates(curves, (rate,)) for rate in measure.rates]
    if isinstance(measure, SignedGap):
        rates = [_rates(curves, measure.rates)]
    last = isinstance(measure, SignedGap) or (isinstance(measure, RateRatio) and not measure.worst)
    if last and len(rates) == 1 and not np.isnan(rates[0][-1]).any():
        windows = _around(rates[0][-1], measure, bound)
        return _best(curves, rates, [windows], objective, chosen=np.arange(len(rates[0][-1])))
    if len(rates) == 1:
        return _best(curves, rates, [_above(_values(rates[0]), measure, bound)], objective)
    return _both(curves, rates, measure, objective, bound)


def _rates(curves: list[Curve], rates: tuple[Rate, ...]) -> list[Array]:
    """Per group (K,) the mean of some rates at each of its cuts; nan without such rows."""
    return [np.mean([rate(c.counts[:, None])[:, 0] for rate in rates], axis=0) for c in curves]


def _values(rates: list[Array]) -> Array:
    values: Array = np.unique(np.concatenate(rates))
    return np.asarray(values[~np.isnan(values)])


def _above(values: Array, measure: object, bound: float) -> tuple[Array, Array]:
    """Windows (W,) from each value up."""
    if isinstance(measure, RateRatio):
        values = values[values > 0]
        width = 1 - bound * WITHIN
        return values, values / width if width > 0 else np.full_like(values, math.inf)
    return values, values + bound * WITHIN


def _around(values: Array, measure: object, bound: float) -> tuple[Array, Array]:
    """Windows (W,) around each of the privileged group's rates."""
    if isinstance(measure, RateRatio):
        width = max(1 - bound * WITHIN, 1e-300)
        return np.where(values > 0, values * width, math.inf), values / width
    return values - bound * WITHIN, values + bound * WITHIN


def _best(
    curves: list[Curve],
    rates: list[list[Array]],
    windows: list[tuple[Array, Array]],
    objective: Objective,
    chosen: Array | None = None,
) -> Array:
    """(G,) the cuts that are best within one of the windows.

    Args:
        windows: per rate, the lower and upper ends (W,).
        chosen: (W,) the cut of the last group in each window, where that is given.
    """
    total = np.zeros(len(windows[0][0]))
    spans = []
    for g, curve in enumerate(curves):
        if chosen is not None and g == len(curves) - 1:
            first, end = chosen, chosen + 1
        else:
            first, end = np.zeros(len(total), int), np.full(len(total), len(curve.worth))
            for rate, (low, high) in zip(rates, windows, strict=True):
                if not np.isnan(rate[g]).any():
                    first = np.maximum(first, np.searchsorted(rate[g], low, side="left"))
                    end = np.minimum(end, np.searchsorted(rate[g], high, side="right"))
        total = total + range_maximum(curve.worth, first, end)
        spans.append((first, end))
    # what is left to rounding is decided by the measure itself
    order = np.argsort(-total, kind="stable")[:SHOWN]
    order = order[np.isfinite(total[order])]
    if not len(order):  # no window has a cut of every group: nobody is positive
        return np.zeros(len(curves), int)
    of = list(zip(curves, spans, strict=True))
    cuts = np.array(
        [[a[w] + curve.worth[a[w] : b[w]].argmax() for curve, (a, b) in of] for w in order]
    )
    ranks = objective.rank(np.stack([_counts(curves, each) for each in cuts]))
    return np.asarray(cuts[int(np.argmax(ranks))])


def _both(
    curves: list[Curve],
    rates: list[list[Array]],
    measure: object,
    objective: Objective,
    bound: float,
) -> Array:
    """The same for two rates at once: windows at some places of each, then between them."""
    values = [_values(each) for each in rates]
    places = [_spaced(v, 0, len(v)) for v in values]
    best = np.zeros(len(curves), int)
    for _ in range(3):
        grids = np.meshgrid(*[v[p] for v, p in zip(values, places, strict=True)], indexing="ij")
        windows = [_above(grid.ravel(), measure, bound) for grid in grids]
        if len({len(low) for low, _ in windows}) > 1:  # ratios have no window at 0
            inside = np.all([grid.ravel() > 0 for grid in grids], axis=0)
            windows = [_above(grid.ravel()[inside], measure, bound) for grid in grids]
        new = _best(curves, rates, windows, objective)
        ranks = [float(objective.rank(_counts(curves, cuts))) for cuts in (best, new)]
        best = new if ranks[1] >= ranks[0] else best
        if all(len(p) == len(v) for p, v in zip(places, values, strict=True)):
            break
        # more finely around the window that was best
        for k, value in enumerate(values):
            reached = [r[cut] for r, cut in zip(rates[k], best, strict=True)]
            at = int(np.searchsorted(value, np.nanmin(reached)))
            step = max(int(np.diff(places[k]).max(initial=1)), 1)
            places[k] = _spaced(value, at - step, at + step + 1)
    return best


def _spaced(values: Array, start: int, stop: int) -> Array:
    """Indices of at most so many places of some values."""
    start, stop = max(start, 0), min(stop, len(values))
    return np.unique(np.linspace(start, stop - 1, min(PLACES, stop - start)).round().astype(int))


# --- group by group -------------------------------------------------------------------------------


def _improved(curves: list[Curve], objective: Objective, start: float) -> Array:
    """Thresholds improved one group at a time from a common one, until none can be."""
    cuts = np.array([curve.at(start) for curve in curves])
    best = float(objective.rank(_counts(curves, cuts)))
    for _ in range(ROUNDS):
        before = best
        for g, curve in enumerate(curves):
            tried = _spaced(curve.worth, 0, len(curve.worth))
            counts = np.repeat(_counts(curves, cuts)[None], len(tried), axis=0)
            counts[:, g] = curve.counts[tried]
            ranks = objective.rank(counts)
            k = int(np.argmax(ranks))
            if ranks[k] > best:
                best, cuts[g] = float(ranks[k]), tried[k]
        if best <= before:
            break
    return cuts
