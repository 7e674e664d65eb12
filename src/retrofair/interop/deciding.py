"""How far each row is from being decided otherwise: the decision values of any rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.data.grouped import BATCH_ROWS
from retrofair.debiasers.rules import (
    Argmax,
    Band,
    Cut,
    Flip,
    Mix,
    PerGroup,
    Rule,
    classes_of,
    codes,
    coins,
)
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks.outputs import checked, evaluating, log_chances, probability

FARTHEST = 1_000.0  # stands for an infinite log odds


@dataclass(frozen=True, eq=False)
class Deciding:
    """A network that answers with logits, and the rule that decides by them."""

    model: nn.Module
    rule: Rule

    @property
    def needs_group(self) -> bool:
        """Whether the rule looks at the group."""
        return self.rule.needs_group

    def decisions(self, x: Tensor, group: Array | None = None) -> Array:
        """(n,) int64 of 0/1, or of class codes."""
        return np.concatenate([self._decide(*part)[1] for part in _parts(x, group)])

    def margins(self, x: Tensor, group: Array | None = None) -> Array:
        """(n,) float64: the log odds less those at which the rule begins to decide positively;
        above 0 exactly where it does. With K > 2 classes (n, K) of which the largest decides.

        Raises:
            InputError: the rule decides with a coin.
        """
        return np.concatenate([self._margins(*part) for part in _parts(x, group)])

    def _decide(self, x: Tensor, group: Array | None) -> tuple[Array, Array]:
        classes = classes_of(self.rule)
        with evaluating(self.model):
            out = checked(self.model, x, len(x), classes).float().cpu()
        if classes > 2:
            chances = log_chances(out)
            return chances, self.rule(chances)
        coin = None if self.rule.seed is None else coins(x, self.rule.seed)
        return out.numpy().astype(np.float64), self.rule(probability(out), group, coin)

    def _margins(self, x: Tensor, group: Array | None) -> Array:
        scores, decided = self._decide(x, group)
        if isinstance(self.rule, Argmax):
            return np.asarray(scores + np.array(self.rule.offsets))
        margins = scores - log_odds(cuts(self.rule, group))
        # rounding must not contradict the decision
        tiny = np.where(decided == 1, 1.0, -1.0) * np.finfo(np.float32).tiny
        return np.where((margins > 0) == (decided == 1), margins, tiny)


def cuts(rule: Rule, group: Array | None) -> Array:
    """The probability above which each row is decided positively: (n,), or () for one of all.

    Raises:
        InputError: the rule decides with a coin.
    """
    if isinstance(rule, Cut):
        return np.asarray(rule.threshold)
    if isinstance(rule, PerGroup):
        return np.asarray(np.array(rule.thresholds)[codes(group)])
    if isinstance(rule, Band):
        favoured = np.isin(codes(group), rule.favoured)
        return np.where(favoured, rule.threshold - rule.margin, rule.threshold + rule.margin)
    assert isinstance(rule, Flip | Mix)
    raise InputError(
        "expected a method whose decisions have a score for decision_function and predict_proba, "
        f"got one that decides with a coin (rule {rule.kind!r}): use predict, or another method"
    )


def log_odds(chance: Array) -> Array:
    """Of probabilities; far away for what no network answers."""
    inside = np.clip(chance, 1e-300, 1 - 1e-16)
    odds = np.log(inside) - np.log1p(-inside)
    return np.where(chance <= 0, -FARTHEST, np.where(chance >= 1, FARTHEST, odds))


def _parts(x: Tensor, group: Array | None) -> list[tuple[Any, Array | None]]:
    starts = range(0, len(x), BATCH_ROWS)
    rows = [slice(start, start + BATCH_ROWS) for start in starts]
    return [(x[each], None if group is None else group[each]) for each in rows]


def softmax(scores: Array) -> Array:
    """(n, K) probabilities of (n, K) scores."""
    return np.asarray(torch.softmax(torch.from_numpy(scores), 1).numpy())


def of_two(margins: Array) -> Array:
    """(n, 2) probabilities of (n,) log odds; above a half for the second exactly where they are
    above 0."""
    dtype = margins.dtype.type
    half, one = dtype(0.5), dtype(1)
    positive = probability(torch.from_numpy(margins)).astype(margins.dtype)
    above = np.maximum(positive, np.nextafter(half, one))
    below = np.minimum(positive, np.nextafter(half, -one))
    positive = np.where(margins > 0, above, below)
    return np.stack([one - positive, positive], axis=1)
