"""Pictures for groups: bias against performance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from retrofair.audit import Estimate
from retrofair.metrics import Array
from retrofair.plots.style import COLOURS, MARKERS, saved


@dataclass(frozen=True)
class Point:
    """One network or rule: its bias and performance, each with an interval."""

    name: str
    bias: Estimate
    performance: Estimate


def bias_performance(
    points: Sequence[Point],
    path: str | Path,
    *,
    title: str,
    epsilon: float | None = None,
    optimum: tuple[Array, Array] | None = None,
) -> Path:
    """Draw points with their intervals, the bound on the bias, and the known optimum if any.

    Args:
        epsilon: draws the band of allowed bias.
        optimum: bounds on the bias and the best performance at each, both (k,).
    """
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.add_subplot()
    ideal = points[0].bias.ideal if points else 0.0
    if epsilon is not None:
        axes.axvspan(*allowed(ideal, epsilon), color="#E8F1E4", zorder=0)
        axes.annotate(
            f"within {epsilon:g}",
            (ideal, 0.01),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=8,
            color="#55704A",
        )
    axes.axvline(ideal, color="#999999", linewidth=0.8, zorder=0)
    if optimum is not None:
        bounds, best = optimum
        both = np.concatenate([-bounds[::-1], bounds]), np.concatenate([best[::-1], best])
        axes.plot(*both, color="#777777", linestyle="--", linewidth=1.2, zorder=1)
        axes.annotate(
            "best possible",
            (bounds[len(bounds) // 2], best[len(best) // 2]),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
            color="#666666",
            ha="center",
        )
    for index, point in enumerate(points):
        bias, good = point.bias, point.performance
        axes.errorbar(
            bias.value,
            good.value,
            xerr=_arms(bias),
            yerr=_arms(good),
            fmt=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            markersize=8,
            capsize=3,
            linewidth=1.2,
            label=point.name,
        )
    if points:
        axes.set_xlabel(f"{points[0].bias.name} on test data ({ideal:g} is fair), 95 % interval")
        axes.set_ylabel(f"{points[0].performance.name.replace('_', ' ')}, 95 % interval")
    axes.set_title(title, fontsize=11)
    axes.grid(color="#EEEEEE", zorder=0)
    axes.set_axisbelow(True)
    figure.legend(loc="outside right center", fontsize=9, frameon=False)
    return saved(figure, path)


def allowed(ideal: float, epsilon: float) -> tuple[float, float]:
    """The values of a measure whose bias is below epsilon."""
    if ideal == 0:
        return -epsilon, epsilon
    return 1 - epsilon, 1 / max(1 - epsilon, 1e-9)


def _arms(estimate: Estimate) -> Array:
    """Lengths below and above the value, (2, 1)."""
    arms = np.array([estimate.value - estimate.low, estimate.high - estimate.value])
    return np.asarray(np.nan_to_num(np.maximum(arms, 0))[:, None])
