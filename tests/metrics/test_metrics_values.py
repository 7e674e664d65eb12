"""Every measure and performance: hand values, plain twins, fairlearn, AIF360, and properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from retrofair import metrics
from retrofair.errors import InputError
from retrofair.metrics import performance
from retrofair.metrics.gaps import LargestGap, SignedGap
from retrofair.metrics.ratios import RateRatio

NAN = math.nan
# [group][label][prediction]
TWO = np.array([[[60, 20], [10, 10]], [[30, 10], [12, 48]]])
#                                      group 0           group 1
#   selected among all rows            30/100            58/100
#   among positives                    10/20             48/60
#   among negatives                    20/80             10/40
#   right                              70/100            78/100
#   positive among the selected        10/30             48/58
HAND = {
    "spd": 0.30 - 0.58,
    "eod": 0.5 - 0.8,
    "aod": ((0.25 - 0.25) + (0.5 - 0.8)) / 2,
    "disparate_impact": 0.30 / 0.58,
    "demographic_parity_difference": 0.28,
    "demographic_parity_ratio": 0.30 / 0.58,
    "equal_opportunity_difference": 0.3,
    "false_positive_rate_difference": 0.0,
    "equalized_odds_difference": 0.3,
    "equalized_odds_ratio": 0.5 / 0.8,
    "accuracy_difference": 0.08,
    "predictive_parity_difference": 48 / 58 - 10 / 30,
}
HAND_PERFORMANCE = {
    "balanced_accuracy": (58 / 80 + 90 / 120) / 2,
    "accuracy": 148 / 200,
    "precision": 58 / 88,
    "recall": 58 / 80,
}

cells = st.one_of(st.just(0), st.integers(0, 12))
tables = st.integers(1, 5).flatmap(
    lambda g: st.lists(cells, min_size=4 * g, max_size=4 * g).map(
        lambda values: np.array(values).reshape(-1, 2, 2)
    )
)
by_name = pytest.mark.parametrize("measure", metrics.ALL, ids=lambda m: m.name)


def test_hand_values() -> None:
    assert {m.name for m in metrics.ALL} == set(HAND)
    assert {m.name for m in performance.ALL} == set(HAND_PERFORMANCE)
    for name, value in HAND.items():
        assert float(metrics.get(name)(TWO)) == pytest.approx(value, abs=1e-12), name
    for name, value in HAND_PERFORMANCE.items():
        assert float(metrics.get_performance(name)(TWO)) == pytest.approx(value, abs=1e-12), name


def test_hand_values_of_four_groups() -> None:
    # selection rates 1/4, 1/2, 3/4, 1/2 (the last group is the privileged one), all of true y = 1
    counts = np.array([[[0, 0], [3, 1]], [[0, 0], [2, 2]], [[0, 0], [1, 3]], [[0, 0], [4, 4]]])
    assert float(metrics.get("spd")(counts)) == 0.25
    assert float(metrics.get("eod")(counts)) == 0.25
    assert math.isnan(metrics.get("aod")(counts))
    assert float(metrics.get("demographic_parity_difference")(counts)) == 0.5
    assert float(metrics.get("demographic_parity_ratio")(counts)) == pytest.approx(1 / 3)
    assert float(metrics.get("disparate_impact")(counts)) == 0.5
    assert math.isnan(metrics.get("equalized_odds_difference")(counts))


# ------------------------------------------------------------------------------ plain twins


def share(counts: np.ndarray, hits: Callable[[int, int], bool], of: Callable[[int, int], bool]):
    """Rows with hits among rows with of, one row at a time; nan where there are none."""
    good = total = 0
    for y in (0, 1):
        for p in (0, 1):
            for _ in range(int(counts[y, p])):
                if of(y, p):
                    total += 1
                    good += hits(y, p)
    return good / total if total else NAN


RATES: dict[str, Callable[[np.ndarray], float]] = {
    "selection": lambda c: share(c, lambda y, p: p == 1, lambda y, p: True),
    "tpr": lambda c: share(c, lambda y, p: p == 1, lambda y, p: y == 1),
    "fpr": lambda c: share(c, lambda y, p: p == 1, lambda y, p: y == 0),
    "tnr": lambda c: share(c, lambda y, p: p == 0, lambda y, p: y == 0),
    "ppv": lambda c: share(c, lambda y, p: y == 1, lambda y, p: p == 1),
    "correct": lambda c: share(c, lambda y, p: y == p, lambda y, p: True),
}


def signed(counts: np.ndarray, *rates: str) -> float:
    values = [np.mean([RATES[r](c) for r in rates]) for c in counts]
    gaps = [v - values[-1] for v in values[:-1]]
    if len(gaps) == 1:
        return float(gaps[0])
    known = [abs(g) for g in gaps if not math.isnan(g)]
    return max(known) if known else NAN


def known_rates(counts: np.ndarray, rate: str) -> list[float]:
    return [v for v in map(RATES[rate], counts) if not math.isnan(v)]


def largest(counts: np.ndarray, *rates: str) -> float:
    values = [known_rates(counts, rate) for rate in rates]
    return max(max(v) - min(v) for v in values) if all(len(v) >= 2 for v in values) else NAN


def smallest_ratio(counts: np.ndarray, *rates: str) -> float:
    values = [known_rates(counts, rate) for rate in rates]
    if not all(len(v) >= 2 and max(v) > 0 for v in values):
        return NAN
    return min(min(v) / max(v) for v in values)


def impact(counts: np.ndarray) -> float:
    *others, last = (RATES["selection"](c) for c in counts)
    ratios = [v / last for v in others if last > 0 and not math.isnan(v)]
    return min(ratios) if ratios else NAN


TWINS: dict[str, Callable[[np.ndarray], float]] = {
    "spd": lambda c: signed(c, "selection"),
    "eod": lambda c: signed(c, "tpr"),
    "aod": lambda c: signed(c, "fpr", "tpr"),
    "disparate_impact": impact,
    "demographic_parity_difference": lambda c: largest(c, "selection"),
    "demographic_parity_ratio": lambda c: smallest_ratio(c, "selection"),
    "equal_opportunity_difference": lambda c: largest(c, "tpr"),
    "false_positive_rate_difference": lambda c: largest(c, "fpr"),
    "equalized_odds_difference": lambda c: largest(c, "tpr", "fpr"),
    "equalized_odds_ratio": lambda c: smallest_ratio(c, "tpr", "fpr"),
    "accuracy_difference": lambda c: largest(c, "correct"),
    "predictive_parity_difference": lambda c: largest(c, "ppv"),
}
PERFORMANCE_TWINS: dict[str, Callable[[np.ndarray], float]] = {
    "balanced_accuracy": lambda c: (RATES["tpr"](c) + RATES["tnr"](c)) / 2,
    "accuracy": RATES["correct"],
    "precision": RATES["ppv"],
    "recall": RATES["tpr"],
}


@settings(max_examples=150, deadline=None)
@given(tables)
def test_values_against_loops(counts: np.ndarray) -> None:
    for measure in metrics.ALL:
        twin = TWINS[measure.name](counts)
        np.testing.assert_allclose(measure(counts), twin, rtol=0, atol=1e-12, err_msg=measure.name)
        if measure.name == "disparate_impact":  # both sides count, the worst group decides
            *others, last = (RATES["selection"](c) for c in counts)
            pairs = [(min(v, last), max(v, last)) for v in others if last > 0 and v == v]
            bias = max((1 - low / high for low, high in pairs), default=NAN)
        elif isinstance(measure, RateRatio):
            bias = 1 - twin
        else:
            bias = abs(twin)
        np.testing.assert_allclose(measure.bias(counts), bias, rtol=0, atol=1e-12)
        assert not measure.bias(counts) < 0
    for good in performance.ALL:
        twin = PERFORMANCE_TWINS[good.name](counts.sum(axis=0))
        np.testing.assert_allclose(good(counts), twin, rtol=0, atol=1e-12, err_msg=good.name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cells, min_size=12, max_size=12), min_size=1, max_size=6))
def test_a_stack_of_counts_is_measured_one_by_one(values: list[list[int]]) -> None:
    stack = np.array(values).reshape(-1, 3, 2, 2)
    for measure in (*metrics.ALL, *performance.ALL):
        together = measure(stack)
        assert together.shape == (len(stack),)
        np.testing.assert_array_equal(together, [measure(one) for one in stack])
        np.testing.assert_array_equal(measure(stack[:, None])[:, 0], together)
        np.testing.assert_allclose(measure(stack.astype(float)), together, rtol=1e-15)


@settings(max_examples=80, deadline=None)
@given(tables, st.integers(0, 4))
def test_an_absent_group_changes_no_bias(counts: np.ndarray, place: int) -> None:
    wider = np.insert(counts, min(place, len(counts) - 1), 0, axis=0)  # never the last
    for measure in metrics.ALL:
        np.testing.assert_allclose(measure.bias(wider), measure.bias(counts), rtol=1e-12)
    for good in performance.ALL:
        np.testing.assert_array_equal(good(wider), good(counts))


@settings(max_examples=80, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_relabelling_the_groups(counts: np.ndarray, random: Any) -> None:
    order = list(range(len(counts)))
    random.shuffle(order)
    for measure in metrics.ALL:
        if isinstance(measure, LargestGap) or getattr(measure, "worst", False):
            np.testing.assert_allclose(measure(counts[order]), measure(counts), rtol=1e-12)
    for good in performance.ALL:
        np.testing.assert_array_equal(good(counts[order]), good(counts))
    swapped = counts[:2][::-1]
    if len(counts) >= 2:
        for measure in metrics.ALL:
            value, other = float(measure(counts[:2])), float(measure(swapped))
            if isinstance(measure, SignedGap):
                np.testing.assert_array_equal(other, -value)
            elif measure.name == "disparate_impact" and value > 0:
                assert other == pytest.approx(1 / value)


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(2, 9))
def test_measures_depend_on_shares_only(counts: np.ndarray, times: int) -> None:
    for measure in (*metrics.ALL, *performance.ALL):
        np.testing.assert_allclose(measure(times * counts), measure(counts), rtol=1e-12)


@by_name
def test_nan_conventions(measure: metrics.Measure) -> None:
    full = [[4, 3], [2, 5]]
    nothing = np.zeros((3, 2, 2), int)
    single = np.array([full, np.zeros((2, 2)), np.zeros((2, 2))])
    for counts in (nothing, single, single[::-1], np.array([full]), nothing[:2], nothing[:1]):
        assert math.isnan(measure(counts))
        assert math.isnan(measure.bias(counts))
        assert np.isnan(measure.interval(counts)).all()
    two_of_three = np.array([full, np.zeros((2, 2)), [[1, 6], [3, 9]]])
    assert math.isfinite(measure(two_of_three))
    assert math.isfinite(sum(measure.interval(two_of_three)))
    perfect = np.array([full, full])
    assert float(measure(perfect)) == pytest.approx(measure.ideal, abs=1e-15)
    assert float(measure.bias(perfect)) == pytest.approx(0, abs=1e-15)


# --------------------------------------------------------------------- fairlearn and AIF360


def sample(seed: int, groups: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    group = random.integers(groups, size=n)
    y = (random.random(n) < 0.3 + 0.1 * group).astype(int)
    prediction = (random.random(n) < 0.2 + 0.3 * y + 0.05 * group).astype(int)
    return y, prediction, group


@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_against_fairlearn(groups: int, seed: int) -> None:
    import fairlearn.metrics as fairlearn
    from sklearn.metrics import accuracy_score, precision_score

    y, prediction, group = sample(seed, groups)
    counts = metrics.count(y, prediction, group, groups)
    about = {"y_true": y, "y_pred": prediction, "sensitive_features": group}
    for name in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equal_opportunity_difference",
        "false_positive_rate_difference",
        "equalized_odds_difference",
        "equalized_odds_ratio",
    ):
        theirs = getattr(fairlearn, name)(**about)
        assert float(metrics.get(name)(counts)) == pytest.approx(theirs, abs=1e-12), name
    rates: dict[str, Any] = {
        "selection_rate": fairlearn.selection_rate,
        "true_positive_rate": fairlearn.true_positive_rate,
        "false_positive_rate": fairlearn.false_positive_rate,
        "precision": precision_score,
        "accuracy": accuracy_score,
        "base_rate": lambda y_true, y_pred: y_true.mean(),
    }
    assert set(rates) == {rate.name for rate in metrics.rates.ALL}
    frame = fairlearn.MetricFrame(metrics=rates, **about)
    for rate in metrics.rates.ALL:
        np.testing.assert_allclose(rate(counts), frame.by_group[rate.name], atol=1e-12)
    for measure, rate in (
        ("accuracy_difference", "accuracy"),
        ("predictive_parity_difference", "precision"),
    ):
        theirs = frame.difference()[rate]
        assert float(metrics.get(measure)(counts)) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_against_sklearn(seed: int) -> None:
    import sklearn.metrics as sklearn

    y, prediction, group = sample(seed, 3)
    counts = metrics.count(y, prediction, group, 3)
    for name in HAND_PERFORMANCE:
        theirs = getattr(sklearn, f"{name}_score")(y, prediction)
        ours = float(metrics.get_performance(name)(counts))
        assert ours == pytest.approx(
            sklearn.balanced_accuracy_score(y, prediction) if "balanced" in name else theirs,
            abs=1e-12,
        )


@pytest.mark.parametrize("seed", range(3))
def test_against_aif360(seed: int) -> None:
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import ClassificationMetric

    y, prediction, group = sample(seed, 2)
    true = BinaryLabelDataset(
        df=pd.DataFrame({"g": group.astype(float), "y": y.astype(float)}),
        label_names=["y"],
        protected_attribute_names=["g"],
    )
    predicted = true.copy(deepcopy=True)
    predicted.labels = prediction.astype(float).reshape(-1, 1)
    reference = ClassificationMetric(
        true, predicted, unprivileged_groups=[{"g": 0}], privileged_groups=[{"g": 1}]
    )
    theirs = {
        "spd": reference.statistical_parity_difference(),
        "eod": reference.equal_opportunity_difference(),
        "aod": reference.average_odds_difference(),
        "disparate_impact": reference.disparate_impact(),
    }
    counts = metrics.count(y, prediction, group, 2)
    assert theirs["spd"] < 0  # unprivileged minus privileged
    for name, value in theirs.items():
        assert float(metrics.get(name)(counts)) == pytest.approx(value, abs=1e-12)
    good = metrics.get_performance("accuracy")(counts)
    assert float(good) == pytest.approx(reference.accuracy(), abs=1e-12)


# -------------------------------------------------------------------------- names and checks


def test_names_and_aliases() -> None:
    everything = (*metrics.ALL, *performance.ALL)
    names = [name for m in everything for name in (m.name, *m.aliases)]
    assert len(names) == len(set(names))
    for measure in metrics.ALL:
        assert isinstance(measure, metrics.Measure)
        assert measure.meaning
        assert metrics.get(measure) is measure
        for name in (measure.name, *measure.aliases):
            assert metrics.get(name) is measure
    for good in performance.ALL:
        assert metrics.get_performance(good) is good
        for name in (good.name, *good.aliases):
            assert metrics.get_performance(name) is good


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"unknown measure 'sdp': did you mean 'spd'\?"):
        metrics.get("sdp")
    with pytest.raises(InputError, match="did you mean 'equalized_odds_difference'"):
        metrics.get("equalised_odds_difference")
    with pytest.raises(InputError, match=r"unknown measure 'zzz' \(choose from: "):
        metrics.get("zzz")
    with pytest.raises(InputError, match="unknown performance 'acuracy': did you mean 'accuracy'"):
        metrics.get_performance("acuracy")
    with pytest.raises(InputError, match="expected a measure's name or a callable, got int"):
        metrics.get(3)  # type: ignore[arg-type]


@by_name
def test_require_accepts_data_on_which_there_is_a_value(measure: metrics.Measure) -> None:
    metrics.require(measure, TWO, ("a", "b"))
    metrics.require(measure, np.concatenate([np.zeros((1, 2, 2)), TWO]), ("none", "a", "b"))


@pytest.mark.parametrize(
    ("name", "counts", "message"),
    [
        ("spd", [[[1, 1], [1, 1]], [[0, 0], [0, 0]]], r"'b' among them, with rows, got \['a'\]"),
        ("disparate_impact", [[[1, 1], [1, 1]], [[0, 0], [0, 0]]], "'b' among them"),
        ("eod", [[[1, 1], [0, 0]], [[1, 1], [1, 1]]], r"with positives, got \['b'\] of"),
        (
            "aod",
            [[[0, 0], [1, 1]], [[1, 1], [1, 1]]],
            r"negatives and positives, got \['b'\] of",
        ),
        ("equalized_odds_difference", [[[0, 0], [1, 1]], [[1, 1], [1, 1]]], "two groups with neg"),
        ("equalized_odds_ratio", [[[1, 1], [0, 0]], [[1, 1], [1, 1]]], "two groups with positives"),
        ("demographic_parity_difference", [[[0, 0], [0, 0]]] * 2, r"got none of \['a', 'b'\]"),
        ("predictive_parity_difference", [[[1, 1], [1, 1]], [[0, 0], [0, 0]]], None),
    ],
)
def test_require_names_the_groups(name: str, counts: Any, message: str | None) -> None:
    measure, table = metrics.get(name), np.array(counts)
    if message is None:  # the predictions are not known yet
        metrics.require(measure, table, ("a", "b"))
        return
    with pytest.raises(InputError, match=rf"^{name} compares groups by their .*{message}"):
        metrics.require(measure, table, ("a", "b"))


def test_require_of_an_average_wants_all_rates_in_the_same_group() -> None:
    counts = np.array([[[1, 1], [0, 0]], [[0, 0], [1, 1]], [[1, 1], [1, 1]]])
    assert math.isnan(metrics.get("aod")(counts))
    with pytest.raises(InputError, match=r"negatives and positives, got \['c'\]"):
        metrics.require(metrics.get("aod"), counts, ("a", "b", "c"))
    metrics.require(metrics.get("equalized_odds_difference"), counts, ("a", "b", "c"))


def test_require_of_three_groups_wants_the_privileged_one() -> None:
    counts = np.array([[[1, 1], [1, 1]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    with pytest.raises(InputError, match="'c' among them"):
        metrics.require(metrics.get("spd"), counts, ("a", "b", "c"))
    metrics.require(metrics.get("demographic_parity_difference"), counts, ("a", "b", "c"))


@settings(max_examples=100, deadline=None)
@given(tables)
def test_require_and_the_value_agree(counts: np.ndarray) -> None:
    names = tuple("abcde"[: len(counts)])
    for measure in metrics.ALL:
        if measure.name in ("predictive_parity_difference", "disparate_impact"):
            continue  # these depend on the predictions
        value = float(measure(counts))
        if math.isfinite(value):
            metrics.require(measure, counts, names)
        elif not isinstance(measure, RateRatio):
            with pytest.raises(InputError):
                metrics.require(measure, counts, names)


def test_callables_are_measures() -> None:
    def gap(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        """Difference of selection rates.

        More about it.
        """
        return float(prediction[group == 0].mean() - prediction[group == 1].mean())

    measure = metrics.get(gap)
    assert isinstance(measure, metrics.Measure)
    assert (measure.name, measure.meaning) == ("gap", "Difference of selection rates.")
    spd = metrics.get("spd")
    stack = np.stack([TWO, TWO[::-1], TWO + 1])
    np.testing.assert_allclose(measure(stack), spd(stack), atol=1e-15)
    np.testing.assert_allclose(measure.bias(stack), spd.bias(stack), atol=1e-15)
    assert measure(TWO).shape == ()
    low, high = measure.interval(TWO)
    wanted = spd.interval(TWO)
    assert low == pytest.approx(wanted[0], abs=0.03)
    assert high == pytest.approx(wanted[1], abs=0.03)
    assert measure.interval(TWO) == (low, high)


@settings(max_examples=50, deadline=None)
@given(tables)
def test_a_callable_sees_the_rows(counts: np.ndarray) -> None:
    seen = []

    def keep(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        seen.append(metrics.count(y, prediction, group, len(counts)))
        return 0.0

    metrics.get(keep)(counts)
    np.testing.assert_array_equal(seen[0], counts)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "to return a number, got NoneType"),
        ("high", "to return a number, got str"),
        ("0.01", r"to return a number, got str \('0.01'\); return a float"),
        (b"0.01", "to return a number, got bytes"),
        (np.array([1.0, 2.0]), "to return a number, got ndarray"),
        (math.nan, "to return a finite number, got nan for 200 rows; return 0 where it has no"),
        (math.inf, "to return a finite number, got inf"),
    ],
)
def test_callables_that_return_nonsense(result: Any, message: str) -> None:
    measure = metrics.get(lambda y, prediction, group: result)
    with pytest.raises(InputError, match=f"expected the measure '<lambda>' {message}"):
        measure(TWO)


def test_a_callable_that_raises_or_takes_other_arguments_is_one_clear_error() -> None:
    def broken(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        return {}["nothing"]  # type: ignore[no-any-return]

    def two(y: np.ndarray, prediction: np.ndarray) -> float:
        return 0.0

    def inside(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        return two(y)  # type: ignore[call-arg]

    takes = (
        r"'two' to take \(y, prediction, group\), got a function of \(y: .*prediction: .*\) -> .*"
    )
    with pytest.raises(InputError, match=f"expected the measure {takes}; give it these three"):
        metrics.get(two)(TWO)
    said = "to return a number, got KeyError: 'nothing' for 200 rows; mend it, or return 0"
    with pytest.raises(InputError, match=f"expected the measure 'broken' {said}") as caught:
        metrics.get(broken)(TWO)
    assert isinstance(caught.value.__cause__, KeyError)  # where in the function it was
    with pytest.raises(InputError, match=r"'inside' to return a number, got TypeError: .*missing"):
        metrics.get(inside)(TWO)


def test_a_callable_that_raises_on_a_replicate_has_an_interval_all_the_same() -> None:
    def fussy(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        if prediction[group == 0].sum() > TWO[0, :, 1].sum():
            raise ValueError("more than there were")
        return float(prediction.mean())

    measure = metrics.get(fussy)
    low, high = measure.interval(TWO)
    assert low <= float(measure(TWO)) <= high


def mean_gap(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
    chosen = [prediction[(group == code) & (y == 1)] for code in (0, 1)]
    return float(chosen[0].mean() - chosen[1].mean())


def divided_gap(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
    values = [(y[group == g] * prediction[group == g]).sum().item() for g in (0, 1)]
    return values[0] / int(prediction[group == 0].sum()) - values[1] / int(
        prediction[group == 1].sum()
    )


def strict_gap(y: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
    if len(np.unique(2 * group + y)) < 4:
        raise ValueError("every group needs both labels")  # as many of scikit-learn's do
    return mean_gap(y, prediction, group)


@pytest.mark.parametrize("function", [mean_gap, divided_gap, strict_gap])
def test_intervals_of_callables_survive_small_groups(function: Any) -> None:
    # one positive row each: plain resampling would leave groups empty, and means undefined
    counts = np.array([[[3, 1], [1, 1]], [[2, 1], [0, 1]]])
    measure = metrics.get(function)
    low, high = measure.interval(counts)
    assert low <= float(measure(counts)) <= high
    assert np.isnan(measure.interval(np.zeros((2, 2, 2), int))).all()


@settings(max_examples=60, deadline=None)
@given(tables)
def test_ratio_bias_is_symmetric(counts: np.ndarray) -> None:
    assume(len(counts) >= 2)
    measure = metrics.get("disparate_impact")
    one, other = float(measure.bias(counts[:2])), float(measure.bias(counts[:2][::-1]))
    if float(measure(counts[:2])) > 0:
        assert one == pytest.approx(other)
