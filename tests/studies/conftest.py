"""The papers' studies on the embedded data, with networks that train in no time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import Pictures

from retrofair.debiasers import (
    Adversarial,
    BiasGradient,
    CalibratedEqualizedOdds,
    EqualizedOdds,
    FairHead,
    GroupThresholds,
    Lagrangian,
    Layerwise,
    Pruning,
    Random,
    RejectOption,
    Threshold,
    Zhang,
)
from retrofair.networks import Fitting, Training
from retrofair.studies import Plan, Source, Store, Study, run
from retrofair.studies.fairnn.housing import Problem
from retrofair.studies.fairnn.methods import Draws, Trained
from retrofair.studies.grid import Grid, Method
from retrofair.studies.images import ImageTraining

SMALL = Training(width=8, depth=2, max_epochs=3)
QUICK = {
    "random": Random(trials=3),
    "layerwise": Layerwise(evaluations=2, layers=1),
    "adversarial": Adversarial(epochs=1, critic_steps=2, actor_steps=2),
    "zhang": Zhang(epochs=1, critic_steps=2, actor_steps=2),
    "pruning": Pruning(rounds=2),
    "bias_gradient": BiasGradient(looks=1, steps=2),
    "lagrangian": Lagrangian(epochs=1, steps=2),
    "fair_head": FairHead(strengths=(0.1,)),
    "group_thresholds": GroupThresholds(),
    "threshold": Threshold(),
    "reject_option": RejectOption(thresholds=5, margins=3),
    "equalized_odds": EqualizedOdds(),
    "calibrated_equalized_odds": CalibratedEqualizedOdds(),
}
# fields of the methods for pictures, which keep all others
SMALLER: dict[str, dict[str, Any]] = {
    "random": {"trials": 2},
    "layerwise": {"evaluations": 2, "layers": 1},
    "adversarial": {"epochs": 1, "critic_steps": 2, "actor_steps": 2},
    "zhang": {"epochs": 1, "critic_steps": 2, "actor_steps": 2},
    "pruning": {"rounds": 1, "rows": 32},
    "bias_gradient": {"looks": 1, "steps": 1, "batch_size": 32},
    "lagrangian": {"epochs": 1, "steps": 1, "batch_size": 32},
    "fair_head": {"strengths": (0.03,)},
    "reject_option": {"thresholds": 5, "margins": 3},
}
TINY = ImageTraining(18, 0.125, Fitting(epochs=2, batch_size=32, learning_rate=0.003))
SOURCES = (Source("synthetic", ("sex",)), Source("synthetic", ("region",)))


def _small_grid(grid: Grid, seeds: int = 2) -> Grid:
    """The same tables and names with the embedded data and a few steps per method."""
    return dataclasses.replace(
        grid,
        sources=SOURCES,
        seeds=tuple(range(seeds)),
        methods=tuple(Method(m.name, QUICK[m.debiaser.name], m.measures) for m in grid.methods),
        trainings=tuple(
            (name, dataclasses.replace(SMALL, dropout=0.1 + index / 10))
            for index, (name, _) in enumerate(grid.trainings)
        ),
    )


def _shrink(study: Any) -> Study:
    """A built-in study on a small configuration."""
    if hasattr(study, "grid"):
        return dataclasses.replace(study, grid=_small_grid(study.grid))
    if study.name == "fairnn":
        return _small_fairnn(study)
    if study.name == "heads":
        return _small_heads(study)
    if study.name == "celeba":
        return _small_celeba(study)
    fewer: dict[str, Any] = {"seeds": (0, 1), "training": SMALL}
    if hasattr(study, "sources"):
        fewer["sources"] = SOURCES[:1]
    else:
        fewer |= {"source": SOURCES[0], "trials": 60}
    return dataclasses.replace(study, **fewer)


def _small_heads(study: Any) -> Study:
    """One setting of the embedded data, and its intersections as the many groups."""
    return dataclasses.replace(
        study,
        sources=SOURCES[:1],
        many=(Source("synthetic", ("sex", "region")),),
        measures=("spd",),
        seeds=(0, 1),
        training=SMALL,
        **{
            field: tuple(Method(m.name, QUICK[m.debiaser.name]) for m in getattr(study, field))
            for field in ("methods", "blind_methods")
        },
    )


def _small_celeba(study: Any) -> Study:
    """Generated pictures, 40 of them for the searches, and a ResNet of a few channels."""
    return dataclasses.replace(
        study,
        parts=tuple(
            dataclasses.replace(
                part, source=Pictures("synthetic", ("sex",), others=two), measures=part.measures[:1]
            )
            for part, two in zip(study.parts[:2], (True, False), strict=True)
        ),
        methods=tuple(
            dataclasses.replace(
                m,
                debiaser=dataclasses.replace(m.debiaser, **SMALLER.get(m.debiaser.name, {})),
                rows=None if m.rows is None else 40,
            )
            for m in study.methods
        ),
        seeds=(0,),
        training=TINY,
    )


def _small_fairnn(study: Any) -> Study:
    """The generated data, labels 0 and 1 as the range; similar is who has nearly the same skill."""
    free = ("sex", "region", "neighbourhood", "hours", "noise_1", "noise_2")
    few: Any = [
        Draws(3) if method.name == "best of 20 draws" else method
        for method in study.methods[:6]
        if method.name != "random search, equal budget"
    ]
    few = tuple(dataclasses.replace(m, starts=3, epochs=2) if "Alg" in m.name else m for m in few)
    return dataclasses.replace(
        study,
        data="synthetic",
        sensitive="sex",
        rows=150,
        problem=Problem(weights=tuple((name, 0.0) for name in free), low=0.0, high=1.0),
        seeds=(0, 1),
        folds=3,
        starts=3,
        epochs=2,
        traces=2,
        seconds=0.1,
        points=11,
        methods=(*few, Trained(0.5, steps=20, name="trained, lambda = 0.5")),
        hidden=(4,),
        deep_methods=few[:2],
        deep_seconds=0.1,
    )


@pytest.fixture
def shrink() -> Callable[[Any], Study]:
    return _shrink


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks and stores of tests stay out of the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def finished(tmp_path: Path) -> Callable[[Study], tuple[Plan, Path]]:
    """Runs a study in this process and writes its page: the plan and the folder."""

    def finish(study: Study) -> tuple[Plan, Path]:
        plan = Plan.of(study.cells(), Store(tmp_path / "store"))
        run(plan, jobs=1)
        folder = tmp_path / "out"
        study.write(plan, folder)
        return plan, folder

    return finish
