"""Fairness and performance measures, all computed from counts.

Adding one is a line in `ALL` (or in `performance.ALL`): an object with a `name`, a `meaning`, a
value and a bias of counts (..., G, 2, 2), and an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from retrofair.errors import InputError, unknown
from retrofair.metrics import performance, rates
from retrofair.metrics.cost import CostMatrix
from retrofair.metrics.counts import Array, collapse, count
from retrofair.metrics.from_callable import CallableMeasure
from retrofair.metrics.gaps import LargestGap, SignedGap
from retrofair.metrics.intervals import LEVEL, auc, wilson
from retrofair.metrics.one_vs_rest import (
    WorstClass,
    checked_names,
    class_count,
    count_classes,
    of_classes,
    one_vs_rest,
    performance_of_classes,
)
from retrofair.metrics.performance import Performance
from retrofair.metrics.rates import CORRECT, FPR, PPV, SELECTION, TPR, Rate
from retrofair.metrics.ratios import RateRatio
from retrofair.metrics.several import Several, each_of


@runtime_checkable
class Measure(Protocol):
    """A measure of bias: 0 bias is fair; `value` is what people quote, `bias` is never negative."""

    @property
    def name(self) -> str: ...
    @property
    def meaning(self) -> str: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...
    @property
    def ideal(self) -> float: ...
    def __call__(self, counts: Array) -> Array: ...
    def bias(self, counts: Array) -> Array: ...
    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]: ...


PerformanceMeasure = Performance | CostMatrix

SPD = SignedGap(
    "spd",
    "statistical parity difference: selection rate, unprivileged minus privileged",
    (SELECTION,),
    aliases=("statistical_parity_difference",),
)
EOD = SignedGap(
    "eod",
    "equal opportunity difference: true positive rate, unprivileged minus privileged",
    (TPR,),
)
AOD = SignedGap(
    "aod",
    "average odds difference: mean of true and false positive rates, unprivileged minus privileged",
    (FPR, TPR),
    aliases=("average_odds_difference",),
)
DISPARATE_IMPACT = RateRatio(
    "disparate_impact",
    "selection rate, unprivileged over privileged (four-fifths rule: at least 0.8)",
    (SELECTION,),
    aliases=("disparate_impact_ratio",),
)
DEMOGRAPHIC_PARITY_DIFFERENCE = LargestGap(
    "demographic_parity_difference", "largest difference of selection rates", (SELECTION,)
)
DEMOGRAPHIC_PARITY_RATIO = RateRatio(
    "demographic_parity_ratio", "smallest selection rate over the largest", (SELECTION,), worst=True
)
EQUAL_OPPORTUNITY_DIFFERENCE = LargestGap(
    "equal_opportunity_difference",
    "largest difference of true positive rates",
    (TPR,),
    aliases=("true_positive_rate_difference",),
)
FALSE_POSITIVE_RATE_DIFFERENCE = LargestGap(
    "false_positive_rate_difference", "largest difference of false positive rates", (FPR,)
)
EQUALIZED_ODDS_DIFFERENCE = LargestGap(
    "equalized_odds_difference",
    "the larger of the differences of true and of false positive rates",
    (TPR, FPR),
)
EQUALIZED_ODDS_RATIO = RateRatio(
    "equalized_odds_ratio",
    "the smaller of the ratios of true and of false positive rates",
    (TPR, FPR),
    worst=True,
)
ACCURACY_DIFFERENCE = LargestGap(
    "accuracy_difference", "largest difference of accuracies", (CORRECT,)
)
PREDICTIVE_PARITY_DIFFERENCE = LargestGap(
    "predictive_parity_difference", "largest difference of precisions", (PPV,)
)

ALL: tuple[Measure, ...] = (
    SPD,
    EOD,
    AOD,
    DISPARATE_IMPACT,
    DEMOGRAPHIC_PARITY_DIFFERENCE,
    DEMOGRAPHIC_PARITY_RATIO,
    EQUAL_OPPORTUNITY_DIFFERENCE,
    FALSE_POSITIVE_RATE_DIFFERENCE,
    EQUALIZED_ODDS_DIFFERENCE,
    EQUALIZED_ODDS_RATIO,
    ACCURACY_DIFFERENCE,
    PREDICTIVE_PARITY_DIFFERENCE,
)


def get(measure: str | Callable[..., Any] | Measure) -> Measure:
    """The measure of a name, an alias, or a callable `(y, prediction, group) -> number`.

    Raises:
        InputError: there is none of that name.

    >>> get("statistical_parity_difference").name
    'spd'
    """
    if isinstance(measure, str):
        for known in ALL:
            if measure in (known.name, *known.aliases):
                return known
        raise unknown("measure", measure, [known.name for known in ALL])
    if isinstance(measure, PerformanceMeasure):
        raise InputError(f"expected a measure of bias, got the performance {measure.name}")
    if isinstance(measure, Measure):
        return measure
    if callable(measure):
        return CallableMeasure(measure)
    raise InputError(f"expected a measure's name or a callable, got {type(measure).__name__}")


def get_performance(name: str | PerformanceMeasure) -> PerformanceMeasure:
    """The performance measure of a name.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(name, PerformanceMeasure):
        return name
    for known in performance.ALL:
        if name in (known.name, *known.aliases):
            return known
    raise unknown("performance", name, [known.name for known in performance.ALL])


def require(measure: Measure, counts: Array, names: tuple[str, ...]) -> None:
    """Check that a measure has a value on data with these counts (predictions do not matter).

    Raises:
        InputError: fewer than two groups (or not the privileged one) have the rows it compares.
    """
    if isinstance(measure, Several):
        for each in measure.measures:
            require(each, counts, names)
        return
    if counts.shape[-1] > 2:
        _require_a_class(measure, counts, names)
        return
    rates = getattr(measure, "rates", (SELECTION,))
    rates = [rate for rate in rates if rate.condition != "predicted positives"]
    averaged = isinstance(measure, SignedGap)  # then a group needs the rows of all its rates
    against_last = averaged or not getattr(measure, "worst", True)
    for together in [rates] if averaged and rates else [[rate] for rate in rates]:
        base = np.min([rate.parts(counts)[1] for rate in together], axis=0)
        condition = " and ".join(rate.condition for rate in together)
        filled = [name for name, n in zip(names, base, strict=True) if n > 0]
        if len(filled) < 2 or (against_last and base[-1] == 0):
            wanted = "two groups" + (f", {names[-1]!r} among them," if against_last else "")
            raise InputError(
                f"{measure.name} compares groups by their {condition}: expected at least "
                f"{wanted} with {condition}, got {filled or 'none'} of {list(names)}"
            )


def _require_a_class(measure: Measure, counts: Array, names: tuple[str, ...]) -> None:
    """One class with a value is enough: the others are left out."""
    of_two = measure.measure if isinstance(measure, WorstClass) else measure
    errors = []
    for seen in one_vs_rest(counts):
        try:
            return require(of_two, seen, names)
        except InputError as error:
            errors.append(error)
    raise errors[0]


__all__ = [
    "ALL",
    "LEVEL",
    "Array",
    "CallableMeasure",
    "CostMatrix",
    "LargestGap",
    "Measure",
    "Performance",
    "PerformanceMeasure",
    "Rate",
    "RateRatio",
    "Several",
    "SignedGap",
    "WorstClass",
    "auc",
    "checked_names",
    "class_count",
    "collapse",
    "count",
    "count_classes",
    "each_of",
    "get",
    "get_performance",
    "of_classes",
    "one_vs_rest",
    "performance",
    "performance_of_classes",
    "rates",
    "require",
    "wilson",
]
