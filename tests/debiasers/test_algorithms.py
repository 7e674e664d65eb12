"""The parts of the weight-changing methods against the papers' formulas and plain twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair import metrics
from retrofair.debiasers import Adversarial, Layerwise, Random
from retrofair.debiasers.adversarial import minibatch_bias
from retrofair.debiasers.critics import ConcatenatedCritic, PooledCritic, layer_rates
from retrofair.debiasers.gbrt import GBRT
from retrofair.debiasers.layerwise import _directions, _group_directions, _weight_box
from retrofair.debiasers.perturbed import Flat
from retrofair.debiasers.zhang import project
from retrofair.networks import MLP

SPD = rf.Constrained("spd", epsilon=0.05)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- random ---------------------------------------------------------------------------------


def test_every_weight_gets_its_own_factor_and_the_statistics_stay():
    net = MLP(5, width=4, depth=2)
    with torch.no_grad():
        for buffer in net.buffers():
            buffer.add_(1)
        for parameter in net.parameters():
            parameter.uniform_(0.5, 1.5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flat = Flat(net)
    factors = Random(scale=0.1).noise(len(flat), generator())
    flat.scale_by([factors])
    buffers = {name for name, _ in net.named_buffers()}
    found = [v / before[n] for n, v in net.state_dict().items() if n not in buffers]
    assert torch.allclose(
        torch.cat([f.reshape(-1) for f in found]).sort().values, factors.sort().values
    )
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())
    assert len(flat) == sum(p.numel() for p in net.parameters())


def test_factors_have_mean_one_and_the_given_standard_deviation():
    noise = Random(scale=0.1).noise(200_000, generator())
    assert float(noise.mean()) == pytest.approx(1, abs=0.001)
    assert float(noise.std()) == pytest.approx(0.1, abs=0.001)


def test_without_batch_norm_its_weights_stay():
    net = MLP(5, width=4, depth=2)
    flat = Flat(net, batch_norm=False)
    flat.scale_by([torch.full((len(flat),), 2.0)])
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert all(torch.equal(m.weight, torch.ones(4)) for m in norms)
    assert len(flat) == sum(p.numel() for p in net.parameters()) - 2 * 2 * 4


def test_tied_weights_are_perturbed_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    flat = Flat(net)
    flat.scale_by([torch.full((len(flat),), 3.0)])
    assert len(flat) == 9 + 3 + 3
    assert net[1].weight is net[0].weight


def test_random_equals_a_plain_loop(splits, trained):
    """The fast loop against deep copies, a plain perturbation and the same threshold search."""
    import copy

    from retrofair.debiasers.base import search
    from retrofair.networks import probabilities

    data, trials = splits.valid, 6
    result = Random(trials=trials)(trained, data, SPD, generator=generator(5))
    plain, rank = generator(5), []
    thresholds = search(data, SPD)
    for trial in range(trials + 1):
        net = copy.deepcopy(trained)
        if trial:
            parameters = list(net.parameters())
            size = sum(p.numel() for p in parameters)
            factors = torch.empty(size).normal_(1.0, 0.1, generator=plain)
            with torch.no_grad():
                for parameter in _module_order(net):
                    part, factors = factors[: parameter.numel()], factors[parameter.numel() :]
                    parameter.mul_(part.view_as(parameter))
        rank.append(thresholds.best(probabilities(net, data)))
    assert [r["objective"] for r in result.history] == pytest.approx(
        [float(SPD.score(choice.counts)) for choice in rank]
    )
    best = max(rank, key=lambda choice: choice.rank)
    assert result.rule.threshold == pytest.approx(best.threshold)


def _module_order(net: nn.Module) -> list[nn.Parameter]:
    return [p for module in net.modules() for p in module.parameters(recurse=False)]


# --- layerwise ------------------------------------------------------------------------------


def toy(n: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = generator(1)
    group = torch.randint(2, (n,), generator=g)
    y = torch.randint(2, (n,), generator=g).float()
    x = torch.randn(n, 6, generator=g)
    x[:, 0] += 3.0 * group
    x[:, 1] += 3.0 * y
    return x, y, group


def test_directions_are_orthonormal_and_start_where_the_groups_differ():
    x, y, group = toy()
    found = _group_directions(x, y, group, 2)
    assert torch.allclose(found @ found.T, torch.eye(len(found)), atol=1e-5)
    difference = x[group == 1].mean(0) - x[group == 0].mean(0)
    cosine = torch.nn.functional.cosine_similarity(found[0], difference, dim=0).abs()
    assert float(cosine) > 0.999
    # the label's direction lies in the space that is searched
    labels = x[y == 1].mean(0) - x[y == 0].mean(0)
    assert torch.allclose(found.T @ (found @ labels), labels, atol=1e-4)


def test_minus_one_erases_a_direction_and_keeps_the_mean():
    x, y, group = toy()
    layer = nn.Linear(6, 4)
    mean = layer(x).mean(0).detach()
    gap = (layer(x)[group == 1].mean(0) - layer(x)[group == 0].mean(0)).detach()
    dims, edit = _directions(layer, x, y, group, 2)
    point = np.zeros(dims)
    point[0] = -1
    edit(point)
    after = (layer(x)[group == 1].mean(0) - layer(x)[group == 0].mean(0)).detach()
    assert float(gap.norm()) > 0.5
    assert float(after.norm()) < 1e-4
    assert torch.allclose(layer(x).mean(0), mean, atol=1e-5)


@pytest.mark.parametrize("space", ["directions", "weights"])
def test_the_origin_is_the_original_layer(space):
    x, y, group = toy()
    layer = nn.Linear(6, 4)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    dims, edit = _directions(layer, x, y, group, 2) if space == "directions" else _weight_box(layer)
    edit(np.random.default_rng(0).normal(size=dims))
    assert not torch.equal(layer.weight, weight)
    edit(np.zeros(dims))
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


def test_a_convolution_is_edited_like_the_linear_layer_it_is():
    """A 1x1 convolution over one position is a linear layer."""
    x, y, group = toy()
    linear, conv = nn.Linear(6, 4), nn.Conv2d(6, 4, 1)
    with torch.no_grad():
        conv.weight.copy_(linear.weight[:, :, None, None])
        conv.bias.copy_(linear.bias)
    edits = [_directions(layer, x, y, group, 2) for layer in (linear, conv)]
    point = np.random.default_rng(0).normal(size=edits[0][0])
    for dims, edit in edits:
        assert dims == len(point)
        edit(point)
    assert torch.allclose(conv(x[:, :, None, None])[:, :, 0, 0], linear(x), atol=1e-5)


def test_only_one_layer_differs_from_the_original(splits, trained):
    result = rf.debias(trained, splits.valid, SPD, Layerwise(evaluations=12))
    before = trained.state_dict()
    changed = {
        name.rsplit(".", 1)[0]
        for name, value in result.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert len(changed) == 1
    layers = result.history_frame().groupby("layer").size().to_dict()
    assert layers.pop("") == 1
    assert set(layers.values()) == {12}


def test_the_optimiser_beats_random_search_at_equal_budget():
    """On functions of known minimum, 4 dimensions, 20 evaluations each, many repetitions."""
    wins = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        centre, weight = random.uniform(-0.7, 0.7, 4), random.uniform(0.2, 1.5, 4)
        found = []
        for initial in (10, 20):
            optimiser = GBRT(4, np.random.default_rng(seed), initial=initial)
            for _ in range(20):
                point = optimiser.ask()
                optimiser.tell(point, float((weight * (point - centre) ** 2).sum()))
            found.append(min(optimiser.values))
        if found[0] != found[1]:  # both start with the same ten points
            wins.append(found[0] < found[1])
    assert len(wins) >= 12
    assert np.mean(wins) >= 0.7


# --- adversarial ----------------------------------------------------------------------------


@pytest.mark.parametrize("measure", metrics.ALL, ids=lambda m: m.name)
def test_the_bias_of_minibatches_equals_a_loop(measure):
    random = np.random.default_rng(0)
    y, group = random.integers(2, size=(7, 40)), random.integers(3, size=(7, 40))
    chance = random.random((7, 40))
    group[0] = 2  # a single group: no value, which counts as unbiased
    found = minibatch_bias(measure, y, chance, group, 3)
    for row in range(7):
        counts = np.zeros((3, 2, 2))
        for label, p, code in zip(y[row], chance[row], group[row], strict=True):
            counts[code, label, 1] += p
            counts[code, label, 0] += 1 - p
        signed = measure.ideal == 0
        expected = float(measure(counts) if signed else measure.bias(counts))
        assert found[row] == pytest.approx(0.0 if np.isnan(expected) else expected)


@pytest.mark.parametrize("measure", metrics.ALL, ids=lambda m: m.name)
def test_a_fair_minibatch_has_no_bias_whatever_the_measure(measure):
    y, group = np.tile([0, 0, 1, 1], 10)[None], np.tile([0, 1], 20)[None]
    chance = np.where(y == 1, 0.7, 0.2)
    assert minibatch_bias(measure, y, chance, group, 2) == pytest.approx([0.0])


def test_the_losses_are_the_papers():
    task, epsilon, margin, strength = torch.tensor(0.7), 0.05, 0.02, 20.0
    product = Adversarial(loss="product", strength=strength, margin=margin)
    for bias in (0.0, 0.02, 0.03, 0.06, 0.5):
        expected = max(1.0, strength * (bias - epsilon + margin) + 1) * 0.7
        got = product.actor_loss(task, torch.tensor(bias), rf.Constrained("spd", epsilon))
        assert float(got) == pytest.approx(expected)
    total = Adversarial(loss="sum").actor_loss(task, torch.tensor(0.4), rf.Weighted("spd", 0.75))
    assert float(total) == pytest.approx(0.75 * 0.4 + 0.25 * 0.7)
    given = Adversarial(loss="sum", lam=0.25).actor_loss(task, torch.tensor(0.4), SPD)
    assert float(given) == pytest.approx(0.25 * 0.4 + 0.75 * 0.7)
    auto = Adversarial()
    assert float(auto.actor_loss(task, torch.tensor(0.0), SPD)) == pytest.approx(0.7)
    assert float(
        auto.actor_loss(task, torch.tensor(0.0), rf.Weighted("spd", 0.75))
    ) == pytest.approx(0.25 * 0.7)


def test_critics_read_whole_minibatches():
    rows = torch.randn(3, 8, 5)
    pooled = PooledCritic(5, generator())
    order = torch.randperm(8)
    assert torch.allclose(pooled(rows), pooled(rows[:, order]), atol=1e-6)
    joined = ConcatenatedCritic(5, 8, generator()).eval()
    assert joined(rows).shape == pooled(rows).shape == (3, 1)
    assert not torch.allclose(joined(rows), joined(rows[:, order]))
    changed = rows.clone()
    changed[:, 7] += 1  # the last row matters to both
    assert not torch.allclose(pooled(rows), pooled(changed))
    assert not torch.allclose(joined(rows), joined(changed))


def test_the_critic_learns_the_bias_where_it_sees_the_group(splits, trained):
    """Its error falls well below the variance it has to explain."""
    method = Adversarial(epochs=4, critic_steps=150, actor_steps=1, learning_rate=1e-6)
    history = method(trained, splits.valid, SPD, generator=generator()).history
    assert history[-1]["critic_error"] < 0.3


# --- zhang ----------------------------------------------------------------------------------


def test_the_projected_gradient_is_that_of_the_paper():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    v = nn.Parameter(torch.tensor([3.0]))
    alone = nn.Parameter(torch.tensor([4.0]))  # the critic does not depend on it
    task = (w * torch.tensor([2.0, -1.0])).sum() + 3 * v.sum() + alone.sum() ** 2
    critic = (w * torch.tensor([0.5, 4.0])).sum() - 2 * v.sum()
    project([w, v, alone], task, critic, alpha=0.8)
    g, c = np.array([2, -1, 3, 8.0]), np.array([0.5, 4, -2, 0.0])
    unit = c / np.linalg.norm(c)
    expected = g - (g @ unit) * unit - 0.8 * c
    got = torch.cat([w.grad, v.grad, alone.grad]).numpy()
    assert got == pytest.approx(expected)
    # without the critic's own term the update no longer changes the critic's loss
    project([w, v, alone], (w.sum() + v.sum()) ** 2, (w**2).sum() - 2 * v.sum(), alpha=0.0)
    assert float((w.grad * 2 * w.detach()).sum() - 2 * v.grad.sum()) == pytest.approx(0, abs=1e-4)


def test_early_layers_learn_more_slowly():
    net = MLP(3, width=2, depth=2, batch_norm=False)
    rates = [group["lr"] for group in layer_rates(net, 1e-3, early=0.1)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1e-3)
    assert rates == sorted(rates)
