"""Three classes and more: decide for the class of the largest score plus offset.

With all offsets but one given, a row is decided for that one's class from one value of its offset
on. So one sort orders all decisions that this offset can bring about, and running sums count them:
the best is found exactly, as for a threshold. All offsets together are found by going from one to
the next, from several starts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics import (
    Array,
    CallableMeasure,
    count_classes,
    each_of,
    of_classes,
    performance_of_classes,
)
from retrofair.objective import Constrained, Objective, Weighted
from retrofair.thresholds import Choice

Merit = Callable[[Array], Array]
TABLE = 2_000_000  # numbers in a table of counts, at most
COARSE = 48  # values of an offset that are looked at before the best is looked at more closely
FEW = 12  # the same where each costs a call of a caller's own function
ROUNDS = 4
PRICES = (1.0, 4.0)  # per unit of bias beyond the bound, on the way
SHAKES = (1.0, 0.5, 0.25, 0.1) * 2  # of the best offsets, to get off a ridge
CLOSE = 1e-12  # values nearer than this are one


@dataclass(frozen=True)
class OffsetChoice(Choice):
    """Offsets, the counts (G, K, K) of the decisions they make, and their rank."""

    offsets: tuple[float, ...] = ()


def objective_of_classes(objective: Objective) -> Objective:
    """The same objective for counts (..., G, K, K), its bias that of the worst class.

    Raises:
        InputError: it is neither `Constrained` nor `Weighted`.
    """
    if not isinstance(objective, Constrained | Weighted):
        raise InputError(
            "expected Constrained or Weighted as the objective for three classes or more, got "
            f"{type(objective).__name__}"
        )
    changes = {
        "measure": of_classes(objective.bias_measure),
        "performance": performance_of_classes(objective.performance_measure),
    }
    return dataclasses.replace(objective, **changes)  # type: ignore[arg-type]


class OffsetSearch:
    """Finds the best offsets of scores (n, K) over the same rows.

    Args:
        y: (n,) labels in [0, K).
        group: (n,) group codes in [0, n_groups).
        objective: one for counts (..., G, K, K), from `objective_of_classes`.

    Example:
        >>> objective = objective_of_classes(Weighted("spd", lam=0.0))
        >>> search = OffsetSearch(np.array([0, 1, 2]), np.array([0, 1, 0]), 2, 3, objective)
        >>> scores = np.log([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.5, 0.2, 0.3]])
        >>> int(search.best(scores).counts.sum(axis=0).trace())
        3
    """

    def __init__(
        self, y: Array, group: Array, n_groups: int, n_classes: int, objective: Objective
    ) -> None:
        self.objective, self.n_groups, self.n_classes = objective, n_groups, n_classes
        self.y, self.group = np.asarray(y).astype(np.int64), np.asarray(group).astype(np.int64)
        self._row = (self.group * n_classes + self.y) * n_classes
        measures = each_of(objective.bias_measure)
        slow = any(isinstance(each, CallableMeasure) for each in measures)
        self.coarse = FEW if slow else COARSE

    def at(self, scores: Array, offsets: Sequence[float] | Array) -> OffsetChoice:
        """The outcome of given offsets."""
        return self._outcome((scores + np.asarray(offsets)).argmax(1), offsets)

    def constant(self) -> OffsetChoice:
        """The best of deciding everybody for one class."""
        n = len(self.y)
        outcomes = [
            self._outcome(np.full(n, k), np.where(np.arange(self.n_classes) == k, 0.0, -1e6))
            for k in range(self.n_classes)
        ]
        return max(outcomes, key=lambda choice: choice.rank)

    def best(self, scores: Array) -> OffsetChoice:
        """The best offsets found, from several starts; never worse than none or a constant.

        On the way to a bound, being beyond it has a price instead of ruling all else.

        Raises:
            InputError: another shape than (n, K), or scores that are not finite.
        """
        _check(scores, len(self.y), self.n_classes)
        zero = np.zeros(self.n_classes)
        even = -np.log(np.exp(scores - scores.max(1, keepdims=True)).mean(0) + 1e-9)
        found = [self._climb(scores, start, self._merits()) for start in (zero, even)]
        best = max(found, key=lambda choice: choice.rank)
        spread = float((scores.max(1) - np.median(scores, axis=1)).std()) or 1.0
        random = np.random.default_rng(0)
        for size in SHAKES:
            shaken = np.array(best.offsets) + random.normal(0, size * spread, self.n_classes)
            best = max(best, self._climb(scores, shaken, self._merits()[-2:]), key=_rank)
        everywhere = None if self.coarse == COARSE else self.coarse
        last = self._ascend(scores, best.offsets, self.objective.rank, everywhere)
        return max(last, best, self.at(scores, zero), self._constant_of(scores), key=_rank)

    def near(self, scores: Array, offsets: Sequence[float]) -> OffsetChoice:
        """Good offsets near given ones: a few sweeps, about as dear as the network itself."""
        starts = (self.at(scores, offsets), self.at(scores, np.zeros(self.n_classes)))
        start = max(starts, key=_rank)
        return self._ascend(scores, start.offsets, self.objective.rank, self.coarse, rounds=1)

    def sweep(
        self, scores: Array, offsets: Sequence[float] | Array, k: int, merit: Merit | None = None
    ) -> tuple[float, float]:
        """The best offset of class k, given the others, and its merit: exact."""
        return self._sweep(scores, np.asarray(offsets), k, merit or self.objective.rank, None)

    # --- how ----------------------------------------------------------------------------------

    def _merits(self) -> tuple[Merit, ...]:
        if not isinstance(self.objective, Constrained):
            return (self.objective.rank,)
        return (*(self._priced(price) for price in PRICES), self.objective.rank)

    def _priced(self, price: float) -> Merit:
        assert isinstance(self.objective, Constrained)
        bias_of, good_of = self.objective.bias_measure.bias, self.objective.performance_measure
        epsilon = self.objective.epsilon

        def merit(counts: Array) -> Array:
            over = np.nan_to_num(np.maximum(bias_of(counts) - epsilon, 0.0), nan=np.inf)
            return np.asarray(np.nan_to_num(good_of(counts)) - price * over)

        return merit

    def _climb(self, scores: Array, start: Array, merits: Sequence[Merit]) -> OffsetChoice:
        """From one merit to the next, the last of which is the rank."""
        choice = self.at(scores, start)
        for merit in merits:
            choice = self._ascend(scores, choice.offsets, merit, self.coarse)
        return choice

    def _ascend(
        self,
        scores: Array,
        start: Sequence[float],
        merit: Merit,
        coarse: int | None,
        rounds: int = ROUNDS,
    ) -> OffsetChoice:
        offsets = np.array(start, dtype=float)
        best = float(merit(self.at(scores, offsets).counts))
        for _ in range(rounds):
            before = best
            for k in range(self.n_classes):
                offset, found = self._sweep(scores, offsets, k, merit, coarse)
                if found > best:
                    moved = offsets.copy()
                    moved[k] = offset
                    # what rounding does to rows at the very edge is counted, not assumed
                    found = float(merit(self.at(scores, moved).counts))
                    if found > best:
                        best, offsets = found, moved
            if best <= before:
                break
        return self.at(scores, offsets)

    def _sweep(
        self, scores: Array, offsets: Array, k: int, merit: Merit, coarse: int | None
    ) -> tuple[float, float]:
        n, cells = len(scores), self.n_groups * self.n_classes**2
        shifted = scores + offsets
        shifted[:, k] = -np.inf
        other = shifted.argmax(1)
        # the offset of class k from which on a row is decided for it
        turn = shifted[np.arange(n), other] - scores[:, k]
        order = np.argsort(turn)
        turn = turn[order]
        away, to = (self._row + other)[order], (self._row + k)[order]
        step = turn[1:] - turn[:-1] > CLOSE * (1 + np.abs(turn[1:]))
        cuts = np.concatenate([[0], np.flatnonzero(step) + 1, [n]])  # rows decided for class k
        start = np.bincount(away, minlength=cells).astype(np.float64)
        low, high = 0, len(cuts) - 1
        while True:  # a few values of the whole range, then of the range around the best of them
            some = np.arange(low, high + 1)
            if coarse is not None and len(some) > coarse:
                some = np.unique(np.linspace(low, high, coarse).round().astype(int))
            head = slice(cuts[some[0]])
            here = start + _moved(away[head], to[head], cells)
            merits = self._along(here, away, to, cuts[some], merit)
            at = int(np.argmax(merits))
            best, value = int(some[at]), float(merits[at])
            left, right = some[max(at - 1, 0)], some[min(at + 1, len(some) - 1)]
            if len(some) == high - low + 1:
                break
            low, high = int(left), int(right)
        cut = cuts[best]
        if cut == 0:
            return float(turn[0]) - 1.0, value
        if cut == n:
            return float(turn[-1]) + 1.0, value
        return float(turn[cut - 1] + (turn[cut] - turn[cut - 1]) / 2), value

    def _along(self, start: Array, away: Array, to: Array, cuts: Array, merit: Merit) -> Array:
        """The merit where the first `cut` rows, for each of the cuts, have moved."""
        cells, found = len(start), []
        block = max(1, TABLE // cells)
        for first in range(0, len(cuts), block):
            some = cuts[first : first + block]
            rows = slice(some[0], some[-1])
            # the position among `some` from which on each row has moved
            where = np.repeat(np.arange(1, len(some)), np.diff(some)) * cells
            size = len(some) * cells
            change = np.bincount(where + to[rows], minlength=size)
            change = change - np.bincount(where + away[rows], minlength=size)
            counts = start + np.cumsum(change.reshape(len(some), cells), axis=0)
            shape = (len(some), self.n_groups, self.n_classes, self.n_classes)
            found.append(np.asarray(merit(counts.reshape(shape))))
            if first + block < len(cuts):  # on to the start of the next block
                rows = slice(some[-1], cuts[first + block])
                start = counts[-1] + _moved(away[rows], to[rows], cells)
        return np.concatenate(found)

    def _constant_of(self, scores: Array) -> OffsetChoice:
        """The best constant, with offsets that make it one for these scores and any like them."""
        far = 10 * float(scores.max() - scores.min()) + 1
        chosen = np.array(self.constant().offsets) < 0
        return self.at(scores, np.where(chosen, -far, 0.0))

    def _outcome(self, decided: Array, offsets: Sequence[float] | Array) -> OffsetChoice:
        counts = count_classes(self.y, decided, self.group, self.n_groups, self.n_classes)
        rank = float(self.objective.rank(counts))
        return OffsetChoice(math.nan, counts, rank, tuple(map(float, offsets)))


def _moved(away: Array, to: Array, cells: int) -> Array:
    return np.bincount(to, minlength=cells) - np.bincount(away, minlength=cells)


def _rank(choice: Choice) -> float:
    return choice.rank


def _check(scores: Array, n: int, k: int) -> None:
    if scores.shape != (n, k):
        raise InputError(f"expected scores of shape ({n:,}, {k}), got {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError("expected finite scores, got NaN or infinity")
