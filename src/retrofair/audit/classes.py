"""The audit of three classes or more: each class against the rest, and the worst of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrofair import metrics
from retrofair.audit.estimates import (
    LEVEL,
    Further,
    all_measures,
    measured,
    performed,
    rates_of,
    wide_flag,
)
from retrofair.audit.found import Audit, Estimate
from retrofair.debiasers.base import RARE
from retrofair.metrics import Array, Measure, WorstClass
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.metrics.rates import CORRECT, SELECTION


def audit_classes(
    counts: Array,
    names: tuple[str, ...],
    class_names: Sequence[str],
    measures: Sequence[Further],
) -> Audit:
    """Audit counts (G, K, K) by group, label and prediction; the groups were checked.

    The value of a measure is that of the worst class, which its note names, and its interval holds
    for the largest over all classes.

    Raises:
        InputError: names that are not different, or two measures of one name.
    """
    labels = metrics.checked_names(class_names, counts.shape[-1])
    seen = metrics.one_vs_rest(counts)
    estimates, classes = {}, {label: _by_group(seen[k], names) for k, label in enumerate(labels)}
    for measure in all_measures(measures):
        estimates[measure.name] = _worst(metrics.of_classes(measure), counts, labels)
        if not isinstance(measure, metrics.CallableMeasure):
            for k, label in enumerate(labels):
                classes[label][measure.name] = measured(measure, seen[k])
    for known in metrics.performance.ALL:
        estimates[known.name] = performed(metrics.performance_of_classes(known), counts)
    return Audit(
        estimates=estimates,
        groups={
            name: _of_group(counts[position], seen[:, position], labels)
            for position, name in enumerate(names)
        },
        counts=counts,
        group_names=names,
        flags=tuple(_flags(counts, names, labels, estimates)),
        class_names=labels,
        classes=classes,
    )


def _worst(measure: Measure, counts: Array, labels: tuple[str, ...]) -> Estimate:
    worst = measure.worst(counts) if isinstance(measure, WorstClass) else None
    return measured(measure, counts, "" if worst is None else f"worst class: {labels[worst]}")


def _rate(rate: metrics.Rate, counts: Array, name: str) -> Estimate:
    hits, base = rate.parts(counts)
    low, high = metrics.wilson(hits, base, metrics.intervals.quantile(LEVEL))
    value = float(metrics.rates.divide(hits, base))
    return Estimate(name, value, float(low), float(high), "rate", rate.meaning)


def _by_group(seen: Array, names: tuple[str, ...]) -> dict[str, Estimate]:
    """How often a class is decided for, in each group."""
    found = {}
    for name, counts in zip(names, seen, strict=True):
        label = f"{SELECTION.name}[{name}]"
        found[label] = _rate(SELECTION, counts, label)
    return found


def _of_group(counts: Array, seen: Array, labels: tuple[str, ...]) -> dict[str, Estimate]:
    """The accuracy of a group, and its rates for each class."""
    right, total = int(np.trace(counts)), int(counts.sum())
    both = np.array([[right, total - right], [0, 0]])
    found = {CORRECT.name: _rate(CORRECT, both, CORRECT.name)}
    for label, of_class in zip(labels, seen, strict=True):
        for rate in rates_of(of_class).values():
            name = f"{rate.name}[{label}]"
            found[name] = Estimate(name, rate.value, rate.low, rate.high, "rate", rate.meaning)
    return found


def _flags(
    counts: Array,
    names: tuple[str, ...],
    labels: tuple[str, ...],
    estimates: dict[str, Estimate],
) -> Iterator[str]:
    total = int(counts.sum())
    decided = counts.sum(axis=(0, 1))
    most = int(decided.argmax())
    if total - decided[most] < RARE * total:
        yield (
            f"Degenerate: {int(decided[most]):,} of {total:,} rows are decided {labels[most]!r}. "
            "A constant classifier is fair by most measures and useless."
        )
    else:
        never = [repr(label) for label, n in zip(labels, decided, strict=True) if not n]
        if never:
            yield f"No row is decided {' or '.join(never)}: the network knows fewer classes."
    for name, rows in zip(names, counts.sum(axis=2), strict=True):
        few = [f"{n:,} of {x!r}" for x, n in zip(labels, rows, strict=True) if n < FEW_ROWS]
        if not rows.sum():
            yield f"Group {name!r} has no row: its rates are undefined."
        elif few:
            yield (
                f"Too little data in group {name!r}: rows labelled {', '.join(few)}; rates given "
                "the label are unreliable."
            )
    yield from wide_flag(estimates)
    impact = estimates["disparate_impact"]
    if impact.high < 0.8:
        yield (
            f"Four-fifths rule: a selection rate is {impact.value:.2f} of the privileged group's "
            f"({impact.note}), below 0.8 beyond sampling error."
        )
