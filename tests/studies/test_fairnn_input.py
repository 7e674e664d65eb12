"""The study of Boston housing: input that cannot be, and a study of which little has been run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fairnn import FREE, SMALL, SOURCE, draw

from retrofair.errors import InputError, RetrofairWarning
from retrofair.studies import Plan, Store, run
from retrofair.studies.fairnn import FairNN, housing
from retrofair.studies.fairnn.cells import Room
from retrofair.studies.fairnn.housing import Fold, Problem, Rows, everyone
from retrofair.studies.fairnn.methods import METHODS, Framework


@pytest.fixture
def room() -> Room:
    return Room.of(SOURCE.load(), SOURCE, SMALL, ())


def loaded(problem: Problem, source: Fold = SOURCE) -> Room:
    return Room.of(source.load(), source, problem, ())


def test_a_target_outside_the_range_of_the_model() -> None:
    with pytest.raises(InputError, match=r"targets from 5 to 50.*\(90 rows outside\): set low"):
        loaded(dataclasses.replace(SMALL, low=5.0, high=50.0))
    with pytest.raises(InputError, match="expected low < high, got 2 and 1"):
        Problem(low=2, high=1)


def test_a_weight_for_an_unknown_column() -> None:
    with pytest.raises(
        InputError, match="unknown column for a weight 'skil': did you mean 'skill'"
    ):
        loaded(dataclasses.replace(SMALL, weights=housing.weights_of({"skil": 1})))


def test_with_weights_of_0_everyone_is_similar_and_it_is_said() -> None:
    weights = tuple((name, 0.0) for name in (*FREE, "skill"))
    with pytest.warns(RetrofairWarning, match="everyone is similar to everyone, and delta is the"):
        room = loaded(dataclasses.replace(SMALL, weights=weights))
    theta = draw(room.shape)
    out = room.shape.outputs(theta, room.case.train.x)
    assert room.case.delta()(theta) == pytest.approx(float(out.max() - out.min()))


def test_an_epsilon_without_pairs_is_undefined_and_not_0() -> None:
    problem = dataclasses.replace(SMALL, epsilon=1e-9)
    with pytest.raises(InputError, match=r"no two of 90 rows are within epsilon.*not 0.*larger"):
        loaded(problem)
    splits = SOURCE.load()
    rows = Rows.of(splits.test, problem, everyone(splits, ("sex",)))
    assert math.isnan(float(rows.delta(torch.zeros(30))))


def test_an_attribute_that_does_not_vary(room: Room) -> None:
    same = dataclasses.replace(room.case, attribute=torch.ones(90))
    with pytest.raises(InputError, match="expected an attribute that varies"):
        Framework(resampling=True, starts=2, epochs=1)(same, np.random.default_rng(0))


@pytest.mark.parametrize("change", [{"folds": 2}, {"fold": 5}, {"fold": -1}])
def test_folds_that_cannot_be(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least three folds"):
        dataclasses.replace(SOURCE, **change)


def test_a_study_in_part_says_what_is_missing(tmp_path: Path) -> None:
    """Nothing stored; then one method on one fold, and one figure."""
    study = FairNN(
        data="synthetic", sensitive="sex", rows=150, problem=SMALL, seeds=(0,), methods=METHODS[:2]
    )
    store = Store(tmp_path / "store")
    plan = Plan.of(study.cells(), store)
    study.write(plan, tmp_path)
    text = (tmp_path / "fairnn.md").read_text()
    assert f"{len(plan.cells)} cells have not been run" in text
    some = [next(study.runs()), study.figure_cells()["descent", 0]]
    run(Plan.of(some, store), jobs=1)
    written = study.write(Plan.of(study.cells(), store), tmp_path)
    assert {path.name for path in written} == {
        "fairnn.md",
        "fairnn.csv",
        "fairnn.png",
        "fairnn-descent.png",
    }
    text = (tmp_path / "fairnn.md").read_text()
    assert f"{len(plan.cells) - 2} cells have not been run" in text
    assert "nan" not in text
    assert "| constant model | 1 | 0.00 | 0.00 |" in text
