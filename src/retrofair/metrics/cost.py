"""What decisions cost, from a table of costs per label and decision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics.arrays import functions
from retrofair.metrics.counts import Array
from retrofair.metrics.intervals import LEVEL, quantile

Costs = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class CostMatrix:
    """One minus the mean cost of a decision, scaled such that the cheapest is worth 1 and the
    dearest 0.

    Args:
        costs: [label][decision], in any unit: ((of a true negative, of a false positive), (of a
            false negative, of a true positive)). A gain is a negative cost.

    Raises:
        InputError: another shape, numbers that are not finite, or all alike.

    Example:
        >>> missed = CostMatrix(((0, 1), (5, 0)))  # to miss a positive costs five false alarms
        >>> counts = np.array([[[8, 2], [1, 9]]])
        >>> round(float(missed(counts)), 3)
        0.93
    """

    costs: Costs
    aliases: ClassVar[tuple[str, ...]] = ()
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            table = np.array(self.costs, dtype=float)
        except (TypeError, ValueError):
            table = np.empty(0)
        if table.shape != (2, 2) or not np.isfinite(table).all():
            raise InputError(
                "expected a table of costs [[true negative, false positive], [false negative, true "
                f"positive]] of finite numbers, got {self.costs!r}"
            )
        if table.min() == table.max():
            raise InputError(f"expected costs that differ, got {self.costs!r}")
        object.__setattr__(self, "costs", tuple(tuple(map(float, row)) for row in self.costs))

    @property
    def name(self) -> str:
        return "cost[" + ",".join(f"{cost:.15g}" for row in self.costs for cost in row) + "]"

    @property
    def meaning(self) -> str:
        (tn, fp), (fn, tp) = self.costs
        return (
            f"1 less the mean cost, scaled to [0, 1] (true negative {tn:g}, false positive {fp:g}, "
            f"false negative {fn:g}, true positive {tp:g})"
        )

    def gain(self, rows: Array) -> Array:
        """(2, 2) by label and decision; what one row adds is this over the number of rows."""
        table = np.array(self.costs)
        return np.asarray((table.max() - table) / (table.max() - table.min()))

    def __call__(self, counts: Array) -> Array:
        total = counts.sum(axis=(-3, -2, -1))
        do = functions(counts)
        gain = do.asarray(self.gain(total), device=counts.device)
        with np.errstate(invalid="ignore", divide="ignore"):
            value: Array = do.asarray((counts * gain).sum(axis=(-3, -2, -1)) / total)
        return value

    def mean_cost(self, counts: Array) -> Array:
        """In the unit of the table, per row."""
        table = np.array(self.costs)
        return np.asarray(table.max() - self(counts) * (table.max() - table.min()))

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        """Normal, with half of z^2 rows more of either extreme (Agresti and Coull's, where the
        table is that of accuracy)."""
        pooled = counts.sum(axis=-3)
        n = float(pooled.sum())
        if n == 0:
            return math.nan, math.nan
        z = quantile(level)
        gain = self.gain(pooled)
        weights = np.append(pooled.ravel(), [z * z / 2, z * z / 2])
        gains = np.append(gain.ravel(), [0.0, 1.0])
        mean = float(weights @ gains / weights.sum())
        half = z * math.sqrt(float(weights @ (gains - mean) ** 2) / weights.sum() ** 2)
        value = float(self(counts))
        return max(min(mean - half, value), 0.0), min(max(mean + half, value), 1.0)
