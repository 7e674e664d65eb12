"""Small pictures as numbers for SVG: strips of intervals, histograms, axes, points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from retrofair.audit import Estimate
from retrofair.metrics import Array

WIDE, HALF = 1000, 100  # of a histogram, in its own units


@dataclass(frozen=True)
class Axis:
    """A range of values, drawn from 0 to 100 %."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value lies, in per cent; beyond the ends at the end."""
        place = 100 * (value - self.low) / (self.high - self.low)
        return round(min(max(place, 0.0), 100.0), 3)


@dataclass(frozen=True)
class Strip:
    """An interval with its value and the fair value, in per cent of the width."""

    low: float
    high: float
    value: float
    ideal: float | None
    known: bool
    axis: Axis


def strip(estimate: Estimate, axis: Axis, ideal: float | None) -> Strip:
    """An estimate on an axis."""
    numbers = (estimate.low, estimate.high, estimate.value)
    known = not any(map(math.isnan, numbers))
    low, high, value = (axis.at(each) if known else 0.0 for each in numbers)
    return Strip(low, high, value, None if ideal is None else axis.at(ideal), known, axis)


@dataclass(frozen=True)
class Butterfly:
    """Two outlines, of label 1 above the line and of label 0 below it."""

    above: str
    below: str


def butterfly(shares: Array, top: Array) -> Butterfly:
    """The outlines of (2, bars) shares; heights by square root, so that few rows are seen too.

    Args:
        top: (2,) the share of each label that is drawn at full height.
    """
    return Butterfly(_outline(shares[1], top[1], -1), _outline(shares[0], top[0], 1))


def _outline(shares: Array, top: float, way: int) -> str:
    step = WIDE / len(shares)
    path = [f"M0 {HALF}"]
    for i, share in enumerate(shares):
        height = HALF + way * HALF * math.sqrt(share / top if top > 0 else 0)
        path.append(f"V{height:.1f}H{step * (i + 1):g}")
    return "".join([*path, f"V{HALF}Z"])


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between two, at most so many.

    >>> ticks(0.0, 0.23)
    [0.0, 0.05, 0.1, 0.15, 0.2]
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def padded(values: Sequence[float], *, least: float = 0.02) -> Axis:
    """An axis around values with some room."""
    known = [v for v in values if math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = max(0.06 * (high - low), least / 2)
    return Axis(low - room, high + room)
