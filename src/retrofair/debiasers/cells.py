"""Rates as linear functions of the chances of each group and label, p(group, label | x).

A decision rule h moves a group's rate by the sum of h times what stands here, so the best rule for
any trade of performance against rates is a threshold on one weighting of these chances.
Cells are in the order (group 0, label 0), (group 0, label 1), (group 1, label 0), ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from retrofair.metrics import Array, Measure, PerformanceMeasure, Rate, Several, SignedGap
from retrofair.metrics.performance import ACCURACY
from retrofair.metrics.rates import SELECTION
from retrofair.objective import Objective

ROWS = 5_000  # of a linear program, at most


def of_performance(performance: PerformanceMeasure, shares: Array) -> Array:
    """(2G,) what deciding positive adds to a performance; accuracy's where it does not add up.

    Args:
        shares: (2G,) of the rows in each cell.
    """
    rows = np.array([shares[0::2].sum(), shares[1::2].sum()])
    gain = (performance if performance.additive else ACCURACY).gain(rows)
    return np.tile((gain[:, 1] - gain[:, 0]) / rows.sum(), len(shares) // 2)


@dataclass(frozen=True, eq=False)
class Gaps:
    """What deciding positive adds to each gap between groups, (m, 2G).

    Args:
        free: (m,) the number of the middle that a gap is measured from, which may lie anywhere; -1
            for gaps from the privileged group.
        width: (m,) what each gap may be at most, where the measure's bias may be 1.
    """

    rows: Array
    free: Array
    width: Array


def of_gaps(measure: Measure, shares: Array) -> Gaps:
    """The gaps that a measure bounds; groups without the rows of a rate are left out of it.

    Where a measure is no difference of rates given the label, selection rates stand for it.
    """
    if isinstance(measure, Several):
        found = [of_gaps(each, shares) for each in measure.measures]
        free = np.zeros(0, dtype=int)
        for gaps in found:  # middles of their own
            middles = 1 + int(free.max(initial=-1))
            free = np.append(free, np.where(gaps.free < 0, -1, gaps.free + middles))
        return Gaps(
            np.concatenate([gaps.rows for gaps in found]),
            free,
            np.concatenate(
                [gaps.width / scale for gaps, scale in zip(found, measure.scales, strict=True)]
            ),
        )
    rates: tuple[Rate, ...] = getattr(measure, "rates", ())
    rates = rates if rates and all(map(_linear, rates)) else (SELECTION,)
    averaged, largest = isinstance(measure, SignedGap), not isinstance(measure, SignedGap)
    tables = [_of_rate(rate, shares) for rate in rates]
    if averaged:
        there = np.logical_and.reduce([there for _, there in tables])
        tables = [(np.mean([of for of, _ in tables], axis=0), there)]
    rows, middle = [np.zeros((0, len(shares)))], []
    for k, (of, there) in enumerate(tables):
        groups = np.flatnonzero(there)
        if largest and len(groups) > 2:
            rows.append(of[groups])
            middle += [k] * len(groups)
        elif len(groups) > 1:
            rows.append(of[groups[:-1]] - of[groups[-1]])
            middle += [-1] * (len(groups) - 1)
    of_middle = np.array(middle, dtype=int)
    # two that are measured from one middle have the bound between them
    return Gaps(np.concatenate(rows), of_middle, np.where(of_middle >= 0, 0.5, 1.0))


def _of_rate(rate: Rate, shares: Array) -> tuple[Array, Array]:
    """(G, 2G) what deciding positive adds to each group's rate, and (G,) who has its rows."""
    groups = len(shares) // 2
    of, there = np.zeros((groups, len(shares))), np.zeros(groups, dtype=bool)
    for g in range(groups):
        cells = shares[2 * g : 2 * g + 2]
        base = sum(float(cells[y]) for y in (0, 1) if rate.base[y][1])
        there[g] = base > 0
        for y in (0, 1):
            if base > 0:
                of[g, 2 * g + y] = (rate.hits[y][1] - rate.hits[y][0]) / base
    return of, there


def _linear(rate: Rate) -> bool:
    """Whether the rows below the line do not depend on the decisions."""
    return rate.condition != "predicted positives"


class Programs:
    """The linear programs of the best randomised rules at several bounds.

    Each maximises the mean of h * worth over rules 0 <= h <= 1 where the mean of h * gap lies
    within the bound for each gap, and begins where the last one ended.

    Args:
        worth: (n,) what deciding positive is worth for each row.
        gaps: (n, m) what it adds to each gap.
        free: (m,) which gaps are measured from one and the same middle, wherever it lies; -1 for
            those that are not.
    """

    def __init__(self, worth: Array, gaps: Array, free: Array | None = None) -> None:
        n, self.m = gaps.shape
        block = np.full(self.m, -1) if free is None else free
        middles = (block[:, None] == np.unique(block[block >= 0])).astype(float)
        table = np.concatenate([gaps / n, -middles.T])  # a column of the program each
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = table.shape
        ends = np.repeat([1.0, highspy.kHighsInf], [n, len(table) - n])
        lp.col_cost_ = np.concatenate([-worth / n, np.zeros(len(table) - n)])
        lp.col_lower_, lp.col_upper_ = np.where(ends == 1.0, 0.0, -ends), ends
        lp.row_lower_, lp.row_upper_ = np.zeros(self.m), np.zeros(self.m)
        matrix = lp.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.start_ = np.arange(len(table) + 1) * self.m
        matrix.index_ = np.tile(np.arange(self.m), len(table))
        matrix.value_ = table.ravel()
        make: Any = highspy.Highs
        self.highs = make()
        options = {"output_flag": False, "threads": 1, "solver": "simplex", "presolve": "off"}
        for option, value in options.items():
            self.highs.setOptionValue(option, value)
        self.highs.passModel(lp)

    def prices(self, bound: Array | float, centre: Array | float = 0.0) -> tuple[Array, float]:
        """What each gap costs at the best rule, (m,), and the value of that rule; nan where no
        rule keeps the bound.

        Args:
            bound: of each gap, (m,), or of all.
            centre: (m,) what is added to each gap besides.
        """
        low, high = np.broadcast_arrays(-bound - centre, bound - centre, np.zeros(self.m))[:2]
        for k in range(self.m):
            self.highs.changeRowBounds(k, float(low[k]), float(high[k]))
        self.highs.run()
        if self.highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return np.zeros(self.m), float("nan")
        prices = -np.array(self.highs.getSolution().row_dual)
        return prices, -float(self.highs.getObjectiveValue())


def multipliers(
    worth: Array,
    gaps: Array,
    bound: Array | float,
    centre: Array | float = 0.0,
    free: Array | None = None,
) -> tuple[Array, float]:
    """The prices of one of these `Programs`, and the value of its rule."""
    return Programs(worth, gaps, free).prices(bound, centre)


def shortfall(chances: Array, cell: Array, decided: Array, objective: Objective) -> float:
    """How much more the best randomised rule has in performance than these decisions, at the bias
    that they have by the chances; 0 where nothing was lost by a single threshold.

    Args:
        chances: (n, 2G).
        cell: (n,) the row's own.
        decided: (n,) of 0/1.
    """
    rows = np.linspace(0, len(cell) - 1, min(len(cell), ROWS)).astype(int)
    shares = np.bincount(cell, minlength=chances.shape[1]) / len(cell)
    worth = chances[rows] @ of_performance(objective.performance_measure, shares)
    known = of_gaps(objective.bias_measure, shares)
    gaps, decided = chances[rows] @ known.rows.T, decided[rows]
    reached = (gaps * decided[:, None]).mean(0)
    bias = 0.0
    for middle in np.unique(known.free):
        of = reached[known.free == middle] / known.width[known.free == middle]
        # from a middle that may lie anywhere, the furthest two have half of their range each
        bias = max(bias, float(abs(of).max() if middle < 0 else np.ptp(of) / 2))
    _, best = multipliers(worth, gaps, known.width * bias, free=known.free)
    return best - float((worth * decided).mean())
