"""The board: bounds that contradict a pair do not stand, and the stream never crosses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair.certifiers import Bounds, Continuous, Domain, Integer, Verdict, WeightedLp, certify
from retrofair.certifiers.board import Board
from retrofair.certifiers.propagate import LayerBounds
from retrofair.certifiers.question import Question
from retrofair.certifiers.witness import Witness

PEOPLE = Domain([Continuous("skill", 0, 1), Integer("sex", 0, 1, sensitive=True)])


def linear(*weights: float, bias: float = 0.0) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(len(weights), 1), nn.Flatten(0))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([weights]))
        net[0].bias.fill_(bias)
    return net


def board(**options: Any) -> Board:
    made = Board(Question.of(linear(1.0, 2.0), 2, "values", None), 60.0, 1e-3, **options)
    whole = LayerBounds(*(torch.tensor([v], dtype=torch.float64) for v in (-9.0, 9.0, 9.0)))
    made.bounded("float64", 0.0, layer=whole, reach=torch.tensor([9.0], dtype=torch.float64))
    return made


def pair(delta: float) -> Witness:
    nothing = torch.zeros(2, 2)
    return Witness(nothing, torch.zeros(2, 1), 0.0, delta, delta, math.nan)


def test_a_bound_below_a_pair_is_refused() -> None:
    made = board()
    made.found(pair(2.0))
    made.bounded("solver", 0.0, head=(0, 1.5))
    assert (made.lower, made.upper) == (2.0, 9.0)
    assert any("refused" in note for note in made.notes)


def test_a_pair_above_a_bound_withdraws_it() -> None:
    made = board()
    made.bounded("solver", 0.0, head=(0, 1.5))
    assert made.upper == 1.5
    made.found(pair(2.0))
    assert made.lower == 2.0
    assert made.upper == math.inf
    assert any("withdrawn" in note for note in made.notes)


def test_the_stream_is_monotone_and_does_not_cross() -> None:
    steps = []
    made = board(on_step=steps.append)
    for lower, upper in ((1.0, 5.0), (0.5, 4.0), (2.0, 6.0), (2.5, 3.0)):
        made.found(pair(lower))
        made.bounded("solver", 0.0, head=(0, upper))
    lowers, uppers = [s.lower for s in steps], [s.upper for s in steps]
    assert lowers == sorted(lowers)
    assert uppers == sorted(uppers, reverse=True)
    assert all(s.lower <= s.upper for s in steps)
    assert (made.lower, made.upper) == (2.5, 3.0)


def test_restored_bounds_are_those_kept() -> None:
    made = board()
    kept = made.kept()
    made.bounded("solver", 0.0, head=(0, 1.5))
    made.restore(kept)
    assert made.upper == 9.0
    assert float(made.reach[0]) == 9.0


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(0.0, 1.0, Verdict.FAIR), (0.0, 3.0, Verdict.UNKNOWN), (2.5, 3.0, Verdict.UNFAIR)],
)
def test_verdicts(lower: float, upper: float, verdict: Verdict) -> None:
    made = board(delta=2.0)
    made.found(pair(lower))
    made.bounded("solver", 0.0, head=(0, upper))
    assert made.verdict is verdict


@pytest.mark.parametrize(("width", "stopped"), [(0.4, None), (0.6, "gap")])
def test_it_may_stop_at_a_width(width: float, stopped: str | None) -> None:
    made = board(absolute_gap=width)
    made.found(pair(1.0))
    made.bounded("solver", 0.0, head=(0, 1.5))
    assert made.done() == stopped


def test_what_is_no_number_is_no_bound() -> None:
    made = board()
    made.bounded("float64", 0.0, reach=torch.tensor([math.nan], dtype=torch.float64))
    assert made.upper == 9.0


# --- whole certificates ---------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [3.0, -8.0, 40.0])
def test_logits_on_one_side_of_0_close(bias: float) -> None:
    people = Domain([Continuous("x", 0, 1)])
    found = certify(linear(1.0, bias=bias), people, WeightedLp(), 0.1, gap=1e-3)
    assert found.upper <= found.lower * (1 + 2e-3) + 1e-9
    quick = certify(linear(1.0, bias=bias), people, WeightedLp(), 0.1, method="bounds")
    assert quick.upper >= found.lower
    assert quick.upper <= 1.1 * found.upper + 1e-9


@pytest.mark.parametrize("method", ["bounds", "milp"])
def test_what_is_decided_at_once_has_a_witness(method: str) -> None:
    found = certify(linear(1.0, 2.0), PEOPLE, WeightedLp(), 0.1, method=method, delta=0.9)
    assert found.verdict == "fair"
    assert found.witness is not None
    assert found.witness.shape == (2, 2)
    assert found.lower > 0.38  # the optimum is 0.391


def test_two_classes_are_one_sigmoid() -> None:
    torch.manual_seed(0)
    two = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    one = nn.Sequential(*two[:2], nn.Linear(4, 1), nn.Flatten(0))
    with torch.no_grad():
        one[2].weight.copy_(two[2].weight[1:] - two[2].weight[:1])
        one[2].bias.copy_(two[2].bias[1:] - two[2].bias[:1])
    wanted = certify(one, PEOPLE, WeightedLp(), 0.2)
    for net in (two, nn.Sequential(*two, nn.Softmax(1)), nn.Sequential(*two, nn.LogSoftmax(1))):
        found = certify(net, PEOPLE, WeightedLp(), 0.2)
        assert found.lower == pytest.approx(wanted.lower, rel=1e-3)
        assert found.upper == pytest.approx(wanted.upper, rel=2e-3)
        flips = certify(net, PEOPLE, WeightedLp(), 0.2, threshold=0.5)
        assert flips.verdict == certify(one, PEOPLE, WeightedLp(), 0.2, threshold=0.5).verdict


@pytest.mark.parametrize("last", [[], [nn.Softmax(1)], [nn.LogSoftmax(1)]])
@pytest.mark.parametrize("classes", [2, 3])
def test_rows_are_measured_on_the_scale_of_the_certificate(last: list, classes: int) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, classes), *last)
    x = torch.rand(20, 2)
    data = rf.GroupedData(
        x=x, y=torch.zeros(20), group=torch.arange(20) % 2, group_names=("a", "b")
    )
    curve = rf.certify_curve(net, PEOPLE, WeightedLp(), [0.3], data=data, method="bounds")
    p = torch.softmax(net[0](x), 1).detach().double()
    near = (x[:, None, 0] - x[None, :, 0]).abs().double() <= 0.3
    wanted = torch.where(near, (p[:, None] - p[None]).abs().amax(-1), 0.0).max()
    assert curve.empirical[0].delta == pytest.approx(float(wanted), rel=1e-5)
    assert curve.empirical[0].delta <= curve.upper[0]


def test_a_flip_that_the_network_itself_does_not_show_is_none() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid(), nn.Flatten(0))
    with torch.no_grad():
        net[0].weight.fill_(2e-9)
        net[0].bias.fill_(-1e-9)
    people = Domain([Continuous("x", 0, 1)])
    found = certify(net, people, WeightedLp(), 1.0, threshold=0.5, seconds=2)
    assert found.verdict != "unfair"


def test_a_range_beyond_float32_is_refused() -> None:
    with pytest.raises(rf.InputError, match="float32"):
        Continuous("a", 0, 1e39)


@pytest.mark.parametrize("option", ["seconds", "gap", "delta", "threshold"])
def test_options_that_are_no_numbers(option: str) -> None:
    with pytest.raises(rf.InputError, match=option):
        certify(linear(1.0, 2.0), PEOPLE, WeightedLp(), 0.1, **{option: "much"})  # type: ignore[arg-type]


def test_a_curve_says_what_each_of_its_bounds_rests_on() -> None:
    curve = rf.certify_curve(linear(1.0, 2.0), PEOPLE, WeightedLp(), [0.1, 0.2], outputs="values")
    first, second = curve.certificates
    forged = dataclasses.replace(
        curve,
        certificates=(
            dataclasses.replace(first, upper=9.0, tier="float64"),
            dataclasses.replace(second, tier="solver"),
        ),
    )
    assert list(forged.upper) == [second.upper] * 2
    assert list(forged.to_frame()["tier"]) == ["solver", "solver"]


def test_a_certifier_with_options_of_its_own_can_be_given() -> None:
    found = certify(linear(1.0, 2.0), PEOPLE, WeightedLp(), 0.1, method=Bounds(), outputs="values")
    assert found.upper == pytest.approx(2.1)
