"""`celeba`: objective and |bias| of every method, a column of panels per setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from retrofair.files import replacing
from retrofair.studies.figures import LOOK
from retrofair.studies.grid import Method
from retrofair.studies.pages import lower_median
from retrofair.studies.panels import BAND
from retrofair.studies.results import CONSTANT, ORIGINAL
from retrofair.studies.shown import words
from retrofair.studies.styles import Styles

WIDTH, LINE, ROOM = 3.6, 0.24, 1.3  # inches: of a panel, of a method, around


def bars(done: pd.DataFrame, methods: Sequence[Method], epsilon: float, path: Path) -> Path:
    """Bars are medians over seeds, dots the seeds."""
    styles = Styles(methods)
    names = [name for name in styles.names if name in set(done["method"])]
    tables = list(done.groupby(["part", "measure"], sort=False))
    size = WIDTH * len(tables) + 1.6, 2 * (LINE * len(names) + 0.6) + ROOM
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(2, len(tables), squeeze=False, sharey=True)
        for (top, below), ((part, measure), rows) in zip(panels.T, tables, strict=True):
            _panel(top, rows, "test_objective", names, styles)
            constant = rows.loc[rows["method"] == CONSTANT, "test_objective"]
            if len(constant):
                top.axvline(constant.median(), color="black", linestyle="--", linewidth=1)
            top.set_title(f"{part}\n{words(str(measure))}")
            top.set_xlabel("objective on test data")
            below.axvspan(0, epsilon, color=BAND, zorder=0)
            _panel(below, rows, "test_unfair", names, styles)
            below.set_xlabel(f"|{words(str(measure))}| on test data")
        for axes in panels[:, 0]:
            axes.set_yticks(range(len(names)), names)
        panels[0, 0].invert_yaxis()  # all panels share it
        seeds = done.loc[done["method"] != CONSTANT, "seed"].nunique()
        text = (
            f"Bars: medians over {seeds} {'seed' if seeds == 1 else 'seeds'}, dots: the seeds. "
            f"Green: |bias| < {epsilon:g}, asked for on validation data; dashed: {CONSTANT}."
        )
        figure.supxlabel(text, x=0.01, ha="left", fontsize=9)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=120)
    return path


def _panel(axes: Any, rows: pd.DataFrame, value: str, names: list[str], styles: Styles) -> None:
    for place, name in enumerate(names):
        found = rows.loc[rows["method"] == name, value].dropna().to_numpy(dtype=float)
        if not len(found):
            continue
        colour = "#999999" if name == ORIGINAL else styles[name].colour
        axes.barh(place, lower_median(found), height=0.7, color=colour, zorder=2)
        axes.plot(found, [place] * len(found), "o", color="#222222", markersize=2.6, zorder=3)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.6, zorder=0)
