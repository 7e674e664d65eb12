"""The figures of grids, in the papers' layout: bars by data set, and the bias-accuracy plane.

A bar is one network on one data set: nothing is averaged but seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

from retrofair import metrics
from retrofair.files import replacing
from retrofair.objective import Constrained
from retrofair.studies.grid import Grid
from retrofair.studies.pages import lower_median
from retrofair.studies.panels import (
    ZERO,
    bias_panel,
    constant_handles,
    objective_panel,
    plane,
    shape_handle,
    shapes,
    zero_handle,
)
from retrofair.studies.results import CONSTANT, ORIGINAL
from retrofair.studies.shown import GROUP, Shown, words

MOST_COLUMNS = 3  # panels beside each other; further ones start another row
MOST_BARS = 90  # in a panel that has others beside it; with more it has a row of its own
WIDTHS = {1: 8.0, 2: 12.0, 3: 15.0}  # inches, by columns
LETTER, LINE = 0.075, 0.2  # inches
LOOK: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.7,
    "svg.hashsalt": "retrofair",
    "text.parse_math": False,  # names are a user's, and may hold a dollar
}


def bars_and_planes(frame: pd.DataFrame, grid: Grid, path: Path) -> Path:
    """The post-hoc paper's Figure 1, plots 1 to 6: objective on top, the plane below."""
    shown = Shown.of(frame, grid)
    with _panels(path, shown, len(shown.measures), heights=(3.4, 4.6)) as (figure, axes):
        for (top, below), measure in zip(axes, shown.measures, strict=True):
            here = shown.measure(measure)
            objective_panel(top, here, words(measure))
            plane(below, here, measure, shapes(shown))
        _legend(figure, axes, shown, planes=True)
        _caption(figure, _seeds(shown, planes=True), _objective(shown, band=True, contours=True))
    return path


def objective_bars(frame: pd.DataFrame, grid: Grid, path: Path) -> Path:
    """Plots 7 and 8: one panel per data set and measure, bars by network."""
    shown = Shown.of(frame, grid)
    same = ["data", "sensitive", "columns", "measure"]
    parts = [Shown.of(part, grid) for _, part in shown.done.groupby(same, sort=False)]
    widest = max(parts, key=lambda part: part.most_bars)
    with _panels(path, widest, len(parts), heights=(4.0,)) as (figure, axes):
        for (only,), part in zip(axes, parts, strict=True):
            data, who, columns, measure = part.done[same].iloc[0]
            blind = ", blind" if columns == "blind" else ""
            objective_panel(only, part, f"{data} ({who}){blind}, {words(measure)}")
        _legend(figure, axes, shown)
        _caption(figure, _seeds(shown), _objective(shown))
    return path


def bias_and_objective(frame: pd.DataFrame, grid: Grid, path: Path) -> Path:
    """The intra-processing paper's Figure 1: mean bias on top, the objective below.

    As in the paper, settings in which the original network already scores (its median objective
    is above 0) are left out, and named; the page's tables have them all.
    """
    shown, left_out = _unsolved(Shown.of(frame, grid))
    with _panels(path, shown, len(shown.measures), heights=(3.4, 3.4)) as (figure, axes):
        for (top, below), measure in zip(axes, shown.measures, strict=True):
            here = shown.measure(measure)
            bias_panel(top, here, measure)
            objective_panel(below, here, words(measure))
        _legend(figure, axes, shown)
        _caption(figure, _seeds(shown), _objective(shown, band=True), left_out)
    return path


def _unsolved(shown: Shown) -> tuple[Shown, str]:
    """Without the settings that leave nothing to do, and a sentence that names these."""
    if not isinstance(shown.grid.objective, Constrained):
        return shown, ""
    done, keys = shown.done, [*GROUP, "measure"]
    originals = done[done["method"] == ORIGINAL].groupby(keys, sort=False)["test_objective"]
    scores = originals.agg(lower_median)
    solved = scores[scores > 0].index
    if solved.empty:
        return shown, ""
    if len(solved) == done.groupby(keys).ngroups:
        return shown, "The original network already scores in every setting; all are shown."
    kept = shown.where(~pd.MultiIndex.from_frame(done[keys]).isin(solved))
    measures: dict[str, list[str]] = {}
    for *group, measure in solved:
        measures.setdefault(shown.names[tuple(group)], []).append(words(measure))
    names = "; ".join(f"{name}, {' and '.join(found)}" for name, found in measures.items())
    return kept, f"Left out, as the original network already scores: {names}."


# --- around the panels ----------------------------------------------------------------------------


@contextmanager
def _panels(
    path: Path, widest: Shown, columns: int, heights: tuple[float, ...]
) -> Iterator[tuple[Figure, list[tuple[Any, ...]]]]:
    """A figure, and for each column its panels from top to bottom; written when the block ends."""
    crowded = widest.most_bars > MOST_BARS
    across = 1 if crowded else min(columns, MOST_COLUMNS)
    blocks = -(-columns // across)
    with matplotlib.rc_context(LOOK):
        size = WIDTHS[MOST_COLUMNS if crowded else across], sum(heights) * blocks + 2 * LINE
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)  # type: ignore[union-attr, call-arg]
        rows = figure.subplots(
            len(heights) * blocks, across, squeeze=False, height_ratios=heights * blocks
        )
        by_column = np.asarray(rows).reshape(blocks, len(heights), across)
        found = [tuple(block[:, column]) for block in by_column for column in range(across)]
        for unused in found[columns:]:
            for axes in unused:
                axes.remove()
        yield figure, found[:columns]
        _grow(figure, sum(max(_below(axes) for axes in row if axes.get_figure()) for row in rows))
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150)


def _grow(figure: Figure, inches: float) -> None:
    """Room for text that is not taken from the panels."""
    figure.set_figheight(figure.get_figheight() + inches)


def _below(axes: Any) -> float:
    """The height of the names below the bars, beyond a line."""
    lines = [label.get_text().splitlines() for label in axes.get_xticklabels()]
    if any(label.get_rotation() for label in axes.get_xticklabels()):
        return LETTER * max(len(line) for each in lines for line in each)
    return LINE * (max(map(len, lines), default=1) - 1)


def _legend(
    figure: Figure, axes: Sequence[tuple[Any, ...]], shown: Shown, *, planes: bool = False
) -> None:
    """Methods, the constant classifier, and the shapes of the planes' points, above the panels."""
    entries: list[tuple[str, Any]] = []  # a network may be called like a method
    for method in shown.methods:
        style = shown.styles[method]
        letter = f" ({style.letter})" if planes and style.letter else ""
        entries.append((method + letter, style.handles(points=planes)))
    if (shown.done["method"] == CONSTANT).any():
        entries.append((CONSTANT, constant_handles(points=planes)))
    if any(line.get_label() == ZERO for panel in axes for one in panel for line in one.lines):
        entries.append((ZERO, zero_handle()))
    if planes:
        entries += [(shown.names[key], shape_handle(shape)) for key, shape in shapes(shown).items()]
    labels = [fill(label, 44) for label, _ in entries]
    lines = [line for label in labels for line in label.splitlines()]
    columns = max(1, int(figure.get_figwidth() / (LETTER * max(map(len, lines)) + 0.9)))
    figure.legend(
        handles=[handle for _, handle in entries],
        labels=labels,
        loc="outside upper center",
        ncols=columns,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.4)},
        handlelength=3.2 if planes else 2.2,
        handleheight=1.2,
        frameon=False,
    )
    _grow(figure, LINE * -(-len(lines) // columns))


def _caption(figure: Figure, *sentences: str) -> None:
    text = fill(" ".join(filter(None, sentences)), int(figure.get_figwidth() * 14.5))
    figure.supxlabel(text, x=0.01, ha="left", fontsize=9)
    _grow(figure, LINE * (text.count("\n") + 1))


def _seeds(shown: Shown, *, planes: bool = False) -> str:
    """How many seeds a bar has, and what is drawn of their spread."""
    low, high = shown.seeds.min(), shown.seeds.max()
    n = f"{low}" if low == high else f"{low} to {high}"
    text = "Each bar and point" if planes else "Each bar"
    text += f": {n} {'seed' if high == 1 else 'seeds'}"
    text += ", no error bars." if high == 1 else "; error bars: one standard deviation over seeds."
    if shown.done.loc[shown.done["method"] != CONSTANT, "test_bias"].isna().any():
        text += " Seeds in which a measure is undefined are left out of its mean."
    drawn = shown.methods
    absent = [method.name for method in shown.grid.methods if method.name not in drawn]
    return text + (f" No result to draw: {'; '.join(absent)}." if absent else "")


def _objective(shown: Shown, *, band: bool = False, contours: bool = False) -> str:
    """What the objective is, and what is drawn of it beside the bars."""
    objective = shown.grid.objective
    good = words(objective.performance_measure.name)
    if isinstance(objective, Constrained):
        text = f"Objective: {good} where |bias| < {objective.epsilon:g}"
        text += " (green), 0 elsewhere" if band else ", 0 elsewhere"
        if shown.most_seeds > 1:
            text += "; no error bars on medians"
        text += ", of two middle seeds the lower." if (shown.seeds % 2 == 0).any() else "."
    else:
        text = f"Objective: {objective.lam:g} |bias| + {1 - objective.lam:g} (1 - {good})"
        text += ", in the planes as contours." if contours else "."
    if any(metrics.get(measure).ideal == 1 for measure in shown.measures):
        text += " The bias of a ratio is 1 minus the ratio, or minus its inverse if that is less."
    return text
