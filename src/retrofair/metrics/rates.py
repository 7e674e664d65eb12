"""Conditional rates: a share of some rows among others, per group, from counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from retrofair.metrics.arrays import functions
from retrofair.metrics.counts import Array

Condition = Literal["rows", "positives", "negatives", "predicted positives"]
Cells = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Rate:
    """The share of `hits` among the rows that meet `condition`.

    Args:
        hits: (2, 2) of 0/1, [label, prediction]: the cells in the numerator; (K, K) of counts of K
            classes, see `of_class`.
        base: the cells in the denominator.
    """

    name: str
    meaning: str
    condition: Condition
    hits: Cells
    base: Cells

    def parts(self, counts: Array) -> tuple[Array, Array]:
        """Numerator and denominator, each (..., G), of counts (..., G, 2, 2)."""
        return _pick(counts, self.hits), _pick(counts, self.base)

    def __call__(self, counts: Array) -> Array:
        """The rate of each group, (..., G); nan for a group without rows of the condition."""
        hits, base = self.parts(counts)
        return divide(hits, base)


def of_class(rate: Rate, k: int, classes: int) -> Rate:
    """The rate of class k against the rest, of counts (..., G, K, K).

    >>> of_class(TPR, 2, 3).hits
    ((0, 0, 0), (0, 0, 0), (0, 0, 1))
    """

    def spread(cells: Cells) -> Cells:
        side = [int(each == k) for each in range(classes)]
        return tuple(tuple(cells[y][p] for p in side) for y in side)

    return replace(rate, name=f"{rate.name}[{k}]", hits=spread(rate.hits), base=spread(rate.base))


def divide(hits: Array, base: Array) -> Array:
    """hits / base, nan where base is 0."""
    if isinstance(hits, torch.Tensor):
        return torch.where(base > 0, hits / base, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(base > 0, hits / base, np.nan)


def mean(values: Sequence[Array]) -> Array:
    """Elementwise; much faster than np.mean of a list, which copies it into one array first."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    found: Array = functions(total).asarray(total / len(values) if len(values) > 1 else total)
    return found


def _pick(counts: Array, cells: Cells) -> Array:
    size = range(len(cells))
    chosen = [counts[..., y, p] for y in size for p in size if cells[y][p]]
    found: Array = functions(counts).asarray(sum(chosen[1:], start=chosen[0]))
    return found


ROWS = ((1, 1), (1, 1))
POSITIVES = ((0, 0), (1, 1))
NEGATIVES = ((1, 1), (0, 0))

SELECTION = Rate("selection_rate", "share predicted positive", "rows", ((0, 1), (0, 1)), ROWS)
TPR = Rate(
    "true_positive_rate",
    "share predicted positive among true positives",
    "positives",
    ((0, 0), (0, 1)),
    POSITIVES,
)
FPR = Rate(
    "false_positive_rate",
    "share predicted positive among true negatives",
    "negatives",
    ((0, 1), (0, 0)),
    NEGATIVES,
)
TNR = Rate(
    "true_negative_rate",
    "share predicted negative among true negatives",
    "negatives",
    ((1, 0), (0, 0)),
    NEGATIVES,
)
PPV = Rate(
    "precision",
    "share truly positive among predicted positives",
    "predicted positives",
    ((0, 0), (0, 1)),
    ((0, 1), (0, 1)),
)
CORRECT = Rate("accuracy", "share predicted correctly", "rows", ((1, 0), (0, 1)), ROWS)
BASE_RATE = Rate("base_rate", "share truly positive", "rows", POSITIVES, ROWS)

ALL = (BASE_RATE, SELECTION, TPR, FPR, PPV, CORRECT)
