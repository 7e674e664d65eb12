"""`posthoc`: Figure 1 of the post-hoc paper, plots 1 to 6."""

from __future__ import annotations

from retrofair.debiasers import (
    Adversarial,
    CalibratedEqualizedOdds,
    EqualizedOdds,
    Layerwise,
    Random,
    RejectOption,
    Threshold,
)
from retrofair.objective import Weighted
from retrofair.studies.grid import Grid, Method
from retrofair.studies.sources import Source

SOURCES = (
    Source("adult", ("sex",)),
    Source("bank", ("age",)),
    Source("compas", ("sex",)),
    Source("compas", ("race",)),
)
# the paper's budgets: 201 perturbations, 16 epochs of 201 and 101 steps
METHODS = (
    Method("threshold", Threshold()),
    Method("reject_option", RejectOption()),
    Method("equalized_odds", EqualizedOdds()),
    Method("calibrated_equalized_odds", CalibratedEqualizedOdds()),
    Method("random", Random(trials=201)),
    Method("adversarial", Adversarial(epochs=16, actor_steps=101)),
    Method(
        "adversarial, papers' critic",
        Adversarial(epochs=16, actor_steps=101, critic="concatenated", reads="representation"),
        ("spd",),
    ),
    Method("layerwise", Layerwise()),
    Method("layerwise, random search", Layerwise(optimizer="random")),
    Method("layerwise, papers' space", Layerwise(space="weights", layers=5), ("spd",)),
)


def grid() -> Grid:
    return Grid(
        sources=SOURCES,
        measures=("aod", "eod", "spd"),
        methods=METHODS,
        seeds=tuple(range(10)),
        objective=Weighted("spd", lam=0.75, performance="accuracy"),
    )
