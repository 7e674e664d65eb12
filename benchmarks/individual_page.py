"""The page of individual.py: tables, findings and the picture, from the rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from individual_cells import (
    BOUND,
    EPSILON,
    GAP,
    METHODS,
    MORE_SPARSITY,
    OURS,
    RIVALS,
    SECONDS,
    SECONDS_OURS,
    SEEDS,
    SETS,
    SMALL,
    SPARSITY,
    WIDTHS,
)
from individual_rows import CONSTANT, Key, Row

from retrofair.studies.pages import table

MORE = ", ".join(
    f"{value:g} for {data} at lambda {lam:g}" for (data, lam), value in MORE_SPARSITY.items()
)
INTRO = (
    f"Two hidden layers, ReLU; epsilon {EPSILON:g} in l_inf on the columns as the network takes "
    "them, the protected column free, the box around the training rows. Every network but "
    "`unaware` is trained on from the plain one, which knows the loss alone. `lambda`: lambda * "
    f"loss + (1 - lambda) * |f(x) - f(x*)|, {BOUND:.0%} of the second term a proved bound, and "
    f"sparsity {SPARSITY:g} ({MORE}, by the first seed's certificate and validation rows; the "
    "table by itself: [individual.csv](individual.csv)). Its parts alone: `attack 0.5` is lambda "
    f"0.5 without bound and sparsity, `sparse` the loss alone with sparsity {SPARSITY:g}. "
    "`unaware`: the protected column is 0 for the network. Performance on test rows; the epoch is "
    "chosen by validation rows. Delta in probability (boston: in 1,000 dollars): over pairs of "
    "test rows within epsilon (undefined "
    "where there are none), and over everybody in the box: at least, by a pair, and at most, by "
    f"branch and bound in {SECONDS_OURS:g} s for lambda's networks and {SECONDS:g} s for the "
    "others, whose upper ends more time would lower; their lower ends are what they have to be "
    f"judged by. Tight: a gap of {GAP:.0%}, or {SMALL:g}, at which it stops. Mean +- standard "
    "deviation over seeds, which share rows. A delta of 0 need not be a constant's: a network that "
    "reads only columns in which similar people are alike, such as categories, has it too; its "
    "balanced accuracy tells."
)
SHOWN = 1e-4  # the smallest delta that the picture tells apart: less is shown there
LOADED = "beside other work (median load {:.0f} on two cores)"


def page(rows: dict[Key, Row], picture: Path) -> str:
    draw(rows, picture)
    tables = [tables_of(rows, data) for data in SETS]
    return "\n\n".join(
        [
            INTRO,
            rivals_of(rows),
            f"![Error against delta]({picture.name})",
            "\n".join(f"- {each}" for each in findings(rows)),
            *filter(None, tables),
        ]
    )


def tables_of(rows: dict[Key, Row], data: str) -> str:
    """What was found on one data set; empty where nothing was."""
    here = [row for row in rows.values() if row.data == data]
    if not here:
        return ""
    first = "MSE" if data == "boston" else "accuracy"
    head = ["widths", "method", "seeds", first, "bal. accuracy", "rows", "at least", "at most"]
    head += ["tight", "trained, s", "certified, s"]
    n = ", ".join(map(str, sorted({row.n for row in here})))
    title = f"## {data}, {SETS[data]} free\n\nTest rows: {n}."
    return title + "\n\n" + table(head, map(line_of, here))


def line_of(row: Row) -> list[str]:
    start, good = [row.widths, row.method], spread(row.good, row.good_sd)
    if row.method == CONSTANT:
        even = "-" if math.isnan(row.balanced) else "0.5"
        return [*start, "", good, even, *["0"] * 3, *[""] * 3]
    defined = row.rows_defined
    note = f" ({defined} of {row.seeds} defined)" if 0 < defined < row.seeds else ""
    return [
        *start,
        str(row.seeds),
        good,
        spread(row.balanced, row.balanced_sd, "-"),
        spread(row.rows, row.rows_sd) + note,
        spread(row.lower, row.lower_sd),
        spread(row.upper, row.upper_sd),
        f"{row.tight} of {row.seeds}",
        f"{row.trained:.0f}",
        f"{row.certified:.0f}",
    ]


def spread(mean: float, deviation: float, without: str = "undefined") -> str:
    if math.isnan(mean):
        return without
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} +- {deviation:.3f}"


def findings(rows: dict[Key, Row]) -> Iterator[str]:
    for widths in map(str, map(list, WIDTHS)):
        ours = [r for r in rows.values() if r.method in OURS and r.widths == widths]
        if ours:
            load = statistics.median(r.load for r in ours)
            yield (
                f"{widths}: {sum(r.tight for r in ours)} of {sum(r.seeds for r in ours)} "
                f"certificates of lambda's networks are tight within {SECONDS_OURS:g} s, "
                f"{LOADED.format(load)}."
            )
    for data in SETS:
        here = [r for r in rows.values() if r.data == data]
        if plains := [r for r in here if r.method == "plain"]:
            yield f"{data}: " + "; ".join(compared(here, plains, data))


def compared(here: list[Row], plains: list[Row], data: str) -> Iterator[str]:
    """The networks of a data set in a few words, means over widths and seeds."""
    name, digits = ("mse", 1) if data == "boston" else ("accuracy", 3)
    yield (
        f"plain {mean(plains, 'good'):.{digits}f} {name}, "
        f"delta at least {mean(plains, 'lower'):.3f}"
    )
    for method in METHODS[1:]:
        of = [r for r in here if r.method == method]
        if sum(r.seeds for r in of) == sum(r.seeds for r in plains):
            ends = f"{mean(of, 'lower'):.3f} to {mean(of, 'upper'):.3f}"
            yield f"{method} {mean(of, 'good'):.{digits}f}, {ends}"


def mean(of: Iterable[Row], name: str) -> float:
    """Over the seeds of all rows."""
    of = list(of)
    return sum(getattr(r, name) * r.seeds for r in of) / sum(r.seeds for r in of)


def legend_of(ax: plt.Axes) -> tuple[list[Any], list[str]]:
    return ax.get_legend_handles_labels()


def draw(rows: dict[Key, Row], picture: Path) -> None:
    """Accuracy or error by proved delta: a point per method, bars of one standard deviation."""
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained")
    for ax, data in zip(axes.flat, SETS, strict=True):
        for widths, marker in zip(WIDTHS, "os", strict=True):
            for k, method in enumerate(METHODS):
                row = rows.get((data, str(list(widths)), method))
                if row is None:
                    continue
                upper, lower = max(row.upper, SHOWN), max(row.lower, SHOWN)
                ax.errorbar(
                    upper,
                    row.good,
                    xerr=[[upper - lower], [0.0]],
                    yerr=0.0 if math.isnan(row.good_sd) else row.good_sd,
                    fmt=marker,
                    color=f"C{k}",
                    label=method if widths == WIDTHS[0] else None,
                    markersize=5,
                    linewidth=0.9,
                )
        of = [r for r in rows.values() if (r.data, r.method) == (data, CONSTANT)]
        if not of:
            ax.axis("off")
        else:
            ax.axhline(mean(of, "good"), color="grey", linestyle=":", linewidth=1)
            ax.annotate(
                "constant (delta 0)",
                (0.02, mean(of, "good")),
                color="grey",
                fontsize=8,
                xycoords=("axes fraction", "data"),
                va="bottom",
            )
        ax.set_xscale("log")
        ax.set_title(f"{data}, {SETS[data]} free", fontsize=10)
        error = data == "boston"
        ax.set_ylabel("squared error, test rows" if error else "accuracy, test rows")
        ax.set_xlabel("delta, proved at most; bar down to the worst pair")
    lines = {label: line for ax in axes.flat for line, label in zip(*legend_of(ax), strict=True)}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def rivals_of(rows: dict[Key, Row]) -> str:
    """How the networks of another package were trained, and how many are missing."""
    wanted = len(SETS) * len(WIDTHS) * len(SEEDS) * len(RIVALS)
    missing = wanted - sum(row.seeds for row in rows.values() if row.method in RIVALS)
    if missing == wanted:
        return "SenSR and SenSeI are left out: their networks were not there (--rivals)."
    said = (
        "SenSR and SenSeI are those of inFairness 0.2.3, trained on from the plain network with as "
        "many epochs at most, the epoch chosen by their own objective on validation rows. Their "
        "settings are those of the package's example on Adult for SenSeI, also for SenSR, for "
        "which it has none. Their idea of similar is another: a squared Euclidean distance, 0.1 on "
        "average, that neither the protected column nor what tells it from the other columns adds "
        "to; no epsilon for each column, no box. Here all networks are measured by the first idea."
    )
    return said if not missing else f"{said} {missing} of their {wanted} cells are left out."
