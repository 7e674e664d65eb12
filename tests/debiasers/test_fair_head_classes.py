"""The fair head of three classes and more: values by hand, programs against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from retrofair import metrics
from retrofair.debiasers import cells
from retrofair.debiasers.class_programs import ClassPrograms
from retrofair.debiasers.fair_head_classes import (
    ClassGaps,
    gaps_of_classes,
    prices_of_classes,
    worth_of_classes,
)
from retrofair.metrics import count_classes, of_classes, one_vs_rest

EXACT = ["spd", "eod", "aod", "demographic_parity_difference", "equalized_odds_difference"]


def rows(seed: int, n: int = 400, groups: int = 2, classes: int = 3):
    random = np.random.default_rng(seed)
    group, y = random.integers(groups, size=n), random.integers(classes, size=n)
    return y, random.integers(classes, size=n), group


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("name", EXACT)
def test_gaps_add_up_to_the_measure(name: str, groups: int) -> None:
    """With each row's own cell for its chances, the gaps of decisions are those of the counts."""
    y, decided, group = rows(0, groups=groups)
    shares = np.bincount(3 * group + y, minlength=3 * groups) / len(y)
    known = gaps_of_classes(of_classes(metrics.get(name)), shares.reshape(groups, 3))
    added = known.rows.T[3 * group + y] * (decided[:, None] == known.of)
    moved = added.mean(0)
    bias = of_classes(metrics.get(name)).bias(count_classes(y, decided, group, groups, 3))
    if (known.free < 0).all():
        assert abs(moved).max() == pytest.approx(float(bias))
    else:  # rates by group, measured from a middle
        spans = [np.ptp(moved[known.free == block]) for block in np.unique(known.free)]
        assert max(spans) == pytest.approx(float(bias))


def test_two_classes_are_the_binary_gaps() -> None:
    """The gaps of class 1 are those of a decision for 1; those of class 0 their mirror image."""
    y, _, group = rows(1, classes=2)
    shares = np.bincount(2 * group + y, minlength=4) / len(y)
    known = gaps_of_classes(metrics.get("aod"), shares.reshape(2, 2))
    binary = cells.of_gaps(metrics.get("aod"), shares)
    assert known.rows[known.of == 1] == pytest.approx(binary.rows)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy"])
def test_worth_adds_up_to_the_performance(name: str) -> None:
    y, decided, group = rows(2)
    performance = metrics.get_performance(name)
    worth = worth_of_classes(performance, np.bincount(y) / len(y))
    counts = count_classes(y, decided, group, 2, 3)
    found = metrics.performance_of_classes(performance)(counts)
    assert (worth[y] * (y == decided)).mean() == pytest.approx(float(found))


def tiny(seed: int, n: int = 7) -> tuple[np.ndarray, np.ndarray, ClassGaps]:
    random = np.random.default_rng(seed)
    of = np.array([0, 1, 2])
    known = ClassGaps(np.zeros((3, 6)), of, np.full(3, -1), np.ones(3))
    return random.random((n, 3)), random.normal(size=(n, 3)), known


@pytest.mark.parametrize("seed", range(5))
def test_the_program_is_at_least_every_deterministic_rule(seed: int) -> None:
    worth, gaps, known = tiny(seed)
    bound = 0.3
    prices, value = prices_of_classes(worth, gaps, known, bound, np.zeros(3))
    best = -np.inf
    for rule in itertools.product(range(3), repeat=7):
        chosen = np.eye(3)[list(rule)]
        if (abs((gaps * chosen).mean(0)) <= bound).all():
            best = max(best, (worth * chosen).sum(1).mean())
    assert best - 1e-9 <= value <= best + 0.2
    # strong duality: what rows are worth at these prices, and the price of the bound
    dual = (worth - gaps * prices).max(1).mean() + bound * abs(prices).sum()
    assert value == pytest.approx(dual)


def test_the_program_with_a_free_middle() -> None:
    """Two gaps of one class from a middle: no further apart than twice the bound."""
    worth, gaps, _ = tiny(0, n=9)
    known = ClassGaps(np.zeros((2, 6)), np.array([0, 0]), np.array([0, 0]), np.full(2, 0.5))
    gaps, bound = gaps[:, :2], 0.02
    prices, value = prices_of_classes(worth, gaps, known, bound, np.zeros(2))
    difference = np.zeros((9, 3))
    difference[:, 0] = (gaps[:, 0] - gaps[:, 1]) / 9
    plain = linprog(
        -worth.ravel() / 9,
        A_ub=np.stack([difference.ravel(), -difference.ravel()]),
        b_ub=[2 * bound] * 2,
        A_eq=np.kron(np.eye(9), np.ones(3)),
        b_eq=np.ones(9),
        bounds=(0, 1),
    )
    assert value == pytest.approx(-plain.fun)
    assert prices.sum() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_programs_one_after_another_are_those_from_the_beginning(seed: int) -> None:
    worth, gaps, known = tiny(seed, n=60)
    free = np.array([-1, 0, 0])
    known = ClassGaps(known.rows, np.array([0, 1, 1]), free, known.width)
    programs = ClassPrograms(worth, gaps, known.of, free)
    for bound in (0.02, 0.05, 0.2, 1.0):
        limits, centre = np.full(3, bound), np.array([0.01, 0.0, -0.01])
        found = programs.prices(limits, centre)
        assert found is not None
        prices, value = prices_of_classes(worth, gaps, known, limits, centre)
        assert found[1] == pytest.approx(value)
        assert found[0] == pytest.approx(prices, abs=1e-6)
    _, none = programs.prices(np.full(3, 1e-9), np.full(3, 9.0)) or ((), 0.0)
    assert np.isnan(none)


def test_a_bound_out_of_reach_has_no_value() -> None:
    worth, gaps, known = tiny(0)
    _, value = prices_of_classes(worth, abs(gaps) + 1, known, 1e-3, np.zeros(3))
    assert np.isnan(value)


def test_counts_of_one_class_agree_with_its_gaps() -> None:
    y, decided, group = rows(3)
    seen = one_vs_rest(count_classes(y, decided, group, 2, 3))
    shares = np.bincount(3 * group + y, minlength=6) / len(y)
    known = gaps_of_classes(of_classes(metrics.get("spd")), shares.reshape(2, 3))
    for k in range(3):
        moved = (known.rows[k][3 * group + y] * (decided == k)).mean()
        assert moved == pytest.approx(float(metrics.get("spd")(seen[k])))
