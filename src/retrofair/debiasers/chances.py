"""The chances of each group and label, p(group, label | x), from two regressions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

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
    """

    def __init__(
        self,
        z: Array,
        group: Array,
        y: Array,
        shape: tuple[int, int],
        logits: int,
        strengths: tuple[float, float],
    ) -> None:
        self.mean, self.scale = _standard(z)
        a = (z - self.mean) * self.scale
        weight, bias = _fitted(a, group, shape[0], strengths[0])
        self.group_weight, self.group_bias = self._raw(weight, bias)
        weights, biases = _of_label(a, group, y, shape, logits, strengths[1])
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


def _fitted(a: Array, code: Array, n_codes: int, strength: float) -> tuple[Array, Array]:
    """Weights (n_codes, k) and biases of a logistic regression; no chance of what has no row."""
    weight, bias = np.zeros((n_codes, a.shape[1])), np.full(n_codes, NEVER)
    there = np.unique(code)
    if len(there) == 1:  # nothing to tell apart
        bias[there] = 0.0
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=STEPS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for chances
        model.fit(a, code)
    if len(there) == 2:  # a single row of coefficients, of the second
        weight[there] = np.concatenate([0 * model.coef_, model.coef_])
        bias[there] = [0.0, float(model.intercept_[0])]
    else:
        weight[there], bias[there] = model.coef_, model.intercept_
    return weight, bias


def _of_label(
    a: Array, group: Array, y: Array, shape: tuple[int, int], logits: int, strength: float
) -> tuple[Array, Array]:
    """Weights (G, K, k) and biases (G, K) of the labels given each group."""
    n_groups, n_classes = shape
    one = np.eye(n_groups)[group]
    own = a[:, :logits]
    slopes = (one[:, :, None] * own[:, None, :]).reshape(len(a), -1)
    trusted = TRUSTED * np.concatenate([own, one, slopes], 1)
    weight, bias = _fitted(np.concatenate([a[:, logits:], trusted], 1), y, n_classes, strength)
    common, scaled = np.split(weight, [a.shape[1] - logits], axis=1)
    base, level, slope = np.split(TRUSTED * scaled, [logits, logits + n_groups], axis=1)
    by_group = base[:, None] + slope.reshape(n_classes, n_groups, logits)  # (K, G, logits)
    weights = np.concatenate(
        [by_group.swapaxes(0, 1), np.broadcast_to(common, (n_groups, *common.shape))], axis=2
    )
    return weights, bias + level.T


# --- which strengths, and chances of rows not seen ------------------------------------------------


def cross_fitted(
    z: Array,
    group: Array,
    y: Array,
    shape: tuple[int, int],
    strengths: Sequence[float],
    seed: int,
) -> tuple[Array, Chances, tuple[float, float]]:
    """(n, G * K) chances by regressions that had not seen the row, those of all rows, strengths.

    Args:
        z: (n, k) features, the network's own logits first: one of two classes, or K.

    Raises:
        InputError: fewer rows of a group than folds.
    """
    logits = 1 if shape[1] == 2 else shape[1]
    if len(z) < FOLDS or np.bincount(shape[1] * group + y).max() < FOLDS:
        raise InputError(
            f"expected at least {FOLDS} rows of some group and label, got {len(z)} rows with fewer "
            "of each: use another method"
        )
    sizes = np.bincount(group, minlength=shape[0])
    few = np.flatnonzero((sizes > 0) & (sizes < FOLDS))
    if len(few):
        raise InputError(
            f"expected at least {FOLDS} rows of every group, got {sizes[few[0]]} of group "
            f"{few[0]}: merge groups, or use another method"
        )
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
    return cells_of(groups, labels), Chances(z, group, y, shape, logits, chosen), chosen


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
        self.train, self.unseen = (z[train] - mean) * scale, (z[left] - mean) * scale
        self.codes, self.y = group[train], y[train]
        self.shape, self.logits, self.left = shape, logits, left

    def group(self, strength: float) -> Array:
        weight, bias = _fitted(self.train, self.codes, self.shape[0], strength)
        return _softmax(self.unseen @ weight.T + bias)

    def label(self, strength: float) -> Array:
        weight, bias = _of_label(self.train, self.codes, self.y, self.shape, self.logits, strength)
        return _labels(self.unseen, weight, bias)


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
