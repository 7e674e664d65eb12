"""A linear program that is solved again and again with other bounds and a few other entries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse

from retrofair.certifiers.domain import Floats

INFINITE = 1e30
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Solved:
    """The multipliers of columns and rows, and the columns; without these they are a ray."""

    columns: Floats
    rows: Floats
    values: Floats | None


class Program:
    """Columns and rows of about size 1, in HiGHS, which starts where the last solution was."""

    def __init__(self) -> None:
        self._entries: list[tuple[Index, Index, Floats]] = []
        self._scale: list[Floats] = []
        self._rows = 0
        self._starts: dict[int, int] = {}
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

    def limit(self, seconds: float) -> None:
        """The time for the next run."""
        end = self.highs.getRunTime() + max(seconds, 0.01)
        self.highs.setOptionValue("time_limit", end if math.isfinite(end) else INFINITE)

    def columns(self, scale: Floats) -> Index:
        """New columns, of about these sizes."""
        start = sum(len(s) for s in self._scale)
        self._scale.append(np.asarray(scale, dtype=np.float64))
        return np.arange(start, start + len(scale))

    def rows(self, terms: list[tuple[Index, Floats]]) -> Index:
        """One row per entry: the sum of coefficient * column over the terms."""
        m = len(terms[0][0])
        rows = np.arange(self._rows, self._rows + m)
        for columns, values in terms:
            self._entries.append((rows, columns, np.broadcast_to(values, m).astype(float)))
        self._rows += m
        return rows

    def lines(self, terms: list[tuple[Index, Floats]]) -> Index:
        """The same, with coefficients of y that change: remembered by where their entries start."""
        start = sum(len(rows) for rows, _, _ in self._entries)
        rows = self.rows(terms)
        if len(rows):
            self._starts[int(rows[0])] = start
        return rows

    def dense(self, rows: Index, columns: Index, values: Floats) -> None:
        """A matrix of coefficients, (rows, columns), added to rows that there are."""
        i, j = np.nonzero(values)
        self._entries.append((rows[i], columns[j], values[i, j]))

    def empty(self, m: int) -> Index:
        """New rows without coefficients."""
        rows = np.arange(self._rows, self._rows + m)
        self._rows += m
        return rows

    def finish(self) -> None:
        """All columns and rows are there: scale them."""
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

    def change(self, values: Floats, rows: Index, n: int, terms: list[tuple[int, Floats]]) -> None:
        """New coefficients of some terms of rows made by `lines`."""
        if not n:
            return
        start = self._starts[int(rows[0])]
        for term, new in terms:
            entries = slice(start + term * n, start + (term + 1) * n)
            values[entries] = new * self.factor[entries]

    def run(self, values: Floats, cost: Floats, *ends: Floats) -> Solved | None:
        """Minimise the cost of columns in [low, high] and rows in [bottom, top]."""
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
            return Solved(
                np.asarray(columns) / self.column_scale, np.asarray(rows) * self.row_scale, None
            )
        if status != highspy.HighsModelStatus.kOptimal:
            self.basis = None
            return None
        self.basis = highs.getBasis()
        solution = highs.getSolution()
        return Solved(
            np.array(solution.col_dual) * size / self.column_scale,
            np.array(solution.row_dual) * size * self.row_scale,
            np.array(solution.col_value) * self.column_scale,
        )


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
