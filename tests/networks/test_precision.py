"""Lower precision on a CPU, with and without instructions for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.debiasers import Adversarial, Lagrangian
from retrofair.networks import precision, train_network


class Watched(nn.Sequential):
    """Notes the type that its last layer answers in."""

    types: ClassVar[set[torch.dtype]] = set()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        if self.training:
            self.types.add(out.dtype)
        return out


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    Watched.types.clear()
    return Watched(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 1))


@pytest.fixture(params=[True, False])
def native(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    found = {"avx512_bf16": request.param}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    precision.in_hardware.cache_clear()
    yield request.param
    precision.in_hardware.cache_clear()


METHODS = (
    Lagrangian(epochs=2, steps=20),
    Adversarial(epochs=2, critic_steps=10, actor_steps=20),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_a_method_in_lower_precision(
    method: Any, native: bool, net: nn.Module, splits: Any
) -> None:
    goal = rf.Constrained("spd", epsilon=0.05)
    full = rf.debias(net, splits.valid, goal, method, outputs="logits")
    assert Watched.types == {torch.float32}
    Watched.types.clear()
    mixed = dataclasses.replace(method, mixed=True)
    lower = rf.debias(net, splits.valid, goal, mixed, outputs="logits")
    assert Watched.types == {torch.bfloat16 if native else torch.float32}
    one, two = (each.model.state_dict() for each in (full, lower))
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    moved = max(float((one[name] - value).abs().max()) for name, value in net.state_dict().items())
    assert all(value.dtype == torch.float32 for value in two.values())
    assert apart < 0.3 * moved if native else apart == 0
    assert (apart > 0) == native


def test_training_in_lower_precision(native: bool, net: nn.Module, splits: Any) -> None:
    trained = train_network(net, splits.train, splits.valid, epochs=2, mixed=True)
    assert Watched.types == {torch.bfloat16 if native else torch.float32}
    assert rf.audit(trained, splits.test)["balanced_accuracy"].value > 0.6
    assert all(value.dtype == torch.float32 for value in trained.parameters())


def test_a_version_of_torch_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    precision.in_hardware.cache_clear()
    assert not precision.in_hardware()
    precision.in_hardware.cache_clear()
