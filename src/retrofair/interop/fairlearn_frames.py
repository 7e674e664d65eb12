"""fairlearn's inputs audited here, and an audit's inputs as fairlearn's MetricFrame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score

from retrofair.audit import Audit, audit_predictions
from retrofair.data.encoders import as_text, text_of
from retrofair.errors import InputError, unknown
from retrofair.interop.sensitive import Groups
from retrofair.metrics import Array

Metrics = Callable[..., Any] | Mapping[str, Callable[..., Any]]


def audit_decisions(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    positive: object = None,
    privileged: object = None,
) -> Audit:
    """Audit decisions given as fairlearn's metrics take them: any values, no codes.

    Args:
        y_true: (n,) labels.
        y_pred: (n,) decisions, of the same values.
        sensitive_features: (n,) or (n, columns) values that make the groups.
        positive: the value that counts as 1; not needed for 0/1. Without it, three values or more
            are classes.
        privileged: the privileged value (one per column). Without it, as in
            `GroupedData.from_frame`.

    Raises:
        InputError: two values none of which is said to be positive, decisions that are no values
            of the label, missing values, different lengths, or as `audit_predictions`.

    Example:
        >>> found = audit_decisions(["no", "yes", "no", "yes"], ["no", "no", "yes", "yes"],
        ...                         sensitive_features=["f", "f", "m", "m"], positive="yes",
        ...                         privileged="m")
        >>> found["spd"].value, found.group_names
        (-1.0, ('f', 'm'))
    """
    label, decided = _texts(y_true, "y_true"), _texts(y_pred, "y_pred")
    if len(label) != len(decided):
        raise InputError(
            f"expected y_true and y_pred of one length, got {len(label):,} and {len(decided):,}"
        )
    _check_decided(label, decided, () if positive is None else (text_of(positive),))
    values = _sorted(set(label) | set(decided))
    names: Sequence[str] | None = None
    if positive is not None:
        if text_of(positive) not in values:
            raise unknown("positive value", text_of(positive), values)
        codes = [(each == text_of(positive)).astype(np.int64) for each in (label, decided)]
    elif set(values) <= {"0", "1"}:
        codes = [each.astype(np.int64) for each in (label, decided)]
    elif len(values) == 2:
        raise InputError(
            f"expected labels 0/1, got {values[0]!r} and {values[1]!r}: say which one is positive "
            "with positive=..."
        )
    else:
        names = values
        codes = [pd.Index(values).get_indexer(pd.Index(each)) for each in (label, decided)]
    groups = Groups.of(sensitive_features, codes[0], privileged)
    return audit_predictions(
        codes[0],
        codes[1],
        groups.codes(sensitive_features, len(label)),
        group_names=groups.names,
        class_names=names,
    )


def to_metric_frame(
    y: Any,
    y_hat: Any,
    group: Any,
    *,
    group_names: Sequence[str] | None = None,
    metrics: Metrics | None = None,
) -> Any:
    """The arguments of `audit_predictions` as a `fairlearn.metrics.MetricFrame`.

    Args:
        y: (n,) labels.
        y_hat: (n,) decisions.
        group: (n,) codes into `group_names`; without names any values.
        metrics: what the frame shows, as fairlearn takes it. Without it the number of rows,
            accuracy, selection rate, and true and false positive rates; with three classes or more
            the first two.

    Raises:
        InputError: fairlearn is not installed, different lengths, a code without a name, or,
            without metrics of your own, decisions that are no values of the label.

    Example:
        >>> frame = to_metric_frame([1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1],
        ...                         group_names=("Female", "Male"))
        >>> frame.by_group["selection_rate"].to_dict()
        {'Female': 0.0, 'Male': 1.0}
    """
    try:
        import fairlearn.metrics as known
    except ImportError:
        raise InputError(
            "expected the package fairlearn for to_metric_frame, it is not installed: "
            "pip install fairlearn"
        ) from None
    label, decided, code = (np.asarray(values).reshape(-1) for values in (y, y_hat, group))
    if not len(label) == len(decided) == len(code) or not len(code):
        raise InputError(
            "expected y, y_hat and group of one length, with rows, got "
            f"{len(label):,}, {len(decided):,} and {len(code):,}"
        )
    if metrics is None:
        _check_decided(_texts(label, "y"), _texts(decided, "y_hat"))
        metrics = {"count": known.count, "accuracy": accuracy_score}
        if set(np.unique(label)) | set(np.unique(decided)) <= {0, 1}:
            for name in ("selection_rate", "true_positive_rate", "false_positive_rate"):
                metrics[name] = getattr(known, name)
    return known.MetricFrame(
        metrics=metrics,
        y_true=label,
        y_pred=decided,
        sensitive_features=pd.Series(_named(code, group_names), name="group"),
    )


def _check_decided(label: Array, decided: Array, positive: tuple[str, ...] = ()) -> None:
    """Refuse decisions that are no values of the label: they would count as wrong in silence.

    A label that has one value in all rows leaves room for another.
    """
    known, found = set(label), set(decided)
    new = _sorted(found - known)
    if new and len(known | found | set(positive)) > 2:
        raise InputError(
            "expected decisions among the label's values "
            f"{', '.join(map(repr, _sorted(known)[:6]))}, got also "
            f"{', '.join(map(repr, new[:4]))}: write decisions as the label is written, and cut "
            "scores at a threshold first"
        )


def _named(code: Array, names: Sequence[str] | None) -> Array:
    if names is None:
        return code
    whole = code.dtype.kind in "iub"
    if not whole or not 0 <= code.min() <= code.max() < len(names):
        raise InputError(
            f"expected group codes from 0 to {len(names) - 1}, one per group name, got "
            f"{code.min()} to {code.max()}"
        )
    return np.array(names, dtype=object)[code.astype(np.int64)]


def _texts(values: Any, name: str) -> Array:
    texts = as_text(pd.Series(np.asarray(values).reshape(-1), name=name).infer_objects())
    if texts.isna().any():
        raise InputError(f"expected no missing values in {name}, got {int(texts.isna().sum()):,}")
    return texts.to_numpy(dtype=object)


def _sorted(values: set[str]) -> list[str]:
    """Numbers by size, then texts by name."""

    def key(text: str) -> tuple[bool, float, str]:
        try:
            return False, float(text), text
        except ValueError:
            return True, 0.0, text

    return sorted(values, key=key)
