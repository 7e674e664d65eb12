"""Sound bounds on every layer of both copies and on their difference, in milliseconds.

Interval arithmetic, CROWN (lines through each activation, followed back to the inputs) and
difference-CROWN (the same for x'' - x', whose lines do not depend on where the copies are). Each
only ever narrows what the others found.

Reference: Zhang et al. (2018), Efficient neural network robustness certification with general
activation functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.activations import Activation
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.layered import Layered
from retrofair.certifiers.pairs import Pairs

Way = Literal["interval", "crown", "difference"]
# Rounding: sums of some thousand products, each good to 2^-53 of its size; a wide margin on that.
SLACK = 2.0**-53 * 4096


@dataclass(frozen=True, eq=False)
class LayerBounds:
    """Bounds on one layer's y of either copy, and on y'' - y', which lies in [-reach, reach]."""

    low: Tensor
    high: Tensor
    reach: Tensor

    def narrowed(self, other: LayerBounds) -> LayerBounds:
        """What both say; where rounding makes them disagree, a point."""
        low, high = torch.maximum(self.low, other.low), torch.minimum(self.high, other.high)
        middle = (low + high) / 2
        low, high = torch.minimum(low, middle), torch.maximum(high, middle)
        reach = torch.minimum(torch.minimum(self.reach, other.reach), high - low)
        return LayerBounds(low, high, reach)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds on all layers, the outputs last.

    Args:
        layers: one per affine layer of the network.
        slack: what was added for rounding to the outputs' reach at most.
    """

    layers: tuple[LayerBounds, ...]
    slack: float

    @property
    def outputs(self) -> LayerBounds:
        return self.layers[-1]


def bounds(
    network: Layered, pairs: Pairs, ways: tuple[Way, ...] = ("crown", "difference")
) -> Bounds:
    """Bounds on every layer, from the first to the last.

    Args:
        ways: "interval" is always used; "crown" and "difference" narrow it.
    """
    found: list[LayerBounds] = []
    slack = 0.0
    for depth in range(len(network.weights)):
        layer, slack = layer_bounds(network, pairs, found, depth, ways)
        found.append(layer)
    return Bounds(tuple(found), slack)


def layer_bounds(
    network: Layered,
    pairs: Pairs,
    before: list[LayerBounds],
    depth: int,
    ways: tuple[Way, ...] = ("crown", "difference"),
) -> tuple[LayerBounds, float]:
    """Bounds on one layer from those of the layers before it, and the slack they include."""
    layer, slack = _interval(network, pairs, before, depth)
    weight, bias = network.weights[depth], network.biases[depth]
    if depth and ("crown" in ways):
        high, _ = _back(network, pairs, before, depth, weight, bias)
        low, _ = _back(network, pairs, before, depth, -weight, -bias)
        one = LayerBounds(-low - slack, high + slack, torch.full_like(high, torch.inf))
        layer = layer.narrowed(one)
    if depth and ("difference" in ways):
        reach = _reach(network, pairs, before, weight, slack)
        layer = layer.narrowed(LayerBounds(layer.low, layer.high, reach))
    return layer, float(slack.max())


def _reach(
    network: Layered, pairs: Pairs, before: list[LayerBounds], rows: Tensor, slack: Tensor
) -> Tensor:
    """Upper bounds on rows (m, units) times h'' - h' of the last hidden layer, (m,).

    Difference-CROWN and two copies of CROWN side by side: the smaller.
    """
    a, constant = rows, torch.zeros(len(rows), dtype=rows.dtype)
    for depth in range(len(before) - 1, -1, -1):
        above, rise = difference_lines(network.activations[depth], before[depth])
        # the lines are symmetric: below is above mirrored, so only |a| meets the intercept
        constant = constant + a.abs() @ rise
        a = (a * above) @ network.weights[depth]
    one = _padded(_tensor(pairs.difference(a.numpy())) + constant, slack)
    if not before:
        return one
    second, high = _lines_back(network, before, rows)
    first, low = _lines_back(network, before, -rows)
    two = _tensor(pairs.joint(second.numpy(), -first.numpy())) + high + low
    return torch.minimum(one, two.clamp(min=0) + slack)  # large numbers may have cancelled in two


def heads_reach(network: Layered, pairs: Pairs, found: Bounds, heads: Tensor) -> Tensor:
    """Upper bounds on heads (m, K) times the difference of the outputs, (m,)."""
    rows = heads @ network.weights[-1]
    size = rows.abs().sum(1) + heads.abs().sum(1)
    return _reach(network, pairs, list(found.layers[:-1]), rows, found.slack * size.clamp(min=1))


def difference_lines(activation: Activation, layer: LayerBounds) -> tuple[Tensor, Tensor]:
    """Slope and intercept of the line above h'' - h' over y'' - y' in [-reach, reach].

    The mean value theorem puts h'' - h' between the least and the largest slope times y'' - y'.
    """
    least, most = activation.slopes(layer.low, layer.high)
    # through (-reach, -least * reach) and (reach, most * reach)
    return (least + most) / 2, (most - least) / 2 * layer.reach


def _interval(
    network: Layered, pairs: Pairs, before: list[LayerBounds], depth: int
) -> tuple[LayerBounds, Tensor]:
    weight, bias = network.weights[depth], network.biases[depth]
    if not depth:
        a = weight.numpy()
        size = _tensor(np.abs(a) @ np.maximum(np.abs(pairs.low), np.abs(pairs.high))) + bias.abs()
        slack = SLACK * (size + 1e-300)
        high, low = _tensor(pairs.value(a)) + bias, -_tensor(pairs.value(-a)) + bias
        reach = torch.minimum(_padded(_tensor(pairs.difference(a)), slack), high - low + slack)
        return LayerBounds(low - slack, high + slack, reach), slack
    previous, activation = before[-1], network.activations[depth - 1]
    ends = activation(previous.low), activation(previous.high)
    bottom, top = torch.minimum(*ends), torch.maximum(*ends)
    if activation.slope < 0:  # a leaky ReLU that rises to the left has its lowest point at 0
        bottom = torch.where((previous.low < 0) & (previous.high > 0), 0.0, bottom)
    least, most = activation.slopes(previous.low, previous.high)
    span = top - bottom + SLACK * torch.maximum(top.abs(), bottom.abs())
    moved = torch.minimum(span, torch.maximum(least.abs(), most.abs()) * previous.reach)
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    slack = SLACK * (weight.abs() @ torch.maximum(bottom.abs(), top.abs()) + bias.abs() + 1e-300)
    # what reaches this layer through coarser lines is larger than what interval arithmetic sees
    slack = slack + weight.abs() @ (SLACK * torch.maximum(previous.low.abs(), previous.high.abs()))
    high, low = up @ top + down @ bottom + bias, up @ bottom + down @ top + bias
    reach = _padded(weight.abs() @ moved, slack)
    return LayerBounds(low - slack, high + slack, reach), slack


def _padded(reach: Tensor, slack: Tensor) -> Tensor:
    """With slack; but where nothing at all differs, 0 stays: equal people get equal answers."""
    return torch.where(reach <= 0, 0.0, reach + slack)  # (nan stays nan)


def _back(
    network: Layered,
    pairs: Pairs,
    before: list[LayerBounds],
    depth: int,
    rows: Tensor,
    constant: Tensor,
) -> tuple[Tensor, Tensor]:
    """Upper bounds on rows (m, units) times h of layer `depth`, plus a constant, (m,)."""
    a, rest = _lines_back(network, before, rows)
    return _tensor(pairs.value(a.numpy())) + rest + constant, a


def _lines_back(network: Layered, before: list[LayerBounds], rows: Tensor) -> tuple[Tensor, Tensor]:
    """A linear function of the inputs above rows times h: coefficients (m, d) and constant (m,)."""
    a, constant = rows, torch.zeros(len(rows), dtype=rows.dtype)
    for depth in range(len(before) - 1, -1, -1):
        layer = before[depth]
        below_slope, below, above_slope, above = network.activations[depth].lines(
            layer.low, layer.high
        )
        up, down = a.clamp(min=0), a.clamp(max=0)
        constant = constant + up @ above + down @ below
        a = up * above_slope + down * below_slope
        constant = constant + a @ network.biases[depth]
        a = a @ network.weights[depth]
    return a, constant


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
