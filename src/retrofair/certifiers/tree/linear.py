"""The linear program of a node: where its best multipliers come from, and its best pair.

Nothing here has to be right: multipliers are evaluated by `Dual`, pairs by the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from retrofair.certifiers.distances import Norm
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.tree.dual import Dual, Lines
from retrofair.certifiers.tree.goals import Goal
from retrofair.certifiers.tree.nodes import Nodes
from retrofair.certifiers.tree.resolved import INFINITE, Program, Solved


@dataclass(frozen=True, eq=False)
class Found:
    """What the solver says of a node.

    Args:
        ray: the program has no solution; the multipliers lower any bound by 1 for each time that
            they are added to others.
        slopes, difference, own, between: multipliers, as in Nodes; difference as in Dual.bound.
        mean, cut: multipliers of the goal's rows.
        first, second: (d,) the best pair; violation: (2, N) how far its units leave the ReLU.
    """

    ray: bool
    slopes: Floats
    difference: Floats
    own: Floats
    between: Floats
    mean: float
    cut: tuple[float, float]
    first: Floats | None = None
    second: Floats | None = None
    violation: Floats | None = None


class LinearProgram:
    """One program for all nodes: only its bounds and the lines' coefficients change.

    Columns: x', x'' - x' where they can differ, y', y'', r', r'' of every unit, z', z'', and the
    margin where decisions are asked about. All are scaled to about 1.
    """

    def __init__(self, dual: Dual, goal: Goal) -> None:
        self.dual, self.goal = dual, goal
        self.pairs = dual.supports.pairs
        self.numbers = dual.supports.columns.numpy()
        self.program = Program()
        d, n, k = self.pairs.domain.d, dual.units, dual.network.outputs
        width = self.pairs.high - self.pairs.low
        width = np.where(width > 0, width, 1.0)
        self.moving = np.flatnonzero(self.pairs.cap > 0)
        sizes, last = (np.where(s > 0, s, 1.0) for s in (dual.sizes.numpy(), dual.largest.numpy()))
        self.x = self.program.columns(width)
        self.apart = self.program.columns(width[self.moving])
        self.y = np.stack([self.program.columns(sizes), self.program.columns(sizes)])
        self.r = np.stack([self.program.columns(sizes), self.program.columns(sizes)])
        self.z = np.stack([self.program.columns(last), self.program.columns(last)])
        self.margin = (
            self.program.columns(last) if goal.cut is not None else np.zeros(0, dtype=np.intp)
        )
        self._people(d)
        self._ball()
        self._layers()
        one = np.ones(n)
        # r <= slope y + top, r >= y, and r'' - r' between its lines
        self.top = np.stack(
            [self.program.lines([(self.r[c], one), (self.y[c], -one)]) for c in (0, 1)]
        )
        self.line = np.stack(
            [self.program.rows([(self.r[c], one), (self.y[c], -one)]) for c in (0, 1)]
        )
        ends = [(self.r[1], one), (self.r[0], -one), (self.y[1], -one), (self.y[0], one)]
        self.above, self.below = self.program.lines(ends), self.program.lines(ends)
        self._goal(k)
        self.program.finish()

    # --- building ---------------------------------------------------------------------------------

    def _people(self, d: int) -> None:
        place = {int(column): i for i, column in enumerate(self.moving)}
        one = np.ones(len(self.moving))
        self.second = self.program.rows([(self.x[self.moving], one), (self.apart, one)])
        whole, equal = [], []
        for _, where in self.pairs.domain.groups:
            row = self.program.empty(1)
            self.program.dense(row, self.x[where], np.ones((1, where.stop - where.start)))
            whole.append(row)
            moving = [place[column] for column in range(where.start, where.stop) if column in place]
            if moving:
                row = self.program.empty(1)
                self.program.dense(row, self.apart[moving], np.ones((1, len(moving))))
                equal.append(row)
        self.whole = np.concatenate([np.zeros(0, dtype=np.intp), *whole])
        self.equal = np.concatenate([np.zeros(0, dtype=np.intp), *equal])

    def _ball(self) -> None:
        """Polyhedra around the distance's ball: exact for p = 1 and inf, a little large for 2."""
        norm, empty = self.pairs.norm, np.zeros(0, dtype=np.intp)
        self.sizes, self.within, self.total = empty, empty, empty
        if not self.dual.supports.ball or not isinstance(norm, Norm) or not len(self.moving):
            return
        matrix = norm.matrix[:, self.moving]
        matrix = matrix[np.abs(matrix).max(1) > 0]
        if not len(matrix):
            return
        m, size = len(matrix), max(self.pairs.epsilon, 1e-12)
        self.sizes = self.program.columns(np.full(m, size))  # |M d| row by row
        rows = [self.program.rows([(self.sizes, np.ones(m))]) for _ in (0, 1)]
        for side, sign in zip(rows, (1.0, -1.0), strict=True):
            self.program.dense(side, self.apart, sign * matrix)
        self.within = np.concatenate(rows)
        if norm.p != math.inf:
            self.total = self.program.empty(1)
            self.program.dense(self.total, self.sizes, np.ones((1, m)))
            self.most = self.pairs.epsilon * (1.0 if norm.p == 1 else math.sqrt(m))

    def _layers(self) -> None:
        """y = W h + b with h = slope y + (1 - slope) r of the layer before, both copies."""
        network, slices = self.dual.network, self.dual.slices
        self.exact, biases = [], []
        for depth, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            w = weight.numpy()
            for copy in (0, 1):
                hidden = depth < len(slices)
                out = self.y[copy, slices[depth]] if hidden else self.z[copy]
                rows = self.program.rows([(out, np.ones(len(out)))])
                if depth:
                    slope = network.activations[depth - 1].slope
                    before = slices[depth - 1]
                    self.program.dense(rows, self.r[copy, before], -(1 - slope) * w)
                    if slope:
                        self.program.dense(rows, self.y[copy, before], -slope * w)
                else:
                    self.program.dense(rows, self.x, -w)
                    if copy:
                        self.program.dense(rows, self.apart, -w[:, self.moving])
                self.exact.append(rows)
                biases.append(bias.numpy())
        self.biases = np.concatenate(biases)

    def _goal(self, k: int) -> None:
        goal, half = self.goal, np.array([0.5])
        self.sides = np.zeros(0, dtype=np.intp)
        self.mean = np.zeros(0, dtype=np.intp)
        if goal.cut is not None:
            one = np.ones(1)
            self.sides = np.concatenate(
                [
                    self.program.rows([(self.margin, one), (self.z[0], one)]),
                    self.program.rows([(self.margin, one), (self.z[1], -one)]),
                ]
            )
        elif goal.mean is not None:
            self.mean = self.program.rows([(self.z[0], half), (self.z[1], half)])

    # --- solving ----------------------------------------------------------------------------------

    def solve(self, nodes: Nodes, at: Lines, i: int, seconds: float = math.inf) -> Found | None:
        """The best multipliers of node i; None where the solver gives up, or has no time left."""
        self.program.limit(seconds)
        n = self.dual.units
        values = self.program.values.copy()
        rows, columns = self.program.shape
        low, high = np.full(columns, -INFINITE), np.full(columns, INFINITE)
        bottom, top = np.full(rows, -INFINITE), np.full(rows, INFINITE)
        d = self.pairs.domain.d
        people = np.zeros((2, 2, d))
        people[1] = nodes.open[i].numpy()
        people[0][:, self.numbers] = nodes.low[i].numpy()
        people[1][:, self.numbers] = nodes.high[i].numpy()
        low[self.x], high[self.x] = people[:, 0]
        cap = self.pairs.cap[self.moving]
        low[self.apart], high[self.apart] = -cap, cap
        bottom[self.second], top[self.second] = people[:, 1, self.moving]
        bottom[self.whole] = top[self.whole] = 1.0
        bottom[self.equal] = top[self.equal] = 0.0
        low[self.sizes], high[self.sizes] = 0.0, self.pairs.epsilon
        bottom[self.within] = 0.0
        if len(self.total):
            top[self.total] = self.most
        exact = np.concatenate(self.exact)
        bottom[exact] = top[exact] = self.biases
        layers = nodes.layers[i].numpy()
        low[self.y], high[self.y] = layers[0:4:2], layers[1:4:2]
        low[self.r] = 0.0
        bottom[self.line] = 0.0
        slope, above = at.slope[i].numpy(), at.above[i].numpy()
        below = at.below[i].numpy()
        top[self.top] = at.top[i].numpy()
        for copy in (0, 1):
            self.program.change(values, self.top[copy], n, [(1, -slope[copy])])
        self.program.change(values, self.above, n, [(2, -above), (3, above)])
        self.program.change(values, self.below, n, [(2, -below), (3, below)])
        top[self.above], bottom[self.below] = at.above_0[i].numpy(), at.below_0[i].numpy()
        cost = np.zeros(columns)
        if self.goal.cut is not None:
            cost[self.margin] = -1.0
            top[self.sides] = self.goal.cut, -self.goal.cut
        else:
            cost[self.z] = -np.stack([self.goal.first.numpy(), self.goal.second.numpy()])
            if self.goal.mean is not None:
                bottom[self.mean], top[self.mean] = self.goal.mean
        solved = self.program.run(values, cost, low, high, bottom, top)
        return None if solved is None else self._found(solved, at, i)

    def _found(self, solved: Solved, at: Lines, i: int) -> Found:
        columns, rows, values = solved.columns, solved.rows, solved.values
        slope = at.slope[i].numpy()
        most = np.maximum(-rows[self.top], 0)
        line, zero = np.maximum(rows[self.line], 0), np.maximum(columns[self.r], 0)
        least = line + zero
        slopes = np.where(least > 0, line / np.where(least > 0, least, 1.0), 0.5)
        # a unit held from both sides by its lines says where its y can lie
        both = np.minimum(most, least)
        own = columns[self.y] + both * ((1 - slopes) * slope - slopes * (1 - slope))
        own = np.where(slope >= 1, columns[self.y] + zero, own)
        own = np.where(slope <= 0, columns[self.y] - line, own)
        above, below = np.maximum(-rows[self.above], 0), np.maximum(rows[self.below], 0)
        gap = (at.above[i] - at.below[i]).numpy()
        sides = np.maximum(-rows[self.sides], 0)
        found = Found(
            ray=values is None,
            slopes=slopes,
            difference=above - below,
            own=own,
            between=np.minimum(above, below) * gap,
            mean=float(rows[self.mean].sum()),
            cut=(float(sides[0]), float(sides[1])) if len(sides) else (0.5, 0.5),
        )
        if values is None:
            return found
        first = values[self.x]
        second = first.copy()
        second[self.moving] += values[self.apart]
        violation = np.abs(values[self.r] - np.maximum(values[self.y], 0))
        return Found(**{**found.__dict__, "first": first, "second": second, "violation": violation})


def multipliers(found: list[Found], nodes: Nodes, goal: Goal) -> tuple[Nodes, torch.Tensor]:
    """The nodes with the solver's multipliers, and their weights on the differences (B, N)."""

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(f, name) for f in found]))

    heads, shifts = zip(*(goal.heads(f.mean, f.cut) for f in found), strict=True)
    put = nodes.put(
        slopes=stacked("slopes"),
        own=stacked("own"),
        between=stacked("between"),
        heads=torch.stack(heads),
        shift=torch.tensor(shifts, dtype=torch.float64),
    )
    return put, stacked("difference")
