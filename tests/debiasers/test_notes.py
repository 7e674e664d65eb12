"""What a result says of groups too small and of bounds out of reach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair import metrics
from retrofair.debiasers import Status
from retrofair.debiasers.group_thresholds import best_thresholds
from retrofair.objective import Constrained


def people(n: int, seed: int = 0, few: int = 0) -> rf.GroupedData:
    """A calibrated score in the first column; the groups' base rates are far apart."""
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=n)
    if few:
        group = (np.arange(n) >= few).astype(int)
    logit = rng.normal(size=n) + np.where(group == 1, 1.5, -1.5)
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    x = torch.tensor(np.stack([logit, group], 1), dtype=torch.float32)
    return rf.GroupedData(
        x=x, y=torch.tensor(y), group=torch.tensor(group), group_names=("few", "many")
    )


class Score(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 1)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([[1.0, 0.0]]))
            self.last.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)[:, 0]  # type: ignore[no-any-return]


# calibrated scores with other base rates: both rates alike and precisions alike is for nobody
APART = [("equalized_odds_difference", 0.01), ("predictive_parity_difference", 0.01)]


@pytest.mark.parametrize("method", ["threshold", "group_thresholds", "random"])
def test_constraints_that_cannot_hold_together(method: str) -> None:
    result = rf.debias(Score(), people(3000), Constrained(APART), method)
    assert result.status is not Status.MET
    (note,) = result.notes
    assert "no thresholds on this network's score were found that keep equalized" in note
    assert "a constant classifier is the only answer left; alone, " in note
    assert "alone, equalized_odds_difference can (" in note


def test_constraints_that_only_next_to_nobody_keeps() -> None:
    """A head has more rules to try, and one that selects one in a hundred is no constant."""
    result = rf.debias(Score(), people(3000), Constrained(APART), "fair_head")
    assert result.after.performance < 0.51


def test_where_thresholds_told_the_group_would_do() -> None:
    data = people(3000)
    result = rf.debias(Score(), data, Constrained("spd", epsilon=0.004), "threshold")
    assert result.status is not Status.MET
    (note,) = result.notes
    told = rf.debias(Score(), data, Constrained("spd", epsilon=0.004), "group_thresholds")
    assert told.status is Status.MET
    assert told.notes == ()
    assert f"with balanced accuracy {told.after.performance:.3f}" in note


def test_a_group_too_small_is_named_with_its_size() -> None:
    data = people(600, few=25)
    result = rf.debias(Score(), data, Constrained([("spd", 0.5), ("eod", 0.5)]), "threshold")
    positives = int(data.y[:25].sum())
    assert any("group 'few' has only 25 rows" in note for note in result.notes)
    assert any(f"group 'few' has only {positives} rows of label 1: " in n for n in result.notes)
    assert not any("'many'" in note for note in result.notes)


def test_bounds_that_no_thresholds_keep() -> None:
    """All scores alike: of two groups every window is tried, and it is said as a fact."""
    data = people(300)
    data = rf.GroupedData(
        x=torch.zeros_like(data.x), y=data.y, group=data.group, group_names=data.group_names
    )
    several = Constrained([("spd", 0.01), ("equalized_odds_difference", 0.01)])
    for goal in (Constrained("spd", 0.01), several):
        result = rf.debias(Score(), data, goal, "threshold", outputs="logits")
        assert "cannot be kept" in result.notes[-1]
        assert "the only answer. Loosen" in result.notes[-1] or "only answer; " in result.notes[-1]
        assert "try fair_head" in result.notes[-1]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_to_be_impossible_is_not_found_by_trying_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    y, group = rng.integers(0, 2, n), rng.integers(0, 2, n)
    score = np.round(rng.normal(size=n) + 0.7 * y, 1)
    p = 1 / (1 + np.exp(-score))
    goal = Constrained([("predictive_parity_difference", 0.05), ("eod", 0.05)])
    cuts = [np.concatenate([[-1.0], np.unique(p[group == g])]) for g in range(2)]
    best = max(
        float(goal.rank(metrics.count(y, (p > np.array(t)[group]).astype(int), group, 2)))
        for t in itertools.product(*cuts)
    )
    _, counts = best_thresholds(p, y, group, 2, goal)
    assert float(goal.rank(counts)) == pytest.approx(best)


def test_notes_are_saved(tmp_path: object) -> None:
    result = rf.debias(Score(), people(600, few=25), Constrained("spd", 0.5), "threshold")
    folder = result.save(f"{tmp_path}/out")
    assert rf.load_result(folder, Score()).notes == result.notes != ()


def test_an_own_measure_has_no_bound_to_look_for() -> None:
    def always(y: object, prediction: object, group: object) -> float:
        return 1.0

    result = rf.debias(Score(), people(300), Constrained(always), "threshold")
    assert result.status is not Status.MET
    assert result.notes == ()
