"""What every debiasing method is and returns."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from retrofair.data import Batches
from retrofair.debiasers.device_search import DeviceSearch
from retrofair.debiasers.offsets import OffsetChoice, OffsetSearch
from retrofair.debiasers.rules import Argmax, Cut, Rule
from retrofair.metrics import Array, class_count
from retrofair.networks.outputs import chances
from retrofair.networks.recording import chances as known_chances
from retrofair.objective import Objective
from retrofair.thresholds import Choice, ThresholdSearch


@dataclass(frozen=True, eq=False)
class Unseen:
    """What a method's parts decide on rows that they had not seen.

    Args:
        decisions: (n,) of 0/1, or of class codes.
        scores: (n,) from which they were decided, or (n, K).
        group_chances: (n, G) of the method's own estimate of the group, where it has one.
    """

    decisions: Array
    scores: Array
    group_chances: Array | None = None


def later(default: Any) -> Any:
    """The field of an option that a method got after studies had stored its results: left out of
    what names a result while it is as it was before."""
    return field(default=default, metadata={"later": True})


def options_of(debiaser: Any) -> dict[str, Any]:
    """A method's options, without those that came later and are not used."""
    return {
        each.name: getattr(debiaser, each.name)
        for each in fields(debiaser)
        if not (each.metadata.get("later") and getattr(debiaser, each.name) == each.default)
    }


RARE = 0.005  # the share of rows that must be decided unlike the rest, or a rule is constant


@dataclass(frozen=True, eq=False)
class Fit:
    """A method's answer: a new network, how its probabilities become decisions, and the way there.

    Args:
        history: one record per step worth reporting (a trial, an epoch).
        unseen: decisions on the same data, each by a part that had not seen the row; None for
            methods that do not cross-fit.
        notes: what to know of it before it is used, in whole sentences.
    """

    model: nn.Module
    rule: Rule
    history: tuple[dict[str, Any], ...] = field(default=())
    unseen: Unseen | None = None
    notes: tuple[str, ...] = ()


class Debiaser(Protocol):
    """A debiasing method; its hyper-parameters are the fields of a frozen dataclass.

    `changes_weights` is True for methods that return other weights: these are never worse on the
    data they are given, by the objective, than the input network with the best threshold. `trains`
    is True for those that fit weights to minibatches, and absent from others. One may
    have `classes: ClassVar[Literal["two", "any"]]`: without it, it is for two classes only. One
    that fits a head has `layers_read(model, x)`: names of the layers whose inputs it will ask for.
    """

    name: ClassVar[str]
    changes_weights: ClassVar[bool]

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        """Debias a copy of `model`, a network that answers with logits."""


def clone(model: nn.Module) -> nn.Module:
    """A copy with its own weights, all of them trainable, in eval mode; the original stays."""
    copied = copy.deepcopy(model).eval()
    trainable(copied)
    return copied


def trainable(model: nn.Module) -> None:
    """Let all weights have gradients."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)


def search(data: Batches, objective: Objective) -> ThresholdSearch:
    """The threshold search over all rows of the data."""
    return ThresholdSearch(data.y.numpy(), data.group.numpy(), len(data.group_names), objective)


def search_any(data: Batches, objective: Objective) -> ThresholdSearch | OffsetSearch:
    """The search for the best threshold, or with more than two classes for the best offsets."""
    y, group, n_groups = data.y.numpy(), data.group.numpy(), len(data.group_names)
    classes = class_count(y)
    if classes == 2:
        return ThresholdSearch(y, group, n_groups, objective)
    return OffsetSearch(y, group, n_groups, classes, objective)


def rule_of(choice: Choice) -> Rule:
    """How a choice decides."""
    if isinstance(choice, OffsetChoice):
        return Argmax(choice.offsets)
    return Cut(choice.threshold)


@dataclass
class Best:
    """The best weights seen so far, by the objective at the best threshold or offsets.

    Args:
        snapshots: keep the best weights; False: whoever searches brings them back.
    """

    model: nn.Module
    data: Batches
    thresholds: ThresholdSearch | OffsetSearch
    choice: Choice
    state: dict[str, torch.Tensor]
    snapshots: bool = True
    _sweep: DeviceSearch | None = None

    @classmethod
    def start(
        cls, model: nn.Module, data: Batches, objective: Objective, *, snapshots: bool = True
    ) -> Best:
        thresholds = search_any(data, objective)
        choice = thresholds.best(known_chances(model, data))
        state = _snapshot(model) if snapshots else {}
        return cls(model, data, thresholds, choice, state, snapshots)

    def look(self) -> Choice:
        """Score the model as it is now, and keep its weights if they are the best so far."""
        return self.judge(chances(self.model, self.data))

    def judge(self, found: Array) -> Choice:
        """As `look`, of what the model says of the data."""
        if isinstance(self.choice, OffsetChoice) and isinstance(self.thresholds, OffsetSearch):
            return self._better(self.thresholds.near(found, self.choice.offsets))
        return self._better(self.thresholds.best(found))

    def judge_each(self, found: torch.Tensor) -> Iterator[Choice]:
        """As `judge`, of probabilities (K, n) for two classes, computed where these are."""
        if isinstance(self.thresholds, OffsetSearch) or self.thresholds.slow:
            yield from map(self.judge, found.cpu().numpy())
            return
        if self._sweep is None:
            self._sweep = DeviceSearch(self.thresholds, found.device)
        yield from map(self._better, self._sweep.best_of(found))

    def _better(self, choice: Choice) -> Choice:
        if choice.rank > self.choice.rank:
            self.choice = choice
            self._keep()
        return choice

    def _keep(self) -> None:
        """The model's weights over those kept before: never two snapshots of a large network."""
        own = self.model.state_dict()
        for name, kept in self.state.items():
            kept.copy_(own[name])

    def restore(self) -> None:
        """Give the model the best weights; their offsets, which were only looked for near the
        best before, are now looked for everywhere."""
        own = self.model.state_dict()
        with torch.no_grad():
            for name, value in self.state.items():
                own[name].copy_(value)
        if isinstance(self.thresholds, OffsetSearch):
            choice = self.thresholds.best(chances(self.model, self.data))
            self.choice = max(self.choice, choice, key=lambda each: each.rank)


def _snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that can change: of a network of which some layers are trained, those."""
    still = {name for name, value in model.named_parameters() if not value.requires_grad}
    return {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if name not in still
    }


def record(objective: Objective, choice: Choice, **about: Any) -> dict[str, Any]:
    """One line of a history."""
    return {
        **about,
        "objective": float(objective.score(choice.counts)),
        "bias": float(objective.bias_measure(choice.counts)),
        "performance": float(objective.performance_measure(choice.counts)),
        **_decided_by(choice),
    }


def records(objective: Objective, choices: Sequence[Choice]) -> tuple[dict[str, Any], ...]:
    """One record per trial, computed for all of them at once."""
    counts = np.stack([choice.counts for choice in choices])
    columns = zip(
        objective.score(counts).tolist(),
        objective.bias_measure(counts).tolist(),
        objective.performance_measure(counts).tolist(),
        choices,
        strict=True,
    )
    return tuple(
        {
            "trial": trial,
            "objective": score,
            "bias": bias,
            "performance": good,
            **_decided_by(choice),
        }
        for trial, (score, bias, good, choice) in enumerate(columns)
    )


def _decided_by(choice: Choice) -> dict[str, Any]:
    if isinstance(choice, OffsetChoice):
        return {"offsets": list(choice.offsets)}
    return {"threshold": choice.threshold}
