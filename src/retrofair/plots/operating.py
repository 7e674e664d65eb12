"""The picture of a frontier: all operating points, and those that no other beats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from retrofair.frontier import Frontier
from retrofair.frontier import Point as OperatingPoint
from retrofair.plots.style import COLOURS, MARKERS, saved

GREY, LINE = "#666666", "#BBBBBB"
METHOD_COLOURS = COLOURS[:-1]  # the last, black, is the references'
FAINT = 0.3


def frontier(
    front: Frontier,
    path: str | Path,
    *,
    title: str = "",
    bias: float | None = None,
    chosen: OperatingPoint | None = None,
) -> Path:
    """Draw a frontier: every point tried, the non-dominated ones with the interval of their bias.

    Args:
        title: a default says how many points were tried.
        bias: draws a bound on the bias.
        chosen: gets a ring.
    """
    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    axes = figure.add_subplot()
    handles = _points(axes, front)
    best = [(p.bias.value, p.performance.value) for p in front.points]
    if best:
        x, y = (np.array(each) for each in zip(*best, strict=True))
        axes.step(x, y, where="post", color=LINE, linewidth=2.2, zorder=2)
        handles.append(Line2D([], [], color=LINE, linewidth=2.2, label="non-dominated points"))
    handles += _references(axes, front)
    if bias is not None:
        axes.axvline(bias, color="#333333", linestyle="--", linewidth=1.0, zorder=1)
        name = f"bound on the bias: {bias:g}"
        handles.append(Line2D([], [], color="#333333", linestyle="--", linewidth=1.0, label=name))
    if chosen is not None:
        ring: dict[str, Any] = {"marker": "o", "markersize": 16, "markerfacecolor": "none"}
        ring |= {"markeredgecolor": "#333333", "linestyle": "", "markeredgewidth": 1.4}
        axes.plot(chosen.bias.value, chosen.performance.value, zorder=6, **ring)
        ring["markersize"] = 11
        handles.append(Line2D([], [], label="chosen", **ring))
    axes.set_xlim(left=min(-0.02 * axes.get_xlim()[1], -1e-3))
    axes.set_xlabel(
        f"bias: distance of {front.measure} from fair, {front.rows_held_out:,} rows held out "
        "(bars: 95 % interval)"
    )
    axes.set_ylabel(front.performance.replace("_", " "))
    axes.set_title(
        title or f"{len(front.points)} non-dominated of {len(front.tried)} points tried",
        fontsize=11,
    )
    axes.grid(color="#EEEEEE", zorder=0)
    axes.set_axisbelow(True)
    figure.legend(handles=handles, loc="outside right center", fontsize=9, frameon=False)
    return saved(figure, path)


def _points(axes: Axes, front: Frontier) -> list[Line2D]:
    """One colour and marker per method; faint where dominated, hollow where degenerate."""
    handles = []
    for index, name in enumerate(front.effort):
        colour, marker = METHOD_COLOURS[index % len(METHOD_COLOURS)], MARKERS[index % len(MARKERS)]
        mine = [p for p in front.tried if p.method == name]
        shown = [p for p in mine if front.kind(p) == "non-dominated"]
        for kind, face in (("dominated", colour), ("degenerate", "none")):
            rest = [p for p in mine if front.kind(p) == kind]
            axes.plot(
                [p.bias.value for p in rest],
                [p.performance.value for p in rest],
                marker=marker,
                linestyle="",
                color=colour,
                markerfacecolor=face,
                alpha=FAINT if kind == "dominated" else 0.6,
                markersize=6,
                zorder=3,
            )
        if shown:
            value = np.array([p.bias.value for p in shown])
            arms = [value - [p.bias.low for p in shown], [p.bias.high for p in shown] - value]
            axes.errorbar(
                value,
                [p.performance.value for p in shown],
                xerr=np.maximum(np.nan_to_num(arms), 0),
                fmt=marker,
                color=colour,
                markersize=8,
                capsize=2.0,
                elinewidth=0.9,
                zorder=5,
            )
        if mine:
            star = " *" if any(p.needs_group for p in mine) else ""
            handles.append(
                Line2D([], [], color=colour, marker=marker, linestyle="", label=name + star)
            )
    if any(p.needs_group for p in front.tried):
        handles.append(Line2D([], [], linestyle="", label="* needs the group"))
    pale: dict[str, Any] = {"color": GREY, "marker": "o", "linestyle": "", "markersize": 6}
    kinds = {front.kind(p) for p in front.tried}
    if "dominated" in kinds:
        handles.append(Line2D([], [], alpha=FAINT, label="faint: dominated", **pale))
    if "degenerate" in kinds:
        handles.append(Line2D([], [], markerfacecolor="none", label="hollow: degenerate", **pale))
    return handles


def _references(axes: Axes, front: Frontier) -> list[Line2D]:
    original, *constants = front.reference
    looks = (
        ([original], "*", 13, "original network, 0.5"),
        (constants, "x", 8, "constant classifiers"),
    )
    handles = []
    for points, marker, size, name in looks:
        drawn: dict[str, Any] = {
            "color": "#000000",
            "marker": marker,
            "markersize": size,
            "linestyle": "",
        }
        axes.plot(
            [p.bias.value for p in points], [p.performance.value for p in points], zorder=4, **drawn
        )
        handles.append(Line2D([], [], label=name, **drawn))
    return handles
