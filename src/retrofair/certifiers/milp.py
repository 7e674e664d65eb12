"""Certify by mixed-integer programming: HiGHS on the twin network, watched while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retrofair.certifiers.board import Board
from retrofair.certifiers.bounds import begin
from retrofair.certifiers.distances import NetworkNorm
from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.program import LP_SLACK, Term
from retrofair.certifiers.question import Question
from retrofair.certifiers.search import Search
from retrofair.certifiers.twin import Twin
from retrofair.errors import InputError

TIGHTENING = 0.3  # of the time, at most, for bounds by linear programs


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
        begin(question, pairs, board, generator, rows)
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
        slack = LP_SLACK * float(layer.reach.max())
        board.bounded("solver", slack, layer=layer, reach=question.heads.abs() @ layer.reach)
        return twin, outputs
