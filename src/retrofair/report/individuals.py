"""Certificates on the page: the interval, the curve, the worst pair; and the rounds of a repair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from retrofair.certifiers.words import down, up
from retrofair.report.charts import Axis, ticks
from retrofair.report.text import number, span

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 46
PAIR_ROWS = 40  # that are shown, besides all that differ


def certificate_context(values: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template of a certificate takes."""
    pair = values["pair"]
    shown = max(PAIR_ROWS, sum(line["differs"] for line in pair))
    return {**values, "pair": pair[:shown], "hidden": max(len(pair) - shown, 0)}


def curve_context(rows: Sequence[Mapping[str, Any]], delta: float | None) -> dict[str, Any]:
    """Three lines against epsilon: seen in the data, found, proved."""
    names = {"upper": "proved: no pair differs by more", "lower": "found: a pair that differs so"}
    if any(row["empirical"] is not None for row in rows):
        names["empirical"] = "seen between rows of the data"
    values = [row[n] for row in rows for n in names if row[n] is not None]
    most = max([*values, delta or 0.0, 1e-9])
    x = Axis(min(r["epsilon"] for r in rows), max(r["epsilon"] for r in rows) or 1.0)
    y = Axis(0.0, 1.05 * most)
    lines = []
    for series, (name, meaning) in enumerate(names.items()):
        dots = [(_across(r["epsilon"], x), _down(r[name], y)) for r in rows if r[name] is not None]
        lines.append({"name": name, "meaning": meaning, "series": series, "dots": dots})
    return {
        "lines": lines,
        "rows": [{**r, "found": down(_n(r["lower"])), "proved": up(_n(r["upper"]))} for r in rows],
        "delta": None if delta is None else _down(delta, y),
        "x_ticks": [(_across(t, x), f"{t:g}") for t in ticks(x.low, x.high)],
        "y_ticks": [(_down(t, y), f"{t:g}") for t in ticks(0.0, y.high, 5)],
        "frame": (WIDTH, HEIGHT, LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
    }


def repair_context(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rounds as rows of text."""
    names = ["mse"] if values["regression"] else ["balanced_accuracy", "accuracy"]
    rows = []
    for r in values["rounds"]:
        figures = _figures(r, names)
        bounds = {"found": down(_n(r["lower"])), "proved": up(_n(r["upper"]))}
        rows.append({**r, **bounds, "figures": figures})
    tests = [{**r, "figures": _figures(r, names)} for r in values["test"]]
    return {
        **values,
        "lines": rows,
        "test": tests,
        "names": [name.replace("_", " ") for name in names],
    }


def _figures(row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(number(row[n]), span(row[f"{n}_low"], row[f"{n}_high"])) for n in names]


def _n(value: Any) -> float:
    return math.nan if value is None else float(value)


def _across(value: float, axis: Axis) -> float:
    if axis.high == axis.low:
        return (LEFT + WIDTH - RIGHT) / 2
    return round(LEFT + axis.at(value) / 100 * (WIDTH - LEFT - RIGHT), 2)


def _down(value: float, axis: Axis) -> float:
    if not math.isfinite(value):
        return TOP
    return round(HEIGHT - BOTTOM - axis.at(value) / 100 * (HEIGHT - TOP - BOTTOM), 2)
