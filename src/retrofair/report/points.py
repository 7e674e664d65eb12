"""Networks on a plane of bias and performance: a frontier, or a comparison of a few."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrofair.report.charts import Axis, padded, ticks
from retrofair.report.text import number, plain

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 46
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "down", "plus")
# the share of the way to the next point's bias at which a bound chooses the point before it
BETWEEN = 0.5


@dataclass(frozen=True)
class Dot:
    """A point of the picture.

    Args:
        number: among those that can be chosen; None for all others.
        shape, colour: of its method, as names of symbols.
    """

    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label: str
    shape: str
    series: int
    kind: str
    number: int | None


def frontier_context(values: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Everything that the template of a frontier takes.

    Args:
        command: the command line without its choice, or nothing.
    """
    points = list(values["points"])
    everything = [*values["reference"], *_others(values), *points]
    x = padded([_n(p["bias"]) for p in everything])
    x = Axis(max(x.low, -0.01), x.high)
    y = padded([_n(p["performance"]) for p in everything])
    methods = list(dict.fromkeys(p["method"] for p in [*points, *_others(values)]))
    reference = [_dot(p, x, y, methods, None, "reference") for p in values["reference"]]
    others = [_dot(p, x, y, methods, None, p["kind"]) for p in _others(values)]
    best = [_dot(p, x, y, methods, i, "best") for i, p in enumerate(points)]
    return {
        "about": values,
        "measure": plain(values["measure"]),
        "performance": plain(values["performance"]),
        "rows": [
            {**p, "command": _command(points, i, command), "chosen": i == values["chosen"]}
            for i, p in enumerate(points)
        ],
        "dots": [d for d in (*reference, *others, *best) if d is not None],
        "steps": _steps([d for d in best if d is not None]),
        "legend": [(m, SHAPES[i % len(SHAPES)], i % 7) for i, m in enumerate(methods)],
        "x_ticks": [(_across(t, x), f"{t:g}") for t in ticks(x.low, x.high)],
        "y_ticks": [(_down(t, y), f"{t:g}") for t in ticks(y.low, y.high, 5)],
        "frame": (WIDTH, HEIGHT, LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "many": len(_others(values)),
    }


def comparison_context(values: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template of a comparison takes."""
    rows = []
    for row in values["rows"]:
        cells = [f"{number(v)}" for v, _, _ in row["figures"]]
        spans = [(low, high) for _, low, high in row["figures"]]
        rows.append({"holds": [], **row, "cells": list(zip(cells, spans, strict=True))})
    starred = any(row["name"].endswith("*") for row in rows)
    return {
        "bounds": [],
        **values,
        "rows": rows,
        "starred": starred,
        "names": [plain(name) for name in values["columns"]],
    }


def _others(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [p for p in values["frame"] if p["kind"] not in ("reference", "non-dominated")]


def _command(points: Sequence[Mapping[str, Any]], place: int, command: str) -> str:
    """The command line that chooses this point: a bound between its bias and the next one's.

    Empty where no bound in (0, 1] lies between.
    """
    if not command:
        return ""
    here = _n(points[place]["bias"])
    after = min([_n(p["bias"]) for p in points[place + 1 : place + 2]] or [here + 0.02])
    for digits in range(2, 13):  # the shortest number between the two
        bound = round(here + BETWEEN * (after - here), digits)
        if here < bound <= min(after, 1):
            return f"{command} --choose bias={bound:.{digits}g}"
    return ""


def _dot(
    point: Mapping[str, Any],
    x: Axis,
    y: Axis,
    methods: Sequence[str],
    place: int | None,
    kind: str,
) -> Dot | None:
    bias, good = _n(point["bias"]), _n(point["performance"])
    if not (math.isfinite(bias) and math.isfinite(good)):
        return None
    series = methods.index(point["method"]) if point["method"] in methods else -1
    label = f"{point['method']}: bias {number(bias)}, performance {number(good)}"
    return Dot(
        _across(bias, x),
        _down(good, y),
        _across(_n(point["bias_low"]), x),
        _across(_n(point["bias_high"]), x),
        _down(_n(point["performance_low"]), y),
        _down(_n(point["performance_high"]), y),
        label,
        SHAPES[series % len(SHAPES)] if series >= 0 else "ring",
        series % 7 if series >= 0 else 7,
        kind,
        place,
    )


def _steps(dots: Sequence[Dot]) -> str:
    """The staircase of what can be reached."""
    path = ""
    for dot in dots:
        path += f"H{dot.x:.1f}V{dot.y:.1f}" if path else f"M{dot.x:.1f} {dot.y:.1f}"
    return path + f"H{WIDTH - RIGHT}" if path else ""


def _across(value: float, axis: Axis) -> float:
    return round(LEFT + axis.at(value) / 100 * (WIDTH - LEFT - RIGHT), 2)


def _down(value: float, axis: Axis) -> float:
    return round(HEIGHT - BOTTOM - axis.at(value) / 100 * (HEIGHT - TOP - BOTTOM), 2)


def _n(value: Any) -> float:
    return math.nan if value is None else float(value)
