"""Repair: what it reaches, when it ends, what it returns, and how it goes on after a stop."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math
import signal
from pathlib import Path

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

import retrofair as rf
from retrofair.individual import RepairStatus, load_repair, repair
from retrofair.individual.judged import Judge

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


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real fine-tuning, of fewer epochs."""
    real = module.train_individually_fair
    monkeypatch.setattr(
        module, "train_individually_fair", lambda *a, **o: real(*a, **{**o, "epochs": 6})
    )


def same(one: nn.Module, two: nn.Module) -> bool:
    state = two.state_dict()
    return all(torch.equal(v, state[k]) for k, v in one.state_dict().items())


def timeless(found) -> list:
    return [dataclasses.replace(r, seconds=0.0) for r in found.history]


# --- what is reached ------------------------------------------------------------------------------


def test_a_target_that_the_original_misses_is_met_and_proved():
    original, data = net(), people()
    before = rf.certify(original, PEOPLE, SIMILAR, 0.05, delta=0.25)
    assert before.verdict is rf.Verdict.UNFAIR
    found = mended(original, data, 0.25, floor=0.75, lam=0.2)
    assert found.status is RepairStatus.MET, found.table().to_string()
    assert found.best == len(found.history) - 1 > 0
    assert found.certificate.upper <= 0.25
    # another method's proof of the same network, and its work
    again = rf.certify(found.network, PEOPLE, SIMILAR, 0.05, method="bab", seconds=10)
    assert again.lower <= 0.25 + 1e-6
    with torch.no_grad():
        decided = found.network(data.x)[:, 0] > 0
    right = balanced_accuracy_score(data.y, decided)
    assert found.history[-1].performance.balanced_accuracy == pytest.approx(right)
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
    data = people()
    found = mended(smooth, data, 1e-6, rounds=1, seconds=1.0)
    assert len(found.history) >= 1


# --- how the rounds follow each other -------------------------------------------------------------


def test_every_worst_pair_so_far_goes_into_the_training_and_lam_falls(monkeypatch):
    asked = scripted(monkeypatch, net(2, 0.9), net(2, 0.8), net(2, 0.7))
    seen = []
    found = mended(net(), people(), 0.05, rounds=3, lam=0.4, on_round=seen.append)
    assert found.status is RepairStatus.BUDGET
    assert [a["lam"] for a in asked] == [0.4, 0.2, 0.1]
    assert [len(a["pairs"]) for a in asked] == [1, 2, 3]
    assert [r.number for r in seen] == [0, 1, 2, 3]
    assert tuple(seen) == found.history
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
    found = mended(net(2.0, 3.0), data, 0.2, floor=0.9)
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
    found = mended(net(), people(), 0.1)
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
    found = mended(net(), people(), 0.1)
    assert found.status is RepairStatus.MET
    assert "squeezed" in found.flags[0]


# --- stops ----------------------------------------------------------------------------------------


def test_ctrl_c_in_the_certificate_returns_what_is_proved(monkeypatch):
    monkeypatch.setattr(module.Interval, "show", lambda *_: signal.raise_signal(signal.SIGINT))
    found = mended(net(), people(), 0.15)
    assert found.status is RepairStatus.INTERRUPTED
    assert len(found.history) == 1
    assert math.isfinite(found.certificate.upper)


def stopping_after(number: int):
    """An on_round that stops as Ctrl-C does."""

    def stop(done):
        if done.number == number:
            raise KeyboardInterrupt

    return stop


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
    assert torch.equal(rest.certificate.witness, whole.certificate.witness)
    assert rest.certificate.upper == whole.certificate.upper
    # a finished one is only read; with more rounds it goes on
    assert timeless(mended(net(), data, 0.1, **options, checkpoint=tmp_path / "kept")) == timeless(
        whole
    )


def test_ctrl_c_in_the_training_loses_only_that_round(short, tmp_path, monkeypatch):
    real, calls = module.train_individually_fair, []

    def train(*arguments, **options):
        calls.append(options)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(module, "train_individually_fair", train)
    half = mended(net(), people(), 0.15, checkpoint=tmp_path, rounds=2)
    assert half.status is RepairStatus.INTERRUPTED
    assert len(half.history) == 1
    rest = mended(net(), people(), 0.15, checkpoint=tmp_path, rounds=2)
    assert timeless(rest) == timeless(mended(net(), people(), 0.15, rounds=2))


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
    found = mended(net(), data, 0.05, rounds=1, floor=5.0 if regression else 0.6)
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


# --- what cannot be meant -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "expected a target above 0, got 0.0 (--delta)"),
        ({"delta": math.nan}, "(--delta)"),
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


def test_labels_and_outputs_that_do_not_fit_are_refused():
    numbers = dataclasses.replace(people(), y=torch.linspace(0, 5, 120))
    with pytest.raises(rf.InputError, match=r"labels 0 and 1.*outputs='values'"):
        mended(net(), numbers, 0.1)
    many = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(rf.InputError, match="one output"):
        mended(many, people(), 0.1)
    with pytest.raises(rf.InputError, match="Module"):
        mended("net", people(), 0.1)


def test_two_classes_are_judged_by_the_second():
    two = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        two[0].weight.copy_(torch.tensor([[0.0, 0.0], [2.0, 1.0]]))
        two[0].bias.zero_()
    data = people()
    for network in (two, nn.Sequential(two, nn.Softmax(1)), copy.deepcopy(two).double()):
        seen = Judge.of(data, network, PEOPLE, None)(network)
        expected = Judge.of(data, net(), PEOPLE, None)(net())
        assert seen.balanced_accuracy == expected.balanced_accuracy
        assert seen.spread == pytest.approx(expected.spread, abs=1e-6)
