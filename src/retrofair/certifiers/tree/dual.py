"""Bounds on nodes by lines through each unit and multipliers: sound for any multipliers.

Every hidden unit's r = relu(y) of both copies lies between lines, and so does r'' - r' over
y'' - y'. A linear function of the outputs is followed back through these lines to the inputs, each
unit's share split between its difference and its two copies; multipliers add what is known of
y', y'' and y'' - y' at the node.

Reference: Wang et al. (2021), Beta-CROWN; Wang et al. (2022), interleaving twin-network encoding.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from retrofair.certifiers.layered import Layered
from retrofair.certifiers.propagate import SLACK
from retrofair.certifiers.tree.nodes import Nodes
from retrofair.certifiers.tree.supports import Supports

EMPTY = 1e-9  # how far bounds must cross before a node is taken to hold no pair
NARROW = 1e-12
TIGHTENINGS = 2


@dataclass(frozen=True, eq=False)
class Lines:
    """What holds of relu over the bounds of each unit.

    Args:
        slope, top: (B, 2, N) of the line above each copy.
        bent: (B, 2, N) whether 0 lies inside the bounds.
        above, above_0, below, below_0: (B, N) slopes and intercepts for r'' - r' over y'' - y'.
    """

    slope: Tensor
    top: Tensor
    bent: Tensor
    above: Tensor
    above_0: Tensor
    below: Tensor
    below_0: Tensor


@dataclass(frozen=True, eq=False)
class Shares:
    """How the bound came about, (B, N) each: a unit's weight on its difference, and how far that
    lies from halfway between the weights of its copies."""

    difference: Tensor
    mix: Tensor


def lines(layers: Tensor) -> Lines:
    """The lines for bounds (B, 6, N)."""
    low, high = layers[:, 0:4:2], layers[:, 1:4:2]
    bent = (low < 0) & (high > 0)
    width = (high - low).clamp(min=1e-300)
    slope = torch.where(bent, high / width, (low >= 0).to(low.dtype))
    top = torch.where(bent, -low * slope, 0.0)
    one, two = layers[:, 0:2], layers[:, 2:4]
    least, most = layers[:, 4], layers[:, 5]
    above, above_0 = _over(one, two, least, most)
    below, mirrored = _over(two, one, -most, -least)
    return Lines(slope, top, bent, above, above_0, below, -mirrored)


def _over(first: Tensor, second: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The line above relu(y'') - relu(y') over y'' - y' in [least, most]."""
    low, high = first.unbind(1)

    def top(d: Tensor) -> Tensor:  # the largest value for one y'' - y': convex in it
        return torch.where(
            d >= 0, (d + high.clamp(max=0)).clamp(min=0), torch.maximum(d, -low.clamp(min=0))
        )

    left, right = top(least), top(most)
    width = most - least
    wide = width > NARROW
    slope = torch.where(wide, (right - left) / width.clamp(min=1e-300), 0.0)
    top_0 = torch.maximum(left - slope * least, right - slope * most)
    active, inactive = second[:, 0] >= 0, second[:, 1] <= 0
    slope = torch.where(active, 1.0, torch.where(inactive, 0.0, slope))
    top_0 = torch.where(active, high.clamp(max=0), torch.where(inactive, -low.clamp(min=0), top_0))
    return slope, top_0


class Dual:
    """Bounds for one network (ReLU or leaky ReLU inside) over one set of pairs."""

    def __init__(self, network: Layered, supports: Supports) -> None:
        self.network, self.supports = network, supports
        pairs = supports.pairs
        ends = list(itertools.accumulate(network.widths, initial=0))
        self.slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self.units = ends[-1]
        self.far = torch.from_numpy(abs(pairs.low)).maximum(torch.from_numpy(abs(pairs.high)))
        # how large the numbers met on the way can be: what rounding is relative to
        reach, sizes = self.far, []
        slopes = [max(1.0, abs(activation.slope)) for activation in network.activations]
        for weight, bias, slope in zip(
            network.weights, network.biases, [*slopes, 1.0], strict=True
        ):
            sizes.append(weight.detach().abs() @ reach + bias.detach().abs())
            reach = slope * sizes[-1]
        self.sizes, self.largest = torch.cat([reach[:0], *sizes[:-1]]), sizes[-1]
        # lines with intercepts reach a layer through at most that many roundings of its size
        self.padding = 4 * SLACK * self.sizes

    def root(self) -> Nodes:
        """All pairs, before any bound."""
        pairs, supports = self.supports.pairs, self.supports
        columns = supports.columns.numpy()
        low = torch.from_numpy(pairs.low[columns]).expand(1, 2, -1)
        high = torch.from_numpy(pairs.high[columns]).expand(1, 2, -1)
        n, k = self.units, self.network.outputs
        zeros = torch.zeros(1, n, dtype=torch.float64)
        ends = torch.tensor([-math.inf, math.inf] * 3, dtype=torch.float64)
        return Nodes(
            low=low.contiguous(),
            high=high.contiguous(),
            open=torch.ones(1, 2, pairs.domain.d, dtype=torch.bool),
            layers=ends[None, :, None].repeat(1, 1, n),
            slopes=torch.full((1, 2, n), 0.5, dtype=torch.float64),
            mix=zeros,
            own=zeros[:, None].repeat(1, 2, 1),
            between=zeros.clone(),
            heads=torch.zeros(1, 2, k, dtype=torch.float64),
            shift=torch.zeros(1, dtype=torch.float64),
            upper=torch.full((1,), math.inf, dtype=torch.float64),
        )

    # --- bounds on every layer --------------------------------------------------------------------

    def propagate(self, nodes: Nodes, start: int = 0) -> tuple[Nodes, Tensor]:
        """The nodes with narrower bounds from layer `start` on, and which hold no pair, (B,)."""
        parts: list[Tensor] = []
        empty = torch.zeros(len(nodes), dtype=torch.bool)
        for depth, where in enumerate(self.slices):
            part = nodes.layers[..., where]
            if depth >= start:
                new = self._layer(nodes, parts, depth)
                narrower = [torch.maximum, torch.minimum] * 3
                part = torch.stack(
                    [f(part[:, row], new[:, row]) for row, f in enumerate(narrower)], 1
                )
            part, crossed = self._consistent(part, self.padding[where])
            parts.append(part)
            empty |= crossed
        return (nodes.put(layers=torch.cat(parts, -1)) if parts else nodes), empty

    def _consistent(self, part: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """y'' - y' lies within what y' and y'' leave it, and they within what it leaves them."""
        low, high, low_2, high_2, least, most = part.unbind(1)
        for _ in range(TIGHTENINGS):
            least, most = torch.maximum(least, low_2 - high), torch.minimum(most, high_2 - low)
            low_2, high_2 = torch.maximum(low_2, low + least), torch.minimum(high_2, high + most)
            low, high = torch.maximum(low, low_2 - most), torch.minimum(high, high_2 - least)
        room = EMPTY + padding
        crossed = (low > high + room) | (low_2 > high_2 + room) | (least > most + room)
        # where rounding makes two ends cross, both give way
        ends = [
            (torch.minimum(a, b), torch.maximum(a, b))
            for a, b in ((low, high), (low_2, high_2), (least, most))
        ]
        return torch.stack([end for pair in ends for end in pair], 1), crossed.any(-1)

    def _layer(self, nodes: Nodes, before: list[Tensor], depth: int) -> Tensor:
        """(B, 6, n) bounds on one layer from the lines of those before it."""
        weight, bias = self.network.weights[depth], self.network.biases[depth]
        padding = self.padding[self.slices[depth]]
        rows = torch.cat([weight, -weight])
        a = rows.expand(len(nodes), 2, -1, -1)
        first, second = (-rows).expand(len(nodes), -1, -1), rows.expand(len(nodes), -1, -1)
        constant, gap = torch.zeros(()), torch.zeros(())
        for k in range(depth - 1, -1, -1):
            at = lines(before[k])
            slope = self.network.activations[k].slope
            # one person: the line above, or the one below that leaves the smaller triangle
            below = torch.where(at.bent, (at.slope > 0.5).to(a.dtype), at.slope)[:, :, None]
            r, up = (1 - slope) * a, ((1 - slope) * a).clamp(min=0)
            constant = constant + up @ at.top[..., None]
            a = slope * a + up * at.slope[:, :, None] + (r - up) * below
            constant = constant + a @ self.network.biases[k][:, None]
            a = a @ self.network.weights[k]
            # two people: first is -second all the way
            r, up = (1 - slope) * second, ((1 - slope) * second).clamp(min=0)
            gap = gap + up @ at.above_0[..., None] + (r - up) @ at.below_0[..., None]
            second = slope * second + up * at.above[:, None] + (r - up) * at.below[:, None]
            second = second @ self.network.weights[k]
            first = -second
        value = self.supports.value(a, nodes) + (constant[..., 0] if depth else 0.0)
        far = self.supports.joint(first, second, nodes) + (gap[..., 0] if depth else 0.0)
        n = len(bias)
        high, low = value[..., :n] + bias + padding, -value[..., n:] + bias - padding
        most, least = far[:, :n] + padding, -far[:, n:] - padding
        return torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1], least, most], 1)

    # --- bounds on the value ----------------------------------------------------------------------

    def bound(
        self, nodes: Nodes, at: Lines, difference: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Shares]:
        """Upper bounds (B,) on the nodes' values, what they include for rounding, and the shares.

        Args:
            difference: (B, N) the units' weights on their differences, instead of nodes.mix.
        """
        network = self.network
        heads, out = nodes.heads, network.weights[-1]
        a = heads @ out
        total = nodes.shift + heads.sum(1) @ network.biases[-1]
        slack = nodes.shift.abs() + heads.abs().sum(1) @ self.largest
        own, between, layers = nodes.own, nodes.between, nodes.layers
        ends = torch.where(own > 0, layers[:, 0:4:2], layers[:, 1:4:2])
        apart = torch.where(between > 0, layers[:, 4], layers[:, 5])
        total = total - (own * torch.where(own == 0, 0.0, ends)).sum((1, 2))
        total = total - (between * torch.where(between == 0, 0.0, apart)).sum(1)
        shares, mixes = [], []
        for depth in range(len(self.slices) - 1, -1, -1):
            where = self.slices[depth]
            slope = network.activations[depth].slope
            r = (1 - slope) * a
            half = (r[:, 1] - r[:, 0]) / 2
            p = half + nodes.mix[:, where] if difference is None else difference[:, where]
            q = r + torch.stack([p, -p], 1)
            up, p_up = _positive(q), _positive(p)
            below = torch.where(at.bent[..., where], nodes.slopes[..., where], at.slope[..., where])
            total = total + (up * at.top[..., where]).sum((1, 2))
            total = total + (p_up * at.above_0[:, where] + (p - p_up) * at.below_0[:, where]).sum(1)
            d = p_up * at.above[:, where] + (p - p_up) * at.below[:, where]
            d = d + between[:, where]
            b = slope * a + up * at.slope[..., where] + (q - up) * below + own[..., where]
            b = b + torch.stack([-d, d], 1)
            total = total + b.sum(1) @ network.biases[depth]
            weight = p.abs() + between[:, where].abs() + (q.abs() + b.abs() + a.abs()).sum(1)
            slack = slack + (weight + own[..., where].abs().sum(1)) @ self.sizes[where]
            a = b @ network.weights[depth]
            shares.append(p)
            mixes.append(p - half)
        slack = SLACK * (slack + a.abs().sum(1) @ self.far)
        total = total + self.supports.joint(a[:, :1], a[:, 1:], nodes)[:, 0]
        found = Shares(_joined(shares, nodes.mix), _joined(mixes, nodes.mix))
        return torch.nan_to_num(total + slack, nan=math.inf), slack, found


def _joined(parts: list[Tensor], like: Tensor) -> Tensor:
    """The layers' parts, which came last layer first."""
    return torch.cat(parts[::-1], -1) if parts else like


def _positive(a: Tensor) -> Tensor:
    return (a + a.abs()) / 2
