"""How far a linear function of two people goes, over many parts of the set of pairs at once.

The same as `Pairs.value`, `Pairs.difference` and `Pairs.joint`, in torch, for x' and x'' with
ranges and categories of their own.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.distances import Norm
from retrofair.certifiers.pairs import DUAL, ROUNDING, Pairs
from retrofair.certifiers.propagate import SLACK
from retrofair.certifiers.tree.nodes import Nodes

SHUT = -1e30  # what a category that is not left is worth


class Supports:
    """Upper bounds on first'x' + second'x'' over the pairs of each node."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.columns = torch.from_numpy(pairs.single)
        self.cap = torch.from_numpy(pairs.cap[pairs.single])
        self.groups = [
            (where, _kind(table), torch.from_numpy(np.where(table, 0.0, SHUT)))
            for (_, where), table in zip(pairs.domain.groups, pairs.exchange, strict=True)
        ]
        norm = pairs.norm
        # the caps say all there is to say of a diagonal l_inf
        self.ball = isinstance(norm, Norm) and not (norm.diagonal and norm.p == math.inf)
        if self.ball:
            assert isinstance(norm, Norm)
            width = np.where(pairs.cap > 0, pairs.high - pairs.low, 0.0)
            self.width = torch.from_numpy(width)
            matrix = norm.matrix * width
            self.matrix = torch.from_numpy(matrix)
            self.inverse = torch.from_numpy(np.linalg.pinv(matrix))
            share = np.divide(pairs.cap, width, out=np.zeros_like(width), where=width > 0)
            self.share = torch.from_numpy(share)
            self.dual = DUAL[norm.p]

    def value(self, a: Tensor, nodes: Nodes) -> Tensor:
        """(B, 2, m) for coefficients (B, 2, m, d): the most a'x over x' and over x''."""
        numbers = a[..., self.columns]
        total = _box(numbers, nodes.low[:, :, None], nodes.high[:, :, None]).sum(-1)
        for where, _, _ in self.groups:
            shut = (~nodes.open[..., where]).to(a.dtype) * SHUT
            total = total + (a[..., where] + shut[:, :, None]).amax(-1)
        return total

    def joint(self, first: Tensor, second: Tensor, nodes: Nodes) -> Tensor:
        """(B, m) for coefficients (B, m, d) on x' and on x''."""
        total = self._near(first, second, nodes)
        if not self.ball:
            return total
        both = first + second
        value = self.value(torch.stack([both, both], 1), nodes)
        one = value[:, 0] + self._far(second)
        two = value[:, 1] + self._far(-first)
        return torch.minimum(total, torch.minimum(one, two))

    def _near(self, first: Tensor, second: Tensor, nodes: Nodes) -> Tensor:
        """With every column's difference within its cap."""
        one, two = first[..., self.columns], second[..., self.columns]
        low, high = nodes.low[:, :, None], nodes.high[:, :, None]
        both = one + two
        # the linear program per column has its kinks at these three multipliers of x'' - x'
        apart = _box(one, low[:, 0], high[:, 0]) + _box(two, low[:, 1], high[:, 1])
        from_first = _box(both, low[:, 0], high[:, 0]) + two.abs() * self.cap
        from_second = _box(both, low[:, 1], high[:, 1]) + one.abs() * self.cap
        total = torch.minimum(apart, torch.minimum(from_first, from_second)).sum(-1)
        for where, kind, table in self.groups:
            shut = (~nodes.open[..., where]).to(first.dtype) * SHUT
            one, two = first[..., where] + shut[:, :1], second[..., where] + shut[:, 1:]
            if kind == "free":
                total = total + one.amax(-1) + two.amax(-1)
            elif kind == "equal":
                total = total + (one + two).amax(-1)
            else:
                total = total + (one[..., :, None] + two[..., None, :] + table).flatten(-2).amax(-1)
        return total

    def _far(self, a: Tensor) -> Tensor:
        """The most a'(x'' - x') within the ball, (B, m): see `Pairs._budget`."""
        a = a * self.width
        y = a @ self.inverse
        rest = a - y @ self.matrix
        rest = rest.abs() + SLACK * (a.abs() + y.abs() @ self.matrix.abs())
        size = torch.linalg.vector_norm(y, ord=self.dual, dim=-1)
        spent: Tensor = self.pairs.epsilon * size * (1 + ROUNDING)
        return spent + (rest * self.share).sum(-1)


def _box(a: Tensor, low: Tensor, high: Tensor) -> Tensor:
    # written so that its derivative at 0 is a subgradient
    return a * ((high + low) / 2) + a.abs() * ((high - low) / 2)


def _kind(table: np.ndarray) -> str:
    if table.all():
        return "free"
    return "table" if (table & ~np.eye(len(table), dtype=bool)).any() else "equal"
