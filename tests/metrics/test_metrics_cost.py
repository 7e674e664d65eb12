"""Costs of decisions as a performance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import retrofair as rf
from retrofair import metrics
from retrofair.errors import InputError
from retrofair.metrics import CostMatrix
from retrofair.objective import Constrained

MISSED = CostMatrix(((0, 1), (5, 0)))


def test_by_hand() -> None:
    counts = np.array([[[4, 2], [1, 3]], [[2, 0], [1, 7]]])
    # 2 false positives at 1 and 2 false negatives at 5, of 20 rows
    assert float(MISSED.mean_cost(counts)) == pytest.approx((2 * 1 + 2 * 5) / 20)
    assert float(MISSED(counts)) == pytest.approx(1 - 12 / 20 / 5)
    gains = CostMatrix(((-1, 3), (0, -2)))
    assert float(gains.mean_cost(counts)) == pytest.approx((-6 + 6 + 0 - 20) / 20)


def test_accuracy_is_one_of_them() -> None:
    same = CostMatrix(((0, 1), (1, 0)))
    for seed in range(20):
        counts = np.random.default_rng(seed).integers(0, 40, size=(3, 2, 2))
        accuracy = metrics.get_performance("accuracy")
        assert float(same(counts)) == pytest.approx(float(accuracy(counts)))
        assert same.interval(counts) == pytest.approx(accuracy.interval(counts), abs=0.01)


def test_the_interval_covers() -> None:
    rng = np.random.default_rng(1)
    chances = np.array([0.5, 0.1, 0.02, 0.38])
    true = float(MISSED((chances * 1e6).reshape(1, 2, 2)))
    inside = 0
    for _ in range(1000):
        low, high = MISSED.interval(rng.multinomial(300, chances).reshape(1, 2, 2))
        inside += low <= true <= high
    assert 0.93 <= inside / 1000 <= 0.99


@pytest.mark.parametrize(
    "costs", [((0, 1),), ((0, 1), (1, float("nan"))), ((1, 1), (1, 1)), "costs", None]
)
def test_bad_tables(costs: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        CostMatrix(costs)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "recall"])
def test_what_rows_add(name: str) -> None:
    # performances that add up are sums over rows of what `gain` says
    performance = metrics.get_performance(name)
    counts = np.random.default_rng(2).integers(1, 40, size=(3, 2, 2))
    rows = counts.sum(axis=(0, 2))
    gain = performance.gain(rows)
    assert (counts * gain).sum() / counts.sum() == pytest.approx(float(performance(counts)))
    assert performance.additive
    assert not metrics.get_performance("precision").additive


def test_audited_beside_the_others() -> None:
    rng = np.random.default_rng(0)
    y, decided, group = rng.integers(2, size=(3, 200))
    both = Constrained([("spd", 0.1), ("eod", 0.2)]).bias_measure
    found = rf.audit_predictions(y, decided, group, measures=[MISSED, both])
    counts = metrics.count(y, decided, group, 2)
    assert found[MISSED.name].value == pytest.approx(float(MISSED(counts)))
    assert found[MISSED.name].kind == "performance"
    assert found["spd and eod"].value == pytest.approx(
        max(abs(found["spd"].value), abs(found["eod"].value) / 2)
    )
    with pytest.raises(InputError, match="a measure of bias, got the performance"):
        Constrained(MISSED)
