"""Calibrated equalized odds: equal generalised costs, with probabilities that stay calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone
from retrofair.debiasers.equalized_odds import THRESHOLD, draw_seed, expected
from retrofair.debiasers.rules import Mix
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.metrics.rates import divide
from retrofair.networks.recording import probabilities
from retrofair.objective import Objective

COSTS = ("fnr", "fpr", "weighted")


@dataclass(frozen=True)
class CalibratedEqualizedOdds:
    """Replaces a share of each cheaper group's probabilities by its base rate.

    The share is such that the group's generalised cost rises to that of the costliest group. The
    base rate is as calibrated as the probabilities, so calibration survives. Costs are of
    probabilities, not of decisions: equal ones do not mean equal error rates at the threshold, and
    the measure of the objective is not looked at. The papers' "test" figures of this method were
    taken on validation data; here it is fitted on the data given, and audited on others.

    As in AIF360, but for any number of groups, with the share clipped to [0, 1] (AIF360 leaves it
    outside, where its comparison with a random number clips it) and 0 where the base rate costs as
    much as the probabilities, so that mixing changes nothing (AIF360 divides by 0).

    Args:
        cost_constraint: "fnr", the mean of 1 - probability among positives; "fpr", the mean
            probability among negatives; "weighted" (AIF360's default too), the mean distance of
            probability and label over all rows of the group (AIF360 takes half of it, which gives
            the same shares).

    Raises:
        InputError: an unknown cost, or a group without the rows whose cost is compared.

    Reference:
        Pleiss, Raghavan, Wu, Kleinberg and Weinberger (2017), On fairness and calibration.
    """

    cost_constraint: Literal["fnr", "fpr", "weighted"] = "weighted"
    name: ClassVar[str] = "calibrated_equalized_odds"
    changes_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.cost_constraint not in COSTS:
            raise InputError(
                f"expected cost_constraint to be one of {COSTS}, got {self.cost_constraint!r}"
            )

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        probability = probabilities(model, data)
        y, group = data.y.numpy().astype(np.int64), data.group.numpy()
        rate, base = self.solve(probability, y, group, data.group_names)
        rule = Mix(THRESHOLD, tuple(rate.tolist()), tuple(base.tolist()), draw_seed(generator))
        counts = metrics.count(y, probability >= THRESHOLD, group, len(rate))
        mixed = (base >= THRESHOLD)[:, None] * counts.sum(axis=-1)
        positive = (1 - rate[:, None]) * counts[..., 1] + rate[:, None] * mixed
        return Fit(clone(model), rule, (expected(objective, counts, positive),))

    def solve(
        self, probability: Array, y: Array, group: Array, names: tuple[str, ...]
    ) -> tuple[Array, Array]:
        """The share replaced and the base rate of each group, each (G,)."""
        rows = metrics.collapse(y, group, len(names))
        compared = {"fnr": rows[:, 1], "fpr": rows[:, 0], "weighted": rows.sum(axis=1)}
        base_rows = compared[self.cost_constraint]
        if base_rows.min() == 0:
            kind = {"fnr": "positives", "fpr": "negatives", "weighted": "rows"}
            raise InputError(
                f"calibrated_equalized_odds compares the groups' costs: expected "
                f"{kind[self.cost_constraint]} in every group, got none in "
                f"{names[int(base_rows.argmin())]!r}"
            )
        base = rows[:, 1] / rows.sum(axis=1)
        cost = self._cost(probability, y, group, base_rows)
        trivial = self._cost(base[group], y, group, base_rows)
        rate = divide(cost.max() - cost, trivial - cost)  # nan where mixing raises no cost
        return np.clip(np.nan_to_num(rate, nan=0.0), 0, 1), base

    def _cost(self, probability: Array, y: Array, group: Array, rows: Array) -> Array:
        """Generalised cost per group, (G,)."""
        distance = np.abs(y - probability)
        if self.cost_constraint == "fnr":
            distance = distance * y
        elif self.cost_constraint == "fpr":
            distance = distance * (1 - y)
        return np.asarray(np.bincount(group, weights=distance, minlength=len(rows)) / rows)
