"""`heads`: balanced accuracy against |bias| on test data, a panel per data set and measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from retrofair.files import replacing
from retrofair.plots import MARKERS
from retrofair.studies.figures import LOOK
from retrofair.studies.grid import Method
from retrofair.studies.panels import BAND
from retrofair.studies.results import CONSTANT, ORIGINAL
from retrofair.studies.shown import words
from retrofair.studies.styles import Styles

MORE = ("#882255", "#CC3311", "#999933", "#332288", "#44AA99")  # of Tol's palettes
SIZE = 4.6, 2.9  # inches of a panel
ROOM = 1.25  # below and above the panels


def planes(done: pd.DataFrame, methods: Sequence[Method], epsilon: float, path: Path) -> Path:
    """Medians over seeds with the range as arms; hollow where the column is left out."""
    rows = list(dict.fromkeys(zip(done["data"], done["sensitive"], strict=True)))
    measures = list(dict.fromkeys(done["measure"]))
    styles = Styles(methods)
    names = [name for name in styles.names if name in set(done["method"])]
    looks = {name: _look(styles, name, index) for index, name in enumerate(names)}
    size = SIZE[0] * len(measures), SIZE[1] * len(rows) + ROOM
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=size, layout="constrained")
        every = figure.subplots(len(rows), len(measures), squeeze=False)
        for line, (data, who) in zip(every, rows, strict=True):
            for axes, measure in zip(line, measures, strict=True):
                here = (done["data"] == data) & (done["sensitive"] == who)
                _panel(axes, done[here & (done["measure"] == measure)], looks, epsilon)
                axes.set_title(f"{data} ({who}), {words(measure)}")
                axes.set_xlabel("|bias| on test data")
            line[0].set_ylabel("balanced accuracy on test data")
        handles = [Line2D([], [], linestyle="", label=name, **looks[name]) for name in names]
        black: dict[str, Any] = {"linestyle": "", "color": "black", "marker": "o"}
        handles += [
            Line2D([], [], label="filled: columns in", **black),
            Line2D([], [], label="hollow: blind", markerfacecolor="white", **black),
            Line2D([], [], color="black", linestyle="--", label=CONSTANT),
        ]
        columns = max(1, int(size[0] / 2.1))
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
        seeds = done[done["method"] != CONSTANT].groupby(["data", "sensitive", "columns", "method"])
        counted = seeds["seed"].nunique()
        n = (
            f"{counted.min()}"
            if counted.min() == counted.max()
            else f"{counted.min()} to {counted.max()}"
        )
        text = (
            f"Medians over seeds (n = {n}), arms from the smallest to the largest. Green: |bias| < "
            f"{epsilon:g}, what was asked for on validation data."
        )
        figure.supxlabel(text, x=0.01, ha="left", fontsize=9)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=110)
    return path


def _panel(axes: Any, part: pd.DataFrame, looks: dict[str, dict[str, Any]], epsilon: float) -> None:
    axes.axvspan(0, epsilon, color=BAND, zorder=0)
    axes.axhline(part.loc[part["method"] == CONSTANT, "test_performance"].median(), **_DASHED)
    for (columns, method), rows in part.groupby(["columns", "method"], sort=False):
        if method not in looks:
            continue
        x, y = rows["test_unfair"].dropna(), rows["test_performance"].dropna()
        if x.empty or y.empty:
            continue
        look = dict(looks[str(method)])
        colour = look["markerfacecolor"]
        if columns == "blind":
            look |= {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.4}
        arms = {
            "xerr": [[x.median() - x.min()], [x.max() - x.median()]],
            "yerr": [[y.median() - y.min()], [y.max() - y.median()]],
        }
        thin: dict[str, Any] = {"ecolor": colour, "elinewidth": 0.7, "alpha": 0.9}
        axes.errorbar(x.median(), y.median(), fmt="", zorder=3, **arms, **thin, **look)
    axes.set_xlim(left=0)
    axes.grid(color="#E6E6E6", linewidth=0.6, zorder=0)


_DASHED: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.0}


def _look(styles: Styles, name: str, index: int) -> dict[str, Any]:
    """Colours are those of all figures, those that come again there replaced; shapes differ too."""
    style = styles[name]
    repeats = [other for other in styles.names if styles[other].hatch]
    colour = MORE[repeats.index(name) % len(MORE)] if name in repeats else style.colour
    shape = "o" if name == ORIGINAL else MARKERS[index % len(MARKERS)]
    shape = "*" if name == "fair_head" else shape
    return {
        "marker": shape,
        "markerfacecolor": colour,
        "markeredgecolor": "#222222",
        "markeredgewidth": 0.5,
        "markersize": 11 if shape == "*" else 6,
    }
