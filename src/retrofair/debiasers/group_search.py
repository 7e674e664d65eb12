"""Thresholds by group where nothing tells which are best: one or two groups at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np

from retrofair.debiasers.curves import Curve
from retrofair.metrics import Array, CallableMeasure, each_of
from retrofair.objective import Objective

PLACES = 200  # of one group that are tried at a time
PAIRS = 40_000  # of places of two groups, for all pairs of groups together
STARTS = 3  # common thresholds from which the search begins
SHARES = (0.25, 0.5, 0.75)  # of positive rows in every group, from which it begins too
ROUNDS = 20
FINER = 3


def searched(curves: list[Curve], objective: Objective) -> Array:
    """(G,) cuts, one of each curve, that no change of one group's improves; nor, for measures that
    are ours, a change of two groups' cuts together, at the places that are tried."""
    own = any(isinstance(each, CallableMeasure) for each in each_of(objective.bias_measure))
    found = [_moved(curves, objective, cuts, 1, PLACES) for cuts in _starts(curves, objective)]
    best = max(found, key=lambda cuts: _rank(curves, objective, cuts))
    if own or len(curves) < 2:  # a function of the caller's takes minutes for so many
        return best
    side = int(math.sqrt(PAIRS / math.comb(len(curves), 2)))
    best = _moved(curves, objective, best, 2, side)
    return _moved(curves, objective, best, 1, PLACES)


def counts_at(curves: list[Curve], cuts: Array) -> Array:
    """(G, 2, 2) of a cut of each group."""
    return np.stack([curve.counts[k] for curve, k in zip(curves, cuts, strict=True)])


def common(curves: list[Curve], threshold: float) -> Array:
    """(G,) the cuts of one threshold for all."""
    return np.array([curve.above(threshold) for curve in curves])


def _starts(curves: list[Curve], objective: Objective) -> list[Array]:
    scores = np.sort(np.concatenate([curve.scores for curve in curves]))
    tried = [common(curves, t) for t in scores[spaced(0, len(scores))]]
    order = np.argsort(-objective.rank(np.stack([counts_at(curves, cuts) for cuts in tried])))
    shares = [np.array([curve.at(share) for curve in curves]) for share in SHARES]
    return [*(tried[k] for k in order[:STARTS]), *shares]


def _moved(curves: list[Curve], objective: Objective, cuts: Array, many: int, side: int) -> Array:
    """The cuts after moves of so many groups together, until none is better: to `side` places of
    each over all of its cuts, then to as many more near the best."""
    cuts, best = cuts.copy(), _rank(curves, objective, cuts)
    for _ in range(ROUNDS):
        before = best
        for groups in itertools.combinations(range(len(curves)), many):
            places = [spaced(0, len(curves[g].worth), side) for g in groups]
            for _ in range(FINER if many > 1 else 1):
                grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, many)
                counts = np.repeat(counts_at(curves, cuts)[None], len(grid), axis=0)
                for k, g in enumerate(groups):
                    counts[:, g] = curves[g].counts[grid[:, k]]
                ranks = objective.rank(counts)
                chosen = int(np.argmax(ranks))
                if ranks[chosen] > best:
                    best, cuts[list(groups)] = float(ranks[chosen]), grid[chosen]
                places = [
                    _near(int(grid[chosen, k]), each, len(curves[g].worth), side)
                    for k, (g, each) in enumerate(zip(groups, places, strict=True))
                ]
        if best <= before:
            break
    return cuts


def _near(middle: int, places: Array, end: int, side: int) -> Array:
    """More places between those on both sides of one."""
    step = max(int(np.diff(places).max(initial=1)), 1)
    return spaced(middle - step, min(middle + step + 1, end), side)


def spaced(start: int, stop: int, limit: int = PLACES) -> Array:
    """At most so many indices between two."""
    start = max(start, 0)
    return np.unique(np.linspace(start, stop - 1, min(limit, stop - start)).round().astype(int))


def _rank(curves: list[Curve], objective: Objective, cuts: Array) -> float:
    return float(objective.rank(counts_at(curves, cuts)))
