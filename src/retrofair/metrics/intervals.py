"""Closed-form confidence intervals from counts: no row is resampled.

A single rate gets Wilson's score interval. Differences and means of independent rates get the
"method of variance estimates recovery", which with two rates is Newcombe's hybrid interval; ratios
get its counterpart. Unlike normal or bootstrap intervals these keep their width where a count is 0.
On average over the rates they cover as often as they say. Where at least two rows of either
outcome are expected, 95 % intervals of differences and ratios cover in 93 % or more, and of single
rates in 91 % or more; with fewer, in 10 rows near a rate of 0 or 1, they can fall to 85 %.

References:
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    Newcombe (1998), Interval estimation for the difference between independent proportions.
    Zou and Donner (2008), Construction of confidence limits about effect measures.
    Donner and Zou (2012), Closed-form confidence intervals for functions of the normal mean and
    standard deviation (ratios).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from retrofair.metrics.counts import Array
from retrofair.metrics.rates import divide

LEVEL = 0.95
FEW_ROWS = 30  # of a rate or a mean, below which a difference is mostly luck
Bounds = tuple[Array, Array]


def quantile(level: float, comparisons: int = 1) -> float:
    """The two-sided normal quantile, with Bonferroni's correction for several comparisons."""
    return float(ndtri(1 - (1 - level) / 2 / max(comparisons, 1)))


def wilson(hits: Array, base: Array, z: float) -> Bounds:
    """Wilson's interval for hits / base; nan where base is 0.

    >>> low, high = wilson(np.array(0), np.array(10), 1.96)
    >>> round(float(low), 3), round(float(high), 3)
    (0.0, 0.278)
    """
    rate = divide(hits, base)
    n = np.where(np.asarray(base) > 0, base, np.nan).astype(float)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = np.where(hits == 0, 0 * rate, centre - half)
    high = np.where(hits == base, 0 * rate + 1, centre + half)
    return low, high


def linear(terms: Sequence[tuple[float, Array, Array]], z: float) -> tuple[Array, Array, Array]:
    """Value and interval of a sum of weight * hits / base over independent rates.

    Args:
        terms: (weight, hits, base) of each rate.
    """
    value, below, above = np.zeros(()), np.zeros(()), np.zeros(())
    for weight, hits, base in terms:
        rate = divide(hits, base)
        low, high = wilson(hits, base, z)
        down, up = (rate - low, high - rate) if weight > 0 else (high - rate, rate - low)
        value = value + weight * rate
        below = below + (weight * down) ** 2
        above = above + (weight * up) ** 2
    return value, value - np.sqrt(below), value + np.sqrt(above)


def ratio(top: tuple[Array, Array], bottom: tuple[Array, Array], z: float) -> Bounds:
    """Interval of (hits / base) / (hits / base); infinite above where the bottom may be 0."""
    a, b = divide(*top), divide(*bottom)
    la, ua = wilson(*top, z)
    lb, ub = wilson(*bottom, z)
    with np.errstate(invalid="ignore", divide="ignore"):
        product = a * b
        low = (
            product - np.sqrt(np.maximum(product**2 - la * ub * (2 * a - la) * (2 * b - ub), 0))
        ) / (ub * (2 * b - ub))
        high = (
            product + np.sqrt(np.maximum(product**2 - ua * lb * (2 * a - ua) * (2 * b - lb), 0))
        ) / (lb * (2 * b - lb))
    # 2b - ub <= 0 happens only for a bottom rate near 0: then la / ub is a valid lower limit.
    low = np.where(2 * b - ub > 0, low, divide(la, ub))
    known = ~np.isnan(a + b)
    low = np.where(known, np.maximum(low, 0), np.nan)
    high = np.where(lb > 0, high, np.inf)
    return low, np.where(known, high, np.nan)


def auc(scores: Array, y: Array, level: float = LEVEL) -> tuple[float, float, float]:
    """Area under the ROC curve with DeLong's interval, on the logit scale.

    Returns nan three times where a class has no row.

    Reference:
        DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more
        correlated receiver operating characteristic curves.
    """
    positive, negative = np.sort(scores[y == 1]), np.sort(scores[y == 0])
    m, n = len(positive), len(negative)
    if not m or not n:
        return math.nan, math.nan, math.nan
    above = _share_below(positive, negative)
    below = 1 - _share_below(negative, positive)
    value = float(above.mean())
    if m < 2 or n < 2 or value in (0.0, 1.0):
        return (value, *_rule_of_three(value, min(m, n)))
    error = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    half = quantile(level) * error / (value * (1 - value))
    logit = math.log(value / (1 - value))
    return value, 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))


def _share_below(values: Array, others: Array) -> Array:
    """For each value the share of the (sorted) others below it, ties counting half."""
    left = np.searchsorted(others, values, side="left")
    right = np.searchsorted(others, values, side="right")
    return (left + right) / (2 * len(others))


def _rule_of_three(value: float, n: int) -> tuple[float, float]:
    width = min(1.0, 3 / n)
    return max(0.0, value - width), min(1.0, value + width)
