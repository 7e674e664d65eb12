"""Decision rules as modules: the same arithmetic as in `debiasers.rules`, on tensors."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.debiasers.rules import Argmax, Band, Cut, Flip, Mix, PerGroup, Rule
from retrofair.errors import InputError

WORD = 0xFFFFFFFF


def decision_of(rule: Rule, groups: int, *, randomised: bool, kind: str) -> nn.Module:
    """A module `(probability, group, coin) -> decision` for a rule.

    Args:
        groups: how many there are.
        randomised: whether the format can compute a row's coin.
        kind: the format's name.

    Raises:
        InputError: the format or we have no such rule.
    """
    if rule.seed is not None and not randomised:
        raise InputError(
            f"the rule of this result ({rule.kind}) draws a coin from the bits of each row, which "
            f"{kind} has no operator for: choose format='torch_export' (--format), or a method "
            "without a coin, such as group_thresholds"
        )
    if isinstance(rule, Argmax):
        return Largest(rule)
    if isinstance(rule, Flip):
        return Flipped(rule)
    if isinstance(rule, Mix):
        return Mixed(rule)
    return Above(cuts_of(rule, groups))


def cuts_of(rule: Rule, groups: int) -> list[float]:
    """The thresholds of a rule that compares with one: of each group, or a single one.

    Raises:
        InputError: a rule of another kind.
    """
    if isinstance(rule, PerGroup):
        return list(rule.thresholds)
    if isinstance(rule, Band):
        low, high = rule.threshold - rule.margin, rule.threshold + rule.margin
        return [low if code in rule.favoured else high for code in range(groups)]
    if isinstance(rule, Cut | Flip | Mix):
        return [rule.threshold]
    raise InputError(
        f"expected a rule of Retrofair to export, got {type(rule).__name__} "
        f"({getattr(rule, 'kind', 'of no kind')}): it is not known how it decides on tensors"
    )


def _exact(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Above(nn.Module):
    """Positive strictly above the threshold, or above that of the row's group."""

    cut: Tensor

    def __init__(self, cuts: list[float]) -> None:
        super().__init__()
        self.register_buffer("cut", _exact(cuts))

    def forward(self, chance: Tensor, group: Tensor | None, coin: Tensor | None) -> Tensor:
        cut = self.cut[0] if group is None else self.cut[group]
        return (chance > cut).long()


class Flipped(nn.Module):
    """Keeps or flips the thresholded decision by a coin."""

    cut: Tensor
    keep: Tensor
    raised: Tensor

    def __init__(self, rule: Flip) -> None:
        super().__init__()
        self.register_buffer("cut", _exact(rule.threshold))
        self.register_buffer("keep", _exact(rule.keep))
        self.register_buffer("raised", _exact(rule.raise_))

    def forward(self, chance: Tensor, group: Tensor, coin: Tensor) -> Tensor:
        wanted = torch.where(chance > self.cut, self.keep[group], self.raised[group])
        return (coin < wanted).long()


class Mixed(nn.Module):
    """Replaces a share of each group's probabilities by its base rate."""

    cut: Tensor
    rate: Tensor
    base: Tensor

    def __init__(self, rule: Mix) -> None:
        super().__init__()
        self.register_buffer("cut", _exact(rule.threshold))
        self.register_buffer("rate", _exact(rule.rate))
        self.register_buffer("base", _exact(rule.base))

    def forward(self, chance: Tensor, group: Tensor, coin: Tensor) -> Tensor:
        score = torch.where(coin < self.rate[group], self.base[group], chance)
        return (score >= self.cut).long()


class Largest(nn.Module):
    """The class of the largest log-probability plus offset."""

    offset: Tensor

    def __init__(self, rule: Argmax) -> None:
        super().__init__()
        self.register_buffer("offset", _exact(rule.offsets))

    def forward(self, chance: Tensor, group: Tensor | None, coin: Tensor | None) -> Tensor:
        decision: Tensor = (chance + self.offset).argmax(1)
        return decision


class Coin(nn.Module):
    """`rules.coins` for one tensor of features: the same number in [0, 1) per row, (n,) float64.

    Sums and products of 64-bit words wrap around whether they have a sign or not, so signed words
    serve; only the shift to the right must be told to bring in zeros.
    """

    key: Tensor
    start: Tensor

    def __init__(self, seed: int, example: Tensor) -> None:
        super().__init__()
        words = math.prod(example.shape[1:]) * max(1, example.element_size() // 4)
        keys = np.random.default_rng(seed)
        start = keys.integers(2**64, dtype=np.uint64)
        key = keys.integers(2**64, size=words, dtype=np.uint64) | np.uint64(1)
        self.register_buffer("start", torch.tensor(start.view(np.int64).item()))
        self.register_buffer("key", torch.from_numpy(key.view(np.int64)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.where(x == 0, torch.zeros_like(x), x)  # no -0.0
        words = x.flatten(1).contiguous().view(torch.int32).long() & WORD
        state = self.start + (words * self.key).sum(1)
        state = state + signed(0x9E3779B97F4A7C15)
        state = (state ^ shifted(state, 30)) * signed(0xBF58476D1CE4E5B9)
        state = (state ^ shifted(state, 27)) * signed(0x94D049BB133111EB)
        state = state ^ shifted(state, 31)
        coin: Tensor = shifted(state, 11).double() * 2.0**-53
        return coin


def signed(word: int) -> int:
    """An unsigned 64-bit word as the signed one of the same bits."""
    return word - 2**64 if word >= 2**63 else word


def shifted(state: Tensor, by: int) -> Tensor:
    """Shifted to the right, with zeros brought in."""
    logical: Tensor = (state >> by) & (2 ** (64 - by) - 1)
    return logical
