"""Reject option classification: a band around the threshold in which the group decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.base import Fit, clone, record
from retrofair.debiasers.rules import Band
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks.recording import probabilities
from retrofair.objective import Constrained, Objective
from retrofair.thresholds import Choice

BOUND = 0.05
SIDES = ("auto", "unprivileged", "privileged")


@dataclass(frozen=True)
class RejectOption:
    """Decides close calls in favour of one side and against the other.

    Of a grid of thresholds and half-widths of the band, those with |bias| within the bound are
    kept, and the best of them by the objective's performance is taken: AIF360's search, over its
    grid, with all pairs counted from one sort per group and label. The privileged (last) group is
    one side, all others are the other. A callable measure is called once per pair.

    Departures from AIF360: where no pair keeps the bound, it takes the smallest signed value, which
    is the worst of all where the values are negative; here it is the smallest |bias|. It always
    favours the unprivileged side, which can only widen the gap where that side is the one selected
    more often (COMPAS, whose positive is the bad outcome); "auto" looks first.

    Args:
        thresholds: steps from `low` to `high`.
        margins: half-widths tried per threshold t, from 0 to min(t, 1 - t).
        bound: the largest |bias| allowed. Without it, the epsilon of a `Constrained` objective
            (strictly below, as the objective has it), otherwise 0.05.
        favoured: the side that is positive inside the band; "auto" takes the one selected less
            often at threshold 0.5 (the unprivileged one where they are alike).

    Raises:
        InputError: an option out of range, or no rows on one of the sides.

    Reference:
        Kamiran, Karim and Zhang (2012), Decision theory for discrimination-aware classification.
    """

    thresholds: int = 100
    margins: int = 50
    low: float = 0.01
    high: float = 0.99
    bound: float | None = None
    favoured: Literal["auto", "unprivileged", "privileged"] = "auto"
    name: ClassVar[str] = "reject_option"
    changes_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.thresholds < 1 or self.margins < 1:
            raise InputError(
                f"expected thresholds >= 1 and margins >= 1, got {self.thresholds} and "
                f"{self.margins}"
            )
        if not 0 <= self.low < self.high <= 1:
            raise InputError(f"expected 0 <= low < high <= 1, got {self.low} and {self.high}")
        if self.bound is not None and not 0 <= self.bound <= 1:
            raise InputError(f"expected bound in [0, 1], got {self.bound}")
        if self.favoured not in SIDES:
            raise InputError(f"expected favoured to be one of {SIDES}, got {self.favoured!r}")

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
        last = len(data.group_names) - 1
        favoured = self._favoured(probability, group == last, data.group_names)
        thresholds, margins = self.grid()
        counts = count_bands(probability, y, group, last + 1, favoured, thresholds, margins)
        best = self._best(counts, objective)
        rule = Band(float(thresholds[best]), float(margins[best]), favoured)
        chosen = counts[best]
        choice = Choice(rule.threshold, chosen, float(objective.rank(chosen)))
        about: dict[str, Any] = {
            "margin": rule.margin,
            "favoured": ", ".join(data.group_names[code] for code in favoured),
        }
        return Fit(clone(model), rule, (record(objective, choice, trial=0, **about),))

    def grid(self) -> tuple[Array, Array]:
        """Threshold and margin of every pair: thresholds ascend, and margins within each."""
        thresholds = np.linspace(self.low, self.high, self.thresholds)
        widest = np.minimum(thresholds, 1 - thresholds)
        margins = np.linspace(0, widest, self.margins, axis=1)
        return np.repeat(thresholds, self.margins), margins.ravel()

    def _favoured(
        self, probability: Array, privileged: Array, names: tuple[str, ...]
    ) -> tuple[int, ...]:
        sides = [probability[~privileged], probability[privileged]]
        if not all(map(len, sides)):
            missing = f"the privileged group {names[-1]!r}" if len(sides[0]) else "the other groups"
            raise InputError(
                "reject_option sets the privileged group against the others: expected rows of "
                f"both, got none of {missing}"
            )
        favoured = self.favoured
        if favoured == "auto":
            # where nobody passes 0.5, the mean probability still tells the sides apart
            others, last = ((float((side > 0.5).mean()), float(side.mean())) for side in sides)
            favoured = "privileged" if last < others else "unprivileged"
        if favoured == "privileged":
            return (len(names) - 1,)
        return tuple(range(len(names) - 1))

    def _best(self, counts: Array, objective: Objective) -> int:
        """Index of the best pair; of equals the first."""
        bias = np.nan_to_num(objective.bias_measure.bias(counts), nan=np.inf)
        if self.bound is None and isinstance(objective, Constrained):
            inside = bias < objective.epsilon
        else:
            inside = bias <= (BOUND if self.bound is None else self.bound)
        if not inside.any():
            return int(np.argmin(bias))
        good = np.nan_to_num(objective.performance_measure(counts), nan=0.0)
        return int(np.argmax(np.where(inside, good, -np.inf)))


def count_bands(
    probability: Array,
    y: Array,
    group: Array,
    n_groups: int,
    favoured: tuple[int, ...],
    thresholds: Array,
    margins: Array,
) -> Array:
    """Counts (K, G, 2, 2) of what K bands decide.

    The sum and the difference are formed as in `Band`, so that both agree on every tie.
    """
    counts = np.zeros((len(thresholds), n_groups, 2, 2), dtype=np.int64)
    for code in range(n_groups):
        cuts = thresholds - margins if code in favoured else thresholds + margins
        for label in (0, 1):
            scores = np.sort(probability[(group == code) & (y == label)])
            negative = np.searchsorted(scores, cuts, side="right")
            counts[:, code, label, 0] = negative
            counts[:, code, label, 1] = len(scores) - negative
    return counts
