"""The rows of the `fairnn` study: folds of a table, and who counts as similar in it."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from retrofair import datasets
from retrofair.certifiers import Domain, WeightedLp
from retrofair.certifiers.distances import Columns
from retrofair.data import GroupedData, Splits
from retrofair.data.preparation import Preparation
from retrofair.errors import InputError, RetrofairWarning
from retrofair.studies.sources import Source

GROUP = "group of the sensitive column"
MOST_ROWS = 5_000
# The paper's weights of d_fair: an arithmetic series, ordered by a language model's opinion of what
# matters for the price. They are 13/90 to 2/90, and 0 for B.
ORDER = ("RM", "LSTAT", "INDUS", "NOX", "CRIM", "AGE", "DIS", "TAX", "PTRATIO", "ZN", "RAD", "CHAS")
WEIGHTS = (*((name, (13 - k) / 90) for k, name in enumerate(ORDER)), ("B", 0.0))


@dataclass(frozen=True)
class Fold(Source):
    """One fold of a cross-validation: it is the test data, the next one the validation data.

    Sensitive columns that are numbers stay numbers among the features. The rows are shuffled by
    `split`; means and spreads are those of the training rows.

    Args:
        fold: from 0 to folds - 1; None for all rows in each of the three parts, as the paper has
            them, for figures in which no label and no choice by one occurs.
    """

    fold: int | None = None
    folds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds < 3 or not 0 <= (self.fold or 0) < self.folds:
            raise InputError(
                "expected at least three folds (training, validation, test) and one of them, got "
                f"fold {self.fold} of {self.folds}"
            )

    def load(self, root: str | None = None) -> Splits:
        """Training, validation and test data, with one preparation."""
        return _load(self, root, self.checksum(root))


@lru_cache(maxsize=8)
def _load(source: Fold, root: str | None, _checksum: str) -> Splits:
    known = datasets.get(source.data)
    options: dict[str, Any] = {"n": source.rows} if source.rows else {}
    if "target" in known.options:
        options["target"] = "regression"
    table = known.frame(source.sensitive, root, cut=False, **options)
    # what is sensitive stays a feature as it is; the groups are made from a copy
    (name,) = source.sensitive
    cut = known.protected[name].cut
    table[GROUP] = table[name] if cut is None else cut(table[name])
    preparation = Preparation.fit(
        table,
        label=known.label,
        sensitive=GROUP,
        privileged=known.protected[name].privileged,
        include_sensitive=False,
        regression=True,
        flags=known.flags(table),
    )
    if source.fold is None:
        data = GroupedData.prepared(preparation.fitted(table), table)
        return Splits(data, data, data)
    order = np.random.default_rng(source.split).permutation(len(table))
    parts = np.array_split(order, source.folds)
    after = (source.fold + 1) % source.folds
    train = np.concatenate([p for k, p in enumerate(parts) if k not in (source.fold, after)])
    data = GroupedData.prepared(preparation.fitted(table.iloc[train]), table)
    return Splits(data[train], data[parts[after]], data[parts[source.fold]])


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Who is similar, and what the model can say.

    Args:
        weights: of the weighted l_2 distance on standardised columns, by the name of a column; 1
            for those that are not named.
        epsilon: the distance up to which two people are similar.
        low, high: the range of the model's outputs.
    """

    weights: tuple[tuple[str, float], ...] = WEIGHTS
    epsilon: float = 0.3
    low: float = 5.0
    high: float = 50.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise InputError(f"expected low < high, got {self.low:g} and {self.high:g}")
        if not self.epsilon >= 0:
            raise InputError(f"expected epsilon >= 0, got {self.epsilon:g}")

    @property
    def distance(self) -> WeightedLp:
        return WeightedLp(2, dict(self.weights))


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows with their targets, and the pairs of them that are similar.

    Args:
        x: (n, d) float64, as the network takes it.
        y: (n,) float64.
        first, second: (m,) row numbers of the pairs within epsilon.
    """

    x: Tensor
    y: Tensor
    first: Tensor
    second: Tensor
    epsilon: float

    @classmethod
    def of(cls, data: GroupedData, problem: Problem, domain: Domain) -> Rows:
        """The rows of a data set.

        Raises:
            InputError: a target outside the model's range, a weight for an unknown column, or more
                rows than pairs can be listed of.
        """
        outside = ((data.y < problem.low) | (data.y > problem.high)).nonzero().flatten()
        if len(outside):
            raise InputError(
                f"expected targets from {problem.low:g} to {problem.high:g}, the range of the "
                f"model's outputs, got {float(data.y[outside[0]]):g} ({len(outside):,} rows "
                "outside): set low and high"
            )
        if len(data) > MOST_ROWS:
            raise InputError(f"expected at most {MOST_ROWS:,} rows, got {len(data):,}")
        norm = problem.distance.resolve(Columns.of(domain))
        if not norm.matrix.any():
            warnings.warn(
                "all weights are 0: everyone is similar to everyone, and delta is the range of "
                "the model's outputs",
                RetrofairWarning,
                stacklevel=2,
            )
        x = data.x.double()
        near = pdist(norm.coordinates(x.numpy())) <= problem.epsilon
        first, second = (part[near] for part in np.triu_indices(len(x), 1))
        return cls(
            x, data.y.double(), torch.from_numpy(first), torch.from_numpy(second), problem.epsilon
        )

    def delta(self, outputs: Tensor) -> Tensor:
        """The largest difference of outputs (n,) between similar rows; nan if none are similar."""
        if not len(self.first):
            return torch.tensor(math.nan, dtype=torch.double)
        return (outputs[self.first] - outputs[self.second]).abs().max()

    def with_pairs(self) -> Rows:
        """Itself, where an objective needs similar rows.

        Raises:
            InputError: there are none.
        """
        if not len(self.first):
            raise InputError(
                f"expected similar rows, but no two of {len(self.x):,} rows are within epsilon = "
                f"{self.epsilon:g}: delta is undefined there, not 0; use a larger epsilon"
            )
        return self


def everyone(splits: Splits, sensitive: tuple[str, ...]) -> Domain:
    """The box around all rows of the table, whose sensitive columns are free.

    It says whom a certificate speaks of, and is not fitted to them: so the test rows count.
    """
    parts = (splits.train, splits.valid, splits.test)
    whole = dataclasses.replace(
        splits.train,
        x=torch.cat([part.x for part in parts]),
        y=torch.cat([part.y for part in parts]),
        group=torch.cat([part.group for part in parts]),
    )
    return Domain.from_data(whole, sensitive=list(sensitive))


def weights_of(given: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Weights by name as a `Problem` keeps them."""
    return tuple((str(name), float(value)) for name, value in given.items())
