"""What the script on the page computes with: counts by score, and the measures as data."""

from __future__ import annotations

from typing import Any

from retrofair import metrics
from retrofair.audit import Audit, ScoreCounts
from retrofair.metrics import LargestGap, Measure, Performance, Rate, RateRatio, SignedGap
from retrofair.metrics.intervals import LEVEL, quantile
from retrofair.report.impact import category_groups, z_of

SHOWN_RATES = tuple(rate for rate in metrics.rates.ALL if rate is not metrics.rates.BASE_RATE)


def live_values(found: Audit, scores: ScoreCounts, start: int) -> dict[str, Any]:
    """Counts, formulas and names, for every figure that follows from a threshold.

    Args:
        start: the edge at which the page opens.
    """
    groups = len(found.group_names)
    formulas = [_formula(measure, groups) for measure in metrics.ALL]
    return {
        "edges": scores.edges.tolist(),
        "counts": scores.counts.tolist(),
        "start": start,
        "audited": scores.threshold,
        "low": scores.low,
        "high": scores.high,
        "groups": list(found.group_names),
        "rates": [_rate(rate) for rate in SHOWN_RATES],
        "measures": [each for each in formulas if each is not None],
        "performances": [_performance(each) for each in metrics.performance.ALL],
        "z": quantile(LEVEL),
        "categories": [
            {
                "name": table.name,
                "groups": [list(each.groups) for each in table.categories],
                "z": z_of(table),
            }
            for table in category_groups(found)
        ],
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {"name": rate.name, "hits": rate.hits, "base": rate.base}


def _performance(each: Performance) -> dict[str, Any]:
    return {"name": each.name, "rates": [_rate(rate) for rate in each.rates]}


def _formula(measure: Measure, groups: int) -> dict[str, Any] | None:
    """A measure as data, with the quantile that its own interval takes; None for other kinds."""
    if isinstance(measure, SignedGap):
        kind, comparisons = "signed", groups - 1
    elif isinstance(measure, LargestGap):
        kind, comparisons = "largest", groups * (groups - 1) // 2 * len(measure.rates)
    elif isinstance(measure, RateRatio):
        kind = "worst ratio" if measure.worst else "ratio"
        pairs = groups * (groups - 1) // 2 if measure.worst else groups - 1
        comparisons = pairs * len(measure.rates)
    else:
        return None
    return {
        "name": measure.name,
        "kind": kind,
        "rates": [_rate(rate) for rate in measure.rates],
        "z": quantile(LEVEL, comparisons),
    }


def start_edge(scores: ScoreCounts) -> int:
    """The edge of the audited threshold; without one that nearest to the middle."""
    wanted = (scores.low + scores.high) / 2 if scores.threshold is None else scores.threshold
    return int(abs(scores.edges - wanted).argmin())
