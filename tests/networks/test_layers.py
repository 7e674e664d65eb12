"""Finding layers and reading what flows into them, in networks of several shapes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from retrofair.data import GroupedData, grouped
from retrofair.errors import InputError
from retrofair.networks import MLP
from retrofair.networks.layers import last_layer, reading, representation, weight_layers
from retrofair.networks.memory import part_of
from retrofair.networks.outputs import evaluating


class Convolutions(nn.Module):
    """(n, 1, 6, 6) -> (n,), ending in a 1 x 1 convolution, or in a linear layer."""

    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.linear = linear
        self.out = nn.Linear(3 * 4 * 4, 1) if linear else nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.out(x.flatten(1))[:, 0] if self.linear else self.out(x).mean((1, 2, 3))


class Backwards(nn.Module):
    """Layers that run in another order than they are defined, one of them never."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)
        self.unused = nn.Linear(4, 4)
        self.middle = nn.Linear(5, 4)
        self.first = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.middle(torch.relu(self.first(x)))))[:, 0]


class Tied(nn.Module):
    """A layer that runs twice, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(3, 3)
        self.again = self.twice
        self.copy = nn.Linear(3, 3)
        self.copy.weight = self.twice.weight
        self.out = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.copy(torch.tanh(self.again(torch.tanh(self.twice(x))))))[:, 0]


class Sequences(nn.Module):
    """(n, 5) read as 5 steps; an embedding, and a linear layer over every step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.each = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.each(self.table(x.long()))[..., 0].mean(1)


def data(*shape: int, n: int = 10) -> GroupedData:
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    row = torch.arange(n)
    return GroupedData(x=x, y=row % 2, group=row % 2, group_names=("a", "b"))


NETWORKS: list[tuple[nn.Module, GroupedData, list[str]]] = [
    (MLP(3, depth=2, width=4), data(3), ["hidden.0", "hidden.4", "out"]),
    (Convolutions(linear=True), data(1, 6, 6), ["first", "out"]),
    (Convolutions(linear=False), data(1, 6, 6), ["first", "out"]),
    (Backwards(), data(3), ["first", "middle", "last"]),
    (Tied(), data(3), ["twice", "copy", "out"]),
]
each = pytest.mark.parametrize(
    ("network", "rows", "names"), NETWORKS, ids=lambda v: type(v).__name__
)


@each
def test_layers_are_named_in_the_order_in_which_they_run(
    network: nn.Module, rows: GroupedData, names: list[str]
) -> None:
    assert weight_layers(network, rows.x) == names
    assert last_layer(network, rows.x) == names[-1]


@each
def test_nothing_is_left_in_the_network(
    network: nn.Module, rows: GroupedData, names: list[str]
) -> None:
    network.train()
    state, random = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    weight_layers(network, rows.x)
    representation(network, rows, last_layer(network, rows.x))
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert all(m.training for m in network.modules())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)


@each
def test_the_representation_is_what_the_layer_reads(
    network: nn.Module, rows: GroupedData, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = names[-1]
    found = representation(network, rows, name)
    assert found.dtype == torch.float32
    assert not found.is_inference()
    layer = network.get_submodule(name)
    if isinstance(layer, nn.Linear):  # the layer makes the network's output of it
        with evaluating(network):
            assert torch.allclose(layer(found)[:, 0], network(rows.x).reshape(-1), atol=1e-6)
    monkeypatch.setattr(grouped, "BATCH_ROWS", 3)
    assert torch.allclose(representation(network, rows, name), found, atol=1e-6)


def test_of_a_convolution_it_is_the_mean_over_positions() -> None:
    network, rows = Convolutions(linear=False).eval(), data(1, 6, 6)
    with torch.no_grad():
        maps = torch.relu(network.norm(network.first(rows.x)))
    assert torch.allclose(representation(network, rows, "out"), maps.mean((2, 3)), atol=1e-6)


def test_of_a_linear_layer_over_steps_it_is_the_mean_over_steps() -> None:
    network = Sequences().eval()
    steps = torch.randint(7, (10, 5), generator=torch.Generator().manual_seed(0))
    rows = data(5)
    rows = GroupedData(x=steps.float(), y=rows.y, group=rows.group, group_names=rows.group_names)
    found = representation(network, rows, "each")
    assert found.shape == (10, 4)
    with torch.no_grad():
        assert torch.allclose(found, network.table(steps).mean(1), atol=1e-6)
        assert torch.allclose(network.each(found)[:, 0], network(rows.x), atol=1e-6)
    assert weight_layers(network, rows.x) == ["each"]  # a table of embeddings is no layer here


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (nn.Linear(3, 1), None),
        (nn.Sequential(nn.Linear(3, 1), nn.Tanh()), None),
        (Backwards(), "first"),
    ],
)
def test_what_the_first_layer_reads_no_weight_can_change(network: nn.Module, name: Any) -> None:
    rows = data(3)
    assert last_layer(network, rows.x, name) == ""  # stands for the network's own output
    with evaluating(network):
        out = network(rows.x).reshape(10, 1)
    assert torch.equal(representation(network, rows, ""), out)


@pytest.mark.parametrize(("trained", "found"), [(1, ""), (2, "last"), (3, "last"), (None, "last")])
def test_what_no_trained_weight_can_change_is_not_read(trained: int | None, found: str) -> None:
    assert last_layer(Backwards(), data(3).x, trained=trained) == found
    assert last_layer(Backwards(), data(3).x, "middle", 2) == ""


def test_a_layer_may_be_named() -> None:
    assert last_layer(Backwards(), data(3).x, "middle") == "middle"
    with pytest.raises(InputError, match="unknown layer 'midle': did you mean 'middle'"):
        last_layer(Backwards(), data(3).x, "midle")
    with pytest.raises(InputError, match="unknown layer 'norm'"):
        last_layer(Convolutions(linear=True), data(1, 6, 6).x, "norm")


def test_a_network_without_layers() -> None:
    with pytest.raises(InputError, match="at least one linear or convolution layer"):
        weight_layers(nn.Sequential(nn.ReLU(), nn.Flatten(0)), torch.zeros(2, 1))


def test_reading_gives_way_after_a_failure() -> None:
    network = Backwards()
    with pytest.raises(RuntimeError), reading(network, "last"):
        network(torch.zeros(2, 9))
    assert not network.last._forward_pre_hooks


def test_reading_keeps_the_way_back_for_gradients() -> None:
    network = Backwards()
    with reading(network, "last") as seen:
        network(data(3).x)
    seen["input"].sum().backward()
    assert network.first.weight.grad is not None


def test_first_rows_of_any_batch() -> None:
    x = torch.arange(6.0).reshape(3, 2)
    assert part_of(x, slice(2)).tolist() == x[:2].tolist()
    pair: Any = part_of((x, x + 1), slice(1))
    assert [part.tolist() for part in pair] == [x[:1].tolist(), (x + 1)[:1].tolist()]
    assert part_of({"a": x}, slice(1))["a"].tolist() == x[:1].tolist()
