"""Measures of three classes and more: by hand, against fairlearn and sklearn, intervals."""

from __future__ import annotations

import fairlearn.metrics as fl
import numpy as np
import pytest
import sklearn.metrics as sk

import retrofair as rf
from retrofair import metrics
from retrofair.errors import InputError
from retrofair.metrics import count, count_classes, of_classes, one_vs_rest, performance_of_classes

# [group][label][prediction]
HAND = np.array([[[6, 2, 2], [1, 8, 1], [3, 1, 6]], [[9, 1, 0], [2, 6, 2], [0, 2, 8]]])


def random_rows(seed: int, n: int = 400, groups: int = 3, classes: int = 4):
    random = np.random.default_rng(seed)
    y, group = random.integers(classes, size=n), random.integers(groups, size=n)
    decided = np.where(random.random(n) < 0.5, y, random.integers(classes, size=n))
    return y, decided, group


def test_labels_that_are_classes():
    assert metrics.class_count(np.array([0, 1, 4])) == 5
    assert metrics.class_count(np.array([0.0, 2.0])) == 3
    for y in ([0, 1], [], [-1, 2], [0.5, 2], [0, 100], ["a", "b"]):
        assert metrics.class_count(np.array(y)) == 2


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_one_against_the_rest_is_the_count_of_two(classes: int):
    y, decided, group = random_rows(0, classes=classes)
    counts = count_classes(y, decided, group, 3, classes)
    for k, seen in enumerate(one_vs_rest(counts)):
        assert (seen == count(y == k, decided == k, group, 3)).all()
    if classes == 2:
        assert (counts == count(y, decided, group, 3)).all()
        assert (one_vs_rest(counts)[1] == counts).all()
    stacked = one_vs_rest(np.stack([counts, 2 * counts]))
    assert (stacked[1] == 2 * stacked[0]).all()


def test_values_by_hand():
    # selection rates: 10, 11, 9 of 30 and 11, 9, 10 of 30
    spd = of_classes(metrics.get("spd"))
    assert spd(HAND) == pytest.approx(2 / 30)
    assert spd.worst(HAND) == 1
    # true positive rates: 6, 8, 6 and 9, 6, 8 of 10
    assert of_classes(metrics.get("eod"))(HAND) == pytest.approx(0.3)
    assert of_classes(metrics.get("eod")).worst(HAND) == 0
    assert of_classes(metrics.get("disparate_impact"))(HAND) == pytest.approx(9 / 10)
    # the ratio furthest from 1 is 11 / 9
    assert of_classes(metrics.get("disparate_impact")).bias(HAND) == pytest.approx(1 - 9 / 11)
    of = {p.name: performance_of_classes(p) for p in metrics.performance.ALL}
    assert of["accuracy"](HAND) == pytest.approx(43 / 60)
    assert of["balanced_accuracy"](HAND) == pytest.approx((15 + 14 + 14) / 60)
    assert of["recall"](HAND) == of["balanced_accuracy"](HAND)
    assert of["precision"](HAND) == pytest.approx((15 / 21 + 14 / 20 + 14 / 19) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_as_fairlearn_and_sklearn_have_it(seed: int):
    y, decided, group = random_rows(seed)
    counts = count_classes(y, decided, group, 3, 4)
    theirs = {
        "demographic_parity_difference": fl.demographic_parity_difference,
        "demographic_parity_ratio": fl.demographic_parity_ratio,
        "equal_opportunity_difference": fl.equal_opportunity_difference,
        "equalized_odds_difference": fl.equalized_odds_difference,
        "equalized_odds_ratio": fl.equalized_odds_ratio,
    }
    for name, function in theirs.items():
        worst = min if name.endswith("ratio") else max
        values = [function(y == k, decided == k, sensitive_features=group) for k in range(4)]
        assert of_classes(metrics.get(name))(counts) == pytest.approx(worst(values))
    frame = fl.MetricFrame(
        metrics={"r": fl.selection_rate}, y_true=y == 2, y_pred=decided == 2,
        sensitive_features=group,
    )  # fmt: skip
    rates = metrics.rates.SELECTION(one_vs_rest(counts)[2])
    assert rates == pytest.approx(frame.by_group["r"].to_numpy())
    of = {p.name: float(performance_of_classes(p)(counts)) for p in metrics.performance.ALL}
    assert of["accuracy"] == pytest.approx(sk.accuracy_score(y, decided))
    assert of["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, decided))
    assert of["precision"] == pytest.approx(sk.precision_score(y, decided, average="macro"))
    assert of["recall"] == pytest.approx(sk.recall_score(y, decided, average="macro"))


def test_a_class_never_decided_counts_nothing_for_precision():
    y, decided, group = random_rows(1)
    decided = np.where(decided == 3, 0, decided)
    counts = count_classes(y, decided, group, 3, 4)
    found = performance_of_classes(metrics.get_performance("precision"))(counts)
    theirs = sk.precision_score(y, decided, average="macro", zero_division=0)
    assert found == pytest.approx(theirs)


@pytest.mark.parametrize("name", [known.name for known in metrics.ALL])
def test_a_stack_of_counts_is_each_by_itself_and_classes_may_be_renamed(name: str):
    stack = np.stack([count_classes(*random_rows(seed), 3, 4) for seed in range(5)])
    measure = of_classes(metrics.get(name))
    assert measure.bias(stack) == pytest.approx([float(measure.bias(each)) for each in stack])
    turned = stack[..., ::-1, ::-1]
    assert measure(turned) == pytest.approx(measure(stack))
    assert (measure.bias(stack) >= 0).all()


def test_classes_without_the_rows_are_left_out_and_none_is_nan():
    counts = HAND.copy()
    counts[0, 0] = 0  # nobody of the first group has label 0
    eod = of_classes(metrics.get("eod"))
    assert eod(counts) == pytest.approx(0.2)
    metrics.require(eod, counts, ("a", "b"))
    counts[0] = 0
    assert np.isnan(eod(counts))
    assert eod.worst(counts) is None
    assert np.isnan(eod.interval(counts)).all()
    with pytest.raises(InputError, match="at least two groups"):
        metrics.require(eod, counts, ("a", "b"))


@pytest.mark.parametrize("name", [known.name for known in metrics.ALL])
def test_an_interval_contains_its_value(name: str):
    for seed in range(3):
        counts = count_classes(*random_rows(seed, n=150), 3, 4)
        measure = of_classes(metrics.get(name))
        low, high = measure.interval(counts)
        assert low <= float(measure(counts)) <= high


@pytest.mark.parametrize("known", metrics.performance.ALL, ids=lambda each: each.name)
def test_an_interval_of_a_performance_contains_its_value(known: metrics.Performance):
    for seed in range(3):
        counts = count_classes(*random_rows(seed, n=150), 3, 4)
        measure = performance_of_classes(known)
        low, high = measure.interval(counts)
        assert low < float(measure(counts)) < high


def test_intervals_cover_the_largest_difference_of_the_truth():
    """The truth: rates of three classes in two groups, of which the largest gap is 0.1."""
    random = np.random.default_rng(0)
    chances = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]])
    spd = of_classes(metrics.get("spd"))
    covered = 0
    for _ in range(300):
        decided = [random.multinomial(150, p) for p in chances]
        counts = np.zeros((2, 3, 3), dtype=int)
        counts[:, 0] = decided
        low, high = spd.interval(counts)
        covered += low <= 0.1 <= high
    assert covered >= 0.95 * 300


def test_a_callable_sees_the_classes():
    def high_gap(y, prediction, group):
        return (prediction[group == 0] == 2).mean() - (prediction[group == 1] == 2).mean()

    measure = of_classes(metrics.get(high_gap))
    assert measure(HAND) == pytest.approx(9 / 30 - 10 / 30)
    low, high = measure.interval(HAND)
    assert low < 9 / 30 - 10 / 30 < high
    assert high - low < 0.6


def test_what_is_no_class():
    rows = np.array([0, 1, 2])
    with pytest.raises(InputError, match="whole predictions from 0 to 2"):
        count_classes(rows, rows + 1, rows * 0, 1, 3)
    with pytest.raises(InputError, match="one length"):
        count_classes(rows, rows[:2], rows, 3, 3)
    with pytest.raises(InputError, match="three classes or more"):
        performance_of_classes("accuracy")  # type: ignore[arg-type]


def test_each_of_several_needs_a_class_with_a_value():
    counts = np.concatenate([HAND, 0 * HAND[:1]])
    names = ("a", "b", "nobody")
    together = of_classes(rf.Constrained([("spd", 0.1), ("eod", 0.15)]).bias_measure)
    for measure in (together, *together.measures):
        with pytest.raises(InputError, match="'nobody' among them"):
            metrics.require(measure, counts, names)
    metrics.require(together, HAND, ("a", "b"))
