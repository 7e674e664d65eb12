"""How good the decisions are, over all groups together, from counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrofair.metrics.counts import Array
from retrofair.metrics.intervals import LEVEL, linear, quantile
from retrofair.metrics.rates import CORRECT, PPV, TNR, TPR, Rate, mean


@dataclass(frozen=True)
class Performance:
    """The mean of one or two pooled rates; nan where a rate has no rows."""

    name: str
    meaning: str
    rates: tuple[Rate, ...]
    aliases: tuple[str, ...] = ()

    def __call__(self, counts: Array) -> Array:
        pooled = counts.sum(axis=-3, keepdims=True)
        return mean([rate(pooled)[..., 0] for rate in self.rates])

    @property
    def additive(self) -> bool:
        """Whether it adds up over rows: its denominators do not depend on the decisions."""
        return all(rate.condition != "predicted positives" for rate in self.rates)

    def gain(self, rows: Array) -> Array:
        """(2, 2) by label and decision; what one row adds is this over the number of rows.

        Args:
            rows: (2,) by label.
        """
        found = np.zeros((2, 2))
        for rate in self.rates:
            base = np.array(rate.base) * np.asarray(rows)[:, None]
            total = float(base[:, 0].sum())  # of `additive` rates, alike for both decisions
            if total > 0:
                found += np.array(rate.hits) * float(np.sum(rows)) / total / len(self.rates)
        return found

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        pooled = counts.sum(axis=-3)
        weight = 1 / len(self.rates)
        terms = [(weight, *rate.parts(pooled)) for rate in self.rates]
        _, low, high = linear(terms, quantile(level))
        return float(low), float(high)


ACCURACY = Performance("accuracy", "share predicted correctly", (CORRECT,))
BALANCED_ACCURACY = Performance(
    "balanced_accuracy", "mean of the true positive and true negative rates", (TPR, TNR)
)
PRECISION = Performance("precision", PPV.meaning, (PPV,))
RECALL = Performance("recall", TPR.meaning, (TPR,), aliases=("true_positive_rate",))

ALL = (BALANCED_ACCURACY, ACCURACY, PRECISION, RECALL)
