"""What a result says of itself: who lost, what else moved, and what tells the group."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import retrofair as rf
from retrofair import metrics
from retrofair.debiasers.compare import effects_of
from retrofair.debiasers.effects import BETTER, Effects
from retrofair.errors import InputError
from retrofair.files import json_text


def made(
    moves: dict[tuple[str, int], tuple[int, int, int, int]], measure: Any = "spd", **options: Any
) -> Effects:
    """Effects of rows by group and label: (both, lost, gained, neither) positive decisions."""
    names = tuple(dict.fromkeys(name for name, _ in moves))
    group, y, before, after = [], [], [], []
    for (name, label), numbers in moves.items():
        for (was, now), n in zip(((1, 1), (1, 0), (0, 1), (0, 0)), numbers, strict=True):
            group += [names.index(name)] * n
            y += [label] * n
            before += [was] * n
            after += [now] * n
    data = rf.GroupedData(x=torch.zeros(len(y), 1), y=y, group=group, group_names=names)
    decisions = np.array(before), np.array(after)
    given: dict[str, Any] = {
        "scores": tuple(each.astype(float) for each in decisions),
        "decisions": decisions,
        "group_chances": None,
        "rows_seen": True,
        "needs_group": False,
        **options,
    }
    goal = rf.Constrained(measure) if isinstance(measure, list) else None
    return effects_of(goal.bias_measure if goal else metrics.get(measure), data, **given)


# men's positive decisions 400 of 800, women's 120 of 600
def both_lose() -> Effects:
    return made(
        {
            ("women", 0): (10, 50, 0, 240),
            ("women", 1): (40, 20, 0, 240),
            ("men", 0): (20, 130, 0, 250),
            ("men", 1): (100, 150, 0, 150),
        }
    )


def given_and_taken(gained: int, lost: int, measure: str = "spd") -> Effects:
    return made(
        {
            ("women", 0): (60, 0, 0, 240),
            ("women", 1): (60, 0, gained, 240 - gained),
            ("men", 0): (150, 0, 0, 250),
            ("men", 1): (250 - lost, lost, 0, 150),
        },
        measure,
    )


def test_rates_before_and_after_by_hand() -> None:
    effects = both_lose()
    change = effects.of("men", "selection_rate")
    assert (change.before, change.after, change.rows) == (0.5, 0.15, 800)
    assert change.change == pytest.approx(-0.35)
    assert change.low < -0.35 < change.high < 0
    assert effects.of("women", "true_positive_rate").change == pytest.approx(-20 / 300)
    assert effects.of("men", "false_positive_rate").gain == pytest.approx(130 / 400)
    assert effects.of("men", "precision").before == 250 / 400
    assert len(effects.rates) == 2 * 5
    with pytest.raises(InputError, match="unknown group 'boys'"):
        effects.of("boys", "accuracy")
    with pytest.raises(InputError, match="unknown rate 'luck'"):
        effects.of("men", "luck")


def test_levelling_down_is_when_all_groups_lose() -> None:
    effects = both_lose()
    assert effects.levelling_down == "full"
    assert effects.sentences()[0].startswith("Levelling down: spd fell only because groups lost")
    worse = [(each.group, each.rate) for each in effects.worse]
    assert worse[0] == ("men", "true_positive_rate")  # 150 of 400, more than any other
    assert ("women", "selection_rate") in worse
    assert "false_positive_rate" not in {rate for _, rate in worse}  # these fell, too
    gains = [each.gain for each in effects.worse]
    assert gains == sorted(gains)
    assert all(each.rate in BETTER for each in effects.worse)


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [
        (120, 0, "no"),  # all given
        (60, 120, "partial"),  # men -0.15, women +0.10
        (100, 60, "no"),  # men -0.075, women +0.17
        (0, 120, "full"),  # the men lose, the women stay
        (0, 0, "no"),  # nothing moved
    ],
)
def test_levelling_down_by_what_was_given_and_taken(gained, lost, expected) -> None:
    assert given_and_taken(gained, lost).levelling_down == expected
    # only positives move here: the true positive rates say the same
    assert given_and_taken(gained, lost, "aod").levelling_down == expected
    assert given_and_taken(gained, lost, "aod").compared == ("true_positive_rate",)


def test_a_bias_that_grew_is_no_levelling_down_and_said() -> None:
    effects = made({("a", 1): (10, 40, 0, 50), ("b", 1): (50, 0, 0, 50)})
    assert effects.levelling_down == "no"
    assert effects.sentences()[0].startswith(
        "spd did not fall: spd +0.000 to -0.400 (size of the bias +0.400 ["
    )


def test_a_small_group_that_may_have_gained_makes_levelling_down_unclear() -> None:
    effects = made({("few", 1): (5, 2, 3, 22), ("many", 1): (600, 100, 0, 300)})
    assert effects.levelling_down == "unclear"
    assert "the data do not tell whether any gained" in effects.sentences()[0]


def test_a_group_of_few_rows_is_named_and_not_judged_by() -> None:
    moves = {
        ("a", 1): (100, 100, 0, 200),
        ("b", 1): (160, 140, 0, 100),
        ("tiny", 1): (1, 0, 1, 3),
    }
    effects = made(moves, "demographic_parity_difference")
    tiny = effects.of("tiny", "selection_rate")
    assert tiny.few
    assert not tiny.clear
    assert tiny in effects.too_few
    assert any(line.startswith("Too few rows to tell: tiny") for line in effects.sentences())


def test_a_group_without_positive_labels_has_no_true_positive_rate() -> None:
    effects = made({("none", 0): (10, 5, 0, 50), ("b", 0): (20, 5, 0, 50), ("b", 1): (50, 9, 0, 9)})
    change = effects.of("none", "true_positive_rate")
    assert math.isnan(change.change)
    assert change.rows == 0
    assert not change.clear
    assert change not in effects.worse
    eod = next(each for each in effects.measures if each.name == "eod")
    assert math.isnan(eod.bias)
    assert "nan" not in " ".join(effects.sentences())


def test_measures_that_moved_grew_first_and_beyond_sampling_error() -> None:
    effects = given_and_taken(120, 0)
    assert {each.name for each in effects.measures} == {each.name for each in metrics.ALL}
    for each in effects.measures:
        assert not each.low > each.bias
        assert not each.high < each.bias
    found = effects.moved
    assert "spd" not in {each.name for each in found}
    assert [each.bias for each in found] == sorted((e.bias for e in found), reverse=True)
    eod = next(each for each in found if each.name == "eod")
    assert (eod.before, eod.after) == pytest.approx((0.2 - 0.625, 0.6 - 0.625))
    assert eod.high < 0
    assert given_and_taken(0, 0).moved == ()
    small = made({("a", 1): (10, 1, 0, 9), ("b", 1): (10, 0, 0, 10)})
    assert small.moved == ()  # one row of twenty is chance


def test_the_interval_of_a_moved_bias_covers() -> None:
    random = np.random.default_rng(0)
    chances = np.array([[0.2, 0.02, 0.15, 0.63], [0.4, 0.1, 0.02, 0.48]])
    true = (0.5 - 0.22) - (0.42 - 0.35)
    inside = 0
    for _ in range(200):
        one, other = (random.multinomial(150, p) for p in chances)
        effects = made({("a", 1): tuple(one), ("b", 1): tuple(other)})
        inside += effects.bias.low <= -true <= effects.bias.high
    assert inside >= 182  # 190 expected; fewer than 182 by chance in 1 of 200


def test_a_callers_own_measure_is_there_without_an_interval() -> None:
    def odd(y: Any, prediction: Any, group: Any) -> float:
        return float(prediction[group == 0].mean() - prediction[group == 1].mean())

    effects = made({("a", 1): (10, 0, 20, 70), ("b", 1): (50, 0, 0, 50)}, odd)
    assert effects.bias.name == "odd"
    assert (effects.bias.before, effects.bias.bias) == pytest.approx((-0.4, -0.2))
    assert math.isnan(effects.bias.low)
    assert effects.compared == ("selection_rate",)
    assert effects.sentences()


# --- several constraints --------------------------------------------------------------------------


def one_fell_one_grew(*more: Any) -> Effects:
    """spd -0.35 to 0, eod 0 to 0.2: women are given more."""
    moves = {
        ("women", 0): (0, 0, 200, 200),
        ("women", 1): (200, 0, 200, 0),
        ("men", 0): (280, 0, 0, 120),
        ("men", 1): (200, 0, 120, 80),
    }
    return made(moves, [("spd", 0.1), ("eod", 0.3), *more])


def test_of_several_constraints_each_is_told_by_its_own_values() -> None:
    effects = one_fell_one_grew()
    assert effects.measure == "spd and eod"
    assert [each.name for each in effects.fell] == ["spd"]
    assert [each.name for each in effects.aimed] == ["spd", "eod"]
    first, second, *_ = effects.sentences()
    assert first.startswith("No levelling down: spd fell, and no group lost in selection rate")
    assert "eod" not in first
    grew, fell = second.removeprefix("Constraints whose bias grew: ").split("; whose bias fell: ")
    assert grew.startswith("eod 0.000 to 0.200 (size of the bias +0.200 [")
    assert fell.startswith("spd -0.350 to +0.000 (size of the bias -0.350 [")
    others = [line for line in effects.sentences() if line.startswith("Other bias")]
    assert not any(" eod " in line or " spd " in line for line in others)
    assert "spd" not in {each.name for each in effects.moved}
    again = Effects.from_dict(json.loads(json_text(effects.to_dict())))
    assert repr(again) == repr(effects)
    assert again.sentences() == effects.sentences()


def test_levelling_down_is_judged_by_the_constraints_that_fell() -> None:
    moves = {
        ("women", 0): (60, 0, 0, 240),
        ("women", 1): (60, 0, 0, 240),
        ("men", 0): (30, 120, 0, 250),
        ("men", 1): (250, 0, 100, 50),
    }
    effects = made(moves, [("false_positive_rate_difference", 0.1), ("eod", 0.1)])
    assert [each.name for each in effects.fell] == ["false_positive_rate_difference"]
    assert effects.compared == ("selection_rate", "true_positive_rate")
    assert effects.judged == ("selection_rate",)
    moves[("men", 1)] = (250, 0, 0, 150)
    both = made(moves, [("spd", 0.1), ("eod", 0.1)])  # eod stays as it was
    assert both.levelling_down == "full"
    assert "whose bias stayed: eod" in both.sentences()[1]


def test_of_several_constraints_none_may_have_fallen() -> None:
    moves = {("a", 1): (10, 40, 0, 50), ("b", 1): (50, 0, 0, 50)}
    effects = made(moves, [("spd", 0.1), ("eod", 0.1)])
    assert effects.levelling_down == "no"
    assert effects.sentences()[0] == "None of spd and eod fell."
    assert effects.sentences()[1].startswith("Constraints whose bias grew: spd +0.000 to -0.400")


def test_a_callers_own_measure_may_be_one_of_several() -> None:
    def odd(y: Any, prediction: Any, group: Any) -> float:
        return float(prediction[group == 0].mean() - prediction[group == 1].mean())

    effects = one_fell_one_grew((odd, 0.2))
    assert [each.name for each in effects.fell] == ["spd", "odd"]
    assert effects.aimed[-1].after == pytest.approx(0.0)


# --- the label that is good for a person ----------------------------------------------------------


def swapped(
    moves: dict[tuple[str, int], tuple[int, int, int, int]],
) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    """The same people with labels and decisions called the other way round."""
    return {
        (name, 1 - label): (neither, gained, lost, both)
        for (name, label), (both, lost, gained, neither) in moves.items()
    }


BOTH_LOSE = {
    ("women", 0): (10, 50, 0, 240),
    ("women", 1): (40, 20, 0, 240),
    ("men", 0): (20, 130, 0, 250),
    ("men", 1): (100, 150, 0, 150),
}


def test_where_label_1_is_bad_more_of_it_is_a_loss() -> None:
    effects = made(swapped(BOTH_LOSE), favourable=0)  # both groups are predicted 1 more often
    assert effects.levelling_down == "full"
    assert effects.sentences()[0].startswith("Levelling down: spd fell only because groups lost")
    worse = {(each.group, each.rate) for each in effects.worse}
    assert {("men", "selection_rate"), ("men", "false_positive_rate")} <= worse
    assert effects.of("men", "true_positive_rate").gain == 0
    assert effects.of("men", "selection_rate").gain == pytest.approx(-0.35)
    assert made(swapped(BOTH_LOSE)).levelling_down == "no"  # were 1 the good label
    assert "favourable" not in effects.rates_frame()
    again = Effects.from_dict(json.loads(json_text(effects.to_dict())))
    assert again == effects


@pytest.mark.parametrize(("gained", "lost"), [(120, 0), (60, 120), (100, 60), (0, 120), (0, 0)])
@pytest.mark.parametrize(
    ("measure", "mirrored"),
    [
        ("spd", "spd"),
        ("aod", "aod"),
        ("equalized_odds_difference", "equalized_odds_difference"),
        ("equal_opportunity_difference", "false_positive_rate_difference"),
        ("false_positive_rate_difference", "equal_opportunity_difference"),
    ],
)
def test_the_verdict_is_the_same_by_whatever_name_the_labels_go(
    gained, lost, measure, mirrored
) -> None:
    moves = {
        ("women", 0): (60, 0, gained // 2, 240 - gained // 2),
        ("women", 1): (60, 0, gained, 240 - gained),
        ("men", 0): (150 - lost // 2, lost // 2, 0, 250),
        ("men", 1): (250 - lost, lost, 0, 150),
    }
    one, other = made(moves, measure), made(swapped(moves), mirrored, favourable=0)
    assert other.levelling_down == one.levelling_down
    assert other.bias.bias == pytest.approx(one.bias.bias)


def test_refusing_everybody_is_no_gain_by_false_positive_rates_alone() -> None:
    effects = made(BOTH_LOSE, "false_positive_rate_difference")
    assert effects.compared == ("selection_rate",)
    assert effects.levelling_down == "full"


# --- what tells the group -------------------------------------------------------------------------


def test_areas_are_those_of_sklearn_for_each_group_against_the_rest() -> None:
    random = np.random.default_rng(0)
    n, names = 500, tuple("abcde")
    group = random.integers(5, size=n)
    scores = random.random(n), random.random(n) + 0.2 * (group == 2)
    chances = random.dirichlet(np.ones(5), n) + 0.3 * np.eye(5)[group]
    y = random.integers(2, size=n)
    data = rf.GroupedData(x=torch.zeros(n, 1), y=y, group=group, group_names=names)
    effects = effects_of(
        metrics.SPD,
        data,
        scores=scores,
        decisions=(y, y),
        group_chances=chances,
        rows_seen=False,
        needs_group=True,
    )
    assert len(effects.group_auc) == 3 * 5
    frame = effects.group_auc_frame()
    for code, name in enumerate(names):
        for of, score in zip(
            ("score_before", "score_after", "inner_estimate"),
            (*scores, chances[:, code]),
            strict=True,
        ):
            row = frame.loc[(of, name)]
            assert row["value"] == pytest.approx(roc_auc_score(group == code, score))
            assert row["low"] < row["value"] < row["high"]
    told = effects.tells("score_after")
    assert told is not None
    assert told.group == "c"
    line = next(line for line in effects.sentences() if line.startswith("Proxies"))
    assert f"the score tells c with AUC {told.value:.2f}" in line
    assert "the head infers" in line
    assert "told each row's group" in line


def test_a_group_that_scores_lower_than_the_rest_is_told_all_the_same() -> None:
    effects = made(
        {("low", 1): (10, 0, 0, 90), ("mid", 1): (50, 0, 0, 50), ("mid2", 1): (50, 0, 0, 50)}
    )
    told = effects.tells("score_after")
    assert told is not None
    assert told.group == "low"
    assert told.value == pytest.approx(0.3)
    assert "the score tells low with AUC 0.70" in " ".join(effects.sentences())
    assert effects.tells("inner_estimate") is None


# --- writing, reading, comparing ------------------------------------------------------------------


def test_effects_survive_json_also_where_they_are_nan() -> None:
    effects = made({("none", 0): (10, 5, 0, 50), ("b", 1): (50, 9, 0, 9)})
    values = json.loads(json_text(effects.to_dict()))
    again = Effects.from_dict(values)
    assert repr(again) == repr(effects)
    assert values["levelling_down"] == effects.levelling_down
    assert len(values["worse"]) == len(effects.worse)
    assert list(effects.rates_frame().index.names) == ["group", "rate"]
    assert effects.measures_frame().loc["spd", "bias"] == effects.bias.bias


def test_compare_on_test_data_is_what_the_audits_say(splits: rf.Splits, trained: nn.Module) -> None:
    result = rf.debias(trained, splits.valid, rf.Constrained("spd", 0.05), "fair_head")
    effects = rf.compare(trained, result, splits.test)
    before, after = rf.audit(trained, splits.test), rf.audit(result, splits.test)
    assert effects.measure == "spd"
    assert not effects.rows_seen
    for each in effects.rates:
        assert each.before == pytest.approx(before.groups[each.group][each.rate].value)
        assert each.after == pytest.approx(after.groups[each.group][each.rate].value)
    for moved in effects.measures:
        assert moved.after == pytest.approx(after[moved.name].value)
    inner = effects.tells("inner_estimate")
    assert inner is not None
    with torch.no_grad():
        cells = result.model.cells(result.model.features(splits.test.x))
    names = splits.test.group_names
    code = names.index(inner.group)
    chance = cells.reshape(len(cells), -1, 2).sum(-1)[:, code].numpy()
    group = splits.test.group.numpy() == code
    assert inner.value == pytest.approx(roc_auc_score(group, chance), abs=1e-4)
    same = rf.compare(result, result, splits.test)
    assert same.worse == same.moved == ()
    assert rf.compare(trained, trained, splits.test, measure="eod").measure == "eod"


def test_the_good_label_is_asked_for_or_known_by_the_data_or_the_result(splits, trained) -> None:
    goal = rf.Constrained("spd", 0.05)
    known = [dataclasses.replace(part, favourable=0) for part in (splits.valid, splits.test)]
    plain = rf.debias(trained, splits.valid, goal, "threshold")
    asked = rf.debias(trained, splits.valid, goal, "threshold", favourable=0)
    told = rf.debias(trained, known[0], goal, "threshold")
    assert [each.effects.favourable for each in (plain, asked, told)] == [1, 0, 0]
    assert rf.compare(trained, plain, splits.test).favourable == 1
    assert rf.compare(trained, asked, splits.test).favourable == 0
    assert rf.compare(trained, plain, known[1]).favourable == 0
    assert rf.compare(trained, asked, known[1], favourable=1).favourable == 1
    assert rf.compare(trained, trained, known[1][:50]).favourable == 0
    for bad in (2, True, "0", 0.0):
        with pytest.raises(InputError, match="the label that is good for a person, 0 or 1, got"):
            rf.compare(trained, plain, splits.test, favourable=bad)
        with pytest.raises(InputError, match="the label that is good for a person, 0 or 1, got"):
            rf.debias(trained, splits.valid, goal, "threshold", favourable=bad)
        with pytest.raises(InputError, match="the label that is good for a person, 0 or 1, got"):
            dataclasses.replace(splits.test, favourable=bad)


def test_compare_with_what_does_not_fit(splits: rf.Splits, trained: nn.Module) -> None:
    result = rf.debias(trained, splits.valid, rf.Constrained("spd", 0.05), "threshold")
    with pytest.raises(InputError, match="expected GroupedData to compare on, got str"):
        rf.compare(trained, result, "test")  # type: ignore[arg-type]
    other = rf.GroupedData(
        x=splits.test.x, y=splits.test.y, group=splits.test.group, group_names=("x", "y")
    )
    with pytest.raises(InputError, match="expected data with the groups"):
        rf.compare(trained, result, other)
