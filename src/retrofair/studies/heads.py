"""`heads`: heads on a frozen network against thresholds, searches and training, on test data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd

from retrofair.debiasers import (
    Adversarial,
    BiasGradient,
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
from retrofair.networks import Training
from retrofair.objective import Constrained
from retrofair.studies import heads_page, pages, results
from retrofair.studies.cells import PAPERS, Cell, DebiasCell
from retrofair.studies.grid import Grid, Method
from retrofair.studies.heads_figure import planes
from retrofair.studies.results import YARDSTICKS
from retrofair.studies.run import Plan
from retrofair.studies.sources import Source

MAIN, MANY = "main", "many groups"
ROWS = 50_000  # of ACSIncome's 332,900
SOURCES = (
    Source("adult", ("sex",)),
    Source("adult", ("race",)),
    Source("compas", ("sex",)),
    Source("compas", ("race",)),
    Source("bank", ("age",)),
    Source("german", ("age",)),
    Source("acs_income", ("sex",), rows=ROWS),
    Source("acs_income", ("race",), rows=ROWS, others=True),
)
BLIND = (  # those that run without the columns too
    Method("threshold", Threshold()),
    Method("fair_head", FairHead()),
    Method("fair_head, given", FairHead(attribute="given")),
    Method("group_thresholds", GroupThresholds()),
    Method("random", Random(trials=101)),
    Method("lagrangian", Lagrangian()),
)
CHEAP = (*BLIND, Method("reject_option", RejectOption()))
DEAR = (
    Method("bias_gradient", BiasGradient()),
    Method("pruning", Pruning()),
    Method("layerwise", Layerwise()),
    Method("zhang", Zhang()),
    Method("adversarial", Adversarial()),
)
LAST = tuple(method.name for method in DEAR)  # run when all others have


@dataclass(frozen=True)
class Part:
    """One grid of the study, and what tells it from the others."""

    kind: str
    epsilon: float
    grid: Grid


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Every method on every data set, columns in and blind, at two bounds; then many groups.

    Args:
        sources: with their columns in; the blind settings are the same without them.
        many: sources of many groups, for `many_measure` and the first of `epsilons`.
        blind_methods: those of `methods` that run without the columns.
    """

    name: str = "heads"
    title: str = "Debiasing on held-out data: fair_head and all other methods"
    sources: tuple[Source, ...] = SOURCES
    many: tuple[Source, ...] = (Source("acs_income", ("race", "sex")),)
    measures: tuple[str, ...] = ("spd", "eod", "aod")
    many_measure: str = "demographic_parity_difference"
    seeds: tuple[int, ...] = tuple(range(5))
    epsilons: tuple[float, ...] = (0.05, 0.02)
    methods: tuple[Method, ...] = (*CHEAP, *DEAR)
    blind_methods: tuple[Method, ...] = BLIND
    training: Training = PAPERS

    def parts(self) -> Iterator[Part]:
        """The grids: columns in, blind, for each bound; many groups."""
        blind = tuple(dataclasses.replace(s, include_sensitive=False) for s in self.sources)
        settings = ((self.sources, self.methods), (blind, self.blind_methods))
        for epsilon, (sources, methods) in product(self.epsilons, settings):
            yield Part(MAIN, epsilon, self._grid(sources, methods, self.measures, epsilon))
        if self.many:
            grid = self._grid(self.many, self.methods, (self.many_measure,), self.epsilons[0])
            yield Part(MANY, self.epsilons[0], grid)

    def _grid(
        self,
        sources: tuple[Source, ...],
        methods: tuple[Method, ...],
        measures: tuple[str, ...],
        epsilon: float,
    ) -> Grid:
        return Grid(
            sources=sources,
            measures=measures,
            methods=methods,
            seeds=self.seeds,
            objective=Constrained(measures[0], epsilon=epsilon),
            trainings=(("", self.training),),
        )

    def cells(self) -> list[Cell]:
        """What is quick first, bound by bound and seed by seed; then what is slow."""
        found: list[DebiasCell] = []
        for slow in (False, True):
            for part, seed in product(self.parts(), self.seeds):
                found += [
                    part.grid.cell(setting, training, method, seed)
                    for setting, training in part.grid.settings()
                    for method in part.grid.methods_for(setting.measure)
                    if (method.name in LAST) == slow
                ]
        return [dataclasses.replace(cell, place=place) for place, cell in enumerate(found)]

    def frame(self, plan: Plan) -> pd.DataFrame:
        """The grids' frames, with columns for the part and the bound."""
        frames = []
        for part in self.parts():
            frame = results.frame(part.grid, plan)
            frame.insert(0, "part", part.kind)
            frame.insert(1, "epsilon", part.epsilon)
            frames.append(frame.dropna(axis="columns", how="all"))
        return pd.concat(frames, ignore_index=True).reindex(columns=["part", "epsilon", *_names()])

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        frame = self.frame(plan)
        written = [pages.write_table(folder / f"{self.name}.csv", frame)]
        done = frame[frame["state"] == "done"]
        picture, image = "", folder / f"{self.name}.png"
        shown = done[(done["part"] == MAIN) & (done["epsilon"] == self.epsilons[0])]
        if shown[~shown["method"].isin(YARDSTICKS)].empty:
            image.unlink(missing_ok=True)  # of other results
        else:
            written.append(planes(shown, self.methods, self.epsilons[0], image))
            picture = f"![{pages.plain(self.title)}]({self.name}.png)"
        main, many = (frame[frame["part"] == kind] for kind in (MAIN, MANY))
        page = folder / f"{self.name}.md"
        parts = [
            heads_page.ABOUT,
            pages.provenance(plan),
            picture,
            heads_page.reading(self.seeds, self.measures),
            *heads_page.summary(main, len(self.seeds)),
            *heads_page.many(many, len(self.seeds)),
            f"Every method in every setting: [tables]({self.name}-tables.md).",
        ]
        written.append(pages.write_page(page, self.title, *parts))
        tables = heads_page.tables(main, len(self.seeds))
        about = f"The tables behind [{self.name}]({self.name}.md), which says how to read them."
        page = folder / f"{self.name}-tables.md"
        written.append(pages.write_page(page, f"{self.title}: every setting", about, *tables))
        return written


def _names() -> list[str]:
    return [*results.ABOUT, *results.STATE, *results.SCORES]


HEADS = Heads()
