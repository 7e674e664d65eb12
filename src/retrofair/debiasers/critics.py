"""The critics of the adversarial methods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from retrofair.errors import InputError
from retrofair.networks.randomness import seeded


def mlp_critic(
    inputs: int, outputs: int, generator: torch.Generator, *, width: int = 32, dropout: float = 0.2
) -> nn.Sequential:
    """Three hidden layers, as in the papers' code: (k, inputs) -> (k, outputs)."""
    with seeded(generator):
        layers: list[nn.Module] = []
        for size in (inputs, width, width):
            layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)]
        return nn.Sequential(*layers, nn.Linear(width, outputs))


class PooledCritic(nn.Module):
    """Reads the rows of a minibatch in any order: (k, b, h) -> (k, 1), and (b, h) -> (1, 1)."""

    def __init__(self, features: int, generator: torch.Generator, *, width: int = 32) -> None:
        super().__init__()
        with seeded(generator):
            self.row = nn.Sequential(
                nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
            )
            self.batch = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, rows: Tensor) -> Tensor:
        # of one minibatch a row is kept: a layer reads a row in fewer operations than a vector
        pooled = self.row(rows).mean(dim=-2, keepdim=rows.ndim == 2)
        value: Tensor = self.batch(pooled)
        return value


class ConcatenatedCritic(nn.Module):
    """Reads the rows of a minibatch one after the other, as the papers do: (k, b, h) -> (k, 1)."""

    def __init__(self, features: int, batch_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.net = mlp_critic(features * batch_size, 1, generator)

    def forward(self, rows: Tensor) -> Tensor:
        value: Tensor = self.net(rows.flatten(-2))
        return value


def set_trainable(module: nn.Module, on: bool) -> None:
    """Switch gradients of all parameters on or off."""
    for parameter in module.parameters():
        parameter.requires_grad_(on)


def forget_gradients(parameters: Sequence[Tensor]) -> None:
    """What an optimiser's `zero_grad` does, without its hooks: they cost more than a small step."""
    for parameter in parameters:
        parameter.grad = None


def layer_rates(model: nn.Module, rate: float, early: float) -> list[dict[str, object]]:
    """Parameter groups for an optimiser whose rate rises from early * rate at the first tensor.

    Limiting the influence on early layers is what the papers ask for in fine-tuning.

    Raises:
        InputError: the network has no weights to change.
    """
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError(
            "expected a network with weights to change, got none: use a method that changes none, "
            "such as threshold (method, --method)"
        )
    last = max(len(parameters) - 1, 1)
    return [
        {"params": [p], "lr": rate * (early + (1 - early) * index / last)}
        for index, p in enumerate(parameters)
    ]
