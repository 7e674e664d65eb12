"""Certify as the literature does: straight pieces for every smooth curve, PuLP and CBC."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from retrofair.certifiers.activations import Activation
from retrofair.certifiers.attack import hunt
from retrofair.certifiers.board import Board
from retrofair.certifiers.bounds import SECONDS, look
from retrofair.certifiers.distances import Norm
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.program import LP_SLACK, Program, Row, Term
from retrofair.certifiers.question import Question
from retrofair.certifiers.twin import Twin
from retrofair.certifiers.witness import legalised
from retrofair.errors import InputError

NARROW = 1e-6  # a range below this is one piece
TICK = 0.1  # seconds between two looks at CBC
GRACE = 2.0  # seconds that CBC has to stop by itself
ALLOWED = 1e-6  # CBC's gap, as a share of the upper bound known before
UNBOUNDED = 1e20
NUMBER = r"([-+]?[\d.]+(?:e[-+]?\d+)?)"
PRINTED = 6e-4  # CBC's summary has three decimals
# CBC's preprocessing has made feasible programs infeasible (its issues 283, 449, 752); tight
# tolerances keep a 0/1 variable that is nearly whole from opening a big-M row.
TOLERANCES = {"integerTolerance": 1e-9, "primalTolerance": 1e-9, "dualTolerance": 1e-9}


@dataclass(frozen=True, kw_only=True)
class Pwl:
    """Two big-M copies of the network, all of it linear pieces, maximised by CBC through PuLP.

    Every smooth activation, the last sigmoid as well, lies between two lines on each of `pieces`
    pieces, of which a 0/1 variable chooses one: looser than method="milp", for comparison with the
    papers. It departs from them in that the pieces are shorter where the curve bends more, that
    the legal pairs are the declared ones (l_2 and Mahalanobis balls from outside, by straight
    cuts, within 1e-4), and that what CBC has found when the time is up is no bound: its proved
    bound is, where its log states one. PuLP writes the program; CBC runs as a process of its own.

    Args:
        pieces: straight pieces per curve.

    Raises:
        InputError: PuLP or CBC is missing; several outputs, a softmax, a threshold or a network
            as the embedding, which method="milp" can do.

    Reference: Benussi et al. (2022), Individual fairness guarantees for neural networks.
    """

    name: ClassVar[str] = "pwl"
    pieces: int = 16

    def __post_init__(self) -> None:
        if isinstance(self.pieces, bool) or not isinstance(self.pieces, int) or self.pieces < 1:
            raise InputError(f"expected a whole number of pieces >= 1, got {self.pieces!r}")

    def __call__(
        self,
        question: Question,
        pairs: Pairs,
        board: Board,
        *,
        generator: np.random.Generator,
        rows: Floats | None = None,
    ) -> None:
        """Narrow the board's interval by one run of CBC."""
        _check(question, pairs)
        pulp = _pulp()
        look(question, pairs, board)
        hunt(question, pairs, board, SECONDS, generator, rows)
        if board.done() is not None:
            return
        program = Recorded(pulp)
        copies = Copies(pairs, difference=False, program=program, pieces=self.pieces)
        objective = copies.objective(question)
        with tempfile.TemporaryDirectory(prefix="retrofair-") as folder:
            said = _solve(program, objective, ALLOWED * board.upper / copies.size, board, folder)

        if said.solution is not None:
            first, second = copies.people(said.solution)
            board.found(legalised(question, pairs, first, second))
        if said.bound is None:
            board.notes.append(f"no bound from CBC: {said.text}")
            return
        slack = LP_SLACK * copies.size
        bound = max(copies.size * said.bound, 0.0) + slack  # the two may be the same person
        if question.kind == "values":
            board.bounded("solver", slack, head=(0, bound))
        else:
            board.bounded("solver", slack, delta=bound)


def _check(question: Question, pairs: Pairs) -> None:
    if question.cut is not None:
        raise InputError("expected no threshold for method='pwl': use method='milp'")
    if question.kind == "softmax" or question.network.outputs != 1:
        raise InputError(
            f"expected a network with one output for method='pwl', got "
            f"{question.network.outputs} outputs: use method='milp'"
        )
    if not isinstance(pairs.norm, Norm):
        raise InputError(
            "expected a distance that is linear for method='pwl', got a network as the embedding: "
            "use method='milp'"
        )


def _pulp() -> Any:
    try:
        import pulp
    except ImportError:
        raise InputError("method='pwl' needs PuLP: pip install 'retrofair[pwl]'") from None
    return pulp


def _cbc(pulp: Any) -> str:
    """The path of CBC: the one that came with PuLP, or else one on the system's path."""
    bundled = getattr(pulp, "PULP_CBC_CMD", None)
    solver = pulp.COIN_CMD(path=getattr(bundled, "pulp_cbc_path", None))
    found = solver.available() or pulp.COIN_CMD().available()
    if not found:
        raise InputError(
            "expected CBC, the solver of PuLP, and found none: pip install 'pulp[cbc]', or use "
            "method='milp'"
        )
    return str(found)


class Recorded(Program):
    """A program written down for PuLP."""

    def __init__(self, pulp: Any) -> None:
        self.pulp = pulp
        self.problem = pulp.LpProblem("twin", pulp.LpMinimize)
        self.columns: list[Any] = []
        self.whole: list[int] = []
        self.ranges: list[tuple[float, float]] = []

    def variable(self, low: float, high: float, whole: bool = False) -> int:
        pulp, k = self.pulp, len(self.columns)
        # before PuLP 3.3 a problem makes no variables
        make = getattr(self.problem, "add_variable", pulp.LpVariable)
        kind = pulp.LpInteger if whole else pulp.LpContinuous
        ends = (float(end) if math.isfinite(end) else None for end in (low, high))
        self.columns.append(make(f"x{k}", *ends, kind))
        self.ranges.append((low, high))
        if whole:
            self.whole.append(k)
        return k

    def row(self, low: float, terms: Row, high: float) -> None:
        factors: dict[int, float] = {}
        shift = 0.0
        for coefficient, term in terms:
            shift += coefficient * term.constant
            if term.factor and coefficient:
                factors[term.variable] = factors.get(term.variable, 0.0) + coefficient * term.factor
        total = self.pulp.LpAffineExpression([(self.columns[k], c) for k, c in factors.items()])
        if low == high:
            self.problem += total == low - shift
            return
        if math.isfinite(low):
            self.problem += total >= low - shift
        if math.isfinite(high):
            self.problem += total <= high - shift


@dataclass(eq=False)
class Copies(Twin):
    """The twin of a network whose curves all have the same number of pieces.

    Args:
        size: what the objective is a share of, once it is made.
    """

    pieces: int = 16
    size: float = 1.0

    def objective(self, question: Question) -> Term:
        """What is asked about, y'' - y' or their sigmoids' difference, as a share of `size`."""
        found, outputs = self.network(question.network, tighten=False, until=math.inf)
        low, high = float(found[-1].low[0]), float(found[-1].high[0])
        ys = [outputs[0][0], outputs[1][0]]
        span = max(high - low, NARROW)
        self.size = span
        if question.kind == "sigmoid":
            ys = [self._smooth(Activation("sigmoid"), low, high, y) for y in ys]
            span, self.size = 1.0, float(question.scale[0])
        top = Term(self.program.variable(-1.0, 1.0), 1.0)  # CBC's tolerances are absolute
        self.program.row(0.0, [(1 / span, ys[1]), (-1 / span, ys[0]), (-1.0, top)], 0.0)
        return top


# --- CBC ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Said:
    """What CBC says at its end: a text, the bound on the maximum it proved, and a solution."""

    text: str
    bound: float | None = None
    solution: Floats | None = None


def _solve(program: Recorded, objective: Term, allowed: float, board: Board, place: str) -> Said:
    """Maximise a variable: CBC minimises its negative, as its log then has one sign only.

    It is not run by PuLP itself, which can neither stop it early nor read the bound it proved.
    """
    column, folder = program.columns[objective.variable], Path(place)
    program.problem.setObjective(program.pulp.LpAffineExpression([(column, -1.0)]))
    model, log, solution = folder / "twin.mps", folder / "log.txt", folder / "solution.txt"
    program.problem.writeMPS(str(model))
    # without an increment of its own CBC looks for no solution that is less than 1e-5 better
    gaps = {"ratio": 0.0, "allow": allowed, "increment": allowed}
    tolerances = [f for k, v in (TOLERANCES | gaps).items() for f in (f"-{k}", repr(v))]
    seconds = f"{max(board.left, 0.01):.3f}"
    command = [_cbc(program.pulp), str(model), "-timeMode", "elapsed", "-sec", seconds]
    command += ["-preprocess", "off", *tolerances, "-solve", "-solution", str(solution)]
    with log.open("w") as out:
        code = _watched(command, out, board)
    if code is None:
        return Said("it was interrupted" if board.interrupted else "it did not stop in time")
    text = log.read_text(errors="replace")
    values = _values(solution, len(program.columns)) if code == 0 else None
    return Said(_result(text), proved(text, 2 * allowed) if code == 0 else None, values)


def _watched(command: list[str], out: Any, board: Board) -> int | None:
    """Run CBC until it ends; an interruption, or the time long over, ends it: None."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
    )
    try:
        until = time.monotonic() + board.left + GRACE
        while process.poll() is None:
            if board.interrupted or time.monotonic() > until:
                return None
            with suppress(subprocess.TimeoutExpired):
                process.wait(TICK)
        return process.returncode
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def proved(log: str, allowed: float) -> float | None:
    """The upper bound on the maximum that the log of a minimisation of its negative proves.

    What was found is a bound only where the search was completed, up to what CBC was allowed to
    leave; else the bound is the one of the partial search. The bound of the summary has three
    decimals, rounded to either side: it only has to agree. None wherever the log is not as
    expected.

    Args:
        allowed: by how much a completed search may have missed the maximum.
    """
    # a restart is a search within the search: the last line of either kind is the whole one's
    parts = log.split("restarting search")
    results = re.findall(r"^Result - (.*?)\s*$", log, re.MULTILINE)
    partial = re.findall(rf"Partial search - best objective \S+ \(best possible {NUMBER}\)", log)
    whole = re.findall(rf"Search completed - best objective {NUMBER},", log)
    possible = [re.findall(rf"best possible {NUMBER}[ )]", part)[-1:] for part in parts]
    relaxed = re.findall(rf"^Optimal objective {NUMBER} - ", log, re.MULTILINE)
    shown = re.findall(rf"^Objective value:\s+{NUMBER}$", log, re.MULTILINE)
    lower = re.findall(rf"^Lower bound:\s+{NUMBER}$", log, re.MULTILINE)
    stopped = "Exiting on" in log or bool(partial)
    if not results:  # without 0/1 variables there is no search
        alone = len(relaxed) == 1 and not (stopped or whole or shown or lower)
        return _bound(relaxed[0], allowed) if alone else None
    if len(results) > 1:
        return None
    if results[0].startswith("Optimal solution found"):
        # CBC has called what it had at the end of its time optimal (its issue 364)
        if stopped or not whole or [_agree(whole[-1], end) for end in shown] != [True]:
            return None
        return _bound(whole[-1], allowed) if all(_agree(whole[-1], end) for end in lower) else None
    if results[0].startswith("Stopped on") and partial and all(possible):
        agree = [_agree(partial[-1], end) for end in lower] == [True]
        return _bound(min((p[0] for p in possible), key=float), 0.0) if agree else None
    return None


def _agree(exact: str, rounded: str) -> bool:
    return abs(float(exact) - float(rounded)) <= PRINTED + 1e-6 * abs(float(exact))


def _bound(least: str, allowed: float) -> float | None:
    value = float(least)
    return allowed - value if abs(value) < UNBOUNDED else None


def _result(log: str) -> str:
    found = re.search(r"^Result - (.*?)\s*$", log, re.MULTILINE)
    return found[1] if found else "its log has no result"


def _values(path: Path, count: int) -> Floats | None:
    """The variables' values of a solution file, None where there is no solution."""
    if not path.exists():
        return None
    values, known = np.zeros(count), False
    for line in path.read_text().splitlines()[1:]:
        fields = line.replace("**", " ").split()
        if len(fields) == 4 and re.fullmatch(r"x\d+", fields[1]):
            values[int(fields[1][1:])] = float(fields[2])
            known = True
    return values if known else None
