"""The audit: values, intervals, flags and tables; results, networks and bare decisions."""

from __future__ import annotations

import json
import math
from typing import Any

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrofair import metrics
from retrofair.audit import Audit, audit, audit_predictions
from retrofair.data import GroupedData
from retrofair.debiasers import debias
from retrofair.errors import InputError, RetrofairWarning
from retrofair.metrics import performance
from retrofair.objective import Constrained

# [group][label][prediction], as in the tests of the measures
TWO = np.array([[[60, 20], [10, 10]], [[30, 10], [12, 48]]])
HAND = {
    "spd": 0.30 - 0.58,
    "eod": 0.5 - 0.8,
    "aod": (0.5 - 0.8) / 2,
    "disparate_impact": 0.30 / 0.58,
    "equalized_odds_difference": 0.3,
    "accuracy": 148 / 200,
    "balanced_accuracy": (58 / 80 + 90 / 120) / 2,
    "precision": 58 / 88,
    "recall": 58 / 80,
}
FAIRLEARN = {
    "demographic_parity_difference": fairlearn.metrics.demographic_parity_difference,
    "demographic_parity_ratio": fairlearn.metrics.demographic_parity_ratio,
    "equalized_odds_difference": fairlearn.metrics.equalized_odds_difference,
    "equalized_odds_ratio": fairlearn.metrics.equalized_odds_ratio,
    "equal_opportunity_difference": fairlearn.metrics.equal_opportunity_difference,
}


def rows_of(counts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, decisions and groups of rows with these counts."""
    counts = np.asarray(counts)
    group, y, decision = (
        np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape)
    )
    return y, decision, group


def of(counts: Any, **options: Any) -> Audit:
    return audit_predictions(*rows_of(counts), **options)


def random_rows(n: int, groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(2, size=n), random.integers(2, size=n), random.integers(groups, size=n)


class First(nn.Module):
    """The logit is the first column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]


def data(n: int = 300, seed: int = 0) -> GroupedData:
    random = np.random.default_rng(seed)
    group = random.integers(2, size=n)
    y = (random.random(n) < 0.3 + 0.4 * group).astype(np.int64)
    x = np.column_stack([y * 1.5 - 1 + 0.5 * group + random.normal(size=n), random.normal(size=n)])
    return GroupedData(x=x, y=y, group=group, group_names=("f", "m"))


def as_plain(found: Audit) -> str:
    """Everything in an audit, as text: nan equals nan there."""
    return repr((found.estimates, found.groups, found.counts.tolist(), found.flags))


# --- values ---------------------------------------------------------------------------------------


def test_values_by_hand() -> None:
    found = of(TWO)
    for name, value in HAND.items():
        assert found[name].value == pytest.approx(value), name
    assert found.n == 200
    assert found.group_names == ("0", "1")
    assert found.counts.tolist() == TWO.tolist()


def test_bare_codes_are_0_unprivileged_and_1_privileged() -> None:
    # only group 1 is ever chosen: unprivileged minus privileged is negative
    found = audit_predictions([1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1])
    assert found["spd"].value == -1
    assert audit_predictions([1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0])["spd"].value == 1


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_values_are_fairlearns_and_sklearns(groups: int, seed: int) -> None:
    y, decision, group = random_rows(150, groups, seed)
    scores = np.random.default_rng(seed).random(150).round(1)
    found = audit_predictions(y, decision, group, scores=scores)
    for name, function in FAIRLEARN.items():
        theirs = function(y, decision, sensitive_features=group)
        assert found[name].value == pytest.approx(theirs, abs=1e-12), name
    for name in ("accuracy", "precision", "recall"):
        theirs = getattr(sklearn.metrics, f"{name}_score")(y, decision)
        assert found[name].value == pytest.approx(theirs, abs=1e-12)
    theirs = sklearn.metrics.balanced_accuracy_score(y, decision)
    assert found["balanced_accuracy"].value == pytest.approx(theirs, abs=1e-12)
    assert found["roc_auc"].value == pytest.approx(sklearn.metrics.roc_auc_score(y, scores))
    frame = fairlearn.metrics.MetricFrame(
        metrics={"selection_rate": fairlearn.metrics.selection_rate},
        y_true=y,
        y_pred=decision,
        sensitive_features=group,
    )
    mine = [found.groups[name]["selection_rate"].value for name in found.group_names]
    assert mine == pytest.approx(frame.by_group["selection_rate"].tolist())


def test_every_measure_has_its_own_interval_and_meaning() -> None:
    found = of(TWO)
    known = {m.name: m for m in (*metrics.ALL, *performance.ALL)}
    assert set(found) == set(known)
    for name, measure in known.items():
        estimate = found[name]
        assert (estimate.low, estimate.high) == measure.interval(TWO)
        assert estimate.meaning == measure.meaning
        assert estimate.name == name
        assert estimate.kind == ("bias" if measure in metrics.ALL else "performance")
    assert found["spd"].ideal == 0
    assert found["disparate_impact"].ideal == found["accuracy"].ideal == 1


cells = st.one_of(st.just(0), st.integers(0, 40))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(cells, min_size=4, max_size=4), min_size=2, max_size=4))
def test_intervals_contain_their_values(groups: list[list[int]]) -> None:
    counts = np.array(groups).reshape(-1, 2, 2)
    if (counts.sum(axis=(1, 2)) > 0).sum() < 2:
        with pytest.raises(InputError, match=r"two groups with rows|rows to audit"):
            of(counts, group_names=[str(g) for g in range(len(counts))])
        return
    found = of(counts, group_names=[str(g) for g in range(len(counts))])
    estimates = [*found.estimates.values(), *(e for g in found.groups.values() for e in g.values())]
    for e in estimates:
        if math.isnan(e.value):
            assert math.isnan(e.low), e
            assert math.isnan(e.high), e
            assert str(e) == "undefined"
        else:
            assert e.low <= e.value <= e.high, e
    for e in found.estimates.values():
        assert bool(e.note) == math.isnan(e.value), e


def test_the_order_of_rows_does_not_matter() -> None:
    y, decision, group = random_rows(200, 3)
    scores = np.linspace(0, 1, 200)
    order = np.random.default_rng(1).permutation(200)
    one = audit_predictions(y, decision, group, scores=scores)
    other = audit_predictions(y[order], decision[order], group[order], scores=scores[order])
    assert as_plain(one) == as_plain(other)


def test_a_million_rows() -> None:
    y, decision, group = (np.tile(column, 20)[:1_000_001] for column in random_rows(50_001, 3))
    found = audit_predictions(y, decision, group, scores=decision / 2)
    assert found.n == 1_000_001 - max(0, 1_000_001 - 20 * 50_001)
    whole = [decision[group == g].mean() for g in range(3)]
    assert found["demographic_parity_difference"].value == pytest.approx(max(whole) - min(whole))
    assert found["spd"].high - found["spd"].low < 0.02


# --- names ----------------------------------------------------------------------------------------


def test_names_and_aliases() -> None:
    found = of(TWO)
    for alias, name in (
        ("statistical_parity_difference", "spd"),
        ("average_odds_difference", "aod"),
        ("disparate_impact_ratio", "disparate_impact"),
        ("true_positive_rate_difference", "equal_opportunity_difference"),
        ("true_positive_rate", "recall"),
    ):
        assert found[alias] is found[name]
        assert alias in found
    assert "spd" in found
    assert "sdp" not in found
    assert 3 not in found
    with pytest.raises(InputError, match="unknown measure 'sdp': did you mean 'spd'"):
        found["sdp"]
    with pytest.raises(InputError, match="roc_auc"):
        found["roc_auc"]  # no scores were given


def test_a_callers_own_measures() -> None:
    def wrong_share(y: Any, decision: Any, group: Any) -> float:
        """share of wrong decisions"""
        return float((y != decision).mean())

    found = of(TWO, measures=[wrong_share])
    assert found["wrong_share"].value == pytest.approx(1 - HAND["accuracy"])
    assert found["wrong_share"].low < found["wrong_share"].value < found["wrong_share"].high
    assert found["wrong_share"].meaning == "share of wrong decisions"
    assert set(of(TWO, measures=["spd"])) == set(of(TWO))  # one that is there already


@pytest.mark.parametrize("name", ["spd", "accuracy", "roc_auc", "mine"])
def test_a_measure_must_not_take_anothers_name(name: str) -> None:
    def one(y: Any, decision: Any, group: Any) -> float:
        return 0.0

    def two(y: Any, decision: Any, group: Any) -> float:
        return 1.0

    one.__name__ = two.__name__ = name
    with pytest.raises(InputError, match=f"got another '{name}': rename"):
        of(TWO, measures=[one, two])


# --- groups ---------------------------------------------------------------------------------------


def test_an_empty_group_is_a_row_of_nan() -> None:
    counts = np.concatenate([TWO[:1], np.zeros((1, 2, 2), int), TWO[1:]])
    found = of(counts, group_names=["f", "none", "m"])
    frame = found.groups_frame()
    assert frame.loc["none", "n"] == 0
    assert frame.loc["none"].drop("n").isna().all()
    assert frame.drop("none").notna().all().all()
    assert any("Group 'none' has no row" in flag for flag in found.flags)
    assert found["demographic_parity_difference"].value == pytest.approx(0.28)
    assert found["spd"].value == pytest.approx(0.28)  # unsigned with three names


def test_a_gap_without_the_privileged_group_is_undefined_and_says_so() -> None:
    found = of(np.concatenate([TWO, np.zeros((1, 2, 2), int)]), group_names=["f", "m", "none"])
    assert math.isnan(found["spd"].value)
    assert "privileged one among them" in found["spd"].note
    assert found["demographic_parity_difference"].value == pytest.approx(0.28)


def test_a_ratio_over_a_rate_of_0_has_no_value_and_no_limits() -> None:
    found = of([[[50, 10], [50, 10]], [[60, 0], [60, 0]]])
    impact = found["disparate_impact"]
    assert all(math.isnan(value) for value in (impact.value, impact.low, impact.high))
    assert "the privileged one" in impact.note
    low, high = metrics.get("disparate_impact").interval(found.counts)
    assert not math.isnan(low)  # the measure itself has limits, which no value may go without
    assert high == math.inf
    assert found["demographic_parity_ratio"].value == 0


@pytest.mark.parametrize("code", [0, 1])
def test_fewer_than_two_groups_with_rows(code: int) -> None:
    words = rf"at least two groups with rows, got \['{code}'\] of \['0', '1'\]"
    with pytest.raises(InputError, match=words):
        audit_predictions([0, 1, 0, 1], [0, 1, 1, 0], [code] * 4)


def test_no_rows() -> None:
    with pytest.raises(InputError, match="rows to audit"):
        audit_predictions([], [], [])


@pytest.mark.parametrize(
    "names",
    [("f", "m"), ["f", "m"], np.array(["f", "m"]), pd.Index(["f", "m"]), pd.Series(["f", "m"])],
    ids=["tuple", "list", "array", "index", "series"],
)
def test_group_names_of_any_kind(names: Any) -> None:
    assert of(TWO, group_names=names).group_names == ("f", "m")


def test_group_names_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="group codes from 0 to 0"):
        of(TWO, group_names=["f"])
    with pytest.raises(InputError, match="different group names"):
        of(TWO, group_names=["f", "f"])


# --- what may be given ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.array,
        torch.tensor,
        lambda v: np.array(v, dtype=float),
        lambda v: np.array(v, dtype=bool),
        lambda v: np.array(v, dtype=np.uint8)[:, None],
        lambda v: pd.Series(v, index=range(len(v))[::-1]),
        lambda v: pd.Series(v, dtype="Int64"),
    ],
    ids=["list", "array", "tensor", "floats", "bools", "columns", "series", "nullable"],
)
def test_rows_of_any_kind(kind: Any) -> None:
    y, decision, group = (column.tolist() for column in rows_of(TWO))
    found = audit_predictions(kind(y), kind(decision), kind(group))
    assert found.counts.tolist() == TWO.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": list("ffmm")}, "integer group codes, got <U1: encode.*pandas.factorize"),
        ({"group": [0, 0.5, 1, 1]}, "whole group codes"),
        ({"group": [0, math.nan, 1, 1]}, "group codes that count the groups from 0.*got nan"),
        ({"group": [0, math.inf, 1, 1]}, "group codes that count the groups from 0.*got inf"),
        ({"group": [0, -1, 1, 1]}, "whole group codes from 0 to 1, got -1"),
        ({"group": [0, 10**9, 1, 1]}, "below 1,000, got 1000000000"),
        ({"y": [0, 1, -2, 1]}, "whole labels from 0 to 1, got -2 to 1"),
        ({"y": [0, 1, math.nan, 1]}, "labels"),
        ({"y": list("0101")}, "numbers as labels"),
        ({"y_hat": [0, 0.7, 1, 1]}, "whole predictions"),
        ({"y_hat": [0, 1, 1]}, "of one length, got 4, 3 and 4"),
        ({"scores": [0.1, 0.2]}, "4 scores without NaN, got 2"),
        ({"scores": [0.1, 0.2, math.nan, 0.3]}, "4 scores without NaN"),
        ({"scores": list("abcd")}, "4 scores without NaN, got 4 of <U1"),
    ],
)
def test_rows_that_cannot_be_audited(change: dict[str, Any], words: str) -> None:
    usual = {"y": [0, 1, 0, 1], "y_hat": [0, 1, 1, 0], "group": [0, 0, 1, 1]}
    with pytest.raises(InputError, match=words):
        audit_predictions(**{**usual, **change})


def test_the_advice_for_texts_works() -> None:
    group, names = pd.factorize(np.array(["m", "f", "f", "m"]), sort=True)
    found = audit_predictions([0, 1, 0, 1], [1, 0, 0, 1], group, group_names=names)
    assert found.group_names == ("f", "m")
    assert found["spd"].value == -1


# --- flags ----------------------------------------------------------------------------------------

FINE = [[[3000, 1000], [1000, 3000]], [[3000, 1000], [1000, 3000]]]


def test_nothing_to_object_to() -> None:
    assert of(FINE).flags == ()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[[4000, 0], [4000, 0]], [[4000, 0], [3990, 10]]], "Degenerate: 15,990 of 16,000"),
        ([[[0, 4000], [0, 4000]], [[0, 4000], [0, 4000]]], "Degenerate: 16,000 of 16,000"),
        ([[[3000, 1000], [9, 20]], FINE[1]], "Too little data in group '0': 29 positive and 4,000"),
        ([[[20, 9], [1000, 3000]], FINE[1]], "Too little data in group '0': 4,000 positive and 29"),
        ([[[30, 10], [10, 30]]] * 2, "The intervals of spd, eod, aod are wider"),
        ([[[3600, 400], [2600, 1400]], FINE[1]], "Four-fifths rule: the selection rate is 0.45"),
    ],
    ids=["all negative", "all positive", "few positive", "few negative", "wide", "four-fifths"],
)
def test_each_flag(counts: Any, expected: str) -> None:
    flags = of(counts).flags
    # few rows of one label also widen the intervals that need it, and shift the selection rate
    allowed = (expected, "The intervals of", "Four-fifths")
    assert [flag for flag in flags if flag.startswith(expected)], flags
    assert all(flag.startswith(allowed) for flag in flags), flags


def test_the_sides_of_a_degenerate_classifier() -> None:
    assert "decided negative" in of([[[4000, 0], [4000, 0]], [[4000, 0], [3990, 10]]]).flags[0]
    assert "decided positive" in of([[[0, 4000], [0, 4000]], [[0, 4000], [0, 4000]]]).flags[0]


def test_four_fifths_is_flagged_only_beyond_sampling_error() -> None:
    few = [[[18, 2], [13, 7]], [[15, 5], [5, 15]]]  # the same rates as above, in few rows
    found = of(few)
    assert found["disparate_impact"].value == pytest.approx(0.45)
    assert found["disparate_impact"].high > 0.8
    assert not any(flag.startswith("Four-fifths") for flag in found.flags)


# --- tables ---------------------------------------------------------------------------------------


def test_to_frame() -> None:
    found = of(TWO)
    frame = found.to_frame()
    assert list(frame.index) == list(found)
    assert {"value", "low", "high", "ideal", "kind", "meaning", "note"} == set(frame.columns)
    assert frame.loc["spd", "value"] == found["spd"].value
    assert frame.loc["accuracy", "kind"] == "performance"


def test_groups_frame() -> None:
    frame = of(TWO, group_names=["f", "m"]).groups_frame()
    assert list(frame.index) == ["f", "m"]
    assert frame["n"].tolist() == [100, 100]
    assert frame["base_rate"].tolist() == [0.2, 0.6]
    assert frame["selection_rate"].tolist() == [0.3, 0.58]
    assert frame["true_positive_rate"].tolist() == [0.5, 0.8]
    assert frame["false_positive_rate"].tolist() == [0.25, 0.25]
    assert frame["precision"].tolist() == pytest.approx([1 / 3, 48 / 58])
    assert frame["accuracy"].tolist() == [0.7, 0.78]
    assert (frame["precision_low"] < frame["precision"]).all()
    assert (frame["precision_high"] > frame["precision"]).all()


def test_to_dict_is_ready_for_json() -> None:
    found = of(TWO)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(read) == set(found)
    assert read["spd"] == {k: getattr(found["spd"], k) for k in ("value", "low", "high")}
    assert type(found.to_dict()["spd"]["value"]) is float


# --- networks and results -------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 1.0])
def test_a_network_with_a_threshold(threshold: float | None) -> None:
    rows = data()
    chance = 1 / (1 + np.exp(-rows.x[:, 0].double().numpy()))
    used = 0.5 if threshold is None else threshold
    found = audit(First(), rows, threshold=threshold)
    expected = audit_predictions(
        rows.y, chance > used, rows.group, group_names=("f", "m"), scores=chance
    )
    assert as_plain(found) == as_plain(expected)
    assert found.threshold == used
    assert "roc_auc" in found


def test_positive_means_strictly_above() -> None:
    rows = GroupedData(
        x=[[0.0], [0.0], [1.0], [-1.0]], y=[0, 1, 1, 0], group=[0, 1, 0, 1], group_names=("f", "m")
    )
    assert audit(First(), rows).counts[..., 1].sum() == 1


def test_a_network_of_probabilities() -> None:
    rows = data()
    network = nn.Sequential(First(), nn.Sigmoid())
    expected = audit(First(), rows, threshold=0.4).counts.tolist()
    with pytest.warns(RetrofairWarning, match="taken as probabilities"):
        assert audit(network, rows, threshold=0.4).counts.tolist() == expected
    said = audit(network, rows, threshold=0.4, outputs="probabilities")  # without a warning
    assert said.counts.tolist() == expected
    as_logits = audit(network, rows, outputs="logits")
    assert as_logits.counts[..., 0].sum() == 0  # every probability is a logit above 0


def test_a_result_brings_its_own_rule() -> None:
    rows, test = data(), data(seed=1)
    result = debias(First(), rows, Constrained("spd", epsilon=0.1), "threshold")
    found = audit(result, test)
    chance = 1 / (1 + np.exp(-test.x[:, 0].double().numpy()))
    expected = audit_predictions(
        test.y, chance > result.threshold, test.group, group_names=("f", "m"), scores=chance
    )
    assert as_plain(found) == as_plain(expected)
    assert found.threshold == result.threshold
    with pytest.raises(InputError, match="no threshold= with a result"):
        audit(result, test, threshold=0.5)


def test_a_result_that_decides_by_group() -> None:
    rows, test = data(), data(seed=1)
    result = debias(First(), rows, Constrained("spd", epsilon=0.1), "reject_option")
    assert result.needs_group
    found = audit(result, test)
    decided = result.predict(test.x, group=test.group)
    assert (
        found.counts.tolist()
        == metrics.count(test.y.numpy(), decided.numpy(), test.group.numpy(), 2).tolist()
    )
    assert found.threshold is None


def test_a_result_on_data_of_other_groups() -> None:
    result = debias(First(), data(), Constrained("spd"), "threshold")
    rows = data()
    turned = GroupedData(x=rows.x, y=rows.y, group=rows.group, group_names=("m", "f"))
    with pytest.raises(
        InputError, match=r"groups \['f', 'm'\] of the result, got \['m', 'f'\]: .*privileged='m'"
    ):
        audit(result, turned)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_that_is_no_probability(threshold: float) -> None:
    with pytest.raises(InputError, match=r"threshold in \[0, 1\]"):
        audit(First(), data(), threshold=threshold)


def test_what_cannot_be_audited() -> None:
    with pytest.raises(InputError, match=r"torch\.nn\.Module as the network, got str"):
        audit("net", data())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="data with rows"):
        audit(First(), data()[:0])
    rows = data()
    with pytest.raises(InputError, match="two groups with rows"):
        audit(First(), rows[rows.group == 1])
    numbers = GroupedData(x=rows.x, y=rows.x[:, 1], group=rows.group, group_names=("f", "m"))
    with pytest.raises(InputError, match="whole labels"):
        audit(First(), numbers)


def test_the_network_and_the_random_state_stay() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 1)).train()
    state = torch.random.get_rng_state()
    first, again = (audit(network, data(), outputs="logits") for _ in range(2))
    assert as_plain(first) == as_plain(again)
    assert all(m.training for m in network.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
