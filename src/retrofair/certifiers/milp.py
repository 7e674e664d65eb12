"""Certify by mixed-integer programming: HiGHS on the twin network, watched while it runs."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import highspy
import numpy as np

from retrofair.certifiers.activations import sigmoid_difference
from retrofair.certifiers.attack import Climber, Goal, hunt
from retrofair.certifiers.board import Board
from retrofair.certifiers.bounds import look
from retrofair.certifiers.distances import NetworkNorm
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.certifiers.twin import LP_SLACK, Row, Term, Twin
from retrofair.certifiers.witness import legalised
from retrofair.errors import InputError

TIGHTENING = 0.3  # of the time, at most, for bounds by linear programs
ATTACK = 0.1  # of the time, at most, for the search for a pair to start from
ATTACK_SECONDS = 5.0
LOGITS = 0.6  # of the time, at most, for the logits where probabilities are asked about
POLISH = 1.0  # seconds between two searches around the solver's own pairs
SLABS = 64
STARTING = 2.0  # seconds to complete a pair to a solution
UNBOUNDED = 1e20  # what the solver takes as infinite
PROVED = (
    highspy.HighsModelStatus.kOptimal,
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kInterrupt,
)


@dataclass(frozen=True, kw_only=True)
class Milp:
    """The exact program of two copies of the network, solved by HiGHS.

    ReLU and leaky ReLU are exact; a smooth activation inside the network lies between straight
    pieces, and a sigmoid or softmax at the end is handled outside the program. On a time-out the
    bound that was proved so far counts, never the best pair found.

    Args:
        encoding: "difference" with variables and lines for what differs between the copies;
            "two_copies" without, as in the literature, to compare.
        tighten: narrow the bounds of every layer by linear programs first.

    Reference: Benussi et al. (2022), Individual fairness guarantees for neural networks; Wang et
    al. (2022), Efficient global robustness certification of neural networks via interleaving
    twin-network encoding.
    """

    name: ClassVar[str] = "milp"
    encoding: str = "difference"
    tighten: bool = True

    def __post_init__(self) -> None:
        if self.encoding not in ("difference", "two_copies"):
            raise InputError(
                f"expected encoding='difference' or 'two_copies', got {self.encoding!r}"
            )

    def __call__(
        self,
        question: Question,
        pairs: Pairs,
        board: Board,
        *,
        generator: np.random.Generator,
        rows: Floats | None = None,
    ) -> None:
        """Narrow the board's interval until it is done."""
        look(question, pairs, board)
        with interruptible(board):
            if board.done() is None:
                seconds = min(ATTACK_SECONDS, ATTACK * board.left)
                hunt(question, pairs, board, seconds, generator, rows)
            if board.done() is not None:
                return
            twin, outputs = self._program(question, pairs, board)
            if board.done() is not None:
                return
            search = Search(question, pairs, board, twin, outputs, generator)
            if question.cut is not None:
                search.flips(question.cut)
                return
            search.logits()
            if question.kind == "sigmoid":
                search.slabs()

    def _program(
        self, question: Question, pairs: Pairs, board: Board
    ) -> tuple[Twin, list[list[Term]]]:
        """The twin of the network with bounds as narrow as the time allows."""
        twin = Twin(pairs, self.encoding == "difference")
        until = time.monotonic() + TIGHTENING * board.left
        if isinstance(pairs.norm, NetworkNorm):
            twin.embedded(until)
        found, outputs = twin.network(
            question.network, tighten=self.tighten, until=until, stop=lambda: board.interrupted
        )
        layer = found[-1]
        slack = LP_SLACK * (1 + float(layer.reach.max()))
        board.bounded("solver", slack, layer=layer, reach=question.heads.abs() @ layer.reach)
        if question.cut is not None:
            room = min(float(layer.high[0]) - question.cut, question.cut - float(layer.low[0]))
            board.bounded("solver", slack, margin=room)
        return twin, outputs


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
        self.twin.program.integral()
        self.climber = Climber(self.question, self.pairs, self.generator)
        self._polished = 0.0

    def logits(self) -> None:
        """The largest difference of logits, head by head, the loosest first."""
        board, many = self.board, len(self.question.heads) > 1
        share = LOGITS if self.question.kind == "sigmoid" else 1.0
        end = board.elapsed + share * board.left
        while board.done() is None and board.elapsed < end:
            if board.closed(board.lower_logit, board.upper_logit):
                return
            k = int(board.reach.argmax())
            before = float(board.reach[k])
            seconds = (end - board.elapsed) / (4 if many else 1)
            proved = self._head(k, max(seconds, 0.1))
            if not many or (proved is None and float(board.reach[k]) >= before):
                return

    def _head(self, k: int, seconds: float) -> float | None:
        board = self.board
        row = self.question.heads[k].tolist()
        return self._solve(
            [(c, term) for c, term in zip(row, self.outputs[2], strict=True) if c],
            seconds,
            self.question.logit,
            lambda bound: board.bounded(
                "solver", slack_of(bound), head=(k, bound + slack_of(bound))
            ),
            lambda: board.closed(board.lower_logit, float(board.reach[k])),
        )

    def flips(self, cut: float) -> None:
        """How far a pair's logits can lie on both sides of the cut."""
        program, board = self.twin.program, self.board
        low, high = board.outputs.low[0], board.outputs.high[0]
        margin = Term(program.variable(-float(high - low), float(high - low)), 1.0)
        program.row(cut, [(1.0, self.outputs[1][0]), (-1.0, margin)], math.inf)
        program.row(-math.inf, [(1.0, self.outputs[0][0]), (1.0, margin)], cut)
        self._solve(
            [(1.0, margin)],
            board.left,
            self.question.margin,
            lambda bound: board.bounded("solver", slack_of(bound), margin=bound + slack_of(bound)),
            lambda: False,
        )

    def slabs(self) -> None:
        """The difference of sigmoids: it falls as the mean m of the two logits leaves 0.

        The range of m is cut into slabs. In each the largest difference D of logits bounds the
        difference by scale * sinh(D/2) / (cosh m + cosh(D/2)) at its |m| nearest to 0; the slab
        with the largest bound is split next.
        """
        board, program = self.board, self.twin.program
        if board.done() is not None or self.question.network.outputs > 1:
            return
        scale = float(self.question.scale[0])
        low, high = float(board.outputs.low[0]), float(board.outputs.high[0])
        middle: Row = [(0.5, self.outputs[0][0]), (0.5, self.outputs[1][0])]
        row = program.highs.getNumRow()
        program.row(low, middle, high)

        def worth(reach: float, a: float, b: float) -> float:
            nearest = 0.0 if a <= 0 <= b else min(abs(a), abs(b))
            inside = min(reach, 2 * (high - a), 2 * (b - low))  # y' and y'' stay in [low, high]
            return scale * sigmoid_difference(max(inside, 0.0), nearest)

        reach = float(board.reach[0])
        slabs = [(worth(reach, low, high), low, high, reach)]
        while board.done() is None and len(slabs) < SLABS:
            slabs.sort()
            top, a, b, reach = slabs.pop()
            if top <= board.lower or b - a < 1e-6:
                break
            # where the whole range crosses 0 the first cut is around it
            inner = 0.0 if a < 0 < b else (a + b) / 2
            for start, end in ((a, inner), (inner, b)):
                best = [reach]
                if worth(reach, start, end) > board.lower * (1 + board.gap):
                    self.highs.changeRowBounds(row, start - 1e-9, end + 1e-9)
                    self._solve(
                        [(1.0, self.outputs[2][0])],
                        board.left / 4,
                        self.question.delta,
                        lambda bound, best=best: best.append(  # type: ignore[misc]
                            min(best[-1], bound + slack_of(bound))
                        ),
                        lambda best=best, s=start, e=end: (  # type: ignore[misc]
                            worth(best[-1], s, e) <= board.lower * (1 + board.gap)
                        ),
                        may_be_empty=True,
                    )
                slabs.append((worth(best[-1], start, end), start, end, best[-1]))
            most = max(each[0] for each in slabs)
            board.bounded("solver", slack_of(most), delta=most + 1e-12)
        self.highs.changeRowBounds(row, low, high)

    def _solve(
        self,
        objective: Row,
        seconds: float,
        goal: Goal,
        bounded: Callable[[float], None],
        enough: Callable[[], bool],
        may_be_empty: bool = False,
    ) -> float | None:
        """Maximise; every bound and pair on the way goes to the board. The proved bound, if any."""
        highs, board = self.highs, self.board
        for coefficient, term in objective:
            highs.changeColCost(term.variable, -coefficient * term.factor)
        shift = sum(c * t.constant for c, t in objective)
        highs.setOptionValue("mip_rel_gap", min(board.gap / 2, 1e-4))
        self._start(objective)
        highs.setOptionValue("time_limit", highs.getRunTime() + max(min(seconds, board.left), 0.01))
        kept, last = board.kept(), math.inf

        def watch(event: Any) -> None:
            nonlocal last
            bound = shift - float(event.data_out.mip_dual_bound)
            if abs(bound) < UNBOUNDED and bound < last - 1e-9:
                last = bound
                bounded(bound)
            if board.done() is not None or enough():
                event.interrupt()

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
        status, bound = highs.getModelStatus(), shift - float(highs.getInfo().mip_dual_bound)
        for _, term in objective:
            highs.changeColCost(term.variable, 0.0)
        if status == highspy.HighsModelStatus.kInfeasible and may_be_empty:
            bounded(-math.inf)
            return -math.inf
        valid = status in PROVED and abs(bound) < UNBOUNDED
        if not valid or bound > last + 2 * slack_of(bound):
            # what was heard on the way does not stand: it counts for nothing
            board.restore(kept)
            board.notes.append(f"a bound of the solver was refused (status {status.name})")
        if valid:
            bounded(bound)
        return bound if valid else None

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
        for first, second in (pair, pair[::-1]):
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


def slack_of(bound: float) -> float:
    """What is added to a bound of the solver for its tolerances."""
    return LP_SLACK * (1 + abs(bound)) if math.isfinite(bound) else 0.0


@contextmanager
def interruptible(board: Board) -> Iterator[None]:
    """Ctrl-C ends the search with what is proved so far, instead of in the solver's own code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: Any) -> None:
        board.interrupted = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
