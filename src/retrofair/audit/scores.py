"""Scores as counts in bins: what every threshold among the edges decides, without the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrofair.data.grouped import BATCH_ROWS
from retrofair.metrics import Array

STEPS = 200  # of equal width; every fourth edge bounds a bar of a histogram
CROWDED = 0.02  # of the rows in one step, beyond which percentiles divide it further
NUMBERS = 60_000  # counts at most, so that hundreds of groups stay a small file
FEWEST_STEPS = 20
DIGITS = 4  # of a percentile that becomes an edge


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreCounts:
    """Rows by group, label and bin of their score.

    The edges are equally wide steps (200; fewer with more than 75 groups), the percentiles inside a
    step that holds more than 2 % of the rows, the median, and the threshold in use. At an edge
    nothing is rounded: `at` gives the counts of exactly the rows that score above it.

    Args:
        edges: (E,) thresholds, ascending.
        counts: (G, 2, E + 1) rows by group, label and the number of edges below their score.
        low, high: the range of the equal steps: 0 and 1 where all scores lie there, otherwise
            around the scores without the farthest of both ends, which the end bins hold.
        median: of all scores; one of the edges.
        threshold: by which the audited decisions were made, one of the edges; None where no single
            threshold made them.
    """

    edges: Array
    counts: Array
    low: float
    high: float
    median: float
    threshold: float | None = None

    @classmethod
    def of(
        cls,
        scores: Array,
        y: Array,
        group: Array,
        n_groups: int,
        *,
        threshold: float | None = None,
    ) -> ScoreCounts:
        """Count (n,) finite scores with labels 0/1 and group codes, block by block.

        Example:
            >>> found = ScoreCounts.of(np.array([0.2, 0.5, 0.9]), np.array([0, 1, 1]),
            ...                        np.array([0, 0, 1]), 2, threshold=0.5)
            >>> found.at(0.5).tolist()  # by group, label and decision, as `metrics.count`
            [[[1, 0], [1, 0]], [[0, 0], [0, 1]]]
        """
        low, high = _range(scores, threshold)
        steps = min(STEPS, max(FEWEST_STEPS, NUMBERS // (4 * n_groups)))
        even = low + (high - low) * (np.arange(steps + 1) / steps)
        even = np.round(even, 9) if (low, high) == (0, 1) else even
        median = float(np.median(scores))
        first = _binned(scores, y, group, n_groups, even)
        crowded = first.sum(axis=(0, 1)) > CROWDED * len(scores)
        others = [median] + ([] if threshold is None else [float(threshold)])
        if crowded.any():
            cuts = np.quantile(scores, np.arange(1, 100) / 100, method="lower").astype(float)
            cuts = np.unique([float(f"{cut:.{DIGITS}g}") for cut in cuts])
            others += cuts[crowded[np.searchsorted(even, cuts, side="left")]].tolist()
        edges = np.unique(np.concatenate([even, others]))
        return cls(
            edges=edges,
            counts=_binned(scores, y, group, n_groups, edges),
            low=low,
            high=high,
            median=median,
            threshold=None if threshold is None else float(threshold),
        )

    def at(self, threshold: float) -> Array:
        """(G, 2, 2) rows by group, label and decision at the edge nearest to a threshold."""
        edge = int(np.abs(self.edges - threshold).argmin())
        below = self.counts[..., : edge + 1].sum(axis=-1)
        return np.stack([below, self.counts.sum(axis=-1) - below], axis=-1)

    def bars(self, number: int) -> Array:
        """(G, 2, number) rows in bars of equal width from `low` to `high`; beyond, in the last."""
        inner = np.linspace(self.low, self.high, number + 1)[1:-1]
        tolerance = 1e-9 * (self.high - self.low)
        bar = np.searchsorted(inner, self.edges - tolerance, side="left")
        bar = np.append(bar, number - 1)  # above the last edge
        bars = np.zeros((*self.counts.shape[:2], number), dtype=np.int64)
        for k in range(self.counts.shape[-1]):
            bars[..., bar[k]] += self.counts[..., k]
        return bars

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "low": self.low,
            "high": self.high,
            "median": self.median,
            "threshold": self.threshold,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScoreCounts:
        """Read what `to_dict` wrote."""
        return cls(
            edges=np.array(values["edges"], dtype=float),
            counts=np.array(values["counts"], dtype=np.int64),
            low=float(values["low"]),
            high=float(values["high"]),
            median=float(values["median"]),
            threshold=None if values["threshold"] is None else float(values["threshold"]),
        )


def _range(scores: Array, threshold: float | None) -> tuple[float, float]:
    least, most = float(scores.min()), float(scores.max())
    if least >= 0 and most <= 1:
        return 0.0, 1.0
    first, last = (float(q) for q in np.quantile(scores, [0.01, 0.99]))
    room = (last - first) / 2
    ends = [max(least, first - room), min(most, last + room)]
    ends += [] if threshold is None else [float(threshold)]
    low, high = min(ends), max(ends)
    if not high > low:
        return low, low + 1
    unit = 10.0 ** (math.floor(math.log10(high - low)) - 1)  # for readable ends
    return math.floor(low / unit) * unit, math.ceil(high / unit) * unit


def _binned(scores: Array, y: Array, group: Array, n_groups: int, edges: Array) -> Array:
    """(G, 2, E + 1) rows; a score at an edge belongs to the bin below it."""
    bins = len(edges) + 1
    total = np.zeros(2 * n_groups * bins, dtype=np.int64)
    for rows in _blocks(len(scores)):
        cell = group[rows].astype(np.int64) * 2 + y[rows].astype(np.int64)
        place = np.searchsorted(edges, scores[rows], side="left")
        total += np.bincount(cell * bins + place, minlength=len(total))
    return total.reshape(n_groups, 2, bins)


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, BATCH_ROWS):
        yield slice(start, start + BATCH_ROWS)
