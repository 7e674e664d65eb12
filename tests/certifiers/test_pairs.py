"""How far a linear function goes over similar pairs, against linear programs and counting."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from certifier_cases import INF, discrete, lp, network, people, quadratic
from scipy.optimize import linprog
from torch import nn

from retrofair.certifiers import (
    Continuous,
    Domain,
    Embedding,
    Integer,
    Mahalanobis,
    OneHot,
    WeightedLp,
)
from retrofair.certifiers.pairs import Pairs

DOMAIN = discrete(mean=True)
W = np.array([0.6, 0.5, 0.4, 0.4, 0.7, 9.0])
A = np.random.default_rng(1).normal(size=(3, 6))
NET = network(6, 3, outputs=2, activation=nn.Tanh())
KINDS: dict[str, Any] = {
    "l1": WeightedLp(1, W),
    "l2": WeightedLp(2, W),
    "linf": WeightedLp(INF, W),
    "flat": Mahalanobis(A.T @ A),
    "full": Mahalanobis(A.T @ A + np.eye(6)),
    "linear": Embedding(network(6, outputs=2), WeightedLp(1)),
    "rows": Embedding(network(6, outputs=3), WeightedLp(INF)),
    "network": Embedding(NET, WeightedLp(2)),
}


def everybody(domain: Domain, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs of all people, and the indices of all similar pairs."""
    x = domain.to_inputs(people(domain))
    one, two = (v.ravel() for v in np.indices((len(x), len(x))))
    good = pairs.similar(x[one], x[two])
    return x, one[good], two[good]


@pytest.mark.parametrize("epsilon", [0.0, 0.35, 0.8, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_for_all_pairs(kind: str, epsilon: float) -> None:
    pairs = Pairs.of(DOMAIN, KINDS[kind], epsilon)
    x, one, two = everybody(DOMAIN, pairs)
    apart = np.abs(x[two] - x[one])
    assert (apart <= pairs.cap * (1 + 1e-12)).all()
    for (_, where), table in zip(DOMAIN.groups, pairs.exchange, strict=True):
        left, came = x[one][:, where].argmax(1), x[two][:, where].argmax(1)
        assert table[left, came].all()
        assert (table == table.T).all()
    a = np.random.default_rng(0).normal(size=(40, 6))
    b = np.random.default_rng(1).normal(size=(40, 6))
    a[3:6, :2] = 0
    tolerance = 1e-9
    assert (pairs.value(a) >= (x @ a.T).max(0) - tolerance).all()
    assert (pairs.difference(a) >= ((x[two] - x[one]) @ a.T).max(0) - tolerance).all()
    joint = (x[two] @ a.T - x[one] @ b.T).max(0)
    assert (pairs.joint(a, b) >= joint - tolerance).all()
    # one person alone is exact
    assert pairs.value(a) == pytest.approx((x @ a.T).max(0))


BOX = Domain([Continuous("a", -1, 2), Continuous("b", 0, 0.3), Continuous("c", 5, 9)])


@pytest.mark.parametrize("epsilon", [0.0, 0.2, 1.0, 50.0])
@pytest.mark.parametrize("p", [1, INF])
def test_numbers_against_exact_linear_programs(p: float, epsilon: float) -> None:
    # variables x' (3), x'' (3), |x'' - x'| (3)
    w = np.array([0.5, 2.0, 0.0])
    eye, none = np.eye(3), np.zeros((3, 3))
    upper = [np.hstack([-eye, eye, -eye]), np.hstack([eye, -eye, -eye])]
    right = [np.zeros(6)]
    if p == 1:
        upper.append(np.hstack([np.zeros((1, 6)), w[None]]))
        right.append(np.array([epsilon]))
    else:
        upper.append(np.hstack([none, none, np.diag(w)]))
        right.append(np.full(3, epsilon))
    box = list(zip(BOX.low, BOX.high, strict=True))
    pairs = Pairs.of(BOX, WeightedLp(p, w), epsilon)
    for a, b in itertools.pairwise(np.random.default_rng(2).normal(size=(8, 3))):

        def best(cost: np.ndarray) -> float:
            found = linprog(
                -np.r_[cost, np.zeros(3)],
                A_ub=np.vstack(upper),
                b_ub=np.concatenate(right),
                bounds=[*box, *box, *[(0, None)] * 3],
            )
            assert found.status == 0
            return -found.fun

        apart = best(np.r_[-a, a])
        found = float(pairs.difference(a[None])[0])
        assert found >= apart - 1e-7
        assert found == pytest.approx(apart, abs=1e-6)
        together = best(np.r_[-b, a])
        found = float(pairs.joint(a[None], b[None])[0])
        assert found >= together - 1e-7
        if p == INF:  # each coordinate on its own: exact
            assert found == pytest.approx(together, abs=1e-6)


def test_whole_numbers_step() -> None:
    domain = Domain([Integer("a", 0, 10), Integer("b", 0, 10)], [4, 0], [2.0, 1.0])
    pairs = Pairs.of(domain, WeightedLp(INF, [1.0, 0.4]), 1.3)
    assert pairs.cap == pytest.approx([1.0, 3.0])  # 2 of 2.6 steps, 3 of 3.25
    exact = Pairs.of(domain, WeightedLp(INF, [1.0, 1.0]), 1.5)
    assert exact.cap == pytest.approx([1.5, 1.0])  # a step at the edge counts
    assert Pairs.of(domain, WeightedLp(1), 0.49).shared.tolist() == [True, True]
    assert Pairs.of(domain, WeightedLp(1, 0.0), 0.0).cap == pytest.approx([5.0, 10.0])


@pytest.mark.parametrize(("p", "cost"), [(1, 0.8), (2, np.sqrt(0.8)), (INF, 0.4)])
def test_an_exchange_of_categories_costs_what_the_formula_says(p: float, cost: float) -> None:
    domain = Domain([OneHot("c", 3), OneHot("race", 2, sensitive=True), OneHot("one", 1)])
    for epsilon, allowed in ((cost * 0.999, False), (cost * 1.0001, True)):
        pairs = Pairs.of(domain, WeightedLp(p, {"c": 0.4}), epsilon)
        assert pairs.exchange[0].all() == allowed
        assert pairs.exchange[0].diagonal().all()
        assert pairs.exchange[1].all()
        assert pairs.cap.tolist() == [float(allowed)] * 3 + [1.0, 1.0, 0.0]


def test_an_exchange_that_another_column_makes_good() -> None:
    # the distance sees only c=0 minus c=1 plus 2 * a: with a moving along, the exchange is free
    m = np.array([[2.0, 1.0, -1.0, 0.0]])
    domain = Domain([Continuous("a", -5, 5), OneHot("c", 3)])
    pairs = Pairs.of(domain, Mahalanobis(m.T @ m), 0.0)
    assert pairs.exchange[0].all()
    assert pairs.difference(np.array([[0.0, -1.0, 1.0, 0.0]]))[0] >= 2


def test_epsilon_zero_leaves_only_what_is_free() -> None:
    for kind, distance in KINDS.items():
        pairs = Pairs.of(DOMAIN, distance, 0.0)
        if kind in ("l1", "l2", "linf", "full"):
            assert pairs.cap[:5] == pytest.approx(0, abs=0)
        assert pairs.cap[5] == pytest.approx(1.0)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_ellipsoid_with_free_directions(rank: int) -> None:
    rng = np.random.default_rng(rank)
    m = rng.normal(size=(rank, 3)) / np.array([3.0, 0.3, 4.0])
    pairs = Pairs.of(BOX, Mahalanobis(m.T @ m), 0.25)
    one = rng.uniform(BOX.low, BOX.high, (200_000, 3))
    two = rng.uniform(BOX.low, BOX.high, (200_000, 3))
    two[::2] = np.clip(one[::2] + (two[::2] - one[::2]) * 0.1, BOX.low, BOX.high)
    good = quadratic(m.T @ m, BOX)(one, two) <= 0.25
    assert good.sum() > 1000
    a = rng.normal(size=(30, 3))
    apart = (two[good] - one[good]) @ a.T
    assert (pairs.difference(a) >= apart.max(0)).all()
    assert (np.abs(two[good] - one[good]) <= pairs.cap).all()


def test_legal_pairs_are_in_the_domain_and_similar() -> None:
    raw = people(DOMAIN)
    pairs = Pairs.of(DOMAIN, KINDS["l2"], 0.8)
    one, two = raw, np.roll(raw, 5, axis=0)
    inputs = DOMAIN.to_inputs(one), DOMAIN.to_inputs(two)
    far = lp(2, W, DOMAIN)(*inputs)
    assert (pairs.legal(one, two) == (far <= 0.8)).all()
    assert not pairs.legal(one + 0.5, one + 0.5).any()
