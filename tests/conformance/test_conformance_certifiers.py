"""What every certifier promises: sound, never contradicting another, legal witnesses."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair.certifiers import ALL, Continuous, Domain, Integer, Mahalanobis, OneHot, WeightedLp
from retrofair.errors import InputError

NAMES = [each.name for each in ALL]
PEOPLE = Domain(
    [
        Continuous("a", -1, 1),
        Integer("b", 0, 3),
        OneHot("c", 3),
        Integer("sex", 0, 1, sensitive=True),
    ],
    [0, 1.5, 0, 0, 0, 0],
    [1, 1.2, 1, 1, 1, 1],
)
D = PEOPLE.d


def network(seed: int, ending: str = "") -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 1)]
    with torch.no_grad():
        layers[0].weight.mul_(2)  # type: ignore[operator, union-attr]
        layers[2].weight.mul_(2)  # type: ignore[operator, union-attr]
    return nn.Sequential(*layers, *([nn.Sigmoid()] if ending else [nn.Flatten(0)]))


CASES: dict[str, tuple[Any, float]] = {
    "l1": (WeightedLp(1), 0.3),
    "linf": (WeightedLp(math.inf, {"c": 0.1}), 0.2),
    "l2": (WeightedLp(2), 0.9),
    "mahalanobis": (Mahalanobis(np.eye(D) + 0.3), 0.5),
}


def certify(name: str, case: str, net: int, **options: Any) -> Any:
    distance, epsilon = CASES[case]
    given = {"method": name, "seconds": 2, "epsilon": epsilon, **options}
    return rf.certify(network(net), PEOPLE, distance, **given)


def pairs(case: str, n: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    """Sampled similar pairs, as the network takes them, by the formulas."""
    rng = np.random.default_rng(0)
    distance, epsilon = CASES[case]
    raw = rng.uniform(PEOPLE.low, PEOPLE.high, (2, n, D))
    raw[1, :, 0] = np.clip(raw[0, :, 0] + rng.uniform(-1, 1, n) * rng.random(n), -1, 1)
    raw[:, :, 1] = rng.integers(0, 4, (2, n))
    raw[1, ::2, 1] = raw[0, ::2, 1]
    codes = rng.integers(0, 3, (2, n))
    codes[1] = np.where(rng.random(n) < 0.7, codes[0], codes[1])
    raw[:, :, 2:5] = np.eye(3)[codes]
    raw[:, :, 5] = rng.integers(0, 2, (2, n))
    one, two = PEOPLE.to_inputs(raw[0]), PEOPLE.to_inputs(raw[1])
    d = np.abs(two - one)[:, :5]
    if isinstance(distance, Mahalanobis):
        signed = (two - one)[:, :5]
        s = np.eye(5) + 0.3
        far = np.sqrt(np.einsum("ni,ij,nj->n", signed, s, signed))
    else:
        w = np.array([1, 1, 0.1, 0.1, 0.1]) if distance.p == math.inf else np.ones(5)
        far = (
            (w * d).max(1) if distance.p == math.inf else (d**distance.p).sum(1) ** (1 / distance.p)
        )
    good = far <= epsilon
    assert good.sum() > 5000
    return one[good], two[good]


@pytest.mark.parametrize("case", CASES)
def test_bounds_contain_sampled_pairs_and_agree(case: str) -> None:
    one, two = pairs(case)
    for seed in range(2):
        module = network(seed).double()
        with torch.no_grad():
            seen = float(
                (module(torch.from_numpy(two)) - module(torch.from_numpy(one))).abs().max()
            )
        found = {name: certify(name, case, seed, outputs="values") for name in NAMES}
        for name, each in found.items():
            assert each.upper >= seen, name
            assert each.lower <= each.upper
            assert each.method == name
        for one_name, other in itertools.permutations(NAMES, 2):
            assert found[one_name].lower <= found[other].upper * (1 + 1e-9), (one_name, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_witnesses_are_legal(case: str, name: str) -> None:
    distance, epsilon = CASES[case]
    for outputs in ("values", "logits"):
        found = certify(name, case, 3, outputs=outputs)
        raw = found.witness.double().numpy()
        assert PEOPLE.contains(raw).all()
        x = PEOPLE.to_inputs(raw)
        with torch.no_grad():
            z = network(3)(torch.from_numpy(x).float())
        z = z if outputs == "values" else torch.sigmoid(z)
        assert float((z[1] - z[0]).abs()) >= found.lower - 1e-6
        assert found.distance <= epsilon * (1 + 1e-9)
        changed = np.abs(x[1] - x[0])[:5]
        if isinstance(distance, WeightedLp) and distance.p != math.inf:
            assert (changed**distance.p).sum() <= epsilon**distance.p * (1 + 1e-9)


@pytest.mark.parametrize("ending", ["", "sigmoid"])
def test_no_two_verdicts_contradict(ending: str) -> None:
    distance, epsilon = CASES["linf"]
    for seed in range(2):
        module = network(seed, ending)
        top = rf.certify(module, PEOPLE, distance, epsilon, method="milp", seconds=2)
        questions = [{"delta": share * top.upper} for share in (0.95, 1.05)]
        questions += [{"threshold": cut} for cut in (0.02, 0.5)]
        for question in questions:
            verdicts = {}
            for name in NAMES:
                with contextlib.suppress(InputError):  # pwl asks for a difference only
                    found = rf.certify(
                        module, PEOPLE, distance, epsilon, method=name, seconds=1, **question
                    )
                    verdicts[name] = found.verdict.value
            assert len(verdicts) > 1
            assert not {"fair", "unfair"} <= set(verdicts.values()), (question, verdicts)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_interval(name: str) -> None:
    one, again = (certify(name, "linf", 1, outputs="values", seed=4) for _ in range(2))
    assert (one.lower, one.verdict) == (again.lower, again.verdict)
    assert one.upper == pytest.approx(again.upper, rel=1e-3)
    if name == "bounds":
        assert one.upper == again.upper
        assert torch.equal(one.witness, again.witness)


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_epsilon_is_never_refuted(name: str) -> None:
    found = [certify(name, "l2", 2, epsilon=e, outputs="values") for e in (0.0, 0.5, 2.0)]
    for small, large in itertools.combinations(found, 2):
        assert small.lower <= large.upper


@pytest.mark.parametrize("name", NAMES)
def test_the_network_stays_as_it_was(name: str) -> None:
    module = network(5).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    distance, epsilon = CASES["l1"]
    rf.certify(module, PEOPLE, distance, epsilon, method=name, seconds=2)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
