"""Repair: what it reaches, how its rounds follow each other, what it refuses."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from repair_cases import (
    PEOPLE,
    SIMILAR,
    mended,
    net,
    people,
    rows,
    same,
    scripted,
    shortened,
)
from sklearn.metrics import balanced_accuracy_score
from torch import nn

import retrofair as rf
from retrofair.individual import RepairStatus


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shortened(monkeypatch)


# --- what is reached ------------------------------------------------------------------------------


def test_a_target_that_the_original_misses_is_met_and_proved():
    original, data = net(), people()
    before = rf.certify(original, PEOPLE, SIMILAR, 0.05, delta=0.25)
    assert before.verdict is rf.Verdict.UNFAIR
    found = mended(original, data, 0.25, floor=0.75, lam=0.2)
    assert found.status is RepairStatus.MET, found.table().to_string()
    assert 0 < found.best < len(found.history)
    assert found.certificate.upper <= 0.25
    # another method's proof of the same network, and its work
    again = rf.certify(found.network, PEOPLE, SIMILAR, 0.05, method="bab", seconds=10)
    assert again.lower <= 0.25 + 1e-6
    with torch.no_grad():
        decided = found.network(data.x)[:, 0] > 0
    right = balanced_accuracy_score(data.y, decided)
    assert found.history[found.best].performance.balanced_accuracy == pytest.approx(right)
    assert right >= 0.75
    assert found.flags == ()
    assert "met" in repr(found)


def test_regression_is_judged_by_its_error():
    data = rows(1.0)
    found = mended(net(1.0, 0.5), data, 0.5, floor=0.4, rounds=6, lam=0.3, outputs="values")
    assert found.status is RepairStatus.MET, found.table().to_string()
    assert found.certificate.outputs == "values"
    assert found.history[0].performance.mse == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        error = float(((found.network(data[0])[:, 0] - data[1]) ** 2).mean())
    assert found.history[found.best].performance.mse == pytest.approx(error, rel=1e-5)
    assert 0 < error <= 0.4
    table = found.table()
    assert table["mse"].iloc[-1] == pytest.approx(float(data[1].var(correction=0)))
    assert "balanced_accuracy" not in table


def test_what_is_fair_already_stays_as_it_is():
    original = net(2.0, 0.0)
    found = mended(original, people(), 0.2)
    assert found.status is RepairStatus.MET
    assert len(found.history) == 1
    assert same(found.network, original)
    assert found.network is not original


def test_neither_the_network_nor_the_random_state_is_touched(short):
    original = net().train()
    weights = copy.deepcopy(original)
    before = torch.get_rng_state()
    found = mended(original, people(), 0.15, rounds=1)
    assert same(original, weights)
    assert original.training
    assert not found.network.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_smooth_network_is_repaired_without_a_proved_bound_in_training(short):
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    smooth = rf.train_individually_fair(
        smooth, people(), PEOPLE, SIMILAR, 0.05, 1.0, learning_rate=0.03
    )
    found = mended(smooth, people(), 1e-6, rounds=1, seconds=1.0)
    assert found.status is RepairStatus.BUDGET, found.table().to_string()
    assert len(found.history) == 2
    assert found.history[1].lower < found.history[0].lower
    assert found.best == 1
    assert not same(found.network, smooth)


# --- how the rounds follow each other -------------------------------------------------------------


def test_every_worst_pair_so_far_goes_into_the_training_and_lam_falls(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.9), net(2, 0.8), net(2, 0.7))
    seen = []
    found = mended(net(), people(), 0.05, rounds=3, lam=0.4, on_round=seen.append)
    assert found.status is RepairStatus.BUDGET
    assert [a["lam"] for a in asked] == [0.4, 0.2, 0.1]
    assert [len(a["pairs"]) for a in asked] == [1, 2, 3]
    assert [r.number for r in seen] == [0, 1, 2, 3]
    assert tuple(seen[:3]) == found.history[:3]  # the last is certified once more at the end
    pairs = asked[-1]["pairs"]
    assert torch.equal(asked[0]["pairs"], pairs[:1])
    assert set(pairs[:, :, 1].unique().tolist()) <= {-1.0, 1.0}  # as the network takes them
    with torch.no_grad():
        apart = torch.sigmoid(net()(pairs[0])).diff(dim=0).abs()
    assert float(apart) == pytest.approx(found.history[0].lower, rel=1e-4)
    assert same(asked[1]["network"], net(2, 0.9))  # from where the last round ended


def test_of_rounds_that_miss_the_smallest_proved_bound_is_returned(monkeypatch):
    scripted(monkeypatch, net(2, 0.5), net(2, 0.8))
    found = mended(net(), people(), 0.05, rounds=2)
    assert found.status is RepairStatus.BUDGET
    assert found.best == 1
    assert same(found.network, net(2, 0.5))
    assert found.certificate.upper == found.history[1].upper
    assert found.table()["note"].tolist() == ["", "returned", "", "the best constant"]


def test_the_original_is_returned_where_nothing_helps(monkeypatch):
    scripted(monkeypatch, net(2, 1.5))
    found = mended(net(), people(), 0.05, rounds=1)
    assert found.best == 0
    assert same(found.network, net())


# --- the floor ------------------------------------------------------------------------------------


def test_nothing_below_the_floor_is_returned(monkeypatch):
    data = people(sex=3.0)  # the label hangs on sex: without it little is left
    scripted(monkeypatch, net(2, 2.5), net(2, 0.0))
    found = mended(net(2.0, 3.0), data, 0.2, floor=0.9, rounds=2)
    assert found.status is RepairStatus.FLOOR
    assert found.history[-1].verdict is rf.Verdict.FAIR
    assert found.history[-1].performance.balanced_accuracy < 0.9
    assert found.best < 2
    assert found.history[found.best].performance.balanced_accuracy >= 0.9
    assert any("below the floor" in flag for flag in found.flags)


def test_the_floor_ends_a_real_repair_that_would_cost_too_much():
    data = people(sex=6.0, skill=0.5)
    found = mended(net(1.0, 3.0), data, 0.05, floor=0.95, lam=0.02)
    assert found.status is RepairStatus.FLOOR, found.table().to_string()
    assert found.history[found.best].performance.balanced_accuracy >= 0.95


def test_an_original_below_the_floor_is_left_alone():
    found = mended(net(0.1, -1.0), people(), 0.05, floor=0.9)
    assert found.status is RepairStatus.FLOOR
    assert len(found.history) == 1
    assert found.best == 0


@pytest.mark.parametrize(
    ("made", "why"),
    [(net(0.0, 0.0), "the same answer"), (net(1e-3, 1e-3), "predicts 1")],
    ids=["constant", "one class"],
)
def test_a_constant_is_never_a_success(monkeypatch, made, why):
    with torch.no_grad():
        made[2].bias.fill_(0.3)
    scripted(monkeypatch, made)
    found = mended(net(), people(), 0.1, rounds=1)
    assert found.status is RepairStatus.FLOOR
    assert found.best == 0
    assert found.history[1].verdict is rf.Verdict.FAIR
    assert why in found.history[1].performance.degenerate
    assert any("degenerate" in flag for flag in found.flags)
    assert found.table()["balanced_accuracy"].iloc[-1] == 0.5
    alone = mended(made, people(), 0.1)
    assert alone.status is RepairStatus.FLOOR
    assert "degenerate" in repr(alone)
    assert "degenerate" in alone.flags[0]


def test_answers_squeezed_together_are_said(monkeypatch):
    scripted(monkeypatch, net(0.02, 0.01))
    found = mended(net(), people(), 0.1, rounds=1)
    assert found.status is RepairStatus.MET
    assert "squeezed" in found.flags[0]


# --- what cannot be meant -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "expected a target above 0, got 0.0 (--delta)"),
        ({"delta": math.nan}, "(--delta)"),
        ({"delta": 1.0}, "expected a target below 1, got 1 (--delta): no two probabilities"),
        ({"seed": -1}, "(seed, --seed)"),
        ({"seed": "x"}, "got 'x' (seed, --seed)"),
        ({"floor": 1.0}, "got 1.0 (--floor)"),
        ({"floor": -0.1}, "(--floor)"),
        ({"floor": "high"}, "(--floor)"),
        ({"rounds": 0}, "expected at least one round, got 0 (--rounds)"),
        ({"rounds": 1.5}, "(--rounds)"),
        ({"lam": 1.1}, "(--lam)"),
        ({"seconds": -1.0}, "(--seconds)"),
        ({"epsilon": -1.0}, "(--epsilon)"),
        ({"method": "magic"}, "unknown method"),
        ({"data": [1, 2]}, "GroupedData or a pair"),
        ({"data": (torch.zeros(3, 5), torch.zeros(3))}, "expected data with 2 columns"),
        ({"data": (torch.zeros(0, 2), torch.zeros(0))}, "expected data with rows"),
        ({"valid": (torch.zeros(3, 5), torch.zeros(3))}, "expected data with 2 columns"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_what_cannot_be_meant_is_refused(options, message):
    given = {"delta": 0.1, "data": people(), **options}
    with pytest.raises(rf.InputError) as caught:
        mended(net(), given.pop("data"), given.pop("delta"), **given)
    assert message in str(caught.value)


def test_a_target_beyond_a_scaled_sigmoid_is_refused():
    ranged = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid(), nn.Linear(1, 1))
    with torch.no_grad():
        ranged[2].weight.fill_(-4.0)
    data = rows(0.1)[0], torch.linspace(-3.5, 0, 120)
    with pytest.raises(rf.InputError, match=r"below 4, got 4\.0* \(--delta\)|below 4, got 4 "):
        mended(ranged, data, 4.0)


def test_numbers_of_numpy_are_numbers(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.9))
    given = {"lam": np.float32(0.5), "rounds": np.int64(1), "floor": np.float32(0.5)}
    found = mended(net(), people(), np.float64(0.05), **given, seed=np.int64(3))
    assert asked[0]["lam"] == 0.5
    assert type(found.floor) is float
