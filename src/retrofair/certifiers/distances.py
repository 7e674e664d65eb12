"""Who counts as similar: distances between two people, on the columns a network takes.

All that are linear in the difference d = x'' - x' come down to one form, ||M d||_p <= epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from retrofair.certifiers.domain import Domain, Floats, Mask
from retrofair.certifiers.extract import extract
from retrofair.certifiers.layered import Layered
from retrofair.errors import InputError, unknown

Group = slice


@dataclass(frozen=True)
class Columns:
    """What a distance must know of the columns it is applied to."""

    names: tuple[str, ...]
    features: tuple[str, ...]  # per column
    sensitive: Mask

    @classmethod
    def of(cls, domain: Domain) -> Columns:
        features = tuple(f.name for f in domain.features for _ in f.columns)
        return cls(domain.columns, features, domain.sensitive)

    @classmethod
    def plain(cls, d: int, names: Sequence[str] = ()) -> Columns:
        named = tuple(names) or tuple(f"x{i}" for i in range(d))
        return cls(named, tuple(n.split("=")[0] for n in named), np.zeros(d, dtype=bool))

    @property
    def d(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Norm:
    """||M d||_p with d = x'' - x'; a column of zeros in M is free to differ."""

    p: float
    matrix: Floats  # (r, d)

    @property
    def diagonal(self) -> bool:
        m = self.matrix
        return m.shape[0] == m.shape[1] and not np.any(m - np.diag(np.diag(m)))

    def coordinates(self, x: Floats) -> Floats:
        """(n, d) to (n, r): where the plain l_p distance is this one."""
        return np.asarray(x * np.diag(self.matrix) if self.diagonal else x @ self.matrix.T)

    def size(self, coordinates: Floats) -> Floats:
        """The l_p norm of each row."""
        return np.asarray(np.linalg.norm(coordinates, ord=self.p, axis=-1))

    def between(self, first: Floats, second: Floats) -> Floats:
        """The distance of each pair of rows, (n,)."""
        return self.size(self.coordinates(second - first))


@dataclass(frozen=True, eq=False)
class NetworkNorm:
    """||M (g(x'') - g(x'))||_p with a network g that is not linear."""

    network: Layered
    inner: Norm

    @property
    def p(self) -> float:
        return self.inner.p

    def coordinates(self, x: Floats) -> Floats:
        with torch.no_grad():
            out = self.network.forward(torch.as_tensor(x, dtype=torch.float64))
        return self.inner.coordinates(out.numpy())

    def size(self, coordinates: Floats) -> Floats:
        return self.inner.size(coordinates)

    def between(self, first: Floats, second: Floats) -> Floats:
        return self.size(self.coordinates(second) - self.coordinates(first))


Resolved = Norm | NetworkNorm


@runtime_checkable
class Distance(Protocol):
    """A similarity of two people; `resolve` binds it to the columns of a network."""

    def resolve(self, columns: Columns) -> Resolved:
        """The distance as a norm of these columns; sensitive ones are free."""


@dataclass(frozen=True, eq=False)
class WeightedLp:
    """(sum of w_i |d_i|^p)^(1/p); for p = inf the largest w_i |d_i|.

    It is taken on the columns as the network takes them; a weight of 0 leaves a feature free, and
    the weight of a sensitive feature is ignored. Exchanging one category for another of weight w
    differs by 1 in two columns: it costs 2w with p = 1, sqrt(2w) with p = 2, w with p = inf, so
    with weight 1 and a small epsilon the category is fixed.

    Args:
        p: 1, 2 or math.inf.
        weights: one number for all; one per feature or per column; or a dict by the name of a
            feature or column, in which the others have weight 1.

    Raises:
        InputError: another p, a negative or infinite weight, an unknown name, a wrong length.

    Reference: John, Vijaykeerthy and Saha (2020), Verifying individual fairness in machine
    learning models.
    """

    p: float = math.inf
    weights: Any = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or self.p not in (1, 2, math.inf):
            raise InputError(f"expected p = 1, 2 or math.inf, got {self.p!r}")
        object.__setattr__(self, "p", float(self.p))
        values = self.weights.values() if isinstance(self.weights, Mapping) else self.weights
        _checked_weights(list(values) if isinstance(self.weights, Mapping) else values)

    def resolve(self, columns: Columns) -> Norm:
        w = self._per_column(columns)
        w[columns.sensitive] = 0.0
        return Norm(self.p, np.diag(w if self.p == math.inf else w ** (1 / self.p)))

    def _per_column(self, columns: Columns) -> Floats:
        if isinstance(self.weights, Mapping):
            w = np.ones(columns.d)
            features = np.array(columns.features, dtype=object)
            for name, value in self.weights.items():
                here = np.array([name == c for c in columns.names]) | (features == name)
                if not here.any():
                    raise unknown("column for a weight", name, {*columns.names, *columns.features})
                w[here] = value
            return w
        given = _checked_weights(self.weights)
        if given.ndim == 0:
            return np.full(columns.d, float(given))
        places = list(dict.fromkeys(columns.features))
        if len(given) == columns.d:
            return given.copy()
        if len(given) == len(places):
            return given[[places.index(name) for name in columns.features]]
        wanted = f"{columns.d}, one per column"
        if len(places) != columns.d:
            wanted = f"{len(places)} weights (one per feature) or {wanted}"
        raise InputError(f"expected {wanted}, got {len(given)} weights")


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """sqrt(d' S d) with S (d, d) symmetric and positive semi-definite; its null space is free.

    Rows and columns of sensitive features are left out of S.

    Raises:
        InputError: S is not square, symmetric, finite and positive semi-definite, or of another
            size than the columns.

    Reference: Benussi et al. (2022), Individual fairness guarantees for neural networks.
    """

    matrix: Any

    def __post_init__(self) -> None:
        s = _array(self.matrix, "the matrix of a Mahalanobis distance")
        if s.ndim != 2 or s.shape[0] != s.shape[1]:
            raise InputError(f"expected a square matrix, got shape {s.shape}")
        if not np.allclose(s, s.T, rtol=1e-6, atol=1e-9 * max(1.0, float(np.abs(s).max()))):
            raise InputError("expected a symmetric matrix, got one that is not: use (S + S') / 2")
        s = (s + s.T) / 2
        values = np.linalg.eigvalsh(s)
        if values[0] < -1e-7 * max(float(np.abs(values).max()), 1e-300):
            raise InputError(
                "expected a positive semi-definite matrix, got one with the eigenvalue "
                f"{values[0]:.3g}"
            )
        object.__setattr__(self, "matrix", s)

    def resolve(self, columns: Columns) -> Norm:
        s = self.matrix.copy()
        if len(s) != columns.d:
            raise InputError(f"expected a {columns.d} x {columns.d} matrix, got {s.shape}")
        s[columns.sensitive] = 0.0
        s[:, columns.sensitive] = 0.0
        scale = np.sqrt(np.diag(s).clip(0))
        if not np.any(s - np.diag(np.diag(s))):
            return Norm(2.0, np.diag(scale))
        # on columns of like size: an income's variance must not drown that of a 0/1 column
        unit = np.where(scale > 0, scale, 1.0)
        values, vectors = np.linalg.eigh(s / unit / unit[:, None])
        kept = values > 1e-14 * len(s)  # the rest is the rounding of a null space
        return Norm(2.0, np.sqrt(values[kept])[:, None] * vectors[:, kept].T * scale)


@dataclass(frozen=True, eq=False)
class Embedding:
    """The inner distance of what a module makes of two people.

    A linear module (any chain of linear layers) is exact and as cheap as the other distances. A
    network with activations is kept exactly by method="milp"; method="bounds" forgets it there,
    which is sound but loose. Sensitive features are set to 0 before the module: they are free.

    Args:
        module: (n, d) -> (n, m), of the operators that `certify` supports.
        inner: WeightedLp or Mahalanobis on the m numbers.
    """

    module: nn.Module
    inner: WeightedLp | Mahalanobis

    def __post_init__(self) -> None:
        if not isinstance(self.inner, WeightedLp | Mahalanobis):
            raise InputError(
                f"expected WeightedLp or Mahalanobis inside an Embedding, got {self.inner!r}"
            )

    def resolve(self, columns: Columns) -> Resolved:
        network = extract(self.module, columns.d).whole().without(columns.sensitive)
        inner = self.inner.resolve(Columns.plain(network.outputs))
        if not network.activations:
            matrix = inner.matrix @ network.weights[0].numpy()
            made = Norm(inner.p, matrix)
            return Norm(inner.p, np.abs(matrix)) if made.diagonal else made
        return NetworkNorm(network, inner)


def check_epsilon(epsilon: float) -> float:
    """A bound on the distance.

    Raises:
        InputError: it is negative, infinite or no number.
    """
    try:
        value = float(epsilon)
    except (TypeError, ValueError):
        raise InputError(f"expected a number as epsilon, got {epsilon!r} (--epsilon)") from None
    if not math.isfinite(value) or value < 0:
        raise InputError(f"expected a finite epsilon >= 0, got {epsilon} (--epsilon)")
    return value


def check_distance(distance: object) -> Distance:
    """One of the distances above, or something of their form."""
    if not isinstance(distance, Distance) or isinstance(distance, type):
        raise InputError(
            f"expected a distance (WeightedLp, Mahalanobis, Embedding), got {distance!r}"
        )
    return distance


def _checked_weights(values: Any) -> Floats:
    found = _array(values, "weights")
    if found.ndim > 1 or (found < 0).any():
        raise InputError(f"expected weights >= 0, one per feature, got {values!r}")
    return found


def _array(values: Any, what: str) -> Floats:
    try:
        found = np.asarray(
            values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64
        )
    except (TypeError, ValueError):
        raise InputError(f"expected numbers as {what}, got {values!r}") from None
    if not np.isfinite(found).all():
        raise InputError(f"expected finite numbers as {what}, got NaN or infinite ones")
    return found
