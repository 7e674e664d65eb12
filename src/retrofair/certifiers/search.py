"""Runs of HiGHS on a twin network, watched while they run; only what is proved counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import highspy
import numpy as np

from retrofair.certifiers.activations import sigmoid_difference
from retrofair.certifiers.attack import Climber, Goal
from retrofair.certifiers.board import Board
from retrofair.certifiers.distances import NetworkNorm
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.program import LP_SLACK, Row, Term
from retrofair.certifiers.question import Question
from retrofair.certifiers.schedule import LOGITS, SlabSearch, by_turns
from retrofair.certifiers.slabs import Slab
from retrofair.certifiers.twin import Twin
from retrofair.certifiers.witness import legalised

POLISH = 1.0  # seconds between two searches around the solver's own pairs
RELAXED = 0.6  # of the time, at most, for people in between
SMALL = 1e-12
STARTING = 2.0  # seconds to complete a pair to a solution
UNBOUNDED = 1e20  # what the solver takes as infinite
FEASIBLE = 2  # the solver's number for a feasible point
NONE_LEFT = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kObjectiveBound,
)
PROVED = (
    highspy.HighsModelStatus.kOptimal,
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kInterrupt,
)


@dataclass(eq=False)
class Search:
    """Runs of the solver on one twin, each with an objective of its own.

    Args:
        outputs: the terms of y', y'' and y'' - y' of the last layer.
    """

    question: Question
    pairs: Pairs
    board: Board
    twin: Twin
    outputs: list[list[Term]]
    generator: np.random.Generator

    def __post_init__(self) -> None:
        self.highs = self.twin.program.highs
        self.climber = Climber(self.question, self.pairs, self.generator)
        self._polished = 0.0
        self._slabs: SlabSearch

    @property
    def _passes(self) -> tuple[bool, ...]:
        """With people in between first (False), then with whole ones, where that differs."""
        return (False, True) if self.twin.people_whole else (True,)

    def logits(self) -> None:
        """The largest difference of logits: with people in between first, then whole ones.

        Without whole numbers and categories the program is a larger one, so its bound is sound,
        and far easier; often it is all that is needed.
        """
        board = self.board
        end = board.elapsed + (LOGITS if self.question.kind == "sigmoid" else 1.0) * board.left
        for whole in self._passes:
            self._integral(whole)
            share = 1.0 if whole else RELAXED
            by_turns(board, self._head, board.elapsed + share * max(end - board.elapsed, 0.0))
            if board.closed(board.lower_logit, board.upper_logit):
                return

    def _head(self, k: int, seconds: float) -> bool:
        """Narrow one head; whether the solver has nothing left to do on it."""
        board = self.board
        row = self.question.heads[k].tolist()
        self._solve(
            [(c, term) for c, term in zip(row, self.outputs[2], strict=True) if c],
            max(seconds, 0.1),
            self.question.logit,
            lambda bound, slack: board.bounded("solver", slack, head=(k, bound)),
            lambda: board.closed(board.lower_logit, float(board.reach[k])),
        )
        return bool(self.finished)

    def flips(self, cut: float) -> None:
        """How far a pair's logits can lie on both sides of the cut."""
        program, board = self.twin.program, self.board
        width = float(board.outputs.high[0] - board.outputs.low[0])
        margin = program.number(-width, width)
        program.row(cut, [(1.0, self.outputs[1][0]), (-1.0, margin)], math.inf)
        program.row(-math.inf, [(1.0, self.outputs[0][0]), (1.0, margin)], cut)
        for whole in self._passes:
            self._integral(whole)
            self._solve(
                [(1.0, margin)],
                board.left * (1.0 if whole else RELAXED),
                self.question.margin,
                lambda bound, slack: board.bounded("solver", slack, margin=bound),
                lambda: False,
            )
            if board.done() is not None:
                return

    def slabs(self) -> None:
        """The difference of sigmoids, slab by slab of the mean of the two logits (see slabs.py)."""
        board, program = self.board, self.twin.program
        if board.done() is not None or self.question.network.outputs > 1:
            return
        low, high = float(board.outputs.low[0]), float(board.outputs.high[0])
        mean = program.number(low, high)
        program.equal(mean, [(0.5, self.outputs[0][0]), (0.5, self.outputs[1][0])])
        slabs = self._slabs = SlabSearch(board, partial(self._slab, mean), "solver", LP_SLACK)
        for whole in self._passes:
            self._integral(whole)
            slabs.floor = 0.0
            share = 1.0 if whole else RELAXED / 2
            slabs.run(board.elapsed + share * board.left)
            if board.done() is not None:
                return

    def _slab(
        self, mean: Term, slab: Slab, slope: float, top: float, enough: Callable[[float], bool]
    ) -> float | None:
        """A bound on D - slope * m for the pairs of a slab."""
        self.twin.program.narrow(mean, slab.low, slab.high)
        heard = [math.inf]
        proved = self._solve(
            [(1.0, self.outputs[2][0]), (-slope, mean)],
            self.board.left / 4,
            self.question.delta,
            lambda bound, _: heard.append(bound),
            lambda: enough(heard[-1]),
            cut=top,
        )
        if self.attained is not None and self.loose:
            first, second = self.attained
            value = sigmoid_difference(second - first, (first + second) / 2)
            self._slabs.floor = max(self._slabs.floor, self._slabs.scale * value)
        return proved

    def _solve(
        self,
        objective: Row,
        seconds: float,
        goal: Goal,
        bounded: Callable[[float, float], None],
        enough: Callable[[], bool],
        cut: float | None = None,
    ) -> float | None:
        """Maximise; every bound and pair on the way goes to the board. The proved bound, if any.

        Args:
            cut: solutions up to this value are of no interest: where there are no others, it is
                the bound.
        """
        highs, board = self.highs, self.board
        shift = sum(c * t.constant for c, t in objective)
        # costs near 1: the solver's tolerances are absolute
        size = max(sum(abs(c * t.factor) * self._range(t) for c, t in objective), SMALL)
        objective = [(c, term) for c, term in objective if term.factor]
        for coefficient, term in objective:
            highs.changeColCost(term.variable, -coefficient * term.factor / size)
        slack = LP_SLACK * size
        highs.setOptionValue("mip_rel_gap", min(board.gap / 2, 1e-4))
        # the solver's own search for solutions costs more than it finds beside a good pair
        highs.setOptionValue("mip_heuristic_effort", 0.0 if board.witness is not None else 0.05)
        self._start(objective)
        highs.setOptionValue("time_limit", highs.getRunTime() + max(min(seconds, board.left), 0.01))
        least = -math.inf if cut is None else cut + slack
        most = highspy.kHighsInf if cut is None else -(cut - shift) / size
        highs.setOptionValue("objective_bound", most)
        kept, last = board.kept(), math.inf

        def watch(event: Any) -> None:
            nonlocal last
            bound = max(shift - size * float(event.data_out.mip_dual_bound) + slack, least)
            if abs(bound) < UNBOUNDED and bound < last - 1e-9 * size:
                last = bound
                bounded(bound, slack)
            # said each time: the solver keeps the answer of an earlier run
            event.interrupt(board.done() is not None or enough())

        def improved(event: Any) -> None:
            self._pair(np.asarray(event.data_out.mip_solution), goal)

        highs.cbMipInterrupt.subscribe(watch)
        highs.cbMipImprovingSolution.subscribe(improved)
        try:
            highs.run()
        finally:
            highs.cbMipInterrupt.unsubscribe(watch)
            highs.cbMipImprovingSolution.unsubscribe(improved)
        # any change of the program resets both
        status, info = highs.getModelStatus(), highs.getInfo()
        self.finished = status != highspy.HighsModelStatus.kTimeLimit
        # a program without whole variables is solved as a linear one, and has no such bound
        # (nor has one that presolving alone solves)
        proved = info.mip_dual_bound if self.discrete else info.objective_function_value
        if status == highspy.HighsModelStatus.kOptimal and abs(proved) >= UNBOUNDED:
            proved = info.objective_function_value
        bound = max(shift - size * float(proved) + slack, least)
        highs.setOptionValue("objective_bound", highspy.kHighsInf)
        self.attained: tuple[float, float] | None = None
        if status in PROVED and info.primal_solution_status == FEASIBLE:
            solution = np.array(highs.getSolution().col_value)
            self._pair(solution, goal)
            ends = [t.factor * solution[t.variable] for t in (y[0] for y in self.outputs[:2])]
            self.attained = float(ends[0]), float(ends[1])
        for _, term in objective:
            highs.changeColCost(term.variable, 0.0)
        if status in NONE_LEFT and cut is not None:
            bounded(least, slack)
            return least
        valid = status in PROVED[: 3 if self.discrete else 1] and abs(bound) < UNBOUNDED
        if last < math.inf and not (valid and bound <= last + slack):
            # what was heard on the way does not stand at the end: it counts for nothing
            board.restore(kept)
            board.notes.append(f"a bound of the solver was refused (status {status.name})")
        if valid:
            bounded(bound, slack)
        return bound if valid else None

    def _integral(self, whole: bool) -> None:
        """Whole switches, and whole people or not."""
        people = self.twin.people_whole
        for variable in self.twin.program.whole:
            wanted = whole or variable not in people
            kind = highspy.HighsVarType.kInteger if wanted else highspy.HighsVarType.kContinuous
            self.highs.changeColIntegrality(variable, kind)
        smooth = bool(self.question.network.smooth)
        # solutions may be worth more than any pair of people
        self.loose = not whole or smooth or isinstance(self.pairs.norm, NetworkNorm)
        self.discrete = (whole and bool(people)) or len(self.twin.program.whole) > len(people)

    def _range(self, term: Term) -> float:
        if not term.factor:
            return 0.0
        low, high = self.twin.program.ranges[term.variable]
        return max(abs(low), abs(high))

    def _start(self, objective: Row) -> None:
        """Hand the solver the best pair so far, with the values of all variables.

        The values are completed here, with the people fixed: the solver would complete them in a
        program of its own, whose bounds its callbacks do not tell from the real ones.
        """
        witness, highs = self.board.witness, self.highs
        if witness is None:
            return
        pair = self.pairs.domain.to_inputs(witness.raw.double().numpy())
        best: tuple[float, Any] | None = None
        sides = [pair, pair[::-1]]
        if len(self.question.heads) == 1:
            z = self.question.answers(pair)[0]
            sides = sides[:1] if bool(z[1, 0] >= z[0, 0]) else sides[1:]
        for first, second in sides:
            fixed = self.twin.start(first, second)
            held = {v: highs.getCol(v)[2:4] for v in fixed}
            for variable, value in fixed.items():
                highs.changeColBounds(variable, value, value)
            highs.setOptionValue("time_limit", highs.getRunTime() + STARTING)
            highs.run()
            value = float(highs.getInfo().objective_function_value)
            if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal and (
                best is None or value < best[0]
            ):
                best = value, highs.getSolution().col_value
            for variable, (low, high) in held.items():
                highs.changeColBounds(variable, low, high)
        if best is not None:
            solution = highspy.HighsSolution()
            solution.col_value = list(best[1])
            highs.setSolution(solution)

    def _pair(self, solution: Any, goal: Goal) -> None:
        """The solver's pair, made legal, and the best one near it."""
        first, second = self.twin.people(solution)
        witness = legalised(self.question, self.pairs, first, second)
        self.board.found(witness)
        if witness is None or time.monotonic() - self._polished < POLISH:
            return
        legal = self.pairs.domain.to_inputs(witness.raw.double().numpy())
        until = time.monotonic() + min(POLISH / 2, self.board.left)
        one, two, _ = self.climber.climb(legal[:1].copy(), legal[1:].copy(), goal, until)
        self.board.found(legalised(self.question, self.pairs, one[0], two[0]))
        self._polished = time.monotonic()
