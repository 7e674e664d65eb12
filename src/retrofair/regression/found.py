"""What an audit of a regression network finds: the loss of each group, beside a constant's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from retrofair.errors import unknown
from retrofair.regression.losses import Loss, Mean
from retrofair.reported import Reported

ALL_ROWS = "(all)"


@dataclass(frozen=True)
class GroupLoss:
    """One group's rows.

    Args:
        loss: the mean loss.
        error: the mean of prediction minus label: above 0, the network says too much.
        constant_loss: what the constant would lose on the same rows.
    """

    name: str
    rows: int
    loss: Mean
    error: Mean
    constant_loss: float


@dataclass(frozen=True, kw_only=True)
class RegressionAudit(Reported):
    """The loss of each group.

    Args:
        loss: "squared" or "absolute".
        groups: one entry per group, in the order of the group names.
        overall: the same of all rows.
        worst: the name of the group of the largest mean loss.
        worst_loss: its mean loss, with an interval that holds for all groups at once (Bonferroni),
            so that picking the worst does not make it too narrow.
        constant: the number to beat: the mean for the squared loss, the median for the absolute.
        flags: what an expert would object to, in whole sentences.
    """

    loss: Loss
    groups: tuple[GroupLoss, ...]
    overall: GroupLoss
    worst: str
    worst_loss: Mean
    constant: float
    flags: tuple[str, ...]

    def __getitem__(self, name: str) -> GroupLoss:
        """A group by its name."""
        for each in self.groups:
            if each.name == name:
                return each
        raise unknown("group", name, [each.name for each in self.groups])

    def to_frame(self) -> pd.DataFrame:
        """One row per group, and one of all rows."""
        return pd.DataFrame([_row(each) for each in (*self.groups, self.overall)])

    def __str__(self) -> str:
        table = self.to_frame().to_string(index=False, float_format=lambda v: f"{v:.4g}")
        worst = f"worst group: {self.worst}, {self.worst_loss} (for all groups at once)"
        return "\n".join([table, worst, *self.flags])

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RegressionAudit:
        return cls(
            loss=values["loss"],
            groups=tuple(_group(each) for each in values["groups"]),
            overall=_group(values["overall"]),
            worst=values["worst"],
            worst_loss=_mean(values["worst_loss"]),
            constant=values["constant"],
            flags=tuple(values["flags"]),
        )


def _row(each: GroupLoss) -> dict[str, Any]:
    return {
        "group": each.name,
        "rows": each.rows,
        "loss": each.loss.value,
        "loss_low": each.loss.low,
        "loss_high": each.loss.high,
        "error": each.error.value,
        "error_low": each.error.low,
        "error_high": each.error.high,
        "constant_loss": each.constant_loss,
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)  # JSON has no nan


def _mean(values: dict[str, Any]) -> Mean:
    return Mean(*(_number(values[name]) for name in ("value", "low", "high")))


def _group(values: dict[str, Any]) -> GroupLoss:
    return GroupLoss(
        values["name"],
        int(values["rows"]),
        _mean(values["loss"]),
        _mean(values["error"]),
        _number(values["constant_loss"]),
    )
