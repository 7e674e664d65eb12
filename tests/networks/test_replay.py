"""Passes from a late layer on: the same, bit for bit, and without the early layers' work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hugging_cases
import retrofair as rf
from convnets import pictures, streamed, trained
from retrofair.debiasers import Layerwise
from retrofair.networks import HuggingFaceNetwork, replay
from retrofair.networks.layers import representation, weight_layers
from retrofair.networks.outputs import chances, logits
from retrofair.networks.replay import Replay

GOAL = rf.Constrained("spd", epsilon=0.05)
Rows = rf.GroupedData | rf.StreamedData


class Counted(nn.Module):
    """A layer that counts the rows it computes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.rows = layer, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        out: Tensor = self.layer(x)
        return out


class Skips(nn.Module):
    """Early layers that are read late, and written to in place."""

    def __init__(self, *, twice: bool = False, tied: bool = False, random: bool = False) -> None:
        super().__init__()
        self.early, self.middle = Counted(nn.Linear(4, 6)), Counted(nn.Linear(6, 6))
        self.late, self.last = nn.Linear(6, 6), nn.Linear(6, 1)
        self.twice, self.random = twice, random
        if tied:
            self.late.weight = self.middle.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        first = self.early(x)
        second = self.middle(first.relu())
        if self.random:
            second = second + torch.rand(())
        second += first
        second.relu_()
        second = second + self.late(second) + x[:, :1]
        if self.twice:
            second = self.late(second)
        out: Tensor = self.last(second)
        return out


def numbers(n: int = 300) -> rf.GroupedData:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    group = (x[:, 0] > 0).long()
    return rf.GroupedData(x=x, y=(x[:, 1] > 0).long(), group=group, group_names=("a", "b"))


def skips(**options: Any) -> Skips:
    torch.manual_seed(0)
    return Skips(**options).eval()


def changed(network: nn.Module, name: str) -> None:
    weight = network.get_submodule(name).weight
    assert isinstance(weight, nn.Parameter)
    weight.data += torch.randn(weight.shape, generator=torch.Generator().manual_seed(5))


def sentences() -> rf.StreamedData:
    ids = torch.randint(1, 11, (60, 12), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(12) < torch.arange(60)[:, None] % 9 + 3).long()
    rows = [({"input_ids": ids[i], "attention_mask": mask[i]}, i % 2, i % 3 % 2) for i in range(60)]
    return rf.StreamedData.of(rows, ("a", "b"), batch_rows=25)


def kinds() -> dict[str, tuple[nn.Module, Rows]]:
    faces = pictures()
    small = streamed(pictures(60), batch_rows=25)
    sixteen = [(nn.functional.pad(x, (2, 2, 2, 2)), int(y), int(g)) for x, y, g in small.rows]
    images = rf.StreamedData.of(sixteen, ("a", "b"), batch_rows=25)
    torch.manual_seed(3)
    return {
        "skips": (skips(), numbers()),
        "convolutions": (trained(), faces),
        "stream": (trained(), streamed(faces)),
        "resnet": (HuggingFaceNetwork(hugging_cases.resnet()).eval(), images),
        "vit": (HuggingFaceNetwork(hugging_cases.vit()).eval(), images),
        "bert": (HuggingFaceNetwork(hugging_cases.bert()).eval(), sentences()),
        "classes": (HuggingFaceNetwork(hugging_cases.resnet(3)).eval(), images),
    }


@pytest.mark.parametrize(
    "kind", ["skips", "convolutions", "stream", "resnet", "vit", "bert", "classes"]
)
def test_the_same_as_whole_passes_from_any_layer_on(kind: str) -> None:
    network, data = kinds()[kind]
    first, *names = weight_layers(network, next(iter(data))[0])
    assert names
    assert kind == "bert" or Replay.of(network, data, first) is None  # nothing before it
    for name in names:
        made = Replay.of(network, data, name)
        assert made is not None, name
        assert torch.equal(made.inputs, representation(network, data, name))
        changed(network, name)
        assert torch.equal(made.logits(), logits(network, data))
        assert (made.chances() == chances(network, data)).all()


def test_what_ran_before_the_layer_does_not_run_again() -> None:
    network, data = skips(), numbers()
    made = Replay.of(network, data, "late")
    assert made is not None
    assert made.given is None  # x is read after the layer too
    before = network.early.rows, network.middle.rows
    for _ in range(5):
        made.logits()
    assert (network.early.rows, network.middle.rows) == before
    assert before[0] < 3 * len(data)  # two passes, and some looks at a few rows
    logits(network, data)
    assert network.early.rows == before[0] + len(data)  # it is itself again


def test_images_are_not_read_again() -> None:
    data, read = pictures(), list[int]()

    class Watched:
        y, group = data.y, data.group

        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, i: int) -> Any:
            read.append(i)
            return data.x[i], data.y[i], data.group[i]

    made = Replay.of(trained(), rf.StreamedData.of(Watched(), data.group_names), "fc")
    assert made is not None
    read.clear()
    made.logits()
    assert not read


@pytest.mark.parametrize("options", [{"twice": True}, {"random": True}])
def test_where_it_would_not_be_the_same_there_is_none(options: Any) -> None:
    assert Replay.of(skips(**options), numbers(), "late") is None


def test_a_weight_that_an_early_layer_has_too_reaches_it() -> None:
    network, data = skips(tied=True), numbers()
    made = Replay.of(network, data, "late")
    assert made is not None
    changed(network, "late")
    assert torch.equal(made.logits(), logits(network, data))


class Tied(nn.Module):
    """An early layer with the weight of a late one, without being registered so."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.late, self.last = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = nn.functional.linear(x, self.late.weight)
        out: Tensor = self.last(self.late(self.body(first)).relu())
        return out


def test_a_weight_that_reaches_early_layers_by_a_way_of_its_own() -> None:
    torch.manual_seed(0)
    assert Replay.of(Tied().eval(), numbers(), "late") is None


class Choosing(nn.Module):
    """Experts of which a late layer chooses one a row."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.experts = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
        self.late = nn.Linear(6, 3)
        nn.init.zeros_(self.late.weight)  # always the first
        self.late.bias.data = torch.tensor([1e9, 0.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        found = torch.cat([each(x) for each in self.experts], 1)
        return found.gather(1, self.late(self.body(x)).argmax(1, keepdim=True))


def test_what_was_left_out_and_is_read_later_is_computed() -> None:
    torch.manual_seed(0)
    network, data = Choosing().eval(), numbers()
    made = Replay.of(network, data, "late")
    assert made is not None
    network.late.bias.data = torch.tensor([-1e9, 1.0, 0.0])
    changed(network, "late")
    assert torch.equal(made.logits(), logits(network, data))


def test_networks_with_hooks_are_run_as_they_are() -> None:
    network, seen = skips(), list[bool]()
    network.early.register_forward_hook(lambda _m, _x, out: seen.append(bool(out.isnan().any())))
    assert Replay.of(network, numbers(), "late") is None
    assert not any(seen)


class Padded(nn.Module):
    """In eval mode its layers hand on nested tensors, which have no strides."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.table, self.body = nn.Embedding(11, 8), nn.TransformerEncoder(layer, 2)
        self.last = nn.Linear(8, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        read = self.body(self.table(input_ids), src_key_padding_mask=attention_mask == 0)
        out: Tensor = self.last(read[:, 0])
        return out


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_cannot_be_kept_is_computed() -> None:
    torch.manual_seed(0)
    network = Padded().eval()
    method = Layerwise(evaluations=2, layers=1)
    assert rf.debias(network, sentences(), GOAL, method).history


def test_weights_and_buffers_stay_as_they_are() -> None:
    network, data = trained(), pictures()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert Replay.of(network, data, "fc") is not None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = trained(), pictures()
    monkeypatch.setattr(replay, "LIMIT", 1_000)
    assert Replay.of(network, data, "fc") is None


def test_without_memory_there_is_none() -> None:
    network, data = trained(), pictures()
    network.most = 60  # as on a machine of little memory
    assert Replay.of(network, data, "fc") is None


def test_hooks_and_forwards_are_gone_after_a_failure() -> None:
    network, data = skips(), numbers()
    made = Replay.of(network, data, "late")
    assert made is not None
    network.last.weight = nn.Parameter(torch.zeros(1, 99))
    with pytest.raises(RuntimeError):
        made.logits()
    for module in network.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("space", ["directions", "weights"])
def test_layerwise_finds_the_same_with_it_and_without(
    space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, method = pictures(), Layerwise(evaluations=6, layers=3, space=space)
    with_it = rf.debias(trained(), data, GOAL, method, seed=2)
    monkeypatch.setattr(Replay, "of", lambda *_: None)
    without = rf.debias(trained(), data, GOAL, method, seed=2)
    assert with_it.history == without.history
    assert torch.equal(with_it.model(data.x), without.model(data.x))
