"""What a search narrows next: which head of several, which slab of mean logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from retrofair.certifiers.board import Board
from retrofair.certifiers.certificate import Tier
from retrofair.certifiers.slabs import Slab, around_zero

LOGITS = 0.6  # of the time, at most, for the logits where probabilities are asked about
COARSE = 0.01  # how near to its own best value a relaxation is followed
NARROWEST = 1e-4  # slab of mean logits


def by_turns(board: Board, head: Callable[[int, float], bool], end: float) -> None:
    """Head by head, the loosest first, while time is left.

    Args:
        head: narrows head k for some seconds; whether nothing is left to do on it.
        end: in seconds from the start.
    """
    waiting = set(range(len(board.question.heads)))
    while waiting and board.done() is None and board.elapsed < end:
        if board.closed(board.lower_logit, board.upper_logit):
            return
        k = max(waiting, key=lambda each: float(board.reach[each]))
        left = end - board.elapsed
        finished = head(k, left if len(waiting) == 1 else left / 4)
        if finished or len(waiting) == 1:
            waiting.discard(k)


@dataclass(eq=False)
class SlabSearch:
    """Bounds on the difference of sigmoids, slab by slab (see slabs.py); one output.

    Args:
        bound: called with a slab, a slope, the value up to which nothing is of interest, and what
            tells whether a bound is small enough; returns a bound on D - slope * m in the slab, if
            one is proved.
        share: of a bound, what it may be wrong by.
        floor: what no cutting will bring down, in the difference asked for.
    """

    board: Board
    bound: Callable[[Slab, float, float, Callable[[float], bool]], float | None]
    tier: Tier
    share: float
    floor: float = 0.0
    slabs: list[Slab] = field(default_factory=list)

    def __post_init__(self) -> None:
        board = self.board
        self.scale = float(board.question.scale[0])
        low, high = float(board.outputs.low[0]), float(board.outputs.high[0])
        inner, outer = around_zero(
            Slab(low, high, ((0.0, float(board.reach[0])),), (low, high)),
            lambda value: board.closed(board.lower, self.scale * value),
        )
        self.slabs = [inner, *outer]

    def run(self, end: float) -> None:
        """Cut the slab with the largest bound until all are small, or the time is up."""
        board, slabs = self.board, self.slabs
        while True:
            most = self.scale * max(slab.worth for slab in slabs)
            board.bounded(self.tier, self.share * most, delta=most * (1 + self.share))
            worst = max(slabs, key=lambda slab: slab.worth)
            if self._small(worst.worth) or worst.width < NARROWEST:
                return
            if board.done() is not None or board.elapsed >= end:
                return
            slabs.remove(worst)
            slabs += [self._lowered(part) for part in worst.halves()]

    def _small(self, worth: float) -> bool:
        """Whether a slab of this worth needs no further look.

        People in between, and curves between straight pieces, can be worth more than any pair:
        what the solver's own solutions reach, no cutting will bring down.
        """
        value = self.scale * worth
        return self.board.closed(self.board.lower, value) or value <= self.floor * (1 + COARSE)

    def _lowered(self, slab: Slab) -> Slab:
        """The slab with one more line over it, if it needs one and one is proved."""
        if self._small(slab.worth):
            return slab
        board = self.board
        slope, top = slab.line(max(board.lower, self.floor) * (1 + board.gap / 2) / self.scale)
        proved = self.bound(
            slab, slope, top, lambda bound: self._small(slab.under(slope, bound).worth)
        )
        return slab if proved is None else slab.under(slope, proved)
