"""Measuring effects on three classes and more: each class against the rest; see `compare`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers.effects import Effects, GroupAuc, MeasureChange, RateChange, compared_by
from retrofair.metrics import Array, Measure, Rate, paired
from retrofair.metrics.rates import CORRECT, FPR, PPV, SELECTION, TPR

RATES = (SELECTION, TPR, FPR, PPV)  # of each class; accuracy is of all
AUC_ROWS, AUC_NUMBERS = 100_000, 2_000_000  # a sample of rows tells an area well enough
FEWEST_ROWS = 5_000
MOST_CELLS = 10_000_000  # of a table by group, label, decision before and after


def effects_of_classes(
    measure: Measure,
    data: Batches,
    *,
    scores: tuple[Array, Array],
    decisions: tuple[Array, Array],
    group_chances: Array | None,
    rows_seen: bool,
    needs_group: bool,
    classes: Sequence[str],
) -> Effects:
    """Effects from scores (n, K) and decisions (n,), before and after.

    Args:
        measure: for counts (..., G, K, K).
        group_chances: (n, G), what the method itself thinks of each row's group.
        classes: a name for each.
    """
    y, names, group = data.y.numpy(), tuple(data.group_names), data.group.numpy()
    return Effects(
        measure=measure.name,
        compared=compared_by(measure),
        rates=_rates(y, decisions, group, names, classes),
        measures=_measures(y, decisions, group, (len(names), len(classes)), measure),
        group_auc=_group_aucs(scores, group_chances, group, names, classes),
        rows_seen=rows_seen,
        needs_group=needs_group,
        classes=tuple(classes),
    )


def _rates(
    y: Array,
    decisions: tuple[Array, Array],
    group: Array,
    names: tuple[str, ...],
    classes: Sequence[str],
) -> tuple[RateChange, ...]:
    z = metrics.intervals.quantile(metrics.LEVEL, len(names) * len(classes))
    of_group = metrics.intervals.quantile(metrics.LEVEL, len(names))
    before, after = decisions
    right = paired.count_pairs(np.ones_like(y), before == y, after == y, group, len(names))
    found = list(changes_of(CORRECT, right, names, of_group))
    for k, label in enumerate(classes):
        pairs = paired.count_pairs(y == k, before == k, after == k, group, len(names))
        for rate in RATES:
            found += changes_of(rate, pairs, names, z, label)
    return tuple(sorted(found, key=lambda each: names.index(each.group)))


def changes_of(
    rate: Rate,
    pairs: Array,
    names: tuple[str, ...],
    z: float,
    label: str = "",
    favourable: int = 1,
) -> Iterator[RateChange]:
    """Of every group, from pairs (G, 2, 2, 2)."""
    before, after = pairs.sum(axis=-1), pairs.sum(axis=-2)
    change, (low, high) = paired.changes(rate, pairs, z)
    rows = np.minimum(rate.parts(before)[1], rate.parts(after)[1])
    columns = np.stack([rate(before), rate(after), change, low, high], axis=1).tolist()
    for name, (was, now, moved, least, most), n in zip(names, columns, rows, strict=True):
        numbers = (was, now, moved, least, most, int(n))
        yield RateChange(name, rate.name, *numbers, favourable, label)


def _measures(
    y: Array,
    decisions: tuple[Array, Array],
    group: Array,
    shape: tuple[int, int],
    own: Measure,
) -> tuple[MeasureChange, ...]:
    was, now = (metrics.count_classes(y, decided, group, *shape) for decided in decisions)
    pairs = None
    if shape[0] * shape[1] ** 3 <= MOST_CELLS:
        pairs = paired.count_class_pairs(y, *decisions, group, *shape)
    known: list[Measure] = [metrics.of_classes(each) for each in metrics.ALL]
    known = known if own in known else [own, *known]
    return tuple(MeasureChange.of(measure, was, now, pairs) for measure in known)


def _group_aucs(
    scores: tuple[Array, Array],
    group_chances: Array | None,
    group: Array,
    names: tuple[str, ...],
    classes: Sequence[str],
) -> tuple[GroupAuc, ...]:
    most = max(FEWEST_ROWS, min(AUC_ROWS, AUC_NUMBERS // (len(names) * len(classes))))
    rows = np.arange(len(group))
    if len(rows) > most:
        rows = np.random.default_rng(0).choice(len(rows), most, replace=False)
    level = 1 - (1 - metrics.LEVEL) / len(classes)
    found = []
    for code, name in enumerate(names):
        inside = (group[rows] == code).astype(np.int64)
        for of, values in zip(("score_before", "score_after"), scores, strict=True):
            for k, label in enumerate(classes):
                area = metrics.auc(values[rows, k], inside, level)
                found.append(GroupAuc(of, name, *area, label=label))
        if group_chances is not None:
            area = metrics.auc(group_chances[rows, code], inside)
            found.append(GroupAuc("inner_estimate", name, *area))
    return tuple(found)
