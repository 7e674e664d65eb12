"""Rates as linear functions of the chances of each group and label, p(group, label | x).

A decision rule h moves a group's rate by the sum of h times what stands here, so the best rule for
any trade of performance against rates is a threshold on one weighting of these chances.
Cells are in the order (group 0, label 0), (group 0, label 1), (group 1, label 0), ...
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from retrofair.metrics import Array, Performance, Rate
from retrofair.metrics.performance import ACCURACY
from retrofair.metrics.rates import SELECTION


def of_performance(performance: Performance, shares: Array) -> Array:
    """(2G,) what deciding positive adds to a performance; accuracy's where it is not linear.

    Args:
        shares: (2G,) of the rows in each cell.
    """
    rates = performance.rates if all(map(_linear, performance.rates)) else ACCURACY.rates
    found = np.zeros(len(shares))
    for rate in rates:
        base = sum(float(shares[y::2].sum()) for y in (0, 1) if rate.base[y][1])
        for y in (0, 1):
            if base > 0:
                found[y::2] += (rate.hits[y][1] - rate.hits[y][0]) / base / len(rates)
    return found


def of_gaps(rates: tuple[Rate, ...], shares: Array, *, averaged: bool) -> Array:
    """(m, 2G) what deciding positive adds to each group's rate, minus the privileged group's.

    Args:
        averaged: one row per group for the mean of the rates, or one per group and rate.
    """
    groups = len(shares) // 2
    rates = rates if rates and all(map(_linear, rates)) else (SELECTION,)
    rows = []
    for rate in rates:
        of = np.zeros((groups, len(shares)))
        for g in range(groups):
            cells = shares[2 * g : 2 * g + 2]
            base = sum(float(cells[y]) for y in (0, 1) if rate.base[y][1])
            for y in (0, 1):
                if base > 0:
                    of[g, 2 * g + y] = (rate.hits[y][1] - rate.hits[y][0]) / base
        rows.append(of[:-1] - of[-1:])
    return np.mean(rows, axis=0) if averaged else np.concatenate(rows)


def _linear(rate: Rate) -> bool:
    """Whether the rows below the line do not depend on the decisions."""
    return rate.condition != "predicted positives"


def multipliers(
    worth: Array, gaps: Array, bound: float, centre: Array | None = None
) -> tuple[Array, float]:
    """What each gap costs at the best randomised rule, (m,), and the value of that rule.

    It maximises the mean of h * worth over rules 0 <= h <= 1 where the mean of h * gap lies within
    the bound for each gap: a linear program.

    Args:
        worth: (n,) what deciding positive is worth for each row.
        gaps: (n, m) what it adds to each gap.
        centre: (m,) what is added to each gap besides.
    """
    n, m = gaps.shape
    off = np.zeros(m) if centre is None else centre
    found = linprog(
        -worth / n,
        A_ub=np.concatenate([gaps, -gaps], axis=1).T / n,
        b_ub=bound + np.concatenate([-off, off]),
        bounds=(0, 1),
        method="highs",
    )
    if found.ineqlin is None or found.x is None:  # no rule keeps the bound
        return np.zeros(m), float("nan")
    prices = -np.asarray(found.ineqlin.marginals)
    return prices[:m] - prices[m:], -float(found.fun or 0.0)
