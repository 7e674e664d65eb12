"""The interval as it narrows: what every certifier reports to, and what tells it to stop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from retrofair.certifiers.certificate import Step, Stop, Tier, Verdict, relative_gap
from retrofair.certifiers.propagate import LayerBounds
from retrofair.certifiers.question import Question
from retrofair.certifiers.witness import Witness

CONTRADICTION = 1e-6  # how far a pair may stand above a bound by rounding, relative
SMALLEST = 1e-9  # a gap below this is closed, however small the bounds are


@dataclass(eq=False)
class Board:
    """Bounds on the largest difference, of which the lower only rises and the upper only falls.

    Args:
        seconds: the time there is.
        gap: relative gap at which the interval is narrow enough.
        absolute_gap: width at which it is, whatever the relative gap.
        delta: the difference up to which the network is fair, if that was asked.
        on_step: called with every change.
    """

    question: Question
    seconds: float
    gap: float
    delta: float | None = None
    threshold: float | None = None
    on_step: Callable[[Step], None] | None = None
    absolute_gap: float = SMALLEST
    lower: float = 0.0
    upper: float = math.inf
    lower_logit: float = 0.0
    upper_logit: float = math.inf
    margin: tuple[float, float] = (-math.inf, math.inf)
    witness: Witness | None = None
    tier: Tier = "float64"
    slack: float = 0.0
    interrupted: bool = False
    history: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.reach = torch.full((len(self.question.heads),), math.inf, dtype=torch.float64)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(self.seconds - self.elapsed, 0.0)

    def found(self, witness: Witness | None) -> None:
        """A legal pair: the lower bounds rise to what it shows."""
        if witness is None:
            return
        room = 1 + CONTRADICTION
        deciding = self.question.cut is not None
        counts = witness.flips if deciding else True
        if (counts and witness.delta > self.upper * room + self.slack) or (
            witness.logit > self.upper_logit * room + self.slack
        ):
            # no clamping: a pair above a bound is the proof that the bound is wrong
            self.upper = self.upper_logit = math.inf
            self.margin = self.margin[0], math.inf
            self.reach = torch.full_like(self.reach, math.inf)
            self.notes.append("an upper bound was withdrawn: a pair that was found exceeds it")
        old = self.witness
        if deciding:
            better = old is None or (witness.flips, witness.margin) > (old.flips, old.margin)
            self.margin = max(self.margin[0], witness.margin), self.margin[1]
        else:
            better = old is None or witness.delta > old.delta
        if counts:
            self.lower = max(self.lower, min(witness.delta, self.upper))
        if better:
            self.witness = witness
        self.lower_logit = max(self.lower_logit, min(witness.logit, self.upper_logit))
        self._note()

    def bounded(
        self,
        tier: Tier,
        slack: float,
        *,
        layer: LayerBounds | None = None,
        reach: torch.Tensor | None = None,
        head: tuple[int, float] | None = None,
        delta: float | None = None,
        margin: float | None = None,
    ) -> None:
        """A sound bound: on the outputs, on all heads or one, on delta itself or on the margin."""
        cut = self.question.cut
        if layer is not None and cut is not None:
            margin = min(float(layer.high[0]) - cut, cut - float(layer.low[0]))
        bounds = [(head[1], self.lower_logit)] if head and len(self.reach) == 1 else []
        bounds += [] if delta is None else [(delta, self.lower)]
        bounds += [] if margin is None else [(margin, self.margin[0])]
        if any(bound < known - slack - SMALLEST * abs(known) for bound, known in bounds):
            # a legal pair shows more: the bound is wrong, whatever the solver says of it
            self.notes.append("a bound below a pair that was found was refused")
            return
        before = self.upper, self.upper_logit, self.margin[1]
        if layer is not None:
            self.outputs = layer
        if reach is not None:  # what overflowed is no bound
            self.reach = torch.minimum(self.reach, torch.nan_to_num(reach, nan=math.inf))
        if head is not None:
            self.reach[head[0]] = min(float(self.reach[head[0]]), head[1])
        self.upper_logit = min(self.upper_logit, max(float(self.reach.max()), self.lower_logit))
        known = self.question.upper(self.reach, self.outputs)
        self.upper = max(min(self.upper, known, math.inf if delta is None else delta), self.lower)
        if margin is not None:
            self.margin = self.margin[0], max(min(self.margin[1], margin), self.margin[0])
            if self.margin[1] < 0:
                self.upper = 0.0
        if (self.upper, self.upper_logit, self.margin[1]) != before:
            self.tier = "solver" if "solver" in (tier, self.tier) else tier
            self.slack = max(self.slack, slack)
            self._note()

    def kept(self) -> tuple[Any, ...]:
        """The upper bounds as they are, to go back to."""
        return self.upper, self.upper_logit, self.margin[1], self.reach.clone(), len(self.history)

    def restore(self, kept: tuple[Any, ...]) -> None:
        """Go back to upper bounds kept before; what was found since stays."""
        self.upper, self.upper_logit, margin, self.reach, steps = kept
        self.margin = self.margin[0], margin
        del self.history[steps:]
        self._note()

    def done(self) -> Stop | None:
        """Why the search may stop, if it may."""
        if self.interrupted:
            return "interrupted"
        if self.verdict is not Verdict.UNKNOWN:
            return "target"
        asked = self.question.cut is not None or self.delta is not None
        if not asked and self.closed(self.lower, self.upper):
            return "gap"
        return "time" if self.left <= 0 else None

    def closed(self, lower: float, upper: float) -> bool:
        """Whether the two are as near as was asked for."""
        narrow = upper - lower <= max(self.absolute_gap, SMALLEST)
        return narrow or relative_gap(lower, upper) <= self.gap

    @property
    def verdict(self) -> Verdict:
        if self.question.cut is not None:
            if self.witness is not None and self.witness.flips:
                return Verdict.UNFAIR
            # the two logits are equal, or on one side
            fair = self.margin[1] < 0 or self.upper_logit <= 0
            return Verdict.FAIR if fair else Verdict.UNKNOWN
        if self.delta is None:
            return Verdict.UNKNOWN
        if self.lower > self.delta:
            return Verdict.UNFAIR
        return Verdict.FAIR if self.upper <= self.delta else Verdict.UNKNOWN

    def _note(self) -> None:
        step = Step(self.elapsed, self.lower, self.upper, self.lower_logit, self.upper_logit)
        self.history.append(step)
        if self.on_step is not None:
            self.on_step(step)


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
