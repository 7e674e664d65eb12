"""A mixed-integer linear program under construction, scaled so that tolerances mean the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

TINY = 1e-9  # a coefficient below this share of its row's largest is taken out of it
TOLERANCE = 1e-9  # of the solver, on rows and on reduced costs
LP_SLACK = 1e-6  # what is added to a bound of the solver, relative to its size


@dataclass(frozen=True)
class Term:
    """factor * variable + constant; no variable where the factor is 0."""

    variable: int
    factor: float
    constant: float = 0.0

    def times(self, factor: float) -> Term:
        return Term(self.variable, self.factor * factor, self.constant * factor)


Row = list[tuple[float, Term]]


class Program:
    """A linear program under construction, with the variables that must be whole in the end."""

    def __init__(self) -> None:
        make: Any = highspy.Highs
        self.highs = make()
        self.highs.setOptionValue("output_flag", False)
        for tolerance in ("primal", "dual", "mip"):  # of a MIP's relaxations by the last
            self.highs.setOptionValue(f"{tolerance}_feasibility_tolerance", TOLERANCE)
        self.whole: list[int] = []
        self.ranges: list[tuple[float, float]] = []

    def variable(self, low: float, high: float, whole: bool = False) -> int:
        self.highs.addVar(low, high)
        if whole:
            self.whole.append(len(self.ranges))
        self.ranges.append((low, high))
        return len(self.ranges) - 1

    def number(self, low: float, high: float) -> Term:
        """A variable scaled to at most 1: the solver's tolerances are absolute, whatever the unit.

        Nothing is lost where low and high are 0: no variable is made.
        """
        size = max(abs(low), abs(high))
        if size <= 0 or not math.isfinite(1 / size):
            return Term(-1, 0.0)
        return Term(self.variable(low / size, high / size), size)

    def narrow(self, term: Term, low: float, high: float) -> None:
        """Narrower bounds of a number."""
        if term.factor:
            low, high = low / term.factor, high / term.factor
            self.highs.changeColBounds(term.variable, low, high)
            self.ranges[term.variable] = low, high

    def row(self, low: float, terms: Row, high: float) -> None:
        """low <= sum of coefficient * term <= high."""
        low, factors, high = self.collected(low, terms, high)
        index = np.fromiter(factors, dtype=np.int32, count=len(factors))
        value = np.fromiter(factors.values(), dtype=np.float64, count=len(factors))
        self.highs.addRow(low, high, len(index), index, value)

    def collected(
        self, low: float, terms: Row, high: float
    ) -> tuple[float, dict[int, float], float]:
        """A row with one factor per variable, the largest of them 1."""
        factors: dict[int, float] = {}
        shift = 0.0
        for coefficient, term in terms:
            shift += coefficient * term.constant
            if term.factor and coefficient:
                factors[term.variable] = factors.get(term.variable, 0.0) + coefficient * term.factor
        size = max(map(abs, factors.values()), default=0.0) or 1.0
        low, high = (low - shift) / size, (high - shift) / size
        kept = {}
        for variable, factor in factors.items():
            if abs(factor) >= TINY * size:
                kept[variable] = factor / size
                continue
            # the solver would drop it: what it can be worth widens the row instead
            ends = [factor / size * end for end in self.ranges[variable]]
            low, high = low - max(ends), high - min(ends)
        return low, kept, high

    def equal(self, name: Term, terms: Row) -> None:
        self.row(0.0, [*terms, (-1.0, name)], 0.0)

    def highest(self, term: Term, sign: float, seconds: float) -> float:
        """An upper bound on sign * term over the relaxation; inf where none was proved."""
        h = self.highs
        if not term.factor:
            return 0.0
        h.changeColCost(term.variable, -sign)
        h.setOptionValue("time_limit", h.getRunTime() + max(seconds, 0.01))
        h.run()
        # any change of the program resets both
        status, value = h.getModelStatus(), -float(h.getInfo().objective_function_value)
        h.changeColCost(term.variable, 0.0)
        proved = status == highspy.HighsModelStatus.kOptimal
        return term.factor * (value + LP_SLACK) if proved else math.inf
