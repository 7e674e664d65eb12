"""A network as a certifier sees it: affine layers in double precision with activations between."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.activations import Activation
from retrofair.certifiers.domain import Mask
from retrofair.errors import InputError


@dataclass(frozen=True, eq=False)
class Layered:
    """y_1 = W_1 x + b_1, h_k = activation_k(y_k), y_(k+1) = W_(k+1) h_k + b_(k+1).

    Args:
        weights, biases: L layers, float64.
        activations: the L - 1 between them.
        softmax: the outputs are exponentials that sum to one (or their logarithms).
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activations: tuple[Activation, ...]
    softmax: bool = False

    @property
    def inputs(self) -> int:
        return self.weights[0].shape[1]

    @property
    def outputs(self) -> int:
        return self.weights[-1].shape[0]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units per hidden layer."""
        return tuple(len(bias) for bias in self.biases[:-1])

    @property
    def smooth(self) -> list[str]:
        """The kinds of activation that are not two straight pieces."""
        return sorted({a.kind for a in self.activations if not a.piecewise})

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) float64 to (n, outputs), before any softmax."""
        for weight, bias, activation in zip(
            self.weights, self.biases, self.activations, strict=False
        ):
            x = activation(torch.nn.functional.linear(x, weight, bias))
        return torch.nn.functional.linear(x, self.weights[-1], self.biases[-1])

    def whole(self) -> Layered:
        """Itself, where no softmax comes last.

        Raises:
            InputError: one does.
        """
        if self.softmax:
            raise InputError("expected a module without softmax here: use its logits")
        return self

    def without(self, columns: Mask) -> Layered:
        """The same network with these inputs set to 0."""
        kept = torch.from_numpy(~np.asarray(columns)).to(torch.float64)
        return dataclasses.replace(self, weights=(self.weights[0] * kept, *self.weights[1:]))

    def split_sigmoid(self) -> tuple[Layered, Tensor, Tensor] | None:
        """The part before a last sigmoid with the scale and shift after it, (outputs,) each.

        None where no sigmoid comes last, or its values are mixed afterwards.
        """
        if not self.activations or self.activations[-1].kind != "sigmoid" or self.softmax:
            return None
        last = self.weights[-1]
        if last.shape[0] != last.shape[1] or bool((last - torch.diag(torch.diag(last))).any()):
            return None
        before = Layered(self.weights[:-1], self.biases[:-1], self.activations[:-1])
        return before, torch.diag(last), self.biases[-1]
