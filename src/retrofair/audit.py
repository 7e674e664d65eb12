"""Audit: every measure of a network's decisions on some data, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers.result import Debiased
from retrofair.debiasers.run import RARE
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array, Measure
from retrofair.networks.outputs import Outputs, as_logits, probabilities

LEVEL = metrics.LEVEL
FEW_ROWS = 30
WIDE = 0.1
MANY_GROUPS = 1_000
ALIASES = {alias: known.name for known in metrics.ALL for alias in known.aliases} | {
    alias: known.name for known in metrics.performance.ALL for alias in known.aliases
}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval; nan where it is not defined.

    Args:
        kind: "bias", "performance" or "rate".
        note: why there is no value, or why it should not be trusted.
    """

    name: str
    value: float
    low: float
    high: float
    kind: str
    meaning: str
    ideal: float = math.nan
    note: str = ""

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit:
    """What was found.

    Args:
        estimates: every measure and performance by name.
        groups: per group, its rates by name.
        counts: (G, 2, 2) rows by group, label and prediction.
        flags: what an expert would object to, in whole sentences.
    """

    estimates: dict[str, Estimate]
    groups: dict[str, dict[str, Estimate]]
    counts: Array
    group_names: tuple[str, ...]
    flags: tuple[str, ...]
    threshold: float | None = None

    def __getitem__(self, name: str) -> Estimate:
        """The estimate of a measure or performance, by name or alias."""
        known = name if name in self.estimates else ALIASES.get(name, name)
        if known not in self.estimates:
            raise unknown("measure", name, self.estimates)
        return self.estimates[known]

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def __contains__(self, name: object) -> bool:
        return name in self.estimates or ALIASES.get(str(name)) in self.estimates

    @property
    def n(self) -> int:
        """Rows audited."""
        return int(self.counts.sum())

    def to_frame(self) -> pd.DataFrame:
        """One row per measure: value, low, high, ideal, kind, meaning, note."""
        rows = [vars(estimate) for estimate in self.estimates.values()]
        return pd.DataFrame(rows).set_index("name")

    def groups_frame(self) -> pd.DataFrame:
        """One row per group: n and every rate with its interval."""
        rows = {}
        for position, name in enumerate(self.group_names):
            row: dict[str, float] = {"n": int(self.counts[position].sum())}
            for rate, estimate in self.groups[name].items():
                row |= {
                    rate: estimate.value,
                    f"{rate}_low": estimate.low,
                    f"{rate}_high": estimate.high,
                }
            rows[name] = row
        return pd.DataFrame.from_dict(rows, orient="index")

    def to_dict(self) -> dict[str, dict[str, float]]:
        """value, low and high by name, ready for JSON."""
        return {
            name: {"value": e.value, "low": e.low, "high": e.high}
            for name, e in self.estimates.items()
        }


def audit(
    subject: Debiased | nn.Module,
    data: Batches,
    *,
    threshold: float | None = None,
    outputs: Outputs | None = None,
    measures: Sequence[Callable[..., Any]] = (),
) -> Audit:
    """Audit a debiased result or a network.

    Args:
        subject: a result of `debias`, which brings its own decision rule, or a network.
        data: rows that were used neither for training nor for debiasing.
        threshold: for a network: a probability, 0.5 by default; positive means strictly above.
        outputs: for a network: "logits" or "probabilities" (see `debias`).
        measures: further measures, callables `(y, prediction, group) -> number`.

    Raises:
        InputError: labels other than 0/1, fewer than two groups with rows, a threshold for a
            result or outside [0, 1], a network that does not fit.

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
        if tuple(subject.group_names) != tuple(data.group_names):
            raise InputError(
                f"expected data with the groups {list(subject.group_names)} of the result, "
                f"got {list(data.group_names)}"
            )
        if outputs is not None:
            raise InputError("expected no outputs= with a result: its network answers with logits")
        chance, decided = subject.score_data(data)
        used = None if subject.needs_group else subject.threshold
    else:
        used = 0.5 if threshold is None else threshold
        if not isinstance(used, int | float) or not 0 <= used <= 1:
            raise InputError(f"expected a threshold in [0, 1], got {used} (--threshold)")
        chance = probabilities(as_logits(subject, data, outputs), data)
        decided = (chance > used).view(np.uint8)
    return audit_predictions(
        data.y.numpy(),
        decided,
        data.group.numpy(),
        group_names=data.group_names,
        # rules that look at the group no longer decide by the score alone: it has no curve
        scores=None if used is None else chance,
        threshold=used,
        measures=measures,
    )


def audit_predictions(
    y: Any,
    y_hat: Any,
    group: Any,
    *,
    group_names: Sequence[str] | None = None,
    scores: Any = None,
    threshold: float | None = None,
    measures: Sequence[Callable[..., Any]] = (),
) -> Audit:
    """Audit decisions that were made elsewhere.

    Args:
        y: (n,) labels 0/1.
        y_hat: (n,) decisions 0/1.
        group: (n,) integer codes; the last group is the privileged one.
        group_names: a name per code; without them, the codes.
        scores: (n,) scores, for the area under the ROC curve.

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
    counts = metrics.count(y, y_hat, group, len(names))
    filled = [name for name, n in zip(names, counts.sum(axis=(1, 2)), strict=True) if n]
    if len(filled) < 2:
        raise InputError(f"expected at least two groups with rows, got {filled} of {list(names)}")
    estimates = {measure.name: _measure(measure, counts) for measure in metrics.ALL}
    taken = {*estimates, *(known.name for known in metrics.performance.ALL), "roc_auc"}
    for measure in map(metrics.get, measures):
        if measure.name in taken and measure not in metrics.ALL:
            raise InputError(
                f"expected a measure with a name of its own, got another {measure.name!r}: "
                "rename the function"
            )
        taken.add(measure.name)
        estimates[measure.name] = _measure(measure, counts)
    for performance in metrics.performance.ALL:
        low, high = performance.interval(counts)
        value = float(performance(counts))
        note = "" if not math.isnan(value) else "no row of the kind it counts"
        estimates[performance.name] = Estimate(
            performance.name, value, low, high, "performance", performance.meaning, 1.0, note
        )
    if scores is not None:
        scores = np.asarray(scores).reshape(-1)
        if len(scores) != len(y) or scores.dtype.kind not in "iufb" or np.isnan(scores).any():
            raise InputError(
                f"expected {len(y):,} scores without NaN, got {len(scores):,} of {scores.dtype}"
            )
        value, low, high = metrics.auc(scores, y)
        estimates["roc_auc"] = Estimate(
            "roc_auc", value, low, high, "performance", "area under the ROC curve", 1.0
        )
    return Audit(
        estimates=estimates,
        groups={name: _rates(counts[position]) for position, name in enumerate(names)},
        counts=counts,
        group_names=names,
        flags=tuple(_flags(counts, names, estimates)),
        threshold=threshold,
    )


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


def _measure(measure: Measure, counts: Array) -> Estimate:
    value = float(measure(counts))
    low, high = measure.interval(counts)
    note = ""
    if math.isnan(value):
        note = "needs two groups, the privileged one among them, with rows of the kind it compares"
        low = high = math.nan
    return Estimate(measure.name, value, low, high, "bias", measure.meaning, measure.ideal, note)


def _rates(counts: Array) -> dict[str, Estimate]:
    z = metrics.intervals.quantile(LEVEL)
    found = {}
    for rate in metrics.rates.ALL:
        hits, base = rate.parts(counts)
        low, high = metrics.wilson(hits, base, z)
        value = float(metrics.rates.divide(hits, base))
        found[rate.name] = Estimate(rate.name, value, float(low), float(high), "rate", rate.meaning)
    return found


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
    impact = estimates["disparate_impact"]
    if impact.high < 0.8:
        yield (
            f"Four-fifths rule: the selection rate is {impact.value:.2f} of the privileged "
            "group's, below 0.8 beyond sampling error."
        )
