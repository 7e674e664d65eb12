"""Branch and bound: every part's bound holds for any multipliers, and the parts hold everybody."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from certifier_cases import INF, answers, discrete, lp, mixed, network, quadratic, similar, worst
from torch import Tensor, nn

import retrofair as rf
from retrofair.certifiers import Domain, Mahalanobis, WeightedLp
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.certifiers.tree.dual import Dual, lines
from retrofair.certifiers.tree.goals import Goal
from retrofair.certifiers.tree.linear import LinearProgram, multipliers
from retrofair.certifiers.tree.nodes import Nodes
from retrofair.certifiers.tree.rounding import whole_people
from retrofair.certifiers.tree.search import Tree
from retrofair.certifiers.tree.split import Splits
from retrofair.certifiers.tree.supports import Supports
from retrofair.errors import InputError

LEAKY = nn.LeakyReLU(0.2)
DISTANCES: dict[str, tuple[Any, float]] = {
    "linf": (WeightedLp(INF, {"c": 0.2}), 0.6),
    "l1": (WeightedLp(1), 1.3),
    "l2": (WeightedLp(2), 1.5),
    "mahalanobis": (Mahalanobis(np.eye(9) + 0.3), 1.2),
}


def built(
    domain: Domain, distance: Any, epsilon: float, *widths: int, seed: int = 0, **options: Any
) -> tuple[Dual, Splits, Question, Pairs]:
    module = network(domain.d, *widths, seed=seed, **options)
    question = Question.of(module, domain.d, "values", None)
    pairs = Pairs.of(domain, distance, epsilon)
    dual = Dual(question.network, Supports(pairs))
    return dual, Splits(dual), question, pairs


def sampled(pairs: Pairs, n: int = 20_000) -> tuple[Tensor, Tensor]:
    """Legal pairs at random, as the network takes them."""
    domain, rng = pairs.domain, np.random.default_rng(0)
    raw = rng.uniform(domain.low, domain.high, (2, n, domain.d))
    share = rng.random((n, 1)) ** 3
    raw[1] = raw[0] + share * (raw[1] - raw[0])
    raw[:, :, domain.integer] = np.rint(raw[:, :, domain.integer])
    for _, where in domain.groups:
        codes = rng.integers(where.stop - where.start, size=(2, n))
        codes[1] = np.where(rng.random(n) < 0.5, codes[0], codes[1])
        raw[:, :, where] = np.eye(where.stop - where.start)[codes]
    one, two = domain.to_inputs(raw[0]), domain.to_inputs(raw[1])
    good = pairs.similar(one, two)
    assert good.sum() > 500
    return torch.from_numpy(one[good]), torch.from_numpy(two[good])


def units(dual: Dual, x: Tensor) -> Tensor:
    """(n, N) what every hidden unit's activation is applied to."""
    found = []
    network = dual.network
    for weight, bias, activation in zip(
        network.weights, network.biases, network.activations, strict=False
    ):
        y = x @ weight.T + bias
        found.append(y)
        x = activation(y)
    return torch.cat(found, 1)


def inside(dual: Dual, nodes: Nodes, i: int, one: Tensor, two: Tensor) -> Tensor:
    """(n,) which pairs belong to node i, by its people and its signs."""
    columns = dual.supports.columns
    layers = nodes.layers[i]
    member = torch.ones(len(one), dtype=torch.bool)
    for copy, x in enumerate((one, two)):
        numbers = x[:, columns]
        member &= (numbers >= nodes.low[i, copy] - 1e-9).all(1)
        member &= (numbers <= nodes.high[i, copy] + 1e-9).all(1)
        for where, _, _ in dual.supports.groups:
            member &= nodes.open[i, copy][where][x[:, where].argmax(1)]
        y = units(dual, x)
        member &= ((y >= layers[2 * copy] - 1e-9) & (y <= layers[2 * copy + 1] + 1e-9)).all(1)
    return member


def tree_of(dual: Dual, splits: Splits, goal: Goal, depth: int, seed: int = 0) -> Nodes:
    """Nodes some random splits deep."""
    generator = torch.Generator().manual_seed(seed)
    nodes, _ = dual.propagate(goal.onto(splits.roots()))
    for _ in range(depth):
        weights = splits.open(nodes).double() + 1e-12
        split = torch.multinomial(weights, 1, generator=generator)[:, 0]
        nodes, _ = dual.propagate(splits.halves(nodes, split))
        nodes = nodes.take(torch.randperm(len(nodes), generator=generator)[:24])
    return nodes


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("activation", [nn.ReLU(), LEAKY, nn.LeakyReLU(1.6), nn.LeakyReLU(-0.4)])
def test_bounds_hold_for_any_multipliers(name: str, activation: nn.Module) -> None:
    domain = mixed()
    distance, epsilon = DISTANCES[name]
    dual, splits, question, pairs = built(
        domain, distance, epsilon, 5, 4, seed=1, activation=activation, outputs=2
    )
    one, two = sampled(pairs)
    goal = Goal(torch.tensor([0.3, -1.0]).double(), torch.tensor([0.7, 1.0]).double())
    value = question.network.forward(one) @ goal.first + question.network.forward(two) @ goal.second
    generator = torch.Generator().manual_seed(3)
    seen = 0
    for depth in (0, 2, 5):
        nodes = tree_of(dual, splits, goal, depth)
        for size in (0.0, 0.3, 3.0):
            tried = nodes.put(
                slopes=torch.rand(nodes.slopes.shape, generator=generator).double(),
                mix=size * torch.randn(nodes.mix.shape, generator=generator).double(),
                own=size * torch.randn(nodes.own.shape, generator=generator).double(),
                between=size * torch.randn(nodes.between.shape, generator=generator).double(),
            )
            upper, slack, _ = dual.bound(tried, lines(tried.layers))
            assert bool((slack < 1e-6).all())
            for i in range(len(nodes)):
                member = inside(dual, nodes, i, one, two)
                if member.any():
                    seen += 1
                    assert float(upper[i]) >= float(value[member].max())
    assert seen > 40


@pytest.mark.parametrize("name", DISTANCES)
def test_every_pair_is_in_one_half_or_the_other(name: str) -> None:
    distance, epsilon = DISTANCES[name]
    dual, splits, _, pairs = built(mixed(), distance, epsilon, 4, 3, seed=2)
    one, two = (x[:2000] for x in sampled(pairs))
    goal = Goal.difference(torch.ones(1, dtype=torch.float64))
    points = torch.stack([one[:1], two[:1]], 1)
    kinds = set()
    for depth in (0, 3):
        nodes = tree_of(dual, splits, goal, depth, seed=4)
        for i, split in torch.nonzero(splits.open(nodes))[::3].tolist():
            node = nodes.take(torch.tensor([i]))
            member = inside(dual, node, 0, one, two)
            for at in (None, points):
                halves, empty = dual.propagate(splits.halves(node, torch.tensor([split]), at))
                parts = [inside(dual, halves, side, one, two) & ~empty[side] for side in (0, 1)]
                assert bool((parts[0] | parts[1])[member].all())
                if parts[0].any() and parts[1].any():
                    kinds.add(split)
    assert min(kinds) < splits.signs <= max(kinds)  # both signs and features really split


def test_the_linear_program_and_its_multipliers_agree() -> None:
    # where a node's best pair respects every unit, it reaches the bound: nothing is lost between
    domain = discrete()
    dual, splits, question, _ = built(domain, WeightedLp(INF), 0.0, 6, 4, seed=3, activation=LEAKY)
    goal = Goal.difference(torch.ones(1, dtype=torch.float64))
    program = LinearProgram(dual, goal)
    exact = 0
    for depth in (0, 4, 8, 12):
        nodes = tree_of(dual, splits, goal, depth, seed=depth)
        at = lines(nodes.layers)
        plain, _, _ = dual.bound(nodes, at)
        for i in range(len(nodes)):
            found = program.solve(nodes, at, i)
            assert found is not None
            one = nodes.take(torch.tensor([i]))
            if found.ray:
                continue
            better, difference = multipliers([found], one, goal)
            upper, _, _ = dual.bound(better, lines(one.layers), difference)
            assert float(upper[0]) <= float(plain[i]) + 1e-6
            assert found.first is not None
            assert found.second is not None
            assert found.violation is not None
            x = torch.from_numpy(np.stack([found.first, found.second]))
            z = question.network.forward(x)
            if found.violation.max() < 1e-9:
                exact += 1
                assert float(z[1] - z[0]) == pytest.approx(float(upper[0]), abs=1e-5)
    assert exact > 5


def test_a_ray_shows_that_a_part_is_empty() -> None:
    dual, splits, _, pairs = built(mixed(), WeightedLp(INF), 0.1, 6, 5, seed=4)
    goal = Goal.difference(torch.ones(1, dtype=torch.float64))
    one, two = sampled(pairs)
    tree = Tree(dual, splits, goal, lambda: 0.0, lambda *_: None, lambda *_: None)
    empty = 0
    for seed in range(6):
        nodes = tree_of(dual, splits, goal, 9, seed=seed)
        at = lines(nodes.layers)
        for i in range(len(nodes)):
            found = tree.programs[0].solve(nodes, at, i)
            if found is not None and found.ray:
                assert not inside(dual, nodes, i, one, two).any()
                empty += tree._along(nodes.take(torch.tensor([i])), found) < 0
    assert empty > 3


@pytest.mark.parametrize(
    ("name", "activation"),
    [("l1", nn.ReLU()), ("l2", LEAKY), ("linf", nn.LeakyReLU(-0.4)), ("mahalanobis", nn.ReLU())],
)
def test_the_optimum_over_everybody(name: str, activation: nn.Module) -> None:
    domain = discrete(mean=True)
    s = np.eye(domain.d) + 0.2
    distance, apart, epsilon = {
        "l1": (WeightedLp(1), lp(1, 1.0, domain), 1.3),
        "l2": (WeightedLp(2), lp(2, 1.0, domain), 1.8),
        "linf": (WeightedLp(INF), lp(INF, 1.0, domain), 1.0),
        "mahalanobis": (Mahalanobis(s), quadratic(s, domain), 1.5),
    }[name]
    module = network(domain.d, 6, 4, seed=5, activation=activation)
    x, near = similar(domain, apart, epsilon)
    optimum = worst(answers(module, x), near)
    found = rf.certify(
        module, domain, distance, epsilon, method="bab", outputs="values", gap=1e-4, seconds=20
    )
    assert optimum > 0.1
    assert found.lower == pytest.approx(optimum, rel=1e-4)
    assert optimum * (1 - 1e-9) <= found.upper
    assert found.tier == "float64"
    if name == "linf":  # what a ball allows of exchanges together is not closed
        assert found.upper <= optimum * (1 + 2e-4)


def test_several_outputs_probabilities_and_decisions() -> None:
    domain = discrete()
    x, near = similar(domain, lp(INF, 1.0, domain), 0.0)

    def ask(module: nn.Module, **more: Any) -> Any:
        given = {"method": "bab", "seconds": 20, "gap": 1e-3, **more}
        return rf.certify(module, domain, WeightedLp(INF), 0.0, **given)

    many = network(domain.d, 5, 4, seed=6, outputs=3)
    optimum = worst(answers(many, x), near)
    found = ask(many, outputs="values")
    assert found.lower <= optimum * (1 + 1e-6)
    assert optimum * (1 - 1e-9) <= found.upper <= optimum * 1.002
    one = network(domain.d, 5, 4, seed=7)
    p = 1 / (1 + np.exp(-answers(one, x)))
    optimum = worst(p, near)
    found = ask(one)
    assert found.lower <= optimum * (1 + 1e-6)
    assert optimum * (1 - 1e-9) <= found.upper <= optimum * 1.002
    for cut in (*np.quantile(p, [0.1, 0.5, 0.9]), float(p.max()) + 1e-4):
        up = p[:, 0] > cut
        flips = bool((near & (up[:, None] != up[None])).any())
        assert ask(one, threshold=float(cut)).verdict == ("unfair" if flips else "fair")


def test_stopped_and_run_on_it_ends_where_one_run_does() -> None:
    dual, splits, _, _ = built(discrete(), WeightedLp(INF), 0.0, 7, 6, seed=8)
    goal = Goal.difference(torch.ones(1, dtype=torch.float64))
    heard: list[float] = []

    def fresh() -> Tree:
        return Tree(dual, splits, goal, lambda: 0.0, lambda b, _: heard.append(b), lambda *_: None)

    whole = fresh()
    until = len(heard) + 12
    whole.run(lambda: len(heard) >= until)
    steps = whole.bound
    parts, ends = fresh(), [0]
    for more in (3, 5, 12):
        ends.append(len(heard) + more)
        parts.run(lambda: len(heard) >= ends[-1])
    assert parts.bound <= steps + 1e-12
    assert heard[-1] == parts.bound


def test_whole_people_near_mixed_ones_are_legal() -> None:
    domain = mixed()
    pairs = Pairs.of(domain, WeightedLp(INF), 0.5)
    rng = np.random.default_rng(0)
    first = domain.to_inputs((domain.low + domain.high) / 2)
    for _, where in domain.groups:
        first[where] = np.linspace(1, 2, where.stop - where.start)
        first[where] /= first[where].sum()
    one, two = whole_people(pairs, first, first, 50, rng)
    assert len(one) == 50
    legal = [
        domain.contains(np.clip(domain.to_raw(x), domain.low, domain.high)) for x in (one, two)
    ]
    assert all(part.all() for part in legal)
    assert len(np.unique(one, axis=0)) > 3


@pytest.mark.parametrize("slope", [0.1, -3.0, 1e4])
def test_sizes_that_rounding_is_measured_by_are_never_exceeded(slope: float) -> None:
    domain = mixed()
    dual, _, question, pairs = built(
        domain, WeightedLp(INF), 0.5, 4, 3, seed=1, activation=nn.LeakyReLU(slope)
    )
    one, _ = sampled(pairs)
    most = units(dual, one).abs().amax(0)
    assert bool((most <= dual.sizes).all())
    assert bool((question.network.forward(one).abs().amax(0) <= dual.largest).all())


def test_smooth_units_are_refused() -> None:
    domain = discrete()
    module = network(domain.d, 4, activation=nn.Tanh())
    with pytest.raises(InputError, match=r"ReLU.*got tanh.*--method milp"):
        rf.certify(module, domain, WeightedLp(1), 1.0, method="bab")
    assert math.isfinite(rf.certify(module, domain, WeightedLp(1), 1.0, method="bounds").upper)
