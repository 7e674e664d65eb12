"""What the page of `fairnn` speaks of: its setting, its figures' cells, what was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from retrofair.metrics import Array
from retrofair.studies.cells import Cell
from retrofair.studies.fairnn.housing import Problem
from retrofair.studies.run import Plan

# What the paper's text says of its figures: epoch and delta.
PUBLISHED = {"all": ((0, 6.6), (7, 6.18), (10, 44.75)), "resampled": ((0, 6.0),)}
PUBLISHED_RANGE = (10.0, 40.0)
PUBLISHED_START = 17.38612
OPEN = 0.1  # certificates with a larger gap are not compared
SQUASHED = {"sigmoid": "sigmoid", "released": "released code's sigmoid"}  # as tables call them


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What was asked.

    Args:
        name: of the study, and of its files.
        data, sensitive: the table, and its column that is free.
        draws: random draws whose mean delta improvements are measured against.
    """

    name: str
    data: str
    sensitive: str
    problem: Problem
    draws: int

    @property
    def published(self) -> bool:
        """Whether it is the paper's own, so that the paper's numbers say something of it."""
        return (self.data, self.sensitive, self.problem) == ("boston", "B", Problem())

    @property
    def table(self) -> str:
        return "Boston housing" if self.data == "boston" else self.data

    @property
    def range(self) -> float:
        """Of the model's outputs."""
        return self.problem.high - self.problem.low


@dataclass(frozen=True, eq=False)
class Shown:
    """The finished cells of the figures, by figure and seed."""

    values: Mapping[tuple[str, int], dict[str, Any]]
    tensors: Mapping[tuple[str, int], Mapping[str, Tensor]]

    @classmethod
    def of(cls, plan: Plan, cells: Mapping[tuple[str, int], Cell]) -> Shown:
        values, tensors = {}, {}
        for name, cell in cells.items():
            record = plan.record(cell)
            if record is not None and plan.store.done(plan.key(cell)):
                values[name] = record["answer"]
                if record.get("tensors"):
                    tensors[name] = plan.store.tensors(plan.key(cell))
        return cls(values, tensors)

    def seeds(self, kind: str) -> dict[int, dict[str, Any]]:
        """The values of all cells of a figure, by seed."""
        return {seed: value for (name, seed), value in self.values.items() if name == kind}

    def all(self, kind: str) -> list[dict[str, Any]]:
        return list(self.seeds(kind).values())


def numbers(values: Any) -> Array:
    """With nan where a value is undefined."""
    return np.array(values, dtype=float)
