"""`variants`: Figure 1 of the post-hoc paper, plots 7 and 8: other base networks."""

from __future__ import annotations

from retrofair.networks import Training
from retrofair.objective import Weighted
from retrofair.studies import posthoc
from retrofair.studies.grid import Grid
from retrofair.studies.sources import Source

TRAININGS = (
    ("dropout 0.5", Training(dropout=0.5)),
    ("width 64", Training(width=64)),
    ("depth 20", Training(depth=20)),
)


def grid() -> Grid:
    return Grid(
        sources=(Source("adult", ("sex",)), Source("bank", ("age",))),
        measures=("spd",),
        methods=tuple(m for m in posthoc.METHODS if not m.name.startswith("layerwise")),
        seeds=tuple(range(10)),
        objective=Weighted("spd", lam=0.75, performance="accuracy"),
        trainings=TRAININGS,
    )
