"""A study that debiases with every method, on all data, by every measure, for every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from retrofair.debiasers import Debiaser
from retrofair.networks import Training
from retrofair.objective import Constrained, Objective, Weighted
from retrofair.studies.cells import PAPERS, BaseNetwork, Cell, DebiasCell, NetworkCell
from retrofair.studies.images import ImageNetworkCell, ImageTraining
from retrofair.studies.sources import Source

Settings = Training | ImageTraining


@dataclass(frozen=True)
class Method:
    """A debiaser under the name that tables call it.

    Args:
        measures: those it is run for; None: all of the study's.
        rows: of the validation data that it sees; None: all.
    """

    name: str
    debiaser: Debiaser
    measures: tuple[str, ...] | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Setting:
    """One network, data set, measure and objective: a table of a page."""

    source: Source
    training: str
    objective: Objective

    @property
    def measure(self) -> str:
        return self.objective.bias_measure.name


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Data x networks x measures x methods x seeds.

    A seed is that of the split, of the network and of the method. With fewer `networks` than seeds,
    the seeds take turns on the first so many splits and networks: several trials on each.

    Args:
        sources: data and groups; their split is replaced by each seed.
        objective: its measure is replaced by each of `measures`.
        trainings: settings of the base network by name.
        networks: how many splits and networks; None: one per seed.
    """

    sources: tuple[Source, ...]
    measures: tuple[str, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    objective: Constrained | Weighted
    trainings: tuple[tuple[str, Settings], ...] = (("", PAPERS),)
    networks: int | None = None

    def split(self, seed: int) -> int:
        """The seed of the split and the network that this seed's methods start from."""
        return self.seeds[self.seeds.index(seed) % (self.networks or len(self.seeds))]

    def network(self, source: Source, training: Settings, seed: int) -> BaseNetwork:
        split = self.split(seed)
        source = dataclasses.replace(source, split=split)
        if isinstance(training, ImageTraining):
            return ImageNetworkCell(source, split, training)
        return NetworkCell(source, split, training)

    def settings(self) -> Iterator[tuple[Setting, Settings]]:
        """Every table of the study, with its network's settings."""
        for (name, training), source, measure in product(
            self.trainings, self.sources, self.measures
        ):
            objective = dataclasses.replace(self.objective, measure=measure)
            yield Setting(source, name, objective), training

    def methods_for(self, measure: str) -> list[Method]:
        return [m for m in self.methods if m.measures is None or measure in m.measures]

    def cell(self, setting: Setting, training: Settings, method: Method, seed: int) -> DebiasCell:
        network = self.network(setting.source, training, seed)
        return DebiasCell(
            network, method.debiaser, setting.objective, seed, method.name, rows=method.rows
        )

    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that a study stopped early has whole seeds."""
        return [
            self.cell(setting, training, method, seed)
            for seed in self.seeds
            for setting, training in self.settings()
            for method in self.methods_for(setting.measure)
        ]
