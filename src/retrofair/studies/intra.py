"""`intra`: Figure 1 of the intra-processing paper."""

from __future__ import annotations

from retrofair.debiasers import (
    Adversarial,
    CalibratedEqualizedOdds,
    EqualizedOdds,
    Layerwise,
    Random,
    RejectOption,
    Threshold,
    Zhang,
)
from retrofair.objective import Constrained
from retrofair.studies.grid import Grid, Method
from retrofair.studies.sources import Source

EVALUATIONS = Layerwise().evaluations * 11  # ten hidden layers and the output

SOURCES = (
    Source("adult", ("sex",)),
    Source("adult", ("race",)),
    Source("compas", ("sex",)),
    Source("compas", ("race",)),
    Source("bank", ("age",)),
)
METHODS = (
    Method("threshold", Threshold()),
    Method("reject_option", RejectOption()),
    Method("equalized_odds", EqualizedOdds()),
    Method("calibrated_equalized_odds", CalibratedEqualizedOdds()),
    Method("random", Random()),
    Method("random, budget of layerwise", Random(trials=EVALUATIONS)),
    Method("layerwise", Layerwise()),
    Method("layerwise, random search", Layerwise(optimizer="random")),
    Method("layerwise, papers' space", Layerwise(space="weights", layers=5), ("spd",)),
    Method("zhang", Zhang()),
    Method("adversarial", Adversarial()),
    Method(
        "adversarial, papers' critic",
        Adversarial(critic="concatenated", reads="representation"),
        ("spd",),
    ),
)


def grid() -> Grid:
    return Grid(
        sources=SOURCES,
        measures=("spd", "aod", "eod"),
        methods=METHODS,
        seeds=tuple(range(5)),
        objective=Constrained("spd", epsilon=0.05),
    )
