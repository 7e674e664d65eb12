"""Certify by branch and bound: parts of the set of pairs, bounded many at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retrofair.certifiers.attack import Climber
from retrofair.certifiers.attack import Goal as Height
from retrofair.certifiers.board import Board
from retrofair.certifiers.bounds import begin
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.certifiers.schedule import LOGITS, SlabSearch, by_turns
from retrofair.certifiers.slabs import Slab
from retrofair.certifiers.tree.dual import Dual
from retrofair.certifiers.tree.goals import Goal
from retrofair.certifiers.tree.rounding import whole_people
from retrofair.certifiers.tree.search import Tree
from retrofair.certifiers.tree.split import Splits
from retrofair.certifiers.tree.supports import Supports
from retrofair.certifiers.witness import legalised
from retrofair.errors import InputError

CLIMBS = 0.2  # of the time, at most, for searches from the pairs of linear programs
CLIMB_SECONDS = 0.5
STARTS = 32
SHARE = 1e-9  # rounding of a bound on probabilities


@dataclass(frozen=True, kw_only=True)
class Bab:
    """Branch and bound on the signs of hidden units and on features, in double precision.

    Each part of the set of pairs is bounded by lines through every unit and its difference, with
    the multipliers of a linear program; a solver only proposes these, so that no bound rests on
    its tolerances. Free categories are told apart first, which makes many differences one-signed.
    For networks with ReLU or leaky ReLU inside.

    Reference: Wang et al. (2021), Beta-CROWN; Bunel et al. (2020), Branch and bound for piecewise
    linear neural network verification.
    """

    name: ClassVar[str] = "bab"

    def __call__(
        self,
        question: Question,
        pairs: Pairs,
        board: Board,
        *,
        generator: np.random.Generator,
        rows: Floats | None = None,
    ) -> None:
        """Narrow the board's interval until it is done.

        Raises:
            InputError: a smooth activation inside the network.
        """
        if smooth := question.network.smooth:
            raise InputError(
                "expected ReLU or leaky ReLU inside the network for method='bab', got "
                f"{', '.join(smooth)}: use method='milp' (--method milp)"
            )
        begin(question, pairs, board, generator, rows)
        if board.done() is not None:
            return
        search = _Search(question, pairs, board, generator)
        if question.cut is not None:
            search.flips(question.cut)
            return
        search.logits()
        if question.kind == "sigmoid" and len(question.heads) == 1 and board.done() is None:
            SlabSearch(board, search.slab, "float64", SHARE).run(board.seconds)


class _Search:
    """Trees for one question, each with a goal of its own."""

    def __init__(
        self, question: Question, pairs: Pairs, board: Board, generator: np.random.Generator
    ) -> None:
        self.question, self.pairs, self.board = question, pairs, board
        self.generator = generator
        self.dual = Dual(question.network, Supports(pairs))
        self.splits = Splits(self.dual)
        self.climber = Climber(question, pairs, generator, lambda: board.interrupted)
        self.trees: dict[int, Tree] = {}
        self.climbed = 0.0

    def logits(self) -> None:
        board = self.board
        share = LOGITS if self.question.kind == "sigmoid" else 1.0
        by_turns(board, self._head, board.elapsed + share * board.left)

    def _head(self, k: int, seconds: float) -> bool:
        """Narrow one head; whether its tree has nothing left to do."""
        board = self.board
        end = board.elapsed + seconds
        if k not in self.trees:
            self.trees[k] = Tree(
                self.dual,
                self.splits,
                Goal.difference(self.question.heads[k]),
                cutoff=lambda: board.lower_logit / (1 - min(board.gap, 0.5)),
                heard=lambda bound, slack: board.bounded("float64", slack, head=(k, bound)),
                pair=lambda first, second: self._climb(first, second, self.question.logit),
                seconds=lambda: board.left,
            )
        tree = self.trees[k]
        tree.run(
            lambda: (
                board.done() is not None
                or board.elapsed >= end
                or board.closed(board.lower_logit, float(board.reach[k]))
            )
        )
        return tree.finished

    def flips(self, cut: float) -> None:
        """How far a pair's logits can lie on both sides of the cut."""
        board = self.board
        Tree(
            self.dual,
            self.splits,
            Goal.straddle(cut),
            cutoff=lambda: max(board.margin[0], -1e300),
            heard=lambda bound, slack: board.bounded("float64", slack, margin=bound),
            pair=lambda first, second: self._climb(first, second, self.question.margin),
            seconds=lambda: board.left,
        ).run(lambda: board.done() is not None)

    def slab(
        self, slab: Slab, slope: float, top: float, enough: Callable[[float], bool]
    ) -> float | None:
        """A bound on D - slope * m for the pairs of a slab."""
        board = self.board
        end = board.elapsed + board.left / 4
        heard = [np.inf]
        tree = Tree(
            self.dual,
            self.splits,
            Goal.tilted(slope, slab.low, slab.high),
            cutoff=lambda: top,
            heard=lambda bound, _: heard.append(bound),
            pair=lambda first, second: self._climb(first, second, self.question.delta),
            seconds=lambda: board.left,
        )
        bound = tree.run(
            lambda: board.done() is not None or board.elapsed >= end or enough(heard[-1])
        )
        return max(bound, top)

    def _climb(self, first: Floats, second: Floats, height: Height) -> None:
        """Climb from whole people near a pair of the solver's, while there is time for it."""
        board = self.board
        if self.climbed > CLIMBS * board.elapsed or board.done() is not None:
            return
        started = time.monotonic()
        one, two = whole_people(self.pairs, first, second, STARTS, self.generator)
        one, two = self.climber.fitted(one, two)
        near = self.pairs.similar(one, two)
        one, two = one[near], two[near]
        if len(one):
            until = started + min(CLIMB_SECONDS, board.left)
            one, two, heights = self.climber.climb(one, two, height, until)
            best = int(np.argmax(heights))
            board.found(legalised(self.question, self.pairs, one[best], two[best]))
        self.climbed += time.monotonic() - started
