"""`runtimes`: Table 2 of the post-hoc paper: how long each method takes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from retrofair.studies import pages, results
from retrofair.studies.cells import Cell
from retrofair.studies.grid import Grid
from retrofair.studies.posthoc import POSTHOC
from retrofair.studies.results import YARDSTICKS
from retrofair.studies.run import Plan

GRID = dataclasses.replace(POSTHOC.grid, measures=("spd",), seeds=(0, 1, 2))
COLUMNS = (("adult", "sex"), ("bank", "age"), ("compas", "sex"), ("compas", "race"))
# seconds as printed, in the order of COLUMNS
PUBLISHED = {
    "reject_option": (29.836, 20.637, 9.979, 10.532),
    "equalized_odds": (0.015, 0.012, 0.011, 0.011),
    "calibrated_equalized_odds": (0.144, 0.064, 0.049, 0.054),
    "random": (156.848, 113.529, 61.937, 63.540),
    "adversarial": (32.889, 36.128, 36.156, 34.432),
    "layerwise": (186.480, 146.760, 79.800, 79.800),
}
TWINS = {"adversarial, papers' critic": "adversarial", "layerwise, papers' space": "layerwise"}

ABOUT = """
Table 2 of Savani, White and Govindarajulu (2020, arXiv 2006.08564v1): seconds per run of each
post-hoc method, with the budgets of the study `posthoc` (for `random` 201 trials). The paper names
neither its machine nor what its seconds include; only ratios within a column can be compared. Here
they are wall seconds of one `debias` call on one torch thread, with the choice of every threshold,
without training the network. For an undisturbed measurement run this study alone, into a store of
its own, with `--jobs 1`.

Why they differ: the paper's code scores a grid of 501 thresholds with five bootstraps each, where
one sort scores all of them exactly; its reject option tries 5,000 pairs of threshold and margin
one by one. `layerwise` has 220 evaluations here (20 for every layer), the papers' space 100; most
of its time is the boosted trees, as the same search at random shows. A constant classifier takes no
time; its score is in the study `posthoc`.
"""


@dataclass(frozen=True, kw_only=True)
class Runtimes:
    """The cells of `posthoc` for one measure, looked at for their time."""

    grid: Grid = GRID
    name: ClassVar[str] = "runtimes"
    title: ClassVar[str] = "Run times (Table 2 of the post-hoc paper)"

    def cells(self) -> list[Cell]:
        return self.grid.cells()

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        frame = results.frame(self.grid, plan)
        done = frame[(frame["state"] == "done") & ~frame["method"].isin(YARDSTICKS)]
        timed = [plan.record(cell) for cell in self.cells()]
        beside = {record.get("jobs") for record in timed if record is not None}
        alone = "one cell at a time" if beside == {1} else "while other cells ran beside"
        parts = [ABOUT, pages.provenance(plan), f"Measured {alone}."]
        if not done.empty:
            parts += ["## Seconds, median (range) over seeds", _table(done), _ratios(done)]
        return [
            pages.write_table(folder / f"{self.name}.csv", frame),
            pages.write_page(folder / f"{self.name}.md", self.title, *parts),
        ]


def _table(done: pd.DataFrame) -> str:
    groups = list(dict.fromkeys(zip(done["data"], done["sensitive"], strict=True)))
    lines = []
    for method, part in done.groupby("method", sort=False):
        cells = []
        for data, sensitive in groups:
            here = part[(part["data"] == data) & (part["sensitive"] == sensitive)]
            cells.append(pages.middle(here["seconds"], 3))
        lines.append([str(method), "ours", str(part["seed"].nunique()), *cells])
        printed = PUBLISHED.get(TWINS.get(str(method), str(method)))
        if printed:
            by = dict(zip(COLUMNS, printed, strict=True))
            texts = [f"{by[g]:.3f}" if g in by else "-" for g in groups]
            lines.append([str(method), "published", "", *texts])
    header = ["method", "", "n", *(f"{data} ({sensitive})" for data, sensitive in groups)]
    return pages.table(header, lines)


def _ratios(done: pd.DataFrame) -> str:
    """Time over that of `random`, in the same column: free of the machine."""
    wide = done.pivot_table(
        index=["data", "sensitive"], columns="method", values="seconds", aggfunc="median"
    )
    lines = []
    for method, printed in PUBLISHED.items():
        if method == "random" or method not in wide or "random" not in wide:
            continue
        theirs = pd.Series(printed) / pd.Series(PUBLISHED["random"])
        ours = pages.middle(wide[method] / wide["random"])
        lines.append([method, ours, pages.middle(theirs)])
    if not lines:
        return ""
    return "## Time over that of `random`, median (range) over data sets\n\n" + pages.table(
        ["method", "ours", "published"], lines
    )


RUNTIMES = Runtimes()
