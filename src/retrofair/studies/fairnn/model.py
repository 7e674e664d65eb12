"""The paper's model, low + (high - low) sigmoid(w x + b), and the same with hidden layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

Squash = Callable[[Tensor], Tensor]
ENDS, PIECES = 5.0, 16
# The highest tooth of the released code's sigmoid: a middle piece, of slope s (1 - s).
_MIDDLE = 1 / (1 + math.exp(-ENDS / PIECES))
TOOTH = _MIDDLE * (1 - _MIDDLE) * 2 * ENDS / PIECES
FLAT = "one layer"


def model_name(hidden: tuple[int, ...]) -> str:
    """What tables call a model."""
    return f"hidden layers {', '.join(map(str, hidden))}" if hidden else FLAT


@dataclass(frozen=True)
class Shape:
    """A model by its sizes; its weights are one vector, so that a search can move them.

    Args:
        hidden: sizes of the hidden layers, with ReLU; none for the paper's.
        low, high: the range of the outputs.
    """

    features: int
    hidden: tuple[int, ...] = ()
    low: float = 5.0
    high: float = 50.0

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        sizes = (self.features, *self.hidden, 1)
        return list(pairwise(sizes))

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers)

    def unpacked(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights (outputs, inputs) and biases of each layer, from (size,)."""
        found, at = [], 0
        for inputs, outputs in self.layers:
            middle, end = at + inputs * outputs, at + (inputs + 1) * outputs
            found.append((theta[at:middle].reshape(outputs, inputs), theta[middle:end]))
            at = end
        return found

    def outputs(self, theta: Tensor, x: Tensor, squash: Squash = torch.sigmoid) -> Tensor:
        """(n,) for x (n, d)."""
        for k, (weight, bias) in enumerate(self.unpacked(theta)):
            x = torch.addmm(bias, torch.relu(x) if k else x, weight.T)
        return self.low + (self.high - self.low) * squash(x[:, 0])

    def network(self, theta: Tensor) -> nn.Module:
        """The same as a float32 network, (n, d) -> (n,)."""
        layers: list[nn.Module] = []
        for k, (weight, bias) in enumerate(self.unpacked(theta)):
            layers += [nn.ReLU()] if k else []
            layers.append(_linear(weight, bias))
        return Ranged(nn.Sequential(*layers), self.low, self.high).eval()

    def weights(self, network: nn.Module) -> Tensor:
        """(size,) the weights of such a network: what `network` was made of."""
        return torch.cat([p.detach().double().flatten() for p in network.parameters()])

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Random weights, (size,): standard normal, as in the paper's released code.

        With hidden layers of variance 1 / inputs, without which every output would sit at an end
        of the range.
        """
        parts = []
        for inputs, outputs in self.layers:
            scale = inputs**-0.5 if self.hidden else 1.0
            parts.append(scale * rng.standard_normal((inputs + 1) * outputs))
        return torch.from_numpy(np.concatenate(parts))

    def constant(self, value: float) -> Tensor:
        """Weights of 0 and the bias with which every output is `value`."""
        theta = torch.zeros(self.size, dtype=torch.double)
        share = (value - self.low) / (self.high - self.low)
        theta[-1] = torch.logit(torch.tensor(share, dtype=torch.double), eps=1e-9)
        return theta


class Ranged(nn.Module):
    """low + (high - low) * sigmoid of a network with one output, (n, d) -> (n,)."""

    def __init__(self, network: nn.Module, low: float, high: float) -> None:
        super().__init__()
        self.network, self.low, self.high = network, low, high

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.network(x)
        return self.low + (self.high - self.low) * torch.sigmoid(z[:, 0])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made


def released_sigmoid(z: Tensor) -> Tensor:
    """What the paper's released code has in place of the sigmoid, to compare.

    16 straight pieces on [-5, 5) with the sigmoid's slope at their middles; but each starts at 0
    again, so that together they are a saw whose teeth are at most 0.153 high. It is 0 below, and
    jumps from less than 0.01 to 1 at 5.
    """
    width = 2 * ENDS / PIECES
    start = (z + ENDS).div(width, rounding_mode="floor") * width - ENDS
    middle = torch.sigmoid(start + width / 2)
    tooth = middle * (1 - middle) * (z - start)
    return torch.where(z >= ENDS, 1.0, torch.where(z < -ENDS, 0.0, tooth))
