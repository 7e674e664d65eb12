"""Linear programs of the fair-Bayes rule for classes, each begun where the last one ended."""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np
from scipy import sparse

from retrofair.metrics import Array

MOST_STEPS = 6_000  # of the simplex method; a start that needs more was a bad one


class ClassPrograms:
    """The programs of `prices_of_classes` at several bounds.

    Args:
        worth: (n, K) what deciding for each class is worth for each row.
        gaps: (n, m) what deciding for the gap's class adds to it.
        of, free: (m,) as in `ClassGaps`.
    """

    def __init__(self, worth: Array, gaps: Array, of: Array, free: Array) -> None:
        (n, classes), self.m = worth.shape, gaps.shape[1]
        middles = (free[:, None] == np.unique(free[free >= 0])).astype(float)
        column = np.arange(n)[:, None] * classes + of
        row = np.tile(np.arange(self.m), n)
        size = (self.m, n * classes)
        moved = sparse.csr_matrix(((gaps / n).ravel(), (row, column.ravel())), shape=size)
        one = sparse.kron(sparse.eye(n), np.ones((1, classes)))
        blocks: list[list[Any]] = [[moved, sparse.csr_matrix(-middles)], [one, None]]
        table: Any = sparse.bmat(blocks, format="csc")
        ends = np.repeat([1.0, highspy.kHighsInf], [n * classes, middles.shape[1]])
        lp: Any = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = table.shape
        lp.col_cost_ = np.concatenate([-worth.ravel() / n, np.zeros(middles.shape[1])])
        lp.col_lower_, lp.col_upper_ = np.where(ends == 1.0, 0.0, -ends), ends
        lp.row_lower_ = np.concatenate([np.zeros(self.m), np.ones(n)])
        lp.row_upper_ = lp.row_lower_
        matrix = lp.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.start_, matrix.index_, matrix.value_ = table.indptr, table.indices, table.data
        make: Any = highspy.Highs
        self.highs = make()
        options = {"output_flag": False, "threads": 1, "solver": "simplex", "presolve": "off"}
        for option, value in {**options, "simplex_iteration_limit": MOST_STEPS}.items():
            self.highs.setOptionValue(option, value)
        self.highs.passModel(lp)

    def prices(self, bound: Array, centre: Array) -> tuple[Array, float] | None:
        """As `prices_of_classes`; None where it was not solved in a few steps."""
        for k, (low, high) in enumerate(zip(-bound - centre, bound - centre, strict=True)):
            self.highs.changeRowBounds(k, float(low), float(high))
        self.highs.run()
        status = self.highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return np.zeros(self.m), float("nan")
        if status != highspy.HighsModelStatus.kOptimal:
            self.highs.clearSolver()
            return None
        prices = -np.array(self.highs.getSolution().row_dual[: self.m])
        return prices, -float(self.highs.getObjectiveValue())
