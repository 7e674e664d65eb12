"""What an audit finds: estimates by name, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd

from retrofair import metrics
from retrofair.audit.scores import ScoreCounts
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array
from retrofair.reported import Reported

ALIASES = {alias: known.name for known in metrics.ALL for alias in known.aliases} | {
    alias: known.name for known in metrics.performance.ALL for alias in known.aliases
}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval; nan where it is not defined.

    Args:
        kind: "bias", "performance" or "rate".
        note: why there is no value, or why it should not be trusted.
    """

    name: str
    value: float
    low: float
    high: float
    kind: str
    meaning: str
    ideal: float = math.nan
    note: str = ""

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit(Reported):
    """What was found. `to_html` writes it as a page.

    Args:
        estimates: every measure and performance by name.
        groups: per group, its rates by name; with K > 2 classes "rate[class]" for each.
        counts: (G, 2, 2) rows by group, label and prediction; with K > 2 classes (G, K, K).
        flags: what an expert would object to, in whole sentences.
        classes: with K > 2 classes, per class its measures, one against the rest, by name.
        scores: rows by group, label and score; None without one score per row that decides.
        attributes: by protected column, the value of each group, where the data say so.
        outcome: the label's column and the value that counts as 1, such as "income = >50K"; ""
            where it is not known, or is 1 of 0/1.
    """

    estimates: dict[str, Estimate]
    groups: dict[str, dict[str, Estimate]]
    counts: Array
    group_names: tuple[str, ...]
    flags: tuple[str, ...]
    threshold: float | None = None
    class_names: tuple[str, ...] = ()
    classes: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    scores: ScoreCounts | None = None
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outcome: str = ""

    def __getitem__(self, name: str) -> Estimate:
        """The estimate of a measure or performance, by name or alias."""
        known = name if name in self.estimates else ALIASES.get(name, name)
        if known not in self.estimates:
            raise unknown("measure", name, self.estimates)
        return self.estimates[known]

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def __contains__(self, name: object) -> bool:
        return name in self.estimates or ALIASES.get(str(name)) in self.estimates

    @property
    def n(self) -> int:
        """Rows audited."""
        return int(self.counts.sum())

    @property
    def positive_label(self) -> str:
        """What a positive label is called in tables: "label income = >50K", or "label 1"."""
        return f"label {self.outcome or 1}"

    def to_frame(self) -> pd.DataFrame:
        """One row per measure: value, low, high, ideal, kind, meaning, note."""
        rows = [vars(estimate) for estimate in self.estimates.values()]
        return pd.DataFrame(rows).set_index("name")

    def groups_frame(self) -> pd.DataFrame:
        """One row per group: n and every rate with its interval."""
        rows = {}
        for position, name in enumerate(self.group_names):
            rows[name] = {"n": int(self.counts[position].sum()), **_flat(self.groups[name])}
        return pd.DataFrame.from_dict(rows, orient="index")

    def classes_frame(self) -> pd.DataFrame:
        """One row per class: n, the labelled rows, and every measure with its 95 % interval, of
        one against the rest, with the selection rate of each group.

        The intervals are those of one class by itself; those of the estimates, which are of the
        worst class, hold for all classes at once.

        Raises:
            InputError: there are two classes only.
        """
        if not self.classes:
            raise InputError("expected an audit of three classes or more, got one of labels 0/1")
        rows = {}
        for position, name in enumerate(self.class_names):
            rows[name] = {"n": int(self.counts[:, position].sum()), **_flat(self.classes[name])}
        return pd.DataFrame.from_dict(rows, orient="index")

    def to_dict(self) -> dict[str, dict[str, float]]:
        """value, low and high by name, ready for JSON."""
        return {
            name: {"value": e.value, "low": e.low, "high": e.high}
            for name, e in self.estimates.items()
        }


def _flat(estimates: dict[str, Estimate]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row
