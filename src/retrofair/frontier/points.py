"""Operating points on held-out data, those that no other beats, and the choice of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import pandas as pd

from retrofair.debiasers import Debiased, Status
from retrofair.debiasers.base import RARE
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array, Measure, PerformanceMeasure
from retrofair.reported import Reported


@dataclass(frozen=True)
class Spread:
    """A value with its 95 % confidence interval; nan where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Reference:
    """What some decisions are worth on the held-out part.

    Args:
        method: whose decisions they are.
        measured: the measure's value, signed where it is.
        bias: how far from fair that is; never negative.
        counts: (G, 2, 2) held-out rows by group, label and decision.
    """

    method: str
    measured: Spread
    bias: Spread
    performance: Spread
    counts: Array

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method}: bias {self.bias}, {self.performance})"

    @property
    def defined(self) -> bool:
        """Whether bias and performance have a value."""
        return math.isfinite(self.bias.value) and math.isfinite(self.performance.value)

    def no_better_than(self, other: Reference) -> bool:
        """Whether the other has no more bias and at least the performance."""
        return (
            _bias(other) <= _bias(self)
            and _good(other) >= _good(self)
            and math.isfinite(_bias(other))
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Point(Reference):
    """One network with its rule, as one method made it for one bound and seed.

    Args:
        bound: the bound on the bias that it was fitted to.
        seconds: its fit took, wall-clock.
        degenerate: decided alike for all but one row in 200, or no better than a constant
            classifier: on the held-out part, or on the part it was fitted to.
        result: the network itself.
    """

    bound: float
    seed: int
    seconds: float
    degenerate: bool
    result: Debiased

    @property
    def status(self) -> Status:
        """Whether the bound was met on the part it was fitted to."""
        return self.result.status

    @property
    def needs_group(self) -> bool:
        """Whether each row's group is needed to decide."""
        return self.result.needs_group


@dataclass(frozen=True)
class Effort:
    """What was spent on a method.

    Args:
        runs: fits, those read from a store among them.
        seconds: they took, wall-clock, when they were made.
        note: why there are fewer or more of them than bounds; empty where there are not.
    """

    runs: int
    seconds: float
    note: str = ""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Frontier(Reported):
    """What the methods reach from one network.

    All figures are of the held-out part, which no method saw. Still the points were chosen among
    all those `tried` by these very figures, so they flatter a little: audit the chosen one on
    test data.

    Args:
        measure, performance: names of what is drawn against each other.
        points: the non-dominated ones, from the least bias on: no other has both less or equal
            bias and higher or equal performance. Of equal ones the first tried is here.
        tried: all of them, in the order they were made.
        reference: the original network at threshold 0.5, and both constant classifiers. They are
            for comparison and never an answer.
        failed: by method, why it could not be run.
        effort: by method, its runs and their time.
        rows_fitted, rows_held_out: sizes of the two parts.
        seconds: the budget of each method; None: every bound once.
    """

    measure: str
    performance: str
    points: tuple[Point, ...]
    tried: tuple[Point, ...]
    reference: tuple[Reference, ...]
    failed: dict[str, str]
    effort: dict[str, Effort]
    rows_fitted: int
    rows_held_out: int
    group_names: tuple[str, ...]
    seconds: float | None

    def __repr__(self) -> str:
        return (
            f"Frontier({len(self.points)} non-dominated of {len(self.tried)} points tried, "
            f"{self.performance} against {self.measure} on {self.rows_held_out:,} rows held out)"
        )

    def choose(
        self,
        rule: str | None = None,
        *,
        bias: float | None = None,
        performance: float | None = None,
    ) -> Point | None:
        """One of the non-dominated points; None where none is good enough.

        Args:
            rule: "knee": the point farthest above the straight line between the first and the
                last point, after both axes are scaled to run from one to the other. Where none
                lies above it, as with one or two points, it is the first: the least bias.
            bias: the best performance among points with less bias than this, in (0, 1].
            performance: the least bias among points of at least this performance, in [0, 1].

        Raises:
            InputError: none or several of the three, or one out of range.
        """
        check_choice(rule, bias, performance)
        if bias is not None:
            below = [point for point in self.points if point.bias.value < bias]
            return below[-1] if below else None
        if performance is not None:
            good = [point for point in self.points if point.performance.value >= performance]
            return good[0] if good else None
        return _knee(self.points) if self.points else None

    def remarks(self, point: Point) -> tuple[str, ...]:
        """What to know of a chosen point: that it has no less bias than the original network."""
        was, now = self.reference[0].bias.value, point.bias.value
        if not now >= was:
            return ()
        return (
            "The chosen point is no fairer than the original network: on the rows held out its "
            f"bias in {self.measure} is {now:.3f}, the original's {was:.3f}. Ask for less bias "
            "(bias=B, --choose bias=B), or give other methods or bounds (--methods, --bounds).",
        )

    def kind(self, point: Reference) -> str:
        """non-dominated, dominated, degenerate, undefined (without a value) or reference."""
        if not isinstance(point, Point):
            return "reference"
        if any(point is each for each in self.points):
            return "non-dominated"
        if not point.defined:
            return "undefined"
        return "degenerate" if point.degenerate else "dominated"

    def to_frame(self) -> pd.DataFrame:
        """One row per point: the references, then all tried, each sorted by bias.

        Columns: kind (see `kind`), method, bound, seed, bias, measured (the measure's own value,
        signed where it is) and performance, each also with _low and _high, status on the fitting
        part, needs_group, seconds.
        """
        tried = sorted(self.tried, key=_bias)
        return pd.DataFrame([self._row(point) for point in (*self.reference, *tried)])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the networks, ready for JSON."""
        return {
            "measure": self.measure,
            "performance": self.performance,
            "groups": list(self.group_names),
            "rows_fitted": self.rows_fitted,
            "rows_held_out": self.rows_held_out,
            "seconds": self.seconds,
            "tried": len(self.tried),
            "points": [self.describe(point) for point in self.points],
            "reference": [self.describe(point) for point in self.reference],
            "effort": {name: vars(effort) for name, effort in self.effort.items()},
            "failed": self.failed,
        }

    def describe(self, point: Reference) -> dict[str, Any]:
        """A point's row with its counts, ready for JSON."""
        return {**self._row(point), "counts": point.counts.tolist()}

    def _row(self, point: Reference) -> dict[str, Any]:
        row: dict[str, Any] = {"kind": self.kind(point), "method": point.method}
        own = isinstance(point, Point)
        row |= {name: getattr(point, name) if own else None for name in ("bound", "seed")}
        for name in ("bias", "measured", "performance"):
            spread: Spread = getattr(point, name)
            row |= {name: spread.value, f"{name}_low": spread.low, f"{name}_high": spread.high}
        row["status"] = point.status.value if isinstance(point, Point) else None
        row |= {n: getattr(point, n) if own else None for n in ("needs_group", "seconds")}
        return row


def check_choice(rule: str | None, bias: float | None, performance: float | None) -> None:
    """Refuse what cannot be meant by `choose`."""
    given = [each for each in (rule, bias, performance) if each is not None]
    if len(given) != 1:
        found = " and ".join(map(repr, given)) or "none"
        raise InputError(f"expected one of 'knee', bias= and performance=, got {found}")
    if rule is not None and rule != "knee":
        raise unknown("rule", rule, ["knee"])
    if bias is not None and not (_is_number(bias) and 0 < bias <= 1):
        raise InputError(f"expected bias in (0, 1], got {bias!r}")
    if performance is not None and not (_is_number(performance) and 0 <= performance <= 1):
        raise InputError(f"expected performance in [0, 1], got {performance!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def figures(measure: Measure, performance: PerformanceMeasure, counts: Array) -> dict[str, Any]:
    """The fields of a `Reference` that come from counts (G, 2, 2)."""
    value, bias = float(measure(counts)), float(measure.bias(counts))
    low, high = measure.interval(counts)
    if math.isnan(value):
        low = high = math.nan
    ends = sorted(_deviation(end, measure.ideal) for end in (low, high))
    if (low - measure.ideal) * (high - measure.ideal) <= 0:
        ends[0] = 0.0
    return {
        "measured": Spread(value, low, high),
        # a ratio to one of many groups can be farther from fair on the side it does not show
        "bias": Spread(bias, min(ends[0], bias), max(ends[1], bias)),
        "performance": Spread(float(performance(counts)), *performance.interval(counts)),
        "counts": counts,
    }


def decided_alike(counts: Array) -> bool:
    """Whether fewer than one row in 200 is decided unlike the rest."""
    total, positive = int(counts.sum()), int(counts[..., 1].sum())
    return min(positive, total - positive) < RARE * total


def non_dominated(tried: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats, by bias; degenerate ones neither beat nor count."""
    known = [p for p in tried if p.defined and not p.degenerate]
    kept: list[Point] = []
    for point in sorted(known, key=lambda p: (_bias(p), -_good(p))):  # stable: the first of equals
        if not kept or _good(point) > _good(kept[-1]):
            kept.append(point)
    return tuple(kept)


def _knee(points: Sequence[Point]) -> Point:
    first, last = points[0], points[-1]
    wide = (_bias(last) - _bias(first)) or 1.0
    high = (_good(last) - _good(first)) or 1.0

    def above(point: Point) -> float:
        """The distance from the line, times the root of two."""
        return (_good(point) - _good(first)) / high - (_bias(point) - _bias(first)) / wide

    return max(points, key=above)  # of equals the first


def _bias(point: Reference) -> float:
    return math.inf if math.isnan(point.bias.value) else point.bias.value


def _good(point: Reference) -> float:
    """As objectives count it: performance without a value is none."""
    return 0.0 if math.isnan(point.performance.value) else point.performance.value


def _deviation(value: float, ideal: float) -> float:
    """How far a value is from fair."""
    if ideal == 0:
        return abs(value)
    return 1 - min(value, 1 / value) if value > 0 else 1.0
