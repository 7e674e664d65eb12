"""What to know before a result is used: groups too small, and constraints that cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers.base import RARE, search
from retrofair.debiasers.group_thresholds import best_thresholds, exact
from retrofair.metrics import Array, CallableMeasure, Measure, Rate, Several, each_of
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.objective import Constrained, Objective

LABELS = {"positives": 1, "negatives": 0}


def notes_of(
    objective: Objective, data: Batches, chance: Array, after: Array, kept: bool
) -> tuple[str, ...]:
    """Whole sentences.

    Args:
        chance: (n,) the probabilities of the network that was debiased.
        after: (G, 2, 2) counts of the result.
        kept: whether the result keeps the bound and is no constant.
    """
    found = list(_small_groups(objective.bias_measure, after, tuple(data.group_names)))
    if not kept and isinstance(objective, Constrained):
        found += _out_of_reach(objective, data, chance)
    return tuple(found)


def _small_groups(measure: Measure, counts: Array, names: tuple[str, ...]) -> Iterator[str]:
    rates = list(dict.fromkeys(r for each in each_of(measure) for r in getattr(each, "rates", ())))
    rates = [rate for rate in rates if rate.condition != "predicted positives"]
    z = metrics.intervals.quantile(metrics.LEVEL)
    for condition in dict.fromkeys(rate.condition for rate in rates):
        of = [rate for rate in rates if rate.condition == condition]
        said = " and ".join(rate.name.replace("_", " ") for rate in of)
        _, base = of[0].parts(counts)
        for g, name in enumerate(names):
            n = int(base[g])
            if n == 0:
                rows = "rows" if condition == "rows" else f"rows of label {LABELS[condition]}"
                yield f"group {name!r} has no {rows}: its {said} is not looked at"
            elif n < FEW_ROWS:
                widest = max(_width(rate, counts[g], z) for rate in of)
                rows = "rows" if condition == "rows" else f"rows of label {LABELS[condition]}"
                yield (
                    f"group {name!r} has only {n} {rows}: sampling error leaves its {said} open "
                    f"by {widest:.2f} (the width of the 95 % interval)"
                )


def _width(rate: Rate, counts: Array, z: float) -> float:
    hits, base = rate.parts(counts[None])
    low, high = metrics.wilson(hits, base, z)
    return float((high - low)[0])


def _out_of_reach(objective: Constrained, data: Batches, chance: Array) -> Iterator[str]:
    """Whether even thresholds told the group keep the bound, all constraints and each alone."""
    measure = objective.bias_measure
    if any(isinstance(each, CallableMeasure) for each in each_of(measure)):
        return
    together = _reached(objective, data, chance)
    if together is not None:
        yield (
            "thresholds told each row's group would keep the bound, with "
            f"{objective.performance_measure.name.replace('_', ' ')} {together:.3f}: try another "
            "method"
        )
        return
    bounds = measure.bounds if isinstance(measure, Several) else (objective.epsilon,)
    alone, said = [], []
    for each, bound in zip(each_of(measure), bounds, strict=True):
        reached = _reached(
            Constrained(each, epsilon=bound, performance=objective.performance), data, chance
        )
        said.append(f"{each.name} < {bound:g}")
        alone.append(f"{each.name} {'cannot' if reached is None else f'can ({reached:.3f})'}")
    both = " together" if len(said) > 1 else ""
    if exact(objective, len(data.group_names)):
        text = f"{' and '.join(said)} cannot be kept{both} by thresholds on this network's score"
        text += ", even of each group: a constant classifier is the only answer"
    else:  # the search may have missed some
        text = f"no thresholds on this network's score were found that keep {' and '.join(said)}"
        text += f"{both}, even of each group: a constant classifier is the only answer left"
    if len(said) > 1:
        text += f"; alone, {', '.join(alone)}"
    yield text + ". Loosen a bound, or try fair_head, which reads more than the score"


def _reached(objective: Constrained, data: Batches, chance: Array) -> float | None:
    """The performance of the best thresholds by group; None where they keep the bound only by
    deciding alike for (almost) all, or are no better than that."""
    y, group = data.y.numpy(), data.group.numpy()
    _, counts = best_thresholds(chance, y, group, len(data.group_names), objective)
    positive = float(counts[..., 1].sum()) / float(counts.sum())
    constant = search(data, objective).constant().rank
    if not bool(objective.feasible(counts)) or min(positive, 1 - positive) < RARE:
        return None
    if float(objective.rank(counts)) <= constant:
        return None
    return float(np.asarray(objective.performance_measure(counts)))
