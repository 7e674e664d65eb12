"""The fair-Bayes rule on a frozen network: a head that weighs performance against the groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable
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
from retrofair.debiasers.chances import cross_fitted
from retrofair.debiasers.fair_head_classes import fit_of_classes
from retrofair.debiasers.group_thresholds import best_thresholds
from retrofair.debiasers.head import Features, HeadedNetwork, readable
from retrofair.debiasers.rules import Cut, PerGroup, Rule
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array
from retrofair.networks.layers import first_rows, last_layer, weight_layers
from retrofair.objective import Constrained, Objective
from retrofair.thresholds import Choice, ThresholdSearch

PRICES = np.sinh(np.linspace(0, 4, 41)) / np.sinh(4)  # of one multiplier, on each side of 0
FINER = 20
BOUNDS = (0.25, 0.5, 0.75, 0.9, 1.0)  # shares of epsilon that are aimed at
CORRECTIONS = 3
WEIGHTED = 0.05  # stands for epsilon where the objective has none
STEPS = (0.1, 0.03, 0.01)  # by which several multipliers are moved, one at a time
ROUNDS = 3
MOVES = 200  # of one multiplier each, at most
PENALTY = 2.0  # per unit of bias beyond the bound, while looking for prices
FARTHEST = 1e6  # where the score of a rule that decides alike for all is cut
STEEP = 4.0  # of the sigmoid that makes scores of spread 1 into what thresholds are searched in
Tried = Callable[[Array], float]


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
            networks whose last layer has collapsed.
        attribute: "inferred", or "given": then there is a threshold for each group on the head's
            estimate of the label, and whoever decides needs the group. (That estimate does not
            know the group: where x means another thing in each, more could be had.)
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
        layers = self._layers(model, data, x)
        features, z = Features.of(network, layers, self.inputs and readable(x), data)
        y, group = data.y.numpy().astype(np.int64), data.group.numpy()
        classes, n_groups = metrics.class_count(y), len(data.group_names)
        cell = classes * group + y
        seed = int(torch.randint(2**31, (), generator=generator))
        unseen, head, strengths = cross_fitted(
            z, group, y, (n_groups, classes), self.strengths, seed
        )
        about: dict[str, Any] = {"strengths": strengths}
        about |= {"group_auc": _group_auc(unseen, group, classes)}
        if classes > 2:
            if self.attribute == "given":
                raise InputError(
                    f"expected labels 0/1 for attribute='given', got {classes} classes: use "
                    "attribute='inferred'"
                )
            return fit_of_classes(features, head, unseen, cell, data, objective, about)
        if self.attribute == "given":
            value, cut = np.tile([0.0, STEEP], n_groups), STEEP / 2
            score = _squashed(unseen @ value, cut)
            thresholds, counts = best_thresholds(score, y, group, n_groups, objective)
            rule: Rule = PerGroup(thresholds)
            choice = Choice(rule.threshold, counts, float(objective.rank(counts)))
            decisions = rule(score, group)
        else:
            value, choice = candidates(unseen, cell, objective, search(data, objective))[0]
            score = _squashed(unseen @ value)
            decisions = (score > choice.threshold).astype(np.int64)
            rule, cut = Cut(0.5), _cut(choice.threshold)
            choice = replace(choice, threshold=0.5)  # which its sign is, for the network's score
            about["shortfall"] = cells.shortfall(unseen, cell, decisions, objective)
        made = HeadedNetwork(features, head, value, cut).eval()
        chances = unseen.reshape(len(y), -1, 2).sum(-1)
        return Fit(
            made,
            rule,
            (record(objective, choice, trial=0, **about),),
            Unseen(decisions, score, chances),
        )

    def _layers(self, model: nn.Module, data: Batches, x: object) -> list[str]:
        if self.stages == "last":
            last = last_layer(model, data)
            return [last] if last else []
        return weight_layers(model, first_rows(x, 2))[1:]


def _group_auc(chances: Array, group: Array, classes: int = 2) -> float:
    """How well the head tells the privileged group from the others, on rows it had not seen."""
    last = chances.shape[1] // classes - 1
    privileged = group == last
    if privileged.all() or not privileged.any():
        return float("nan")
    return float(metrics.auc(chances[:, classes * last :].sum(1), privileged.astype(np.int64))[0])


def _squashed(score: Array, cut: float = 0.0) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(score - cut, -30, 30))))


# --- multipliers ----------------------------------------------------------------------------------


def candidates(
    chances: Array, cell: Array, objective: Objective, thresholds: ThresholdSearch
) -> list[tuple[Array, Choice]]:
    """Weightings (2G,) and their best thresholds, best first.

    Args:
        chances: (n, 2G) that the rows were not used for.
    """
    shares = np.bincount(cell, minlength=chances.shape[1]) / len(cell)
    worth = cells.of_performance(objective.performance_measure, shares)
    known = cells.of_gaps(objective.bias_measure, shares)
    gaps = known.rows
    found: list[tuple[Array, Choice]] = []

    def tried(price: Array) -> float:
        """How good prices are: as good as their best threshold, or nearly as good at theirs.

        Where a bound is tight, the best threshold of most prices is that of a constant; how far
        the bound is missed where worth and prices balance tells which way to go.
        """
        value = worth - price @ gaps
        value = value * STEEP / max(float((chances @ value).std()), 1e-9)
        middle = float((chances @ value).mean())
        value = value - middle  # the chances add up to 1
        score = _squashed(chances @ value)
        found.append((value, thresholds.best(score)))
        balanced = thresholds.at(score, float(_squashed(np.array(-middle)))).counts
        return max(found[-1][1].rank, _merit(objective, balanced))

    if not len(gaps):  # nobody to compare
        tried(np.zeros(0))
    elif len(gaps) == 1:
        _along_a_line(tried)
    else:
        _by_programs(tried, chances @ worth, chances @ gaps.T, gaps.T[cell], known, objective)
    return sorted(found, key=lambda each: -each[1].rank)


def _merit(objective: Objective, counts: Array) -> float:
    """Performance, less what breaks the bound; for a weighted objective its rank."""
    if not isinstance(objective, Constrained):
        return float(objective.rank(counts))
    over = max(float(objective.bias_measure.bias(counts)) - objective.epsilon, 0.0)
    return float(objective.performance_measure(counts)) - PENALTY * over


def _along_a_line(tried: Tried) -> None:
    prices = np.concatenate([-PRICES[:0:-1], PRICES])
    best = int(np.argmax([tried(np.array([price])) for price in prices]))
    low, high = prices[max(best - 1, 0)], prices[min(best + 1, len(prices) - 1)]
    for price in np.linspace(low, high, FINER):
        tried(np.array([price]))


def _by_programs(
    tried: Tried,
    worth: Array,
    gaps: Array,
    seen: Array,
    known: cells.Gaps,
    objective: Objective,
) -> None:
    """Prices from linear programs at several bounds, then moved one by one.

    Args:
        worth, gaps: (n,) and (n, m) what a positive decision adds, by the chances of each row.
        seen: (n, m) the same gaps, by its own group and label.
    """
    n, m = gaps.shape
    rows = np.linspace(0, n - 1, min(n, cells.ROWS)).astype(int)
    epsilon = objective.epsilon if isinstance(objective, Constrained) else WEIGHTED
    bound = known.width * epsilon
    best, price = tried(np.zeros(m)), np.zeros(m)
    for share in BOUNDS:
        centre = np.zeros(m)
        for _ in range(CORRECTIONS):
            found, _ = cells.multipliers(worth[rows], gaps[rows], share * bound, centre, known.free)
            rank = tried(found)
            if rank > best:
                best, price = rank, found
            # how far the chances are off where they decide: aimed away from the next time
            decided = worth > gaps @ found
            centre = (seen[decided].sum(0) - gaps[decided].sum(0)) / n
    left = MOVES // max(2 * m, 1)  # rounds; many gaps on many rows would take minutes
    for step in STEPS:
        for _ in range(min(ROUNDS, left)):
            left, before = left - 1, best
            for k, way in itertools.product(range(m), (step, -step)):
                moved = price.copy()
                moved[k] += way * max(abs(price[k]), 0.1)
                rank = tried(moved)
                if rank > best:
                    best, price = rank, moved
            if best <= before:
                break


def _cut(threshold: float) -> float:
    """The score at a threshold of its sigmoid; far away for a rule that decides alike for all."""
    if not 0 < threshold < 1:
        return FARTHEST if threshold >= 1 else -FARTHEST
    return float(np.log(threshold) - np.log1p(-threshold))
