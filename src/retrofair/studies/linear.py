"""Linear models with more coefficients than samples, and what chance alone gives them.

Targets are columns, (n, m): the measured one first, permuted ones beside it. All are treated alike,
so that the permuted ones give the null distribution of whatever is said of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics import Array

# Relative to the mean eigenvalue: from next to no shrinkage to next to nothing left.
PENALTIES = np.logspace(-3, 3, 25)
FOLDS = 5
SIZES = (1, 3, 10, 30, 100, 300)
TOP = (0.01, 0.05, 0.1)


def analyse(
    deltas: Array, biases: Array, gradients: Array, permutations: int, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Regressions of the biases on the deltas and on the gradient, with their nulls.

    Args:
        deltas: (n, p), of mean 0.
        biases: (n,).
        gradients: (2, p), two independent estimates of the coefficients.

    Returns:
        Plain values, and unit vectors: `coefficients` and `gradient` (p,), `permuted`
        (permutations, p).
    """
    n, p = deltas.shape
    targets = with_permutations(biases, permutations, rng)
    folds = folds_of(n, FOLDS, rng)
    smallest = n - max(len(fold) for fold in folds)
    sizes = [k for k in SIZES if k <= min(smallest // 2, p)]
    gram = deltas @ deltas.T
    duals = ridge_duals(gram, targets)
    fits = unit((deltas.T @ duals).T)
    slope, reliability = gradients.sum(axis=0), unit(gradients)
    values: dict[str, Any] = {"ceiling": ceiling(smallest, p), "sizes": sizes}
    for name, found in {
        "in_sample": minimum_norm_r2(gram, targets),
        "ridge_in_sample": ridge_in_sample(gram, targets, duals),
        "held_out": ridge_held_out(gram, targets, folds),
    }.items():
        values |= {name: float(found[0]), f"{name}_permuted": found[1:].tolist()}
    screened = screened_held_out(deltas, targets, folds, sizes)
    along = truncated_held_out(deltas, slope, targets, folds, [*sizes, p])
    values |= {
        "screened": screened[:, 0].tolist(),
        "screened_permuted": screened[:, 1:].tolist(),
        "along": along[:-1, 0].tolist(),
        "gradient": float(along[-1, 0]),
        "gradient_permuted": along[-1, 1:].tolist(),
        "gradient_reliability": float(reliability[0] @ reliability[1]),
        "shares": concentration(fits[0]),
        "shares_permuted": [concentration(fit) for fit in fits[1:]],
        "shares_gradient": concentration(slope),
    }
    vectors = {"coefficients": fits[0], "permuted": fits[1:], "gradient": unit(slope)}
    return values, vectors


def with_permutations(target: Array, permutations: int, rng: np.random.Generator) -> Array:
    """The target and permuted copies of it beside it, (n, 1 + permutations).

    Raises:
        InputError: the target is constant or not finite.
    """
    if not np.isfinite(target).all() or np.ptp(target) == 0:
        raise InputError(
            f"expected finite biases that vary over the {len(target):,} trials, got "
            f"{target.min():g} to {target.max():g}"
        )
    return np.column_stack([target, *(rng.permutation(target) for _ in range(permutations))])


def folds_of(n: int, folds: int, rng: np.random.Generator) -> list[Array]:
    """Row numbers of each held-out part."""
    return list(np.array_split(rng.permutation(n), folds))


def minimum_norm_r2(gram: Array, targets: Array) -> Array:
    """In-sample R^2 of the least-squares fit of least norm with an intercept, (m,).

    With at least n - 1 independent columns it is 1 for any target, also for a permuted one: it then
    tells the number of columns and nothing about the target.

    Args:
        gram: (n, n) products of the samples' columns.
        targets: (n, m).
    """
    values, vectors = np.linalg.eigh(_centred(gram))
    within = values > values.max() * len(gram) * np.finfo(float).eps
    parts = (vectors.T @ (targets - targets.mean(axis=0))) ** 2
    return np.asarray(parts[within].sum(axis=0) / parts.sum(axis=0))


def ridge_duals(gram: Array, targets: Array) -> Array:
    """Ridge regression with an intercept: duals (n, m), coefficients being columns' @ duals.

    Each target has the penalty with the least leave-one-out error on these samples. One
    eigendecomposition serves all penalties and targets. The duals of a target add up to 0.
    """
    values, vectors = np.linalg.eigh(_centred(gram))
    values = np.maximum(values, 0)
    parts = vectors.T @ (targets - targets.mean(axis=0))
    least = np.full(targets.shape[1], np.inf)
    duals = np.zeros_like(parts)
    for penalty in PENALTIES * values.mean():
        left = penalty / (values + penalty)
        residual = vectors @ (left[:, None] * parts)
        # 1 - leverage; the intercept takes 1 / n
        free = vectors**2 @ left - 1 / len(gram)
        error = ((residual / free[:, None]) ** 2).mean(axis=0)
        better = error < least
        duals[:, better] = residual[:, better] / penalty
        least = np.minimum(least, error)
    return np.asarray(duals)


def ridge_in_sample(gram: Array, targets: Array, duals: Array) -> Array:
    """R^2 of a ridge fit on its own samples, (m,): from 0 to 1, as its penalty has it."""
    centred = targets - targets.mean(axis=0)
    wrong = ((centred - _centred(gram) @ duals) ** 2).sum(axis=0)
    return np.asarray(1 - wrong / (centred**2).sum(axis=0))


def ridge_held_out(gram: Array, targets: Array, folds: Sequence[Array]) -> Array:
    """R^2 of ridge predictions of held-out samples, (m,); 0 is the mean of the training part.

    The penalty is chosen inside each training part. It tells whether the samples at hand predict
    new ones. It does not tell how linear the target is: with independent columns of one variance
    and fewer samples than columns, `ceiling` is the most to be expected, however few matter.
    """
    score = _Score(targets)
    for train, test in _parts(folds):
        inside = gram[np.ix_(train, train)]
        duals = ridge_duals(inside, targets[train])
        score.add(train, test, (gram[np.ix_(test, train)] - inside.mean(axis=0)) @ duals)
    return score.r2


def ceiling(samples: int, columns: int) -> float:
    """The expected held-out R^2 of ridge where the target is linear without any noise.

    A fit from n samples sees the n directions they span. Of a vector in p dimensions, as the
    columns are independent normal draws, n / p of the squared length lies in a random such span.
    """
    return min(1.0, samples / columns)


def screened_held_out(
    columns: Array, targets: Array, folds: Sequence[Array], sizes: Sequence[int]
) -> Array:
    """Held-out R^2 of least squares on the k best columns, (len(sizes), m).

    The k columns with the largest correlation are chosen in the training part alone. A positive
    value is therefore honest. It is a lower bound of what k columns could predict: some of them are
    chosen by chance, more so with larger k, and the null is well below 0 for that reason.

    Args:
        columns: (n, p).
        sizes: increasing, fewer than the samples of a training part.
    """
    scores = [_Score(targets) for _ in sizes]
    for train, test in _parts(folds):
        x, y = columns[train], targets[train] - targets[train].mean(axis=0)
        mean, spread = x.mean(axis=0), x.std(axis=0)
        related = np.abs(x.T @ y) / spread[:, None]
        fitted = np.empty((len(sizes), len(test), y.shape[1]))
        for j in range(y.shape[1]):
            best = np.argsort(-related[:, j], kind="stable")[: sizes[-1]]
            near, far = x[:, best] - mean[best], columns[np.ix_(test, best)] - mean[best]
            square, right = near.T @ near, near.T @ y[:, j]
            for i, k in enumerate(sizes):
                fitted[i, :, j] = far[:, :k] @ np.linalg.solve(square[:k, :k], right[:k])
        for score, values in zip(scores, fitted, strict=True):
            score.add(train, test, values)
    return np.stack([score.r2 for score in scores])


def truncated_held_out(
    columns: Array,
    coefficients: Array,
    targets: Array,
    folds: Sequence[Array],
    sizes: Sequence[int],
) -> Array:
    """Held-out R^2 of the sum over the k largest given coefficients, (len(sizes), m).

    Only a slope and an intercept are fitted, so that chance gives 0, whatever k is. It is a lower
    bound of what any linear model of all columns could reach.

    Args:
        coefficients: (p,), found without the targets.
    """
    order = np.argsort(-np.abs(coefficients), kind="stable")
    found = []
    for k in sizes:
        summed = columns[:, order[:k]] @ coefficients[order[:k]]
        score = _Score(targets)
        for train, test in _parts(folds):
            x, y = summed[train] - summed[train].mean(), targets[train]
            slope = x @ (y - y.mean(axis=0)) / (x @ x)
            score.add(train, test, np.outer(summed[test] - summed[train].mean(), slope))
        found.append(score.r2)
    return np.stack(found)


def cumulative(coefficients: Array) -> Array:
    """Share of the sum of squares that the k largest coefficients carry, for k = 1 .. p, (p,).

    Columns of one variance that are independent each add their squared coefficient to the variance
    of the linear part. The coefficients of a fit to fewer samples than columns are mostly noise
    spread over all columns, so that their shares look like those of a fit to permuted targets, even
    if only a few columns matter; those of normal draws carry 8 % in the largest 1 % already.
    """
    squares = np.sort(np.asarray(coefficients, dtype=float) ** 2)[::-1]
    return np.asarray(np.cumsum(squares) / squares.sum())


def concentration(coefficients: Array) -> dict[str, float]:
    """Shares of the largest 1, 5 and 10 %, and how many coefficients carry 50 and 90 %."""
    shares = cumulative(coefficients)
    count = len(shares)
    found = {f"top_{100 * top:g}": float(shares[max(1, round(top * count)) - 1]) for top in TOP}
    for level in (0.5, 0.9):
        needed = int(np.searchsorted(shares, level - 1e-12)) + 1
        found[f"for_{100 * level:g}"] = float(needed)
    return found


def unit(vectors: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def singular_values(vectors: Array) -> Array:
    """Of the rows stacked at unit length, largest first, (k,).

    All of them are 1 for orthogonal rows. Random rows in p dimensions are nearly orthogonal too:
    their values lie within about 1 +- sqrt(k / p).
    """
    return np.asarray(np.linalg.svd(unit(np.asarray(vectors, dtype=float)), compute_uv=False))


def random_singular_values(
    count: int, dimension: int, draws: int, rng: np.random.Generator
) -> Array:
    """Singular values of as many random unit vectors, (draws, count)."""
    return np.stack(
        [singular_values(rng.standard_normal((count, dimension))) for _ in range(draws)]
    )


class _Score:
    """Squared errors on held-out samples, against those of the training part's mean."""

    def __init__(self, targets: Array) -> None:
        self.targets = targets
        self.wrong = np.zeros(targets.shape[1])
        self.base = np.zeros(targets.shape[1])

    def add(self, train: Array, test: Array, fitted: Array) -> None:
        """Predictions (len(test), m) of the deviation from the training part's mean."""
        deviation = self.targets[test] - self.targets[train].mean(axis=0)
        self.wrong += ((deviation - fitted) ** 2).sum(axis=0)
        self.base += (deviation**2).sum(axis=0)

    @property
    def r2(self) -> Array:
        return 1 - self.wrong / self.base


def _parts(folds: Sequence[Array]) -> Iterator[tuple[Array, Array]]:
    for held in range(len(folds)):
        rest = [fold for number, fold in enumerate(folds) if number != held]
        yield np.concatenate(rest), folds[held]


def _centred(gram: Array) -> Array:
    """The Gram matrix of the columns after their means are taken off."""
    mean = gram.mean(axis=0)
    return np.asarray(gram - mean - mean[:, None] + mean.mean())
