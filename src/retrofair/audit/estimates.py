"""Estimates from counts: measures, performances and rates, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from retrofair import metrics
from retrofair.audit.found import Estimate
from retrofair.errors import InputError
from retrofair.metrics import Array, CostMatrix, Measure, PerformanceMeasure

LEVEL = metrics.LEVEL
WIDE = 0.1


Further = Callable[..., Any] | Measure | CostMatrix


def all_performances(measures: Sequence[Further]) -> Iterator[PerformanceMeasure]:
    """The known performances, then the caller's costs."""
    yield from metrics.performance.ALL
    yield from (each for each in measures if isinstance(each, CostMatrix))


def all_measures(measures: Sequence[Further]) -> Iterator[Measure]:
    """The known measures, then the caller's own.

    Raises:
        InputError: two of one name.
    """
    yield from metrics.ALL
    taken = {known.name for known in metrics.ALL}
    taken |= {known.name for known in metrics.performance.ALL} | {"roc_auc"}
    for measure in (metrics.get(m) for m in measures if not isinstance(m, CostMatrix)):
        if measure.name in taken and measure not in metrics.ALL:
            raise InputError(
                f"expected a measure with a name of its own, got another {measure.name!r}: "
                "rename the function"
            )
        taken.add(measure.name)
        yield measure


def measured(measure: Measure, counts: Array, note: str = "") -> Estimate:
    """A measure's value with its interval."""
    value = float(measure(counts))
    low, high = measure.interval(counts)
    if math.isnan(value):
        note = "needs two groups, the privileged one among them, with rows of the kind it compares"
        low = high = math.nan
    return Estimate(measure.name, value, low, high, "bias", measure.meaning, measure.ideal, note)


def performed(performance: PerformanceMeasure, counts: Array) -> Estimate:
    """A performance with its interval."""
    low, high = performance.interval(counts)
    value = float(performance(counts))
    note = "" if not math.isnan(value) else "no row of the kind it counts"
    return Estimate(
        performance.name, value, low, high, "performance", performance.meaning, 1.0, note
    )


def rates_of(counts: Array) -> dict[str, Estimate]:
    """All rates of counts (2, 2), with Wilson's intervals."""
    z = metrics.intervals.quantile(LEVEL)
    found = {}
    for rate in metrics.rates.ALL:
        hits, base = rate.parts(counts)
        low, high = metrics.wilson(hits, base, z)
        value = float(metrics.rates.divide(hits, base))
        found[rate.name] = Estimate(rate.name, value, float(low), float(high), "rate", rate.meaning)
    return found


def wide_flag(estimates: dict[str, Estimate]) -> Iterator[str]:
    """What to say of intervals that are too wide to tell."""
    wide = [
        e.name
        for e in estimates.values()
        if e.name in ("spd", "eod", "aod") and e.high - e.low > 2 * WIDE
    ]
    if wide:
        yield (
            f"The intervals of {', '.join(wide)} are wider than +-{WIDE}: these data cannot tell "
            "a fair network from an unfair one."
        )
