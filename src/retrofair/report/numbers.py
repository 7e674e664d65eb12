"""The losses of groups where the label is a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrofair.regression import RegressionAudit
from retrofair.regression.losses import Mean


def numbers_context(audit: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template of losses takes."""
    now = RegressionAudit.from_dict(dict(audit))
    before = values.get("numbers_before")
    was = None if before is None else RegressionAudit.from_dict(before)
    rows = []
    for each in (*now.groups, now.overall):
        old = None
        if was is not None:
            old = was.overall if each is now.overall else was[each.name]
        rows.append(
            {
                "name": each.name,
                "rows": f"{each.rows:,}",
                "was": None if old is None else shown(old.loss),
                "loss": shown(each.loss),
                "error": shown(each.error),
                "constant": short(each.constant_loss),
            }
        )
    return {
        "rows": rows,
        "before": was is not None,
        "loss": now.loss,
        "n": f"{now.overall.rows:,}",
        "worst": now.worst,
        "worst_loss": shown(now.worst_loss),
        "constant": short(now.constant),
        "bound": values.get("bound"),
    }


def shown(mean: Mean) -> tuple[str, str]:
    """The value, and its interval."""
    if mean.value != mean.value:
        return "undefined", ""
    return short(mean.value), f"{short(mean.low)} to {short(mean.high)}"


def short(value: float) -> str:
    """Four digits, with a true minus sign; a dash where there is nothing.

    >>> short(-12.3456), short(float("nan"))
    ('\N{MINUS SIGN}12.35', '-')
    """
    return "-" if value != value else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
