"""Small data, and methods that cost nothing and tell what they were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.debiasers import Fit
from retrofair.debiasers.base import clone
from retrofair.debiasers.rules import Cut
from retrofair.errors import InputError
from retrofair.frontier import Point, Spread


class Score(nn.Module):
    """The first column is the logit; the weight is there to be saved and changed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] * self.weight


def people(n: int = 1200, groups: int = 2, seed: int = 0) -> rf.GroupedData:
    """Rows with a number of their own in the second column; the last group scores higher."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, n)
    y = random.random(n) < 0.3 + 0.3 * group / groups
    score = random.normal(size=n) + 1.5 * y - 0.75 + 0.8 * group / groups
    return rf.GroupedData(
        x=np.stack([score, np.arange(n)], 1).astype(np.float32),
        y=y.astype(int),
        group=group,
        group_names=tuple("abcdefgh"[:groups]),
    )


@dataclass(frozen=True)
class Fixed:
    """A threshold that depends on the bound alone: far from the middle where it is tight."""

    slope: float = 0.1
    name: ClassVar[str] = "fixed"
    changes_weights: ClassVar[bool] = False

    def __call__(self, model, data, objective, *, generator) -> Fit:
        return Fit(clone(model), Cut(float(np.clip(self.slope / objective.epsilon, 0, 1))))


@dataclass(frozen=True)
class Drawn:
    """A threshold at random."""

    name: ClassVar[str] = "drawn"
    changes_weights: ClassVar[bool] = False

    def __call__(self, model, data, objective, *, generator) -> Fit:
        return Fit(clone(model), Cut(float(torch.rand((), generator=generator))))


@dataclass(frozen=True)
class Constant:
    """Nobody is positive."""

    name: ClassVar[str] = "constant"
    changes_weights: ClassVar[bool] = False

    def __call__(self, model, data, objective, *, generator) -> Fit:
        return Fit(clone(model), Cut(1.0))


class Watched:
    """Notes what it was called with, and stops as told."""

    name: ClassVar[str] = "watched"
    changes_weights: ClassVar[bool] = False

    def __init__(self, stop_at: int = -1, error: type[BaseException] = InputError) -> None:
        self.calls: list[Any] = []
        self.stop_at, self.error = stop_at, error

    def __repr__(self) -> str:
        return "Watched()"  # all are one method

    def __call__(self, model, data, objective, *, generator) -> Fit:
        if len(self.calls) == self.stop_at:
            raise self.error("told to")
        self.calls.append((objective.epsilon, data.x[:, 1].long().tolist()))
        cut = 0.3 + 0.4 * float(torch.rand((), generator=generator))
        return Fit(clone(model), Cut(cut), ({"cut": cut},))


def point(bias: float, performance: float, degenerate: bool = False) -> Point:
    """A point of which only the figures matter."""
    return Point(
        method="any",
        measured=Spread(bias, bias, bias),
        bias=Spread(bias, bias, bias),
        performance=Spread(performance, performance, performance),
        counts=np.zeros((2, 2, 2), int),
        bound=0.1,
        seed=0,
        seconds=0.0,
        degenerate=degenerate,
        result=None,  # type: ignore[arg-type]
    )


def front(*points: Point) -> rf.Frontier:
    """A frontier of the non-dominated of some points."""
    from retrofair.frontier.points import non_dominated

    return rf.Frontier(
        measure="spd",
        performance="accuracy",
        points=non_dominated(points),
        tried=points,
        reference=(),
        failed={},
        effort={},
        rows_fitted=1,
        rows_held_out=1,
        group_names=("a", "b"),
        seconds=None,
    )
