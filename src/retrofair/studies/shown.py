"""The rows of a grid's frame that a figure shows, and the names of its bars' groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from retrofair.metrics import Array
from retrofair.studies.grid import Grid
from retrofair.studies.results import CONSTANT
from retrofair.studies.styles import Styles

GROUP = ["data", "sensitive", "columns", "network"]
Key = tuple[str, ...]  # values of GROUP


@dataclass(frozen=True)
class Shown:
    """What has been run, and how its bars are named and coloured.

    Args:
        names: the bars' groups, in order, and what tells them apart.
    """

    done: pd.DataFrame
    grid: Grid
    names: dict[Key, str]
    styles: Styles

    @classmethod
    def of(cls, frame: pd.DataFrame, grid: Grid) -> Shown:
        done = frame[frame["state"] == "done"]
        return cls(done, grid, group_names(done), Styles(grid.methods))

    def where(self, rows: Any) -> Shown:
        """Fewer rows, under the same names."""
        done = self.done[rows]
        present = set(done[GROUP].itertuples(index=False, name=None))
        names = {key: name for key, name in self.names.items() if key in present}
        return Shown(done, self.grid, names, self.styles)

    def measure(self, measure: str) -> Shown:
        return self.where(self.done["measure"] == measure)

    @property
    def seeds(self) -> pd.Series:
        """How many there are of each bar."""
        rows = self.done[self.done["method"] != CONSTANT]
        return rows.groupby([*GROUP, "measure", "method"]).size()

    @property
    def most_seeds(self) -> int:
        return int(self.seeds.max())

    @property
    def most_bars(self) -> int:
        """In a panel, at most."""
        return len(self.names) * len(self.methods)

    @property
    def measures(self) -> list[str]:
        present = set(self.done["measure"])
        return [measure for measure in self.grid.measures if measure in present]

    @property
    def methods(self) -> list[str]:
        """In the grid's order, the original network first; without the constant classifier."""
        present = set(self.done["method"])
        return [name for name in self.styles.names if name in present]

    def values(self, value: str, method: str) -> dict[Key, Array]:
        """Over seeds, by group; undefined ones (a ratio to nothing) are left out."""
        rows = self.done[self.done["method"] == method].dropna(subset=[value])
        return {
            tuple(map(str, key)): group[value].to_numpy(dtype=float)
            for key, group in rows.groupby(GROUP, sort=False)
        }


def group_names(done: pd.DataFrame) -> dict[Key, str]:
    """What tells each network and data set from the others, dropping what all have in common."""
    keys = list(dict.fromkeys(done[GROUP].itertuples(index=False, name=None)))
    blind = {"in": "", "blind": "blind"}
    parts = [(f"{data} ({who})", blind[columns], net) for data, who, columns, net in keys]
    varying = [len(set(values)) > 1 for values in zip(*parts, strict=True)]
    if not any(varying):  # one group alone still needs a name
        varying = [True] * len(varying)
    return {
        key: ", ".join(part for part, keep in zip(names, varying, strict=True) if keep and part)
        for key, names in zip(keys, parts, strict=True)
    }


def words(name: str) -> str:
    """A measure's name as text: SPD, disparate impact."""
    return name.upper() if len(name) <= 3 else name.replace("_", " ")
