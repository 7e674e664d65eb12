"""What studies write: the tidy table, the page and the figures."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import retrofair as rf
from retrofair import studies
from retrofair.audit import audit_predictions
from retrofair.debiasers import Layerwise, Threshold
from retrofair.objective import Constrained, Weighted
from retrofair.studies import Method, Plan, Store, Study, pages, results, run
from retrofair.studies.findings import _clustered as clustered
from retrofair.studies.findings import evaluations, pairs, with_controls
from retrofair.studies.results import CONSTANT, ORIGINAL, TABLE

Finish = Callable[[Study], tuple[Plan, Path]]
Shrink = Callable[[Any], Study]


@pytest.mark.parametrize("name", [study.name for study in studies.ALL])
def test_every_study_runs_and_writes_its_page(name: str, finished: Finish, shrink: Shrink) -> None:
    study = shrink(studies.get(name))
    plan, folder = finished(study)
    assert not plan.missing
    page = (folder / f"{name}.md").read_text()
    assert page.startswith(f"# {study.title}")
    assert f"{len(plan.cells):,} of {len(plan.cells):,} cells" in page
    constant = "constant model" if name == "fairnn" else "constant classifier"
    assert constant in page or name == "coefficients"
    assert "nan" not in page
    assert "Data files (SHA-256): synthetic generated" in page
    assert "Measured one cell at a time" in page or name != "runtimes"
    table = pd.read_csv(folder / f"{name}.csv")
    assert (table["state"] == "done").all() if "state" in table else len(table)
    for picture in re.findall(r"\]\((\S+\.png)\)", page):
        with Image.open(folder / picture) as image:
            assert image.size[0] > 400


@pytest.mark.parametrize("name", ["intra", "posthoc"])
def test_a_study_in_part_says_what_is_missing(name: str, tmp_path: Path, shrink: Shrink) -> None:
    study: Any = shrink(studies.get(name))
    plan = Plan.of(study.cells(), Store(tmp_path / "store"))
    study.write(plan, tmp_path)
    page = tmp_path / f"{name}.md"
    assert f"{len(plan.cells)} cells have not been run" in page.read_text()
    one = dataclasses.replace(study, grid=dataclasses.replace(study.grid, seeds=(0,)))
    run(Plan.of(one.cells(), plan.store), jobs=1)
    study.write(plan, tmp_path)
    assert "cells have not been run" in page.read_text()
    assert "threshold (1 of 2 seeds)" in page.read_text()


def only(study: Any, **changes: Any) -> Any:
    return dataclasses.replace(study, grid=dataclasses.replace(study.grid, **changes))


def test_a_ratio_is_fair_at_one(finished: Finish, shrink: Shrink) -> None:
    study = only(
        shrink(studies.get("intra")),
        measures=("disparate_impact",),
        objective=Constrained("spd", epsilon=0.3),
    )
    plan, folder = finished(study)
    frame = results.frame(study.grid, plan)
    constant = frame[frame["method"] == CONSTANT]
    assert (constant["test_bias"] == 1).all()
    assert constant["test_feasible"].all()
    done = frame[frame["test_bias"].notna()]
    assert (done["test_feasible"] == (done["test_unfair"] < 0.3)).all()
    assert (done["test_feasible"] == (done["test_objective"] > 0)).all()
    assert "| constant classifier | 2 |" in (folder / "intra.md").read_text()


def test_sentences_hold_when_nothing_is_met_and_with_one_seed(
    finished: Finish, shrink: Shrink
) -> None:
    study = only(
        shrink(studies.get("intra")),
        seeds=(0,),
        methods=tuple(
            m for m in studies.get("intra").grid.methods if m.name == "calibrated_equalized_odds"
        ),
        objective=Constrained("spd", epsilon=1e-9),
    )
    _, folder = finished(study)
    page = (folder / "intra.md").read_text()
    assert "The bound was met on validation data in none of 6 runs." in page
    assert "nan" not in page
    assert "standard error 0.000" not in page


def test_the_frame_says_who_beats_the_constant_classifier(
    whole: tuple[Any, Plan, pd.DataFrame],
) -> None:
    frame = whole[2]
    keys = [*TABLE, "seed"]
    constant = frame[frame["method"] == CONSTANT].set_index(keys)["test_objective"]
    runs = frame[frame["method"] != CONSTANT].set_index(keys)
    expected = runs["test_objective"] > constant.loc[runs.index].to_numpy() + 1e-12
    assert (runs["test_beats_constant"] == expected).all()
    assert expected.any()


def test_gains_are_averaged_within_a_data_set_and_seed_first() -> None:
    index = pd.MultiIndex.from_tuples(
        [("a", "x", 0), ("a", "y", 0), ("a", "x", 1), ("b", "x", 0)],
        names=["data", "sensitive", "split"],
    )
    gains = pd.Series([0.0, 0.2, 0.3, 0.2], index=index)
    parts = [0.1, 0.3, 0.2]
    error = np.std(parts, ddof=1) / 3**0.5
    assert clustered(gains) == f"{np.mean(parts):+.3f} +- {error:.3f} (3 parts)"
    assert clustered(gains.iloc[:1]) == "+0.000"


def test_each_search_has_random_search_of_its_budget_beside_it() -> None:
    own = Layerwise(evaluations=7, layers=3)
    methods = with_controls((Method("mine", own, ("spd",)), Method("threshold", Threshold())))
    assert [m.name for m in methods] == ["mine", "mine, random search", "threshold"]
    assert methods[1].debiaser == dataclasses.replace(own, optimizer="random")
    assert methods[1].measures == ("spd",)
    assert with_controls(methods) == methods
    assert evaluations(own, depth=10) == 21
    assert evaluations(Layerwise(), depth=10) == 220
    for name in ("intra", "posthoc"):
        grid = studies.get(name).grid  # type: ignore[attr-defined]
        searches = [m for m in grid.methods if m.name.startswith("layerwise")]
        against = {(one, other) for one, other, _ in pairs(grid)}
        for method in searches:
            if method.debiaser.optimizer == "gbrt":
                assert (method.name, f"{method.name}, random search") in against


@pytest.fixture
def whole(tmp_path: Path, shrink: Shrink) -> tuple[Any, Plan, pd.DataFrame]:
    """A small `intra`, run, and its tidy table."""
    study: Any = shrink(studies.get("intra"))
    plan = Plan.of(study.cells(), Store(tmp_path / "store"))
    run(plan, jobs=1)
    return study, plan, results.frame(study.grid, plan)


def test_the_table_has_what_an_audit_of_the_result_finds(
    whole: tuple[Any, Plan, pd.DataFrame],
) -> None:
    study, plan, frame = whole
    setting, training = next(iter(study.grid.settings()))
    seed = 1
    splits = rf.datasets.load("synthetic", sensitive=list(setting.source.sensitive), seed=seed)
    cell = study.grid.network(setting.source, training, seed)
    net = cell.build(splits, plan.store.tensors(plan.key(cell)))
    result = rf.debias(net, splits.valid, setting.objective, study.grid.methods[0].debiaser, seed=1)
    for name, subject in ((ORIGINAL, net), ("threshold", result)):
        found = rf.audit(subject, splits.test)
        row = frame[
            (frame["method"] == name)
            & (frame["seed"] == seed)
            & (frame["measure"] == setting.measure)
            & (frame["sensitive"] == setting.source.groups)
        ].iloc[0]
        bias = found[setting.measure]
        assert row["test_bias"] == pytest.approx(bias.value)
        assert row["test_bias_low"] == pytest.approx(bias.low)
        assert row["test_balanced_accuracy"] == pytest.approx(found["balanced_accuracy"].value)
    assert row["valid_objective"] == pytest.approx(result.after.objective)
    assert row["status"] == result.status.value


def test_the_constant_classifier_is_chosen_on_validation_data() -> None:
    # more positives in validation (accept everybody), fewer in test data
    counts = {
        "valid": np.array([[[10, 0], [20, 10]], [[5, 5], [20, 10]]]),
        "test": np.array([[[40, 0], [10, 0]], [[30, 0], [10, 0]]]),
    }
    chosen = results._constant(Weighted("spd", lam=0.75), counts)
    assert chosen["test"][..., 0].sum() == 0
    scores = results._scores(Weighted("spd", lam=0.75), chosen)
    assert scores["test_objective"] == pytest.approx(0.25 * 70 / 90)
    assert scores["valid_objective"] == pytest.approx(0.25 * 20 / 80)


def test_scores_are_those_of_an_audit() -> None:
    counts = np.array([[[30, 10], [5, 15]], [[20, 20], [10, 40]]])
    rows = [
        (y, p, g)
        for g in range(2)
        for y in range(2)
        for p in range(2)
        for _ in range(counts[g, y, p])
    ]
    found = audit_predictions(*(np.array(column) for column in zip(*rows, strict=True)))
    scores = results._scores(Constrained("eod", 0.05), {"valid": counts, "test": counts})
    assert scores["test_bias"] == pytest.approx(found["eod"].value)
    assert scores["test_bias_high"] == pytest.approx(found["eod"].high)
    assert scores["test_performance_low"] == pytest.approx(found["balanced_accuracy"].low)
    assert scores["rows_test"] == 150


def test_a_failed_cell_is_in_the_table_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrink: Shrink
) -> None:
    study: Any = shrink(studies.get("intra"))
    broken = type(study.grid.methods[0].debiaser)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(broken, "__call__", fail)
    plan = Plan.of(study.cells(), Store(tmp_path / "store"))
    run(plan, jobs=1)
    study.write(plan, tmp_path)
    frame = pd.read_csv(tmp_path / "intra.csv")
    failed = frame[frame["method"] == "threshold"]
    assert set(failed["state"]) == {"failed"}
    assert set(failed["error"]) == {"RuntimeError: no luck"}
    assert (frame[frame["method"] == "random"]["state"] == "done").all()
    page = (tmp_path / "intra.md").read_text()
    assert "cells failed" in page
    assert "RuntimeError: no luck" in page
    assert "threshold (0 of 2 seeds)" in page
    assert set(plan.missing) == {c for c in plan.cells if c.label == "threshold"}


def test_texts_of_users_and_errors_do_not_break_the_page() -> None:
    assert pages.plain("two\nlines  of <b>`x`|y*") == "two lines of \\<b\\>\\`x\\`\\|y\\*"
    assert len(pages.plain("x" * 500)) == 200
    assert pages.table(["a"], [["b|c"]]).splitlines()[-1] == "| b\\|c |"


def test_numbers_carry_their_spread() -> None:
    assert pages.spread([0.1, math.nan, 0.3]) == "0.200 +- 0.141 (2 of 3 defined)"
    assert pages.spread([math.nan]) == "undefined"
    # of two in the middle the lower: nobody scored halfway between 0 and 0.8
    assert pages.middle([0.0, 0.8]) == "0.000 (0.000 to 0.800)"
    assert pages.spread([0.1, 0.3]) == "0.200 +- 0.141"
    assert pages.spread([0.25]) == "0.250"
    assert pages.spread([]) == "-"
    assert pages.middle([3, 1, 2], 1) == "2.0 (1.0 to 3.0)"


def test_shared_training_counts_once() -> None:
    def network(sensitive: str, trained: bool) -> dict[str, Any]:
        source = {"data": "adult", "sensitive": sensitive, "split": 0, "include_sensitive": True}
        return {
            "kind": "network",
            "config": {"source": source, "seed": 0, "training": {}},
            "seconds": 50.0,
            "wall_seconds": 51.0 if trained else 1.0,
        }

    debias = {"kind": "debias", "wall_seconds": 3.0}
    records = [network("sex", True), network("race", False), debias]
    assert math.isclose(pages._core_seconds(records), 54.0, abs_tol=1.01)


def test_the_seeds_study_has_one_split_and_own_splits(finished: Finish, shrink: Shrink) -> None:
    study: Any = shrink(studies.get("seeds"))
    plan, _ = finished(study)
    frame = study.frame(plan)
    one, own = (frame[frame["split"] == split] for split in ("one split", "own split"))
    assert one["rows"].nunique() == 1
    assert one["constant_accuracy"].nunique() == 1  # the same test rows every time
    assert own["constant_accuracy"].nunique() == 2
    assert one["spd"].nunique() == 2


def test_seeds_take_turns_on_fewer_networks(shrink: Shrink) -> None:
    study = only(shrink(studies.get("posthoc")), seeds=(3, 4, 5), networks=2)
    runs = {(c.seed, c.network.seed, c.source.split) for c in study.cells()}
    assert runs == {(3, 3, 3), (4, 4, 4), (5, 3, 3)}
    assert {c.seed for c in only(study, networks=None).cells()} == {3, 4, 5}
    assert studies.get("variants").grid.split(7) == 1  # type: ignore[attr-defined]


def test_a_network_that_serves_two_seeds_counts_once(finished: Finish, shrink: Shrink) -> None:
    study = only(shrink(studies.get("posthoc")), seeds=(0, 1), networks=1, measures=("spd",))
    plan, folder = finished(study)
    frame = results.frame(study.grid, plan)
    assert frame.groupby("method").size()[ORIGINAL] == 2  # one for each of the two groups
    assert frame.groupby("method").size()["random"] == 4
    page = (folder / "posthoc.md").read_text()
    assert "they take turns on 1 splits" in page
    assert "of 2 seeds" not in page


def test_grids_keep_their_settings_apart(shrink: Shrink) -> None:
    study: Any = shrink(studies.get("variants"))
    keys = {(cell.config()["network"]["training"]["dropout"]) for cell in study.cells()}
    assert len(keys) == 3
