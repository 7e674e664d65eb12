"""Three classes and more: each class against the rest, and the worst of them.

Counts of K classes are (..., G, K, K) by group, label and prediction. Seen from one class they are
counts (G, 2, 2) like any other, so that every measure of two classes has a value for each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics.counts import Array, whole
from retrofair.metrics.from_callable import CallableMeasure
from retrofair.metrics.gaps import largest_absolute, nan_max
from retrofair.metrics.intervals import LEVEL, linear, quantile
from retrofair.metrics.performance import ACCURACY, BALANCED_ACCURACY, RECALL, Performance
from retrofair.metrics.several import Several

if TYPE_CHECKING:
    from retrofair.metrics import Measure, PerformanceMeasure

MOST_CLASSES = 100
MEANINGS = {
    ACCURACY.name: ACCURACY.meaning,
    BALANCED_ACCURACY.name: "mean over the classes of the share of their rows predicted as such",
    RECALL.name: "mean over the classes of the share of their rows predicted as such",
}


def class_count(y: Array) -> int:
    """K of labels that are whole numbers from 0 to K - 1 with K >= 3; 2 of all others.

    >>> class_count(np.array([0, 2, 1])), class_count(np.array([0.5, 3.0]))
    (3, 2)
    """
    y = np.asarray(y)
    if not len(y) or y.dtype.kind not in "iuf":
        return 2
    low, high = y.min(), y.max()
    if low < 0 or not 2 <= high < MOST_CLASSES or (y.dtype.kind == "f" and (y % 1 != 0).any()):
        return 2
    return int(high) + 1


def count_classes(y: Array, prediction: Array, group: Array, n_groups: int, k: int) -> Array:
    """Count rows: (G, K, K) int64, indexed [group, label, prediction].

    Raises:
        InputError: lengths differ, or a value is outside its range.

    >>> count_classes(np.array([0, 2]), np.array([0, 1]), np.array([0, 0]), 1, 3)[0].tolist()
    [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    """
    y, prediction, group = (np.asarray(a).reshape(-1) for a in (y, prediction, group))
    if not len(y) == len(prediction) == len(group):
        raise InputError(
            "expected labels, predictions and groups of one length, got "
            f"{len(y):,}, {len(prediction):,} and {len(group):,}"
        )
    code = whole(group, n_groups, "group codes", np.intp) * k + whole(y, k, "labels", np.intp)
    code = code * k + whole(prediction, k, "predictions", np.intp)
    return np.asarray(np.bincount(code, minlength=n_groups * k * k).reshape(n_groups, k, k))


def one_vs_rest(counts: Array) -> Array:
    """Each class against the rest: (..., K, G, 2, 2) of counts (..., G, K, K).

    >>> one_vs_rest(np.array([[[5, 1, 0], [0, 4, 0], [2, 0, 3]]]))[2, 0].tolist()
    [[10, 0], [2, 3]]
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    labelled, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    seen = np.empty((*hits.shape, 2, 2), dtype=hits.dtype)
    seen[..., 1, 1] = hits
    seen[..., 1, 0] = labelled - hits
    seen[..., 0, 1] = predicted - hits
    seen[..., 0, 0] = labelled.sum(axis=-1, keepdims=True) - labelled - predicted + hits
    return np.moveaxis(seen, -3, -4)


def checked_names(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """The names of the classes; without any, their codes.

    Raises:
        InputError: another number of names, or two alike.
    """
    found = tuple(map(str, names)) or tuple(map(str, range(classes)))
    if len(found) != classes or len(set(found)) < classes:
        raise InputError(
            f"expected {classes} different class names, one for each label, got {list(found)}"
        )
    return found


@dataclass(frozen=True)
class WorstClass:
    """A measure of bias for K classes: that of the class which is worst, one against the rest.

    The value is the largest absolute difference, or the smallest ratio, over the classes; the bias
    is the largest over the classes. Classes without the rows that are compared are left out.

    Args:
        measure: of two classes.
    """

    measure: Measure

    @property
    def name(self) -> str:
        return self.measure.name

    @property
    def meaning(self) -> str:
        return f"of the worst class: {self.measure.meaning}"

    @property
    def aliases(self) -> tuple[str, ...]:
        return self.measure.aliases

    @property
    def ideal(self) -> float:
        return self.measure.ideal

    def __call__(self, counts: Array) -> Array:
        return self._extreme(self.measure(one_vs_rest(counts)))

    def bias(self, counts: Array) -> Array:
        return nan_max(self.measure.bias(one_vs_rest(counts)))

    def worst(self, counts: Array) -> int | None:
        """The class that has the value, of counts (G, K, K); None where there is none."""
        values = self.measure(one_vs_rest(counts))
        far = np.abs(values) if self.ideal == 0 else -values
        return None if np.isnan(far).all() else int(np.nanargmax(far))

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        """Simultaneous over the classes, so at least at the level."""
        each = 1 - (1 - level) / counts.shape[-1]
        limits = [self.measure.interval(seen, each) for seen in one_vs_rest(counts)]
        lows, highs = np.array(limits, dtype=float).T
        if self.ideal == 0:
            return largest_absolute(lows, highs)
        return float(self._extreme(lows)), float(self._extreme(highs))

    def _extreme(self, values: Array) -> Array:
        return nan_max(np.abs(values)) if self.ideal == 0 else -nan_max(-values)


@dataclass(frozen=True)
class OverClasses(Performance):
    """A performance of K classes, from counts (..., G, K, K).

    Accuracy is the share of all rows. Balanced accuracy, and recall, is the mean recall of the
    classes that have rows. Any other is the mean over the classes that are labelled or predicted,
    one against the rest, where a class of which nothing is known counts 0.
    """

    def __call__(self, counts: Array) -> Array:
        parts = self._parts(counts)
        if parts is None:
            return self._mean(counts, self._of_two()(one_vs_rest(counts)))
        hits, base = parts
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = np.where(base > 0, hits / base, 0.0)
            known = (base > 0).sum(axis=-1)
            return np.asarray(np.where(known > 0, rates.sum(axis=-1) / known, np.nan))

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        parts = self._parts(counts)
        if parts is None:
            each = 1 - (1 - level) / counts.shape[-1]
            limits = [self._of_two().interval(seen, each) for seen in one_vs_rest(counts)]
            low, high = (self._mean(counts, np.array(end)) for end in zip(*limits, strict=True))
            return float(low), float(high)
        terms = [(1.0, h, b) for h, b in zip(*parts, strict=True) if b > 0]
        if not terms:
            return np.nan, np.nan
        terms = [(1 / len(terms), h, b) for _, h, b in terms]
        _, low, high = linear(terms, quantile(level))
        return float(low), float(high)

    def _parts(self, counts: Array) -> tuple[Array, Array] | None:
        """Numerators and denominators (..., J) of the rates whose mean it is, if it is one."""
        pooled = counts.sum(axis=-3)
        hits = np.diagonal(pooled, axis1=-2, axis2=-1)
        if self.name == ACCURACY.name:
            return hits.sum(axis=-1, keepdims=True), pooled.sum(axis=(-1, -2))[..., None]
        if self.name in (BALANCED_ACCURACY.name, RECALL.name):
            return hits, pooled.sum(axis=-1)
        return None

    def _of_two(self) -> Performance:
        return Performance(self.name, self.meaning, self.rates, self.aliases)

    def _mean(self, counts: Array, values: Array) -> Array:
        """Over the classes that are labelled or predicted, 0 where there is no value."""
        pooled = counts.sum(axis=-3)
        there = pooled.sum(axis=-1) + pooled.sum(axis=-2) > 0
        total = np.where(there, np.nan_to_num(values), 0.0).sum(axis=-1)
        return np.asarray(total / np.maximum(there.sum(axis=-1), 1))


def of_classes(measure: Measure) -> Measure:
    """The measure for K classes; a caller's own function sees labels and predictions from 0 to
    K - 1 and stays as it is."""
    if isinstance(measure, Several):  # each has a worst class of its own
        return Several(tuple(map(of_classes, measure.measures)), measure.bounds)
    if isinstance(measure, CallableMeasure | WorstClass):
        return measure
    return WorstClass(measure)


def performance_of_classes(performance: PerformanceMeasure) -> OverClasses:
    """The performance for K classes.

    Raises:
        InputError: it is not made of rates.
    """
    if not isinstance(performance, Performance):
        raise InputError(
            "expected a performance such as 'accuracy' or 'balanced_accuracy' for three classes or "
            f"more, got {getattr(performance, 'name', performance)!r}"
        )
    meaning = MEANINGS.get(performance.name, f"mean over the classes: {performance.meaning}")
    return OverClasses(performance.name, meaning, performance.rates, performance.aliases)
