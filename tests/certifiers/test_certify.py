"""Certificates against counting through all pairs: contained, reached, and never contradicted."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from certifier_cases import (
    INF,
    answers,
    discrete,
    embedded,
    lp,
    mixed,
    network,
    people,
    quadratic,
    similar,
    worst,
)
from torch import Tensor, nn

import retrofair as rf
from retrofair.certifiers import (
    Continuous,
    Domain,
    Embedding,
    Integer,
    Mahalanobis,
    Milp,
    OneHot,
    WeightedLp,
    bab,
    bounds,
    search,
)
from retrofair.errors import InputError

PEOPLE = discrete(mean=True)
D = PEOPLE.d
WEIGHTS = [0.6, 0.5, 0.4, 0.4, 0.7, 9.0]
A = np.random.default_rng(0).normal(size=(4, D)) * 0.7
S = A.T @ A
LINEAR = network(D, outputs=3, seed=11)
CURVED = network(D, 3, outputs=2, seed=12, activation=nn.Tanh(), size=1.0)
CASES: dict[str, tuple[Any, Any, float]] = {
    "l1": (WeightedLp(1, WEIGHTS), lp(1, WEIGHTS, PEOPLE), 0.9),
    "l2": (WeightedLp(2, WEIGHTS), lp(2, WEIGHTS, PEOPLE), 0.9),
    "linf": (WeightedLp(INF, WEIGHTS), lp(INF, WEIGHTS, PEOPLE), 0.4),
    "mahalanobis": (Mahalanobis(S), quadratic(S, PEOPLE), 1.1),
    "linear": (Embedding(LINEAR, WeightedLp(1)), embedded(LINEAR, 1, PEOPLE), 2.0),
    "network": (Embedding(CURVED, WeightedLp(INF)), embedded(CURVED, INF, PEOPLE), 0.2),
}
ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.2),
    "rising": nn.LeakyReLU(-0.3),
    "steep": nn.LeakyReLU(1.7),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
}


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pair is ever found, so that no witness holds up an upper bound that is too low."""
    monkeypatch.setattr(bounds, "hunt", lambda *_, **__: None)
    for module in (bab, search):
        monkeypatch.setattr(module, "legalised", lambda *_: None)


def certify(module: nn.Module, name: str = "l1", **options: Any) -> Any:
    distance, _, epsilon = CASES[name]
    given = {"outputs": "values", "seconds": 10, "gap": 1e-5, "epsilon": epsilon, **options}
    return rf.certify(module, PEOPLE, distance, **given)


def truth(module: nn.Module, name: str = "l1") -> float:
    _, apart, epsilon = CASES[name]
    x, near = similar(PEOPLE, apart, epsilon)
    return worst(answers(module, x), near)


def near_enough(found: Any, optimum: float, slack: float = 1e-4) -> None:
    """The interval is around the optimum and no wider than the slack."""
    assert found.lower <= optimum + 1e-6 * (1 + optimum)
    assert found.upper >= optimum - 1e-9 * (1 + optimum)
    assert found.lower >= optimum - slack
    assert found.upper <= optimum + slack


def legal(found: Any, module: nn.Module, domain: Domain, apart: Any) -> None:
    """The witness is in the domain, similar, and shows the lower bound."""
    witness = found.witness
    assert witness.shape == (2, domain.d)
    raw = witness.double().numpy()
    assert domain.contains(raw).all()
    x = domain.to_inputs(raw)
    assert apart(x[:1], x[1:])[0] <= found.epsilon * (1 + 1e-9)
    assert found.distance == pytest.approx(apart(x[:1], x[1:])[0], abs=1e-9)
    with torch.no_grad():
        out = module(torch.from_numpy(x).to(next(module.parameters()).dtype)).double()
    shown = out.reshape(2, -1)
    assert float((shown[1] - shown[0]).abs().max()) >= found.lower - 1e-9
    for k, score in enumerate(found.scores):
        assert score.numpy() == pytest.approx(shown[k].numpy())


# --- against all pairs --------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("activation", ["rising", "steep"])
def test_milp_reaches_the_optimum(name: str, activation: str) -> None:
    module = network(D, 4, 2, seed=1, activation=ACTIVATIONS[activation])
    optimum = truth(module, name)
    assert optimum > 0.05
    found = certify(module, name)
    if name == "network":  # the embedding's curves lie between straight pieces
        assert found.lower <= optimum * (1 + 1e-6)
        assert found.upper >= optimum * (1 - 1e-9)
    else:
        near_enough(found, optimum)
    assert found.lower >= optimum - 1e-4
    legal(found, module, PEOPLE, CASES[name][1])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_smooth_units_are_contained(name: str, activation: str) -> None:
    module = network(D, 3, seed=2, activation=ACTIVATIONS[activation])
    optimum = truth(module, name)
    found = certify(module, name, seconds=1.5)
    assert found.lower == pytest.approx(optimum, rel=1e-5)
    assert optimum * (1 - 1e-9) <= found.upper <= optimum * 1.2 + 0.02


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize(
    "method",
    [Milp(), Milp(tighten=False), Milp(encoding="two_copies")],
    ids=["milp", "loose", "two"],
)
@pytest.mark.parametrize("name", CASES)
def test_upper_bounds_stand_without_any_pair(name: str, method: Milp) -> None:
    module = network(D, 4, 2, seed=3, activation=nn.LeakyReLU(0.2))
    optimum = truth(module, name)
    found = certify(module, name, method=method, seconds=5)
    assert found.witness is None
    assert found.lower == 0
    assert found.upper >= optimum * (1 - 1e-9)
    if name != "network":
        assert found.upper <= optimum + 1e-4


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("method", ["bounds", "milp", "bab"])
@pytest.mark.parametrize("seed", range(4))
def test_upper_bounds_over_a_grid_of_numbers(seed: int, method: str) -> None:
    domain = mixed()
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(6, domain.d))
    module = network(domain.d, 4, 3, seed=seed, activation=list(ACTIVATIONS.values())[seed])
    for distance, apart in (
        (WeightedLp(2), lp(2, 1.0, domain)),
        (Mahalanobis(a.T @ a), quadratic(a.T @ a, domain)),
    ):
        x, near = similar(domain, apart, 0.8, points=3)
        optimum = worst(answers(module, x), near)
        found = rf.certify(
            module, domain, distance, 0.8, method=method, outputs="values", seconds=1
        )
        assert found.upper >= optimum * (1 - 1e-9)


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("p", [1, 2, INF])
def test_programs_without_whole_variables(p: float) -> None:
    # linear network: the largest a'd by a linear program over the box and (for p = 2) the ball
    module = network(2, seed=0)
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 1.0]]))
    domain = Domain([Continuous("a", 0, 1), Continuous("b", 0, 0.3)])
    optimum = {1: 0.5, 2: 0.7, INF: 0.8}[p]
    found = rf.certify(module, domain, WeightedLp(p), 0.5, outputs="values", seconds=5)
    assert optimum * (1 - 1e-9) <= found.upper <= optimum + 1e-4


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("outputs", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("size", [2e4, 1e7, 1e10])
def test_units_do_not_matter(size: float, outputs: float) -> None:
    # the same problem in other units has the same optimum
    def asked(unit: float, out: float) -> tuple[float, float]:
        domain = Domain([Continuous("income", 0, unit), Continuous("b", 0, 1), Integer("c", 0, 3)])
        module = network(3, 4, 3, seed=4).double()
        with torch.no_grad():
            module[0].weight[:, 0] /= unit
            module[-2].weight.mul_(out)
            module[-2].bias.mul_(out)
        w = [1 / unit, 1, 0.2]
        found = rf.certify(
            module, domain, WeightedLp(1, w), 0.3, outputs="values", seconds=4, gap=1e-4
        )
        x, near = similar(domain, lp(1, w, domain), 0.3, points=11)
        return found.upper / out, worst(answers(module, x), near) / out

    upper, grid = asked(size, outputs)
    assert upper >= grid * (1 - 1e-9)
    plain, _ = asked(1.0, 1.0)
    assert upper == pytest.approx(plain, rel=1e-3)


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("out", [1e-4, 1.0])
@pytest.mark.parametrize("high", [10_000, 10_000_000])
def test_wide_integers(high: int, out: float) -> None:
    domain = Domain([Integer("pay", 0, high), Continuous("b", 0, 1)])
    w = [1 / high, 1]
    for seed in range(3):
        module = network(2, 5, 3, seed=seed).double()
        with torch.no_grad():
            module[0].weight[:, 0] /= high
            module[-2].weight.mul_(out)
        found = rf.certify(
            module, domain, WeightedLp(INF, w), 1 / 3, outputs="values", seconds=2, gap=1e-4
        )
        grid = np.array(
            [[a, b] for a in np.arange(0, high, high // 40) for b in np.arange(0, 1.01, 0.05)]
        )
        apart = lp(INF, w, domain)
        near = np.stack([apart(row[None], grid) for row in grid]) <= 1 / 3
        assert found.upper >= worst(answers(module, grid), near) * (1 - 1e-9)


def test_a_mahalanobis_distance_in_raw_units_keeps_every_direction() -> None:
    # an inverse covariance in raw units: eigenvalues 12 orders apart, and all of them count
    found = []
    for high in (1.0, 1e3, 1e6, 1e9):
        s = np.array([[1 / high**2, 0.5 / high], [0.5 / high, 1.0]])
        domain = Domain([Continuous("income", 0, high), Continuous("b", 0, 1)])
        module = network(2, 4, seed=0)
        with torch.no_grad():
            module[0].weight[:, 0] /= high
        found.append(rf.certify(module, domain, Mahalanobis(s), 0.3, outputs="values", seconds=5))
        legal(found[-1], module, domain, quadratic(s, domain))
    for each in found[1:]:
        assert each.lower == pytest.approx(found[0].lower, rel=2e-3)
        assert each.upper == pytest.approx(found[0].upper, rel=2e-3)


# --- several outputs, probabilities ---------------------------------------------------------------


def test_several_values() -> None:
    module = network(D, 4, seed=5, outputs=3)
    near_enough(certify(module, "linf"), truth(module, "linf"))


@pytest.mark.parametrize("ending", ["logits", "softmax", "log_softmax"])
def test_softmax_by_pairs(ending: str) -> None:
    module = network(D, 4, seed=6, outputs=3, size=1.5)
    x, near = similar(PEOPLE, CASES["linf"][1], 0.4)
    z = answers(module, x)
    logit = worst(z @ np.array([[1, 1, 0], [-1, 0, 1], [0, -1, -1.0]]), near)
    optimum = worst(torch.softmax(torch.from_numpy(z), 1).numpy(), near)
    last = {"softmax": [nn.Softmax(1)], "log_softmax": [nn.LogSoftmax(1)], "logits": []}[ending]
    module = nn.Sequential(*module, *last)
    found = certify(module, "linf", outputs=None, seconds=4)
    assert found.outputs == "probabilities"
    assert found.lower_logit == pytest.approx(logit, abs=1e-4)
    assert logit * (1 - 1e-9) <= found.upper_logit <= logit + 1e-4
    assert found.lower == pytest.approx(optimum, abs=1e-5)
    assert optimum * (1 - 1e-9) <= found.upper <= math.tanh(logit / 4) + 1e-4


@pytest.mark.parametrize("name", ["l1", "linf", "mahalanobis"])
@pytest.mark.parametrize("shift", [-6.0, 0.0, 3.0])
def test_probabilities_slab_by_slab(shift: float, name: str) -> None:
    module = network(D, 4, 3, seed=7, size=3.0)
    with torch.no_grad():
        module[-2].bias.add_(shift)
    x, near = similar(PEOPLE, CASES[name][1], CASES[name][2])
    optimum = worst(1 / (1 + np.exp(-answers(module, x))), near)
    found = certify(module, name, outputs=None, gap=1e-2, seconds=60)
    assert found.lower == pytest.approx(optimum, rel=1e-4)
    assert optimum * (1 - 1e-9) <= found.upper <= optimum * 1.02


def test_a_sigmoid_at_the_end_is_what_logits_are() -> None:
    module = network(D, 4, seed=7)
    x, near = similar(PEOPLE, CASES["l1"][1], CASES["l1"][2])
    optimum = worst(1 / (1 + np.exp(-answers(module, x))), near)
    for asked in (module, nn.Sequential(*module, nn.Sigmoid())):
        found = certify(asked, outputs=None, gap=1e-3, seconds=2)
        assert found.lower == pytest.approx(optimum, rel=1e-4)
        assert optimum * (1 - 1e-9) <= found.upper <= optimum * 1.02


@pytest.mark.usefixtures("blind")
def test_slabs_stand_without_any_pair() -> None:
    module = network(D, 4, 3, seed=7, size=3.0)
    for name in ("l1", "l2", "linf", "mahalanobis"):
        x, near = similar(PEOPLE, CASES[name][1], CASES[name][2])
        optimum = worst(1 / (1 + np.exp(-answers(module, x))), near)
        found = certify(module, name, outputs=None, seconds=0.6)
        assert optimum * (1 - 1e-9) <= found.upper


def test_a_scaled_sigmoid_at_the_end() -> None:
    class Priced(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.inside, self.sign = network(D, 4, seed=8), sign

        def forward(self, x: Tensor) -> Tensor:
            return 5 + self.sign * 45 * torch.sigmoid(self.inside(x))

    for sign in (1.0, -1.0):
        module = Priced(sign)
        optimum = truth(module, "l2")
        found = certify(module, "l2", gap=1e-3, seconds=2)
        assert found.outputs == "values"
        assert found.lower == pytest.approx(optimum, rel=1e-4)
        assert optimum * (1 - 1e-9) <= found.upper <= optimum * 1.05
        assert certify(module, "l2", method="bounds").upper >= optimum


# --- decisions and deltas -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["l1", "linf", "linear"])
def test_decisions_flip_where_they_can(name: str) -> None:
    module = network(D, 4, seed=9)
    x, near = similar(PEOPLE, CASES[name][1], CASES[name][2])
    z = answers(module, x)[:, 0]
    probabilities = 1 / (1 + np.exp(-z))
    span = np.quantile(probabilities, [0.02, 0.3, 0.7, 0.98])
    for cut in [span[0], span[1], span[2], span[3], 0.999, probabilities.min() - 1e-4]:
        up = probabilities > cut
        flips = bool((near & (up[:, None] != up[None])).any())
        found = certify(module, name, outputs="logits", threshold=float(cut))
        assert found.verdict.value == ("unfair" if flips else "fair")
        if flips:
            assert found.lower > 0
            a, b = found.scores
            assert (float(a) > math.log(cut / (1 - cut))) != (float(b) > math.log(cut / (1 - cut)))
        else:
            assert found.margin[1] < 0 or found.upper_logit == 0


def test_decisions_of_values_and_of_a_network_that_says_probabilities() -> None:
    module = network(D, 4, seed=9)
    x, near = similar(PEOPLE, CASES["l1"][1], CASES["l1"][2])
    z = answers(module, x)[:, 0]
    for cut in (float(np.median(z)), float(z.max()) + 0.01):
        flips = bool((near & ((z > cut)[:, None] != (z > cut)[None])).any())
        wanted = "unfair" if flips else "fair"
        assert certify(module, threshold=cut).verdict.value == wanted
        p = 1 / (1 + math.exp(-cut))
        ended = nn.Sequential(*module, nn.Sigmoid())
        assert certify(ended, outputs=None, threshold=p).verdict.value == wanted


@pytest.mark.parametrize("method", ["bounds", "milp", "bab"])
def test_no_verdict_is_ever_wrong(method: str) -> None:
    for seed in range(2):
        module = network(D, 5, 4, seed=seed)
        optimum = truth(module, "l2")
        x, near = similar(PEOPLE, CASES["l2"][1], CASES["l2"][2])
        z = answers(module, x)[:, 0]
        for seconds in (0.01, 3.0) if method == "milp" else (1.0,):
            given = {"method": method, "seconds": seconds}
            for share in (0.999, 1.001):
                found = certify(module, "l2", delta=share * optimum, **given)
                assert found.verdict != ("fair" if share < 1 else "unfair")
                if seconds == 3.0:
                    assert found.verdict == ("unfair" if share < 1 else "fair")
            for cut in (float(z.max() - 1e-3), float(z.max() + 1e-3)):
                flips = bool((near & ((z > cut)[:, None] != (z > cut)[None])).any())
                found = certify(module, "l2", threshold=cut, **given)
                assert found.verdict != ("fair" if flips else "unfair")


def test_a_delta_at_the_bounds_decides() -> None:
    module = network(D, 4, seed=1)
    optimum = truth(module)
    assert certify(module, delta=optimum + 1e-3).verdict == "fair"
    assert certify(module, delta=optimum + 1e-3).stopped == "target"
    found = certify(module, delta=0.1)
    assert found.verdict == "unfair"
    assert found.lower > 0.1
    assert certify(module).verdict == "unknown"


# --- what must hold between certificates ----------------------------------------------------------


@pytest.mark.parametrize("name", ["l1", "l2", "mahalanobis"])
def test_monotone_in_epsilon(name: str) -> None:
    module = network(D, 4, seed=3)
    found = [certify(module, name, epsilon=e, gap=1e-6) for e in (0.0, 0.3, 0.9, 1.8)]
    for small, large in itertools.pairwise(found):
        assert small.upper <= large.upper + 2e-4
        assert small.lower <= large.lower + 2e-4
        assert small.lower <= large.upper


def test_swapping_and_turning_round_change_nothing() -> None:
    module = network(D, 4, seed=4)
    plain = certify(module, "l2")
    order = [5, 0, 2, 3, 4, 1]
    features = [PEOPLE.features[i] for i in (3, 0, 2, 1)]
    turned = Domain(features, PEOPLE.mean[order], PEOPLE.spread[order])
    mirrored = copy.deepcopy(module)
    with torch.no_grad():
        mirrored[0].weight.copy_(module[0].weight[:, order])
        mirrored[-2].weight.neg_()
        mirrored[-2].bias.neg_()
    weights = [WEIGHTS[i] for i in order]
    other = rf.certify(
        mirrored, turned, WeightedLp(2, weights), 0.9, outputs="values", gap=1e-6, seconds=20
    )
    assert other.lower == pytest.approx(plain.lower, abs=1e-4)
    assert other.upper == pytest.approx(plain.upper, abs=1e-4)


@pytest.mark.parametrize("method", ["bounds", "milp", "bab"])
@pytest.mark.parametrize(
    "distance",
    [WeightedLp(1), WeightedLp(2), WeightedLp(INF), Mahalanobis(np.eye(5) + 0.2)],
    ids=["l1", "l2", "linf", "mahalanobis"],
)
def test_epsilon_zero_without_the_sensitive_input_is_zero(distance: Any, method: str) -> None:
    domain = Domain([Continuous("a", 0, 1), Integer("b", 0, 30), OneHot("c", 3)])
    found = rf.certify(network(5, 6, 4), domain, distance, 0.0, method=method, outputs="values")
    assert (found.lower, found.upper) == (0, 0)
    free = Domain([*domain.features, Integer("sex", 0, 1, sensitive=True)])
    module = network(6, 6, 4)
    with torch.no_grad():
        module[0].weight[:, -1] = 0.0
    wide = Mahalanobis(np.eye(6) + 0.2) if isinstance(distance, Mahalanobis) else distance
    found = rf.certify(module, free, wide, 0.0, method=method, outputs="values")
    assert (found.lower, found.upper) == (0, 0)
    with torch.no_grad():
        module[0].weight[:, -1] = 1.0
    found = rf.certify(module, free, wide, 0.0, method=method, outputs="values", seconds=3)
    assert found.upper >= found.lower > 0


@pytest.mark.parametrize("method", ["bounds", "milp", "bab"])
def test_degenerate_questions(method: str) -> None:
    def asked(module: nn.Module, domain: Domain, distance: Any, epsilon: float = 0.5) -> Any:
        given = {"method": method, "outputs": "values", "seconds": 3}
        return rf.certify(module, domain, distance, epsilon, **given)

    one = Domain([Integer("a", 3, 3), OneHot("b", 1), Continuous("c", 0.1, 0.1)])
    found = asked(network(3, 4), one, WeightedLp(2))
    assert found.lower <= found.upper <= 1e-6
    # float32 does not hold 0.1: there is a pair all the same
    rate = Domain([Continuous("rate", 0.1, 0.1), Continuous("b", 0, 1)])
    found = asked(network(2, 4, seed=3), rate, WeightedLp(INF))
    assert found.lower >= 0.9 * found.upper > 0.01 or method == "bounds"
    assert found.witness is not None
    constant = network(3, 4)
    with torch.no_grad():
        constant[-2].weight.zero_()
    some = Domain([Continuous("a", 0, 1), Continuous("b", 0.1, 0.1), Integer("c", 0, 3)])
    assert asked(constant, some, WeightedLp(2)).upper == 0
    plain = network(3, 4, seed=3)
    x = some.to_inputs(people(some, 21))
    everybody = worst(answers(plain, x), np.ones((len(x), len(x)), bool))
    for free in (WeightedLp(2, 0.0), WeightedLp(1, 0), Mahalanobis(np.zeros((3, 3)))):
        found = asked(plain, some, free)
        assert found.upper >= everybody
        assert found.lower >= 0.999 * everybody
    assert asked(plain, some, WeightedLp(INF), 0.0).upper == 0


def test_a_network_norm_with_epsilon_zero() -> None:
    domain = discrete()
    module = network(D, 3, seed=5)
    flat = network(D, 2, outputs=1, seed=6, activation=nn.ReLU())
    x, near = similar(domain, embedded(flat, 2, domain), 0.0)
    for method in ("bounds", "milp"):
        found = rf.certify(
            module, domain, Embedding(flat, WeightedLp(2)), 0.0, method=method, outputs="values"
        )
        assert found.upper >= worst(answers(module, x), near) * (1 - 1e-9)
        legal(found, module, domain, embedded(flat, 2, domain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_precisions(dtype: torch.dtype) -> None:
    module = network(D, 4, seed=4).to(dtype)
    found = certify(module, "l2")
    assert found.witness.dtype == dtype
    near_enough(found, truth(module, "l2"))


# --- time, signals, side effects ------------------------------------------------------------------


def large() -> tuple[nn.Module, Domain]:
    features = [Continuous(f"x{i}", 0, 1) for i in range(8)]
    domain = Domain([*features, OneHot("job", 4), Integer("sex", 0, 1, sensitive=True)])
    return network(domain.d, 32, 32, seed=2, size=1.5), domain


@pytest.mark.parametrize("outputs", ["values", "logits"])
def test_a_time_out_is_unknown(outputs: Any) -> None:
    module, domain = large()
    strongest = rf.certifiers.attack(
        module, domain, WeightedLp(INF), 0.2, seconds=2, outputs=outputs
    )
    assert strongest is not None
    for seconds in (0.0, 0.01, 0.5):
        found = rf.certify(module, domain, WeightedLp(INF), 0.2, seconds=seconds, outputs=outputs)
        assert found.stopped == "time"
        assert math.isfinite(found.upper)
        assert found.lower <= found.upper
        assert found.upper >= strongest.delta
        assert found.upper_logit >= strongest.logit
        asked = rf.certify(
            module,
            domain,
            WeightedLp(INF),
            0.2,
            seconds=seconds,
            outputs=outputs,
            delta=strongest.delta * 1.0001,
        )
        assert asked.verdict == "unknown"
        assert any("seconds" in note for note in asked.notes)


@pytest.mark.parametrize("after", [1.0])
def test_an_interrupt_returns_what_is_proved(after: float) -> None:
    module, domain = large()
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        found = rf.certify(module, domain, WeightedLp(INF), 0.2, seconds=60, outputs="values")
    finally:
        timer.cancel()
    assert found.stopped == "interrupted"
    assert found.seconds < 30
    assert 0 < found.lower <= found.upper < INF
    assert signal.getsignal(signal.SIGINT) is before


def test_the_history_narrows_and_ends_where_the_certificate_does() -> None:
    module, domain = large()
    heard: list[Any] = []
    found = rf.certify(
        module, domain, WeightedLp(INF), 0.2, seconds=2, outputs="logits", on_step=heard.append
    )
    assert list(found.history) == heard
    for early, late in itertools.pairwise(heard):
        assert early.seconds <= late.seconds
        assert early.lower <= late.lower <= late.upper <= early.upper
        assert early.lower_logit <= late.lower_logit <= late.upper_logit <= early.upper_logit
    last = heard[-1]
    assert (last.lower, last.upper) == (found.lower, found.upper)
    assert (last.lower_logit, last.upper_logit) == (found.lower_logit, found.upper_logit)


def test_nothing_outside_changes() -> None:
    module = nn.Sequential(
        nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 1)
    )
    module.train()
    module[1].eval()
    module[0].weight.requires_grad_(False)
    modes = [m.training for m in module.modules()]
    grads = [p.requires_grad for p in module.parameters()]
    state = copy.deepcopy(module.state_dict())
    torch.manual_seed(5)
    np.random.seed(5)
    rng, old = torch.get_rng_state(), np.random.get_state()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    for method in ("bounds", "milp"):
        certify(module, method=method, seconds=1)
    assert [m.training for m in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == grads
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert (np.random.get_state()[1] == old[1]).all()
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert torch.is_grad_enabled()


def test_the_network_is_certified_in_eval_mode() -> None:
    module = nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        module[1].running_mean.uniform_(-1, 1)
        module[1].running_var.uniform_(0.5, 2)
    trained = certify(module.train(), "l1")
    near_enough(trained, truth(module, "l1"))


# --- the certificate as a value -------------------------------------------------------------------


def test_tiers_say_what_a_bound_rests_on() -> None:
    module = network(D, 4, seed=1)
    quick, solved = certify(module, method="bounds"), certify(module)
    assert (quick.tier, quick.method) == ("float64", "bounds")
    assert (solved.tier, solved.method) == ("solver", "milp")
    assert quick.upper > solved.upper
    assert quick.slack >= 0 < solved.slack


def test_table_dict_and_file(tmp_path: Path) -> None:
    domain = Domain(
        [
            Continuous("age", 17, 90, unit="years"),
            Integer("hours", 1, 99, unit="h"),
            OneHot("race", ["a", "b", "c"], sensitive=True),
            Integer("flag", 0, 1, labels=("no", "yes")),
        ],
        [50, 40, 0, 0, 0, 0],
        [20, 10, 1, 1, 1, 1],
    )
    module = network(6, 5, seed=1)
    found = rf.certify(module, domain, WeightedLp(INF), 0.2, outputs="values", seconds=5)
    table = found.table()
    assert list(table.columns) == ["feature", "person A", "person B", "differs", "role"]
    assert list(table["feature"]) == ["age", "hours", "race", "flag"]
    assert list(table["role"]) == ["", "", "free", ""]
    for i, row in enumerate(table.itertuples(index=False)):
        assert (row[3] == "yes") == (row[1] != row[2]), i
    assert table["person A"][0].endswith(" years")
    assert table["person A"][1].endswith(" h")
    assert table["person A"][2] in "abc"
    assert table["person A"][3] in ("no", "yes")
    ages = [float(table[who][0].split()[0]) for who in ("person A", "person B")]
    assert abs(ages[0] - ages[1]) <= 0.2 * 20 * (1 + 1e-5)
    path = found.save(tmp_path / "certificate.json")
    read = json.loads(path.read_text())
    assert read == json.loads(json.dumps(found.to_dict()))
    assert (read["lower"], read["upper"], read["verdict"]) == (found.lower, found.upper, "unknown")
    assert read["witness"]["columns"] == list(domain.columns)
    assert read["witness"]["person_a"] == found.witness[0].tolist()
    assert 0 <= found.gap <= 1e-3


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": INF}, "epsilon"),
        ({"epsilon": "much"}, "epsilon"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": INF}, "seconds"),
        ({"gap": -1}, "gap"),
        ({"delta": -0.5}, "delta"),
        ({"delta": 0.1, "threshold": 0.5}, "delta or threshold"),
        ({"threshold": 1.5, "outputs": "logits"}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"outputs": "classes"}, "outputs"),
        ({"outputs": "probabilities"}, "outputs"),
        ({"method": "magic"}, "method"),
        ({"method": Milp}, "certifier"),
        ({"distance": WeightedLp(2, [1.0, 2.0])}, "weights"),
        ({"distance": WeightedLp(2, {"height": 1.0})}, "height"),
        ({"distance": Mahalanobis(np.eye(3))}, "6 x 6"),
        ({"distance": WeightedLp}, "distance"),
        ({"distance": 2}, "distance"),
        ({"domain": Domain([Continuous("a", 0, 1)])}, "1"),
        ({"domain": [Continuous("a", 0, 1)]}, "Domain"),
        ({"network": lambda x: x}, "Module"),
    ],
)
def test_one_clear_error(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "network": network(D, 2),
        "domain": PEOPLE,
        "distance": WeightedLp(2),
        "epsilon": 0.1,
        "outputs": "values",
        **change,
    }
    with pytest.raises(InputError, match=message) as caught:
        rf.certify(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Domain([Continuous("a", 0, INF)]),
        lambda: Domain([Continuous("a", -INF, 0)]),
        lambda: Domain([Continuous("a", 1, 0)]),
        lambda: Domain([Continuous("a", math.nan, 0)]),
        lambda: Domain([Integer("a", 0.2, 0.8)]),
        lambda: Domain([]),
        lambda: Mahalanobis([[1.0, 2.0], [2.0, 1.0]]),
        lambda: Mahalanobis([[-1.0]]),
        lambda: WeightedLp(2, -1),
        lambda: WeightedLp(3),
    ],
)
def test_an_impossible_domain_or_distance(build: Any) -> None:
    with pytest.raises(InputError) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_softmax_over_one_class_is_no_crash() -> None:
    module = nn.Sequential(nn.Linear(D, 1), nn.Softmax(1))
    with contextlib.suppress(InputError):
        assert certify(module, outputs=None).upper == 0


@pytest.mark.parametrize("p", [2, math.inf])
def test_weights_of_0_make_everyone_similar_and_it_is_said(p: float) -> None:
    people = Domain([Continuous("skill", 0, 2), OneHot("town", 3)])
    module = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 0.0, 5.0, -1.0]]))
    found = rf.certify(module, people, WeightedLp(p, 0.0), 0.1, outputs="values")
    assert found.upper == pytest.approx(2 + 6)
    assert any("everyone is similar to everyone" in note for note in found.notes)
    weights = {"skill": 0.0, "town": 1.0}
    some = rf.certify(module, people, WeightedLp(p, weights), 0.1, outputs="values")
    assert some.upper == pytest.approx(2)
    assert not some.notes
