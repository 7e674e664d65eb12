"""The fair-Bayes rule on a frozen network: a head that weighs performance against the groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from retrofair import metrics
from retrofair.data import Batches
from retrofair.debiasers import cells
from retrofair.debiasers.base import Fit, Unseen, clone, record, search
from retrofair.debiasers.chances import Chances, CrossFitted, cross_fitted
from retrofair.debiasers.fair_head_classes import fit_of_classes
from retrofair.debiasers.group_thresholds import best_thresholds
from retrofair.debiasers.head import MOST, Features, GivenHead, HeadedNetwork, readable
from retrofair.debiasers.prices import candidates, squashed
from retrofair.debiasers.rules import Cut, PerGroup
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array
from retrofair.networks.layers import readable_layers
from retrofair.objective import Objective
from retrofair.thresholds import Choice

FARTHEST = 1e6  # where the score of a rule that decides alike for all is cut


@dataclass(frozen=True)
class FairHead:
    """A head on the frozen network that makes the fairest use of what the network knows.

    With p(group, label | x), every rule that is best for a trade of performance against rates of
    groups decides by a threshold on one weighting of these chances. The chances come from two
    regressions, of the group and of the label given the group, on the network's logit, its inputs
    (both with knots at quantiles, so that they add curves, not lines) and its representation;
    where rows are few, what is left of the latter is the network's own logit with a level and a
    slope for each group. Multipliers and threshold come from
    chances that each row was given by a head which had not seen it (cross-fitting), so that the
    data are not used twice, and so does the result's account of itself (`after`, `status`): what
    the final head decides on its own rows would flatter it. The network stays as it is, and no
    group is needed to decide: it is inferred, as x tells it.

    It is optimal as far as the chances are right. Where x says little about the group, a blind rule
    has its price, and no head can avoid it; where chances are wrong (few rows, a group of few), the
    threshold still makes the bias what was asked for, at a loss of performance.

    For measures that are no differences of rates, and for precision, the weighting is that of
    selection rates and accuracy, and the threshold alone sees the measure.

    Args:
        inputs: whether the head reads the network's inputs too; where they are no table of
            numbers it never does.
        stages: "last" reads the last layer's input, "all" that of every layer but the first, for
            networks whose last layer has collapsed. Of a network that cannot be looked into (an
            exported program, one without linear layers or convolutions) it reads none, and says
            so in the result's notes.
        attribute: "inferred", or "given": then the label's chance is that of the row's own group,
            with a threshold for each, and whoever decides needs the group. Where the network's own
            score does better on the data (`history[0]["label"]` is "network"), it is taken.
        strengths: inverse strengths of the regressions' penalty, among which the likelihood of
            rows not seen decides, for each.

    Raises:
        InputError: an option out of range, or a group with fewer than three rows.

    Reference:
        Chen, Klochkov and Liu (2024), Post-hoc bias scoring is optimal for fair classification;
        Zeng, Dobriban and Cheng (2022), Bayes-optimal classifiers under group fairness; Xian and
        Zhao (2024), A unified post-processing framework for group fairness.
    """

    inputs: bool = True
    stages: Literal["last", "all"] = "last"
    attribute: Literal["inferred", "given"] = "inferred"
    strengths: tuple[float, ...] = (0.0003, 0.003, 0.03, 0.3)
    name: ClassVar[str] = "fair_head"
    changes_weights: ClassVar[bool] = False
    classes: ClassVar[Literal["two", "any"]] = "any"

    def __post_init__(self) -> None:
        for option, choices in (("stages", ("last", "all")), ("attribute", ("inferred", "given"))):
            if getattr(self, option) not in choices:
                raise unknown(f"choice for {option}", getattr(self, option), choices)
        if (
            not isinstance(self.strengths, tuple | list)
            or not self.strengths
            or not all(
                isinstance(each, Real) and 0 < float(each) < np.inf for each in self.strengths
            )
        ):
            raise InputError(f"expected strengths above 0, got {self.strengths}")

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        network = clone(model)
        x, _, _ = next(iter(data))
        tables = self.inputs and readable(x)
        layers, notes = self._read(network, x, tables)
        features, z = Features.of(network, layers, tables, data)
        if layers and not tables and features.directions <= 1:
            notes = (*notes, *_collapsed(network, x, self.stages))
        y, group = data.y.numpy().astype(np.int64), data.group.numpy()
        classes, n_groups = metrics.class_count(y), len(data.group_names)
        if classes > 2 and self.attribute == "given":
            raise InputError(
                f"expected labels 0/1 for attribute='given', got {classes} classes: use "
                "attribute='inferred'"
            )
        cell = classes * group + y
        seed = int(torch.randint(2**31, (), generator=generator))
        shape, names = (n_groups, classes), data.group_names
        fitted = cross_fitted(z, group, y, shape, self.strengths, seed, names)
        about: dict[str, Any] = {"strengths": fitted.strengths}
        about |= {"group_auc": _group_auc(fitted.groups, group)}
        if classes > 2:
            fit = fit_of_classes(features, fitted, cell, data, objective, about)
        elif self.attribute == "given":
            fit = _given(features, z, fitted, data, objective, about)
        else:
            fit = _inferred(features, fitted, cell, data, objective, about)
        return replace(fit, notes=notes)

    def layers_read(self, model: nn.Module, x: object) -> list[str]:
        """Names of the layers whose inputs the head is fitted to."""
        return self._read(model, x, False)[0]

    def _read(
        self, network: nn.Module, x: object, tables: bool
    ) -> tuple[list[str], tuple[str, ...]]:
        """The layers whose inputs are read, and a note where the network shows none."""
        layers, ran = readable_layers(network, x)
        if layers:
            return layers if self.stages == "all" else layers[-1:], ()
        if ran == 1 and tables:  # its only layer reads what the head reads anyway
            return [], ()
        inputs = " and its inputs" if tables else " alone"
        return [], (
            f"the fair head reads the network's logit{inputs}: no layer could be found inside the "
            "network whose input has one row of numbers for each row",
        )


def _collapsed(network: nn.Module, x: object, stages: str) -> tuple[str, ...]:
    """What to know where the layers that are read hold no more than the logit."""
    known = "what the head reads tells rows apart along one direction only, as the logit does"
    if stages == "all" or len(readable_layers(network, x)[0]) < 2:
        return (f"{known}: it cannot tell groups apart beyond that",)
    return (f"{known}: FairHead(stages='all') reads the network's earlier layers too",)


def _inferred(
    features: Features,
    fitted: CrossFitted,
    cell: Array,
    data: Batches,
    objective: Objective,
    about: dict[str, Any],
) -> Fit:
    """One threshold on one weighting of the chances, for everybody."""
    chances = fitted.cells
    value, choice = candidates(chances, cell, objective, search(data, objective))[0]
    score = squashed(chances @ value)
    decisions = (score > choice.threshold).astype(np.int64)
    about["shortfall"] = cells.shortfall(chances, cell, decisions, objective)
    made = HeadedNetwork(features, fitted.head, value, _cut(choice.threshold)).eval()
    choice = replace(choice, threshold=0.5)  # which its sign is, for the network's score
    history = (record(objective, choice, trial=0, **about),)
    return Fit(made, Cut(0.5), history, Unseen(decisions, score, fitted.groups))


def _given(
    features: Features,
    z: Array,
    fitted: CrossFitted,
    data: Batches,
    objective: Objective,
    about: dict[str, Any],
) -> Fit:
    """A threshold for each group on the label's chance given the group.

    That is the fair-Bayes rule where the group is known: what deciding positive is worth, less the
    prices of gaps, is then a line in that one chance, for each group another. The chance is the
    head's, or the network's own where that does better on these rows (few of them, often).
    """
    y, group, n_groups = data.y.numpy(), data.group.numpy(), len(data.group_names)
    ends = squashed(np.array([-MOST, MOST]))
    plain = Chances.empty(n_groups, 2, z.shape[1])
    plain.group_weight, plain.group_bias = fitted.head.group_weight, fitted.head.group_bias
    plain.label_weight[:, 1, 0] = 1.0  # the network's logit comes first
    found = []
    for label, head, chance in (
        ("head", fitted.head, fitted.told(group)[:, 1]),
        ("network", plain, squashed(z[:, 0])),
    ):
        score = chance.clip(*ends)
        thresholds, counts = best_thresholds(score, y, group, n_groups, objective)
        rule = PerGroup(thresholds)
        choice = Choice(rule.threshold, counts, float(objective.rank(counts)))
        found.append((choice, rule, score, head, label))
    choice, rule, score, head, label = max(found, key=lambda each: each[0].rank)
    made = GivenHead(features, head, np.tile([0.0, 1.0], n_groups), 0.0).eval()
    history = (record(objective, choice, trial=0, label=label, **about),)
    return Fit(made, rule, history, Unseen(rule(score, group), score, fitted.groups))


def _group_auc(groups: Array, group: Array) -> float:
    """How well the head tells the privileged group from the others, on rows it had not seen."""
    privileged = group == groups.shape[1] - 1
    if privileged.all() or not privileged.any():
        return float("nan")
    return float(metrics.auc(groups[:, -1], privileged.astype(np.int64))[0])


def _cut(threshold: float) -> float:
    """The score at a threshold of its sigmoid; far away for a rule that decides alike for all."""
    if not 0 < threshold < 1:
        return FARTHEST if threshold >= 1 else -FARTHEST
    return float(np.log(threshold) - np.log1p(-threshold))
