"""Certify by both searches, one after the other, on one board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retrofair.certifiers.bab import Bab
from retrofair.certifiers.board import Board
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.milp import Milp
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """The mixed-integer program first, which closes narrow networks quickly; then the tree.

    Each goes on from the other's interval and worst pair.

    Args:
        share: of the time, for the program.
    """

    name: ClassVar[str] = "portfolio"
    share: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"expected share in (0, 1), got {self.share}")

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
        whole = board.seconds
        tree = not question.network.smooth
        if tree and question.network.activations:
            board.seconds = board.elapsed + self.share * board.left
        try:
            Milp()(question, pairs, board, generator=generator, rows=rows)
        finally:
            board.seconds = whole
        if tree and board.done() is None:
            Bab()(question, pairs, board, generator=generator, rows=rows)
