"""The figures of `fairnn`: the paper's 2 to 6, and accuracy against the certified difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from retrofair.files import replacing
from retrofair.plots import COLOURS, MARKERS
from retrofair.studies.fairnn.cells import CERTIFIED, RELEASED, SWEEP
from retrofair.studies.fairnn.shown import (
    OPEN,
    PUBLISHED,
    PUBLISHED_RANGE,
    PUBLISHED_START,
    Setting,
    Shown,
    numbers,
)

BLUE, ORANGE, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], "#777777"


def draw(folder: Path, shown: Shown, done: pd.DataFrame, setting: Setting) -> list[Path]:
    """Every figure whose cells are there."""
    made, name = [], setting.name
    if len(done):
        made.append(accuracy(folder / f"{name}.png", done))
    if shown.all("sweep"):
        made.append(sweep(folder / f"{name}-epsilon.png", shown, setting))
    if shown.all("starts"):
        made.append(starts(folder / f"{name}-starts.png", shown, setting))
    if shown.all("descent"):
        made.append(descent(folder / f"{name}-descent.png", shown, setting))
    if shown.all("landscape"):
        made.append(landscape(folder / f"{name}-landscape.png", shown))
    return made


def accuracy(path: Path, done: pd.DataFrame) -> Path:
    """Squared error on test rows against the certified delta: means, bars one deviation.

    Where certificates stay open, the horizontal bar goes from what was found to what was proved.
    """
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    axes = figure.add_subplot()
    methods = list(dict.fromkeys(done["method"]))
    models = list(dict.fromkeys(done["model"]))
    handles = []
    for k, method in enumerate(methods):
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        look: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 8}
        handles.append(Line2D([], [], linestyle="", label=method, **look))
        for model in models:
            part = done[(done["method"] == method) & (done["model"] == model)]
            if part.empty:
                continue
            x, y = part["certified_upper"], part["mse_test"]
            left = right = x.std() if len(part) > 1 else 0.0
            if part["certified_gap"].max() > OPEN:
                left, right = x.mean() - part["certified_lower"].mean(), 0.0
            axes.errorbar(
                x.mean(),
                y.mean(),
                xerr=[[left], [right]],
                yerr=y.std() if len(part) > 1 else 0,
                markerfacecolor=colour if model == models[0] else "white",
                capsize=2,
                linewidth=1,
                **look,
            )
    for k, model in enumerate(models):
        face = GREY if k == 0 else "white"
        handles.append(
            Line2D([], [], ls="", label=f"model: {model}", marker="o", color=GREY, mfc=face)
        )
    constant = done["constant_mse"].mean()
    axes.axhline(constant, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        "error of the constant model",
        (0.99, constant),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color=GREY,
    )
    axes.set(yscale="log", xlabel="certified delta (proved upper bound)", ylabel="MSE, test rows")
    axes.set_yticks([10, 20, 50, 100, 200, 500], minor=False)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    return _saved(figure, path)


def sweep(path: Path, shown: Shown, setting: Setting) -> Path:
    """Figure 2: delta by epsilon of random weights."""
    found = shown.seeds("sweep")
    figure = Figure(figsize=(4.4 * len(found), 4), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (seed, values) in zip(panels, found.items(), strict=True):
        upper = [c["upper"] for c in values["certificates"]]
        lower = [c["lower"] for c in values["certificates"]]
        axes.plot(CERTIFIED, upper, color=ORANGE, marker="v", label="whole domain: proved, at most")
        axes.plot(
            CERTIFIED, lower, color=ORANGE, marker="^", linestyle=":", label="found, at least"
        )
        axes.plot(SWEEP, numbers(values["sigmoid"]), color=BLUE, label="rows of the data")
        label = "rows, released code's sigmoid"
        axes.plot(SWEEP, numbers(values["released"]), color=GREEN, ls="--", label=label)
        axes.set_title(f"random draw, seed {seed}", fontsize=10)
        axes.set(xlabel="epsilon", ylim=(0, 1.08 * setting.range))
        _plain(axes)
    panels[0].set_ylabel("delta")
    panels[0].legend(fontsize=7, frameon=False)
    return _saved(figure, path)


def starts(path: Path, shown: Shown, setting: Setting) -> Path:
    """Figures 3 and 4: delta of random draws in descending order, and the best draw's weights."""
    found = shown.all("starts")
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for k, values in enumerate(found):
        ranks = range(1, len(values["sigmoid"]) + 1)
        upper = sorted((c["upper"] for c in values["certificates"]), reverse=True)
        marks: dict[str, Any] = {
            "marker": MARKERS[k % len(MARKERS)],
            "markersize": 4,
            "linewidth": 1,
        }
        left.plot(ranks, upper, color=ORANGE, **marks)
        left.plot(ranks, sorted(values["sigmoid"], reverse=True), color=BLUE, **marks)
        left.plot(ranks, sorted(values["released"], reverse=True), color=GREEN, ls="--", **marks)
    if setting.published:
        for value in PUBLISHED_RANGE:
            left.axhline(value, color=GREY, linestyle=":", linewidth=1)
        left.annotate(
            "published: from close to 10 to over 40",
            (1, PUBLISHED_RANGE[0]),
            fontsize=8,
            xytext=(0, 3),
            textcoords="offset points",
            color=GREY,
        )
    kinds = {"whole domain, proved": ORANGE, "rows": BLUE, "rows, released code's sigmoid": GREEN}
    left.legend(
        handles=[Line2D([], [], color=colour, label=kind) for kind, colour in kinds.items()],
        fontsize=8,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 0.26),
    )
    left.set(
        xlabel="random draw, sorted; a line and marker per seed", ylabel="delta", ylim=(0, None)
    )
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_title("Random draws", fontsize=10)
    _plain(left)
    best, (_, first) = found[0], min(key for key in shown.values if key[0] == "starts")
    chosen = int(np.argmin(best["sigmoid"]))
    weights = shown.tensors["starts", first]["draws"][chosen].numpy()
    names = [*best["columns"], "b"]
    places = np.arange(len(names))
    right.bar(
        places - 0.2,
        weights,
        0.4,
        color=BLUE,
        label=f"best of {len(best['sigmoid'])} draws, delta {best['sigmoid'][chosen]:.2f}",
    )
    if setting.published and len(RELEASED) == len(names):
        right.bar(places + 0.2, RELEASED, 0.4, color=GREEN, label="in the released code")
    right.set_xticks(places, names, rotation=90, fontsize=8)
    right.axhline(0, color="#999999", linewidth=0.8)
    published = f" (published: a draw with delta {PUBLISHED_START})" if setting.published else ""
    right.set_title(f"Selected weights{published}", fontsize=10)
    right.legend(fontsize=8, frameon=False)
    _plain(right)
    return _saved(figure, path)


def descent(path: Path, shown: Shown, setting: Setting) -> Path:
    """Figure 5: what the simulated gradient sees, and what delta is."""
    found = shown.all("descent")
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    titles = {"released": "with the released code's sigmoid", "sigmoid": "with the sigmoid"}
    places = {"all": "all rows", "resampled": "rows resampled"}
    for axes_row, (squash, title) in zip(panels, titles.items(), strict=True):
        for axes, (place, where) in zip(axes_row, places.items(), strict=True):
            for values in found:
                trace = values[squash][place]
                axes.plot(trace["true"], color=GREY, linewidth=0.8, linestyle=":")
                axes.plot(trace["seen"], color=BLUE, linewidth=1)
            if squash == "released" and setting.published:
                points = np.array(PUBLISHED[place])
                axes.plot(*points.T, linestyle="", marker="X", color=ORANGE, markersize=9)
            axes.set_title(f"{title}, {where}", fontsize=10)
            axes.set(ylim=(0, None))
            _plain(axes)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[:, 0]:
        axes.set_ylabel("delta")
    handles = [
        Line2D([], [], color=BLUE, label="delta as the search sees it (a line per start)"),
        Line2D([], [], color=GREY, ls=":", label="delta of the same weights, sigmoid, all rows"),
    ]
    if setting.published:
        label = "published, as far as in the text"
        handles.append(Line2D([], [], color=ORANGE, marker="X", ls="", label=label))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    return _saved(figure, path)


def landscape(path: Path, shown: Shown) -> Path:
    """Figure 6: delta over the length of w and b, and what it costs."""
    (place,) = [key for key in shown.tensors if key[0] == "landscape"]
    tensors, values = shown.tensors[place], shown.values[place]
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    names = {
        "sigmoid": "delta, sigmoid",
        "released": "delta, released code's sigmoid",
        "mse": "MSE on the same rows",
    }
    factors, biases = (tensors[name].numpy() for name in ("factors", "biases"))
    for axes, (name, title) in zip(panels, names.items(), strict=True):
        mesh = axes.pcolormesh(
            biases,
            factors,
            tensors[name].numpy(),
            cmap="viridis",
            shading="nearest",
            rasterized=True,
        )
        figure.colorbar(mesh, ax=axes)
        axes.plot(
            values["bias"], 1, marker="X", color=ORANGE, markersize=9, markeredgecolor="white"
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("b")
    panels[0].set_ylabel("w, in lengths of the best draw's")
    return _saved(figure, path)


def _plain(axes: Axes) -> None:
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)


def _saved(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path
