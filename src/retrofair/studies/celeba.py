"""`celeba`: Table 1 of the intra-processing paper, a ResNet on faces, here on UTKFace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

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
from retrofair.networks import Fitting
from retrofair.objective import Constrained
from retrofair.studies import celeba_page, pages, results
from retrofair.studies.celeba_figure import bars
from retrofair.studies.cells import Cell
from retrofair.studies.gallery import gallery_of
from retrofair.studies.grid import Grid, Method
from retrofair.studies.images import ImageTraining
from retrofair.studies.results import YARDSTICKS
from retrofair.studies.run import Plan
from retrofair.studies.sources import Source

AOD, ODDS = "aod", "equalized_odds_difference"
SAMPLE = 2_000  # images that the searches look at
TRAINING = ImageTraining(
    fitting=Fitting(epochs=8, batch_size=128, learning_rate=1e-3, patience=3, augment="flip")
)
# What does not change the network: some passes over the validation data.
POST = (
    Method("threshold", Threshold()),
    Method("reject_option", RejectOption()),
    Method("equalized_odds", EqualizedOdds()),
    Method("calibrated_equalized_odds", CalibratedEqualizedOdds()),
    Method("group_thresholds", GroupThresholds()),
    Method("fair_head", FairHead()),
    Method("fair_head, all stages", FairHead(stages="all", strengths=(0.003, 0.03)), (AOD, ODDS)),
)
# The rest: each about as long as 60 passes over the sample (a step of training is three passes).
TRIALS = 61
LAYERWISE = Layerwise(layers=3, evaluations=20)
SEARCHES = (
    Method("random", Random(trials=101), (AOD,), SAMPLE),
    Method("random, equal budget", Random(trials=TRIALS), (AOD, ODDS), SAMPLE),
    Method("layerwise", LAYERWISE, (AOD, ODDS), SAMPLE),
    Method(
        "layerwise, random search",
        Layerwise(layers=3, evaluations=20, optimizer="random"),
        (AOD,),
        SAMPLE,
    ),
    Method("pruning", Pruning(rounds=15, share=0.02, rows=1024), (AOD, ODDS), SAMPLE),
)
GRADIENTS = (
    Method("lagrangian", Lagrangian(epochs=6, steps=8, batch_size=512), (AOD, ODDS)),
    Method("bias_gradient", BiasGradient(looks=6, steps=5, batch_size=512), (AOD, ODDS)),
    Method("zhang", Zhang(epochs=6, actor_steps=40), (AOD, ODDS)),
    Method(
        "adversarial",
        Adversarial(epochs=5, actor_steps=40, learning_rate=3e-4),
        (AOD, ODDS),
    ),
)


@dataclass(frozen=True)
class Part:
    """One setting: who is told apart, what is predicted, and by which measures.

    Args:
        title: of its tables.
    """

    title: str
    source: Source
    measures: tuple[str, ...]


PARTS = (
    Part(
        "young, White and non-White",
        Source("utkface", ("race",), others=True, target="young"),
        (AOD, "spd"),
    ),
    Part("young, five races", Source("utkface", ("race",), target="young"), (ODDS,)),
    Part("gender, five races", Source("utkface", ("race",), target="gender"), (ODDS,)),
)


@dataclass(frozen=True, kw_only=True)
class Faces:
    """A network per target and seed, and all methods on it.

    Args:
        gallery_method: whose faces `gallery` shows, of the first part, measure and seed.
    """

    name: str = "celeba"
    title: str = "Faces: a ResNet debiased (Table 1 of the NeurIPS paper)"
    parts: tuple[Part, ...] = PARTS
    methods: tuple[Method, ...] = (*POST, *SEARCHES, *GRADIENTS)
    seeds: tuple[int, ...] = tuple(range(3))
    epsilon: float = 0.05
    training: ImageTraining = field(default_factory=lambda: TRAINING)
    gallery_method: str = "adversarial"

    def grids(self) -> Iterator[tuple[Part, Grid]]:
        """A grid for each part."""
        for part in self.parts:
            yield (
                part,
                Grid(
                    sources=(part.source,),
                    measures=part.measures,
                    methods=self.methods,
                    seeds=self.seeds,
                    objective=Constrained(part.measures[0], epsilon=self.epsilon),
                    trainings=(("", self.training),),
                ),
            )

    def cells(self) -> list[Cell]:
        return [cell for _, grid in self.grids() for cell in grid.cells()]

    def frame(self, plan: Plan) -> pd.DataFrame:
        """The grids' frames, with a column for the part."""
        frames = []
        for part, grid in self.grids():
            frame = results.frame(grid, plan)
            frame.insert(0, "part", part.title)
            frames.append(frame.dropna(axis="columns", how="all"))
        names = ["part", *results.ABOUT, *results.STATE, *results.SCORES]
        return pd.concat(frames, ignore_index=True).reindex(columns=names)

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        frame = self.frame(plan)
        written = [pages.write_table(folder / f"{self.name}.csv", frame)]
        done = frame[frame["state"] == "done"]
        picture, image = "", folder / f"{self.name}.png"
        if done[~done["method"].isin(YARDSTICKS)].empty:
            image.unlink(missing_ok=True)  # of other results
        else:
            written.append(bars(done, self.methods, self.epsilon, image))
            picture = f"![{pages.plain(self.title)}]({self.name}.png)"
        first = self.parts[0]
        parts = [
            celeba_page.ABOUT,
            pages.provenance(plan),
            picture,
            celeba_page.reading(self.seeds, [m for part in self.parts for m in part.measures]),
            celeba_page.beside(done, first.title, first.measures[0]),
            celeba_page.published_says(),
            *celeba_page.tables(frame, self.seeds),
            celeba_page.failures(frame),
        ]
        page = folder / f"{self.name}.md"
        written.append(pages.write_page(page, self.title, *parts))
        return written

    def gallery(self, plan: Plan, folder: Path, device: str = "cpu") -> Path:
        """Faces before and after, of the first part and seed: see `gallery.gallery`.

        The method runs once more, as results are stored without their networks.

        Raises:
            InputError: that network is not stored, or the method is not in the study.
        """
        _, grid = next(self.grids())
        setting, training = next(iter(grid.settings()))
        method = next(m for m in self.methods if m.name == self.gallery_method)
        cell = grid.cell(setting, training, method, self.seeds[0])
        return gallery_of(cell, plan, folder, device)


CELEBA = Faces()
