"""Measuring effects: decisions before and after on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from retrofair import metrics
from retrofair.data import Batches, label_names_of
from retrofair.data.grouped import check_favourable
from retrofair.data.label_names import same_in
from retrofair.debiasers.effects import (
    Aim,
    Effects,
    GroupAuc,
    MeasureChange,
    RateChange,
    compared_by,
)
from retrofair.debiasers.effects_of_classes import changes_of, effects_of_classes
from retrofair.debiasers.head import HeadedNetwork
from retrofair.debiasers.result import Debiased
from retrofair.debiasers.rules import classes_of
from retrofair.errors import InputError
from retrofair.metrics import Array, Measure, paired
from retrofair.metrics.rates import BASE_RATE
from retrofair.networks.logits import as_logits
from retrofair.networks.outputs import Outputs, chances, columns, probabilities
from retrofair.objective import Constrained, MeasureLike

AUC_ROWS = 100_000  # beyond these a sample of them tells an area well enough


def compare(
    before: Debiased | nn.Module,
    after: Debiased | nn.Module,
    data: Batches,
    *,
    measure: MeasureLike | None = None,
    outputs: Outputs | None = None,
    favourable: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Effects:
    """What the one does that the other did not, on any data, such as test data.

    Args:
        before, after: results of `debias`, with their own decision rules, or networks, at
            threshold 0.5, with K > 2 classes at the most probable one. Usually the network and its
            debiased result.
        measure: of the bias that was to be lowered; without it, the one of the result `after`,
            or "spd" where it has none that is known by name.
        outputs: of networks: "logits" or "probabilities" (see `debias`).
        favourable: the label that is good for a person, 1 or 0: by it groups are said to gain or
            lose. None: 0 where the data (`data.favourable`) or the effects of a result say so, as
            those of COMPAS do, otherwise 1. Of classes none is.
        class_names: with three classes or more, a name for each; without them, their codes.

    Raises:
        InputError: data without rows, labels that are no classes of a result or a network, another
            number of class names, other groups than the result's, or another `favourable` than 0
            and 1.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", sensitive="sex", n=900, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=2, max_epochs=3)
        >>> goal = rf.Constrained("spd", epsilon=0.05)
        >>> result = rf.debias(net, splits.valid, goal, "group_thresholds")
        >>> effects = compare(net, result, splits.test)
        >>> effects.compared
        ('selection_rate',)
    """
    if not isinstance(data, Batches):
        raise InputError(f"expected GroupedData to compare on, got {type(data).__name__}")
    classes = _classes(before, after, data)
    labels = metrics.checked_names(class_names or (), classes)
    if measure is None:
        measure = _aimed_at(after.about) if isinstance(after, Debiased) else "spd"
    first, second = (_decided(each, data, outputs, classes) for each in (before, after))
    inner = None
    if isinstance(after, Debiased) and isinstance(after.model, HeadedNetwork):
        inner = after.model.group_chances(data)
    given: dict[str, Any] = {
        "scores": (first[0], second[0]),
        "decisions": (first[1], second[1]),
        "group_chances": inner,
        "rows_seen": False,
        "needs_group": isinstance(after, Debiased) and after.needs_group,
    }
    if classes == 2:
        good = favourable_of(favourable, data, after, before)
        return effects_of(metrics.get(measure), data, favourable=good, **given)
    of_worst = metrics.of_classes(metrics.get(measure))
    return effects_of_classes(of_worst, data, classes=labels, **given)


def _classes(before: Debiased | nn.Module, after: Debiased | nn.Module, data: Batches) -> int:
    """Of the labels, or of results or networks that know more than turn up in them.

    Raises:
        InputError: results of different numbers of classes, or labels beyond theirs.
    """
    labels = metrics.class_count(data.y.numpy())
    both = (before, after)
    known = [classes_of(each.rule) for each in both if isinstance(each, Debiased)]
    if len(set(known)) > 1:
        raise InputError(f"expected two results of as many classes, got {known[0]} and {known[1]}")
    if known and labels > known[0]:
        raise InputError(
            f"expected labels from 0 to {known[0] - 1}, which the result decides among, got "
            f"{labels - 1}"
        )
    if known or labels == 2:
        return known[0] if known else labels
    return max(labels, *(columns(each, data) for each in both if isinstance(each, nn.Module)))


def favourable_of(asked: int | None, data: Batches, *subjects: Any) -> int:
    """The label that is good for a person: as asked, or as the data or a result's effects say.

    Raises:
        InputError: neither 0 nor 1 is asked for.
    """
    if asked is not None:
        return check_favourable(asked)
    said = [each.effects for each in subjects if isinstance(each, Debiased)]
    found = [getattr(data, "favourable", 1), *(each.favourable for each in said if each)]
    return 0 if 0 in found else 1


def _aimed_at(about: dict[str, Any]) -> MeasureLike:
    """What a result was to lower, as far as names tell."""
    known = {each.name for each in metrics.ALL}
    pairs = about.get("constraints", [])
    if pairs and all(name in known for name, _ in pairs):
        return Constrained([(name, bound) for name, bound in pairs]).bias_measure
    return about["measure"] if about.get("measure") in known else "spd"


def check_coding(result: Debiased, data: Batches) -> None:
    """Refuse data whose groups are others, or in another order, than the result's, or whose labels
    of the same names are coded otherwise.

    Raises:
        InputError: they are; with the fix where only the privileged group differs.
    """
    _check_labels(result.about.get("label_names") or (), label_names_of(data))
    known, found = list(result.group_names), list(data.group_names)
    if known != found:
        hint = ""
        if sorted(known) == sorted(found):
            hint = f": the last one is privileged, name it with privileged={known[-1]!r}"
        raise InputError(f"expected data with the groups {known} of the result, got {found}{hint}")


def _check_labels(known: Sequence[str], found: Sequence[str]) -> None:
    read = same_in(known, found)
    codes = {read(name): code for code, name in enumerate(known)}
    if all(codes.get(read(name), code) == code for code, name in enumerate(found)):
        return
    hint = f"positive={known[1]!r} (--positive)"
    if len(known) > 2:
        hint = "dataclasses.replace(data, y=..., label_names=...) with the result's codes"
    listed = (
        ", ".join(f"{name} {code}" for code, name in enumerate(each)) for each in (known, found)
    )
    raise InputError("expected labels coded as the result's, {}, got {}: {}".format(*listed, hint))


def _decided(
    subject: Debiased | nn.Module, data: Batches, outputs: Outputs | None, classes: int
) -> tuple[Array, Array]:
    if not isinstance(subject, Debiased) and classes > 2:
        logged = chances(as_logits(subject, data, outputs, classes), data)
        return np.exp(logged), logged.argmax(1)
    if not isinstance(subject, Debiased):
        score = probabilities(as_logits(subject, data, outputs), data)
        return score, (score > 0.5).astype(np.int64)
    check_coding(subject, data)
    return subject.score_data(data)


def effects_of(
    measure: Measure,
    data: Batches,
    *,
    scores: tuple[Array, Array],
    decisions: tuple[Array, Array],
    group_chances: Array | None,
    rows_seen: bool,
    needs_group: bool,
    favourable: int = 1,
) -> Effects:
    """Effects from scores and decisions, (n,) each, before and after.

    Args:
        group_chances: (n, G), what the method itself thinks of each row's group.
        favourable: the label that is good for a person, 0 or 1.
    """
    names, group = tuple(data.group_names), data.group.numpy()
    pairs = paired.count_pairs(data.y.numpy(), *decisions, group, len(names))
    aims = tuple(Aim(m.name, compared_by(m, favourable)) for m in metrics.each_of(measure))
    return Effects(
        measure=measure.name,
        compared=tuple(dict.fromkeys(rate for aim in aims for rate in aim.compared)),
        rates=_rates(pairs, names, favourable),
        measures=_measures(pairs, measure),
        group_auc=_group_aucs(scores, group_chances, group, names),
        rows_seen=rows_seen,
        needs_group=needs_group,
        favourable=favourable,
        aims=aims,
    )


def _rates(pairs: Array, names: tuple[str, ...], favourable: int) -> tuple[RateChange, ...]:
    z = metrics.intervals.quantile(metrics.LEVEL, len(names))
    found: list[RateChange] = []
    for rate in metrics.rates.ALL:
        if rate is not BASE_RATE:  # labels stay
            found += changes_of(rate, pairs, names, z, favourable=favourable)
    # by group, as people read them
    return tuple(sorted(found, key=lambda each: names.index(each.group)))


def _measures(pairs: Array, own: Measure) -> tuple[MeasureChange, ...]:
    was, now = (pairs.sum(axis=axis) for axis in (-1, -2))
    # the joint measure of several, and a caller's own
    parts = metrics.each_of(own)
    mine = parts if len(parts) == 1 else (own, *parts)
    known = (*(each for each in mine if each not in metrics.ALL), *metrics.ALL)
    return tuple(MeasureChange.of(measure, was, now, pairs) for measure in known)


def _group_aucs(
    scores: tuple[Array, Array],
    group_chances: Array | None,
    group: Array,
    names: tuple[str, ...],
) -> tuple[GroupAuc, ...]:
    rows = np.arange(len(group))
    if len(rows) > AUC_ROWS:
        rows = np.random.default_rng(0).choice(len(rows), AUC_ROWS, replace=False)
    group = group[rows]
    known = {"score_before": scores[0][rows], "score_after": scores[1][rows]}
    found = []
    for code, name in enumerate(names):
        inside = (group == code).astype(np.int64)
        if group_chances is not None:
            known["inner_estimate"] = group_chances[rows, code]
        found += [GroupAuc(of, name, *metrics.auc(value, inside)) for of, value in known.items()]
    return tuple(found)
