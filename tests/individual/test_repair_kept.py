"""Repair: how it goes on after a stop, and what is saved and read again."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import pytest
import torch
from repair_cases import (
    PEOPLE,
    mended,
    module,
    net,
    people,
    rows,
    same,
    scripted,
    shortened,
    stopping_after,
    timeless,
)
from torch import nn

import retrofair as rf
from retrofair.individual import RepairStatus, load_repair
from retrofair.individual.checkpoint import Checkpoint


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shortened(monkeypatch)


# --- stops ----------------------------------------------------------------------------------------


def test_ctrl_c_in_the_certificate_returns_what_is_proved(monkeypatch):
    monkeypatch.setattr(module.Interval, "show", lambda *_: signal.raise_signal(signal.SIGINT))
    found = mended(net(), people(), 0.15)
    assert found.status is RepairStatus.INTERRUPTED
    assert len(found.history) == 1
    assert math.isfinite(found.certificate.upper)


def test_a_repair_that_was_stopped_goes_on_to_the_same_end(short, tmp_path):
    data, options = people(), {"lam": 1.0, "rounds": 2}  # lam 1: slow enough to need all rounds
    whole = mended(net(), data, 0.1, **options)
    half = mended(
        net(), data, 0.1, **options, checkpoint=tmp_path / "kept", on_round=stopping_after(1)
    )
    assert half.status is RepairStatus.INTERRUPTED
    assert len(half.history) == 2
    told = []
    rest = mended(net(), data, 0.1, **options, checkpoint=tmp_path / "kept", on_round=told.append)
    assert [r.number for r in told] == list(range(2, len(whole.history)))
    assert timeless(rest) == timeless(whole)
    assert rest.status is whole.status
    assert rest.best == whole.best
    assert same(rest.network, whole.network)
    assert rest.certificate.lower == pytest.approx(whole.certificate.lower, abs=1e-5)
    assert rest.certificate.upper == pytest.approx(whole.certificate.upper, abs=1e-5)
    # a finished one is only read; with more rounds it goes on
    assert timeless(mended(net(), data, 0.1, **options, checkpoint=tmp_path / "kept")) == timeless(
        whole
    )


def test_ctrl_c_in_the_training_goes_on_within_it(short, tmp_path, monkeypatch):
    real, written = Checkpoint.write, []

    def write(self, *arguments):
        real(self, *arguments)
        written.append(self.file)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", write)
    half = mended(net(), people(), 0.15, checkpoint=tmp_path, rounds=1)
    assert half.status is RepairStatus.INTERRUPTED
    assert len(half.history) == 1
    assert written[-1].parent == tmp_path / "training-1"
    rest = mended(net(), people(), 0.15, checkpoint=tmp_path, rounds=1)
    assert len(written) == 6  # three of the six epochs were done already
    whole = mended(net(), people(), 0.15, rounds=1)
    assert timeless(rest) == timeless(whole)
    assert same(rest.network, whole.network)


def test_more_rounds_go_on_from_a_finished_repair(tmp_path, monkeypatch):
    scripted(monkeypatch, net(2, 0.9), net(2, 0.8))
    assert len(mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path).history) == 2
    assert len(mended(net(), people(), 0.05, rounds=2, checkpoint=tmp_path).history) == 3


@pytest.mark.parametrize(
    "changed",
    [{"delta": 0.2}, {"floor": 0.55}, {"lam": 0.4}, {"seed": 1}, {"epsilon": 0.06}, {"sex": 2.0}],
    ids=lambda c: next(iter(c)),
)
def test_another_question_does_not_go_on_there(tmp_path, monkeypatch, changed):
    scripted(monkeypatch, net(2, 0.9))
    mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path)
    given = {"delta": 0.05, "rounds": 1, "checkpoint": tmp_path, **changed}
    data = people(given.pop("sex", 1.0))
    with pytest.raises(rf.InputError, match=r"another.*--checkpoint"):
        mended(net(), data, given.pop("delta"), **given)
    with pytest.raises(rf.InputError, match="another"):
        mended(net(2.0, 1.1), people(), 0.05, rounds=1, checkpoint=tmp_path)


def test_damaged_rounds_are_refused(tmp_path, monkeypatch):
    scripted(monkeypatch, net(2, 0.9))
    mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path)
    (tmp_path / "round-1.json").write_text("{}")
    with pytest.raises(rf.InputError, match=r"round-1\.json is damaged"):
        mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(rf.InputError, match="is a file"):
        mended(net(), people(), 0.05, rounds=1, checkpoint=tmp_path / "file")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("regression", [False, True])
def test_a_repair_is_saved_and_read_again(tmp_path: Path, monkeypatch, regression):
    scripted(monkeypatch, net(2, 0.5))
    data = rows(1.0) if regression else people()
    given = {"floor": 5.0, "outputs": "values"} if regression else {"floor": 0.6}
    found = mended(net(), data, 0.05, rounds=1, **given)
    assert found.save(tmp_path / "out") == tmp_path / "out"
    read = load_repair(tmp_path / "out", net(), PEOPLE)
    assert same(read.network, found.network)
    assert repr(read) == repr(found)
    assert read.table().to_csv() == found.table().to_csv()
    assert read.to_dict() == found.to_dict() or regression  # nan is not nan
    assert torch.equal(read.certificate.witness, found.certificate.witness)
    assert read.certificate.table().equals(found.certificate.table())
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    scripted(monkeypatch, net(2, 0.5))
    found = mended(net(), people(), 0.05, rounds=1)
    with pytest.raises(rf.InputError, match="not there"):
        load_repair(tmp_path / "none", net(), PEOPLE)
    found.save(tmp_path)
    with pytest.raises(rf.InputError, match="do not fit"):
        load_repair(tmp_path, nn.Linear(2, 1), PEOPLE)
    with pytest.raises(rf.InputError, match="domain of the repair"):
        load_repair(tmp_path, net(), rf.Domain([rf.Continuous("a", 0, 1), rf.Integer("b", 0, 1)]))
    (tmp_path / "history.json").write_text("[]")
    with pytest.raises(rf.InputError, match="damaged"):
        load_repair(tmp_path, net(), PEOPLE)
    with pytest.raises(rf.InputError, match="is a file"):
        found.save(tmp_path / "history.json")
