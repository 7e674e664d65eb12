"""The quick bounds, against what sampled pairs show in every layer."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from certifier_cases import INF, mixed, network
from torch import Tensor, nn

from retrofair.certifiers import Continuous, Domain, Embedding, Mahalanobis, OneHot, WeightedLp
from retrofair.certifiers.domain import Integer
from retrofair.certifiers.extract import extract
from retrofair.certifiers.layered import Layered
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.propagate import Bounds, bounds, heads_reach

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.2),
    "rising": nn.LeakyReLU(-0.3),
    "steep": nn.LeakyReLU(1.7),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
}
D = mixed().d


def spread_out(seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(D - 3, D))
    return a.T @ a  # singular: some directions are free


DISTANCES: dict[str, Any] = {
    "l1": WeightedLp(1, [1, 2, 1, 0.5, 0.5, 3, 9, 0.5, 1]),
    "l2": WeightedLp(2, {"a": 0.5, "b": 0, "d": 4}),
    "linf": WeightedLp(INF, {"c": 0.1}),
    "mahalanobis": Mahalanobis(spread_out(0)),
    "embedding": Embedding(network(D, outputs=4, seed=1), WeightedLp(1)),
    "network": Embedding(network(D, 3, outputs=2, seed=2, activation=nn.Tanh()), WeightedLp(2)),
}


def sampled(pairs: Pairs, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Legal pairs, as the network takes them; about half of them at the edge of what is similar."""
    domain = pairs.domain
    one = rng.uniform(domain.low, domain.high, (n, domain.d))
    ends = np.where(rng.random(one.shape) < 0.5, domain.low, domain.high)
    one = np.where(rng.random((n, 1)) < 0.5, np.where(rng.random(one.shape) < 0.6, ends, one), one)
    two = np.where(domain.sensitive, rng.permutation(one), one)
    free = rng.random((n, domain.d)) < rng.random((n, 1))
    step = rng.normal(size=one.shape) * free * (domain.high - domain.low)
    step = np.where(domain.sensitive, 0.0, step)
    whole = domain.integer
    for _, where in domain.groups:
        k = where.stop - where.start
        codes = rng.integers(k, size=(2, n))
        if not domain.sensitive[where.start]:
            codes[1] = np.where(rng.random(n) < 0.7, codes[0], codes[1])
        one[:, where], two[:, where], step[:, where] = np.eye(k)[codes[0]], np.eye(k)[codes[1]], 0
    one[:, whole] = np.rint(one[:, whole])
    two[:, whole] = np.rint(two[:, whole])
    found = [(one, two)]
    far = pairs.norm.between(domain.to_inputs(one), domain.to_inputs(one + step))
    ratio = np.divide(pairs.epsilon, far, out=np.ones(n), where=far > 0)[:, None]
    for share in (0.999999999, 0.5):
        moved = np.clip(two + step * np.minimum(ratio * share, 1), domain.low, domain.high)
        moved[:, whole] = np.rint(moved[:, whole])
        found.append((one, moved))
    first, second = (np.concatenate(parts) for parts in zip(*found, strict=True))
    good = pairs.legal(first, second)
    inputs = domain.to_inputs(first[good]), domain.to_inputs(second[good])
    return torch.from_numpy(inputs[0]), torch.from_numpy(inputs[1])


@functools.cache
def layers(activation: str, *widths: int) -> Layered:
    """A random network with two outputs."""
    return extract(network(D, *widths, outputs=2, activation=ACTIVATIONS[activation]), D)


@functools.cache
def shared(distance: str, epsilon: float) -> tuple[Pairs, Tensor, Tensor]:
    """At least 10,000 legal pairs."""
    pairs = Pairs.of(mixed(), DISTANCES[distance], epsilon)
    one, two = sampled(pairs, 12_000, np.random.default_rng(len(distance)))
    assert len(one) > 10_000
    return pairs, one, two


def layers_of(layered: Layered, x: Tensor) -> list[Tensor]:
    """y of every layer."""
    found = []
    for i, (weight, bias) in enumerate(zip(layered.weights, layered.biases, strict=True)):
        found.append(nn.functional.linear(x, weight, bias))
        x = layered.activations[i](found[-1]) if i < len(layered.activations) else x
    return found


def check(layered: Layered, found: Bounds, one: Tensor, two: Tensor) -> None:
    for layer, first, second in zip(
        found.layers, layers_of(layered, one), layers_of(layered, two), strict=True
    ):
        for y in (first, second):
            assert bool((y >= layer.low).all())
            assert bool((y <= layer.high).all())
        assert bool(((second - first).abs() <= layer.reach).all())


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_layer_contains_all_sampled_pairs(activation: str, distance: str) -> None:
    # 36 tests with three networks and some 10,000 legal pairs each: a million in all
    rng = np.random.default_rng(0)
    for widths, epsilon in (((6,), 0.1), ((5, 4), 0.5), ((8, 6, 5), 0.02)):
        layered = layers(activation, *widths)
        pairs, one, two = shared(distance, epsilon)
        found = bounds(layered, pairs)
        check(layered, found, one, two)
        heads = torch.from_numpy(rng.normal(size=(4, 2)))
        reach = heads_reach(layered, pairs, found, heads)
        apart = (layered.forward(two) - layered.forward(one)) @ heads.T
        assert bool((apart.abs() <= reach).all())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_way_only_narrows(activation: str) -> None:
    layered = layers(activation, 8, 6, 5)
    pairs = Pairs.of(mixed(), DISTANCES["l2"], 0.2)
    plain = bounds(layered, pairs, ("interval",))
    crown = bounds(layered, pairs, ("crown",))
    both = bounds(layered, pairs)
    for coarse, fine in ((plain, crown), (crown, both)):
        for before, after in zip(coarse.layers, fine.layers, strict=True):
            assert bool((after.low >= before.low).all())
            assert bool((after.high <= before.high).all())
            assert bool((after.reach <= before.reach).all())
    # the difference of one layer bounded as a whole is at most what two copies bounded apart leave
    assert bool((both.outputs.reach <= both.outputs.high - both.outputs.low).all())


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_larger_epsilon_never_narrows(distance: str) -> None:
    layered = layers("relu", 6, 4)
    reached = [
        float(bounds(layered, Pairs.of(mixed(), DISTANCES[distance], e)).outputs.reach[0])
        for e in (0.0, 0.01, 0.1, 0.3, 1.0, 10.0)
    ]
    assert reached == sorted(reached)


def test_the_sign_of_the_outputs_changes_nothing() -> None:
    module = network(D, 6, 5, seed=8)
    pairs = Pairs.of(mixed(), DISTANCES["mahalanobis"], 0.3)
    plain = bounds(extract(module, D), pairs).outputs
    with torch.no_grad():
        module[-2].weight.neg_()
        module[-2].bias.neg_()
    turned = bounds(extract(module, D), pairs).outputs
    assert turned.reach.allclose(plain.reach, rtol=1e-12)
    assert turned.high.allclose(-plain.low, rtol=1e-12)


def test_the_unit_of_a_feature_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, 2))
    reached: dict[str, list[float]] = {}
    for size in (1.0, 1e3, 1e6, 1e9, 1e12):
        domain = Domain([Continuous("income", 0, size), Continuous("b", 0, 1)])
        module = network(2, 5, 4, seed=3)
        unit = np.array([1 / size, 1.0])
        with torch.no_grad():
            module[0].weight.mul_(torch.from_numpy(unit).float())
        layered = extract(module, 2)
        for name, distance in {
            "l1": WeightedLp(1, unit),
            "l2": WeightedLp(2, unit**2),
            "linf": WeightedLp(INF, unit),
            "full": Mahalanobis([[1 / size**2, 0.5 / size], [0.5 / size, 1.0]]),
            "flat": Mahalanobis((a * unit).T @ (a * unit)),
        }.items():
            pairs = Pairs.of(domain, distance, 0.3)
            reached.setdefault(name, []).append(float(bounds(layered, pairs).outputs.reach[0]))
    for name, found in reached.items():
        assert found == pytest.approx([found[0]] * len(found), rel=1e-4), name


@pytest.mark.parametrize(
    "distance",
    [WeightedLp(1), WeightedLp(2), WeightedLp(INF), Mahalanobis(np.eye(6) + 0.1)],
    ids=["l1", "l2", "linf", "mahalanobis"],
)
def test_equal_people_are_equal_to_the_last_bit(distance: Any) -> None:
    domain = Domain([Continuous("a", -5, 20), Integer("b", 0, 9), OneHot("c", 4)])
    found = bounds(extract(network(6, 8, 8, seed=1), 6), Pairs.of(domain, distance, 0.0))
    assert all(bool((layer.reach == 0).all()) for layer in found.layers)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_points_for_ranges(activation: str) -> None:
    # intervals of width 0: only rounding is left between bounds and values
    domain = Domain([Continuous("a", 19_999.5, 19_999.5), Continuous("b", -3, -3), OneHot("c", 1)])
    layered = extract(network(3, 20, 20, 20, seed=4, activation=ACTIVATIONS[activation]), 3)
    pairs = Pairs.of(domain, WeightedLp(INF), 1.0)
    found = bounds(layered, pairs)
    x = torch.tensor([[19_999.5, -3.0, 1.0]], dtype=torch.float64)
    check(layered, found, x, x)
    assert bool((found.outputs.reach == 0).all())
    width = float(found.outputs.high - found.outputs.low)
    assert width <= 1e-6 * (1 + float(layered.forward(x).abs()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_narrow_and_huge_ranges(activation: str) -> None:
    rng = np.random.default_rng(5)
    for low, high in ((0.1, 0.1 + 1e-13), (-1e-9, 1e-9), (-1e6, 1e6), (699, 701), (-3e4, 2e4)):
        domain = Domain([Continuous("a", low, high), Continuous("b", -1, 1)])
        layered = extract(network(2, 6, 6, seed=6, activation=ACTIVATIONS[activation]), 2)
        pairs = Pairs.of(domain, WeightedLp(INF, [1 / (high - low), 1]), 0.4)
        found = bounds(layered, pairs)
        assert math.isfinite(float(found.outputs.reach))
        one, two = sampled(pairs, 3000, rng)
        check(layered, found, one, two)


def test_leaky_relu_is_exact_where_it_never_bends() -> None:
    # one unit that stays below 0 with a slope float32 cannot hold
    module = nn.Sequential(nn.Linear(1, 1), nn.LeakyReLU(-0.3), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer in (module[0], module[2]):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    pairs = Pairs.of(Domain([Continuous("a", -3, -1)]), WeightedLp(INF, 0.0), 0.0)
    found = bounds(extract(module, 1), pairs).outputs
    assert float(found.reach) == pytest.approx(0.6, rel=1e-11)
    assert float(found.reach) >= 2 * 0.3 * (1 - 1e-15)
    assert float(found.low) <= 0.3 <= 0.9 <= float(found.high)


def test_zero_weights_and_constant_networks() -> None:
    module = network(D, 4, seed=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    found = bounds(extract(module, D), Pairs.of(mixed(), WeightedLp(2), 3.0))
    assert float(found.outputs.reach) == 0
    assert float(found.outputs.low) <= 0 <= float(found.outputs.high)
