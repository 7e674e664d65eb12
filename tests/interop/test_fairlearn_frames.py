"""Numbers of fairlearn's MetricFrame are those of an audit, on random data and published ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, selection_rate
from hypothesis import given, settings
from hypothesis import strategies as st

import retrofair as rf
from retrofair.errors import InputError

RATES = ("accuracy", "selection_rate", "true_positive_rate", "false_positive_rate")


def agree(frame: MetricFrame, found: rf.Audit) -> None:
    """Every rate of every group, and the gaps."""
    table = found.groups_frame()
    assert list(frame.by_group.index) == sorted(table.index)
    for rate in RATES:
        for name in table.index:
            ours = table.loc[name, rate]
            if not np.isnan(ours):  # of a group without such rows fairlearn says 0
                assert frame.by_group.loc[name, rate] == pytest.approx(ours, abs=1e-12), rate
    assert (frame.by_group["count"] == table["n"].sort_index()).all()
    gap = found["demographic_parity_difference"].value
    assert frame.difference()["selection_rate"] == pytest.approx(gap, abs=1e-12)
    assert frame.overall["accuracy"] == pytest.approx(found["accuracy"].value)


@given(seed=st.integers(0, 10_000), groups=st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_on_random_rows(seed: int, groups: int) -> None:
    random = np.random.default_rng(seed)
    n = 40 * groups
    group = np.arange(n) % groups
    y, y_hat = random.integers(2, size=(2, n))
    for k in range(groups):  # every group has both labels
        y[[k, k + groups]] = 0, 1
    names = [f"group {k}" for k in range(groups)]
    frame = rf.to_metric_frame(y, y_hat, group, group_names=names)
    agree(frame, rf.audit_predictions(y, y_hat, group, group_names=names))
    texts = np.array(names)[group]
    agree(frame, rf.audit_decisions(y, y_hat, sensitive_features=texts))
    agree(
        rf.to_metric_frame(y, y_hat, texts), rf.audit_decisions(y, y_hat, sensitive_features=texts)
    )


@pytest.mark.parametrize(
    ("name", "sensitive"), [("adult", "sex"), ("compas", "race"), ("german", "age")]
)
def test_on_published_data(name, sensitive, data_root) -> None:
    test = rf.datasets.load(name, sensitive=sensitive, root=data_root).test
    net = rf.networks.train_mlp(test, test, depth=1, width=4, max_epochs=2)
    y_hat = (net(test.x) > 0).long()
    y, group = test.y.numpy(), test.group.numpy()
    frame = rf.to_metric_frame(y, y_hat.numpy(), group, group_names=test.group_names)
    agree(frame, rf.audit(net, test, outputs="logits"))


def test_own_metrics_and_classes() -> None:
    y, group = [0, 1, 2, 1], ["a", "a", "b", "b"]
    frame = rf.to_metric_frame(y, [0, 1, 1, 1], group)
    assert list(frame.by_group.columns) == ["count", "accuracy"]
    assert frame.by_group["accuracy"].to_dict() == {"a": 1.0, "b": 0.5}
    frame = rf.to_metric_frame([0, 1], [0, 1], group[1:3], metrics={"rate": selection_rate})
    assert frame.by_group["rate"].to_dict() == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(
    ("y", "y_hat", "positive", "words"),
    [
        (["no", "yes", "no", "yes"], ["No", "yes", "No", "yes"], "yes", "got also 'No'"),
        (["no", "yes", "no", "yes"], [0, 1, 0, 1], "yes", "got also '0', '1'"),
        ([0, 1, 0, 1], [0.2, 0.8, 0.2, 0.7], None, "got also '0.2', '0.7', '0.8'"),
        ([0, 1, 0, 1], [0, 1, 2, 1], None, "got also '2'"),
        (["a", "b", "c", "a"], ["a", "b", "d", "a"], None, "got also 'd'"),
        (["no"] * 4, ["No", "yes", "no", "no"], "yes", "got also 'No', 'yes'"),
    ],
)
def test_decisions_that_are_no_values_of_the_label(y, y_hat, positive, words) -> None:
    sex = ["f", "f", "m", "m"]
    with pytest.raises(InputError, match=words):
        rf.audit_decisions(y, y_hat, sensitive_features=sex, positive=positive, privileged="m")
    with pytest.raises(InputError, match=words):
        rf.to_metric_frame(y, y_hat, sex)


def test_truth_values_and_a_label_of_one_value() -> None:
    sex = ["f", "f", "m", "m"]
    found = rf.audit_decisions([0, 1, 0, 1], [False, True, True, True], sensitive_features=sex)
    assert found["accuracy"].value == 0.75
    found = rf.audit_decisions(
        ["no"] * 4, ["yes", "no", "no", "no"], sensitive_features=sex, positive="yes"
    )
    assert found["accuracy"].value == 0.75
    scores = rf.to_metric_frame(
        [0, 1, 0, 1], [0.2, 0.8, 0.2, 0.7], sex, metrics=lambda y, s: s.sum()
    )
    assert scores.overall == pytest.approx(1.9)  # a measure of one's own may want scores


def test_decisions_of_texts_and_of_classes() -> None:
    sex = ["f", "f", "f", "m", "m", "m"]
    y, y_hat = ["no", "yes", "yes", "no", "yes", "yes"], ["no", "no", "yes", "yes", "yes", "yes"]
    found = rf.audit_decisions(y, y_hat, sensitive_features=sex, positive="yes", privileged="m")
    assert found["spd"].value == pytest.approx(1 / 3 - 1)
    turned = rf.audit_decisions(y, y_hat, sensitive_features=sex, positive="no", privileged="m")
    assert turned["spd"].value == pytest.approx(2 / 3)
    classes = rf.audit_decisions(
        ["low", "mid", "top"] * 2, ["low", "mid", "mid", "low", "mid", "top"],
        sensitive_features=sex, privileged="m",
    )  # fmt: skip
    assert classes.class_names == ("low", "mid", "top")
    assert classes["accuracy"].value == pytest.approx(5 / 6)
    ordered = rf.audit_decisions([10, 9, 8] * 2, [10, 9, 8] * 2, sensitive_features=sex)
    assert ordered.class_names == ("8", "9", "10")


def test_bad_input(monkeypatch) -> None:
    with pytest.raises(InputError, match="say which one is positive"):
        rf.audit_decisions(["a", "b"], ["a", "b"], sensitive_features=[0, 1])
    with pytest.raises(InputError, match="unknown positive value 'c'"):
        rf.audit_decisions(["a", "b"], ["a", "b"], sensitive_features=[0, 1], positive="c")
    with pytest.raises(InputError, match="one length"):
        rf.audit_decisions([0, 1], [0], sensitive_features=[0, 1])
    with pytest.raises(InputError, match="no missing values in y_true"):
        rf.audit_decisions([0, None], [0, 1], sensitive_features=[0, 1])
    with pytest.raises(InputError, match="one length"):
        rf.to_metric_frame([0, 1], [0], [0, 1])
    with pytest.raises(InputError, match="codes from 0 to 1"):
        rf.to_metric_frame([0, 1], [0, 1], [0, 2], group_names=("a", "b"))
    monkeypatch.setitem(sys.modules, "fairlearn.metrics", None)
    with pytest.raises(InputError, match="expected the package fairlearn"):
        rf.to_metric_frame([0, 1], [0, 1], [0, 1])
