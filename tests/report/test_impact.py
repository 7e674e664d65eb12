"""Impact ratios by hand."""

from __future__ import annotations

import numpy as np
import pytest

import retrofair as rf
from retrofair import metrics
from retrofair.report.impact import (
    Categories,
    Category,
    category_groups,
    lines,
    scoring_lines,
    selection_lines,
)

# rows, selected: (f, x), (f, y), (m, x), (m, y)
ROWS, SELECTED = (100, 300, 200, 400), (10, 60, 60, 200)
ATTRIBUTES = {"sex": ("f", "f", "m", "m"), "race": ("x", "y", "x", "y")}


def audit_of(rows=ROWS, selected=SELECTED, attributes=ATTRIBUTES):
    group = np.repeat(np.arange(len(rows)), rows)
    decided = np.concatenate([np.arange(n) < k for n, k in zip(rows, selected, strict=True)])
    y = np.arange(len(group)) % 2
    scores = np.where(decided, 0.9, 0.1)
    return rf.audit_predictions(
        y, decided, group, scores=scores, threshold=0.5, attributes=attributes
    )


def test_by_each_column_and_by_intersection():
    (sex, by_sex), (race, by_race), (both, crossed) = selection_lines(audit_of())
    assert (sex.name, race.name, both.name) == ("sex", "race", "sex and race")
    assert [(line.name, line.rows, line.selected) for line in by_sex] == [
        ("f", 400, 70),
        ("m", 600, 260),
    ]
    assert by_sex[0].ratio == pytest.approx((70 / 400) / (260 / 600))
    assert by_race[0].ratio == pytest.approx((70 / 300) / (260 / 700))
    assert [line.ratio for line in crossed] == pytest.approx([0.2, 0.4, 0.6, 1.0])


def test_one_column_needs_no_intersections():
    one = audit_of((10, 20), (1, 4), {"sex": ("f", "m")})
    assert [table.name for table in category_groups(one)] == ["sex"]
    none = audit_of((10, 20), (1, 4), None)
    assert [table.name for table in category_groups(none)] == ["group"]


def test_a_category_under_two_per_cent_is_no_reference():
    found = audit_of((10, 590, 400), (10, 118, 40), {"race": ("x", "y", "z")})
    ((_, by_race),) = selection_lines(found)
    assert [line.small for line in by_race] == [True, False, False]
    assert [line.ratio for line in by_race] == pytest.approx([5.0, 1.0, 0.5])


def test_intervals_of_ratios_are_those_of_the_disparate_impact():
    # two categories: the same comparison as the measure makes, the privileged group last
    counts = np.array([[[60, 20], [10, 10]], [[50, 30], [10, 60]]])
    table = Categories("sex", (Category("F", (0,)), Category("M", (1,))))
    by = lines(table, counts[..., 1].sum(axis=1), counts.sum(axis=(1, 2)))
    low, high = metrics.get("disparate_impact").interval(counts)
    assert (by[0].low, by[0].high) == pytest.approx((low, high))
    assert (by[1].low, by[1].ratio, by[1].high) == (1.0, 1.0, 1.0)
    # with a third one the interval is wider: it holds for both comparisons
    three = Categories("age", (*table.categories, Category("X", (2,))))
    counts = np.concatenate([counts, counts[:1]])
    wider = lines(three, counts[..., 1].sum(axis=1), counts.sum(axis=(1, 2)))
    assert wider[0].low < by[0].low
    assert wider[0].high > by[0].high


def test_nobody_selected_has_no_ratio():
    (table,) = category_groups(audit_of((10, 20), (0, 0), {"sex": ("f", "m")}))
    found = lines(table, np.array([0, 0]), np.array([10, 20]))
    assert all(np.isnan(line.ratio) for line in found)


def test_the_scoring_rate_is_above_the_median_of_all():
    random = np.random.default_rng(0)
    scores, group = random.random(999), random.integers(0, 2, 999)
    found = rf.audit_predictions(
        np.arange(999) % 2, scores > 0.7, group, scores=scores, threshold=0.7
    )
    ((_, by_group),) = scoring_lines(found)
    above = scores > np.median(scores)
    for code, line in enumerate(by_group):
        assert line.rate == pytest.approx(above[group == code].mean(), abs=0)
    assert scoring_lines(rf.audit_predictions([0, 1], [0, 1], [0, 1])) == []
