"""Pruning: units are removed whose removal lowers the bias, as the gradient tells."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import retrofair as rf
from retrofair import metrics
from retrofair.debiasers import Pruning
from retrofair.debiasers.pruning import gains
from retrofair.debiasers.smooth import soft_bias, soft_counts
from retrofair.errors import InputError


def bias_of(network: nn.Module, data: rf.GroupedData) -> Tensor:
    decided = torch.sigmoid(network(data.x).reshape(-1))
    return soft_bias(metrics.SPD, soft_counts(decided, data.y, data.group, 2))


@pytest.mark.parametrize("kernel", [None, 2])
def test_gains_are_what_slightly_smaller_weights_gain(kernel: int | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 4) + torch.arange(300)[:, None] % 2
    data = rf.GroupedData(
        x=x, y=(x[:, 0] > 0.5).long(), group=torch.arange(300) % 2, group_names=("a", "b")
    )
    layers: list[nn.Module] = [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)]
    if kernel:
        shape = nn.Unflatten(1, (1, 2, 2))
        layers = [shape, nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, kernel), nn.Flatten()]
    network = nn.Sequential(*layers)
    weight = network[3 if kernel else 2].weight
    (found,) = gains(bias_of(network, data), [weight])
    before, step = float(bias_of(network, data).detach()), 1e-2
    for unit in range(len(found)):
        smaller = copy.deepcopy(network)
        with torch.no_grad():
            smaller[3 if kernel else 2].weight[:, unit] *= 1 - step
        change = before - float(bias_of(smaller, data).detach())
        assert change == pytest.approx(step * float(found[unit].detach()), rel=0.1, abs=2e-5)


@pytest.mark.parametrize("computed", [None, weight_norm, spectral_norm])
def test_it_removes_the_unit_that_carries_the_group(computed: Any) -> None:
    # one hidden unit reads the group, another what matters
    torch.manual_seed(0)
    group = torch.arange(2000) % 2
    skill = torch.randn(2000)
    data = rf.GroupedData(
        x=torch.stack([skill, group.float()], 1),
        y=(skill + 0.1 * torch.randn(2000) > 0).long(),
        group=group,
        group_names=("a", "b"),
    )
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.Flatten(0))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        network[0].bias.zero_()
        network[2].weight.copy_(torch.tensor([[2.0, 1.5, -2.0]]))
        network[2].bias.fill_(-0.5)
    if computed is not None:
        computed(network[2])
    found = rf.debias(network, data, rf.Constrained("spd", epsilon=0.05), "pruning")
    assert found.status is rf.Status.MET
    weight = found.model[2].weight[0].tolist()
    assert [value != 0 for value in weight] == [True, False, True]
    assert computed is not None or weight == [2.0, 0.0, -2.0]
    assert found.history[1]["removed"] == 1
    assert found.about["notes"] == []
    assert found.after.performance > 0.9
    assert found.history[1]["removed"] == 1


def test_a_single_layer_stays_as_it_is(splits: rf.Splits) -> None:
    network = nn.Sequential(nn.Linear(splits.valid.x.shape[1], 1), nn.Flatten(0))
    found = rf.debias(network, splits.valid, rf.Constrained("spd", epsilon=0.05), "pruning")
    assert torch.equal(found.model[0].weight, network[0].weight)
    assert len(found.history) == 1


def test_options() -> None:
    with pytest.raises(InputError, match="rounds >= 1"):
        Pruning(rounds=0)
    with pytest.raises(InputError, match="share in"):
        Pruning(share=0.0)
