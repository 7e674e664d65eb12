"""What a result of three classes says of itself: who lost, what moved, what tells the group."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score, roc_auc_score
from torch import nn

import retrofair as rf
from classes_cases import three_classes, trained_on
from retrofair import metrics
from retrofair.debiasers.effects import Effects
from retrofair.debiasers.effects_of_classes import effects_of_classes
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.metrics import bias_change, paired

NAMES = ("low", "middle", "high")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_on(three_classes(2000, 0))


@pytest.fixture(scope="module")
def data() -> rf.GroupedData:
    return three_classes(1500, 1)


@pytest.fixture(scope="module", params=["threshold", "fair_head"])
def result(request, net, data) -> Any:
    return rf.debias(net, data, rf.Constrained("spd", epsilon=0.05), request.param)


def made(y: Any, before: Any, after: Any, group: Any, measure: str = "spd") -> Effects:
    """Effects of decisions, with scores that say the same."""
    data = rf.GroupedData(
        x=torch.zeros(len(y), 1),
        y=torch.tensor(y),
        group=torch.tensor(group),
        group_names=("f", "m"),
    )
    scores = tuple(np.eye(3)[each] for each in (before, after))
    return effects_of_classes(
        metrics.of_classes(metrics.get(measure)),
        data,
        scores=scores,
        decisions=(np.array(before), np.array(after)),
        group_chances=None,
        rows_seen=True,
        needs_group=False,
        classes=NAMES,
    )


def one_loses() -> Effects:
    """Of 200 rows of class 2 of the first group, 100 are no longer decided for it, but for 1."""
    y, group = np.repeat([0, 1, 2] * 2, 200), np.repeat([0, 1], 600)
    after = y.copy()
    after[400:500] = 1
    return made(y, y, after, group)


def test_rates_of_each_class_by_hand() -> None:
    effects = one_loses()
    assert effects.of("f", "true_positive_rate", "high").change == pytest.approx(-0.5)
    assert effects.of("f", "false_positive_rate", "middle").gain == pytest.approx(-0.25)
    assert effects.of("f", "accuracy").after == pytest.approx(500 / 600)
    assert effects.of("f", "selection_rate", "high").gain == 0.0
    assert effects.of("m", "accuracy").change == 0.0
    assert len(effects.rates) == 2 * (1 + 4 * 3)
    with pytest.raises(InputError, match="class"):
        effects.of("f", "selection_rate", "huge")
    with pytest.raises(InputError, match="rate"):
        effects.of("f", "luck")


def test_what_got_worse_comes_first_and_nobody_is_levelled_down() -> None:
    effects = one_loses()
    worse = [(each.group, each.rate, each.label) for each in effects.worse]
    assert worse[0] == ("f", "true_positive_rate", "high")
    assert worse[1:] == [("f", "false_positive_rate", "middle"), ("f", "accuracy", "")]
    assert effects.levelling_down == "not judged"
    lines = effects.sentences()
    assert lines[0].startswith("spd did not fall: spd 0.000 to 0.167 (size of the bias +0.167 [")
    assert lines[1].startswith(
        "Worse: f, true positive rate of class high 1.000 to 0.500 (-0.500 ["
    )
    assert "f, accuracy 1.000 to 0.833" in lines[1]
    assert any(line.startswith("Share decided for a class: f, ") for line in lines)
    assert len(lines) <= 8


def test_other_measures_move() -> None:
    effects = one_loses()
    assert {each.name for each in effects.measures} == {each.name for each in metrics.ALL}
    eod = next(each for each in effects.measures if each.name == "eod")
    assert (eod.before, eod.after) == pytest.approx((0.0, 0.5))
    assert 0.4 < eod.low < eod.bias < eod.high < 0.6
    assert eod in effects.moved
    assert "Other bias that grew: " in " ".join(effects.sentences())


def test_a_result_tells_of_the_decisions_that_it_reports(result, data) -> None:
    effects = result.effects
    assert effects.classes == ("0", "1", "2")
    assert effects.bias.before == pytest.approx(result.before.bias)
    assert effects.bias.after == pytest.approx(result.after.bias)
    for g, name in enumerate(data.group_names):
        counts = result.after.array[g]
        for k in range(3):
            found = effects.of(name, "true_positive_rate", str(k))
            assert found.after == pytest.approx(counts[k, k] / counts[k].sum())
            assert found.low <= found.change <= found.high
    for moved in effects.measures:
        assert moved.low <= moved.bias <= moved.high
    assert len([e for e in effects.group_auc if e.of == "score_after"]) == 2 * 3
    told = effects.tells("score_after")
    assert told is not None
    assert told.low <= told.value <= told.high


def test_on_new_data_it_agrees_with_the_audits(result, net) -> None:
    test = three_classes(1500, 2)
    effects = rf.compare(net, result, test, class_names=NAMES)
    assert effects.measure == "spd"
    assert not effects.rows_seen
    before, after = rf.audit(net, test), rf.audit(result, test)
    for each in effects.measures:
        pair = (before[each.name].value, after[each.name].value)
        assert (each.before, each.after) == pytest.approx(pair)
    decided = result.predict_data(test)
    inside = test.group.numpy() == 0
    recalls = recall_score(test.y[inside], decided[inside], average=None)
    found = [effects.of("a", "true_positive_rate", name).after for name in NAMES]
    assert found == pytest.approx(list(recalls))
    scores = torch.softmax(net(test.x), 1).detach().numpy()
    area = next(
        e for e in effects.group_auc if (e.of, e.group, e.label) == ("score_before", "a", "high")
    )
    assert area.value == pytest.approx(roc_auc_score(inside, scores[:, 2]), abs=1e-4)
    inner = effects.tells("inner_estimate")
    assert (inner is None) == (result.about["method"] != "fair_head")


def test_what_cannot_be_compared(result, net) -> None:
    test = three_classes(500, 2)
    with pytest.raises(InputError, match="3 different class names"):
        rf.compare(net, result, test, class_names=("low", "high"))
    more = rf.GroupedData(x=test.x, y=test.y + 1, group=test.group, group_names=("a", "b"))
    with pytest.raises(InputError, match="labels from 0 to 2, which the result decides among"):
        rf.compare(net, result, more)
    without = test[test.y < 2]
    assert rf.compare(net, result, without).classes == ("0", "1", "2")


def test_it_survives_saving_and_json(result, net, tmp_path) -> None:
    again = Effects.from_dict(json.loads(json_text(result.effects.to_dict())))
    assert repr(again) == repr(result.effects)
    assert rf.load_result(result.save(tmp_path / "out"), net).effects == result.effects
    assert result.effects.rates_frame().index.names == ["group", "rate", "label"]
    assert result.effects.group_auc_frame().index.names == ["of", "group", "label"]
    page = result.to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert "false positive rate of class 2" in page


def test_pairs_are_counted_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    y, before, after, group = (random.integers(k, size=200) for k in (3, 3, 3, 2))
    pairs = paired.count_class_pairs(y, before, after, group, 2, 3)
    table = np.zeros((2, 3, 3, 3), dtype=int)
    for row in zip(group, y, before, after, strict=True):
        table[row] += 1
    assert (pairs == table).all()
    with pytest.raises(InputError, match="on the same rows"):
        paired.count_class_pairs(y, before, after[:9], group, 2, 3)


def test_limits_of_the_worst_class_contain_its_change() -> None:
    random = np.random.default_rng(1)
    pairs = random.integers(1, 30, size=(3, 3, 3, 3))
    for two in metrics.ALL:
        measure = metrics.of_classes(two)
        low, high = bias_change.change_limits(measure, pairs, 1.96)
        change = float(measure.bias(pairs.sum(-2)) - measure.bias(pairs.sum(-1)))
        assert low <= change <= high


def test_very_many_classes_have_no_limits_but_all_else() -> None:
    random = np.random.default_rng(2)
    y = np.concatenate([np.arange(40), random.integers(40, size=400)])
    pairs = paired.count_class_pairs(y, y, y[::-1], y % 4, 4, 40)
    assert np.isnan(bias_change.change_limits(metrics.of_classes(metrics.SPD), pairs, 1.96)).all()
