"""What a repair hands back: the network, its certificate, and every round on the way."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from retrofair.certifiers import Certificate, Verdict
from retrofair.individual.judged import Performance
from retrofair.reported import Reported

NARROWED = 0.25  # of the original's spread of answers: below it they were mostly squeezed together


class RepairStatus(StrEnum):
    """Why a repair ended.

    MET: the difference is proved to be at most the target, at a performance not below the floor
    (also where Ctrl-C stopped the search for a better one).
    FLOOR: the performance fell below the floor, or the network became a constant.
    BUDGET: all rounds were used. INTERRUPTED: stopped by Ctrl-C.
    """

    MET = "met"
    FLOOR = "floor"
    BUDGET = "budget"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Round:
    """One network: the original (number 0) or a fine-tuned one, certified and judged.

    Args:
        lam: the weight of the loss it was fine-tuned with; None for the original.
        lower, upper: bounds on the largest difference. The search stops as soon as the verdict
            is known: of an unfair network `upper` may be far too large, unless it is returned.
        performance: on the validation data.
        seconds: fine-tuning and certificate together.
        below: the performance is below the floor, or the network is degenerate.
    """

    number: int
    lam: float | None
    lower: float
    upper: float
    verdict: Verdict
    tier: str
    performance: Performance
    seconds: float
    below: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "verdict": self.verdict.value}


@dataclass(frozen=True, eq=False, kw_only=True)
class Repair(Reported):
    """A repaired network.

    Args:
        network: of those that meet the target at a performance not below the floor the one with
            the best performance; where none does, the one with the smallest proved upper bound
            among those not below the floor; the original where no other is.
        status: met, floor, budget or interrupted.
        certificate: of `network`. Where the target was missed it is one that goes on after that
            is known, so that the interval is tight; not after Ctrl-C. Where the target was met it
            stopped there: the truth may be smaller.
        best: the round it is from: an index into history.
        history: the rounds, the original first.
        constant: the best constant on the same validation data.
        delta, floor: what was asked for.
        rows: validation rows.
    """

    network: nn.Module
    status: RepairStatus
    certificate: Certificate
    best: int
    history: tuple[Round, ...]
    constant: Performance
    delta: float
    floor: float | None
    rows: int

    @property
    def regression(self) -> bool:
        """Whether the performance is a mean squared error."""
        return self.constant.regression

    @property
    def flags(self) -> tuple[str, ...]:
        """What an expert would object to."""
        chosen, original = self.history[self.best].performance, self.history[0].performance
        found = []
        if chosen.degenerate:
            found.append(
                f"the network is degenerate: {chosen.degenerate}; a small difference says nothing "
                "about fairness then"
            )
        elif self.best and chosen.spread < NARROWED * original.spread:
            found.append(
                f"the answers were squeezed together: {chosen.spread:.3g} between the largest and "
                f"the smallest of all rows, {original.spread:.3g} before; measured by that, "
                "similar people may be no nearer than they were"
            )
        missed = () if self.status is RepairStatus.MET else self.history[1:]
        fell = [r for r in missed if r.performance.degenerate]
        if fell and not chosen.degenerate:
            found.append(f"round {fell[0].number} is degenerate: {fell[0].performance.degenerate}")
        met = [
            r.number
            for r in missed
            if r.below and not r.performance.degenerate and r.verdict is Verdict.FAIR
        ]
        if met:
            found.append(
                f"round {met[0]} is proved to reach the target, but its performance is below "
                "the floor"
            )
        return tuple(found)

    def table(self) -> pd.DataFrame:
        """The rounds, and the best constant.

        Columns: round ("original", 1, 2, ..., "constant"), lam, lower, upper, verdict, tier, then
        balanced_accuracy and accuracy (or mse), each with its 95 % interval (_low, _high), spread,
        the validation rows, seconds, and note ("returned", "below the floor", what makes it
        degenerate).
        """
        rows = [self._row(r) for r in self.history]
        constant = {"round": "constant", "lower": 0.0, "upper": 0.0, "verdict": "fair"}
        constant |= {**self.constant.figures(), "rows": self.rows, "note": "the best constant"}
        return pd.DataFrame([*rows, constant])

    def _row(self, r: Round) -> dict[str, Any]:
        notes = ["returned"] if r.number == self.best else []
        notes += ["below the floor"] if r.below and not r.performance.degenerate else []
        notes += [r.performance.degenerate] if r.performance.degenerate else []
        return {
            "round": str(r.number) if r.number else "original",
            "lam": float("nan") if r.lam is None else r.lam,
            "lower": r.lower,
            "upper": r.upper,
            "verdict": r.verdict.value,
            "tier": r.tier,
            **r.performance.figures(),
            "rows": r.performance.rows,
            "seconds": r.seconds,
            "note": "; ".join(notes),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "status": self.status.value,
            "delta": self.delta,
            "floor": self.floor,
            "best": self.best,
            "flags": list(self.flags),
            "rows": self.rows,
            "constant": dataclasses.asdict(self.constant),
            "history": [r.to_dict() for r in self.history],
            "certificate": self.certificate.to_dict(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write network.safetensors and history.json; `load_repair` reads them.

        Raises:
            InputError: the folder is a file.
        """
        from retrofair.individual.kept import save_repair  # it reads what is written here

        return save_repair(self, Path(folder))

    def __repr__(self) -> str:
        flag = ", degenerate" if self.history[self.best].performance.degenerate else ""
        return (
            f"Repair({self.status.value}{flag}, delta <= {self.delta:g} asked, in "
            f"[{self.certificate.lower:.6g}, {self.certificate.upper:.6g}] after "
            f"{len(self.history) - 1} rounds, round {self.best} returned)"
        )
