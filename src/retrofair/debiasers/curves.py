"""What each threshold of one group does: counts and performance at all of its cuts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from retrofair.metrics import Array, PerformanceMeasure


@dataclass(frozen=True, eq=False)
class Curve:
    """One group's cuts, from nobody positive to everybody.

    Args:
        scores: (n,) the group's probabilities, largest first.
        ends: (K,) how many rows are positive at each cut; cuts never part equal scores.
        counts: (K, 2, 2) by label and decision.
        worth: (K,) what the cut adds to the performance of all groups.
    """

    scores: Array
    ends: Array
    counts: Array
    worth: Array

    def threshold(self, k: int) -> float:
        """Halfway between the scores on both sides of a cut; positive means strictly above."""
        end = int(self.ends[k])
        if end == 0:
            return 1.0
        if end == len(self.scores):
            return 0.0 if self.scores[-1] > 0 else math.nextafter(0.0, -1.0)
        low, high = float(self.scores[end]), float(self.scores[end - 1])
        middle = low + (high - low) / 2
        return middle if low <= middle < high else low

    def above(self, threshold: float) -> int:
        """The cut of a threshold: positive means strictly above."""
        rows = int(np.searchsorted(-self.scores, -threshold, side="left"))
        return int(np.searchsorted(self.ends, rows))

    def at(self, share: float) -> int:
        """The cut with about this share of the rows positive."""
        return int(np.searchsorted(self.ends, share * len(self.scores)).clip(0, len(self.ends) - 1))


def curves_of(
    probability: Array, y: Array, group: Array, n_groups: int, performance: PerformanceMeasure
) -> list[Curve]:
    """A curve per group; one without rows has a single cut."""
    y, group = np.asarray(y).astype(np.int64), np.asarray(group)
    gain = performance.gain(np.bincount(y, minlength=2)) / max(len(y), 1)
    found = []
    for code in range(n_groups):
        rows = np.flatnonzero(group == code)
        order = rows[np.argsort(-probability[rows], kind="stable")]
        scores, label = probability[order], y[order]
        ends = np.concatenate([[0], 1 + np.flatnonzero(scores[:-1] > scores[1:])])
        ends = np.append(ends, len(rows)) if len(rows) else ends
        counts = np.zeros((len(ends), 2, 2), dtype=np.int64)
        for k in (0, 1):
            above = np.concatenate([[0], np.cumsum(label == k)])
            counts[:, k, 1] = above[ends]
            counts[:, k, 0] = above[-1] - above[ends]
        found.append(Curve(scores, ends, counts, (counts * gain).sum((1, 2))))
    return found


def range_maximum(values: Array, first: Array, end: Array) -> Array:
    """(W,) the maximum of values[first:end] for each pair, -inf where that is empty."""
    table = [values]
    while 2 ** len(table) <= len(values):
        half = 2 ** (len(table) - 1)
        table.append(np.maximum(table[-1][:-half], table[-1][half:]))
    length = end - first
    found = np.full(len(first), -np.inf)
    level = np.log2(np.maximum(length, 1)).astype(int)
    # rounding of the logarithm never makes a block longer than the range
    level = np.where(2**level > length, level - 1, level)
    for k, row in enumerate(table):
        here = (level == k) & (length > 0)
        a, b = first[here], end[here] - 2**k
        found[here] = np.maximum(row[a], row[b])
    return found
