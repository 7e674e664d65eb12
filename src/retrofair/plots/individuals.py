"""Pictures for individuals: certified differences, and the rounds of a repair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrofair.certifiers import Curve
from retrofair.individual import Repair, RepairStatus
from retrofair.metrics import Array
from retrofair.plots.style import COLOURS, handle, saved

FAR = 30  # times: bounds on a straight axis are hard to see beside each other
ENDS = {
    RepairStatus.MET: "target met",
    RepairStatus.FLOOR: "not met above the floor",
    RepairStatus.BUDGET: "not met in all rounds",
    RepairStatus.INTERRUPTED: "interrupted",
}


def delta_curve(
    curve: Curve,
    path: str | Path,
    *,
    title: str,
    delta: float | None = None,
    epsilon: float | None = None,
    what: str = "probability",
) -> Path:
    """Draw what is certified, what was found and what the rows show, against epsilon.

    Between two epsilons the bounds are drawn as what is proved there: the upper one of the next
    epsilon, the lower one of the last.

    Args:
        delta: draws the difference that was asked about.
        epsilon: marks the epsilon of the certificate itself.
        what: the scale of the differences.
    """
    at, lower, upper = curve.epsilons, curve.lower, curve.upper
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.add_subplot()
    for i in range(len(at) - 1):
        axes.fill_between(
            at[i : i + 2], lower[i], upper[i + 1], color="#DCE9F3", linewidth=0, zorder=1
        )
    axes.step(at, upper, where="pre", color=COLOURS[0], linewidth=1.6, zorder=3)
    axes.plot(at, upper, "v", color=COLOURS[0], markersize=7, zorder=4)
    axes.step(at, lower, where="post", color=COLOURS[1], linewidth=1.6, zorder=3)
    axes.plot(at, lower, "^", color=COLOURS[1], markersize=7, zorder=4)
    handles = [
        handle("v", COLOURS[0], "certified: no similar pair differs by more"),
        handle("^", COLOURS[1], "found: a similar pair differs by this much"),
    ]
    if curve.empirical:
        seen = np.array([each.delta for each in curve.empirical])
        axes.step(at, seen, where="post", color=COLOURS[2], linestyle=":", zorder=3)
        axes.plot(at, seen, "o", color=COLOURS[2], markersize=6, zorder=4)
        missing = " (where two are similar)" if np.isnan(seen).any() else ""
        handles.append(handle("o", COLOURS[2], f"in the data: between its rows{missing}", ":"))
    if delta is not None:
        axes.axhline(delta, color="#666666", linestyle="--", linewidth=1.2, zorder=2)
        handles.append(handle("", "#666666", f"asked about: delta = {delta:g}", "--"))
    if epsilon is not None:
        axes.axvline(epsilon, color="#999999", linewidth=0.8, zorder=0)
        handles.append(handle("", "#999999", f"the certificate: epsilon = {epsilon:g}"))
    _fit_heights(axes, lower, upper, delta, what)
    axes.set_xlabel("epsilon: how far apart two people may be and still count as similar")
    axes.set_ylabel(f"largest difference in {what}")
    axes.set_title(title, fontsize=11)
    axes.grid(color="#EEEEEE", zorder=0)
    axes.set_axisbelow(True)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return saved(figure, path)


def repair_history(found: Repair, path: str | Path, *, title: str) -> Path:
    """Draw the proved interval and the performance of every round, with target and floor."""
    figure = Figure(figsize=(8, 6.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _differences(top, found)
    _performances(bottom, found)
    names = [
        "original" if r.lam is None else f"{r.number}\nlam = {r.lam:.3g}" for r in found.history
    ]
    bottom.set_xticks(range(len(names)), names)
    bottom.set_xlim(-0.5, len(names) - 0.5)
    bottom.set_xlabel("round of fine-tuning; the shaded one is returned")
    for axes in (top, bottom):
        axes.axvspan(found.best - 0.3, found.best + 0.3, color="#F1F1F1", zorder=0)
        axes.grid(color="#EEEEEE", zorder=0)
        axes.set_axisbelow(True)
    top.set_title(f"{title}\n{ENDS[found.status]}", fontsize=11)
    figure.legend(
        handles=[
            handle("v", COLOURS[0], "certified: no similar pair differs by more", ""),
            handle("^", COLOURS[1], "found: a similar pair differs by this much", ""),
            handle("", COLOURS[2], f"target: delta = {found.delta:g}", "--"),
            handle("o", COLOURS[6], f"on {found.rows:,} validation rows, 95 % interval", ""),
            *([] if found.floor is None else [handle("", COLOURS[3], "floor", "--")]),
            handle("", "#888888", "the best constant", ":"),
        ],
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        frameon=False,
    )
    return saved(figure, path)


def _differences(axes: Axes, found: Repair) -> None:
    """The intervals; one without an upper end is drawn to the top."""
    at = np.arange(len(found.history))
    lower = np.array([r.lower for r in found.history])
    upper = np.array([r.upper for r in found.history])
    ends = np.concatenate([upper[np.isfinite(upper)], lower, [found.delta]])
    ceiling = float(ends.max()) * 1.1
    drawn = np.where(np.isfinite(upper), upper, ceiling)
    axes.vlines(at, lower, drawn, color="#9DBFD8", linewidth=6, zorder=2)
    axes.plot(at[np.isfinite(upper)], upper[np.isfinite(upper)], "v", color=COLOURS[0], zorder=4)
    axes.plot(at, lower, "^", color=COLOURS[1], zorder=4)
    axes.axhline(found.delta, color=COLOURS[2], linestyle="--", linewidth=1.4, zorder=3)
    axes.set_ylim(-0.02 * ceiling, ceiling)
    what = "probability" if found.certificate.outputs == "probabilities" else "output"
    axes.set_ylabel(f"largest difference in {what}")


def _performances(axes: Axes, found: Repair) -> None:
    name = "mse" if found.regression else "balanced_accuracy"
    values = np.array([getattr(r.performance, name) for r in found.history])
    limits = np.array([getattr(r.performance, f"{name}_interval") for r in found.history]).T
    beyond = np.abs(limits - values)
    at = np.arange(len(values))
    axes.errorbar(at, values, beyond, fmt="o", color=COLOURS[6], ecolor="#AAAAAA", capsize=3.0)
    axes.axhline(getattr(found.constant, name), color="#888888", linestyle=":", zorder=3)
    if found.floor is not None:
        axes.axhline(found.floor, color=COLOURS[3], linestyle="--", linewidth=1.4, zorder=3)
    axes.set_ylabel("mean squared error" if found.regression else "balanced accuracy")
    axes.margins(y=0.15)


def _fit_heights(axes: Axes, lower: Array, upper: Array, delta: float | None, what: str) -> None:
    """Limits of the vertical axis; a logarithmic one where the bounds are far apart."""
    known = np.concatenate([upper[np.isfinite(upper)], lower, [delta or 0.0]])
    top = float(known.max()) * 1.06 or 1.0
    if what == "probability":
        axes.set_ylim(-0.02 * top, min(top, 1.03))
    elif 0 < lower.max() < top / FAR:
        axes.set_yscale("symlog", linthresh=float(lower.max()) / 10)
        axes.set_ylim(0, 2 * top)
    else:
        axes.set_ylim(-0.02 * top, top)
