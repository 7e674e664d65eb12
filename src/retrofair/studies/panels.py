"""The panels of the studies' figures: bars, and the plane of bias and performance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from retrofair import metrics
from retrofair.metrics import Array, Measure
from retrofair.objective import Constrained, Weighted
from retrofair.plots import MARKERS, allowed
from retrofair.studies.pages import lower_median
from retrofair.studies.results import CONSTANT
from retrofair.studies.shown import Key, Shown, words
from retrofair.studies.styles import DARK

BAND = "#DDEFD5"
ZERO = "scores 0"
MOST_WIDTH = 0.2  # of a bar, where the distance of groups is 1
HALO = [withStroke(linewidth=1.9, foreground="white")]  # lines stay visible on black bars
EDGE: dict[str, Any] = {"markeredgecolor": DARK, "markeredgewidth": 0.6}
CONSTANT_LINE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.4}
CONSTANT_POINT: dict[str, Any] = {  # half black, unlike every method
    "fillstyle": "bottom",
    "markerfacecolor": "black",
    "markerfacecoloralt": "white",
    "markeredgecolor": "black",
    "markersize": 8,
}


def objective_panel(axes: Any, shown: Shown, title: str) -> None:
    """Bars of the objective: means, but medians where it is a score or 0."""
    objective = shown.grid.objective
    median = isinstance(objective, Constrained)
    bars(axes, shown, "test_objective", centre=lower_median if median else np.mean)
    better = "higher" if objective.maximise else "lower"
    what = "" if shown.most_seeds == 1 else "median " if median else "mean "
    _title(axes, title, f"{what}objective on test data ({better} is better)")


def bias_panel(axes: Any, shown: Shown, measure: str) -> None:
    """Bars of the bias from its ideal, with the bound as a band."""
    ideal = metrics.get(measure).ideal
    bars(axes, shown, "test_bias", start=ideal)
    if isinstance(shown.grid.objective, Constrained):
        low, high = allowed(ideal, shown.grid.objective.epsilon)
        axes.set_ylim(*_view(axes.get_ylim(), ideal, low))
        axes.axhspan(low, high, color=BAND, zorder=0)
    axes.axhline(ideal, color=DARK, linewidth=0.8)
    what = "" if shown.most_seeds == 1 else "mean "
    _title(axes, words(measure), f"{what}on test data ({ideal:g} is fair)")


def bars(
    axes: Any,
    shown: Shown,
    value: str,
    *,
    centre: Callable[[Array], Any] = np.mean,
    start: float = 0.0,
) -> None:
    """Bars by group and method from `start`; the constant classifier as a dashed line.

    Means have standard deviations where there are two seeds or more; medians have none.
    """
    position = {key: index for index, key in enumerate(shown.names)}
    methods = shown.methods
    width = min(0.86 / len(methods), MOST_WIDTH)
    for index, method in enumerate(methods):
        style = shown.styles[method]
        for key, values in shown.values(value, method).items():
            x = position[key] + (index - (len(methods) - 1) / 2) * width
            height = float(centre(values))
            axes.bar(x, height - start, width, start, zorder=2, **style.bar)
            if centre is not lower_median:
                arms = _error_bars(axes, x, height, color=DARK, yerr=_deviation(values))
                for arm in arms:
                    arm.set_path_effects(HALO)
            elif height == 0:  # or it would look like a bar that was not run
                at = {"clip_on": False, "zorder": 3, "label": ZERO}
                axes.plot(x, 0, "X", markersize=4.5, markerfacecolor=style.colour, **EDGE, **at)
    for key, values in shown.values(value, CONSTANT).items():
        reach = width * len(methods) / 2 + 0.04
        ends = position[key] - reach, position[key] + reach
        line = axes.hlines(float(centre(values)), *ends, zorder=4, **CONSTANT_LINE)
        line.set_path_effects(HALO)
    axes.set_xlim(-0.55, len(position) - 0.45)
    _name_groups(axes, list(shown.names.values()))
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)


def plane(axes: Any, shown: Shown, measure: str, shapes: Mapping[Key, str]) -> None:
    """Mean bias against mean performance, with the objective's contours in black."""
    for order, method in enumerate((CONSTANT, *shown.methods)):
        biases = shown.values("test_bias", method)
        goods = shown.values("test_performance", method)
        for key in [key for key in biases if key in goods]:
            x, y = biases[key].mean(), goods[key].mean()
            if method == CONSTANT:
                look, colour, letter = CONSTANT_POINT, "black", ""
            else:
                style = shown.styles[method]
                look, colour, letter = style.point, style.colour, style.letter
            arms = {"xerr": _deviation(biases[key]), "yerr": _deviation(goods[key])}
            _error_bars(axes, x, y, color=colour, **arms)
            # a point hides the letters of those below it
            axes.plot(x, y, shapes[key], zorder=4 + order / 100, label=method, **look)
            middle = {"ha": "center", "va": "center_baseline", "fontsize": 6.5}
            axes.annotate(letter, (x, y), zorder=4.005 + order / 100, **middle)
    _yardsticks(axes, metrics.get(measure), shown.grid.objective)
    axes.set_xlabel(f"{words(measure)} on test data ({metrics.get(measure).ideal:g} is fair)")
    good = shown.grid.objective.performance_measure.name
    axes.set_ylabel(f"{words(good)} on test data")


def _yardsticks(axes: Any, measure: Measure, objective: Constrained | Weighted) -> None:
    """The ideal, and the objective as contours or as a band."""
    axes.margins(0.06)
    if measure.ideal == 1:  # no ratio is below 0
        axes.set_xlim(left=max(axes.get_xlim()[0], 0))
    axes.axvline(measure.ideal, color="#777777", linewidth=0.8, zorder=1)
    if isinstance(objective, Constrained):
        low, high = allowed(measure.ideal, objective.epsilon)
        axes.set_xlim(*_view(axes.get_xlim(), measure.ideal, low))
        axes.axvspan(low, high, color=BAND, zorder=0)
        return
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    across = np.union1d(np.linspace(left, right, 201), measure.ideal)  # contours bend there
    x, y = np.meshgrid(across[(left <= across) & (across <= right)], np.linspace(bottom, top, 201))
    lam = objective.lam
    cost = lam * unfair(measure.ideal, x) + (1 - lam) * (1 - y)
    lines = axes.contour(x, y, cost, 9, colors="black", linewidths=0.6, alpha=0.6, zorder=1)
    for label in axes.clabel(lines, fontsize=7, fmt="%.3g", inline=False, colors="#444444"):
        label.set(alpha=1, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        place = axes.transAxes.inverted().transform(axes.transData.transform(label.get_position()))
        label.set_visible(bool(np.all((place > 0.05) & (place < 0.95))))  # or the edge would cut it


def shapes(shown: Shown) -> dict[Key, str]:
    """A marker for each group, the same in all planes of a figure."""
    known = (*MARKERS, "p", "*", "h", "d")
    return {key: known[index % len(known)] for index, key in enumerate(shown.names)}


# --- small parts ----------------------------------------------------------------------------------


def constant_handles(*, points: bool) -> tuple[Line2D, ...]:
    """The constant classifier in a legend: its line over bars, and its point in planes."""
    line = Line2D([], [], **CONSTANT_LINE)
    return (line, Line2D([], [], linestyle="", marker="o", **CONSTANT_POINT)) if points else (line,)


def zero_handle() -> Line2D:
    return Line2D([], [], linestyle="", marker="X", markersize=6, markerfacecolor="white", **EDGE)


def shape_handle(shape: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=shape, color="#555555", markersize=7)


def _deviation(values: Array) -> float | None:
    """The standard deviation over seeds; one seed has none."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _error_bars(
    axes: Any, x: float, y: float, *, color: str, **lengths: float | None
) -> tuple[Any, ...]:
    known = {name: length for name, length in lengths.items() if length is not None}
    if not known:
        return ()
    thin = {"elinewidth": 0.8, "capsize": 1.5, "zorder": 3}
    _, caps, lines = axes.errorbar(x, y, fmt="none", ecolor=color, **thin, **known)
    return (*caps, *lines)


def _name_groups(axes: Any, names: list[str]) -> None:
    """Groups below the bars, on several lines or upright where there is little room."""
    room = _letters(axes) // len(names)
    upright = room < 7
    if max(map(len, names)) > room and not upright:  # then all break at the same place
        names = [name.replace(" (", "\n(") for name in names]
    lines = [[fill(part, 28 if upright else room) for part in name.split("\n")] for name in names]
    axes.set_xticks(range(len(names)), ["\n".join(parts) for parts in lines])
    axes.tick_params(axis="x", length=0, pad=6, labelrotation=90 if upright else 0)


def _view(limits: tuple[float, float], ideal: float, low: float) -> tuple[float, float]:
    """Limits with the band from `low` in them; that of a ratio may reach too far to show whole."""
    return min(limits[0], low), max(limits[1], 2 * ideal - low)


def _title(axes: Any, what: str, text: str) -> None:
    """On one line where there is room."""
    line, room = f"{what}: {text}", _letters(axes)
    axes.set_title(line if len(line) <= room else f"{fill(what, room)}\n{fill(text, room)}")


def _letters(axes: Any) -> int:
    """How many letters fit along a panel."""
    return int(axes.get_figure().get_figwidth() / axes.get_gridspec().ncols * 12)


# --- numbers --------------------------------------------------------------------------------------


def unfair(ideal: float, values: Array) -> Array:
    """The bias of a measure's values; a ratio is as unfair as its inverse."""
    if ideal == 0:
        return np.abs(values)
    positive = np.maximum(values, 1e-9)
    return np.asarray(1 - np.minimum(positive, 1 / positive))
