"""What a tree bounds: a linear function of the outputs, or how far two people straddle a cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retrofair.certifiers.tree.nodes import Nodes


@dataclass(frozen=True, eq=False)
class Goal:
    """The largest first'z' + second'z'', or with a cut the largest min(z'' - cut, cut - z').

    Args:
        first, second: (K,) weights of the outputs.
        mean: where (z' + z'') / 2 of a single output lies.
        cut: the logit above which a decision is positive.
    """

    first: Tensor
    second: Tensor
    mean: tuple[float, float] | None = None
    cut: float | None = None

    @classmethod
    def difference(cls, head: Tensor) -> Goal:
        """head (K,) times z'' - z'."""
        return cls(-head, head)

    @classmethod
    def tilted(cls, slope: float, low: float, high: float) -> Goal:
        """z'' - z' - slope * mean, where the mean lies in [low, high]; one output."""
        one = torch.ones(1, dtype=torch.float64)
        return cls(-one - slope / 2 * one, one - slope / 2 * one, (low, high))

    @classmethod
    def straddle(cls, cut: float) -> Goal:
        """How far z' lies below the cut and z'' above it, the smaller of the two; one output."""
        half = torch.full((1,), 0.5, dtype=torch.float64)
        return cls(-half, half, cut=cut)

    def onto(self, nodes: Nodes) -> Nodes:
        """The nodes with this value to bound."""
        heads = torch.stack([self.first, self.second]).expand(len(nodes), -1, -1)
        return nodes.put(heads=heads.clone(), shift=torch.zeros_like(nodes.shift))

    def heads(self, mean: float, cut: tuple[float, float]) -> tuple[Tensor, float]:
        """Heads (2, K) and shift for multipliers of the mean's range or of the two sides.

        Any are sound: a positive one of the mean counts its lower end, and the shares of the two
        sides are made to add up to 1.
        """
        if self.cut is not None:
            share = min(max(cut[1] / max(sum(cut), 1e-300), 0.0), 1.0)
            heads = torch.tensor([[share - 1], [share]], dtype=torch.float64)
            return heads, (1 - 2 * share) * self.cut
        heads = torch.stack([self.first, self.second])
        if self.mean is None or not mean:
            return heads, 0.0
        return heads + mean / 2, -mean * self.mean[0 if mean > 0 else 1]
