"""The cells of `coefficients`: a network's bias under random factors of its weights, explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from retrofair import metrics
from retrofair.data import GroupedData, Splits
from retrofair.debiasers import Random
from retrofair.debiasers.base import clone
from retrofair.debiasers.perturbed import Flat
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array
from retrofair.networks.outputs import probabilities
from retrofair.networks.randomness import draw_seed, generator_of
from retrofair.studies import linear
from retrofair.studies.cells import Answer, NetworkCell
from retrofair.studies.sources import Source

MEASURES = ("spd", "eod", "aod")  # linear in the decisions, so that they have a gradient
# Relative to the spread of the logits. Narrow, because many draws are averaged; a width of a tenth
# already misses how steeply people are spread around the threshold.
WIDTH = 0.02


@dataclass(frozen=True)
class PerturbationCell:
    """Multiplies all weights by N(1, scale) draws, many times, and explains the bias by the draws.

    The bias is that of the test data at threshold 0.5, as in the paper. Two things explain it:
    regression on the draws, beside the same on permuted biases; and the bias's own gradient, which
    takes no trial. What each number can tell is said in `studies.linear`.

    Args:
        measure: spd, eod or aod, between two groups.
        permutations: of the biases, for the null distributions.
        gradients: draws that the gradient is averaged over.
    """

    network: NetworkCell
    measure: str = "spd"
    trials: int = 1000
    scale: float = 0.1
    seed: int = 0
    permutations: int = 20
    gradients: int = 100
    kind: ClassVar[str] = "perturbation"

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise unknown("measure", self.measure, MEASURES)
        least = 2 * linear.FOLDS
        if self.trials < least or not self.scale > 0:
            raise InputError(
                f"expected trials >= {least} and scale > 0, got {self.trials} and {self.scale}"
            )
        if self.permutations < 1 or self.gradients < 2:
            raise InputError(
                "expected permutations >= 1 and gradients >= 2, got "
                f"{self.permutations} and {self.gradients}"
            )

    @property
    def source(self) -> Source:
        return self.network.source

    @property
    def needs(self) -> NetworkCell:
        return self.network

    @property
    def label(self) -> str:
        return "perturbation"

    def config(self) -> dict[str, Any]:
        plain = ("measure", "trials", "scale", "seed", "permutations", "gradients")
        return {"network": self.network.config(), **{name: getattr(self, name) for name in plain}}

    def run(self, splits: Splits, network: nn.Module | None) -> Answer:
        """The linear analysis; tensors `biases` (trials,), `coefficients` and `gradient` (p,).

        `permuted` (permutations, p) are the coefficients of the fits to permuted biases. All
        coefficients are of unit length, in the order of `parameters` (names and sizes).
        """
        assert network is not None
        generator = generator_of(self.seed)
        deltas, biases, before = self._trials(network, splits.test, generator)
        gradients = self._gradients(network, splits.test, generator)
        rng = np.random.default_rng(draw_seed(generator))
        values, vectors = linear.analyse(deltas, biases, gradients, self.permutations, rng)
        values = {
            "parameters": [[name, p.numel()] for name, p in network.named_parameters()],
            "rows": len(splits.test),
            "bias": before,
            "bias_mean": float(biases.mean()),
            "bias_std": float(biases.std(ddof=1)),
            **values,
        }
        tensors = {name: torch.from_numpy(v).float() for name, v in vectors.items()}
        return Answer(values, {**tensors, "biases": torch.from_numpy(biases)})

    def _trials(
        self, network: nn.Module, data: GroupedData, generator: torch.Generator
    ) -> tuple[Array, Array, float]:
        """Factors less 1, (trials, p), the biases they lead to (trials,), and the bias without."""
        model = clone(network)
        weights, random = Flat(model), Random(trials=self.trials, scale=self.scale)
        y, group, names = data.y.numpy(), data.group.numpy(), data.group_names

        def look() -> Array:
            return metrics.count(y, probabilities(model, data) > 0.5, group, len(names))

        measure, counts = metrics.get(self.measure), [look()]
        if len(names) != 2:
            raise InputError(f"expected two groups, got {len(names)}: {list(names)}")
        metrics.require(measure, counts[0], names)
        factors = torch.empty(self.trials, len(weights))
        for trial in range(self.trials):
            factors[trial] = random.noise(len(weights), generator)
            weights.scale_by([factors[trial]])
            counts.append(look())
        biases = measure(np.stack(counts)).astype(float)
        return factors.double().sub_(1).numpy(), biases[1:], float(biases[0])

    def _gradients(
        self, network: nn.Module, data: GroupedData, generator: torch.Generator
    ) -> Array:
        """The bias's derivatives by the factors, summed over each half of the draws, (2, p).

        For normal factors the best linear predictor of any function of them has its mean gradient
        as coefficients (Stein's lemma). Decisions have none, so a steep sigmoid stands in for them.
        """
        model = clone(network)
        weights, random = Flat(model), Random(scale=self.scale)
        worth = _worth(metrics.get(self.measure), data)
        with torch.no_grad():
            width = max(WIDTH * float(model(data.x).std()), 1e-6)
        halves = torch.zeros(2, len(weights), dtype=torch.double)
        for draw in range(self.gradients):
            weights.scale_by([random.noise(len(weights), generator)])
            smooth = (worth * torch.sigmoid(model(data.x) / width)).sum()
            parts = torch.autograd.grad(smooth, list(model.parameters()))
            halves[draw % 2] += torch.cat([part.reshape(-1) for part in parts]) * weights.original
        return halves.numpy()


def _worth(measure: metrics.Measure, data: GroupedData) -> Tensor:
    """What each row's positive decision adds to the measure, (n,): those used here are linear."""
    y, group = data.y.long(), data.group
    nobody = metrics.count(y.numpy(), np.zeros(len(y), bool), group.numpy(), 2)
    worth = torch.zeros(2, 2)
    for g, label in np.ndindex(2, 2):
        if nobody[g, label, 0]:
            one = nobody.copy()
            one[g, label] += (-1, 1)
            worth[g, label] = float(measure(one))
    return worth[group, y]
