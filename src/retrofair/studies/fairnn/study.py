"""`fairnn`: the study's cells, and how its page is put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from retrofair.studies.cells import Cell
from retrofair.studies.fairnn import figures, page
from retrofair.studies.fairnn.cells import (
    DescentCell,
    FairCell,
    LandscapeCell,
    StartsCell,
    SweepCell,
)
from retrofair.studies.fairnn.housing import Fold, Problem
from retrofair.studies.fairnn.methods import DEEP_METHODS, METHODS, Method
from retrofair.studies.fairnn.model import model_name
from retrofair.studies.fairnn.shown import Setting, Shown
from retrofair.studies.pages import provenance, write_page, write_table
from retrofair.studies.run import Plan

BOSTON = Problem()


@dataclass(frozen=True, kw_only=True)
class FairNN:
    """Repeated cross-validation of every method, and the paper's figures on all rows.

    Args:
        seeds: each shuffles the rows into folds anew, and has its own random draws.
        starts: random draws whose mean delta improvements are measured against, and of the
            figures. How many a method takes itself, its epochs, too, is a field of the method.
        epochs: of the simulated gradients in the figures.
        traces: random starts of the simulated gradient.
        seconds: the time limit of a certificate of the paper's model.
        hidden, deep_seconds, deep_seeds: of the network with hidden layers beside it; how many of
            the seeds it is run with.
        points: of the landscape, along each side.
    """

    data: str = "boston"
    sensitive: str = "B"
    rows: int = 0
    problem: Problem = BOSTON
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: int = 5
    starts: int = 20
    epochs: int = 20
    traces: int = 10
    seconds: float = 20.0
    methods: tuple[Method, ...] = METHODS
    hidden: tuple[int, ...] = (100, 50)
    deep_methods: tuple[Method, ...] = DEEP_METHODS
    deep_seconds: float = 10.0
    deep_seeds: int = 1
    points: int = 121
    name: ClassVar[str] = "fairnn"

    @property
    def setting(self) -> Setting:
        return Setting(
            name=self.name,
            data=self.data,
            sensitive=self.sensitive,
            problem=self.problem,
            draws=self.starts,
        )

    @property
    def title(self) -> str:
        return page.title(self.setting)

    def source(self, fold: int | None, split: int = 0) -> Fold:
        return Fold(
            self.data, (self.sensitive,), split, fold=fold, folds=self.folds, rows=self.rows or None
        )

    def cells(self) -> list[Cell]:
        return [*self.figure_cells().values(), *self.runs()]

    def figure_cells(self) -> dict[tuple[str, int], Cell]:
        """What the figures show, by figure and number: all rows, as in the paper."""
        whole, problem = self.source(None), self.problem
        found: dict[tuple[str, int], Cell] = {}
        for draw in range(3):
            found["sweep", draw] = SweepCell(whole, problem, draw, self.seconds)
        for seed in self.seeds:
            found["starts", seed] = StartsCell(whole, problem, seed, self.starts, self.seconds)
        for seed in range(self.traces):
            found["descent", seed] = DescentCell(
                whole, problem, seed, self.starts, self.epochs, self.seconds
            )
        found["landscape", 0] = LandscapeCell(whole, problem, 0, self.starts, self.points)
        return found

    def runs(self) -> Iterator[FairCell]:
        """Every method on every fold."""
        for seed in self.seeds:
            for fold in range(self.folds):
                source = self.source(fold, seed)
                for method in self.methods:
                    yield FairCell(
                        source, self.problem, (), method, seed, self.seconds, self.starts
                    )
                if seed not in self.seeds[: self.deep_seeds]:
                    continue
                for method in self.deep_methods:
                    yield FairCell(
                        source,
                        self.problem,
                        self.hidden,
                        method,
                        seed,
                        self.deep_seconds,
                        self.starts,
                        "bab",
                    )

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        """`fairnn.csv` with a row per run, the figures, and `fairnn.md`."""
        rows = pd.DataFrame([row_of(plan, cell) for cell in self.runs()])
        written = [write_table(folder / f"{self.name}.csv", rows)]
        shown = Shown.of(plan, self.figure_cells())
        done = rows[rows["state"] == "done"]
        setting = self.setting
        pictures = figures.draw(folder, shown, done, setting)
        parts = [page.about(setting), provenance(plan), *page.parts(shown, done, setting)]
        written += pictures
        written.append(write_page(folder / f"{self.name}.md", self.title, *parts))
        return written


def row_of(plan: Plan, cell: FairCell) -> dict[str, Any]:
    """A run as a row of the table."""
    record = plan.record(cell)
    row: dict[str, Any] = {
        "model": model_name(cell.hidden),
        "method": cell.method.name,
        "seed": cell.seed,
        "fold": cell.source.fold,
        "state": "missing" if record is None else record["status"],
    }
    if record is None or record["status"] != "done":
        return row
    values = dict(record["answer"])
    found = values.pop("certificate")
    row |= values
    row |= {f"certified_{name}": value for name, value in found.items()}
    return row | {"wall_seconds": record["wall_seconds"]}


FAIRNN = FairNN()
