"""How probabilities become decisions: a threshold, or one of the post-processors' rules.

A rule is a small value that can be written as JSON. Randomised rules take their coin from the
bits of a row's own features and a seed: the same person gets the same answer, alone or in any
batch, and no random state is kept. The price: people with identical features share their coin.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from retrofair.errors import InputError
from retrofair.metrics import Array


class Rule(Protocol):
    """Decides from (n,) probabilities: (n,) int64 of 0/1.

    `Argmax` decides from (n, K) logarithms of probabilities: (n,) int64 from 0 to K - 1.
    Where `needs_group` it takes (n,) group codes too, and where it has a `seed`, (n,) coins.
    """

    kind: ClassVar[str]
    needs_group: ClassVar[bool]

    @property
    def threshold(self) -> float: ...
    @property
    def seed(self) -> int | None: ...
    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array: ...


@dataclass(frozen=True)
class Cut:
    """Positive strictly above a threshold."""

    threshold: float
    seed: ClassVar[None] = None
    kind: ClassVar[str] = "cut"
    needs_group: ClassVar[bool] = False

    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array:
        return (probability > self.threshold).astype(np.int64)


@dataclass(frozen=True)
class Band:
    """Inside a band around the threshold one side is always positive and the other negative.

    Args:
        margin: half the width of the band.
        favoured: the group codes that are positive inside it.
    """

    threshold: float
    margin: float
    favoured: tuple[int, ...]
    seed: ClassVar[None] = None
    kind: ClassVar[str] = "band"
    needs_group: ClassVar[bool] = True

    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array:
        favoured = np.isin(codes(group), self.favoured)
        cut = np.where(favoured, self.threshold - self.margin, self.threshold + self.margin)
        return (probability > cut).astype(np.int64)


@dataclass(frozen=True)
class Flip:
    """Keeps or flips the thresholded decision with a probability of each group.

    Args:
        keep: per group, the chance that a positive decision stays positive.
        raise_: per group, the chance that a negative decision becomes positive.
    """

    threshold: float
    keep: tuple[float, ...]
    raise_: tuple[float, ...]
    seed: int
    kind: ClassVar[str] = "flip"
    needs_group: ClassVar[bool] = True

    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array:
        code = codes(group)
        positive = probability > self.threshold
        chance = np.where(positive, np.array(self.keep)[code], np.array(self.raise_)[code])
        return (needed(coin) < chance).astype(np.int64)


@dataclass(frozen=True)
class Mix:
    """Replaces a share of each group's probabilities by the group's base rate.

    Args:
        rate: per group, the share replaced.
        base: per group, the base rate. Positive means at or above the threshold here, as AIF360
            has it, or a base rate of exactly 0.5 would change sides.
    """

    threshold: float
    rate: tuple[float, ...]
    base: tuple[float, ...]
    seed: int
    kind: ClassVar[str] = "mix"
    needs_group: ClassVar[bool] = True

    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array:
        code = codes(group)
        replaced = needed(coin) < np.array(self.rate)[code]
        score = np.where(replaced, np.array(self.base)[code], probability)
        return (score >= self.threshold).astype(np.int64)


@dataclass(frozen=True)
class PerGroup:
    """Positive strictly above the threshold of the row's own group.

    Args:
        thresholds: by group code; `threshold` is the privileged (last) group's.
    """

    thresholds: tuple[float, ...]
    seed: ClassVar[None] = None
    kind: ClassVar[str] = "per_group"
    needs_group: ClassVar[bool] = True

    @property
    def threshold(self) -> float:
        return self.thresholds[-1]

    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array:
        return (probability > np.array(self.thresholds)[codes(group)]).astype(np.int64)


@dataclass(frozen=True)
class Argmax:
    """The class whose log-probability plus offset is largest; the first of equals.

    Args:
        offsets: one per class.
    """

    offsets: tuple[float, ...]
    seed: ClassVar[None] = None
    kind: ClassVar[str] = "argmax"
    needs_group: ClassVar[bool] = False

    @property
    def threshold(self) -> float:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"expected a result of two classes for its threshold, got one of {len(self.offsets)} "
            "classes: it decides by rule.offsets"
        )

    def __call__(
        self, probability: Array, group: Array | None = None, coin: Array | None = None
    ) -> Array:
        return np.asarray((probability + np.array(self.offsets)).argmax(1).astype(np.int64))


RULES: tuple[
    type[Cut] | type[Band] | type[Flip] | type[Mix] | type[PerGroup] | type[Argmax], ...
] = (Cut, Band, Flip, Mix, PerGroup, Argmax)


def classes_of(rule: Rule) -> int:
    """How many classes a rule decides among."""
    return len(rule.offsets) if isinstance(rule, Argmax) else 2


def to_dict(rule: Rule) -> dict[str, Any]:
    """A rule as plain values."""
    return {"kind": rule.kind, **dataclasses.asdict(rule)}  # type: ignore[call-overload]


def from_dict(values: Mapping[str, Any]) -> Rule:
    """Read what `to_dict` wrote.

    Raises:
        InputError: an unknown kind, or missing or unknown fields.
    """
    fields: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"
    }
    for rule in RULES:
        if rule.kind == values.get("kind"):
            try:
                return rule(**fields)
            except TypeError as error:
                raise InputError(f"expected the fields of a {rule.kind!r} rule: {error}") from None
    raise InputError(
        f"expected a rule of kind {', '.join(r.kind for r in RULES)}, got {values.get('kind')!r}"
    )


def codes(group: Array | None) -> Array:
    """The group codes, which this rule cannot do without."""
    if group is None:
        raise InputError(
            "this result decides by group: expected group codes, got none; use "
            "predict(x, group=...)"
        )
    return np.asarray(group).astype(np.int64)


def needed(coin: Array | None) -> Array:
    """The coins of a randomised rule."""
    assert coin is not None
    return coin


def coins(x: Any, seed: int) -> Array:
    """A number in [0, 1) per row of a batch's x, from the bits of its features and a seed.

    Each word of a row is multiplied with a key of its column, the products are added, and the sum
    is mixed (splitmix64): (n,) float64. A dict's parts are taken in the order of their names, and
    what its attention mask leaves out plays no part: texts are padded as their batch needs.
    """
    mask = x.get("attention_mask") if isinstance(x, dict) else None
    if isinstance(x, dict):
        x = [x[name] for name in sorted(x)]
    parts = x if isinstance(x, tuple | list) else [x]
    keys = np.random.default_rng(seed)
    # the start is drawn too, or a row of zeros would have the same coin for every seed
    start = keys.integers(2**64, dtype=np.uint64)
    state: Array = np.full(len(parts[0]), start, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for number, part in enumerate(parts):
            if number:  # a key depends on the part and the column alone
                keys = np.random.default_rng([seed, number])
            if mask is not None and part.shape == mask.shape:
                part = part * mask
            part = part.float() if part.dtype == torch.bfloat16 else part  # numpy has none
            rows = part.detach().cpu().reshape(len(state), math.prod(part.shape[1:])).numpy()
            rows = np.ascontiguousarray(rows + 0 if rows.dtype.kind == "f" else rows)  # no -0.0
            words = rows.view(f"u{min(rows.itemsize, 4)}")
            key = keys.integers(2**64, size=words.shape[1], dtype=np.uint64) | np.uint64(1)
            state += (words * key).sum(axis=1, dtype=np.uint64)
        state += np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) * 2.0**-53)
