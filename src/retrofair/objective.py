"""What a debiasing method aims at: bias and performance in one number.

Both objectives work on counts (..., G, 2, 2), so that all thresholds are scored at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics import (
    Array,
    Measure,
    PerformanceMeasure,
    Several,
    get,
    get_performance,
)
from retrofair.metrics.arrays import functions

MeasureLike = str | Callable[..., Any] | Measure
Bounded = Sequence[tuple[MeasureLike, float]]


class _Implied(float):
    """A bound that nobody gave: the default, or the smallest of several constraints.

    It is told from a number of the same size that was given, also by `dataclasses.replace`, which
    hands an objective's own bound back to it.
    """


EPSILON = _Implied(0.05)


class Objective(Protocol):
    """Scores counts; `rank` orders any two outcomes (higher is better) and is never nan."""

    maximise: ClassVar[bool]

    @property
    def bias_measure(self) -> Measure: ...
    @property
    def performance_measure(self) -> PerformanceMeasure: ...
    def score(self, counts: Array) -> Array: ...
    def rank(self, counts: Array) -> Array: ...
    def feasible(self, counts: Array) -> Array: ...
    def to_dict(self) -> dict[str, Any]: ...


class _Named:
    """The measures behind the names that both objectives hold."""

    measure: Any
    performance: str | PerformanceMeasure

    @property
    def bias_measure(self) -> Measure:
        return get(self.measure)

    @property
    def performance_measure(self) -> PerformanceMeasure:
        return get_performance(self.performance)


@dataclass(frozen=True)
class Constrained(_Named):
    """Maximise performance subject to |bias| < epsilon; the score is 0 where that fails.

    Args:
        measure: a measure's name, or a callable `(y, prediction, group) -> number`; or several
            constraints that must hold together, as pairs of a measure and its epsilon. Then the
            bias is that of the measure that uses up most of its own bound, scaled to the smallest
            of them, and `epsilon` is that smallest bound.
        epsilon: the bound on the bias, in (0, 1], 0.05 where none is given; with several
            constraints each has its own, and it is an error to give another.
        performance: a performance measure's name, or a `metrics.CostMatrix`.

    Raises:
        InputError: an unknown name, an epsilon outside (0, 1], a constraint named twice, or an
            epsilon beside several constraints.

    Example:
        >>> Constrained("spd", epsilon=0.05).score(np.array([[[5, 5], [5, 5]], [[5, 5], [5, 5]]]))
        array(0.5)
        >>> Constrained([("spd", 0.05), ("eod", 0.1)]).bias_measure.name
        'spd and eod'

    Reference:
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, Equation 1; it prints the bias without the absolute value that is meant.
    """

    measure: MeasureLike | Bounded
    epsilon: float = EPSILON
    performance: str | PerformanceMeasure = "balanced_accuracy"
    maximise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.measure, list | tuple):
            several = _several(self.measure)
            if not isinstance(self.epsilon, _Implied):
                raise InputError(
                    f"expected no epsilon beside several constraints, got {self.epsilon!r}: each "
                    "pair has its own, so leave epsilon out"
                )
            # tuples, so that an objective can be compared and hashed
            object.__setattr__(self, "measure", tuple(map(tuple, self.measure)))
            object.__setattr__(self, "epsilon", _Implied(several.epsilon))
        _check(self)
        _check_epsilon(self.epsilon)
        if not isinstance(self.measure, list | tuple):
            object.__setattr__(self, "epsilon", float(self.epsilon))

    @property
    def bias_measure(self) -> Measure:
        if isinstance(self.measure, list | tuple):
            return _several(self.measure)
        return get(cast(MeasureLike, self.measure))

    def feasible(self, counts: Array) -> Array:
        return self.bias_measure.bias(counts) < self.epsilon

    def score(self, counts: Array) -> Array:
        good = np.nan_to_num(self.performance_measure(counts), nan=0.0)
        return np.where(self.feasible(counts), good, 0.0)

    def rank(self, counts: Array) -> Array:
        """Performance where the bound holds, minus the bias elsewhere: all below, least first."""
        bias = self.bias_measure.bias(counts)
        good = self.performance_measure(counts)
        do = functions(counts)
        good = do.where(do.isnan(good), 0.0, good)
        outside = do.where(do.isnan(bias), -np.inf, -bias)
        ranks: Array = do.where(bias < self.epsilon, good, outside)
        return ranks

    def to_dict(self) -> dict[str, Any]:
        measure = self.bias_measure
        about = {
            "objective": "constrained",
            "measure": measure.name,
            "epsilon": self.epsilon,
            "performance": self.performance_measure.name,
        }
        if isinstance(measure, Several):
            pairs = zip(measure.measures, measure.bounds, strict=True)
            about["constraints"] = [[each.name, bound] for each, bound in pairs]
        return about


@dataclass(frozen=True)
class Weighted(_Named):
    """Minimise lam * |bias| + (1 - lam) * (1 - performance).

    With lam = 0.75 and accuracy, the paper's setting, refusing everybody scores a quarter of the
    share of the rarer label: compare every result with the constant classifier.

    Args:
        measure: a measure's name, or a callable `(y, prediction, group) -> number`.
        lam: the weight of the bias, in [0, 1].
        performance: a performance measure's name, or a `metrics.CostMatrix`.

    Raises:
        InputError: an unknown name, or lam outside [0, 1].

    Reference:
        Savani, White and Govindarajulu (2020), Post-hoc methods for debiasing neural networks,
        arXiv 2006.08564, Equation 1.
    """

    measure: MeasureLike
    lam: float = 0.75
    performance: str | PerformanceMeasure = "accuracy"
    maximise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.lam, int | float) or not 0 <= self.lam <= 1:
            raise InputError(f"expected lam in [0, 1], got {self.lam!r} (lam, --lam)")

    def feasible(self, counts: Array) -> Array:
        return ~np.isnan(self.bias_measure.bias(counts))

    def score(self, counts: Array) -> Array:
        do = functions(counts)
        good = do.nan_to_num(self.performance_measure(counts), nan=0.0)
        bias = self.bias_measure.bias(counts)
        found: Array = do.asarray(self.lam * bias + (1 - self.lam) * (1 - good))
        return found

    def rank(self, counts: Array) -> Array:
        found: Array = -functions(counts).nan_to_num(self.score(counts), nan=np.inf)
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "objective": "weighted",
            "measure": self.bias_measure.name,
            "lam": self.lam,
            "performance": self.performance_measure.name,
        }


def _check(objective: Constrained | Weighted) -> None:
    _ = objective.bias_measure, objective.performance_measure


def _check_epsilon(epsilon: Any) -> None:
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not 0 < float(epsilon) <= 1:
        raise InputError(f"expected epsilon in (0, 1], got {epsilon!r} (epsilon, --epsilon)")


def _several(pairs: Sequence[Any]) -> Several:
    if len(pairs) < 2 or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise InputError(
            "expected two or more pairs of a measure and its epsilon, such as "
            f"[('spd', 0.05), ('eod', 0.05)], got {pairs!r}"
        )
    measures = tuple(get(measure) for measure, _ in pairs)
    names = [measure.name for measure in measures]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(
            f"expected every constraint once, got {twice[0]!r} {names.count(twice[0])} times: "
            "keep the smallest epsilon"
        )
    for _, epsilon in pairs:
        _check_epsilon(epsilon)
    return Several(measures, tuple(float(epsilon) for _, epsilon in pairs))
