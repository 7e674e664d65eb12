"""What changed between two sets of decisions on the same rows, from paired counts.

Most rows are decided alike before and after, so a change is known far better than the difference
of two independent rates would be: the intervals here use the pairs.

Of functions of several rates, see `bias_change`.

Reference:
    Newcombe (1998), Improved confidence intervals for the difference between binomial proportions
    based on paired data (method 10).
"""

from __future__ import annotations

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics.counts import Array, count, whole
from retrofair.metrics.intervals import Bounds, wilson
from retrofair.metrics.one_vs_rest import count_classes
from retrofair.metrics.rates import Rate, divide

FEW = 5  # hits and misses, before and after, below which a normal limit is not to be trusted


def count_pairs(y: Array, before: Array, after: Array, group: Array, n_groups: int) -> Array:
    """Count rows: (G, 2, 2, 2) int64, indexed [group, label, before, after].

    Args:
        y: (n,) labels 0/1.
        before, after: (n,) decisions 0/1 on the same rows.
        group: (n,) codes in [0, G).

    Raises:
        InputError: lengths differ, or a value is outside its range.

    Example:
        >>> count_pairs(*np.array([[1, 1], [0, 0], [0, 1], [0, 0]]), 1).tolist()
        [[[[0, 0], [0, 0]], [[1, 1], [0, 0]]]]
    """
    y, before, after, group = (np.asarray(a).reshape(-1) for a in (y, before, after, group))
    if len(before) != len(after):
        raise InputError(
            "expected decisions on the same rows before and after, got "
            f"{len(before):,} and {len(after):,}"
        )
    count(y, before, group, n_groups)  # which checks them
    parts = [count(y[r], after[r], group[r], n_groups) for r in (before == 0, before == 1)]
    return np.stack(parts, axis=2)


def count_class_pairs(
    y: Array, before: Array, after: Array, group: Array, n_groups: int, k: int
) -> Array:
    """Count rows of K classes: (G, K, K, K) int64, indexed [group, label, before, after].

    Raises:
        InputError: lengths differ, or a value is outside its range.

    Example:
        >>> count_class_pairs(*np.array([[2, 1], [0, 2], [2, 2], [0, 0]]), 1, 3)[0, 2].tolist()
        [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    """
    y, before = (np.asarray(a).reshape(-1) for a in (y, before))
    count_classes(y, before, group, n_groups, k)  # which checks them
    code = y.astype(np.intp) * k + before.astype(np.intp)
    after = whole(np.asarray(after).reshape(-1), k, "predictions", np.intp)
    if len(after) != len(code):
        raise InputError(
            "expected decisions on the same rows before and after, got "
            f"{len(code):,} and {len(after):,}"
        )
    code = (np.asarray(group).reshape(-1).astype(np.intp) * k * k + code) * k + after
    return np.bincount(code, minlength=n_groups * k**3).reshape(n_groups, k, k, k)


def changes(rate: Rate, pairs: Array, z: float) -> tuple[Array, Bounds]:
    """The change of a rate in each group, after minus before, (..., G), and its interval.

    Newcombe's score interval where the rate's condition is the same rows before and after; for
    precision, whose condition is the decision itself, the delta method, and no limits (nan) where
    there are fewer than five hits or misses. nan where a group has no such rows.

    Args:
        pairs: (..., G, 2, 2, 2) by group, label, decision before and after.
    """
    hits, base = np.array(rate.hits), np.array(rate.base)
    if (base[:, 0] != base[:, 1]).any():
        return _of_moving_base(rate, pairs, z)
    tables = []
    for one in (1, 0):
        for other in (1, 0):
            cells = (
                (hits[:, :, None] == one) & (hits[:, None, :] == other) & (base[:, :1, None] > 0)
            )
            tables.append((pairs * cells).sum(axis=(-3, -2, -1)))
    both, lost, gained, neither = tables
    n = both + lost + gained + neither
    return divide(gained, n) - divide(lost, n), newcombe(both, lost, gained, neither, z)


def newcombe(both: Array, lost: Array, gained: Array, neither: Array, z: float) -> Bounds:
    """Newcombe's interval of a change between paired shares: (gained - lost) / n.

    Two Wilson intervals, put together by the correlation of the pairs with a continuity correction.

    >>> low, high = newcombe(*map(np.array, (59, 6, 16, 80)), 1.96)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0046, 0.1186)
    """
    both, lost, gained, neither = (np.asarray(a, float) for a in (both, lost, gained, neither))
    n = both + lost + gained + neither
    before, after = divide(both + lost, n), divide(both + gained, n)
    low_before, high_before = wilson(both + lost, n, z)
    low_after, high_after = wilson(both + gained, n, z)
    product = both * neither - lost * gained
    product = np.where(product > 0, np.maximum(product - n / 2, 0), product)
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    phi = np.where(margins > 0, product / np.sqrt(np.maximum(margins, 1)), 0.0)

    def together(one: Array, other: Array) -> Array:
        return np.asarray(np.sqrt(np.maximum(one**2 - 2 * phi * one * other + other**2, 0)))

    change = after - before
    low = change - together(after - low_after, high_before - before)
    high = change + together(high_after - after, before - low_before)
    return low, high


def _of_moving_base(rate: Rate, pairs: Array, z: float) -> tuple[Array, Bounds]:
    hits, base = np.array(rate.hits), np.array(rate.base)
    known, change, influence = np.array(True), np.zeros(()), np.zeros(())
    for sign, axis in ((-1, -1), (1, -2)):
        counts = pairs.sum(axis=axis)
        n_hits, n = rate.parts(counts)
        share = divide(n_hits, n)
        known = known & (np.minimum(n_hits, n - n_hits) >= FEW)
        change = change + sign * share
        each = (hits - share[..., None, None] * base) / np.where(n > 0, n, 1)[..., None, None]
        influence = influence + sign * np.expand_dims(each, axis)
    spread = (pairs * influence**2).sum(axis=(-3, -2, -1))
    half = np.where(known, z * np.sqrt(spread), np.nan)
    return change, (change - half, change + half)
