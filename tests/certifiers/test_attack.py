"""The search for pairs: legal in raw units, as good as counting where that can be done."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from certifier_cases import INF, answers, discrete, lp, mixed, network, quadratic, similar, worst
from scipy.optimize import minimize
from torch import nn

import retrofair as rf
from retrofair.certifiers import Continuous, Domain, Integer, Mahalanobis, OneHot, WeightedLp
from retrofair.certifiers.attack import Climber
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.certifiers.run import attack

PEOPLE = discrete(mean=True)
A = np.random.default_rng(3).normal(size=(4, 6)) * 0.7
S = A.T @ A
W = [0.6, 0.5, 0.4, 0.4, 0.7, 9.0]
CASES: dict[str, tuple[Any, Any, float]] = {
    "l1": (WeightedLp(1, W), lp(1, W, PEOPLE), 0.9),
    "l2": (WeightedLp(2, W), lp(2, W, PEOPLE), 0.9),
    "linf": (WeightedLp(INF, W), lp(INF, W, PEOPLE), 0.4),
    "mahalanobis": (Mahalanobis(S), quadratic(S, PEOPLE), 1.1),
}


def check(found: Any, module: nn.Module, domain: Domain, apart: Any, epsilon: float) -> None:
    """Legal in the user's units and the network's precision, similar, as far apart as it says."""
    dtype = next(module.parameters()).dtype
    assert found.raw.dtype == dtype
    raw = found.raw.double().numpy()
    assert domain.contains(raw).all()
    x = domain.to_inputs(raw)
    assert apart(x[:1], x[1:])[0] <= epsilon * (1 + 1e-9)
    assert found.distance == pytest.approx(apart(x[:1], x[1:])[0], abs=1e-9)
    with torch.no_grad():
        out = module(torch.from_numpy(x).to(dtype)).double().reshape(2, -1)
    assert found.outputs.numpy() == pytest.approx(out.numpy())
    assert found.delta <= float((out[1] - out[0]).abs().max()) + 1e-12


@pytest.mark.parametrize("name", CASES)
def test_reaches_the_optimum_of_a_small_world(name: str) -> None:
    distance, apart, epsilon = CASES[name]
    x, near = similar(PEOPLE, apart, epsilon)
    for seed, activation in enumerate((nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.2))):
        module = network(6, 5, 3, seed=seed, activation=activation)
        optimum = worst(answers(module, x), near)
        found = attack(module, PEOPLE, distance, epsilon, outputs="values", seconds=1)
        assert found is not None
        check(found, module, PEOPLE, apart, epsilon)
        assert found.delta <= optimum * (1 + 1e-6)
        assert found.delta >= optimum * (1 - 1e-5)


@pytest.mark.parametrize("p", [1, 2, INF])
def test_beats_a_grid_of_numbers(p: float) -> None:
    domain = mixed()
    apart = lp(p, 1.0, domain)
    x, near = similar(domain, apart, 0.6, points=5)
    for seed in range(2):
        module = network(domain.d, 6, seed=seed)
        grid = worst(answers(module, x), near)
        found = attack(module, domain, WeightedLp(p), 0.6, outputs="values", seconds=1)
        assert found is not None
        check(found, module, domain, apart, 0.6)
        assert found.delta >= grid * (1 - 1e-6)


def test_the_corner_of_a_ball_in_a_box_is_the_best_point() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        d = int(rng.integers(1, 6))
        weights = {f"c{i}": float(rng.choice([0.0, 0.3, 1.0, 2.0])) for i in range(d)}
        domain = Domain([Continuous(name, 0, float(rng.uniform(0.05, 1))) for name in weights])
        pairs = Pairs.of(domain, WeightedLp(2, weights), float(rng.choice([0.0, 0.05, 0.3, 1.0])))
        question = Question.of(nn.Sequential(nn.Linear(d, 1)), d, "values", None)
        slope = rng.normal(size=(2, d)) * (rng.random((2, d)) > 0.2)
        found = Climber(question, pairs, rng).corner(slope, np.zeros_like(slope))
        size, cap = pairs.norm.coordinates(np.eye(d)).diagonal(), pairs.cap
        assert (np.linalg.norm(size * found, axis=1) <= pairs.epsilon).all()
        for row, got in zip(slope, found, strict=True):
            best = minimize(
                lambda x, row=row: -row @ x,
                np.zeros(d),
                jac=lambda x, row=row: -row,
                bounds=[(-c, c) for c in cap],
                constraints={
                    "type": "ineq",
                    "fun": lambda x, pairs=pairs, size=size: (
                        pairs.epsilon**2 - ((size * x) ** 2).sum()
                    ),
                },
            )
            assert row @ got == pytest.approx(-best.fun, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_legal_in_awkward_units(dtype: torch.dtype) -> None:
    domain = Domain(
        [
            Continuous("pay", 0.1, 19_999.9),
            Continuous("rate", 0.1, 0.3),
            Continuous("fixed", 0.1, 0.1),
            Integer("year", 1901, 2100),
            OneHot("c", 3, sensitive=True),
        ],
        [7000.3, 0.2, 0, 2000.0, 0, 0, 0],
        [3333.3, 0.07, 1, 17.7, 1, 1, 1],
    )
    module = network(7, 6, seed=2).to(dtype)
    for p, epsilon in ((1, 1e-4), (2, 0.0), (INF, 0.31), (INF, 1 / 17.7)):
        found = attack(module, domain, WeightedLp(p), epsilon, outputs="values", seconds=1)
        assert found is not None
        check(found, module, domain, lp(p, 1.0, domain), epsilon)
        assert found.delta > 0


def test_seeds() -> None:
    module = network(9, 8, 8, seed=3)
    given = {"outputs": "values", "seconds": 60}
    one, again, other = (
        attack(module, mixed(), WeightedLp(2), 0.3, seed=seed, **given) for seed in (0, 0, 1)
    )
    assert one is not None
    assert again is not None
    assert other is not None
    assert torch.equal(one.raw, again.raw)
    assert one.delta == again.delta
    assert other.delta == pytest.approx(one.delta, rel=0.2)


def test_rows_of_data_help(splits: rf.Splits, trained: nn.Module) -> None:
    domain = Domain.from_data(splits.train)
    bare = attack(trained, domain, WeightedLp(INF), 0.1, seconds=2)
    found = attack(trained, domain, WeightedLp(INF), 0.1, seconds=2, data=splits.train)
    assert bare is not None
    assert found is not None
    assert 0 < found.delta <= 1
    assert math.isfinite(found.logit)
    check_domain = domain.contains(found.raw.double().numpy())
    assert check_domain.all()
