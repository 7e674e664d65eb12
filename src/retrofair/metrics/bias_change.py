"""The interval of how much a bias changed between two sets of decisions on the same rows.

A bias is the largest of some smooth functions of the groups' rates: of two groups, a difference and
its negative. Where it is near 0 before or after it has a kink there, and an interval by the delta
method or by quantiles of a bootstrap is off: draws of an absolute value lie above it. Here a limit
is the furthest that the change can lie while the rates lie within z standard errors of what was
seen (the profile likelihood's interval, as far as rates are normal): as narrow as the delta
method's away from kinks, and near nominal at them.

Simulated with 500 to 10,000 rows, a third of them in one of two groups, biases of 0 to 0.2 before
and after, 1,000 draws each, 95 % intervals cover 93 to 99.9 % for spd and eod, 92 to 99.9 % for the
disparate impact, 96 % or more for equalized odds; most where both biases are 0. For the ratio of
equalized odds, four ratios at once, it is 89 % where one bias is exactly 0, and for the largest gap
among more groups that are all alike before or after 95 % (three), 90 to 93 % (four) and 84 to 94 %
(eight); where they are not, 95 % or more. Of three classes, each tied class of a group widens it:
with 500 and 2,000 rows, 250 draws, 95 % or more with two groups, also where all are alike after,
and with four groups, of which 87 to 99 % where all are alike after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrofair.metrics.counts import Array
from retrofair.metrics.gaps import LargestGap, SignedGap
from retrofair.metrics.one_vs_rest import WorstClass
from retrofair.metrics.rates import Rate, divide, of_class
from retrofair.metrics.ratios import RateRatio
from retrofair.metrics.several import Several

PRIOR = 0.25  # of a row, for each pair of decisions of a group and label: none is impossible
WIDER = 0.08  # more per further group at a kink: 1.96 standard errors cover 92 to 94 % with two
MOST_TIED = 5
STEPS = 200
NEAR = 1e-6  # of a limit, at which it is not looked for any further
MOST_PIECES = 1_000  # of classes, and of the numbers below
MOST_NUMBERS = 10_000_000
CLOSED = (SignedGap, LargestGap, RateRatio)


def has_interval(measure: object) -> bool:
    """Whether the measure is one of differences or ratios of rates."""
    if isinstance(measure, Several):
        return all(map(has_interval, measure.measures))
    return isinstance(measure.measure if isinstance(measure, WorstClass) else measure, CLOSED)


def change_limits(measure: object, pairs: Array, z: float) -> tuple[float, float]:
    """Limits of how much the bias of a measure grew; nan where it has no value.

    Args:
        measure: for which `has_interval`.
        pairs: (G, 2, 2, 2) by group, label, decision before and after; (G, K, K, K) of K classes,
            of which there are no limits (nan) where these would be too large a computation.

    Example:
        >>> from retrofair.metrics import SPD
        >>> pairs = np.zeros((2, 2, 2, 2))
        >>> pairs[0, 1] = [[140, 40], [0, 20]]  # 40 of 200 more are selected
        >>> pairs[1, 1] = [[100, 0], [0, 100]]
        >>> low, high = change_limits(SPD, pairs, 1.96)
        >>> print(f"{low:.2f} to {high:.2f}")
        -0.26 to -0.14
    """
    classes = pairs.shape[-1]
    if classes > 2 and _too_large(measure, *pairs.shape[:2]):
        return math.nan, math.nan
    rates = _rates(measure, classes)
    was, now = (_pieces(measure, rates, pairs.sum(axis=axis)) for axis in (-1, -2))
    if not len(was.values) or not len(now.values):
        return math.nan, math.nan
    spread = _covariance(rates, pairs)
    half = len(rates)
    tied = max(_tied(was, spread[:, :half, :half], z), _tied(now, spread[:, half:, half:], z))
    z *= 1 + WIDER * max(min(tied, MOST_TIED) - 1, 0)
    turned = np.roll(np.roll(spread, half, axis=1), half, axis=2)  # after first
    low, high = float(-_furthest(now, was, turned, z)), float(_furthest(was, now, spread, z))
    change = float(now.values.max() - was.values.max())
    # a bias lies in [0, 1], whatever a straight line through a ratio says
    return min(max(low, -1.0), change), max(min(high, 1.0), change)


# --- a bias as the largest of smooth functions ----------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Functions of the rates, whose largest is the bias.

    Args:
        values: (m,).
        slopes: (m, G, R) how each moves with every rate of every group.
        label: (m,) the class whose rates it compares, one against the rest; 0 of two classes.
    """

    values: Array
    slopes: Array
    label: Array

    @classmethod
    def of(cls, parts: Sequence[_Pieces], scales: Sequence[float] = ()) -> _Pieces:
        """All together, each multiplied with its scale."""
        scaled = list(zip(parts, scales or (1.0,) * len(parts), strict=True))
        return cls(
            np.concatenate([scale * part.values for part, scale in scaled]),
            np.concatenate([scale * part.slopes for part, scale in scaled]),
            np.concatenate([part.label for part in parts]),
        )


def _rates(measure: object, classes: int) -> tuple[Rate, ...]:
    if isinstance(measure, Several):
        found = [rate for each in measure.measures for rate in _rates(each, classes)]
        return tuple(dict.fromkeys(found))
    if isinstance(measure, WorstClass):
        return tuple(rate for each in _by_class(measure, classes) for rate in each.rates)
    assert isinstance(measure, CLOSED)
    return measure.rates


def _by_class(measure: WorstClass, classes: int) -> list[SignedGap | LargestGap | RateRatio]:
    """The measure of each class against the rest, of counts of all classes."""
    two = measure.measure
    assert isinstance(two, CLOSED)
    found = []
    for k in range(classes):
        rates = tuple(of_class(rate, k, classes) for rate in two.rates)
        found.append(replace(two, rates=rates))
    return found


def _too_large(measure: object, groups: int, classes: int) -> bool:
    """Whether the tables of K classes would take too long, or more memory than they are worth."""
    if isinstance(measure, Several):
        return any(_too_large(each, groups, classes) for each in measure.measures)
    rates = len(getattr(getattr(measure, "measure", measure), "rates", (None,)))
    pieces = rates * classes * groups * (groups - 1)
    influence = groups * 2 * rates * classes * classes**3
    return pieces > MOST_PIECES or influence > MOST_NUMBERS


def _pieces(measure: object, rates: tuple[Rate, ...], counts: Array) -> _Pieces:
    """Of counts (G, 2, 2), or (G, K, K) for K classes; none where the measure has no value."""
    none = _Pieces(np.zeros(0), np.zeros((0, len(counts), len(rates))), np.zeros(0, dtype=int))
    if isinstance(measure, Several):
        parts = [_pieces(each, rates, counts) for each in measure.measures]
        known = all(len(part.values) for part in parts)
        return _Pieces.of(parts, measure.scales) if known else none
    if isinstance(measure, WorstClass):  # classes without a value are left out
        by_class = _by_class(measure, counts.shape[-1])
        parts = [_pieces(each, rates, counts) for each in by_class]
        return _Pieces.of([replace(p, label=p.label + k) for k, p in enumerate(parts)])
    assert isinstance(measure, CLOSED)
    # what is compared between groups: each rate, or their mean
    averaged = isinstance(measure, SignedGap)
    compared = [measure.rates] if averaged else [(rate,) for rate in measure.rates]
    against_last = averaged or not getattr(measure, "worst", True)
    values, slopes = [], []
    for together in compared:
        level = np.mean([rate(counts) for rate in together], axis=0)
        columns = [rates.index(rate) for rate in together]
        found = _pairs_of(level, against_last)
        if isinstance(measure, RateRatio):
            found = [(a, b) for a, b in found if level[b] > 0]
        if not found:
            return none
        for a, b in found:
            value, of_a, of_b = level[a] - level[b], 1.0, -1.0
            if isinstance(measure, RateRatio):
                value, of_a, of_b = 1 - level[a] / level[b], -1 / level[b], level[a] / level[b] ** 2
            slope = np.zeros(none.slopes.shape[1:])
            slope[a, columns], slope[b, columns] = of_a / len(columns), of_b / len(columns)
            values.append(value)
            slopes.append(slope)
    return _Pieces(np.array(values), np.stack(slopes), np.zeros(len(values), dtype=int))


def _pairs_of(level: Array, against_last: bool) -> list[tuple[int, int]]:
    """Groups to compare, both ways; none where too few have a value."""
    known = np.flatnonzero(np.isfinite(level))
    last = len(level) - 1
    if against_last:
        others = [int(g) for g in known if g != last]
        there = bool(np.isfinite(level[last]))
        return [pair for g in others for pair in ((g, last), (last, g))] if there else []
    return [(int(a), int(b)) for a in known for b in known if a != b]


def _covariance(rates: tuple[Rate, ...], pairs: Array) -> Array:
    """(G, 2R, 2R) of each group's rates, those before first."""
    filled = pairs.sum(axis=(-2, -1), keepdims=True) > 0
    prior = PRIOR * 4 / pairs.shape[-1] ** 2  # of a group and label in all, however many classes
    pairs = np.where(filled, pairs + prior, 0.0)
    influence = []
    for axis in (-1, -2):
        counts = pairs.sum(axis=axis)
        for rate in rates:
            hits, n = rate.parts(counts)
            share = divide(hits, n)[:, None, None]
            each = np.array(rate.hits) - share * np.array(rate.base)
            each = np.nan_to_num(each / np.where(n > 0, n, 1)[:, None, None])
            influence.append(np.broadcast_to(np.expand_dims(each, axis), pairs.shape))
    of = np.stack(influence, 1).reshape(len(pairs), len(influence), -1)  # (G, 2R, 8)
    return np.asarray(np.einsum("gik,gjk,gk->gij", of, of, pairs.reshape(len(pairs), -1)))


# --- the furthest that one can lie above the other ------------------------------------------------


def _tied(pieces: _Pieces, spread: Array, z: float) -> int:
    """How many groups, of each class by itself, are in pieces of which it cannot be told whether
    they are the largest."""
    away = pieces.slopes - pieces.slopes[int(pieces.values.argmax())]
    error = np.sqrt(np.einsum("mgi,gij,mgj->m", away, spread, away).clip(0))
    tied = (pieces.values.max() - pieces.values < z * error) & (error > 0)
    of_class = [tied & (pieces.label == k) for k in np.unique(pieces.label[tied])]
    return sum(int((pieces.slopes[some] != 0).any(axis=(0, 2)).sum()) for some in of_class)


def _furthest(down: _Pieces, up: _Pieces, spread: Array, z: float) -> float:
    """The largest of max(up) - max(down) within z standard errors.

    It is the largest over the pieces of `up` of a concave function of the rates, each of which is
    by duality the least over weightings of the pieces of `down`.

    Args:
        spread: (G, 2R, 2R) of the rates, those of `down` first.
    """
    half = spread.shape[1] // 2
    m = len(down.values)
    rows = np.zeros((m + len(up.values), *spread.shape[:2]))
    rows[:m, :, :half], rows[m:, :, half:] = down.slopes, up.slopes
    moved = np.einsum("mgi,gij->mgj", rows, spread).reshape(len(rows), -1)
    table = moved @ rows.reshape(len(rows), -1).T
    top = int(down.values.argmax())
    at_top = np.diag(table)[m:] - 2 * table[m:, top] + table[top, top]
    above = up.values - down.values[top] + z * np.sqrt(np.maximum(at_top, 0))
    best = -math.inf
    for i in np.argsort(-above):
        if above[i] <= best + NEAR:
            break
        k = m + int(i)
        found = up.values[i] + _least(
            -down.values, table[:m, :m], table[k, :m], table[k, k], top, z
        )
        best = max(best, found)
    return best


def _least(line: Array, table: Array, cross: Array, own: float, start: int, z: float) -> float:
    """The least of line @ w + z * sqrt(own - 2 cross @ w + w @ table @ w) over weights w.

    They add up to 1; weight is moved from one place to another, as far as it helps (pairwise
    Frank-Wolfe).
    """
    weight = np.zeros(len(line))
    weight[start] = 1.0
    product = table[start].copy()  # table @ weight
    for _ in range(STEPS):
        square = max(own - 2 * cross @ weight + weight @ product, 1e-18)
        slope = line + z * (product - cross) / math.sqrt(square)
        to = int(slope.argmin())
        away = int(np.where(weight > 0, slope, -np.inf).argmax())
        if slope[away] - slope[to] < NEAR:
            break
        r = max(table[to, to] - 2 * table[to, away] + table[away, away], 1e-18)
        q = (product - cross)[to] - (product - cross)[away]
        step = _along(line[to] - line[away], square, q, r, z, weight[away])
        weight[to] += step
        weight[away] = max(weight[away] - step, 0.0)
        product = product + step * (table[to] - table[away])
    square = max(own - 2 * cross @ weight + weight @ product, 0.0)
    return float(line @ weight + z * math.sqrt(square))


def _along(b: float, p: float, q: float, r: float, z: float, most: float) -> float:
    """Where b * t + z * sqrt(p + 2 q t + r t^2) is least, for t from 0 to `most`."""
    if z * z * r <= b * b:
        return most if b < 0 else 0.0
    left = max(p - q * q / r, 0.0)
    t = -b * math.sqrt(left / (r * (z * z * r - b * b))) - q / r
    return min(max(t, 0.0), most)
