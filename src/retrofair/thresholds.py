"""Exact threshold selection: every distinct threshold of a score vector, from one sort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics import Array, CallableMeasure, each_of
from retrofair.objective import Objective

BLOCK = 16_384
CALLABLE_CUTS = 200


@dataclass(frozen=True)
class Choice:
    """A threshold, the counts (G, 2, 2) of the decisions it makes, and their rank."""

    threshold: float
    counts: Array
    rank: float


class ThresholdSearch:
    """Finds the best threshold of score vectors over the same rows.

    After one sort, the counts above each cut are running sums, and the objective is computed for
    all cuts at once. A caller's own measure cannot be: it is tried at 200 evenly spread cuts.

    Args:
        y: (n,) labels 0/1.
        group: (n,) group codes in [0, n_groups).

    Example:
        >>> from retrofair.objective import Constrained
        >>> search = ThresholdSearch(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2,
        ...                          Constrained("spd", epsilon=0.05))
        >>> search.best(np.array([0.1, 0.2, 0.8, 0.9])).threshold
        0.5
    """

    def __init__(self, y: Array, group: Array, n_groups: int, objective: Objective) -> None:
        self.objective = objective
        self.n_groups = n_groups
        small = np.uint8 if n_groups <= 128 else np.int64
        self._cells = np.arange(2 * n_groups, dtype=small)[:, None]
        code = np.asarray(group, dtype=np.int64) * 2 + np.asarray(y, dtype=np.int64)
        self.code = code.astype(small)
        self.total = np.bincount(self.code, minlength=2 * n_groups).astype(np.float64)
        measures = each_of(objective.bias_measure)
        self.slow = any(isinstance(each, CallableMeasure) for each in measures)

    def best(self, probability: Array) -> Choice:
        """The best threshold of one vector of n probabilities; positive means strictly above.

        The threshold lies halfway between the two neighbouring probabilities. Predicting nobody
        positive (threshold 1) is always among the choices.

        Raises:
            InputError: a length other than n, or values outside [0, 1].
        """
        n = len(self.code)
        if probability.shape != (n,):
            raise InputError(f"expected {n:,} probabilities, got shape {probability.shape}")
        order = np.argsort(-probability)
        score = probability[order]
        if n and not 0 <= score[-1] <= score[0] <= 1:
            raise InputError(
                f"expected finite probabilities in [0, 1], got {score[-1]} to {score[0]}"
            )
        # cuts[i]: the first i rows are positive and row i is the first negative one.
        cuts = np.concatenate([[0], 1 + np.flatnonzero(score[:-1] > score[1:])])
        if n and score[-1] > 0:
            cuts = np.append(cuts, n)
        if self.slow and len(cuts) > CALLABLE_CUTS:
            cuts = cuts[np.linspace(0, len(cuts) - 1, CALLABLE_CUTS).round().astype(int)]
        cut, rank = self._best_cut(self.code[order], cuts)
        if cut == 0:
            threshold = 1.0
        elif cut == n:
            threshold = 0.0
        else:
            threshold = between(float(score[cut]), float(score[cut - 1]))
        above = np.bincount(self.code[order[:cut]], minlength=2 * self.n_groups)
        return Choice(threshold, self._counts(above[:, None])[0].astype(np.int64), rank)

    def among(self, probability: Array, cuts: int) -> Choice:
        """The best of about so many thresholds, at equal numbers of rows from each other.

        For a search over many vectors of many rows, of which the best is looked at exactly.
        """
        n = len(self.code)
        if n <= cuts or self.slow:
            return self.best(probability)
        order = np.argsort(-probability)
        score = probability[order]
        places = np.linspace(0, n, cuts + 1).astype(int)[:-1]
        # a cut is before all rows of one score
        places = np.unique(np.searchsorted(-score, -score[places], side="left"))
        ends = np.append(places, n) if score[-1] > 0 else places
        part = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        cells = 2 * self.n_groups
        code: Array = part * cells
        code += self.code[order[: len(part)]]
        table = np.bincount(code, minlength=cells * len(ends)).reshape(-1, cells)
        counts = self._counts(np.cumsum(table, axis=0).T)
        ranks = self.objective.rank(counts)
        k = int(np.argmax(ranks))
        cut = int(ends[k])
        threshold = 1.0 if cut == 0 else 0.0
        if 0 < cut < n:
            threshold = between(float(score[cut]), float(score[cut - 1]))
        return Choice(threshold, counts[k].astype(np.int64), float(ranks[k]))

    def at(self, probability: Array, threshold: float) -> Choice:
        """The outcome of a given threshold."""
        above = np.bincount(self.code[probability > threshold], minlength=2 * self.n_groups)
        counts = self._counts(above[:, None])[0].astype(np.int64)
        return Choice(threshold, counts, float(self.objective.rank(counts)))

    def constant(self) -> Choice:
        """The better of predicting everybody positive and nobody."""
        nobody = self._counts(np.zeros((2 * self.n_groups, 1)))[0].astype(np.int64)
        everybody = self._counts(self.total[:, None])[0].astype(np.int64)
        choices = [
            Choice(t, c, float(self.objective.rank(c)))
            for t, c in ((1.0, nobody), (0.0, everybody))
        ]
        return max(choices, key=lambda choice: choice.rank)

    def _best_cut(self, code: Array, cuts: Array) -> tuple[int, float]:
        """Blocks of rows keep memory bounded and the running sums in the cache."""
        best, best_rank = 0, -np.inf
        before = np.zeros((2 * self.n_groups, 1))
        for start in range(0, max(len(code), 1), BLOCK):
            stop = min(start + BLOCK, len(code))
            above = np.empty((2 * self.n_groups, stop - start + 1))
            above[:, :1] = before
            # whole numbers add up four times as fast as floating-point ones
            ones = (code[start:stop] == self._cells).view(np.int8)
            np.add(np.cumsum(ones, axis=1, dtype=np.int32), before, out=above[:, 1:])
            before = above[:, -1:].copy()
            last = stop if stop < len(code) else stop + 1
            here = cuts[np.searchsorted(cuts, start) : np.searchsorted(cuts, last)]
            if not len(here):
                continue
            whole = len(here) == above.shape[1]
            ranks = self.objective.rank(self._counts(above if whole else above[:, here - start]))
            index = int(np.argmax(ranks))
            if ranks[index] > best_rank:
                best, best_rank = int(here[index]), float(ranks[index])
        return best, best_rank

    def _counts(self, above: Array) -> Array:
        """(K, G, 2, 2) from the (2G, K) numbers of rows above the cut; rows vary fastest."""
        counts = np.empty((self.n_groups, 2, 2, above.shape[1]))
        positive = above.reshape(self.n_groups, 2, -1)
        counts[:, :, 1] = positive
        counts[:, :, 0] = self.total.reshape(self.n_groups, 2, 1) - positive
        return np.moveaxis(counts, -1, 0)


def between(low: float, high: float) -> float:
    """A threshold between two neighbouring probabilities."""
    middle = low + (high - low) / 2
    return middle if low <= middle < high else low
