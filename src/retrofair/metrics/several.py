"""Several measures with a bound each, as one measure with one bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from retrofair.metrics.arrays import largest
from retrofair.metrics.counts import Array
from retrofair.metrics.intervals import LEVEL

if TYPE_CHECKING:
    from retrofair.metrics import Measure


@dataclass(frozen=True)
class Several:
    """The bias of the measure that uses up most of its bound, scaled to the smallest bound.

    It is below `epsilon` where every measure is below its own bound, and nan where one is.

    Args:
        measures: two or more.
        bounds: of each, above 0.
    """

    measures: tuple[Measure, ...]
    bounds: tuple[float, ...]
    ideal: ClassVar[float] = 0.0
    aliases: ClassVar[tuple[str, ...]] = ()

    @property
    def epsilon(self) -> float:
        """The bound on this measure: the smallest of all."""
        return min(self.bounds)

    @property
    def scales(self) -> tuple[float, ...]:
        """What each measure's bias is multiplied with."""
        return tuple(self.epsilon / bound for bound in self.bounds)

    @property
    def name(self) -> str:
        return " and ".join(measure.name for measure in self.measures)

    @property
    def meaning(self) -> str:
        said = ", ".join(
            f"{measure.name} (below {bound:g})"
            for measure, bound in zip(self.measures, self.bounds, strict=True)
        )
        return f"the one nearest its bound, or furthest beyond it, of {said}"

    def __call__(self, counts: Array) -> Array:
        return self.bias(counts)

    def bias(self, counts: Array) -> Array:
        each = zip(self.measures, self.scales, strict=True)
        biases: Array = largest([scale * measure.bias(counts) for measure, scale in each])
        return biases

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        """Simultaneous over the measures, so at least at the level."""
        each = 1 - (1 - level) / len(self.measures)
        limits = [
            [scale * limit for limit in _of_bias(measure, *measure.interval(counts, each))]
            for measure, scale in zip(self.measures, self.scales, strict=True)
        ]
        lows, highs = zip(*limits, strict=True)
        low, high, value = float(np.max(lows)), float(np.max(highs)), float(self(counts))
        # the bias of a ratio among more than two groups may be that of another pair
        return min(low, value), max(high, value)


def each_of(measure: Measure) -> tuple[Measure, ...]:
    """The measures of several, or the one alone."""
    return measure.measures if isinstance(measure, Several) else (measure,)


def _of_bias(measure: Measure, low: float, high: float) -> tuple[float, float]:
    """Limits of the bias, from those of the value."""
    if math.isnan(low) or math.isnan(high):
        return math.nan, math.nan
    if measure.ideal == 0:
        ends = [abs(low), abs(high)]
    else:  # a ratio is as far from 1 as its inverse
        ends = [1 - min(ratio, 1 / ratio) if ratio > 0 else 1.0 for ratio in (low, high)]
    inside = low <= measure.ideal <= high
    return (0.0 if inside else min(ends)), max(ends)
