"""Parts of the set of pairs, many at a time, each with the multipliers that bound it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOW, HIGH, LOW_2, HIGH_2, LEAST, MOST = range(6)  # rows of `layers`


@dataclass(frozen=True, eq=False)
class Nodes:
    """B nodes of a tree. N hidden units in all, s columns that are no categories, K outputs.

    Args:
        low, high: (B, 2, s) where the numbers of x' and x'' lie.
        open: (B, 2, d) which categories are left to each; true for numbers.
        layers: (B, 6, N) y' and y'' of each unit and what they differ by: low and high of each.
        slopes: (B, 2, N) of the line below each unit's ReLU, in [0, 1].
        mix: (B, N) how far from halfway each unit is bounded by the line for its difference.
        own: (B, 2, N) multipliers of y' and y'' within their bounds: positive for the lower one.
        between: (B, N) the same for what they differ by.
        heads, shift: (B, 2, K) and (B,): the value is heads[0] z' + heads[1] z'' + shift.
        upper: (B,) the bound on the value.
    """

    low: Tensor
    high: Tensor
    open: Tensor
    layers: Tensor
    slopes: Tensor
    mix: Tensor
    own: Tensor
    between: Tensor
    heads: Tensor
    shift: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.upper)

    def take(self, index: Tensor) -> Nodes:
        """Some of them, as copies."""
        return Nodes(*(value[index] for value in self._tensors()))

    def put(self, **changed: Tensor) -> Nodes:
        return dataclasses.replace(self, **changed)

    @staticmethod
    def joined(parts: Sequence[Nodes]) -> Nodes:
        return Nodes(
            *(torch.cat(each) for each in zip(*(p._tensors() for p in parts), strict=True))
        )

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]
