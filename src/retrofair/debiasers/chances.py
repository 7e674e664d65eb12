"""The chances of each group and label, p(group, label | x), from two regressions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from retrofair.errors import InputError
from retrofair.metrics import Array

SMALLEST = 1e-6  # a feature's spread below which it says nothing
STEPS, TOLERANCE = 100, 1e-3
NEVER = -1e3  # the logit of what the data have no row of
TRUSTED = 10.0  # the scale of what is hardly shrunk: the network's own logits, and groups
FOLDS = 3


class Chances:
    """p(group | x) times p(label | x, group).

    Two regressions with a penalty each, as the two need not be alike: a network that was trained
    on many rows tells the label better than a head on few can, but it was not trained to tell the
    group. Of the label only a common correction is learned, on top of the network's own logits and
    of a level and slope for each group, which are hardly penalised; so a group of few rows borrows
    from the others.

    Args:
        z: (n, k) features, of which the first `logits` are the network's own logits.
        group, y: (n,) codes.
        shape: (G, K), how many groups and classes there are.
        strengths: inverse strengths of the two penalties, of group and label.
        start: where the two regressions begin, as far as they are known from other rows.
    """

    def __init__(
        self,
        z: Array,
        group: Array,
        y: Array,
        shape: tuple[int, int],
        logits: int,
        strengths: tuple[float, float],
        start: tuple[Start, Start] = (None, None),
    ) -> None:
        self.mean, self.scale = _standard(z)
        a = (z - self.mean) * self.scale
        of_group, of_label = _Regression(a, group, shape[0]), _OfLabel(a, group, y, shape, logits)
        of_group.start, of_label.regression.start = start
        self.group_weight, self.group_bias = self._raw(*of_group(strengths[0]))
        weights, biases = of_label(strengths[1])
        raw = [self._raw(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
        self.label_weight = np.stack([weight for weight, _ in raw])  # (G, K, k)
        self.label_bias = np.stack([bias for _, bias in raw])  # (G, K)

    @classmethod
    def empty(cls, n_groups: int, n_classes: int, features: int) -> Chances:
        """All alike, with room for other weights."""
        made = cls.__new__(cls)
        made.group_weight, made.group_bias = np.zeros((n_groups, features)), np.zeros(n_groups)
        made.label_weight = np.zeros((n_groups, n_classes, features))
        made.label_bias = np.zeros((n_groups, n_classes))
        return made

    def _raw(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """For features as they are, of those for standardised ones."""
        scaled = weight * self.scale
        return scaled, bias - scaled @ self.mean

    def of_group(self, z: Array) -> Array:
        """(n, G)."""
        return _softmax(z @ self.group_weight.T + self.group_bias)

    def of_label(self, z: Array) -> Array:
        """(n, G, K) given each group."""
        return _labels(z, self.label_weight, self.label_bias)

    def __call__(self, z: Array) -> Array:
        """(n, G * K)."""
        return cells_of(self.of_group(z), self.of_label(z))


def cells_of(groups: Array, labels: Array) -> Array:
    """(n, G * K) from (n, G) and (n, G, K)."""
    return np.asarray((groups[:, :, None] * labels).reshape(len(groups), -1))


def _standard(z: Array) -> tuple[Array, Array]:
    """The mean of each feature, and what it is multiplied with; 0 for one that says nothing."""
    spread = z.std(0)
    return z.mean(0), np.where(spread > SMALLEST, 1 / np.maximum(spread, SMALLEST), 0.0)


def _labels(z: Array, weight: Array, bias: Array) -> Array:
    """(n, G, K) the chances of the labels given each group."""
    logits = z @ weight.reshape(-1, z.shape[1]).T
    return _softmax(logits.reshape(len(z), *bias.shape) + bias)


def _softmax(a: Array) -> Array:
    a = np.exp(a - a.max(-1, keepdims=True))
    return np.asarray(a / a.sum(-1, keepdims=True))


Start = tuple[Array, Array] | None  # coefficients and intercepts


class _Regression:
    """A logistic regression, for one strength after another.

    Each begins where the last one ended. In single precision, which is three times as fast and as
    near as the tolerance.

    Args:
        a: (n, k) standardised features.
        code: (n,) of which some may have no row.
    """

    def __init__(self, a: Array, code: Array, n_codes: int) -> None:
        self.a, self.code, self.n_codes = a.astype(np.float32), code, n_codes
        self.there = np.unique(code)
        self.start: Start = None

    def __call__(self, strength: float) -> tuple[Array, Array]:
        """Weights (n_codes, k) and biases; no chance of what has no row."""
        weight, bias = np.zeros((self.n_codes, self.a.shape[1])), np.full(self.n_codes, NEVER)
        there = self.there
        if len(there) == 1:  # nothing to tell apart
            bias[there] = 0.0
            return weight, bias
        model = LogisticRegression(C=strength, max_iter=STEPS, tol=TOLERANCE, warm_start=True)
        if self.start is not None and len(self.start[0]) == (1 if len(there) == 2 else len(there)):
            model.coef_, model.intercept_ = (each.copy() for each in self.start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for chances
            model.fit(self.a, self.code)
        self.start = (model.coef_, model.intercept_)
        if len(there) == 2:  # a single row of coefficients, of the second
            weight[there[1]], bias[there] = model.coef_[0], [0.0, float(model.intercept_[0])]
        else:
            weight[there], bias[there] = model.coef_, model.intercept_
        return weight, bias


class _OfLabel:
    """The labels given each group: the regression, and its weights by group."""

    def __init__(
        self, a: Array, group: Array, y: Array, shape: tuple[int, int], logits: int
    ) -> None:
        self.shape, self.logits = shape, logits
        one = np.eye(shape[0], dtype=np.float32)[group]
        own = a[:, :logits].astype(np.float32)
        slopes: Array = (one[:, :, None] * own[:, None, :]).reshape(len(a), -1)
        trusted: Array = TRUSTED * np.concatenate([own, one, slopes], 1)
        design = np.concatenate([a[:, logits:].astype(np.float32), trusted], 1)
        self.regression = _Regression(design, y, shape[1])

    def __call__(self, strength: float) -> tuple[Array, Array]:
        """Weights (G, K, k) and biases (G, K)."""
        (n_groups, n_classes), logits = self.shape, self.logits
        weight, bias = self.regression(strength)
        columns = weight.shape[1] - (logits + n_groups + n_groups * logits)
        common, scaled = np.split(weight, [columns], axis=1)
        base, level, slope = np.split(TRUSTED * scaled, [logits, logits + n_groups], axis=1)
        by_group = base[:, None] + slope.reshape(n_classes, n_groups, logits)  # (K, G, logits)
        weights = np.concatenate(
            [by_group.swapaxes(0, 1), np.broadcast_to(common, (n_groups, *common.shape))], axis=2
        )
        return weights, bias + level.T


# --- which strengths, and chances of rows not seen ------------------------------------------------


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Chances of every row by regressions that had not seen it, and those of all rows.

    Args:
        groups: (n, G) of each group.
        labels: (n, G, K) of each label, given each group.
        head: the regressions of all rows.
        strengths: of group and label.
    """

    groups: Array
    labels: Array
    head: Chances
    strengths: tuple[float, float]

    @property
    def cells(self) -> Array:
        """(n, G * K) of each group and label."""
        return cells_of(self.groups, self.labels)

    def told(self, group: Array) -> Array:
        """(n, K) of each label, given everybody's own group."""
        return np.asarray(self.labels[np.arange(len(group)), group])


def cross_fitted(
    z: Array,
    group: Array,
    y: Array,
    shape: tuple[int, int],
    strengths: Sequence[float],
    seed: int,
    names: Sequence[str] = (),
) -> CrossFitted:
    """Fit with the strengths, of those given, by which rows not seen are likeliest.

    Args:
        z: (n, k) features, the network's own logits first: one of two classes, or K.
        names: of the groups, for a message; without them, their codes.

    Raises:
        InputError: fewer rows of a group than folds.
    """
    _check_rows(group, y, shape, names)
    logits = 1 if shape[1] == 2 else shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cell of a row or two is in few folds
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        folds = list(splitter.split(z, shape[1] * group + y))
    parts = [_Fold(z, group, y, shape, logits, train, left) for train, left in folds]
    rows = np.arange(len(z))

    def tried(kind: str, strength: float) -> tuple[float, Array]:
        found = np.empty((len(z), *(shape[:1] if kind == "group" else shape)))
        for part in parts:
            found[part.left] = getattr(part, kind)(strength)
        own = found[rows, group] if kind == "group" else found[rows, group, y]
        return -float(np.log(own.clip(1e-12)).mean()), found

    of_group, groups = _climbed(lambda strength: tried("group", strength), sorted(strengths))
    of_label, labels = _climbed(lambda strength: tried("label", strength), sorted(strengths))
    chosen = (of_group, of_label)
    # that of all rows may begin where one of a part of them ended, but no part where another did
    start = (parts[0].of_group.start, parts[0].of_label.regression.start)
    head = Chances(z, group, y, shape, logits, chosen, start)
    return CrossFitted(groups, labels, head, chosen)


def _check_rows(group: Array, y: Array, shape: tuple[int, int], names: Sequence[str]) -> None:
    if len(y) < FOLDS or np.bincount(shape[1] * group + y).max() < FOLDS:
        raise InputError(
            f"expected at least {FOLDS} rows of some group and label, got {len(y)} rows with fewer "
            "of each: use another method"
        )
    sizes = np.bincount(group, minlength=shape[0])
    few = np.flatnonzero((sizes > 0) & (sizes < FOLDS))
    if len(few):
        raise InputError(
            f"expected at least {FOLDS} rows of every group, got {sizes[few[0]]} of group "
            f"{repr(names[few[0]]) if names else few[0]}: merge groups, or use another method"
        )


class _Fold:
    """What is fitted without some rows, for these rows."""

    def __init__(
        self,
        z: Array,
        group: Array,
        y: Array,
        shape: tuple[int, int],
        logits: int,
        train: Array,
        left: Array,
    ) -> None:
        mean, scale = _standard(z[train])
        a, self.unseen = (z[train] - mean) * scale, (z[left] - mean) * scale
        self.of_group = _Regression(a, group[train], shape[0])
        self.of_label = _OfLabel(a, group[train], y[train], shape, logits)
        self.left = left

    def group(self, strength: float) -> Array:
        weight, bias = self.of_group(strength)
        return _softmax(self.unseen @ weight.T + bias)

    def label(self, strength: float) -> Array:
        return _labels(self.unseen, *self.of_label(strength))


def _climbed(
    tried: Callable[[float], tuple[float, Array]], strengths: Sequence[float]
) -> tuple[float, Array]:
    """The strength of the least loss, from the middle one on to where it grows again."""
    at = len(strengths) // 2
    best, found = tried(strengths[at])
    for way in (-1, 1):
        k, moved = at + way, False
        while 0 <= k < len(strengths):
            loss, other = tried(strengths[k])
            if loss >= best:
                break
            best, found, at, moved = loss, other, k, True
            k += way
        if moved:
            break
    return strengths[at], found
