"""Both objectives against their formulas, and the rank's promise: never nan, one with the score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrofair import metrics
from retrofair.errors import InputError
from retrofair.metrics import performance
from retrofair.objective import Constrained, Weighted

# [group][label][prediction]: spd 30/100 - 58/100, accuracy 148/200, balanced (58/80 + 90/120) / 2
TWO = np.array([[[60, 20], [10, 10]], [[30, 10], [12, 48]]])
NOBODY = np.array([[[80, 0], [20, 0]], [[40, 0], [60, 0]]])
NO_GROUP = np.array([[[80, 5], [20, 5]], [[0, 0], [0, 0]]])

cells = st.one_of(st.just(0), st.integers(0, 12))
stacks = st.tuples(st.integers(2, 4), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(
        cells, min_size=4 * shape[0] * shape[1], max_size=4 * shape[0] * shape[1]
    ).map(lambda values: np.array(values).reshape(shape[1], shape[0], 2, 2))
)
measures = st.sampled_from([m.name for m in metrics.ALL])
performances = st.sampled_from([p.name for p in performance.ALL])


def test_constrained_by_hand() -> None:
    balanced = (58 / 80 + 90 / 120) / 2
    loose, tight = Constrained("spd", epsilon=0.3), Constrained("spd", epsilon=0.2)
    assert float(loose.score(TWO)) == pytest.approx(balanced)
    assert float(loose.rank(TWO)) == pytest.approx(balanced)
    assert bool(loose.feasible(TWO))
    assert float(tight.score(TWO)) == 0
    assert float(tight.rank(TWO)) == pytest.approx(-0.28)
    assert not bool(tight.feasible(TWO))


def test_the_bound_is_strict() -> None:
    quarter = np.array([[[3, 1], [0, 0]], [[4, 0], [0, 0]]])  # a bias of exactly 0.25
    assert not bool(Constrained("spd", epsilon=0.25).feasible(quarter))
    assert float(Constrained("spd", epsilon=0.25).rank(quarter)) == -0.25
    assert bool(Constrained("spd", epsilon=0.2500001).feasible(quarter))


def test_weighted_by_hand() -> None:
    objective = Weighted("spd", lam=0.75)
    assert float(objective.score(TWO)) == pytest.approx(0.75 * 0.28 + 0.25 * (1 - 148 / 200))
    # refusing everybody: a quarter of the share of positives
    assert float(objective.score(NOBODY)) == pytest.approx(0.25 * 80 / 200)
    assert float(Weighted("spd", lam=0).score(TWO)) == pytest.approx(1 - 148 / 200)
    assert float(Weighted("spd", lam=1).score(TWO)) == pytest.approx(0.28)
    assert float(objective.rank(TWO)) == -float(objective.score(TWO))
    assert bool(objective.feasible(TWO))


def test_the_defaults_are_the_papers() -> None:
    assert Constrained("spd").to_dict() == {
        "objective": "constrained",
        "measure": "spd",
        "epsilon": 0.05,
        "performance": "balanced_accuracy",
    }
    assert Weighted("statistical_parity_difference").to_dict() == {
        "objective": "weighted",
        "measure": "spd",
        "lam": 0.75,
        "performance": "accuracy",
    }
    assert Constrained.maximise
    assert not Weighted.maximise


def test_a_performance_without_a_value_counts_as_nothing() -> None:
    assert float(Constrained("spd", performance="precision").score(NOBODY)) == 0
    assert float(Weighted("spd", lam=0.5, performance="precision").score(NOBODY)) == 0.5


def test_a_bias_without_a_value_is_last() -> None:
    for objective in (Constrained("spd"), Weighted("spd")):
        assert float(objective.rank(NO_GROUP)) == -math.inf
        assert not bool(objective.feasible(NO_GROUP))
    assert float(Constrained("spd").score(NO_GROUP)) == 0


@pytest.mark.parametrize("epsilon", [0, -0.1, 1.01, math.nan, math.inf])
def test_epsilon_out_of_range(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"epsilon in \(0, 1\]"):
        Constrained("spd", epsilon=epsilon)


@pytest.mark.parametrize("lam", [-0.01, 1.01, math.nan])
def test_lam_out_of_range(lam: float) -> None:
    with pytest.raises(InputError, match=r"lam in \[0, 1\]"):
        Weighted("spd", lam=lam)


@pytest.mark.parametrize("objective", [Constrained, Weighted])
def test_unknown_names(objective: Any) -> None:
    with pytest.raises(InputError, match="unknown measure 'sdp': did you mean 'spd'"):
        objective("sdp")
    with pytest.raises(InputError, match="did you mean 'balanced_accuracy'"):
        objective("spd", performance="balanced_acuracy")
    with pytest.raises(InputError, match="measure's name or a callable, got int"):
        objective(3)


@pytest.mark.parametrize("objective", [Constrained, Weighted])
def test_a_callable_measure(objective: Any) -> None:
    def share(y: Any, prediction: Any, group: Any) -> float:
        return float(prediction[group == 0].mean() - prediction[group == 1].mean())

    named, called = objective("spd"), objective(share)
    assert called.to_dict()["measure"] == "share"
    stack = np.stack([TWO, NOBODY])
    assert called.score(stack) == pytest.approx(named.score(stack))
    assert called.rank(stack) == pytest.approx(named.rank(stack))


@given(stacks, measures, performances, st.floats(0.01, 1))
def test_constrained_rank_and_score_agree(
    counts: Any, measure: str, good: str, epsilon: float
) -> None:
    objective = Constrained(measure, epsilon=epsilon, performance=good)
    score, rank, feasible = (
        objective.score(counts),
        objective.rank(counts),
        objective.feasible(counts),
    )
    assert score.shape == rank.shape == feasible.shape == counts.shape[:1]
    assert not np.isnan(rank).any()
    assert not np.isnan(score).any()
    bias = objective.bias_measure.bias(counts)
    for i in range(len(counts)):
        assert feasible[i] == (bias[i] < epsilon)
        assert rank[i] == score[i] if feasible[i] else rank[i] < 0 == score[i]
        for j in range(len(counts)):
            if feasible[i] and not feasible[j]:
                assert rank[i] > rank[j]
            if not feasible[i] and not feasible[j] and bias[i] < bias[j]:
                assert rank[i] > rank[j]


@given(stacks, measures, performances, st.floats(0, 1))
def test_weighted_rank_and_score_agree(counts: Any, measure: str, good: str, lam: float) -> None:
    objective = Weighted(measure, lam=lam, performance=good)
    score, rank, feasible = (
        objective.score(counts),
        objective.rank(counts),
        objective.feasible(counts),
    )
    assert not np.isnan(rank).any()
    assert (np.isnan(score) == ~feasible).all()
    assert (rank[feasible] == -score[feasible]).all()
    assert (rank[~feasible] == -np.inf).all()


@given(stacks, measures)
def test_a_stack_is_scored_as_its_parts(counts: Any, measure: str) -> None:
    for objective in (Constrained(measure), Weighted(measure)):
        one_by_one = [float(objective.rank(single)) for single in counts]
        assert objective.rank(counts).tolist() == one_by_one
