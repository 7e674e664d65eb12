"""What to know before a result of three classes or more is used; see `notes`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers.base import RARE
from retrofair.debiasers.offsets import OffsetSearch
from retrofair.metrics import (
    Array,
    CallableMeasure,
    Measure,
    Rate,
    Several,
    WorstClass,
    each_of,
    one_vs_rest,
)
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.objective import Constrained, Objective

CONDITIONS = {"positives": "of class", "negatives": "of other classes than"}
SHOWN = 5  # classes of a group that are named


def notes_of_classes(
    objective: Objective, data: Batches, scores: Array, after: Array, kept: bool, method: str
) -> tuple[str, ...]:
    """Whole sentences; classes are named by their codes.

    Args:
        objective: for counts (..., G, K, K).
        scores: (n, K) log-probabilities of the network that was debiased.
        after: (G, K, K) counts of the result.
        kept: whether the result keeps the bound and is no constant.
        method: the name of the one that was used.
    """
    found = list(_small_groups(objective.bias_measure, after, tuple(data.group_names)))
    if not kept and isinstance(objective, Constrained):
        found += _out_of_reach(objective, data, scores, method)
    return tuple(found)


# --- groups too small -----------------------------------------------------------------------------


def _small_groups(measure: Measure, counts: Array, names: tuple[str, ...]) -> Iterator[str]:
    two = [each.measure for each in each_of(measure) if isinstance(each, WorstClass)]
    rates = list(dict.fromkeys(rate for each in two for rate in getattr(each, "rates", ())))
    seen = one_vs_rest(counts)
    for condition in dict.fromkeys(rate.condition for rate in rates):
        of = [rate for rate in rates if rate.condition == condition]
        if condition == "rows":
            yield from _of_rows(of, seen, names)
        elif condition in CONDITIONS:  # predicted rows are no fact of the data
            yield from _of_labelled(of, seen, names)


def _of_rows(rates: list[Rate], seen: Array, names: tuple[str, ...]) -> Iterator[str]:
    said = _said(rates)
    for g, name in enumerate(names):
        n = int(seen[0, g].sum())
        if n == 0:
            yield f"group {name!r} has no rows: its {said} is not looked at"
        elif n < FEW_ROWS:
            widest = max(_half_width(rate, of_class[g]) for rate in rates for of_class in seen)
            yield (
                f"group {name!r} has only {n} rows: sampling error alone moves its {said} for a "
                f"class by up to {widest:.2f} (95 %)"
            )


def _of_labelled(rates: list[Rate], seen: Array, names: tuple[str, ...]) -> Iterator[str]:
    """Of rates given the label: which classes have too few rows, all of a group in one sentence."""
    said, which = _said(rates), CONDITIONS[rates[0].condition]
    base = rates[0].parts(seen)[1]  # (K, G)
    for g, name in enumerate(names):
        none = [str(k) for k in np.flatnonzero(base[:, g] == 0)]
        few = [int(k) for k in np.flatnonzero((base[:, g] > 0) & (base[:, g] < FEW_ROWS))]
        if none:
            yield f"group {name!r} has no rows {which} {_listed(none)}: its {said} is not looked at"
        if few:
            rows = [f"{base[k, g]} {'row' if base[k, g] == 1 else 'rows'} {which} {k}" for k in few]
            widest = max(_half_width(rate, seen[k, g]) for rate in rates for k in few)
            yield (
                f"group {name!r} has only {_listed(rows)}: sampling error alone moves its {said} "
                f"by up to {widest:.2f} (95 %)"
            )


def _half_width(rate: Rate, counts: Array) -> float:
    hits, base = rate.parts(counts[None])
    low, high = metrics.wilson(hits, base, metrics.intervals.quantile(metrics.LEVEL))
    return float((high - low)[0] / 2)


def _said(rates: list[Rate]) -> str:
    return " and ".join(rate.name.replace("_", " ") for rate in rates)


def _listed(names: list[str]) -> str:
    if len(names) > SHOWN:
        return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# --- bounds that were not kept --------------------------------------------------------------------


def _out_of_reach(
    objective: Constrained, data: Batches, scores: Array, method: str
) -> Iterator[str]:
    """Whether offsets were found that keep the bound, all constraints and each alone."""
    measure = objective.bias_measure
    if any(isinstance(each, CallableMeasure) for each in each_of(measure)):
        return
    good = objective.performance_measure.name.replace("_", " ")
    together = _reached(objective, data, scores)
    if together is not None:
        yield f"offsets alone would keep the bound, with {good} {together:.3f}: try threshold"
        return
    bounds = measure.bounds if isinstance(measure, Several) else (objective.epsilon,)
    pairs = list(zip(each_of(measure), bounds, strict=True))
    said = " and ".join(f"{each.name} < {bound:g}" for each, bound in pairs)
    text = (
        f"no offsets were found that keep {said}{' together' if len(pairs) > 1 else ''} on this "
        "network's scores and do better than a constant classifier, which is what is left of them"
    )
    if len(pairs) > 1:
        text += f"; alone, {', '.join(_alone(objective, data, scores, *pair) for pair in pairs)}"
    more = ", or try fair_head, which does more than offsets" if method == "threshold" else ""
    yield f"{text}. Loosen a bound{more}"


def _alone(
    objective: Constrained, data: Batches, scores: Array, measure: Measure, bound: float
) -> str:
    one = Constrained(measure, epsilon=bound, performance=objective.performance)
    reached = _reached(one, data, scores)
    return f"for {measure.name} {'none were' if reached is None else f'some were ({reached:.3f})'}"


def _reached(objective: Constrained, data: Batches, scores: Array) -> float | None:
    """The performance of the best offsets found; None where these keep the bound only by deciding
    alike for (almost) all, or are no better than that."""
    y, group, classes = data.y.numpy(), data.group.numpy(), scores.shape[1]
    search = OffsetSearch(y, group, len(data.group_names), classes, objective)
    best = search.best(scores)
    alike = float(best.counts.sum(axis=(0, 1)).max()) / float(best.counts.sum())
    if not bool(objective.feasible(best.counts)) or 1 - alike < RARE:
        return None
    if best.rank <= search.constant().rank:
        return None
    return float(np.asarray(objective.performance_measure(best.counts)))
