"""Runs that are kept are those of the same question, and of no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.errors import InputError
from retrofair.metrics import Array


class Shifted(nn.Module):
    """Depends on a plain attribute, which no weight shows."""

    def __init__(self, sign: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Linear(4, 1, dtype=dtype)
        self.sign = sign

    def forward(self, x: Tensor) -> Tensor:
        return self.sign * self.last(x.to(self.last.weight.dtype))[:, 0]


def people() -> rf.GroupedData:
    torch.manual_seed(1)
    x = torch.randn(400, 4)
    return rf.GroupedData(
        x=x, y=(x[:, 0] > 0).long(), group=torch.arange(400) % 2, group_names=("a", "b")
    )


def threshold(net: nn.Module, measure: object, store: Path) -> float:
    front = rf.frontier(
        net,
        people(),
        measure,  # type: ignore[arg-type]
        methods=["threshold"],
        bounds=[0.1],
        store=store,
        outputs="logits",
    )
    return front.tried[0].result.threshold


def test_another_network_or_measure_is_another_question(tmp_path: Path) -> None:
    def scaled(k: float) -> Callable[[Array, Array, Array], float]:
        def measure(y: Array, prediction: Array, group: Array) -> float:
            return k * abs(prediction[group == 0].mean() - prediction[group == 1].mean())

        return measure

    for net, measure in (
        (Shifted(1.0), "spd"),
        (Shifted(-1.0), "spd"),
        (Shifted(1.0), scaled(1.0)),
        (Shifted(1.0), scaled(5.0)),
        (Shifted(1.0, torch.bfloat16), "spd"),
    ):
        kept = len(list(tmp_path.iterdir()))
        first = threshold(net, measure, tmp_path)
        assert len(list(tmp_path.iterdir())) == kept + 1
        assert threshold(net, measure, tmp_path) == first
        assert len(list(tmp_path.iterdir())) == kept + 1


def test_bad_input() -> None:
    net, data = Shifted(1.0), people()
    for options, message in (
        ({"store": 3}, "expected a folder"),
        ({"store": "/proc/nowhere/x"}, "cannot make"),
        ({"seconds": "10"}, "a number for seconds"),
        ({"held_out": None}, "a number for held_out"),
        ({"bounds": None}, "a list of bounds"),
        ({"measure": [("spd", 0.1), ("eod", 0.2)]}, "one measure for a frontier"),
    ):
        with pytest.raises(InputError, match=message):
            rf.frontier(net, data, **({"measure": "spd", "outputs": "logits"} | options))  # type: ignore[arg-type]
