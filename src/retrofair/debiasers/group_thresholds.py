"""A threshold for each group: the reference that a rule given the attribute can reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone, record
from retrofair.debiasers.curves import Curve, curves_of, range_maximum
from retrofair.debiasers.group_search import PLACES, common, counts_at, searched, spaced
from retrofair.debiasers.rules import PerGroup
from retrofair.errors import InputError
from retrofair.metrics import Array, LargestGap, Measure, RateRatio, Several, SignedGap, each_of
from retrofair.metrics.rates import FPR, SELECTION, TPR, Rate
from retrofair.networks.recording import probabilities
from retrofair.objective import Constrained, Objective
from retrofair.thresholds import Choice, ThresholdSearch

RISING: tuple[Rate, ...] = (SELECTION, TPR, FPR)  # rates that rise as a threshold falls
COARSE = 5  # of many groups every fifth bound is tried, then all beside the best
SHOWN = 64  # candidates whose bias is computed exactly
FINER = 3
BOUNDS = np.unique(np.concatenate([np.geomspace(1e-4, 1, 60), np.linspace(0.01, 1, 60), [2.0]]))
WITHIN = 1 - 1e-12  # of a bound that must be kept strictly


@dataclass(frozen=True)
class GroupThresholds:
    """The best threshold for each group, which needs everybody's group to decide.

    For measures that compare rates which rise as a threshold falls (selection, true and false
    positive rates) and performances that add up over groups, the answer is the best there is on
    the data, for any number of groups: the rates must lie in a window of width epsilon, and for
    each window every group chooses by itself. No grid over groups is searched. With two groups, or
    for measures against the privileged one, all windows follow from its cut, for several rates and
    several constraints too. Windows that more groups share, of two rates together (equalized
    odds), are tried at 200 places of each, then more finely around the best; of more rates at
    fewer. For all other measures, and for precision, thresholds are improved by one group and by
    two at a time, which can end in a local optimum of three groups or more.

    A weighted objective is solved for a hundred bounds on the bias, of which the best is taken; of
    more than two groups for every fifth, and then for those beside the best.

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
        rule = PerGroup(thresholds)
        choice = Choice(rule.threshold, counts, float(objective.rank(counts)))
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
    if _solvable(objective):
        found = _at_bounds(curves, objective)
        found.append(np.array([int(curve.worth.argmax()) for curve in curves]))
    else:
        found = [searched(curves, objective)]
    # no worse than a common threshold where places were left out
    single = ThresholdSearch(y, group, n_groups, objective).best(probability)
    found.append(common(curves, single.threshold))
    cuts = max(found, key=lambda cuts: float(objective.rank(counts_at(curves, cuts))))
    own = [c.threshold(k) for c, k in zip(curves, cuts, strict=True)]
    # somebody of a group without rows is judged as most others are
    middle = float(np.median([t for c, t in zip(curves, own, strict=True) if len(c.scores)]))
    thresholds = tuple(t if len(c.scores) else middle for c, t in zip(curves, own, strict=True))
    return thresholds, counts_at(curves, cuts)


def exact(objective: Constrained, n_groups: int) -> bool:
    """Whether there are no better thresholds than those of `best_thresholds`, whatever the data:
    all groups' rates must lie in one window, of which all places are tried, or in windows around
    the rates of one group."""
    first, *others = each_of(objective.bias_measure)
    one = isinstance(first, SignedGap) or len(getattr(first, "rates", ())) == 1
    return _solvable(objective) and (n_groups == 2 or (one and not others))


def _solvable(objective: Objective) -> bool:
    rising = all(map(_rising, each_of(objective.bias_measure)))
    return rising and objective.performance_measure.additive


def _at_bounds(curves: list[Curve], objective: Objective) -> list[Array]:
    """The best cuts within epsilon, or within each of many bounds."""
    if isinstance(objective, Constrained):
        return [_within(curves, objective, objective.epsilon)]
    coarse = 1 if len(curves) == 2 else COARSE
    found = {k: _within(curves, objective, float(BOUNDS[k])) for k in range(0, len(BOUNDS), coarse)}
    best = max(found, key=lambda k: float(objective.rank(counts_at(curves, found[k]))))
    for k in range(max(best - coarse + 1, 0), min(best + coarse, len(BOUNDS))):
        if k not in found:
            found[k] = _within(curves, objective, float(BOUNDS[k]))
    return list(found.values())


def _rising(measure: Measure) -> bool:
    """Whether it compares rates that rise as a threshold falls."""
    compares = isinstance(measure, SignedGap | LargestGap | RateRatio)
    return compares and all(rate in RISING for rate in getattr(measure, "rates", ()))


# --- all groups at once ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Window:
    """One rate that must lie in a window in all groups.

    Args:
        rates: per group (K,) the rate at each of its cuts; nan for groups without such rows.
        bound: the width: a difference, or (`ratio`) what a quotient may be away from 1.
        anchored: the window lies around the privileged group's rate, not anywhere.
    """

    rates: list[Array]
    bound: float
    ratio: bool
    anchored: bool

    @property
    def values(self) -> Array:
        """All the rates that there are, in order: where a window can begin."""
        values: Array = np.unique(np.concatenate(self.rates))
        values = values[~np.isnan(values)]
        return np.asarray(values[values > 0] if self.ratio else values)

    def above(self, values: Array) -> tuple[Array, Array]:
        """Windows (W,) from each value up."""
        if self.ratio:
            width = 1 - self.bound * WITHIN
            return values, values / width if width > 0 else np.full_like(values, math.inf)
        return values, values + self.bound * WITHIN

    def around(self, values: Array) -> tuple[Array, Array]:
        """Windows (W,) around each of the privileged group's rates."""
        if self.ratio:
            width = max(1 - self.bound * WITHIN, 1e-300)
            return np.where(values > 0, values * width, math.inf), values / width
        return values - self.bound * WITHIN, values + self.bound * WITHIN


def _windows(curves: list[Curve], measure: Measure, bound: float) -> list[_Window]:
    """What a bound on a measure asks of the rates."""
    if isinstance(measure, Several):
        each = zip(measure.measures, measure.scales, strict=True)
        return [w for one, scale in each for w in _windows(curves, one, bound / scale)]
    assert isinstance(measure, SignedGap | LargestGap | RateRatio)
    rates = [_rates(curves, (rate,)) for rate in measure.rates]
    if isinstance(measure, SignedGap):
        rates = [_rates(curves, measure.rates)]
    ratio = isinstance(measure, RateRatio)
    last = isinstance(measure, SignedGap) or (isinstance(measure, RateRatio) and not measure.worst)
    return [_Window(of, bound, ratio, _has_last(of) and (last or _pair(of))) for of in rates]


def _rates(curves: list[Curve], rates: tuple[Rate, ...]) -> list[Array]:
    """Per group (K,) the mean of some rates at each of its cuts; nan without such rows."""
    return [np.mean([rate(c.counts[:, None])[:, 0] for rate in rates], axis=0) for c in curves]


def _has_last(rates: list[Array]) -> bool:
    return not bool(np.isnan(rates[-1]).any())


def _pair(rates: list[Array]) -> bool:
    """Of two groups, either can be the one that the other is near to."""
    return sum(not bool(np.isnan(each).any()) for each in rates) == 2


def _within(curves: list[Curve], objective: Objective, bound: float) -> Array:
    """(G,) the cuts of the best performance whose bias is below the bound.

    The places tried are the privileged group's cuts, where a window lies around its rate, times
    the beginnings of every other window: all of them where that is one list, else some of each,
    and then more between the best.
    """
    windows = _windows(curves, objective.bias_measure, bound)
    anchored = [window for window in windows if window.anchored]
    values = [window.values for window in windows if not window.anchored]
    if anchored:
        values = [np.arange(len(curves[-1].worth)), *values]
    if not all(map(len, values)):  # ratios have no window at 0
        return np.zeros(len(curves), int)
    limit = PLACES if len(values) == 2 else int(PLACES ** (2 / len(values)))
    limit = max(map(len, values)) if len(values) == 1 else limit
    places = [spaced(0, len(value), limit) for value in values]
    best = np.zeros(len(curves), int)
    for _ in range(FINER if len(values) > 1 else 1):
        grid = np.meshgrid(*[v[p] for v, p in zip(values, places, strict=True)], indexing="ij")
        tried = [axis.ravel() for axis in grid]
        chosen = tried.pop(0) if anchored else None
        spans, free = [], iter(tried)
        for window in windows:
            if window.anchored:
                assert chosen is not None
                spans.append((window.rates, *window.around(window.rates[-1][chosen])))
            else:
                spans.append((window.rates, *window.above(next(free))))
        new = _best(curves, spans, objective, chosen)
        ranks = [float(objective.rank(counts_at(curves, cuts))) for cuts in (best, new)]
        best = new if ranks[1] >= ranks[0] else best
        if all(len(p) == len(v) for p, v in zip(places, values, strict=True)):
            break
        # more finely around the window that was best
        free_windows = [window for window in windows if not window.anchored]
        middles = [int(best[-1])] if anchored else []
        for window, value in zip(free_windows, values[len(middles) :], strict=True):
            reached = [rate[cut] for rate, cut in zip(window.rates, best, strict=True)]
            middles.append(int(np.searchsorted(value, np.nanmin(reached))))
        for k, (middle, value) in enumerate(zip(middles, values, strict=True)):
            step = max(int(np.diff(places[k]).max(initial=1)), 1)
            places[k] = spaced(middle - step, min(middle + step + 1, len(value)), limit)
    return best


def _best(
    curves: list[Curve],
    windows: list[tuple[list[Array], Array, Array]],
    objective: Objective,
    chosen: Array | None,
) -> Array:
    """(G,) the cuts that are best within one of the windows.

    Args:
        windows: the groups' rates, and the lower and upper ends (W,) of where they must lie.
        chosen: (W,) the cut of the last group in each window, where that is given.
    """
    total = np.zeros(len(windows[0][1]))
    spans = []
    for g, curve in enumerate(curves):
        if chosen is not None and g == len(curves) - 1:
            first, end = chosen, chosen + 1
        else:
            first, end = np.zeros(len(total), int), np.full(len(total), len(curve.worth))
        for rates, low, high in windows:
            if not np.isnan(rates[g]).any():
                first = np.maximum(first, np.searchsorted(rates[g], low, side="left"))
                end = np.minimum(end, np.searchsorted(rates[g], high, side="right"))
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
    ranks = objective.rank(np.stack([counts_at(curves, each) for each in cuts]))
    return np.asarray(cuts[int(np.argmax(ranks))])
