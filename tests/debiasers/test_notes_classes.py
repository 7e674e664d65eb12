"""What a result of three classes says of groups too small and of bounds that were not kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import retrofair as rf
from classes_cases import three_classes, trained_on
from retrofair.debiasers import Status
from retrofair.objective import Constrained

APART = [("equalized_odds_difference", 0.01), ("predictive_parity_difference", 0.01)]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_on(three_classes(2000, 0))


def with_few(few: int) -> rf.GroupedData:
    """Some rows of another group, with labels 0, 1, 1, 0, 1, 1, ..."""
    data = three_classes(1500, 1)
    group, y = data.group.clone(), data.y.clone()
    group[:few] = 2
    y[:few] = (torch.arange(few) % 3 > 0).long()
    return rf.GroupedData(x=data.x, y=y, group=2 - group, group_names=("few", "b", "a"))


def test_a_group_too_small_is_named_with_its_size_and_its_classes(net) -> None:
    result = rf.debias(net, with_few(4), Constrained([("spd", 0.3), ("eod", 0.5)]), "threshold")
    rows, none, few = result.notes
    assert rows.startswith("group 'few' has only 4 rows: sampling error alone moves its selection")
    assert none == "group 'few' has no rows of class 2: its true positive rate is not looked at"
    assert few.startswith("group 'few' has only 2 rows of class 0 and 2 rows of class 1: sampling")
    assert "true positive rate by up to 0." in few


def test_rates_of_other_labels_are_told_by_the_other_classes(net) -> None:
    goal = Constrained("false_positive_rate_difference", epsilon=0.5)
    (note,) = rf.debias(net, with_few(4), goal, "threshold").notes
    assert "2 rows of other classes than 0, 2 rows of other classes than 1 and 4 rows of" in note


def test_groups_with_enough_rows_have_no_notes(net) -> None:
    result = rf.debias(net, three_classes(1500, 1), Constrained("eod", epsilon=0.3), "threshold")
    assert result.notes == ()


@pytest.mark.parametrize("method", ["threshold", "fair_head"])
def test_constraints_that_were_not_kept_together(method: str, net) -> None:
    result = rf.debias(net, three_classes(1000, 1, groups=4), Constrained(APART), method)
    assert result.status is not Status.MET
    *_, note = result.notes
    assert note.startswith("no offsets were found that keep equalized_odds_difference < 0.01 and")
    assert "predictive_parity_difference < 0.01 together on this network's scores" in note
    assert "do better than a constant classifier, which is what is left of them" in note
    assert "; alone, for equalized_odds_difference " in note
    assert ("try fair_head" in note) == (method == "threshold")


def test_each_constraint_alone(net) -> None:
    goal = Constrained([("equalized_odds_difference", 1e-4), ("spd", 0.2)])
    (note,) = rf.debias(net, three_classes(2000, 1), goal, "threshold").notes
    assert "alone, for equalized_odds_difference none were, for spd some were (0." in note


def test_one_bound_that_was_not_kept(net) -> None:
    goal = Constrained("equalized_odds_difference", epsilon=1e-4)
    (note,) = rf.debias(net, three_classes(2000, 1), goal, "threshold").notes
    assert "keep equalized_odds_difference < 0.0001 on this network's scores" in note
    assert "alone" not in note


class Slack:
    """A method that does nothing, and does not reach what offsets would."""

    name, changes_weights, classes = "slack", False, "any"

    def __call__(self, model, data, objective, *, generator):
        from retrofair.debiasers.base import Fit
        from retrofair.debiasers.rules import Argmax

        return Fit(model, Argmax((0.0, 0.0, 0.0)))


def test_where_offsets_would_do(net) -> None:
    data = three_classes(2000, 1)
    result = rf.debias(net, data, Constrained("spd", epsilon=0.05), Slack())
    assert result.status is Status.NOT_MET
    told = rf.debias(net, data, Constrained("spd", epsilon=0.05), "threshold")
    assert told.status is Status.MET
    (note,) = result.notes
    assert f"with balanced accuracy {told.after.performance:.3f}: try threshold" in note


def test_an_own_measure_has_no_bound_to_look_for(net) -> None:
    def always(y: object, prediction: object, group: object) -> float:
        return 1.0

    result = rf.debias(net, three_classes(300, 1), Constrained(always), "threshold")
    assert result.status is not Status.MET
    assert result.notes == ()


def test_notes_are_saved(tmp_path, net) -> None:
    result = rf.debias(net, with_few(4), Constrained("spd", epsilon=0.3), "threshold")
    folder = result.save(tmp_path / "out")
    assert rf.load_result(folder, net).notes == result.notes != ()
