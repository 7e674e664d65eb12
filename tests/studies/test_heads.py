"""The study `heads`: the order of its cells, its sources, its sentences of hand-made numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrofair import datasets
from retrofair.errors import InputError
from retrofair.studies import Plan, Source, Store, Study, get, heads_page, heads_paired, run
from retrofair.studies.cells import DebiasCell
from retrofair.studies.heads import HEADS, LAST, MAIN, MANY
from retrofair.studies.results import CONSTANT
from retrofair.studies.run import _ordered as ordered

Shrink = Callable[[Any], Study]


def row(method: str, split: int, good: float, bias: float, **changes: Any) -> dict[str, Any]:
    """One run; the bound is 0.05 and a test set's interval +-0.02."""
    kept = abs(bias) < 0.05
    usual: dict[str, Any] = {
        "columns": "in",
        "epsilon": 0.05,
        "data": "adult",
        "sensitive": "sex",
        "measure": "spd",
        "method": method,
        "split": split,
        "seed": split,
        "state": "done",
        "status": "met",
        "test_performance": good,
        "test_bias": bias,
        "test_unfair": abs(bias),
        "test_bias_low": bias - 0.02,
        "test_bias_high": bias + 0.02,
        "test_feasible": kept,
        "test_objective": good if kept else 0.0,
    }
    return usual | changes


def lines(text: str) -> list[list[str]]:
    """A table's rows, the header first."""
    found = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found]
    return [cells[0], *cells[2:]]


# --- the cells ------------------------------------------------------------------------------------


def test_quick_methods_run_on_everything_first_and_the_larger_bound_before_the_smaller() -> None:
    cells = [cell for cell in HEADS.cells() if isinstance(cell, DebiasCell)]
    slow = [cell.label in LAST for cell in cells]
    assert slow == sorted(slow)
    quick = [c.objective.epsilon for c in cells if c.label not in LAST]  # type: ignore[attr-defined]
    main = quick[: -7 * 5]  # seven methods and five seeds of many groups at the end
    assert main == sorted(main, reverse=True)
    assert {c.source.split for c in cells[:10]} == {0}
    assert len({c.place for c in cells}) == len(cells)


def test_places_are_kept_when_cells_run(tmp_path: Path) -> None:
    small = dataclasses.replace(
        HEADS, sources=(Source("synthetic", ("sex",)),), many=(), measures=("spd",), seeds=(0, 1)
    )
    cells = small.cells()
    plan = Plan.of(cells, Store(tmp_path))
    found = ordered(plan, list(reversed(cells)))
    assert found == cells


def test_columns_in_and_blind_are_different_networks_of_the_same_rows() -> None:
    parts = list(HEADS.parts())
    assert [(p.kind, p.epsilon) for p in parts] == [
        *((MAIN, e) for e in (0.05, 0.05, 0.02, 0.02)),
        (MANY, 0.05),
    ]
    for one, other in ((0, 1), (2, 3)):
        sources = zip(parts[one].grid.sources, parts[other].grid.sources, strict=True)
        for seeing, blind in sources:
            assert seeing.include_sensitive
            assert dataclasses.replace(blind, include_sensitive=True) == seeing
    assert {m.name for m in parts[1].grid.methods} < {m.name for m in parts[0].grid.methods}


def test_a_sample_of_rows_is_the_same_for_every_split(data_root: Path) -> None:
    source = Source("acs_income", ("race",), rows=400, others=True)
    splits = source.load(str(data_root))
    assert splits.train.group_names == ("non-White", "White")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [240, 80, 80]
    table = datasets.get("acs_income").frame("race", data_root).sample(400, random_state=0)
    for split in (0, 1):
        parts = dataclasses.replace(source, split=split).load(str(data_root))
        every = [parts.train, parts.valid, parts.test]
        assert sum(int(p.y.sum()) for p in every) == int(table["income_over_50k"].sum())
        white = sum(int((p.group == 1).sum()) for p in every)
        assert white == int((table["race"] == "White").sum())
    blind = dataclasses.replace(source, include_sensitive=False).load(str(data_root))
    assert blind.train.x.shape[1] == splits.train.x.shape[1] - 1
    with pytest.raises(InputError, match="expected at most"):
        dataclasses.replace(source, rows=10**7).load(str(data_root))


def test_unused_options_of_a_source_leave_the_keys_of_stores_alone() -> None:
    assert not {"rows", "others"} & set(Source("adult", ("sex",)).to_dict())
    assert Source("adult", ("sex",), rows=9, others=True).to_dict()["rows"] == 9
    with pytest.raises(InputError, match="at least one row"):
        Source("adult", ("sex",), rows=0)
    with pytest.raises(InputError, match="expected a data set's name"):
        Source("people.csv", ("sex",), label="hired", rows=5)


# --- the sentences --------------------------------------------------------------------------------


def test_a_median_difference_of_a_hundredth_is_near_and_more_is_not() -> None:
    given = [row("group_thresholds", s, 0.80, 0.04) for s in range(3)]
    near = [row("fair_head", s, g, 0.04) for s, g in enumerate((0.60, 0.795, 0.85))]
    far = [{**r, "test_performance": 0.78, "measure": "eod"} for r in near]
    other = [{**r, "measure": "eod"} for r in given]
    text = heads_paired.near(pd.DataFrame([*given, *near, *other, *far]))
    assert "or better in 1 of 2 settings" in text
    first, second = lines(text)[1:]
    assert first[7] == "-0.005 (-0.200 to +0.050)"
    assert first[8:] == ["3/3 against 3/3", "+-0.020", "yes"]
    assert second[-1] == "no"


def test_only_splits_with_both_methods_are_compared() -> None:
    rows = [row("fair_head", s, 0.8, 0.0) for s in range(4)] + [row("zhang", 2, 0.7, 0.0)]
    gains = heads_paired.gains(pd.DataFrame(rows), "zhang", "test_objective")
    assert gains.to_list() == pytest.approx([0.1])
    assert heads_paired.gains(pd.DataFrame(rows), "random", "test_objective").empty


def test_groups_and_measures_of_one_split_count_once() -> None:
    rows = [
        row(method, split, good, 0.0, measure=measure)
        for split in range(5)
        for measure in ("spd", "eod")
        for method, good in (("fair_head", 0.8), ("random", 0.7 if measure == "spd" else 0.78))
    ]
    (found,) = lines(heads_paired.pooled(pd.DataFrame(rows)))[1:]
    assert found[:8] == ["random", "in", "0.05", "+0.060 +- 0.000", "5 / 0", "5", "0.062", "0.062"]
    assert found[-1] == "10"


def test_where_the_head_is_behind_is_said_with_its_interval() -> None:
    rows = [row("fair_head", s, 0.70 + s / 1000, 0.0) for s in range(5)]
    rows += [row("zhang", s, 0.80, 0.0) for s in range(5)]
    rows += [row("random", s, 0.60, 0.0) for s in range(5)]
    text = heads_paired.behind(pd.DataFrame(rows))
    assert "In 1 of 2 settings and rivals" in text
    assert "in 1 its 95 % t interval is (*significant*), in 1 the interval is above 0" in text
    assert "cannot say less than p = 0.0625" in text
    (found,) = lines(text)[1:]
    assert found[0] == "zhang"
    assert found[6] == "0 / 5"
    assert found[-1] == "**yes**"


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = heads_paired.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (low, high) == pytest.approx((3 - 2.776 * 0.7071, 3 + 2.776 * 0.7071), abs=1e-3)
    assert heads_paired.interval(np.array([1.0])) == (-np.inf, np.inf)


def test_small_data_have_intervals_instead_of_a_winner() -> None:
    wide = {"data": "german", "sensitive": "age", "measure": "eod"}
    rows = [
        row("fair_head", s, 0.7, b, **wide, test_bias_low=b - 0.2, test_bias_high=b + 0.2)
        for s, b in enumerate((0.01, -0.1))
    ]
    text = heads_paired.uncertain(pd.DataFrame(rows))
    assert lines(text)[1][-1] == "-0.19 to +0.21, -0.30 to +0.10"
    assert heads_paired.uncertain(pd.DataFrame([row("fair_head", 0, 0.7, 0.0)])) == ""


def test_a_part_of_the_runs_says_how_many_and_what_failed(tmp_path: Path, shrink: Shrink) -> None:
    study: Any = shrink(get("heads"))
    plan = Plan.of(study.cells(), Store(tmp_path / "store"))
    study.write(plan, tmp_path)
    assert "cells have not been run" in (tmp_path / "heads.md").read_text()
    assert not (tmp_path / "heads.png").exists()
    few = dataclasses.replace(study, seeds=(0,), many=(), methods=study.methods[:3])
    run(Plan.of(few.cells(), plan.store), jobs=1)
    study.write(plan, tmp_path)
    page = (tmp_path / "heads.md").read_text()
    tables = (tmp_path / "heads-tables.md").read_text()
    assert (tmp_path / "heads.png").exists()
    assert "| fair_head | 1 of 2 |" in tables
    assert "| zhang | 0 of 2 |" in tables
    assert "nan" not in page + tables
    frame = study.frame(plan)
    assert set(frame["epsilon"]) == {0.05, 0.02}
    held = frame[(frame["state"] == "done") & (frame["method"] != CONSTANT)]
    assert (held["test_feasible"] == (held["test_unfair"] < held["epsilon"])).all()


def test_failed_cells_are_told_with_their_error() -> None:
    failed = row("fair_head", 0, 0.0, 0.0, state="failed", error="InputError: merge groups")
    good = row(CONSTANT, 0, 0.5, 0.0, rows_test=9, rows_valid=9, groups="a 9", needs_group=None)
    text = "\n".join(heads_page.many(pd.DataFrame([good, failed]), 1))
    assert "- fair_head, 1 of 1 seeds: InputError: merge groups" in text
