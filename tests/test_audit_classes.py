"""The audit of three classes and more."""

from __future__ import annotations

import math

import fairlearn.metrics as fl
import numpy as np
import pytest
import torch
from torch import nn

import retrofair as rf
from classes_cases import three_classes, trained_on
from retrofair import metrics
from retrofair.audit import Audit
from retrofair.errors import InputError

# [group][label][prediction], as in the tests of the measures
HAND = np.array([[[6, 2, 2], [1, 8, 1], [3, 1, 6]], [[9, 1, 0], [2, 6, 2], [0, 2, 8]]])
NAMES = ("low", "middle", "high")


def rows_of(counts):
    counts = np.asarray(counts)
    group, y, decided = (np.repeat(a.ravel(), counts.ravel()) for a in np.indices(counts.shape))
    return y, decided, group


def of(counts, **options) -> Audit:
    return rf.audit_predictions(*rows_of(counts), **options)


def test_values_by_hand_and_the_class_they_are_of():
    found = of(HAND, class_names=NAMES)
    assert found["spd"].value == pytest.approx(2 / 30)
    assert found["spd"].note == "worst class: middle"
    assert found["eod"].value == pytest.approx(0.3)
    assert found["eod"].note == "worst class: low"
    assert found["disparate_impact"].value == pytest.approx(0.9)
    assert found["accuracy"].value == pytest.approx(43 / 60)
    assert found["balanced_accuracy"].value == pytest.approx(43 / 60)
    assert found.n == 60
    assert found.class_names == NAMES
    assert "roc_auc" not in found
    assert of(HAND)["spd"].note == "worst class: 1"


def test_the_classes_one_by_one():
    y, decided, group = rows_of(HAND)
    found = of(HAND, class_names=NAMES, group_names=["f", "m"])
    frame = found.classes_frame()
    assert list(frame.index) == list(NAMES)
    assert frame["n"].tolist() == [20, 20, 20]
    for k, name in enumerate(NAMES):
        alone = rf.audit_predictions(y == k, decided == k, group)
        for measure in metrics.ALL:
            assert frame.loc[name, measure.name] == alone[measure.name].value
            assert frame.loc[name, f"{measure.name}_low"] == alone[measure.name].low
        rates = fl.MetricFrame(
            metrics=fl.selection_rate, y_true=y == k, y_pred=decided == k, sensitive_features=group
        ).by_group
        assert frame.loc[name, "selection_rate[f]"] == pytest.approx(rates[0])
        assert frame.loc[name, "selection_rate[m]"] == pytest.approx(rates[1])


def test_rates_by_group_of_each_class():
    found = of(HAND, class_names=NAMES, group_names=["f", "m"])
    table = found.groups_frame()
    assert table.loc["f", "n"] == 30
    assert table.loc["f", "accuracy"] == pytest.approx(20 / 30)
    assert table.loc["m", "true_positive_rate[low]"] == pytest.approx(0.9)
    assert table.loc["m", "selection_rate[high]"] == pytest.approx(1 / 3)
    assert set(found.to_dict()) == set(found.estimates)


def test_the_interval_is_wider_than_that_of_the_class_alone():
    found = of(10 * HAND)
    alone = found.classes["1"]["spd"]
    assert found["spd"].high - found["spd"].value > alone.high - alone.value > 0


def test_flags():
    constant = np.zeros((2, 3, 3), dtype=int)
    constant[:, :, 1] = 40
    flags = " ".join(of(constant, class_names=NAMES).flags)
    assert "Degenerate: 240 of 240 rows are decided 'middle'" in flags
    fair = np.array([HAND[0] * 50] * 2)
    assert of(fair).flags == ()
    few = " ".join(of(HAND, class_names=NAMES, group_names=["f", "m"]).flags)
    assert "Too little data in group 'f': rows labelled 10 of 'low', 10 of 'middle'" in few
    assert "The intervals of spd, eod, aod are wider" in few
    never = fair.copy()
    never[:, :, 0] += never[:, :, 2]
    never[:, :, 2] = 0
    assert "No row is decided '2'" in " ".join(of(never).flags)
    unlike = np.stack([HAND[0] * 50, HAND[1] * 50])
    unlike[0, :, 0] //= 4
    assert "Four-fifths rule" in " ".join(of(unlike).flags)
    empty = of(fair, group_names=["f", "m", "x"])
    assert "Group 'x' has no row" in " ".join(empty.flags)


def test_names_fix_the_number_of_classes():
    y, decided, group = rows_of(HAND)
    found = rf.audit_predictions(y, decided, group, class_names=[*NAMES, "highest"])
    assert found.counts.shape == (2, 4, 4)
    assert found["balanced_accuracy"].value == pytest.approx(43 / 60)
    rows = y < 2
    kept = rf.audit_predictions(y[rows], decided[rows], group[rows], class_names=NAMES)
    assert kept.counts.shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("y", "decided", "options", "message"),
    [
        ([0, 1, 2, 0], [0, 1, 3, 0], {}, "whole predictions from 0 to 2, got 0 to 3"),
        ([0, 1, 0, 1], [0, 1, 2, 0], {}, "whole predictions from 0 to 1"),
        ([0, 1, 2, -1], [0, 1, 2, 0], {}, "whole labels from 0 to 1, got -1 to 2"),
        ([0, 1, 2, 0.5], [0, 1, 2, 0], {}, "whole labels"),
        ([0, 1, 2, 0], [0, 1, 2, 0], {"scores": [0.1] * 4}, "no scores= with 3 classes"),
        ([1, 2, 1, 2], [1, 2, 2, 2], {}, "count the classes from 0, got 1 to 2"),
        ([0, 1, 2, 0], [0, 1, 1.5, 0], {}, "whole predictions"),
        ([0, 1, 2, 3], [0, 1, 2, 3], {"class_names": NAMES}, "whole labels from 0 to 2"),
        ([0, 1, 2, 0], [0, 1, 2, 0], {"class_names": ["a", "a", "b"]}, "different class names"),
        ([0, 1, 0, 1], [0, 1, 0, 1], {"class_names": ["a"]}, "2 different class names"),
    ],
)
def test_what_is_no_class(y, decided, options, message):
    with pytest.raises(InputError, match=message):
        rf.audit_predictions(y, decided, [0, 0, 1, 1], **options)


def test_callables_see_the_codes():
    def high_gap(y, prediction, group):
        return (prediction[group == 0] == 2).mean() - (prediction[group == 1] == 2).mean()

    found = of(HAND, measures=[high_gap])
    assert found["high_gap"].value == pytest.approx(9 / 30 - 10 / 30)
    assert "high_gap" not in found.classes_frame()

    def spd(y, prediction, group):
        return 0.0

    with pytest.raises(InputError, match="another 'spd'"):
        of(HAND, measures=[spd])


@pytest.fixture(scope="module")
def data() -> rf.GroupedData:
    return three_classes(1200, 1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_on(three_classes(1500, 0), epochs=8)


def test_a_network_and_its_result(data, net):
    found = rf.audit(net, data, class_names=NAMES)
    by_hand = rf.audit_predictions(
        data.y, net(data.x).argmax(1), data.group, group_names=("a", "b")
    )
    assert found["spd"].value == by_hand["spd"].value > 0.1
    result = rf.debias(net, data, rf.Constrained("spd", epsilon=0.05), "fair_head")
    fair = rf.audit(result, data, class_names=NAMES)
    assert fair["spd"].value < found["spd"].value
    # classes that do not turn up are still the network's
    few = rf.audit(result, data[data.y < 2])
    assert few.counts.shape == (2, 3, 3)


def test_networks_that_do_not_fit_the_labels(data, net):
    binary = rf.GroupedData(
        x=data.x, y=(data.y > 1).long(), group=data.group, group_names=data.group_names
    )
    one, two = nn.Linear(4, 1), nn.Linear(4, 2)
    for run in (rf.audit, lambda n, d: rf.debias(n, d, rf.Constrained("spd"), "random")):
        with pytest.raises(InputError, match=r"labels of 3 classes are 0 to 2, but here are only"):
            run(net, binary)
        with pytest.raises(InputError, match=r"out\[:, 1\] - out\[:, 0\]"):
            run(two, binary)
        with pytest.raises(InputError, match=r"one logit per class, shape \(1200, 3\).*\(1200,\)"):
            run(one, data)
        with pytest.raises(InputError, match=r"one logit per class"):
            run(two, data)
    result = rf.debias(one, binary, rf.Constrained("spd"), "threshold")
    with pytest.raises(InputError, match="whole labels from 0 to 1"):
        rf.audit(result, data)
    with pytest.raises(InputError, match="no threshold= with 3 classes"):
        rf.audit(net, data, threshold=0.5)
    wide = nn.Linear(4, 5)
    assert rf.audit(wide, data).counts.shape == (2, 5, 5)
    with pytest.raises(InputError, match=r"one logit per class, shape \(1200, 3\)"):
        rf.debias(wide, data, rf.Constrained("spd"), "random")


def test_data_that_cannot_be_debiased(data, net):
    gap = rf.GroupedData(x=data.x, y=data.y * 2, group=data.group, group_names=data.group_names)
    with pytest.raises(InputError, match=r"all classes from 0 to 4 in the data.*none of 1"):
        rf.debias(net, gap, rf.Constrained("spd"), "random")
    with pytest.raises(InputError, match="at least two groups"):
        rf.debias(net, data[data.group == 0], rf.Constrained("spd"), "random")
    with pytest.raises(InputError, match="attribute='given'"):
        rf.debias(net, data, rf.Constrained("spd"), rf.debiasers.FairHead(attribute="given"))
    few = data[(data.group == 0) | (torch.arange(len(data)) < 3)]
    with pytest.raises(InputError, match=r"at least 3 rows of every group, got [12] of group 'b'"):
        rf.debias(net, few, rf.Constrained("spd"), "fair_head")
    with pytest.raises(InputError, match=r"expected probabilities.*add up to 1"):
        rf.debias(
            nn.Sequential(net, nn.Sigmoid()), data, rf.Constrained("spd"), outputs="probabilities"
        )


def test_what_is_for_two_classes_says_so(data, net):
    with pytest.raises(InputError, match="labels 0/1 for a frontier, got 3 classes"):
        rf.frontier(net, data, "spd", methods=["threshold"])
    costs = metrics.CostMatrix(((0, 1), (5, 0)))
    with pytest.raises(InputError, match="for three classes or more, got 'cost"):
        rf.debias(net, data, rf.Constrained("spd", performance=costs), "random")


@pytest.mark.parametrize("name", ["fair_head", "threshold"])
def test_several_constraints_at_once(data, net, name):
    goal = rf.Constrained([("spd", 0.05), ("equalized_odds_difference", 0.15)])
    result = rf.debias(net, data, goal, name)
    found = result.after.array
    assert result.status is rf.Status.MET
    assert metrics.of_classes(metrics.get("spd")).bias(found) < 0.05
    assert metrics.of_classes(metrics.get("equalized_odds_difference")).bias(found) < 0.15
    assert result.effects is not None
    assert math.isfinite(result.effects.bias.low)


def test_a_two_class_audit_has_no_table_of_classes():
    with pytest.raises(InputError, match="three classes or more"):
        rf.audit_predictions([0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]).classes_frame()


def test_hours_of_adult_in_three_bands(data_root):
    """Real people: below, at and above 40 hours a week, by sex."""
    splits = rf.datasets.load("adult", sensitive="sex", root=data_root)
    hours = splits.train.feature_names.index("hours-per-week")
    usual = splits.train.x[:, hours].mode().values

    def bands(part: rf.GroupedData, n: int) -> rf.GroupedData:
        x, now = part.x[:n], part.x[:n, hours]
        y = (now > usual - 1e-6).long() + (now > usual + 1e-6).long()
        left = [i for i in range(x.shape[1]) if i != hours]
        return rf.GroupedData(x=x[:, left], y=y, group=part.group[:n], group_names=part.group_names)

    train, valid, test = (
        bands(part, n)
        for part, n in zip(
            (splits.train, splits.valid, splits.test), (8000, 4000, 9000), strict=True
        )
    )
    net = trained_on(train, epochs=6)
    before = rf.audit(net, test)
    result = rf.debias(net, valid, rf.Constrained("spd", epsilon=0.05), "fair_head")
    after = rf.audit(result, test)
    assert result.status is rf.Status.MET
    assert before["spd"].low > 0.1
    assert after["spd"].value < 0.09
    assert after["balanced_accuracy"].value > 0.48 > result.constant.performance
