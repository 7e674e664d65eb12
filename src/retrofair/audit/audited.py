"""Audit a network, a result or decisions: measures, rates by group, and flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from retrofair import metrics
from retrofair.audit.attributes import attributes_of, checked_attributes, outcome_of
from retrofair.audit.classes import audit_classes
from retrofair.audit.estimates import (
    Further,
    all_measures,
    all_performances,
    measured,
    performed,
    rates_of,
    wide_flag,
)
from retrofair.audit.found import Audit, Estimate
from retrofair.audit.scores import ScoreCounts
from retrofair.data import Batches
from retrofair.debiasers.base import RARE
from retrofair.debiasers.compare import check_coding
from retrofair.debiasers.result import Debiased
from retrofair.debiasers.rules import classes_of
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.networks.logits import as_logits
from retrofair.networks.outputs import Outputs, chances, columns, probabilities

MANY_GROUPS = 1_000


def audit(
    subject: Debiased | nn.Module,
    data: Batches,
    *,
    threshold: float | None = None,
    outputs: Outputs | None = None,
    measures: Sequence[Further] = (),
    class_names: Sequence[str] | None = None,
) -> Audit:
    """Audit a debiased result or a network.

    Args:
        subject: a result of `debias`, which brings its own decision rule, or a network.
        data: rows that were used neither for training nor for debiasing.
        threshold: for a network: a probability, 0.5 by default; positive means strictly above.
        outputs: for a network: "logits" or "probabilities" (see `debias`).
        measures: further measures, callables `(y, prediction, group) -> number`, measures such as
            an objective's `bias_measure`, or a `metrics.CostMatrix`.
        class_names: with three classes or more, a name for each; without them, their codes.

    A network of K > 2 classes, (n, ...) -> (n, K), decides for its most probable one, and labels
    are from 0 to K - 1. Every measure is then that of the worst class, one against the rest, with
    an interval that holds for all classes at once; `Audit.classes_frame` has each class.

    Raises:
        InputError: labels that are no classes of the network, fewer than two groups with rows, a
            threshold for a result or outside [0, 1], a network that does not fit.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=2, max_epochs=3)
        >>> report = audit(net, splits.test)
        >>> report["spd"].low <= report["spd"].value <= report["spd"].high
        True
    """
    if not isinstance(data, Batches):
        raise InputError(f"expected GroupedData to audit, got {type(data).__name__}")
    if isinstance(subject, Debiased):
        if threshold is not None:
            raise InputError("expected no threshold= with a result: it brings its own rule")
        check_coding(subject, data)
        if outputs is not None:
            raise InputError("expected no outputs= with a result: its network answers with logits")
        chance, decided = subject.score_data(data)
        classes = classes_of(subject.rule)
        used = None if subject.needs_group or classes > 2 else subject.threshold
    elif (classes := _classes(subject, data)) > 2:
        if threshold is not None:
            raise InputError(f"expected no threshold= with {classes} classes, got {threshold}")
        used = None
        chance = chances(as_logits(subject, data, outputs, classes), data)
        decided = chance.argmax(1)
    else:
        used = 0.5 if threshold is None else threshold
        if not isinstance(used, int | float) or not 0 <= used <= 1:
            raise InputError(f"expected a threshold in [0, 1], got {used} (--threshold)")
        chance = probabilities(as_logits(subject, data, outputs), data)
        decided = (chance > used).view(np.uint8)
    found = audit_predictions(
        data.y.numpy(),
        decided,
        data.group.numpy(),
        group_names=data.group_names,
        # rules that look at the group no longer decide by the score alone: it has no curve
        scores=None if used is None else chance,
        threshold=used,
        measures=measures,
        class_names=metrics.checked_names(class_names or (), classes),
        attributes=attributes_of(data),
    )
    return replace(found, outcome=outcome_of(data))


def _classes(network: Any, data: Batches) -> int:
    """Of the labels, or of a network that knows more than turn up in them."""
    labels = metrics.class_count(data.y.numpy())
    if labels == 2 or not isinstance(network, nn.Module):
        return labels
    return max(labels, columns(network, data))


def audit_predictions(
    y: Any,
    y_hat: Any,
    group: Any,
    *,
    group_names: Sequence[str] | None = None,
    scores: Any = None,
    threshold: float | None = None,
    measures: Sequence[Further] = (),
    class_names: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
) -> Audit:
    """Audit decisions that were made elsewhere.

    Args:
        y: (n,) labels 0/1, or for K > 2 classes from 0 to K - 1.
        y_hat: (n,) decisions of the same kind.
        group: (n,) integer codes; the last group is the privileged one.
        group_names: a name per code; without them, the codes.
        scores: (n,) scores, for the area under the ROC curve of labels 0/1, and for the counts of
            what other thresholds would decide.
        threshold: on the scores, by which the decisions were made; positive means strictly above.
        class_names: with three classes or more, a name for each; without them, their codes. They
            fix K, even where a class has no row.
        attributes: by protected column, the value of each group, such as {"sex": ("F", "F", "M",
            "M"), "race": ("B", "W", "B", "W")}: a report then shows them apart and together.

    Raises:
        InputError: other values, different lengths, fewer than two groups with rows, or two
            measures of one name.

    Example:
        >>> found = audit_predictions([1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1])
        >>> found["spd"].value
        -1.0
    """
    y, y_hat, group = (_array(values) for values in (y, y_hat, group))
    if not len(group):
        raise InputError("expected rows to audit, got none")
    names = _names(group, group_names)
    known = checked_attributes(attributes, names)
    classes = metrics.class_count(y)
    if class_names is not None:
        classes = len(metrics.checked_names(class_names, max(len(class_names), 2)))
    if classes > 2:
        counts = metrics.count_classes(y, y_hat, group, len(names), classes)
        if class_names is None and not counts[:, 0].any() and not counts[:, :, 0].any():
            raise InputError(
                f"expected labels that count the classes from 0, got {y.min():g} to {y.max():g}: "
                "encode them, or pass class_names= with a name for every class from 0"
            )
    else:
        counts = metrics.count(y, y_hat, group, len(names))
    filled = [name for name, n in zip(names, counts.sum(axis=(1, 2)), strict=True) if n]
    if len(filled) < 2:
        raise InputError(f"expected at least two groups with rows, got {filled} of {list(names)}")
    if classes > 2:
        if scores is not None:
            raise InputError(f"expected no scores= with {classes} classes: they have no one curve")
        found = audit_classes(counts, names, class_names or (), measures)
        return replace(found, attributes=known)
    found = audit_counts(counts, names, measures=measures, threshold=threshold)
    if scores is None:
        return replace(found, attributes=known)
    area, binned = _scored(scores, y, y_hat, group, found)
    estimates = {**found.estimates, "roc_auc": area}
    return replace(found, estimates=estimates, scores=binned, attributes=known)


def audit_counts(
    counts: Array,
    names: tuple[str, ...],
    *,
    measures: Sequence[Further] = (),
    threshold: float | None = None,
) -> Audit:
    """The audit of counts (G, 2, 2) by group, label and decision; the groups were checked."""
    estimates = {each.name: measured(each, counts) for each in all_measures(measures)}
    estimates |= {each.name: performed(each, counts) for each in all_performances(measures)}
    return Audit(
        estimates=estimates,
        groups={name: rates_of(counts[position]) for position, name in enumerate(names)},
        counts=counts,
        group_names=names,
        flags=tuple(_flags(counts, names, estimates)),
        threshold=threshold,
    )


def _scored(
    scores: Any, y: Array, y_hat: Array, group: Array, found: Audit
) -> tuple[Estimate, ScoreCounts | None]:
    """The area under the ROC curve, and the counts by score."""
    scores = np.asarray(scores).reshape(-1)
    if len(scores) != len(y) or scores.dtype.kind not in "iufb" or np.isnan(scores).any():
        raise InputError(
            f"expected {len(y):,} scores without NaN, got {len(scores):,} of {scores.dtype}"
        )
    meaning = "area under the ROC curve"
    area = Estimate("roc_auc", *metrics.auc(scores, y), "performance", meaning, 1.0)
    if not np.isfinite(scores).all():
        return area, None  # an infinite score has no place on an axis
    cut = found.threshold
    if cut is not None and (np.asarray(scores > cut) != (y_hat == 1)).any():
        cut = None
    n_groups = len(found.group_names)
    return area, ScoreCounts.of(scores.astype(float), y, group, n_groups, threshold=cut)


def _names(group: Array, names: Sequence[str] | None) -> tuple[str, ...]:
    """The given names, or the codes themselves, at least two."""
    if group.dtype.kind not in "iufb":
        raise InputError(
            f"expected integer group codes, got {group.dtype}: encode the groups, for example "
            "group, names = pandas.factorize(group, sort=True), and pass group_names=names"
        )
    if names is not None and len(names):
        named = tuple(map(str, names))
        if len(set(named)) < len(named):
            raise InputError(f"expected different group names, got {list(named)}")
        return named
    top = group.max()
    if not top < MANY_GROUPS:
        raise InputError(
            f"expected group codes that count the groups from 0, below {MANY_GROUPS:,}, got {top}: "
            "encode them, for example with pandas.factorize"
        )
    return tuple(str(code) for code in range(max(int(top), 1) + 1))


def _array(values: Any) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    return np.asarray(values).reshape(-1)


def _flags(counts: Array, names: tuple[str, ...], estimates: dict[str, Estimate]) -> Iterator[str]:
    total = int(counts.sum())
    positive = int(counts[..., 1].sum())
    rarer = min(positive, total - positive)
    if rarer < RARE * total:
        side = "positive" if positive > total - positive else "negative"
        yield (
            f"Degenerate: {total - rarer:,} of {total:,} rows are decided {side}. A constant "
            "classifier is fair by most measures and useless."
        )
    for name, cells in zip(names, counts, strict=True):
        rows, ones = int(cells.sum()), int(cells[1].sum())
        if not rows:
            yield f"Group {name!r} has no row: its rates are undefined."
        elif min(ones, rows - ones) < FEW_ROWS:
            yield (
                f"Too little data in group {name!r}: {ones:,} positive and {rows - ones:,} "
                "negative rows; rates given the label are unreliable."
            )
    yield from wide_flag(estimates)
    impact = estimates["disparate_impact"]
    if impact.high < 0.8:
        yield (
            f"Four-fifths rule: the selection rate is {impact.value:.2f} of the privileged "
            "group's, below 0.8 beyond sampling error."
        )
