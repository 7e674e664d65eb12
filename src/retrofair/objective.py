"""What a debiasing method aims at: bias and performance in one number.

Both objectives work on counts (..., G, 2, 2), so that all thresholds are scored at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics import Array, Measure, Performance, get, get_performance

MeasureLike = str | Callable[..., Any] | Measure


class Objective(Protocol):
    """Scores counts; `rank` orders any two outcomes (higher is better) and is never nan."""

    maximise: ClassVar[bool]

    @property
    def bias_measure(self) -> Measure: ...
    @property
    def performance_measure(self) -> Performance: ...
    def score(self, counts: Array) -> Array: ...
    def rank(self, counts: Array) -> Array: ...
    def feasible(self, counts: Array) -> Array: ...
    def to_dict(self) -> dict[str, Any]: ...


class _Named:
    """The measures behind the names that both objectives hold."""

    measure: MeasureLike
    performance: str

    @property
    def bias_measure(self) -> Measure:
        return get(self.measure)

    @property
    def performance_measure(self) -> Performance:
        return get_performance(self.performance)


@dataclass(frozen=True)
class Constrained(_Named):
    """Maximise performance subject to |bias| < epsilon; the score is 0 where that fails.

    Args:
        measure: a measure's name, or a callable `(y, prediction, group) -> number`.
        epsilon: the bound on the bias, in (0, 1].
        performance: a performance measure's name.

    Raises:
        InputError: an unknown name, or epsilon outside (0, 1].

    Example:
        >>> Constrained("spd", epsilon=0.05).score(np.array([[[5, 5], [5, 5]], [[5, 5], [5, 5]]]))
        array(0.5)

    Reference:
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, Equation 1; it prints the bias without the absolute value that is meant.
    """

    measure: MeasureLike
    epsilon: float = 0.05
    performance: str = "balanced_accuracy"
    maximise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.epsilon, int | float) or not 0 < self.epsilon <= 1:
            raise InputError(
                f"expected epsilon in (0, 1], got {self.epsilon!r} (epsilon, --epsilon)"
            )

    def feasible(self, counts: Array) -> Array:
        return self.bias_measure.bias(counts) < self.epsilon

    def score(self, counts: Array) -> Array:
        good = np.nan_to_num(self.performance_measure(counts), nan=0.0)
        return np.where(self.feasible(counts), good, 0.0)

    def rank(self, counts: Array) -> Array:
        """Performance where the bound holds, minus the bias elsewhere: all below, least first."""
        bias = self.bias_measure.bias(counts)
        good = self.performance_measure(counts)
        good = np.where(np.isnan(good), 0.0, good)
        return np.where(bias < self.epsilon, good, np.where(np.isnan(bias), -np.inf, -bias))

    def to_dict(self) -> dict[str, Any]:
        return {
            "objective": "constrained",
            "measure": self.bias_measure.name,
            "epsilon": self.epsilon,
            "performance": self.performance_measure.name,
        }


@dataclass(frozen=True)
class Weighted(_Named):
    """Minimise lam * |bias| + (1 - lam) * (1 - performance).

    With lam = 0.75 and accuracy, the paper's setting, refusing everybody scores a quarter of the
    share of the rarer label: compare every result with the constant classifier.

    Args:
        measure: a measure's name, or a callable `(y, prediction, group) -> number`.
        lam: the weight of the bias, in [0, 1].
        performance: a performance measure's name.

    Raises:
        InputError: an unknown name, or lam outside [0, 1].

    Reference:
        Savani, White and Govindarajulu (2020), Post-hoc methods for debiasing neural networks,
        arXiv 2006.08564, Equation 1.
    """

    measure: MeasureLike
    lam: float = 0.75
    performance: str = "accuracy"
    maximise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.lam, int | float) or not 0 <= self.lam <= 1:
            raise InputError(f"expected lam in [0, 1], got {self.lam!r} (lam, --lam)")

    def feasible(self, counts: Array) -> Array:
        return ~np.isnan(self.bias_measure.bias(counts))

    def score(self, counts: Array) -> Array:
        good = np.nan_to_num(self.performance_measure(counts), nan=0.0)
        return np.asarray(self.lam * self.bias_measure.bias(counts) + (1 - self.lam) * (1 - good))

    def rank(self, counts: Array) -> Array:
        return -np.nan_to_num(self.score(counts), nan=np.inf)

    def to_dict(self) -> dict[str, Any]:
        return {
            "objective": "weighted",
            "measure": self.bias_measure.name,
            "lam": self.lam,
            "performance": self.performance_measure.name,
        }


def _check(objective: Constrained | Weighted) -> None:
    get(objective.measure)
    get_performance(objective.performance)
