"""The page of individual.py: tables, findings and the picture, from the stored cells."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from individual_cells import (
    BOUND,
    EPSILON,
    GAP,
    METHODS,
    OURS,
    RIVALS,
    SECONDS,
    SECONDS_OURS,
    SETS,
    SMALL,
    SPARSITY,
    WIDTHS,
    Cell,
    cells,
    path_of,
)

from retrofair.studies.pages import spread, table

INTRO = (
    f"Two hidden layers, ReLU; epsilon {EPSILON:g} in l_inf on the columns as the network takes "
    "them, the protected column free, the box around the training rows. Every network but "
    "`unaware` is trained on from the plain one, which knows the loss alone. `lambda`: lambda * "
    f"loss + (1 - lambda) * |f(x) - f(x*)|, {BOUND:.0%} of the second term a proved bound, and "
    f"sparsity {SPARSITY:g}. Its parts alone: `attack 0.5` is lambda 0.5 without bound and "
    "sparsity, `sparse` the loss alone with sparsity. `unaware`: the protected column is 0 for the "
    "network. Performance on test rows; the epoch is chosen by validation rows. Delta in "
    "probability (boston: in 1,000 dollars): over pairs of test rows within epsilon (undefined "
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


def page(store: Path, picture: Path) -> str:
    found = {
        c: json.loads(path_of(store, c).read_text()) for c in cells() if path_of(store, c).exists()
    }
    draw(found, picture)
    tables = [tables_of(found, data) for data in SETS]
    return "\n\n".join(
        [
            INTRO,
            rivals_of(found),
            f"![Error against delta]({picture.name})",
            "\n".join(f"- {each}" for each in findings(found)),
            *filter(None, tables),
        ]
    )


def tables_of(found: dict[Cell, Any], data: str) -> str:
    """What was found on one data set; empty where nothing was."""
    lines = []
    for widths in WIDTHS:
        here = {c: r for c, r in found.items() if (c.data, c.widths) == (data, widths)}
        for method in METHODS:
            of = [r for c, r in here.items() if c.method == method]
            if of:
                lines.append([str(list(widths)), method, str(len(of)), *row_of(data, of)])
        if here:
            constant = spread([r["constant"] for r in here.values()])
            even = "-" if data == "boston" else "0.5"
            lines.append([str(list(widths)), "constant", "", constant, even, *["0"] * 3, *[""] * 3])
    if not lines:
        return ""
    first = "MSE" if data == "boston" else "accuracy"
    n = sorted({r["n"] for c, r in found.items() if c.data == data})
    head = ["widths", "method", "seeds", first, "bal. accuracy", "rows", "at least", "at most"]
    head += ["tight", "trained, s", "certified, s"]
    title = f"## {data}, {SETS[data]} free\n\nTest rows: {', '.join(map(str, n))}."
    return title + "\n\n" + table(head, lines)


def row_of(data: str, of: list[Any]) -> list[str]:
    names = ["mse"] if data == "boston" else ["accuracy", "balanced"]
    shown = [spread([r[name] for r in of]) for name in names] + ["-"] * (2 - len(names))
    return [
        *shown,
        *(spread([r[name] for r in of]) for name in ("rows", "lower", "upper")),
        f"{sum(map(tight, of))} of {len(of)}",
        f"{statistics.median(r['trained_in'] for r in of):.0f}",
        f"{statistics.median(r['certified_in'] for r in of):.0f}",
    ]


def tight(result: dict[str, Any]) -> bool:
    return bool(result["gap"] <= GAP or result["upper"] - result["lower"] <= SMALL)


def findings(found: dict[Cell, Any]) -> Iterator[str]:
    for widths in WIDTHS:
        ours = [r for c, r in found.items() if c.method in OURS and c.widths == widths]
        if ours:
            load = statistics.median(r["load"] for r in ours)
            yield (
                f"{list(widths)}: {sum(map(tight, ours))} of {len(ours)} certificates of lambda's "
                f"networks are tight within {SECONDS_OURS:g} s, {LOADED.format(load)}."
            )
    for data in SETS:
        here = {c: r for c, r in found.items() if c.data == data}
        if plains := [r for c, r in here.items() if c.method == "plain"]:
            yield f"{data}: " + "; ".join(compared(here, plains, data))


def compared(here: dict[Cell, Any], plains: list[Any], data: str) -> Iterator[str]:
    """The networks of a data set in a few words, means over widths and seeds."""
    name, digits = ("mse", 1) if data == "boston" else ("accuracy", 3)

    def mean(of: list[Any], key: str) -> float:
        return statistics.mean(r[key] for r in of)

    before = mean(plains, "lower")
    yield f"plain {mean(plains, name):.{digits}f} {name}, delta at least {before:.3f}"
    for method in METHODS[1:]:
        of = [r for c, r in here.items() if c.method == method]
        if len(of) == len(plains):
            ends = f"{mean(of, 'lower'):.3f} to {mean(of, 'upper'):.3f}"
            yield f"{method} {mean(of, name):.{digits}f}, {ends}"


def legend_of(ax: plt.Axes) -> tuple[list[Any], list[str]]:
    return ax.get_legend_handles_labels()


def draw(found: dict[Cell, Any], picture: Path) -> None:
    """Accuracy or error by proved delta: a point per method, bars of one standard deviation."""
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained")
    for ax, data in zip(axes.flat, SETS, strict=True):
        name = "mse" if data == "boston" else "accuracy"
        for k, method in enumerate(METHODS):
            for widths, marker in zip(WIDTHS, "os", strict=True):
                of = [
                    r
                    for c, r in found.items()
                    if (c.data, c.method, c.widths) == (data, method, widths)
                ]
                if not of:
                    continue
                x, low, y = (np.array([r[key] for r in of]) for key in ("upper", "lower", name))
                x, low = np.maximum(x, SHOWN), np.maximum(low, SHOWN)
                ax.errorbar(
                    x.mean(),
                    y.mean(),
                    xerr=[[x.mean() - low.mean()], [0.0]],
                    yerr=y.std(ddof=1) if len(y) > 1 else 0.0,
                    fmt=marker,
                    color=f"C{k}",
                    label=method if widths == WIDTHS[0] else None,
                    markersize=5,
                    linewidth=0.9,
                )
        of = [r["constant"] for c, r in found.items() if c.data == data]
        if not of:
            ax.axis("off")
        else:
            ax.axhline(statistics.mean(of), color="grey", linestyle=":", linewidth=1)
            ax.annotate(
                "constant (delta 0)",
                (0.02, statistics.mean(of)),
                color="grey",
                fontsize=8,
                xycoords=("axes fraction", "data"),
                va="bottom",
            )
        ax.set_xscale("log")
        ax.set_title(f"{data}, {SETS[data]} free", fontsize=10)
        ax.set_ylabel("squared error, test rows" if name == "mse" else "accuracy, test rows")
        ax.set_xlabel("delta, proved at most; bar down to the worst pair")
    lines = {label: line for ax in axes.flat for line, label in zip(*legend_of(ax), strict=True)}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def rivals_of(found: dict[Cell, Any]) -> str:
    """How the networks of another package were trained, and how many are missing."""
    all_of = [cell for cell in cells() if cell.method in RIVALS]
    missing = sum(cell not in found for cell in all_of)
    if missing == len(all_of):
        return "SenSR and SenSeI are left out: their networks were not there (--rivals)."
    said = (
        "SenSR and SenSeI are those of inFairness 0.2.3, trained on from the plain network with as "
        "many epochs at most, the epoch chosen by their own objective on validation rows. Their "
        "settings are those of the package's example on Adult for SenSeI, also for SenSR, for "
        "which it has none. Their idea of similar is another: a squared Euclidean distance, 0.1 on "
        "average, that neither the protected column nor what tells it from the other columns adds "
        "to; no epsilon for each column, no box. Here all networks are measured by the first idea."
    )
    return said if not missing else f"{said} {missing} of their {len(all_of)} cells are left out."
