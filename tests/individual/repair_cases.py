"""A small network with what is known about it, for the tests of repair."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math

import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.individual import repair

module = importlib.import_module("retrofair.individual.repair")  # the function has its name

PEOPLE = rf.Domain(
    [rf.Continuous("skill", -2, 2), rf.Integer("sex", 0, 1, sensitive=True)],
    mean=[0.0, 0.5],
    spread=[1.0, 0.5],
)
SIMILAR = rf.WeightedLp(math.inf)
QUICK = {"epsilon": 0.05, "seconds": 10.0, "rounds": 4, "valid": None}


def rows(sex: float, n: int = 120) -> tuple[Tensor, Tensor]:
    """x (n, 2) as a network takes it, and a score skill + sex * (0 or 1) (n,)."""
    g = torch.Generator().manual_seed(0)
    skill = torch.rand(n, generator=g) * 4 - 2
    male = torch.randint(2, (n,), generator=g).float()
    return torch.stack([skill, 2 * male - 1], 1), skill + sex * (male - 0.5)


def people(sex: float = 1.0, skill: float = 1.0) -> rf.GroupedData:
    x, _ = rows(sex)
    y = (skill * x[:, 0] + sex * x[:, 1] / 2 > 0).long()
    group = (x[:, 1] > 0).long()
    return rf.GroupedData(x=x, y=y, group=group, group_names=("F", "M"))


def net(skill: float = 2.0, sex: float = 1.0) -> nn.Sequential:
    """Exactly skill * x0 + sex * x1 as a logit, through ReLUs."""
    made = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        made[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        made[0].bias.zero_()
        made[2].weight.copy_(torch.tensor([[skill, -skill, sex, -sex]]))
        made[2].bias.zero_()
    return made


def mended(network: nn.Module, data, delta: float, **options):
    given = {**QUICK, **options}
    return repair(network, data, PEOPLE, SIMILAR, given.pop("epsilon"), delta, **given)


def scripted(monkeypatch: pytest.MonkeyPatch, *networks: nn.Module) -> list[dict]:
    """Fine-tuning that answers with these networks in turn; what it was asked is returned."""
    asked: list[dict] = []

    def train(network, data, domain, distance, epsilon, lam, **options):
        asked.append({"network": network, "lam": lam, **options})
        return copy.deepcopy(networks[len(asked) - 1]).eval()

    monkeypatch.setattr(module, "train_individually_fair", train)
    return asked


def same(one: nn.Module, two: nn.Module) -> bool:
    state = two.state_dict()
    return all(torch.equal(v, state[k]) for k, v in one.state_dict().items())


def timeless(found) -> list:
    """The rounds without what hangs on the clock: the last certificate's search for a pair does."""
    return [
        dataclasses.replace(r, seconds=0.0, lower=round(r.lower, 5), upper=round(r.upper, 5))
        for r in found.history
    ]


def stopping_after(number: int):
    """An on_round that stops as Ctrl-C does."""

    def stop(done):
        if done.number == number:
            raise KeyboardInterrupt

    return stop


def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real fine-tuning, of fewer epochs."""
    real = module.train_individually_fair
    monkeypatch.setattr(
        module, "train_individually_fair", lambda *a, **o: real(*a, **{**o, "epochs": 6})
    )
