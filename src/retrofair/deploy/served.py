"""One module from a row to its probability and decision: what is exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data.learned import LARGEST
from retrofair.debiasers.head import GivenHead
from retrofair.deploy.form import Form
from retrofair.deploy.prepared import PreparedTable, every
from retrofair.networks.outputs import applied

NONE = -1  # the decision on a row that cannot be decided


class Served(nn.Module):
    """A network with its rule and, for tables, its preparation.

    `forward(x)`, or `forward(x, group)` where the rule needs each row's group, and with the tensors
    of x one by one where there are several, gives the probability (n,) float64, (n, K) of three
    classes or more, and the decision (n,) int64. A row that the library would refuse (an unknown
    category, a missing value it does not fill, an unknown group, a score that is not finite) gets
    the probability nan and the decision -1.

    Args:
        prepare: makes the network's features from a table's columns; None: x are the features.
        decide: the rule.
        coin: of a randomised rule.
        groups: how many there are, where the rule needs them; otherwise 0.
        classes: 2, or more with a logit each.
        form: what the network's x is made of.
    """

    def __init__(
        self,
        network: nn.Module,
        decide: nn.Module,
        *,
        prepare: PreparedTable | None = None,
        coin: nn.Module | None = None,
        groups: int = 0,
        classes: int = 2,
        form: Form = Form(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.network, self.decide, self.prepare, self.coin = network, decide, prepare, coin
        self.groups, self.classes, self.form = groups, classes, form

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        x = self.form.joined(given[: len(self.form.names)])
        group = given[-1] if self.groups else None
        usable = None
        if self.prepare is not None:
            x, usable = self.prepare(x)
        known = None
        if group is not None:
            known = (group >= 0) & (group < self.groups)
            group = torch.where(known, group, torch.zeros_like(group))
        logit = self._logit(x, group).float()
        finite = logit.abs() <= LARGEST
        finite = finite if self.classes == 2 else every(finite)
        usable = finite if usable is None else usable & finite
        usable = usable if known is None else usable & known
        coin = None if self.coin is None else self.coin(x)
        chance, score = self._chances(logit.double())
        decision = self.decide(score, group, coin)
        shown = usable if self.classes == 2 else usable[:, None]
        chance = torch.where(shown, chance, torch.full_like(chance, torch.nan))
        return chance, torch.where(usable, decision, torch.full_like(decision, NONE))

    def _logit(self, x: Any, group: Tensor | None) -> Tensor:
        if group is not None and isinstance(self.network, GivenHead):
            return self.network.given(self.network.features(x), group)
        # "forward" reads (n, 1) as (n,), as everywhere in the library
        return applied(self.network, x)

    def _chances(self, logit: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities, and what the rule decides from: with K classes, their logarithms."""
        if self.classes == 2:
            chance = 1 / (1 + torch.exp(-logit))
            return chance, chance
        logs = torch.log_softmax(logit, 1)
        return torch.exp(logs), logs


def example(module: Served, given: Sequence[Tensor], rows: int = 3) -> tuple[Tensor, ...]:
    """Inputs to export with, from the first row of some."""
    few = tuple(each[:1].expand(rows, *each.shape[1:]).contiguous() for each in given)
    return (*few, torch.zeros(rows, dtype=torch.long)) if module.groups else few


def frozen(module: Served) -> Served:
    """In eval mode, with nothing that takes gradients."""
    return module.eval().requires_grad_(False)
