"""How good the decisions are, over all groups together, from counts."""

from __future__ import annotations

from dataclasses import dataclass

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
