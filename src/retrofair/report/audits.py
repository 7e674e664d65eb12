"""The audit on the page: data by group, measures, rates, histograms of the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from retrofair import metrics
from retrofair.audit import Audit, Estimate, audit_from_dict
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.report.charts import Axis, Strip, butterfly, strip
from retrofair.report.impact import (
    FIFTHS,
    below_four_fifths,
    category_groups,
    scoring_lines,
    selection_lines,
)
from retrofair.report.live import SHOWN_RATES, live_values, start_edge
from retrofair.report.text import LAY, LAY_MANY, per_cent, plain

BARS = 50
RATE_AXIS, RATIO_AXIS, SIGNED_AXIS = Axis(0.0, 1.0), Axis(0.0, 2.0), Axis(-1.0, 1.0)
MOST_PAIRS = 12  # groups beyond which a histogram for each is too long a page


@dataclass(frozen=True)
class Row:
    """A measure as a line: its figures move with the threshold where `live` is not empty."""

    name: str
    meaning: str
    lay: str
    estimate: Estimate
    ideal: float | None
    live: str
    strip: Strip


def audit_context(values: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything that the template of an audit takes.

    Raises:
        KeyError, TypeError, ValueError: other values than `audit_to_dict` writes.
    """
    found = audit_from_dict(values)
    scores = found.scores
    moves = scores is not None
    start = start_edge(scores) if scores is not None else 0
    formulas = {each.name for each in metrics.ALL} | {each.name for each in metrics.performance.ALL}
    two = len(found.group_names) == 2
    rows = [_row(e, moves and e.name in formulas, two) for e in found.estimates.values()]
    impact, scoring = selection_lines(found), scoring_lines(found)
    return {
        "audit": found,
        "before": None if before is None else audit_from_dict(before),
        "biases": [row for row in rows if row.estimate.kind == "bias"],
        "performances": [row for row in rows if row.estimate.kind == "performance"],
        "fixed": [row.name for row in rows if moves and not row.live],
        "data": data_rows(found),
        "rates": [plain(rate.name) for rate in SHOWN_RATES],
        "groups": group_rows(found, moves),
        "classes": class_rows(found),
        "impact": [] if found.classes else impact,
        "scoring": scoring,
        "below": below_four_fifths(impact),
        "fifths": FIFTHS,
        "histograms": histograms(found),
        "live": None if scores is None else live_values(found, scores, start),
        "start": None if scores is None else float(scores.edges[start]),
        "why_not": "" if scores is not None else why_no_scores(found),
        "headline": headline(found),
        "tables": category_groups(found),
    }


def _row(estimate: Estimate, moves: bool, two_groups: bool) -> Row:
    bias = estimate.kind == "bias"
    return Row(
        plain(estimate.name),
        estimate.meaning.rstrip(".") + (f" ({estimate.note})" if estimate.note else ""),
        (LAY if two_groups else LAY | LAY_MANY).get(estimate.name, ""),
        estimate,
        estimate.ideal if bias else None,
        f"m.{estimate.name}" if moves else "",
        strip(estimate, _axis(estimate, two_groups), estimate.ideal if bias else None),
    )


def _axis(estimate: Estimate, two_groups: bool) -> Axis:
    if estimate.ideal == 1 and estimate.kind == "bias":
        return RATIO_AXIS if "impact" in estimate.name else RATE_AXIS
    signed = (two_groups and estimate.name in ("spd", "eod", "aod")) or not estimate.low >= 0
    return SIGNED_AXIS if estimate.kind == "bias" and signed else RATE_AXIS


def data_rows(found: Audit) -> list[dict[str, Any]]:
    """Rows, share and base rate of each group, and whether there are too few."""
    total = found.n
    rows = []
    for position, name in enumerate(found.group_names):
        counts = found.counts[position]
        by_label = counts.sum(axis=1)
        base = found.groups[name].get("base_rate")
        rows.append(
            {
                "name": name,
                "n": int(counts.sum()),
                "share": counts.sum() / total,
                "labels": by_label.tolist(),
                "base": base,
                "few": bool(by_label.min() < FEW_ROWS),
                "privileged": position == len(found.group_names) - 1,
            }
        )
    return rows


def group_rows(found: Audit, moves: bool) -> list[dict[str, Any]]:
    """Every rate of every group with its interval."""
    rows = []
    for position, name in enumerate(found.group_names):
        cells = []
        for rate in SHOWN_RATES:
            estimate = found.groups[name].get(rate.name)
            if estimate is not None:
                live = f"g.{position}.{rate.name}" if moves else ""
                cells.append(
                    {"e": estimate, "live": live, "strip": strip(estimate, RATE_AXIS, None)}
                )
        rows.append({"name": name, "cells": cells})
    return rows


def class_rows(found: Audit) -> list[dict[str, Any]]:
    """With three classes or more: spd, eod and aod of each against the rest."""
    return [
        {
            "name": name,
            "n": int(found.counts[:, position].sum()),
            "estimates": [found.classes[name][each] for each in ("spd", "eod", "aod")],
        }
        for position, name in enumerate(found.class_names)
    ]


def histograms(found: Audit) -> list[dict[str, Any]]:
    """Outlines above (label 1) and below (label 0) a line, by group, of each label's own shares."""
    if found.scores is None:
        return []
    bars = found.scores.bars(BARS).astype(float)
    shares = bars / np.maximum(bars.sum(axis=2, keepdims=True), 1)
    top = shares.max(axis=(0, 2))  # of each label, over all groups: these can be compared
    order = sorted(range(len(bars)), key=lambda g: -bars[g].sum())[:MOST_PAIRS]
    return [
        {"name": found.group_names[g], "n": int(bars[g].sum()), **asdict(butterfly(shares[g], top))}
        for g in sorted(order)
    ]


def why_no_scores(found: Audit) -> str:
    """Why there is no slider."""
    if found.classes:
        return (
            "With three classes or more a row goes to its most probable class: there is no "
            "threshold to move."
        )
    return (
        "There is no threshold to move: only the decisions were audited, or they were made with a "
        "rule that looks at each row's group, so that no single score decides."
    )


def headline(found: Audit) -> str:
    """The largest difference in one sentence."""
    if found.classes:
        return ""
    rates = {name: found.groups[name]["selection_rate"] for name in found.group_names}
    known = {name: e for name, e in rates.items() if not math.isnan(e.value)}
    least = min(known, key=lambda name: known[name].value)
    most = max(known, key=lambda name: known[name].value)
    low, high = known[least].value, known[most].value
    if low == high:
        return f"All groups get the positive decision equally often: {per_cent(low)}."
    return (
        f"{least} gets the positive decision least often, {per_cent(low)} of the time; "
        f"{most} most often, {per_cent(high)}."
    )
