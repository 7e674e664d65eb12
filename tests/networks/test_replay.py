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
    assert before[0] < 2 * len(data)
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
