"""The figures of grids, in the papers' layout: bars by data set, and the bias-accuracy plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from retrofair.files import replacing
from retrofair.metrics import Array
from retrofair.objective import Constrained, Weighted
from retrofair.plots import COLOURS, MARKERS
from retrofair.studies.grid import Grid
from retrofair.studies.results import CONSTANT, ORIGINAL

# Controls and the papers' own versions have the colour of their method, and a pattern.
PATTERNS = ("", "///", "...", "xxx")
GREY = "#BBBBBB"
BAR_COLOURS = (*COLOURS[:6], "#F0E442", *COLOURS[6:])  # all eight of Okabe and Ito


class Styles:
    """One colour per method, one pattern per version of it ("layerwise, random search")."""

    def __init__(self, methods: Sequence[str]) -> None:
        bases = list(dict.fromkeys(name.split(",")[0] for name in methods if name != ORIGINAL))
        versions: dict[str, int] = {}
        self._found: dict[str, tuple[str, str]] = {ORIGINAL: (GREY, "")}
        for name in methods:
            if name == ORIGINAL:
                continue
            base = name.split(",")[0]
            pattern = PATTERNS[versions.get(base, 0) % len(PATTERNS)]
            versions[base] = versions.get(base, 0) + 1
            self._found[name] = (BAR_COLOURS[bases.index(base) % len(BAR_COLOURS)], pattern)

    def bar(self, method: str) -> dict[str, Any]:
        colour, pattern = self._found[method]
        return {"facecolor": colour, "hatch": pattern, "edgecolor": "white", "linewidth": 0.4}

    def point(self, method: str) -> dict[str, Any]:
        colour, pattern = self._found[method]
        face = colour if not pattern else "white"
        return {"color": colour, "markerfacecolor": face, "markeredgecolor": colour}

    def legend(self) -> list[Patch]:
        return [Patch(label=name, **self.bar(name)) for name in self._found]


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """What has been run, with the bars' group as one text."""
    done = frame[frame["state"] == "done"].copy()
    several = done["network"].nunique() > 1
    blind = done["columns"].map({"in": "", "blind": ", blind"})
    group = done["data"] + " (" + done["sensitive"] + blind + ")"
    done["group"] = done["network"] if several else group
    return done


def bars(
    axes: Any,
    done: pd.DataFrame,
    value: str,
    styles: Styles,
    *,
    centre: Callable[[pd.Series], float] = pd.Series.mean,
    errors: bool = True,
) -> None:
    """Bars by data set and method, with standard deviations; the constant classifier as a line."""
    groups = list(dict.fromkeys(done["group"]))
    methods = [m for m in dict.fromkeys(done["method"]) if m != CONSTANT]
    width = 0.84 / len(methods)
    for index, method in enumerate(methods):
        here = done[done["method"] == method].groupby("group")[value]
        at, heights, arms = [], [], []
        for position, group in enumerate(groups):
            if group in here.groups:
                values = here.get_group(group)
                at.append(position - 0.42 + (index + 0.5) * width)
                heights.append(centre(values))
                arms.append(values.std(ddof=1) if len(values) > 1 else 0.0)
        axes.bar(at, heights, width, **styles.bar(method))
        if errors:
            axes.errorbar(at, heights, arms, fmt="none", ecolor="#333333", elinewidth=0.8)
        for x, height in zip(at, heights, strict=True):
            if height == 0:  # a bar of no height would look like one that was not run
                axes.plot(x, 0, marker="x", color=styles.bar(method)["facecolor"], markersize=4)
    constant = done[done["method"] == CONSTANT].groupby("group")[value]
    for position, group in enumerate(groups):
        if group in constant.groups:
            level = centre(constant.get_group(group))
            axes.hlines(level, position - 0.46, position + 0.46, color="black", linestyle="--")
    axes.set_xticks(range(len(groups)), groups, fontsize=8)
    axes.grid(axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)


def plane(axes: Any, done: pd.DataFrame, grid: Grid, styles: Styles) -> None:
    """Mean bias against mean performance, with the objective's contours in black."""
    groups = list(dict.fromkeys(done["group"]))
    means = done.groupby(["method", "group"], sort=False)[["test_bias", "test_performance"]].mean()
    for (method, group), (bias, good) in zip(means.index, means.to_numpy(), strict=True):
        marker = MARKERS[groups.index(group) % len(MARKERS)]
        if method == CONSTANT:
            axes.plot(bias, good, marker, color="black", markersize=5, fillstyle="none")
        else:
            axes.plot(bias, good, marker, markersize=7, **styles.point(method))
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    reach = max(abs(low), abs(high))
    x, y = np.meshgrid(np.linspace(-reach, reach, 101), np.linspace(bottom, top, 101))
    if isinstance(grid.objective, Weighted):
        lam = grid.objective.lam
        lines = axes.contour(
            x, y, lam * np.abs(x) + (1 - lam) * (1 - y), 8, colors="black", linewidths=0.5
        )
        axes.clabel(lines, fontsize=6)
    else:
        axes.axvspan(-grid.objective.epsilon, grid.objective.epsilon, color="#E8F1E4", zorder=0)
    handles = [
        Line2D([], [], color="#555555", marker=MARKERS[i % len(MARKERS)], linestyle="", label=group)
        for i, group in enumerate(groups)
    ]
    axes.legend(handles=handles, fontsize=7, loc="lower left")


def bars_and_planes(frame: pd.DataFrame, grid: Grid, path: Path) -> Path:
    """The post-hoc paper's Figure 1, plots 1 to 6: objective on top, the plane below."""
    done = shown(frame)
    styles = Styles(list(dict.fromkeys(m for m in done["method"] if m != CONSTANT)))
    columns = list(grid.measures)
    figure = Figure(figsize=(6.4 * len(columns), 9), layout="constrained")
    axes = _subplots(figure, 2, len(columns))
    for column, measure in enumerate(columns):
        here = done[done["measure"] == measure]
        bars(axes[0, column], here, "test_objective", styles)
        axes[0, column].set_title(f"{measure.upper()}: objective on test data (lower is better)")
        plane(axes[1, column], here, grid, styles)
        axes[1, column].set_xlabel(f"{measure} on test data")
        axes[1, column].set_ylabel(f"{grid.objective.performance} on test data")
    return _save(figure, styles, path)


def objective_bars(frame: pd.DataFrame, grid: Grid, path: Path) -> Path:
    """Plots 7 and 8: one panel per data set and measure, bars by network."""
    done = shown(frame)
    styles = Styles(list(dict.fromkeys(m for m in done["method"] if m != CONSTANT)))
    panels = list(dict.fromkeys(zip(done["data"], done["sensitive"], done["measure"], strict=True)))
    figure = Figure(figsize=(6 * len(panels), 5), layout="constrained")
    axes = _subplots(figure, 1, len(panels))
    for column, (data, sensitive, measure) in enumerate(panels):
        same = (done["data"] == data) & (done["sensitive"] == sensitive)
        bars(axes[0, column], done[same & (done["measure"] == measure)], "test_objective", styles)
        axes[0, column].set_title(f"{data} ({sensitive}), {measure}: objective (lower is better)")
    return _save(figure, styles, path)


def bias_and_objective(frame: pd.DataFrame, grid: Grid, path: Path) -> Path:
    """The intra-processing paper's Figure 1: mean bias on top, median objective below.

    As in the paper, settings in which the original network already scores (its median objective
    is above 0) are left out; the page's tables have them all.
    """
    done = shown(frame)
    keys = ["group", "measure"]
    original = done[done["method"] == ORIGINAL].groupby(keys)["test_objective"].median()
    if isinstance(grid.objective, Constrained) and (original == 0).any():
        done = done.join(original.rename("default"), on=keys)
        done = done[done["default"] == 0]
    styles = Styles(list(dict.fromkeys(m for m in done["method"] if m != CONSTANT)))
    columns = [m for m in grid.measures if (done["measure"] == m).any()]
    figure = Figure(figsize=(6.4 * len(columns), 8), layout="constrained")
    axes = _subplots(figure, 2, len(columns))
    for column, measure in enumerate(columns):
        here = done[done["measure"] == measure]
        bars(axes[0, column], here, "test_bias", styles)
        axes[0, column].set_title(f"mean {measure} on test data")
        bars(axes[1, column], here, "test_objective", styles, centre=pd.Series.median, errors=False)
        axes[1, column].set_title("median objective on test data (higher is better)")
        if isinstance(grid.objective, Constrained):
            epsilon = grid.objective.epsilon
            axes[0, column].axhspan(-epsilon, epsilon, color="#E8F1E4", zorder=0)
    return _save(figure, styles, path)


def _subplots(figure: Figure, rows: int, columns: int) -> Array:
    return np.asarray(figure.subplots(rows, columns, squeeze=False))


def _save(figure: Figure, styles: Styles, path: Path) -> Path:
    constant = Line2D([], [], color="black", linestyle="--", label=CONSTANT)
    zero = Line2D([], [], color="#333333", linestyle="", marker="x", label="scores 0")
    handles = [*styles.legend(), constant, zero]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    with replacing(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "retrofair"}):
        figure.savefig(temporary, dpi=110)
    return path
