"""Scores as counts: exact at every edge, small, and nothing lost on the way to a file."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import retrofair as rf
from retrofair import metrics
from retrofair.audit import ScoreCounts, audit_from_dict, audit_to_dict
from retrofair.files import json_text


def rows(n: int = 3000, groups: int = 3, seed: int = 0):
    """Scores with ties, some of them at edges."""
    random = np.random.default_rng(seed)
    scores = np.round(random.beta(0.6, 2, n), 3)
    return scores, random.integers(0, 2, n), random.integers(0, groups, n)


@pytest.mark.parametrize("threshold", [None, 0.5, 0.123456, 0.0, 1.0])
def test_the_counts_at_every_edge_are_those_of_the_rows(threshold):
    scores, y, group = rows()
    found = ScoreCounts.of(scores, y, group, 3, threshold=threshold)
    for edge in found.edges:
        expected = metrics.count(y, (scores > edge).astype(int), group, 3)
        assert (found.at(edge) == expected).all()


def test_the_threshold_in_use_and_the_median_are_edges_and_some_hundred_others():
    scores, y, group = rows()
    found = ScoreCounts.of(scores, y, group, 3, threshold=1 / 3)
    assert 1 / 3 in found.edges
    assert np.median(scores) in found.edges
    assert set(np.round(np.arange(201) / 200, 9)) <= set(found.edges)
    assert 201 < len(found.edges) < 310
    assert (np.diff(found.edges) > 0).all()


def test_where_scores_crowd_there_are_more_edges():
    random = np.random.default_rng(0)
    scores = random.random(5000) / 1000  # all within one step of the unit interval
    found = ScoreCounts.of(scores, np.zeros(5000, int), np.zeros(5000, int), 1)
    inside = found.edges[(found.edges > 0) & (found.edges < 0.001)]
    assert len(inside) >= 99
    assert found.counts.sum(axis=(0, 1)).max() < 0.03 * len(scores)


def test_other_scores_than_probabilities_have_their_own_range():
    scores = np.array([-3.0, 0.0, 7.0, 7.0])
    found = ScoreCounts.of(scores, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 2, threshold=0.0)
    assert (found.low, found.high) == (-3.0, 7.0)
    assert found.at(0.0)[..., 1].tolist() == [[0, 0], [1, 1]]
    one = ScoreCounts.of(np.full(3, 2.0), np.zeros(3, int), np.zeros(3, int), 1)
    assert one.at(2.0)[..., 1].sum() == 0  # strictly above


def test_one_score_far_away_does_not_take_the_slider(tmp_path):
    random = np.random.default_rng(0)
    scores = np.append(random.normal(size=2999), 1e6)
    y, group = random.integers(0, 2, 3000), random.integers(0, 2, 3000)
    found = ScoreCounts.of(scores, y, group, 2, threshold=0.25)
    assert -6 < found.low < -2 < 2 < found.high < 6
    assert found.counts.sum() == found.bars(50).sum() == 3000
    for edge in found.edges[::9]:
        assert (found.at(edge) == metrics.count(y, (scores > edge).astype(int), group, 2)).all()
    far = ScoreCounts.of(scores, y, group, 2, threshold=50.0)
    assert far.high >= 50
    assert 50.0 in far.edges


def test_bars_are_a_histogram_of_the_rows():
    scores, y, group = rows(groups=2)
    found = ScoreCounts.of(scores, y, group, 2, threshold=0.5)
    for g in range(2):
        for label in range(2):
            chosen = scores[(group == g) & (y == label)]
            # bars are closed above, numpy's below
            expected = np.histogram(1 - chosen, bins=np.linspace(0, 1, 51))[0][::-1]
            near = found.bars(50)[g, label]
            assert near.sum() == len(chosen)
            assert np.abs(near - expected).sum() <= (np.isclose(chosen * 50 % 1, 0)).sum() * 2


def test_many_groups_stay_few_numbers():
    scores, y, _ = rows()
    group = np.arange(3000) % 500
    found = ScoreCounts.of(scores, y, group, 500, threshold=0.5)
    assert found.counts.size < 200_000
    assert (found.at(0.5) == metrics.count(y, (scores > 0.5).astype(int), group, 500)).all()


def test_an_audit_of_a_network_keeps_its_scores(trained, splits):
    found = rf.audit(trained, splits.test, threshold=0.4)
    assert found.scores is not None
    assert found.scores.threshold == 0.4
    assert (found.scores.at(0.4) == found.counts).all()
    for edge in found.scores.edges[::40]:
        other = rf.audit(trained, splits.test, threshold=float(np.clip(edge, 0, 1)))
        assert (found.scores.at(edge) == other.counts).all()


def test_a_rule_that_looks_at_the_group_has_no_scores(trained, splits):
    goal = rf.Constrained("spd", epsilon=0.1)
    result = rf.debias(trained, splits.valid, goal, "group_thresholds")
    assert rf.audit(result, splits.test).scores is None
    result = rf.debias(trained, splits.valid, goal, "threshold")
    found = rf.audit(result, splits.test)
    assert found.scores is not None
    assert found.scores.threshold == result.threshold


def test_decisions_that_no_threshold_made_are_told_apart():
    scores, y, group = rows()
    by_score = rf.audit_predictions(y, scores > 0.3, group, scores=scores, threshold=0.3)
    assert by_score.scores is not None
    assert by_score.scores.threshold == 0.3
    other = rf.audit_predictions(y, group == 0, group, scores=scores, threshold=0.3)
    assert other.scores is not None
    assert other.scores.threshold is None
    assert rf.audit_predictions(y, group == 0, group).scores is None


def test_the_protected_columns_come_from_the_table():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"sex": random.choice(["f", "m"], 400), "age": random.random(400)})
    frame["race"] = random.choice(["x", "y", "z"], 400)
    frame["hired"] = random.integers(0, 2, 400)
    data = rf.GroupedData.from_frame(
        frame, label="hired", sensitive=["sex", "race"], privileged=["m", "x"]
    )
    net = rf.networks.MLP(data.x.shape[1], width=2, depth=1)
    found = rf.audit(net, data, outputs="logits")
    assert list(found.attributes) == ["sex", "race"]
    for name, sex, race in zip(found.group_names, *found.attributes.values(), strict=True):
        assert name == f"{sex} & {race}"


def test_attributes_have_a_value_for_each_group():
    with pytest.raises(rf.InputError, match="of the 2 groups, got 1"):
        rf.audit_predictions([0, 1], [0, 1], [0, 1], attributes={"sex": ["f"]})


@pytest.mark.parametrize("own", [(), (lambda y, p, g: float((y != p).mean()),)])
def test_an_audit_comes_back_from_json_as_it_was(trained, splits, own):
    found = rf.audit(trained, splits.test, threshold=0.45, measures=own)
    again = audit_from_dict(json.loads(json_text(audit_to_dict(found))))
    assert again.to_dict().keys() == found.to_dict().keys()
    for name in found:
        assert again[name].value == pytest.approx(found[name].value, nan_ok=True, abs=0)
        assert (again[name].low, again[name].high) == (found[name].low, found[name].high)
    assert again.flags == found.flags
    assert again.threshold == found.threshold
    assert again.attributes == found.attributes
    assert (again.scores.counts == found.scores.counts).all()
    assert (again.scores.edges == found.scores.edges).all()


def test_an_audit_of_classes_comes_back_too():
    random = np.random.default_rng(0)
    y, guess, group = (random.integers(0, k, 900) for k in (3, 3, 2))
    found = rf.audit_predictions(y, guess, group, class_names=["low", "middle", "high"])
    again = audit_from_dict(json.loads(json_text(audit_to_dict(found))))
    assert again.to_dict() == found.to_dict()
    assert again.class_names == found.class_names
