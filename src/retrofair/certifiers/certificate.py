"""What a certifier hands back: an interval for the largest difference, with the worst pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from retrofair.certifiers.domain import Domain, Integer, OneHot
from retrofair.files import write_json
from retrofair.reported import Reported

Tier = Literal["rigorous", "float64", "solver"]
Stop = Literal["gap", "target", "time", "interrupted", "finished"]
TIERS = {
    "rigorous": "every bound rounded outward and checked independently",
    "float64": "computed in double precision, of the network in double precision, with a stated "
    "slack for rounding",
    "solver": "rests on the MILP solver's tolerances, with a stated slack for them",
}


class Verdict(StrEnum):
    """Whether the network is fair in the sense that was asked for."""

    FAIR = "fair"
    UNFAIR = "unfair"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Step:
    """The interval at one moment, in seconds since the start."""

    seconds: float
    lower: float
    upper: float
    lower_logit: float
    upper_logit: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate(Reported):
    """No two similar people of the domain differ by more than `upper`; `witness` do by `lower`.

    Args:
        lower, upper: of the largest difference, on the scale of `outputs`: probabilities, or for
            "values" the network's own outputs. `upper` is for the network in exact arithmetic: its
            float32 evaluation can differ by rounding.
        lower_logit, upper_logit: the same for what stands before a last sigmoid or softmax (equal
            to lower, upper without one). The two lower bounds may come from different pairs.
        verdict: fair where `upper` is at most `delta` (or no decision can flip), unfair where
            `lower` is above it (or the witness's decisions differ), otherwise unknown; without
            `delta` and `threshold` nothing was asked, and it is unknown.
        tier: what the upper bound rests on; see TIERS. `slack` was added to it for
            rounding or for the solver's tolerances.
        witness: (2, d) in the user's units, a legal pair of similar people, or None; `distance`
            is theirs.
        margin: with `threshold`, an interval for how far a pair's logits can lie on both sides of
            the threshold; below 0 no decision can flip.
        history: the interval as it narrowed.
        stopped: why the search ended: "gap", "target", "time", "interrupted" or "finished".
    """

    epsilon: float
    lower: float
    upper: float
    lower_logit: float
    upper_logit: float
    verdict: Verdict
    tier: Tier
    witness: Tensor | None
    scores: tuple[Tensor, Tensor] | None
    distance: float | None
    domain: Domain
    outputs: str
    method: str
    seconds: float
    stopped: Stop
    slack: float
    delta: float | None = None
    threshold: float | None = None
    margin: tuple[float, float] | None = None
    history: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """(upper - lower) / upper; 0 where both are 0."""
        return relative_gap(self.lower, self.upper)

    @property
    def gap_logit(self) -> float:
        return relative_gap(self.lower_logit, self.upper_logit)

    def table(self) -> pd.DataFrame:
        """The witness, side by side, feature by feature in the user's units.

        Columns: feature, person A, person B, differs ("yes" or ""), role ("free" for sensitive
        features). Empty without a witness.
        """
        columns = ["feature", "person A", "person B", "differs", "role"]
        if self.witness is None:
            return pd.DataFrame(columns=columns)
        first, second = self.witness.double().numpy()
        rows = []
        for feature, where in self.domain.placed:
            shown = [_shown(feature, values[where]) for values in (first, second)]
            differs = not np.array_equal(first[where], second[where])
            role = "free" if feature.sensitive else ""
            rows.append([feature.name, *shown, "yes" if differs else "", role])
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        witness = None
        if self.witness is not None:
            witness = {
                "columns": list(self.domain.columns),
                "person_a": self.witness[0].tolist(),
                "person_b": self.witness[1].tolist(),
                "distance": self.distance,
                "score_a": self.scores[0].tolist() if self.scores else None,
                "score_b": self.scores[1].tolist() if self.scores else None,
            }
        return {
            "epsilon": self.epsilon,
            "lower": self.lower,
            "upper": self.upper,
            "gap": self.gap,
            "lower_logit": self.lower_logit,
            "upper_logit": self.upper_logit,
            "verdict": self.verdict.value,
            "delta": self.delta,
            "threshold": self.threshold,
            "margin": list(self.margin) if self.margin else None,
            "outputs": self.outputs,
            "tier": self.tier,
            "slack": self.slack,
            "method": self.method,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "notes": list(self.notes),
            "witness": witness,
            "history": [
                [s.seconds, s.lower, s.upper, s.lower_logit, s.upper_logit] for s in self.history
            ],
        }

    def save(self, path: str | Path) -> Path:
        """Write `to_dict` as JSON; a file of that name is replaced whole or not at all."""
        path = Path(path)
        write_json(path, self.to_dict())
        return path

    def __repr__(self) -> str:
        return (
            f"Certificate({self.verdict}, epsilon={self.epsilon:g}, delta in "
            f"[{self.lower:.6g}, {self.upper:.6g}], tier={self.tier!r}, {self.seconds:.1f} s)"
        )


def relative_gap(lower: float, upper: float) -> float:
    """How far apart two bounds are, as a share of the upper one."""
    if upper <= lower:
        return 0.0
    return (upper - lower) / abs(upper) if math.isfinite(upper) and upper else 1.0


def _shown(feature: Any, values: Any) -> str:
    """A feature's value as a person would write it."""
    if isinstance(feature, OneHot):
        return feature.names[int(np.argmax(values))]
    value = float(values[0])
    if isinstance(feature, Integer):
        whole = round(value)
        if feature.labels and abs(value - whole) < 0.5:
            return feature.labels[whole - int(feature.low)]
        return f"{whole} {feature.unit}".strip()
    return f"{value:.6g} {feature.unit}".strip()
