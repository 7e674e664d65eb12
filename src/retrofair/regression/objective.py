"""The objective: the least mean loss among networks whose every group's loss is bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.regression.losses import Loss, check_loss, constant_of, of_errors

Rank = tuple[bool, float]


@dataclass(frozen=True)
class BoundedGroupLoss:
    """Minimise the mean loss subject to every group's mean loss being at most the bound.

    Args:
        bound: in the unit of the loss: that of y for "absolute", its square for "squared".
        loss: of a row: (prediction - y)^2 or |prediction - y|.

    Raises:
        InputError: a bound that is not a positive number, or an unknown loss.

    Example:
        >>> objective = BoundedGroupLoss(4.0)
        >>> objective.rank(np.array([3.0, 4.0]), 3.2) > objective.rank(np.array([1.0, 4.1]), 1.1)
        True

    Reference:
        Agarwal, Dudik and Wu (2019), Fair regression: quantitative definitions and
        reduction-based algorithms.
    """

    bound: float
    loss: Loss = "squared"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        number = isinstance(self.bound, Real) and not isinstance(self.bound, bool)
        if not number or not 0 < float(self.bound) < math.inf:
            raise InputError(
                f"expected a bound above 0, in the unit of the {self.loss} loss, got {self.bound!r}"
            )

    def feasible(self, losses: Array) -> bool:
        """Whether all groups with rows keep the bound; losses (G,), nan for a group without."""
        return bool(np.nanmax(losses) <= self.bound)

    def rank(self, losses: Array, mean: float) -> Rank:
        """Orders outcomes, higher is better: those that keep the bound before all others, by the
        mean loss; the others by the loss of the worst group."""
        if not np.isfinite(mean):
            return False, -math.inf
        worst = float(np.nanmax(losses))
        return (True, -mean) if worst <= self.bound else (False, -worst)

    def of(self, error: Array, group: Array, groups: int) -> tuple[Array, float]:
        """The groups' mean losses (G,), nan for one without rows, and the mean loss."""
        loss = of_errors(error, self.loss)
        sums = np.bincount(group, loss, minlength=groups)
        rows = np.bincount(group, minlength=groups)
        return np.where(rows > 0, sums / np.maximum(rows, 1), np.nan), float(loss.mean())

    def constant(self, y: Array, group: Array, groups: int) -> float:
        """The best constant on these rows by this objective.

        The mean or median if the bound holds there. Otherwise the constant nearest to it that keeps
        the bound (all losses are convex in it), or the one of the least worst group.
        """

        def worst(constant: float) -> float:
            return float(np.nanmax(self.of(constant - y, group, groups)[0]))

        free = constant_of(y, self.loss)
        if worst(free) <= self.bound:
            return free
        low, high = float(y.min()), float(y.max())
        near = 1e-9 * max(high - low, 1e-12)
        kept = float(minimize_scalar(worst, bounds=(low, high), options={"xatol": near}).x)
        if worst(kept) > self.bound:
            return kept
        broken = free
        for _ in range(60):  # the bound holds at `kept`, fails at `broken`
            middle = (kept + broken) / 2
            kept, broken = (middle, broken) if worst(middle) <= self.bound else (kept, middle)
        return kept

    def to_dict(self) -> dict[str, Any]:
        return {"objective": "bounded_group_loss", "bound": float(self.bound), "loss": self.loss}
