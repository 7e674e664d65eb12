"""Several constraints as one measure."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from retrofair import metrics
from retrofair.errors import InputError
from retrofair.metrics import Array, Several
from retrofair.objective import Constrained

PAIRS = [("spd", 0.1), ("eod", 0.05), ("disparate_impact", 0.2)]


def counts_of(n_groups: int, seed: int, rows: int = 60) -> Array:
    return np.random.default_rng(seed).integers(1, rows, size=(n_groups, 2, 2))


@pytest.mark.parametrize("n_groups", [2, 4])
def test_below_the_smallest_bound_where_all_are_below_their_own(n_groups: int) -> None:
    several = Constrained(PAIRS)
    alone = [Constrained(measure, epsilon=epsilon) for measure, epsilon in PAIRS]
    stack = np.stack([counts_of(n_groups, seed, rows=400) for seed in range(3000)])
    together = np.all([each.feasible(stack) for each in alone], axis=0)
    assert (several.feasible(stack) == together).all()
    assert 0 < together.sum() < len(stack)
    worst = np.max([each.bias_measure.bias(stack) / each.epsilon for each in alone], axis=0)
    assert several.bias_measure.bias(stack) == pytest.approx(worst * 0.05)
    # one at a time as all at once
    assert several.bias_measure.bias(stack[7]) == several.bias_measure.bias(stack)[7]


def test_without_rows_for_one_of_them_there_is_no_value() -> None:
    counts = counts_of(2, 0)
    counts[0, 1] = 0
    measure = Constrained([("spd", 0.1), ("eod", 0.1)]).bias_measure
    assert np.isnan(measure.bias(counts))
    with pytest.raises(InputError, match="eod compares groups"):
        metrics.require(measure, counts, ("a", "b"))


@pytest.mark.parametrize("names", [("spd", "eod"), ("disparate_impact", "aod")])
def test_the_interval_covers(names: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    chances = np.array([[[0.3, 0.15], [0.15, 0.4]], [[0.25, 0.25], [0.1, 0.4]]])
    rows = np.array([300, 500])
    measure = Several(tuple(map(metrics.get, names)), (0.1, 0.2))
    true = float(measure.bias(chances * rows[:, None, None] * 1000))
    inside = 0
    for _ in range(400):
        drawn = [
            rng.multinomial(n, c.ravel()).reshape(2, 2)
            for n, c in zip(rows, chances / chances.sum((1, 2), keepdims=True), strict=True)
        ]
        low, high = measure.interval(np.stack(drawn))
        inside += low <= true <= high
    assert inside / 400 >= 0.94


def test_what_an_objective_says_and_refuses() -> None:
    objective = Constrained([("spd", 0.1), ("eod", 0.05)])
    assert objective.epsilon == 0.05
    assert hash(objective) == hash(Constrained((("spd", 0.1), ("eod", 0.05))))
    assert objective.to_dict()["constraints"] == [["spd", 0.1], ["eod", 0.05]]
    assert "spd (below 0.1)" in objective.bias_measure.meaning
    with pytest.raises(InputError, match="every constraint once, got 'spd' 2 times"):
        Constrained([("spd", 0.1), ("statistical_parity_difference", 0.05)])
    with pytest.raises(InputError, match="two or more pairs"):
        Constrained([("spd", 0.1)])
    with pytest.raises(InputError, match="two or more pairs"):
        Constrained(["spd", "eod"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="epsilon in"):
        Constrained([("spd", 0.1), ("eod", 2)])
    # the default, and the smallest of the bounds, are refused as any other is
    for epsilon in (0.05, 0.1, 0.2, 7.0):
        with pytest.raises(
            InputError, match=f"no epsilon beside several constraints, got {epsilon}"
        ):
            Constrained([("spd", 0.05), ("eod", 0.1)], epsilon=epsilon)
    with pytest.raises(InputError, match="epsilon in"):
        Constrained("spd", epsilon="0.1")  # type: ignore[arg-type]


def test_the_bound_that_nobody_gave_is_a_plain_number_and_survives_a_copy() -> None:
    one, several = Constrained("spd"), Constrained([("spd", 0.1), ("eod", 0.2)])
    assert (type(one.epsilon), one.epsilon) == (float, 0.05)
    assert one == Constrained("spd", epsilon=0.05)
    assert (several.epsilon, repr(several.epsilon), json.dumps(several.epsilon)) == (
        0.1,
        "0.1",
        "0.1",
    )
    assert pickle.loads(pickle.dumps(several)) == several
    accurate = dataclasses.replace(several, performance="accuracy")
    assert (accurate.epsilon, accurate.measure) == (0.1, several.measure)
    tighter = dataclasses.replace(several, measure=[("spd", 0.01), ("eod", 0.2)])
    assert tighter.epsilon == 0.01
    assert type(dataclasses.replace(several, measure="spd").epsilon) is float
    with pytest.raises(InputError, match="no epsilon beside several"):
        dataclasses.replace(several, epsilon=0.1)


def test_of_several_classes_each_measure_has_its_own_worst_class() -> None:
    # class 2 has no rows in one group: eod says nothing of it, spd does
    counts = np.zeros((2, 3, 3), int)
    counts[0] = [[60, 0, 0], [0, 40, 0], [0, 0, 0]]
    counts[1] = [[30, 0, 0], [0, 30, 0], [0, 0, 40]]
    several = metrics.of_classes(Constrained([("spd", 0.15), ("eod", 0.15)]).bias_measure)
    assert float(several.bias(counts)) == pytest.approx(0.4)
    assert float(metrics.of_classes(metrics.get("spd")).bias(counts)) == pytest.approx(0.4)


def test_the_interval_holds_the_value_of_a_ratio_among_three() -> None:
    counts = np.array([[[900, 0], [0, 100]], [[100, 0], [0, 900]], [[900, 0], [0, 100]]])
    measure = Constrained([("disparate_impact", 0.2), ("eod", 0.3)]).bias_measure
    low, high = measure.interval(counts)
    assert low <= float(measure(counts)) <= high
