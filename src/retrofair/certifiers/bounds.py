"""Certify by bounds alone: milliseconds, double precision, no solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from retrofair.certifiers.attack import hunt
from retrofair.certifiers.board import Board
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.propagate import bounds, heads_reach
from retrofair.certifiers.question import Question

SECONDS = 0.5  # for the pair shown beside the bounds, at most
ATTACK = 0.1  # of a search's time, at most, for a pair to start from
ATTACK_SECONDS = 5.0


class Certifier(Protocol):
    """Narrows the interval on a board; implementations are frozen dataclasses."""

    name: ClassVar[str]

    def __call__(
        self,
        question: Question,
        pairs: Pairs,
        board: Board,
        *,
        generator: np.random.Generator,
        rows: Floats | None = None,
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Difference-CROWN with CROWN and interval arithmetic, and a short search for a pair.

    Reference: Zhang et al. (2018), Efficient neural network robustness certification with general
    activation functions.
    """

    name: ClassVar[str] = "bounds"

    def __call__(
        self,
        question: Question,
        pairs: Pairs,
        board: Board,
        *,
        generator: np.random.Generator,
        rows: Floats | None = None,
    ) -> None:
        """One look, then a quick attack for the lower bound."""
        look(question, pairs, board)
        hunt(question, pairs, board, SECONDS, generator, rows)


def look(question: Question, pairs: Pairs, board: Board) -> None:
    """Put the quick bounds on the board."""
    found = bounds(question.network, pairs)
    last, heads = found.outputs, question.heads
    reach = heads_reach(question.network, pairs, found, heads)
    board.bounded("float64", found.slack, layer=last, reach=reach)


def begin(
    question: Question,
    pairs: Pairs,
    board: Board,
    generator: np.random.Generator,
    rows: Floats | None,
) -> None:
    """What a search starts from: the quick bounds, and a pair from an attack."""
    look(question, pairs, board)
    # also where the bounds have decided: a certificate shows its worst pair
    seconds = SECONDS if board.done() else min(ATTACK_SECONDS, ATTACK * board.left)
    hunt(question, pairs, board, seconds, generator, rows)
