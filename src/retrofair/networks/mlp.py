"""The papers' network: hidden layers with ReLU, dropout and BatchNorm, one logit."""

from __future__ import annotations

from torch import Tensor, nn

from retrofair.errors import InputError


class MLP(nn.Module):
    """(n, features) -> (n,) logits.

    Each hidden layer is Linear, ReLU, Dropout, BatchNorm, in the order of the papers' code.

    Args:
        width: units per hidden layer.
        depth: number of hidden layers.
        dropout: share of units dropped in training, in [0, 1).
        batch_norm: normalise after each hidden layer.

    `structure` holds these arguments: a saved result rebuilds the network from them.
    """

    def __init__(
        self,
        features: int,
        *,
        width: int = 32,
        depth: int = 10,
        dropout: float = 0.2,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if min(features, width) < 1 or depth < 0 or not 0 <= dropout < 1:
            raise InputError(
                "expected at least one feature and unit, depth >= 0 and dropout in [0, 1), got "
                f"features={features}, width={width}, depth={depth}, dropout={dropout}"
            )
        self.structure = {
            "features": features,
            "width": width,
            "depth": depth,
            "dropout": dropout,
            "batch_norm": batch_norm,
        }
        layers: list[nn.Module] = []
        for size in [features, *[width] * (depth - 1)][:depth]:
            layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)]
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
        self.hidden = nn.Sequential(*layers)
        self.out = nn.Linear(width if depth else features, 1)

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.out(self.hidden(x))
        return logit.squeeze(-1)
