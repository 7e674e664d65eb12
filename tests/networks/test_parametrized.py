"""Layers whose weight is computed: seen as layers, and asked without being changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from retrofair.networks.layers import last_layer, reading, weight_layers
from retrofair.networks.outputs import evaluating
from retrofair.networks.parametrized import (
    columns_of,
    has_signs,
    is_computed,
    is_innermost,
    named_layers,
    own_parameters,
    weight_of,
)

KINDS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


class Mixed(nn.Module):
    """Computes a weight with a layer of its own."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mix = nn.Linear(size, size)

    def forward(self, weight: Tensor) -> Tensor:
        return self.mix(weight)


def network(kind: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(kind(nn.Linear(3, 4)), nn.ReLU(), kind(nn.Linear(4, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_layers_and_asking_changes_nothing(kind: str) -> None:
    made = network(KINDS[kind]).train()
    made[0].parametrizations.eval()
    before, modes = copy.deepcopy(made.state_dict()), [m.training for m in made.modules()]
    x = torch.randn(5, 3)
    assert weight_layers(made, x) == ["0", "2"]
    assert last_layer(made, x) == "2"
    with reading(made, "2") as seen, evaluating(made):
        made(x)
    assert seen["input"].shape == (5, 4)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert [m.training for m in made.modules()] == modes
    found = weight_of(made[2])
    assert found is not None
    assert torch.equal(found, made.eval()[2].weight)  # that of eval mode


def test_what_computes_a_weight_is_no_layer() -> None:
    layer = nn.Linear(3, 4)
    parametrize.register_parametrization(layer, "weight", Mixed(3))
    made = nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 1))
    assert [name for name, _ in named_layers(made)] == ["", "0", "1", "2"]
    assert weight_layers(made, torch.randn(2, 3)) == ["0", "2"]
    assert [is_innermost(m) for _, m in named_layers(made)] == [False, True, True, True]
    assert {id(p) for p in own_parameters(layer)} == {id(p) for p in layer.parameters()}
    assert is_computed(layer)
    assert not is_computed(made[2])


def test_a_layer_has_its_own_parameters_only() -> None:
    outer = nn.MultiheadAttention(4, 2)
    names = {name for name, p in outer.named_parameters() for q in own_parameters(outer) if p is q}
    assert names == {"in_proj_weight", "in_proj_bias"}


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Linear(5, 1), nn.Conv2d(3, 4, 2)])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_columns_that_can_be_removed(kind: str, layer: nn.Module) -> None:
    made = KINDS[kind](copy.deepcopy(layer)).eval()
    before = copy.deepcopy(made.state_dict())
    found = columns_of(made)
    assert found is not None
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    with torch.no_grad():
        found[:, 1] = 0
    units = made.weight.transpose(0, 1).flatten(1).any(1)
    assert units.tolist() == [k != 1 for k in range(len(units))]


@pytest.mark.parametrize("inputs_outputs", [(5, 4), (4, 5), (4, 4), (5, 1)])
@pytest.mark.parametrize("how", ["matrix_exp", "cayley", "householder"])
def test_of_orthogonal_weights_no_column_can_be_removed(how: str, inputs_outputs: Any) -> None:
    made = parametrizations.orthogonal(nn.Linear(*inputs_outputs), orthogonal_map=how)
    assert columns_of(made) is None
    assert has_signs(made) == (how == "householder")


def test_a_weight_that_is_its_own_or_made_by_a_hook() -> None:
    layer = nn.Linear(5, 4)
    assert columns_of(layer) is layer.weight
    prune.identity(layer, "weight")
    assert columns_of(layer) is None
    assert not has_signs(layer)
