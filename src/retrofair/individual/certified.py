"""A proved bound on the largest difference as something to descend: difference-CROWN, live."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrofair.certifiers.distances import NetworkNorm
from retrofair.certifiers.extract import Live
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.certifiers.tree.dual import Dual, lines
from retrofair.certifiers.tree.goals import Goal
from retrofair.certifiers.tree.split import Splits
from retrofair.certifiers.tree.supports import Supports
from retrofair.errors import InputError


class CertifiedBound:
    """An upper bound on the largest difference over all pairs of the domain, differentiable.

    Raises:
        InputError: a smooth activation inside the network, or a distance by a network, of which
            bounds on the columns know nothing.
    """

    def __init__(
        self, network: nn.Module, question: Question, pairs: Pairs, outputs: Outputs | None
    ) -> None:
        if smooth := question.network.smooth:
            raise InputError(
                "expected ReLU or leaky ReLU inside the network to train against a proved bound, "
                f"got {', '.join(smooth)}: say bound=0"
            )
        if isinstance(pairs.norm, NetworkNorm):
            raise InputError(
                "expected a distance on the columns, or on linear functions of them, to train "
                "against a proved bound, got an embedding by a network: say bound=0"
            )
        self.network, self.outputs = question.original, outputs
        self.live = Live(network, pairs.domain.d)
        self.supports = Supports(pairs)
        self.roots = Splits(Dual(question.network, self.supports)).roots()

    def __call__(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """The bound on what is compared, and what to descend in its place.

        The second is the bound itself for values; for probabilities it is a quarter of the bound
        on the logits, which lies above tanh of it and does not flatten out where it is large.
        """
        question, _ = Question.of_layers(self.network, self.live.layers(network), self.outputs)
        dual = Dual(question.network, self.supports)
        nodes, _ = dual.propagate(self.roots)
        at = lines(nodes.layers)
        found = [
            dual.bound(Goal.difference(head).onto(nodes), at)[0].amax() for head in question.heads
        ]
        most = torch.stack(found).clamp(min=0)
        if question.kind == "values":
            return most.amax(), most.amax()
        scale = question.scale if question.kind == "sigmoid" else torch.ones(1).double()
        return (torch.tanh(most / 4) * scale).amax(), (most / 4 * scale).amax()
