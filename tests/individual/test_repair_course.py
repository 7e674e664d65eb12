"""Repair: the way back after an overshoot, and the last certificate."""

from __future__ import annotations

import pytest
from repair_cases import (
    mended,
    module,
    net,
    people,
    same,
    scripted,
    stopping_after,
    timeless,
)

import retrofair as rf
from retrofair.individual import RepairStatus

# --- part of the way back -------------------------------------------------------------------------


def far() -> rf.GroupedData:
    """The label hangs on sex as well: what is fairer is less accurate."""
    return people(sex=1.0)


def test_an_overshoot_is_taken_back_between_the_last_two(monkeypatch):
    # net(2, s) differs by about 0.5 s + 0.05; at s = 0 it costs most
    asked = scripted(monkeypatch, net(2, 0.9), net(2, 0.05), net(2, 0.6), net(2, 0.4))
    found = mended(net(), far(), 0.25, rounds=4, lam=0.4)
    assert [a["lam"] for a in asked] == pytest.approx([0.4, 0.2, 0.3, 0.25])
    assert same(asked[2]["network"], net(2, 0.9))  # from the network that failed last
    assert same(asked[3]["network"], net(2, 0.6))
    assert [len(a["pairs"]) for a in asked] == [1, 2, 3, 4]
    assert [r.verdict.value for r in found.history] == [
        "unfair",
        "unfair",
        "fair",
        "unfair",
        "fair",
    ]
    assert found.status is RepairStatus.MET
    assert found.best == 4
    good = [found.history[i].performance.balanced_accuracy for i in (2, 4)]
    assert good[1] > good[0]
    assert same(found.network, net(2, 0.4))
    assert found.certificate.upper == found.history[4].upper <= 0.25


def test_a_first_round_that_overshoots_goes_back_towards_the_original(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.05), net(2, 0.02))
    found = mended(net(), far(), 0.25, rounds=2, lam=0.5)
    assert [a["lam"] for a in asked] == [0.5, 0.75]
    assert same(asked[1]["network"], net())
    assert found.best == 1  # the second meets the target as well, at a worse performance


def test_nothing_is_taken_back_where_nothing_was_lost(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.05))
    data = people(sex=0.0)  # sex says nothing: without it the network is better
    found = mended(net(), data, 0.25, rounds=4)
    assert (found.status, len(asked)) == (RepairStatus.MET, 1)


def test_a_network_just_below_the_target_is_left_alone(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.4))
    assert mended(net(), far(), 0.25, rounds=4).status is RepairStatus.MET
    assert len(asked) == 1


def test_back_ends_where_two_lam_are_near_each_other(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.05), *[net(2, 0.9)] * 9)
    found = mended(net(), far(), 0.25, rounds=9, lam=0.5)
    assert [a["lam"] for a in asked] == pytest.approx([0.5, 0.75, 0.625, 0.5625, 0.53125])
    assert (found.status, found.best) == (RepairStatus.MET, 1)


def test_below_the_floor_there_is_a_way_back(monkeypatch):
    data = people(sex=3.0)
    asked = scripted(monkeypatch, net(2, 0.0), net(2, 0.8))
    found = mended(net(2.0, 3.0), data, 0.45, floor=0.7, rounds=2)
    assert found.history[1].below, found.table().to_string()
    assert asked[1]["lam"] == 0.75
    assert found.status is RepairStatus.MET
    assert found.best == 2
    assert found.flags == ()


def test_ctrl_c_on_the_way_back_keeps_what_was_met(monkeypatch, tmp_path):
    scripted(monkeypatch, net(2, 0.05), net(2, 0.9), net(2, 0.4))
    half = mended(net(), far(), 0.25, rounds=3, checkpoint=tmp_path, on_round=stopping_after(2))
    assert (half.status, half.best, len(half.history)) == (RepairStatus.MET, 1, 3)
    asked = scripted(monkeypatch, net(2, 0.4))
    rest = mended(net(), far(), 0.25, rounds=3, checkpoint=tmp_path)
    assert [a["lam"] for a in asked] == [0.625]
    assert (rest.status, rest.best) == (RepairStatus.MET, 3)
    assert timeless(rest)[:3] == timeless(half)


# --- the last certificate -------------------------------------------------------------------------


def test_what_misses_the_target_is_certified_tightly(monkeypatch, tmp_path):
    scripted(monkeypatch, net(2, 0.9))
    told = []
    found = mended(
        net(), people(), 0.05, rounds=1, checkpoint=tmp_path, on_round=told.append, method="bab"
    )
    assert (found.status, found.best) == (RepairStatus.BUDGET, 1)
    wide, last = told[1], found.history[1]
    assert wide.verdict is last.verdict is found.certificate.verdict is rf.Verdict.UNFAIR
    assert (last.lower, last.upper) == (found.certificate.lower, found.certificate.upper)
    assert found.certificate.gap <= 1e-3
    assert last.upper < wide.upper
    assert last.lower >= wide.lower - 1e-9
    assert found.certificate.delta == 0.05
    # it is kept beside the rounds, and later rounds do not depend on it
    monkeypatch.setattr(module, "certify", None)
    again = mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path, method="bab")
    assert again.to_dict()["certificate"] == found.to_dict()["certificate"]
    assert again.history == found.history
    (tmp_path / "tight-1.json").write_text("{}")
    with pytest.raises(rf.InputError, match=r"tight-1\.json is damaged"):
        mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path, method="bab")
