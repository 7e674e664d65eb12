"""The fair-Bayes rule for three classes and more: what each class is worth in each cell.

With p(group, label | x), deciding for class k gains performance and moves the groups' rates of
class k, each by a sum over the cells (group, label). The best rule for any trade between them
decides for the class of the largest sum of chance times value; the values are the performance less
the prices of the gaps, and the prices are those of a linear program. Cells are in the order
(group 0, label 0), (group 0, label 1), ..., (group 1, label 0), ...
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from retrofair.data import Batches
from retrofair.debiasers import cells
from retrofair.debiasers.base import Fit, Unseen, record, search_any
from retrofair.debiasers.chances import CrossFitted
from retrofair.debiasers.class_programs import ClassPrograms
from retrofair.debiasers.head import Features, HeadedNetwork
from retrofair.debiasers.offsets import OffsetChoice, OffsetSearch
from retrofair.debiasers.rules import Argmax
from retrofair.metrics import Array, Measure, PerformanceMeasure, Several, WorstClass, performance
from retrofair.objective import Constrained, Objective

BOUNDS = (0.25, 0.5, 0.75, 0.9, 1.0)  # shares of epsilon that are aimed at
CORRECTIONS = 3
WEIGHTED = 0.05  # stands for epsilon where the objective has none
STEPS = (0.1, 0.03, 0.01)  # by which prices are moved, one at a time
ROUNDS = 2
MOST_MOVED = 24  # prices that are moved one at a time; with more the programs have the last word
PENALTY = 2.0  # per unit of bias beyond the bound, while looking for prices
ROWS = 2_000  # of a linear program, at most
FINALISTS = 5  # values whose offsets are looked for everywhere
STEEP = 4.0  # the spread of the scores


def fit_of_classes(
    features: Features,
    fitted: CrossFitted,
    cell: Array,
    data: Batches,
    objective: Objective,
    about: dict[str, Any],
) -> Fit:
    """The head's answer for three classes or more; the offsets are in its network.

    Args:
        cell: (n,) the row's own.
    """
    search = search_any(data, objective)
    assert isinstance(search, OffsetSearch)
    chances = fitted.cells
    value, found = Candidates(chances, cell, objective, search).best()
    made = HeadedNetwork(features, fitted.head, value, -np.array(found.offsets)).eval()
    choice = replace(found, offsets=(0.0,) * len(found.offsets))
    history = (record(objective, choice, trial=0, **about),)
    scores = chances @ value + np.array(found.offsets)
    unseen = Unseen(scores.argmax(1), scores, fitted.groups)
    return Fit(made, Argmax(choice.offsets), history, unseen)


@dataclass(frozen=True, eq=False)
class ClassGaps:
    """What deciding for a class adds to each gap between groups.

    Args:
        rows: (m, G * K) by gap and cell.
        of: (m,) the class whose rates the gap is of.
        free: (m,) the number of the middle that a gap is measured from, which may lie anywhere; -1
            for gaps from the privileged group.
        width: (m,) what each gap may be at most, where the measure's bias may be 1.
    """

    rows: Array
    of: Array
    free: Array
    width: Array


def worth_of_classes(performance_measure: PerformanceMeasure, shares: Array) -> Array:
    """(K,) what a row of each label is worth where it is decided rightly; accuracy's where the
    performance is no mean over rows.

    Args:
        shares: (K,) of the rows with each label.
    """
    by_recall = (performance.BALANCED_ACCURACY.name, performance.RECALL.name)
    if performance_measure.name not in by_recall:
        return np.ones(len(shares))
    return np.where(shares > 0, 1 / np.maximum(shares, 1e-12) / len(shares), 0.0)


def gaps_of_classes(measure: Measure, shares: Array) -> ClassGaps:
    """The gaps that a measure bounds, for every class; of selection rates where it is no
    difference of rates.

    Args:
        shares: (G, K) of the rows in each cell.
    """
    if isinstance(measure, Several):
        parts = [gaps_of_classes(each, shares) for each in measure.measures]
        free = np.zeros(0, dtype=int)
        for part in parts:  # middles of their own
            free = np.append(
                free, np.where(part.free < 0, -1, part.free + 1 + free.max(initial=-1))
            )
        each = zip(parts, measure.scales, strict=True)
        return ClassGaps(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.of for part in parts]),
            free,
            np.concatenate([part.width / scale for part, scale in each]),
        )
    n_groups, n_classes = shares.shape
    of_two = measure.measure if isinstance(measure, WorstClass) else measure
    found = []
    for k in range(n_classes):
        two = np.stack([shares.sum(1) - shares[:, k], shares[:, k]], 1).ravel()
        known = cells.of_gaps(of_two, two)
        # from the cells of class k and the rest to all cells
        cell = 2 * np.repeat(np.arange(n_groups), n_classes) + np.tile(
            np.arange(n_classes) == k, n_groups
        )
        free = np.where(known.free < 0, -1, known.free * n_classes + k)  # middles of its own
        found.append((known.rows[:, cell], np.full(len(free), k), free, known.width))
    rows, of, free, width = (np.concatenate(each) for each in zip(*found, strict=True))
    return ClassGaps(rows, of, free.astype(int), width)


def prices_of_classes(
    worth: Array, gaps: Array, known: ClassGaps, bound: Array | float, centre: Array
) -> tuple[Array, float]:
    """What each gap costs at the best randomised rule, (m,), and the value of that rule.

    It maximises the mean of sum_k h_k * worth_k over rules with h_k >= 0 and sum_k h_k = 1, where
    the mean of h_k * gap lies within the bound for each gap of a class k. nan where none does.

    Args:
        worth: (n, K) what deciding for each class is worth for each row.
        gaps: (n, m) what deciding for the gap's class adds to it.
        bound: of each gap, (m,), or of all.
        centre: (m,) what is added to each gap besides.
    """
    (n, n_classes), m = worth.shape, gaps.shape[1]
    blocks = np.unique(known.free[known.free >= 0])
    middles = sparse.csr_matrix((known.free[:, None] == blocks).astype(float))
    column = np.arange(n)[:, None] * n_classes + known.of
    row = np.tile(np.arange(m), n)
    moved = sparse.csr_matrix(((gaps / n).ravel(), (row, column.ravel())), shape=(m, n * n_classes))
    moved = sparse.hstack([moved, -middles]).tocsr()
    one = sparse.kron(sparse.eye(n), np.ones((1, n_classes)))
    program: dict[str, Any] = {  # scipy's types know of no sparse tables here
        "A_ub": sparse.vstack([moved, -moved]),
        "b_ub": np.concatenate([bound - centre, bound + centre]),
        "A_eq": sparse.hstack([one, sparse.csr_matrix((n, len(blocks)))]),
        "b_eq": np.ones(n),
        "bounds": [(0, 1)] * (n * n_classes) + [(None, None)] * len(blocks),
    }
    cost = np.concatenate([-worth.ravel() / n, np.zeros(len(blocks))])
    found = linprog(cost, method="highs", **program)
    if found.ineqlin is None or found.x is None:
        return np.zeros(m), float("nan")
    prices = -np.asarray(found.ineqlin.marginals)
    return prices[:m] - prices[m:], -float(found.fun or 0.0)


class Candidates:
    """Values (G * K, K) of deciding for each class, and how good their best offsets are.

    Args:
        chances: (n, G * K) that the rows were not used for.
        cell: (n,) the row's own.
    """

    def __init__(
        self, chances: Array, cell: Array, objective: Objective, offsets: OffsetSearch
    ) -> None:
        self.chances, self.cell, self.objective, self.search = chances, cell, objective, offsets
        size = (offsets.n_groups, offsets.n_classes)
        shares = np.bincount(cell, minlength=chances.shape[1]) / len(cell)
        worth = worth_of_classes(objective.performance_measure, shares.reshape(size).sum(0))
        self.worth = np.tile(np.diag(worth), (size[0], 1))
        self.gaps = gaps_of_classes(objective.bias_measure, shares.reshape(size))
        self.tried: list[tuple[float, Array]] = []
        self.price, self.most = np.zeros(len(self.gaps.rows)), -np.inf

    def best(self) -> tuple[Array, OffsetChoice]:
        """The best values and the offsets of their scores."""
        none = np.zeros(len(self.gaps.rows))
        self._take(none)
        if len(none):
            self._by_programs()
            self._one_by_one()
        first = sorted(self.tried, key=lambda each: -each[0])[:FINALISTS]
        found = []
        for value in (self.value(none), *(value for _, value in first)):
            scores = self.chances @ value
            found.append((value, self.search.near(scores, np.zeros(scores.shape[1]).tolist())))
        found.sort(key=lambda each: -each[1].rank)
        value, choice = found[0]
        return value, max(
            choice, self.search.best(self.chances @ value), key=lambda each: each.rank
        )

    def value(self, price: Array) -> Array:
        """(G * K, K) performance less prices times gaps, scaled to scores of one spread."""
        value = self.worth.copy()
        for each, row, k in zip(price, self.gaps.rows, self.gaps.of, strict=True):
            value[:, k] -= each * row
        scores = self.chances @ value
        spread = float((scores - scores.mean(1, keepdims=True)).std())
        return value * STEEP / max(spread, 1e-9)

    def merit(self, price: Array) -> float:
        """How good the prices are as they are: performance, less what breaks the bound."""
        value = self.value(price)
        counts = self.search.at(self.chances @ value, np.zeros(value.shape[1])).counts
        if isinstance(self.objective, Constrained):
            bias = float(np.nan_to_num(self.objective.bias_measure.bias(counts), nan=1.0))
            good = float(np.nan_to_num(self.objective.performance_measure(counts)))
            found = good - PENALTY * max(bias - self.objective.epsilon, 0.0)
        else:
            found = float(self.objective.rank(counts))
        self.tried.append((found, value))
        return found

    def _by_programs(self) -> None:
        """Prices from linear programs at several bounds, corrected for how far the chances are
        off where they decide."""
        n = len(self.cell)
        rows = np.linspace(0, n - 1, min(n, ROWS)).astype(int)
        epsilon = self.objective.epsilon if isinstance(self.objective, Constrained) else WEIGHTED
        worth, gaps = self.chances @ self.worth, self.chances @ self.gaps.rows.T
        seen = self.gaps.rows.T[self.cell]
        programs = None
        if isinstance(self.objective.bias_measure, Several):  # many gaps, and long programs
            programs = ClassPrograms(worth[rows], gaps[rows], self.gaps.of, self.gaps.free)
        for share in BOUNDS:
            centre = np.zeros(gaps.shape[1])
            for _ in range(CORRECTIONS):
                bound = share * self.gaps.width * epsilon
                found = None if programs is None else programs.prices(bound, centre)
                if found is None:
                    found = prices_of_classes(worth[rows], gaps[rows], self.gaps, bound, centre)
                price = found[0]
                self._take(price)
                decided = (self.chances @ self.value(price)).argmax(1)
                here = decided[:, None] == self.gaps.of
                centre = ((seen - gaps) * here).mean(0)

    def _one_by_one(self) -> None:
        m = len(self.price)
        if m > MOST_MOVED:
            return
        ways = list(itertools.product(range(m), (1, -1)))
        for step in np.repeat(STEPS, ROUNDS):
            for j, way in ways:
                moved = self.price.copy()
                moved[j] += way * step * max(abs(moved[j]), 0.1)
                self._take(moved)

    def _take(self, price: Array) -> None:
        found = self.merit(price)
        if found > self.most:
            self.price, self.most = price, found
