"""The prices of gaps: which weighting of the chances is best for a fair head."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from retrofair.debiasers import cells
from retrofair.metrics import Array
from retrofair.objective import Constrained, Objective
from retrofair.thresholds import Choice, ThresholdSearch

PRICES = np.sinh(np.linspace(0, 4, 41)) / np.sinh(4)  # of one multiplier, on each side of 0
FINER = 20
BOUNDS = (0.25, 0.5, 0.75, 0.9, 1.0)  # shares of epsilon that are aimed at
CORRECTIONS = 3
WEIGHTED = 0.05  # stands for epsilon where the objective has none
DRAWS = 300  # of a few multipliers, at random
FEW = 3  # multipliers: of more, random ones are far from the best
SIZES = (0.02, 0.05, 0.1, 0.2, 0.5)
STEPS = (0.1, 0.03, 0.01)  # by which several multipliers are moved, one at a time
ROUNDS = 3
MOVES = 200  # of one multiplier each, at most
PENALTY = 2.0  # per unit of bias beyond the bound, while looking for prices
STEEP = 4.0  # of the sigmoid that makes scores of spread 1 into what thresholds are searched in
CUTS = 1_000  # at which a threshold is looked for while prices are moved
FINALISTS = 5  # weightings whose thresholds are all looked at
Tried = Callable[[Array], float]


def candidates(
    chances: Array, cell: Array, objective: Objective, thresholds: ThresholdSearch
) -> list[tuple[Array, Choice]]:
    """The best few weightings (2G,) and their best thresholds, best first.

    Args:
        chances: (n, 2G) that the rows were not used for.
    """
    shares = np.bincount(cell, minlength=chances.shape[1]) / len(cell)
    worth = cells.of_performance(objective.performance_measure, shares)
    known = cells.of_gaps(objective.bias_measure, shares)
    gaps = known.rows
    found: list[tuple[Array, Choice]] = []

    def tried(price: Array) -> float:
        """How good prices are: as good as their best threshold, or nearly as good at theirs.

        Where a bound is tight, the best threshold of most prices is that of a constant; how far
        the bound is missed where worth and prices balance tells which way to go.
        """
        value = worth - price @ gaps
        score = chances @ value
        scale = STEEP / max(float(score.std()), 1e-9)
        middle = scale * float(score.mean())
        value = scale * value - middle  # the chances add up to 1
        score = squashed(scale * score, middle)
        found.append((value, thresholds.among(score, CUTS)))
        balanced = thresholds.at(score, float(squashed(np.array(-middle)))).counts
        return max(found[-1][1].rank, _merit(objective, balanced))

    if not len(gaps):  # nobody to compare
        tried(np.zeros(0))
    elif len(gaps) == 1:
        _along_a_line(tried)
    else:
        _by_programs(tried, chances @ worth, chances @ gaps.T, gaps.T[cell], known, objective)
    found.sort(key=lambda each: -each[1].rank)
    first = [(value, thresholds.best(squashed(chances @ value))) for value, _ in found[:FINALISTS]]
    first.sort(key=lambda each: -each[1].rank)
    return first


def _merit(objective: Objective, counts: Array) -> float:
    """Performance, less what breaks the bound; for a weighted objective its rank."""
    if not isinstance(objective, Constrained):
        return float(objective.rank(counts))
    over = max(float(objective.bias_measure.bias(counts)) - objective.epsilon, 0.0)
    return float(objective.performance_measure(counts)) - PENALTY * over


def _along_a_line(tried: Tried) -> None:
    prices = np.concatenate([-PRICES[:0:-1], PRICES])
    best = int(np.argmax([tried(np.array([price])) for price in prices]))
    low, high = prices[max(best - 1, 0)], prices[min(best + 1, len(prices) - 1)]
    for price in np.linspace(low, high, FINER):
        tried(np.array([price]))


def _by_programs(
    tried: Tried,
    worth: Array,
    gaps: Array,
    seen: Array,
    known: cells.Gaps,
    objective: Objective,
) -> None:
    """Prices from linear programs at several bounds and at random, then moved one by one.

    Args:
        worth, gaps: (n,) and (n, m) what a positive decision adds, by the chances of each row.
        seen: (n, m) the same gaps, by its own group and label.
    """
    n, m = gaps.shape
    rows = np.linspace(0, n - 1, min(n, cells.ROWS)).astype(int)
    epsilon = objective.epsilon if isinstance(objective, Constrained) else WEIGHTED
    bound = known.width * epsilon
    programs = cells.Programs(worth[rows], gaps[rows], known.free)
    best, price = tried(np.zeros(m)), np.zeros(m)
    for share in BOUNDS:
        centre = np.zeros(m)
        for _ in range(CORRECTIONS):
            found, _ = programs.prices(share * bound, centre)
            rank = tried(found)
            if rank > best:
                best, price = rank, found
            # how far the chances are off where they decide: aimed away from the next time
            decided = worth > gaps @ found
            centre = (seen[decided].sum(0) - gaps[decided].sum(0)) / n
    # where a group is small its chances are off, and programs with them
    draw = np.random.default_rng(0)
    for _ in range(DRAWS if m <= FEW else 0):
        found = draw.normal(size=m) * draw.choice(SIZES)
        rank = tried(found)
        if rank > best:
            best, price = rank, found
    left = MOVES // max(2 * m, 1)  # rounds; many gaps on many rows would take minutes
    for step in STEPS:
        for _ in range(min(ROUNDS, left)):
            left, before = left - 1, best
            for k, way in itertools.product(range(m), (step, -step)):
                moved = price.copy()
                moved[k] += way * max(abs(price[k]), 0.1)
                rank = tried(moved)
                if rank > best:
                    best, price = rank, moved
            if best <= before:
                break


def squashed(score: Array, cut: float = 0.0) -> Array:
    """A sigmoid, in [0, 1] and with far scores kept apart from both ends."""
    return np.asarray(1 / (1 + np.exp(-np.clip(score - cut, -30, 30))))
