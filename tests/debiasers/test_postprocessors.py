"""The three post-processors against AIF360, against plain twins, and through `debias`."""

from __future__ import annotations

import itertools
import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrofair import metrics
from retrofair.data import GroupedData
from retrofair.debiasers import rules
from retrofair.debiasers.calibrated_equalized_odds import CalibratedEqualizedOdds
from retrofair.debiasers.equalized_odds import EqualizedOdds
from retrofair.debiasers.reject_option import RejectOption, count_bands
from retrofair.debiasers.run import debias
from retrofair.errors import InputError
from retrofair.networks.outputs import probabilities
from retrofair.objective import Constrained, Weighted

SPD = Constrained("spd", epsilon=0.05)
AIF360_MEASURES = {
    "spd": "Statistical parity difference",
    "aod": "Average odds difference",
    "eod": "Equal opportunity difference",
}
METHODS = (RejectOption(), EqualizedOdds(), CalibratedEqualizedOdds())


def first_column(width: int) -> nn.Module:
    """A network whose logit is the first column."""
    network = nn.Linear(width, 1)
    with torch.no_grad():
        network.weight.zero_()[0, 0] = 1
        network.bias.zero_()
    return network


def make(
    n: int = 200, groups: int = 2, seed: int = 0, ties: bool = False, shift: float = 1.0
) -> GroupedData:
    """Scores that know the label, lower for the first groups; column 0 is the logit."""
    random = np.random.default_rng(seed)
    group = random.integers(groups, size=n)
    y = (random.random(n) < 0.35 + 0.3 * group / max(groups - 1, 1)).astype(np.int64)
    group[: 2 * groups] = np.repeat(np.arange(groups), 2)
    y[: 2 * groups] = np.tile([0, 1], groups)
    quality = random.uniform(0.5, 2, size=groups)[group]
    logit = quality * (2 * y - 1) + random.normal(size=n) + shift * (group / groups - 0.4)
    if ties:
        logit = np.round(logit)
    x = np.column_stack([logit, random.normal(size=(n, 3))]).astype(np.float32)
    names = tuple("abcdefgh"[:groups])
    return GroupedData(
        x=torch.from_numpy(x),
        y=torch.from_numpy(y),
        group=torch.from_numpy(group),
        group_names=names,
    )


def parts(data: GroupedData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of the first-column network, labels and groups."""
    return probabilities(first_column(4), data), data.y.numpy(), data.group.numpy()


def fitted(method: Any, data: GroupedData, objective: Any = SPD, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return method(first_column(4), data, objective, generator=generator)


def decisions(fit: Any, data: GroupedData) -> np.ndarray:
    probability, _, group = parts(data)
    coin = None if fit.rule.seed is None else rules.coins(data.x, fit.rule.seed)
    return np.asarray(fit.rule(probability, group, coin))


def counted(fit: Any, data: GroupedData) -> np.ndarray:
    return metrics.count(
        data.y.numpy(), decisions(fit, data), data.group.numpy(), len(data.group_names)
    )


class Aif360:
    """The same data and scores as AIF360 wants them."""

    def __init__(self, data: GroupedData) -> None:
        from aif360.datasets import BinaryLabelDataset

        probability, y, group = parts(data)
        self.true = BinaryLabelDataset(
            df=pd.DataFrame({"g": group.astype(float), "y": y.astype(float)}),
            label_names=["y"],
            protected_attribute_names=["g"],
        )
        self.predicted = self.true.copy(deepcopy=True)
        self.predicted.scores = probability.reshape(-1, 1)
        self.predicted.labels = (probability > 0.5).astype(float).reshape(-1, 1)
        last = len(data.group_names) - 1
        self.groups = {
            "privileged_groups": [{"g": last}],
            "unprivileged_groups": [{"g": code} for code in range(last)],
        }

    def fit(self, kind: str, **options: Any) -> Any:
        from aif360.algorithms import postprocessing

        method = getattr(postprocessing, kind)(**self.groups, **options)
        return method.fit(self.true, self.predicted)


# ------------------------------------------------------------------------------ reject option


@pytest.mark.parametrize("measure", ["spd", "aod", "eod"])
@pytest.mark.parametrize(("seed", "ties"), [(0, False), (1, False), (2, True), (3, True)])
def test_reject_option_agrees_with_aif360(measure: str, seed: int, ties: bool) -> None:
    data = make(80, seed=seed, ties=ties)
    reference = Aif360(data)
    theirs = reference.fit(
        "RejectOptionClassification",
        metric_name=AIF360_MEASURES[measure],
        num_class_thresh=13,
        num_ROC_margin=7,
    )  # a bound that cannot be kept would warn, and fail here
    method = RejectOption(thresholds=13, margins=7, bound=0.05, favoured="unprivileged")
    ours = fitted(method, data, Constrained(measure, epsilon=0.5))
    assert ours.rule.threshold == theirs.classification_threshold
    assert ours.rule.margin == theirs.ROC_margin
    expected = theirs.predict(reference.predicted).labels.ravel()
    np.testing.assert_array_equal(decisions(ours, data), expected)


def test_reject_option_agrees_with_aif360_on_three_groups() -> None:
    data = make(90, groups=3, seed=4)
    reference = Aif360(data)
    for threshold, margin in [(0.5, 0.2), (0.3, 0.3), (0.8, 0.1), (0.4, 0.0)]:
        theirs = reference_rule(reference, threshold, margin)
        ours = rules.Band(threshold, margin, favoured=(0, 1))
        probability, _, group = parts(data)
        np.testing.assert_array_equal(ours(probability, group), theirs)


def reference_rule(reference: Aif360, threshold: float, margin: float) -> np.ndarray:
    from aif360.algorithms.postprocessing import RejectOptionClassification

    method = RejectOptionClassification(**reference.groups)
    method.classification_threshold, method.ROC_margin = threshold, margin
    return np.asarray(method.predict(reference.predicted).labels.ravel())


def test_reject_option_grid_is_that_of_aif360() -> None:
    thresholds, margins = RejectOption().grid()
    assert len(thresholds) == 5_000
    at = 0
    for threshold in np.linspace(0.01, 0.99, 100):
        widest = threshold if threshold <= 0.5 else 1.0 - threshold
        for margin in np.linspace(0.0, widest, 50):
            assert (thresholds[at], margins[at]) == (threshold, margin)
            at += 1


def test_reject_option_takes_the_smallest_bias_where_the_bound_is_out_of_reach() -> None:
    # Extreme scores, so that no pair decides alike for everybody: without a margin the difference
    # is 0.6 - 0.4 below 0.45 and 0.1 - 0.4 above it, and in the topmost band 0.1 - 0.
    probability = np.repeat([0.999, 0.45, 0.001, 0.999, 0.001], [1, 5, 4, 4, 6])
    group = np.repeat([0, 1], 10)
    y = np.tile([1, 0, 1, 0, 1], 4)
    x = np.column_stack([np.log(probability / (1 - probability)), np.zeros((20, 3))])
    data = GroupedData(
        x=torch.from_numpy(x.astype(np.float32)),
        y=torch.from_numpy(y),
        group=torch.from_numpy(group),
        group_names=("a", "b"),
    )
    method = RejectOption(thresholds=13, margins=7, bound=0.05, favoured="unprivileged")
    ours = fitted(method, data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        theirs = Aif360(data).fit(
            "RejectOptionClassification", num_class_thresh=13, num_ROC_margin=7
        )
    assert any("fairness constraints" in str(w.message) for w in caught)
    values = {}
    for t, m in zip(*method.grid(), strict=True):
        prediction = rules.Band(t, m, (0,))(parts(data)[0], group)
        values[t, m] = prediction[group == 0].mean() - prediction[group == 1].mean()
    assert abs(values[ours.rule.threshold, ours.rule.margin]) == min(map(abs, values.values()))
    assert ours.history[0]["bias"] == pytest.approx(0.1)
    # AIF360 takes the smallest signed value, here the one farthest from 0 on its side
    worst = values[theirs.classification_threshold, theirs.ROC_margin]
    assert worst == min(values.values()) == pytest.approx(-0.3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 1), st.integers(0, 2)),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([(0,), (2,), (0, 1)]),
)
def test_count_bands_against_one_band_at_a_time(
    rows: list[tuple[int, int, int]], favoured: tuple[int, ...]
) -> None:
    twelfths, y, group = map(np.array, zip(*rows, strict=True))
    thresholds, margins = RejectOption(thresholds=5, margins=4, low=0.25, high=0.75).grid()
    cuts = np.concatenate([thresholds - margins, thresholds + margins, [0.0, 1.0]])
    probability = np.sort(cuts)[twelfths * 3]  # values that lie exactly on the edges
    got = count_bands(probability, y, group, 3, favoured, thresholds, margins)
    for k, (threshold, margin) in enumerate(zip(thresholds, margins, strict=True)):
        expected = np.zeros((3, 2, 2), int)
        for p, label, code in zip(probability, y, group, strict=True):
            inside = threshold - margin < p <= threshold + margin
            decision = (code in favoured) if inside else p > threshold
            expected[code, label, int(decision)] += 1
        np.testing.assert_array_equal(got[k], expected)
        band = rules.Band(threshold, margin, favoured)(probability, group)
        np.testing.assert_array_equal(got[k], metrics.count(y, band, group, 3))


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("measure", ["spd", "equalized_odds_difference", "disparate_impact"])
@pytest.mark.parametrize("performance", ["accuracy", "balanced_accuracy"])
def test_reject_option_against_a_plain_search(groups: int, measure: str, performance: str) -> None:
    data = make(150, groups, seed=5)
    objective = Constrained(measure, epsilon=0.2, performance=performance)
    method = RejectOption(thresholds=9, margins=6)
    fit = fitted(method, data, objective)
    probability, y, group = parts(data)
    best, best_key = None, (False, -np.inf)
    for threshold, margin in zip(*method.grid(), strict=True):
        prediction = rules.Band(threshold, margin, fit.rule.favoured)(probability, group)
        counts = metrics.count(y, prediction, group, groups)
        bias = float(objective.bias_measure.bias(counts))
        good = float(objective.performance_measure(counts))
        inside = bias < 0.2
        key = (inside, good if inside else -np.nan_to_num(bias, nan=np.inf))
        if key > best_key:
            best, best_key = (threshold, margin), key
    assert (fit.rule.threshold, fit.rule.margin) == best
    record = fit.history[0]
    counts = counted(fit, data)
    assert record["performance"] == float(objective.performance_measure(counts))
    assert record["bias"] == float(objective.bias_measure(counts))


def test_reject_option_favours_the_side_selected_less_often() -> None:
    data = make(400, seed=6, shift=3.0)
    assert fitted(RejectOption(), data).rule.favoured == (0,)
    swapped = GroupedData(x=data.x, y=data.y, group=1 - data.group, group_names=("a", "b"))
    assert fitted(RejectOption(), swapped).rule.favoured == (1,)
    # where the unprivileged side is the one selected more often, AIF360's direction cannot help
    fixed = fitted(RejectOption(favoured="unprivileged"), swapped)
    free = fitted(RejectOption(), swapped)
    assert free.history[0]["performance"] > fixed.history[0]["performance"]
    assert abs(free.history[0]["bias"]) < 0.05


def test_reject_option_ties_between_the_sides() -> None:
    x = torch.zeros(8, 4)
    x[:, 0] = torch.tensor([-1.0, -2.0, -1.0, -2.0, -3.0, -4.0, -3.0, -4.0])
    y = torch.tensor([0, 1] * 4)
    group = torch.tensor([0] * 4 + [1] * 4)
    data = GroupedData(x=x, y=y, group=group, group_names=("a", "b"))
    assert fitted(RejectOption(), data).rule.favoured == (1,)  # nobody passes 0.5: by the mean
    alike = GroupedData(x=torch.zeros(8, 4), y=y, group=group, group_names=("a", "b"))
    assert fitted(RejectOption(), alike).rule.favoured == (0,)


def test_reject_option_bounds() -> None:
    def always(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        return -0.05

    data = make(60, seed=7)
    small = {"thresholds": 5, "margins": 3}
    inside = fitted(RejectOption(**small, bound=0.05), data, Constrained(always, epsilon=0.01))
    weighted = fitted(RejectOption(**small), data, Weighted(always, performance="accuracy"))
    first = fitted(RejectOption(**small), data, Constrained(always, epsilon=0.05))
    assert inside.history[0]["performance"] > 0.55  # a bound of one's own includes its limit
    assert weighted.history[0]["performance"] > 0.55  # 0.05 where nothing else is said
    assert (first.rule.threshold, first.rule.margin) == (0.01, 0.0)  # |bias| < epsilon is strict


@pytest.mark.parametrize(
    "options",
    [
        {"thresholds": 0},
        {"margins": 0},
        {"low": 0.5, "high": 0.5},
        {"low": -0.1},
        {"high": 1.1},
        {"bound": -0.1},
        {"bound": float("nan")},
        {"favoured": "nobody"},
    ],
)
def test_reject_option_checks_its_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        RejectOption(**options)


@pytest.mark.parametrize(("code", "message"), [(0, "privileged group 'b'"), (1, "other groups")])
def test_reject_option_needs_both_sides(code: int, message: str) -> None:
    data = make(40)
    data = data[data.group == code]
    with pytest.raises(InputError, match=message):
        fitted(RejectOption(), data)


# ----------------------------------------------------------------------------- equalized odds


@pytest.mark.parametrize(("seed", "ties"), [(0, False), (1, False), (2, True), (3, True), (4, 0)])
def test_equalized_odds_agrees_with_aif360(seed: int, ties: bool) -> None:
    data = make(150, seed=seed, ties=ties)
    theirs = Aif360(data).fit("EqOddsPostprocessing").model_params
    rule = fitted(EqualizedOdds(), data).rule
    ours = np.array([rule.keep[1], rule.raise_[1], rule.keep[0], rule.raise_[0]])
    probability, y, group = parts(data)
    counts = metrics.count(y, probability > 0.5, group, 2)
    tpr, fpr = metrics.rates.TPR(counts), metrics.rates.FPR(counts)
    assert (tpr > fpr).all()  # then the solution is unique
    np.testing.assert_allclose(ours, theirs.x, rtol=0, atol=1e-9)
    cost = np.array([(f - t, (1 - f) - (1 - t)) for t, f in zip(tpr, fpr, strict=True)])[::-1]
    np.testing.assert_allclose(cost.ravel() @ ours, theirs.fun, rtol=0, atol=1e-9)
    for our, their in zip(mixed_rates(counts, rule), mixed_rates(counts, theirs.x), strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-9)


def mixed_rates(counts: np.ndarray, rule: Any) -> tuple[np.ndarray, np.ndarray]:
    """Expected true and false positive rates per group."""
    if isinstance(rule, rules.Flip):
        keep, raise_ = np.array(rule.keep), np.array(rule.raise_)
    else:
        keep, raise_ = rule[[2, 0]], rule[[3, 1]]
    tpr, fpr = metrics.rates.TPR(counts), metrics.rates.FPR(counts)
    return keep * tpr + raise_ * (1 - tpr), keep * fpr + raise_ * (1 - fpr)


@pytest.mark.parametrize("weights", ["aif360", "error"])
@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_equalized_odds_against_all_corners(weights: Any, groups: int, seed: int) -> None:
    data = make(300, groups, seed=seed + 10, ties=seed == 3)
    probability, y, group = parts(data)
    counts = metrics.count(y, probability > 0.5, group, groups)
    rule = fitted(EqualizedOdds(weights), data).rule
    chances = np.array(rule.keep + rule.raise_)
    assert ((chances >= 0) & (chances <= 1)).all()
    tpr, fpr = mixed_rates(counts, rule)
    np.testing.assert_allclose(tpr, tpr[0], atol=1e-9)
    np.testing.assert_allclose(fpr, fpr[0], atol=1e-9)
    share = counts.sum(axis=(0, 2)) / counts.sum() if weights == "error" else np.ones(2)
    cost = share[0] * fpr[0] - share[1] * tpr[0]
    best = min(share[0] * f - share[1] * t for f, t in common_corners(counts))
    assert cost == pytest.approx(best, abs=1e-9)


def common_corners(counts: np.ndarray) -> list[tuple[float, float]]:
    """Corners (FPR, TPR) of what all groups can reach: crossings of any two edges."""
    edges = []
    for t, f in zip(metrics.rates.TPR(counts), metrics.rates.FPR(counts), strict=True):
        corners = np.array([(0, 0), (f, t), (1, 1), (1 - f, 1 - t)])
        edges += [(corners[i], corners[(i + 1) % 4] - corners[i]) for i in range(4)]
    points = [start for start, _ in edges]
    for (a, u), (b, v) in itertools.combinations(edges, 2):
        if abs(u[0] * v[1] - u[1] * v[0]) > 1e-12:
            s = ((b - a)[0] * v[1] - (b - a)[1] * v[0]) / (u[0] * v[1] - u[1] * v[0])
            points.append(a + s * u)
    return [tuple(p) for p in points if reachable(p, counts)]


def reachable(point: np.ndarray, counts: np.ndarray) -> bool:
    for t, f in zip(metrics.rates.TPR(counts), metrics.rates.FPR(counts), strict=True):
        chance = np.linalg.solve([[f, 1 - f], [t, 1 - t]], point)
        if (chance < -1e-9).any() or (chance > 1 + 1e-9).any():
            return False
    return True


def test_the_two_weights_are_the_two_performances() -> None:
    data = make(3000, seed=21)
    data = data[(data.y == 0) | (torch.arange(len(data)) % 12 == 0)]  # positives are rare
    history = {w: fitted(EqualizedOdds(w), data, performance(w)).history[0] for w in WEIGHTS}
    for weights, other in (WEIGHTS, WEIGHTS[::-1]):
        theirs = fitted(EqualizedOdds(other), data, performance(weights)).history[0]
        assert history[weights]["performance"] > theirs["performance"] - 1e-3


WEIGHTS: tuple[Any, Any] = ("aif360", "error")


def performance(weights: str) -> Constrained:
    return Constrained("aod", performance="accuracy" if weights == "error" else "balanced_accuracy")


def test_equalized_odds_meets_its_goal_within_chance() -> None:
    data = make(20_000, groups=3, seed=22)
    fit = fitted(EqualizedOdds(), data, Constrained("equalized_odds_difference", epsilon=0.05))
    counts = counted(fit, data)
    probability, y, group = parts(data)
    goal = mixed_rates(metrics.count(y, probability > 0.5, group, 3), fit.rule)
    for rate, wanted in zip((metrics.rates.TPR, metrics.rates.FPR), goal, strict=True):
        _, rows = rate.parts(counts)
        error = np.sqrt(wanted * (1 - wanted) / rows)
        assert (np.abs(rate(counts) - wanted) < 4 * error).all()
    assert fit.history[0]["bias"] < 1e-3  # the history tells the expectation


def test_equalized_odds_of_a_useless_group() -> None:
    # true and false positive rates of "a" agree: no fair rule can tell anybody apart
    counts = np.array([[[5, 5], [5, 5]], [[9, 1], [1, 9]]])
    keep, raise_ = EqualizedOdds().solve(counts)
    tpr, fpr = mixed_rates(counts, rules.Flip(0.5, tuple(keep), tuple(raise_), 0))
    np.testing.assert_allclose(np.concatenate([tpr, fpr]), tpr[0], atol=1e-9)


@pytest.mark.parametrize(("label", "kind"), [(1, "positives"), (0, "negatives")])
def test_equalized_odds_needs_both_labels_in_every_group(label: int, kind: str) -> None:
    data = make(60, groups=3)
    data = data[(data.group != 1) | (data.y != label)]
    with pytest.raises(InputError, match=rf"{kind}.*none in 'b'"):
        fitted(EqualizedOdds(), data)


def test_equalized_odds_checks_its_weights() -> None:
    with pytest.raises(InputError, match="expected weights 'aif360' or 'error', got 'accuracy'"):
        EqualizedOdds("accuracy")  # type: ignore[arg-type]


# ------------------------------------------------------------------ calibrated equalized odds

COSTS: tuple[Any, ...] = ("fnr", "fpr", "weighted")


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("seed", "ties"), [(0, False), (1, False), (2, True), (3, False), (4, 1)])
def test_calibrated_equalized_odds_agrees_with_aif360(cost: Any, seed: int, ties: bool) -> None:
    data = make(150, seed=seed, ties=ties, shift=(-1.0) ** seed)
    theirs = Aif360(data).fit("CalibratedEqOddsPostprocessing", cost_constraint=cost)
    rule = fitted(CalibratedEqualizedOdds(cost), data).rule
    expected = np.clip([theirs.unpriv_mix_rate, theirs.priv_mix_rate], 0, 1)
    np.testing.assert_allclose(rule.rate, expected, rtol=0, atol=1e-12)
    assert rule.base == (theirs.base_rate_unpriv, theirs.base_rate_priv)


def test_calibrated_equalized_odds_has_the_default_of_aif360() -> None:
    data = make(100, seed=8)
    theirs = Aif360(data).fit("CalibratedEqOddsPostprocessing")
    assert CalibratedEqualizedOdds().cost_constraint == theirs.cost_constraint == "weighted"


def plain_cost(cost: str, p: np.ndarray, y: np.ndarray) -> float:
    if cost == "fnr":
        return float(np.mean([1 - q for q, label in zip(p, y, strict=True) if label == 1]))
    if cost == "fpr":
        return float(np.mean([q for q, label in zip(p, y, strict=True) if label == 0]))
    base = y.mean()
    return 0.5 * base * plain_cost("fnr", p, y) + 0.5 * (1 - base) * plain_cost("fpr", p, y)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("groups", [2, 4])
def test_calibrated_equalized_odds_makes_the_costs_equal(cost: Any, groups: int) -> None:
    data = make(400, groups, seed=9)
    probability, y, group = parts(data)
    rule = fitted(CalibratedEqualizedOdds(cost), data).rule
    costs = [plain_cost(cost, probability[group == g], y[group == g]) for g in range(groups)]
    trivial = [
        plain_cost(cost, np.full((group == g).sum(), rule.base[g]), y[group == g])
        for g in range(groups)
    ]
    for g in range(groups):
        assert rule.base[g] == y[group == g].mean()
        mixed = (1 - rule.rate[g]) * costs[g] + rule.rate[g] * trivial[g]
        if 0 < rule.rate[g] < 1:
            assert mixed == pytest.approx(max(costs), abs=1e-12)
        else:  # the costliest, or as near as mixing gets
            assert costs[g] == pytest.approx(max(costs)) or mixed <= max(costs)
    assert rule.rate[int(np.argmax(costs))] == 0


@pytest.mark.parametrize("cost", COSTS)
def test_calibrated_equalized_odds_never_divides_by_zero(cost: Any) -> None:
    y, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    for probability in ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.9, 0.1], [0.5, 0.5, 0.1, 0.9]):
        rate, base = CalibratedEqualizedOdds(cost).solve(
            np.array(probability), y, group, ("a", "b")
        )
        assert np.isfinite(rate).all()
        assert ((rate >= 0) & (rate <= 1)).all()
        np.testing.assert_array_equal(base, [0.5, 0.5])


def test_calibrated_equalized_odds_clips_to_one() -> None:
    # even the base rate alone costs "a" less than what "b" pays
    y, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    rate, _ = CalibratedEqualizedOdds().solve(np.array([0.1, 0.9, 0.9, 0.1]), y, group, ("a", "b"))
    np.testing.assert_array_equal(rate, [1, 0])


@pytest.mark.parametrize(
    ("cost", "keep", "kind"),
    [("fnr", "y == 0", "positives"), ("fpr", "y == 1", "negatives"), ("weighted", "y > 1", "rows")],
)
def test_calibrated_equalized_odds_needs_the_rows_it_compares(
    cost: Any, keep: str, kind: str
) -> None:
    data = make(60, groups=3)
    chosen = {"y == 0": data.y == 0, "y == 1": data.y == 1, "y > 1": data.y > 1}[keep]
    data = data[(data.group != 1) | chosen]
    with pytest.raises(InputError, match=rf"{kind} in every group, got none in 'b'"):
        fitted(CalibratedEqualizedOdds(cost), data)


def test_the_weighted_cost_needs_no_positives_in_a_group() -> None:
    data = make(60, groups=3)
    data = data[(data.group != 1) | (data.y == 0)]
    rule = fitted(CalibratedEqualizedOdds(), data).rule
    assert np.isfinite(rule.rate).all()
    assert rule.base[1] == 0


def test_calibrated_equalized_odds_checks_its_cost() -> None:
    with pytest.raises(InputError, match="expected cost_constraint to be one of"):
        CalibratedEqualizedOdds("tpr")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("groups", [2, 4])
def test_through_debias(method: Any, groups: int) -> None:
    data = make(600, groups, seed=30)
    network = first_column(4).train()
    objective = Constrained("demographic_parity_difference", epsilon=0.2)
    result = debias(network, data, objective, method, seed=3)
    assert network.training
    assert torch.equal(network.weight, first_column(4).weight)
    assert torch.equal(result.model.weight, network.weight)
    assert result.needs_group
    with pytest.raises(InputError, match="decides by group"):
        result.predict(data.x)
    whole = result.predict(data.x, data.group)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    assert torch.equal(result.predict(data.x[order], data.group[order]), whole[order])
    alone = [result.predict(data.x[i : i + 1], data.group[i : i + 1]) for i in range(20)]
    assert torch.equal(torch.cat(alone), whole[:20])
    assert len(result.predict(data.x[:0], data.group[:0])) == 0
    read = rules.from_dict(json.loads(json.dumps(rules.to_dict(result.rule))))
    assert read == result.rule
    assert debias(network, data, objective, method, seed=3).rule == result.rule
    assert set(result.history[0]) >= {"trial", "objective", "bias", "performance", "threshold"}
    json.dumps(result.history)


@pytest.mark.parametrize("method", METHODS[1:], ids=lambda m: m.name)
def test_the_history_is_the_expectation(method: Any) -> None:
    data = make(400, seed=31)
    objective = Constrained("spd", performance="accuracy")
    runs = [fitted(method, data, objective, seed) for seed in range(40)]
    biases = [float(objective.bias_measure(counted(fit, data))) for fit in runs]
    correct = [float(objective.performance_measure(counted(fit, data))) for fit in runs]
    assert len({fit.rule.seed for fit in runs}) == 40
    for seen, name in ((biases, "bias"), (correct, "performance")):
        error = np.std(seen) / np.sqrt(40)
        assert abs(np.mean(seen) - runs[0].history[0][name]) < 4 * error + 2 / 150
    assert np.std(biases) > 0  # other seeds, other people
