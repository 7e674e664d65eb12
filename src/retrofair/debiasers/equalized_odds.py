"""Equalized odds: decisions flipped at random until all groups have the same error rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone, record
from retrofair.debiasers.rules import Flip
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.metrics.rates import FPR, TPR
from retrofair.networks.recording import probabilities
from retrofair.objective import Objective
from retrofair.thresholds import Choice

THRESHOLD = 0.5
SEEDS = 2**31


@dataclass(frozen=True)
class EqualizedOdds:
    """Flips thresholded decisions at random, so that true and false positive rates agree.

    A linear program finds, per group, the chance that a positive decision stays and that a negative
    one is raised; every group is set equal to the last. The measure of the objective is not looked
    at: equal odds are a goal of their own, here met in expectation on the data given. Whoever
    decides needs the group of each row, and never its label (the papers' code evaluated predictions
    that had been made from the true labels).

    `weights="aif360"` minimises the sum over groups of false minus true positive rate, each group
    counting the same. As the rates are equal in the end, this is balanced accuracy at its best.
    `weights="error"` minimises the share of wrong decisions, Hardt's objective: accuracy at its
    best. The first is the default, since the papers' numbers were made with it and since it cannot
    be won by refusing everybody where positives are rare.

    Args:
        weights: what is minimised, "aif360" or "error".

    Raises:
        InputError: unknown weights, or a group without positives or without negatives.

    Reference:
        Hardt, Price and Srebro (2016), Equality of opportunity in supervised learning.
    """

    weights: Literal["aif360", "error"] = "aif360"
    name: ClassVar[str] = "equalized_odds"
    changes_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.weights not in ("aif360", "error"):
            raise InputError(f"expected weights 'aif360' or 'error', got {self.weights!r}")

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        positive = probabilities(model, data) > THRESHOLD
        names = data.group_names
        counts = metrics.count(data.y.numpy(), positive, data.group.numpy(), len(names))
        for label, kind in ((1, "positives"), (0, "negatives")):
            rows = counts[:, label].sum(axis=-1)
            if rows.min() == 0:
                raise InputError(
                    f"equalized_odds compares the groups' rates among true {kind}: expected some "
                    f"in every group, got none in {names[int(rows.argmin())]!r}"
                )
        keep, raise_ = self.solve(counts)
        rule = Flip(THRESHOLD, tuple(keep.tolist()), tuple(raise_.tolist()), draw_seed(generator))
        raised = counts[..., 1] * keep[:, None] + counts[..., 0] * raise_[:, None]
        return Fit(clone(model), rule, (expected(objective, counts, raised),))

    def solve(self, counts: Array) -> tuple[Array, Array]:
        """The chances to keep a positive and to raise a negative decision, each (G,).

        There is always a solution: the same chance for everybody equalizes all rates.
        """
        tpr, fpr = TPR(counts), FPR(counts)
        positives = negatives = np.ones(len(counts))
        if self.weights == "error":
            positives, negatives = counts[:, 1].sum(axis=-1), counts[:, 0].sum(axis=-1)
            positives, negatives = positives / counts.sum(), negatives / counts.sum()
        # the variables are all keeps, then all raises
        true, false = np.concatenate([tpr, 1 - tpr]), np.concatenate([fpr, 1 - fpr])
        cost = np.tile(negatives, 2) * false - np.tile(positives, 2) * true
        against_last = np.eye(len(counts))[:-1] - np.eye(len(counts))[-1]
        against_last = np.tile(against_last, (1, 2))
        solution = linprog(
            cost,
            A_eq=np.concatenate([against_last * true, against_last * false]),
            b_eq=np.zeros(2 * (len(counts) - 1)),
            bounds=(0, 1),
            method="highs",
        )
        assert solution.x is not None, solution.message
        keep, raise_ = (np.clip(solution.x, 0, 1) + 0.0).reshape(2, -1)  # + 0.0: no -0.0
        return keep, raise_


def draw_seed(generator: torch.Generator) -> int:
    """A seed for a randomised rule."""
    return int(torch.randint(SEEDS, (1,), generator=generator))


def expected(objective: Objective, counts: Array, positive: Array) -> dict[str, object]:
    """The history of a randomised rule: what it does in expectation, in whole rows.

    Args:
        counts: (G, 2, 2), of which only the sums by group and label matter.
        positive: (G, 2) expected positive decisions by group and label.
    """
    raised = np.rint(positive).astype(np.int64)
    after = np.stack([counts.sum(axis=-1) - raised, raised], axis=-1)
    choice = Choice(THRESHOLD, after, float(objective.rank(after)))
    return record(objective, choice, trial=0)
