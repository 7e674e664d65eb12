"""The search: the node with the largest bound is looked at again, then split where it helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.domain import Floats
from retrofair.certifiers.tree.dual import Dual, lines
from retrofair.certifiers.tree.goals import Goal
from retrofair.certifiers.tree.linear import Found, LinearProgram, multipliers
from retrofair.certifiers.tree.nodes import Nodes
from retrofair.certifiers.tree.split import VIOLATED, Splits

SOLVERS = 2  # linear programs solved at once: the solver runs outside Python's lock
BATCH = 16  # nodes looked at together
TRIED = 512  # parts bounded together, to find the best split
WORK = 4_000_000  # numbers that a layer's bounds take in one batch of parts
RAYS = (3.0, 100.0, 1e4)  # how far to go along a ray, in sizes of the bound
LEAST_GAIN = 1e-4  # of the bound: gains count from here


@dataclass(eq=False)
class Tree:
    """Branch and bound for one goal.

    Args:
        goal: what is bounded over all pairs.
        cutoff: the value up to which a bound is good enough, as things stand.
        heard: called with every bound on the goal, and what it includes for rounding.
        pair: called with people in between, (d,) and (d,), whose value the solver thinks high.
        seconds: how many are left for a linear program.
    """

    dual: Dual
    splits: Splits
    goal: Goal
    cutoff: Callable[[], float]
    heard: Callable[[float, float], None]
    pair: Callable[[Floats, Floats], None]
    seconds: Callable[[], float] = lambda: math.inf
    slack: float = field(default=0.0, init=False)
    settled: float = field(default=-math.inf, init=False)
    stop: Callable[[], bool] = field(default=lambda: False, init=False)

    def __post_init__(self) -> None:
        self.programs = [LinearProgram(self.dual, self.goal) for _ in range(SOLVERS)]
        self.nodes = self._bounded(self.goal.onto(self.splits.roots()))

    @property
    def bound(self) -> float:
        """The largest bound of what is left and of what was good enough."""
        left = float(self.nodes.upper.max()) if len(self.nodes) else -torch.inf
        return max(left, self.settled)

    @property
    def finished(self) -> bool:
        return not len(self.nodes) or float(self.nodes.upper.max()) <= self.cutoff()

    def run(self, stop: Callable[[], bool]) -> float:
        """The bound when all is good enough, or when it is to stop; it can be run on."""
        self.stop = stop
        with ThreadPoolExecutor(SOLVERS) as self.workers:
            self.heard(self.bound, self.slack)
            while not (self.finished or stop()):
                order = self.nodes.upper.argsort(descending=True)
                chosen = self.nodes.take(order[:BATCH])
                parts = self._look(chosen)
                self.nodes = Nodes.joined([self.nodes.take(order[BATCH:]), *parts])
                self.heard(self.bound, self.slack)
        return self.bound

    def _look(self, nodes: Nodes) -> list[Nodes]:
        """What becomes of some nodes: nothing, or parts of them."""
        nodes, found = self._solved(nodes)
        nodes, found = _some(nodes, found, self._kept(nodes))
        for one in found:
            if one is not None and one.first is not None and one.second is not None:
                self.pair(one.first, one.second)
                break  # the first is the one with the largest bound
        # a better pair may have made the cutoff larger
        nodes, found = _some(nodes, found, self._kept(nodes))
        choices = self._choices(nodes, found)
        done = ~choices.any(1)
        if done.any():
            # nothing left to split: what the linear program leaves open is rounding
            self.settled = max(self.settled, float(nodes.upper[done].max()))
            keep = torch.nonzero(~done).flatten()
            nodes, found = _some(nodes, found, keep)
            choices = choices[keep]
        if not len(nodes):
            return []
        points = torch.from_numpy(np.stack([self._people(each) for each in found]))
        split = self._best(nodes, choices, points)
        parts = self._bounded(self.splits.halves(nodes, split, points))
        return [parts.take(self._kept(parts))]

    def _people(self, found: Found | None) -> Floats:
        """(2, d) the solver's pair; the middle of everything where there is none."""
        if found is None or found.first is None or found.second is None:
            pairs = self.dual.supports.pairs
            return np.stack([(pairs.low + pairs.high) / 2] * 2)
        return np.stack([found.first, found.second])

    def _kept(self, nodes: Nodes) -> Tensor:
        """Those that are not good enough yet; what is good enough still counts for the bound."""
        cutoff = self.cutoff()
        small = nodes.upper <= cutoff
        if small.any():
            self.settled = max(self.settled, float(nodes.upper[small].max()))
        return torch.nonzero(~small).flatten()

    def _bounded(self, nodes: Nodes, start: int = 0) -> Nodes:
        """The nodes with bounds on all layers and on the value, by the multipliers they have."""
        most = self._together(start)
        if len(nodes) > most:
            parts = torch.arange(len(nodes)).split(most)
            return Nodes.joined([self._bounded(nodes.take(part), start) for part in parts])
        nodes, empty = self.dual.propagate(nodes, start)
        upper, slack, shares = self.dual.bound(nodes, lines(nodes.layers))
        upper = torch.minimum(upper, nodes.upper)
        self._slack(slack)
        return nodes.put(upper=torch.where(empty, -torch.inf, upper), mix=shares.mix)

    def _slack(self, slack: Tensor) -> None:
        finite = slack[torch.isfinite(slack)]
        if len(finite):
            self.slack = max(self.slack, float(finite.max()))

    def _solved(self, nodes: Nodes) -> tuple[Nodes, list[Found | None]]:
        """The nodes with the linear program's multipliers, where they make the bound smaller."""
        at = lines(nodes.layers)
        found: list[Found | None] = [None] * len(nodes)

        def solve(first: int) -> None:
            for i in range(first, len(nodes), SOLVERS):
                if not self.stop():
                    found[i] = self.programs[first].solve(nodes, at, i, self.seconds())

        list(self.workers.map(solve, range(SOLVERS)))
        solved = [(i, each) for i, each in enumerate(found) if each is not None and not each.ray]
        if solved:
            index = torch.tensor([i for i, _ in solved])
            some, difference = multipliers(
                [each for _, each in solved], nodes.take(index), self.goal
            )
            upper, _, shares = self.dual.bound(some, lines(some.layers), difference)
            some = some.put(mix=shares.mix, upper=torch.minimum(upper, some.upper))
            nodes = _placed(nodes, index, some)
        for i, each in enumerate(found):
            if each is not None and each.ray:
                one = nodes.take(torch.tensor([i]))
                nodes.upper[i] = min(float(nodes.upper[i]), self._along(one, each))
        return nodes, found

    def _along(self, node: Nodes, ray: Found) -> float:
        """The smallest bound when the multipliers move along a ray."""
        at = lines(node.layers)
        plain, _, shares = self.dual.bound(node, at)
        best = min(float(node.upper[0]), float(plain[0]))
        if not math.isfinite(best):
            return best
        for size in (share * (1 + abs(best)) for share in RAYS):
            moved = node.put(
                slopes=torch.from_numpy(ray.slopes)[None],
                own=node.own + size * torch.from_numpy(ray.own)[None],
                between=node.between + size * torch.from_numpy(ray.between)[None],
            )
            if self.goal.mean is not None:
                heads, shift = self.goal.heads(size * ray.mean, ray.cut)
                moved = moved.put(heads=heads[None], shift=torch.tensor([shift]).double())
            difference = shares.difference + size * torch.from_numpy(ray.difference)[None]
            upper, _, _ = self.dual.bound(moved, at, difference)
            best = min(best, float(upper[0]))
        return best

    # --- which split ------------------------------------------------------------------------------

    def _choices(self, nodes: Nodes, found: list[Found | None]) -> Tensor:
        """(B, count) the splits worth a look: what the linear program's pair does not respect."""
        possible = self.splits.open(nodes)
        signs = self.splits.signs
        wanted = torch.zeros_like(possible)
        sizes = self.dual.sizes.repeat(2) * VIOLATED
        for i, one in enumerate(found):
            if one is None or one.violation is None or one.first is None or one.second is None:
                wanted[i, :signs] = True
            else:
                violation = torch.from_numpy(one.violation).flatten()
                wanted[i, :signs] = violation > sizes
                if not (wanted[i, :signs] & possible[i, :signs]).any():
                    wanted[i, signs:] = self.splits.fractional(one.first, one.second)
            if not (wanted[i] & possible[i]).any():
                wanted[i] = True
        return wanted & possible

    def _best(self, nodes: Nodes, choices: Tensor, points: Tensor) -> Tensor:
        """(B,) the split after which the bounds of both parts fall most."""
        scores = choices.double() - 1  # also where it has to stop, the split is a possible one
        index = torch.nonzero(choices)
        # a sign is tried without new bounds on the layers after it: half the work, as good a choice
        start = torch.where(index[:, 1] < self.splits.signs, len(self.dual.slices), 0)
        floor = max(self.cutoff(), -1e300)
        for first in start.unique().tolist():
            some = index[start == first]
            for part in some.split(self._together(first)):
                if self.stop():
                    break
                row, split = part.unbind(1)
                halves = self.splits.halves(nodes.take(row), split, points[row])
                after = self._bounded(halves, first).upper.clamp(min=floor).view(2, -1)
                gain = nodes.upper[row] - after
                least = LEAST_GAIN * nodes.upper[row].abs()
                scores[row, split] = (gain[0] + least) * (gain[1] + least)
        return scores.argmax(1)

    def _together(self, first: int) -> int:
        """How many splits to try at once: fewer where layers are wide."""
        widths = self.dual.network.widths
        if first >= len(widths):
            return TRIED
        return max(8, min(TRIED, WORK // (16 * max(widths) ** 2)))


def _some(
    nodes: Nodes, found: list[Found | None], keep: Tensor
) -> tuple[Nodes, list[Found | None]]:
    return nodes.take(keep), [found[i] for i in keep.tolist()]


def _placed(nodes: Nodes, index: Tensor, some: Nodes) -> Nodes:
    changed = {}
    for name in ("slopes", "mix", "own", "between", "heads", "shift", "upper"):
        value = getattr(nodes, name).clone()
        value[index] = getattr(some, name)
        changed[name] = value
    return nodes.put(**changed)
