"""Thresholds chosen where the scores are, against the search on the CPU."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrofair as rf
from retrofair import metrics
from retrofair.debiasers import device_search, perturbed
from retrofair.debiasers.base import Best
from retrofair.debiasers.device_search import DeviceSearch
from retrofair.errors import InputError
from retrofair.thresholds import ThresholdSearch

CPU = torch.device("cpu")
OBJECTIVES = [
    *(rf.Constrained(m.name, epsilon=e) for m in metrics.ALL for e in (0.05, 0.3)),
    *(rf.Weighted(m.name) for m in metrics.ALL),
    rf.Constrained([("spd", 0.05), ("eod", 0.2)]),
    rf.Constrained("spd", performance="precision"),
    rf.Weighted("aod", performance=metrics.CostMatrix(((0, 1), (5, 0)))),
]


def searches(objective: Any, rows: int, groups: int, seed: int) -> tuple[ThresholdSearch, Any]:
    rng = np.random.default_rng(seed)
    y, group = rng.integers(0, 2, rows), rng.integers(0, groups, rows)
    # two digits: many rows of one score, and some of 0 and 1
    chances = rng.random((5, rows)).round(rng.integers(1, 4)).clip(0.05, 0.95).round(2)
    chances[1] = (chances[1] > 0.5).astype(float)
    chances[2] = 0.0
    return ThresholdSearch(y, group, groups, objective), chances


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(OBJECTIVES), st.integers(1, 40), st.integers(2, 5), st.integers(0, 10**6))
def test_choices_are_those_of_the_search_on_the_cpu(
    objective: Any, rows: int, groups: int, seed: int
) -> None:
    search, chances = searches(objective, rows, groups, seed)
    found = DeviceSearch(search, CPU).best_of(torch.from_numpy(chances))
    for mine, each in zip(found, chances, strict=True):
        theirs = search.best(each)
        # torch adds up in another order: of two choices alike but for rounding either may win
        assert mine.rank == pytest.approx(theirs.rank, abs=1e-12)
        assert (search.at(each, mine.threshold).counts == mine.counts).all()
        assert float(objective.rank(mine.counts)) == pytest.approx(theirs.rank, abs=1e-12)
        assert mine.counts.dtype == theirs.counts.dtype


def test_parts_of_many_vectors_are_as_all_at_once(monkeypatch: Any) -> None:
    search, chances = searches(rf.Constrained("spd"), 300, 3, 0)
    whole = DeviceSearch(search, CPU).best_of(torch.from_numpy(chances))
    monkeypatch.setattr(device_search, "NUMBERS", 2 * 6 * 300)
    parts = DeviceSearch(search, CPU).best_of(torch.from_numpy(chances))
    assert [c.threshold for c in parts] == [c.threshold for c in whole]
    assert len(parts) == 5


def spread(y: Any, prediction: Any, group: Any) -> float:
    return float(abs(prediction[group == 0].mean() - prediction[group == 1].mean()))


@pytest.mark.parametrize("measure", ["spd", spread])
def test_the_best_of_many_vectors_is_kept(measure: Any) -> None:
    """Also of a measure that is a function of the caller's, which looks on the CPU."""
    rng = np.random.default_rng(0)
    data = rf.GroupedData(
        x=torch.zeros(200, 2),
        y=torch.from_numpy(rng.integers(0, 2, 200)),
        group=torch.from_numpy(rng.integers(0, 2, 200)),
        group_names=("a", "b"),
    )
    chances = rng.random((4, 200)) * 0.5 + 0.4 * data.y.numpy() * np.arange(4)[:, None] / 4
    bests = [
        Best.start(torch.nn.Linear(2, 1), data, rf.Constrained(measure, epsilon=0.1))
        for _ in range(2)
    ]
    one_by_one = [bests[0].judge(each) for each in chances]
    at_once = list(bests[1].judge_each(torch.from_numpy(chances)))
    assert [c.threshold for c in one_by_one] == [c.threshold for c in at_once]
    assert bests[1].choice.rank == bests[0].choice.rank == max(c.rank for c in at_once)


def test_random_finds_the_same_with_many_trials_at_once(monkeypatch: Any) -> None:
    """What a GPU does with a small network, here on the CPU."""
    splits = rf.datasets.load("synthetic", n=600, seed=0)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(splits.valid.x.shape[1], 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    method = rf.debiasers.Random(trials=10, scale=0.5)
    goal = rf.Constrained("spd")
    one = rf.debias(net, splits.valid, goal, method, outputs="logits")
    monkeypatch.setattr(perturbed.Flat, "together", lambda self, data: 4)
    many = rf.debias(net, splits.valid, goal, method, outputs="logits")
    assert [h["objective"] for h in many.history] == [h["objective"] for h in one.history]
    for mine, theirs in zip(many.model.parameters(), one.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert max(h["objective"] for h in one.history[1:]) > one.history[0]["objective"]


@pytest.mark.parametrize("bad", [float("nan"), 1.5, -0.1])
def test_what_is_no_probability_is_refused_as_on_the_cpu(bad: float) -> None:
    search, chances = searches(rf.Constrained("spd"), 30, 2, 0)
    chances[3, 4] = bad
    for find in (
        lambda: search.best(chances[3]),
        lambda: DeviceSearch(search, CPU).best_of(torch.from_numpy(chances)),
    ):
        with pytest.raises(InputError, match=rf"finite probabilities in \[0, 1\], got .*{bad}"):
            find()


@pytest.mark.parametrize("most", [3, 1])
@pytest.mark.parametrize("where", ["network", "search"])
def test_fewer_trials_at_once_where_memory_runs_out(
    where: str, most: int, monkeypatch: Any
) -> None:
    """Of eight at once, down to as many as fit; the same trials, and the same winner."""
    splits = rf.datasets.load("synthetic", n=600, seed=0)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(splits.valid.x.shape[1], 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    method, goal = rf.debiasers.Random(trials=17, scale=0.5), rf.Constrained("spd")
    one = rf.debias(net, splits.valid, goal, method, outputs="logits")
    monkeypatch.setattr(perturbed.Flat, "together", lambda self, data: 8)
    owner, name = {
        "network": (perturbed.Flat, "chances_of"),
        "search": (DeviceSearch, "best_of"),
    }[where]
    run = getattr(owner, name)

    def short(self: Any, trials: Any, *more: Any) -> Any:
        if len(trials) > most or most == 1:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        return run(self, trials, *more)

    monkeypatch.setattr(owner, name, short)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        many = rf.debias(net, splits.valid, goal, method, outputs="logits")
    said = [str(w.message) for w in caught if "trials at once" in str(w.message)]
    assert said == [
        f"out of memory with {n} trials at once: going on with {n // 2}"
        for n in ((8, 4) if most == 3 else (8, 4, 2))
    ]
    assert [h["objective"] for h in many.history] == [h["objective"] for h in one.history]
    for mine, theirs in zip(many.model.parameters(), one.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
