"""The linear program of a node: where its best multipliers come from, and its best pair.

Nothing here has to be right: multipliers are evaluated by `Dual`, pairs by the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch

from retrofair.certifiers.distances import Norm
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.tree.dual import Dual, Lines
from retrofair.certifiers.tree.goals import Goal
from retrofair.certifiers.tree.nodes import Nodes

INFINITE = 1e30
Index = npt.NDArray[np.intp]


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


@dataclass(frozen=True, eq=False)
class _Solved:
    """The multipliers of columns and rows, and the columns; without these they are a ray."""

    columns: Floats
    rows: Floats
    values: Floats | None


class LinearProgram:
    """One program for all nodes: only its bounds and the lines' coefficients change.

    Columns: x', x'' - x' where they can differ, y', y'', r', r'' of every unit, z', z'', and the
    margin where decisions are asked about. All are scaled to about 1.
    """

    def __init__(self, dual: Dual, goal: Goal) -> None:
        self.dual, self.goal = dual, goal
        self.pairs = dual.supports.pairs
        self.numbers = dual.supports.columns.numpy()
        self._entries: list[tuple[Index, Index, Floats]] = []
        self._scale: list[Floats] = []
        self._rows = 0
        self._starts: dict[int, int] = {}
        d, n, k = self.pairs.domain.d, dual.units, dual.network.outputs
        width = self.pairs.high - self.pairs.low
        width = np.where(width > 0, width, 1.0)
        self.moving = np.flatnonzero(self.pairs.cap > 0)
        sizes, last = (np.where(s > 0, s, 1.0) for s in (dual.sizes.numpy(), dual.largest.numpy()))
        self.x = self._columns(width)
        self.apart = self._columns(width[self.moving])
        self.y = np.stack([self._columns(sizes), self._columns(sizes)])
        self.r = np.stack([self._columns(sizes), self._columns(sizes)])
        self.z = np.stack([self._columns(last), self._columns(last)])
        self.margin = self._columns(last) if goal.cut is not None else np.zeros(0, dtype=np.intp)
        self._people(d)
        self._ball()
        self._layers()
        one = np.ones(n)
        # r <= slope y + top, r >= y, and r'' - r' between its lines
        self.top = np.stack([self._lines([(self.r[c], one), (self.y[c], -one)]) for c in (0, 1)])
        self.line = np.stack([self._rows_of([(self.r[c], one), (self.y[c], -one)]) for c in (0, 1)])
        ends = [(self.r[1], one), (self.r[0], -one), (self.y[1], -one), (self.y[0], one)]
        self.above, self.below = self._lines(ends), self._lines(ends)
        self._goal(k)
        self._finish()
        make: Any = highspy.Highs
        self.highs = make()
        for option, value in {
            "output_flag": False,
            "threads": 1,
            "presolve": "off",
            "solver": "simplex",
        }.items():
            self.highs.setOptionValue(option, value)
        self.basis: Any = None

    # --- building ---------------------------------------------------------------------------------

    def _columns(self, scale: Floats) -> Index:
        start = sum(len(s) for s in self._scale)
        self._scale.append(np.asarray(scale, dtype=np.float64))
        return np.arange(start, start + len(scale))

    def _rows_of(self, terms: list[tuple[Index, Floats]]) -> Index:
        """One row per entry: the sum of coefficient * column over the terms."""
        m = len(terms[0][0])
        rows = np.arange(self._rows, self._rows + m)
        for columns, values in terms:
            self._entries.append((rows, columns, np.broadcast_to(values, m).astype(float)))
        self._rows += m
        return rows

    def _lines(self, terms: list[tuple[Index, Floats]]) -> Index:
        """The same, with coefficients of y that change: remembered by where their entries start."""
        start = sum(len(rows) for rows, _, _ in self._entries)
        rows = self._rows_of(terms)
        if len(rows):
            self._starts[int(rows[0])] = start
        return rows

    def _dense(self, rows: Index, columns: Index, values: Floats) -> None:
        i, j = np.nonzero(values)
        self._entries.append((rows[i], columns[j], values[i, j]))

    def _people(self, d: int) -> None:
        place = {int(column): i for i, column in enumerate(self.moving)}
        one = np.ones(len(self.moving))
        self.second = self._rows_of([(self.x[self.moving], one), (self.apart, one)])
        whole, equal = [], []
        for _, where in self.pairs.domain.groups:
            row = self._empty(1)
            self._dense(row, self.x[where], np.ones((1, where.stop - where.start)))
            whole.append(row)
            moving = [place[column] for column in range(where.start, where.stop) if column in place]
            if moving:
                row = self._empty(1)
                self._dense(row, self.apart[moving], np.ones((1, len(moving))))
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
        self.sizes = self._columns(np.full(m, size))  # |M d| row by row
        rows = [self._rows_of([(self.sizes, np.ones(m))]) for _ in (0, 1)]
        for side, sign in zip(rows, (1.0, -1.0), strict=True):
            self._dense(side, self.apart, sign * matrix)
        self.within = np.concatenate(rows)
        if norm.p != math.inf:
            self.total = self._empty(1)
            self._dense(self.total, self.sizes, np.ones((1, m)))
            self.most = self.pairs.epsilon * (1.0 if norm.p == 1 else math.sqrt(m))

    def _empty(self, m: int) -> Index:
        rows = np.arange(self._rows, self._rows + m)
        self._rows += m
        return rows

    def _layers(self) -> None:
        """y = W h + b with h = slope y + (1 - slope) r of the layer before, both copies."""
        network, slices = self.dual.network, self.dual.slices
        self.exact, biases = [], []
        for depth, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            w = weight.numpy()
            for copy in (0, 1):
                hidden = depth < len(slices)
                out = self.y[copy, slices[depth]] if hidden else self.z[copy]
                rows = self._rows_of([(out, np.ones(len(out)))])
                if depth:
                    slope = network.activations[depth - 1].slope
                    before = slices[depth - 1]
                    self._dense(rows, self.r[copy, before], -(1 - slope) * w)
                    if slope:
                        self._dense(rows, self.y[copy, before], -slope * w)
                else:
                    self._dense(rows, self.x, -w)
                    if copy:
                        self._dense(rows, self.apart, -w[:, self.moving])
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
                    self._rows_of([(self.margin, one), (self.z[0], one)]),
                    self._rows_of([(self.margin, one), (self.z[1], -one)]),
                ]
            )
        elif goal.mean is not None:
            self.mean = self._rows_of([(self.z[0], half), (self.z[1], half)])

    def _finish(self) -> None:
        rows = np.concatenate([e[0] for e in self._entries])
        columns = np.concatenate([e[1] for e in self._entries])
        values = np.concatenate([e[2] for e in self._entries])
        self.column_scale = np.concatenate(self._scale)
        values = values * self.column_scale[columns]
        largest = np.zeros(self._rows)
        np.maximum.at(largest, rows, np.abs(values))
        self.row_scale = 1 / np.where(largest > 0, largest, 1.0)
        self.values = values * self.row_scale[rows]
        self.factor = self.column_scale[columns] * self.row_scale[rows]
        shape = self._rows, len(self.column_scale)
        order = scipy.sparse.csc_matrix((np.arange(1, len(rows) + 1), (rows, columns)), shape=shape)
        self.order = np.asarray(order.data) - 1
        self.starts, self.places = order.indptr.astype(np.int32), order.indices.astype(np.int32)
        self.shape = shape

    # --- solving ----------------------------------------------------------------------------------

    def solve(self, nodes: Nodes, at: Lines, i: int, seconds: float = math.inf) -> Found | None:
        """The best multipliers of node i; None where the solver gives up, or has no time left."""
        limit = self.highs.getRunTime() + max(seconds, 0.01)
        self.highs.setOptionValue("time_limit", limit if math.isfinite(limit) else INFINITE)
        n = self.dual.units
        values = self.values.copy()
        low, high = np.full(self.shape[1], -INFINITE), np.full(self.shape[1], INFINITE)
        bottom, top = np.full(self.shape[0], -INFINITE), np.full(self.shape[0], INFINITE)
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
            self._change(values, self.top[copy], n, [(1, -slope[copy])])
        self._change(values, self.above, n, [(2, -above), (3, above)])
        self._change(values, self.below, n, [(2, -below), (3, below)])
        top[self.above], bottom[self.below] = at.above_0[i].numpy(), at.below_0[i].numpy()
        cost = np.zeros(self.shape[1])
        if self.goal.cut is not None:
            cost[self.margin] = -1.0
            top[self.sides] = self.goal.cut, -self.goal.cut
        else:
            cost[self.z] = -np.stack([self.goal.first.numpy(), self.goal.second.numpy()])
            if self.goal.mean is not None:
                bottom[self.mean], top[self.mean] = self.goal.mean
        solved = self._run(values, cost, low, high, bottom, top)
        return None if solved is None else self._found(solved, at, i)

    def _change(self, values: Floats, rows: Index, n: int, terms: list[tuple[int, Floats]]) -> None:
        if not n:
            return
        start = self._starts[int(rows[0])]
        for term, new in terms:
            entries = slice(start + term * n, start + (term + 1) * n)
            values[entries] = new * self.factor[entries]

    def _run(self, values: Floats, cost: Floats, *ends: Floats) -> _Solved | None:
        low, high, bottom, top = ends
        size = max(float(np.abs(cost * self.column_scale).max()), 1e-300)
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.shape[1], self.shape[0]
        lp.col_cost_ = cost * self.column_scale / size
        lp.col_lower_ = _clipped(low / self.column_scale)
        lp.col_upper_ = _clipped(high / self.column_scale)
        lp.row_lower_ = _clipped(bottom * self.row_scale)
        lp.row_upper_ = _clipped(top * self.row_scale)
        matrix = lp.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.start_, matrix.index_ = self.starts, self.places
        matrix.value_ = values[self.order]
        highs = self.highs
        highs.passModel(lp)
        if self.basis is not None:
            highs.setBasis(self.basis)
        highs.run()
        status = highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            ray = highs.getDualRay()
            if not ray[1]:
                return None
            rows = np.asarray(ray[2])
            sparse: Any = scipy.sparse.csc_matrix(
                (values[self.order], self.places, self.starts), shape=self.shape
            )
            rows = rows * _direction(rows, sparse, lp)
            if not np.isfinite(rows).all():
                return None
            columns = -(sparse.T @ rows)
            return _Solved(
                np.asarray(columns) / self.column_scale, np.asarray(rows) * self.row_scale, None
            )
        if status != highspy.HighsModelStatus.kOptimal:
            self.basis = None
            return None
        self.basis = highs.getBasis()
        solution = highs.getSolution()
        return _Solved(
            np.array(solution.col_dual) * size / self.column_scale,
            np.array(solution.row_dual) * size * self.row_scale,
            np.array(solution.col_value) * self.column_scale,
        )

    def _found(self, solved: _Solved, at: Lines, i: int) -> Found:
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


def _clipped(ends: Floats) -> Floats:
    return np.asarray(np.clip(ends, -INFINITE, INFINITE))


def _direction(rows: Floats, matrix: Any, lp: Any) -> float:
    """The factor with which a ray shows that there is no solution, by 1; nan where it does not."""
    best, factor = 0.0, np.nan
    for way in (1.0, -1.0):
        y = way * rows
        reduced = -(matrix.T @ y)
        value = _worth(y, np.asarray(lp.row_lower_), np.asarray(lp.row_upper_))
        value += _worth(reduced, np.asarray(lp.col_lower_), np.asarray(lp.col_upper_))
        if value > best:
            best, factor = value, way / value
    return factor


def _worth(y: Floats, low: Floats, high: Floats) -> float:
    ends = np.where(y > 0, low, high)
    return float((y * ends)[np.abs(y) > 1e-12 * max(np.abs(y).max(), 1e-300)].sum())


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
