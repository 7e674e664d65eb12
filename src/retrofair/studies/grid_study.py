"""A study that is one grid: its page has a table per data set, network and measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from retrofair.objective import Constrained
from retrofair.studies import pages, results
from retrofair.studies.cells import Cell
from retrofair.studies.figures import bias_and_objective
from retrofair.studies.grid import Grid
from retrofair.studies.results import CONSTANT, YARDSTICKS
from retrofair.studies.run import Plan

Figure = Callable[[pd.DataFrame, Grid, Path], Path]
TABLE = ["data", "sensitive", "columns", "network", "measure"]


@dataclass(frozen=True, kw_only=True)
class GridStudy:
    """A grid, what its page says before the tables, and how it is drawn.

    Args:
        about: Markdown: what is repeated, the published figures, and every difference.
    """

    name: str
    title: str
    grid: Grid
    about: str = ""
    figure: Figure = bias_and_objective

    def cells(self) -> list[Cell]:
        return self.grid.cells()

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        frame = results.frame(self.grid, plan)
        written = [pages.write_table(folder / f"{self.name}.csv", frame)]
        done = frame[frame["state"] == "done"]
        picture = ""
        if not done[~done["method"].isin(YARDSTICKS)].empty:
            written.append(self.figure(frame, self.grid, folder / f"{self.name}.png"))
            picture = f"![{self.title}]({self.name}.png)"
        parts = [
            self.about,
            pages.provenance(plan),
            picture,
            reading(self.grid),
            *findings(self.grid, done),
            *(block(self.grid, part, key) for key, part in _tables(frame)),
        ]
        written.append(pages.write_page(folder / f"{self.name}.md", self.title, *parts))
        return written


def reading(grid: Grid) -> str:
    """How to read the tables."""
    objective, n = grid.objective, len(grid.seeds)
    good = objective.performance_measure.name.replace("_", " ")
    text = (
        f"Each of the {n} seeds has its own 60/20/20 split, network and method run. Methods see "
        "the validation data only, and choose there; every column named *test* is on test data. "
        "A +- is the standard deviation over seeds, not of a mean. The *constant classifier* is "
        "the better of refusing and accepting everybody. "
    )
    if isinstance(objective, Constrained):
        text += (
            f"*Test objective* is the {good} where |bias| < {objective.epsilon:g} on test data, "
            "and 0 elsewhere: median (range). *Held* counts the seeds in which the bound held on "
            "test data. "
        )
    else:
        text += (
            f"The objective, {objective.lam:g} |bias| + {1 - objective.lam:g} (1 - {good}), is "
            "better when lower. *Beats the constant* counts the seeds in which it is lower on test "
            "data than the constant classifier's. "
        )
    return text + (
        "*Status* is that on the validation data. Methods marked with * must be told the group of "
        "everybody they decide about."
    )


def findings(grid: Grid, done: pd.DataFrame) -> Iterator[str]:
    """What the numbers say, in sentences that are computed from them."""
    methods = done[~done["method"].isin(YARDSTICKS)]
    if methods.empty:
        return
    lines = []
    if isinstance(grid.objective, Constrained):
        held = methods["test_bias"].abs() < grid.objective.epsilon
        kept = held.groupby(methods["method"], sort=False).agg(["sum", "size"])
        met = methods[methods["status"] == "met"]
        both = (met["test_bias"].abs() < grid.objective.epsilon).mean()
        lines.append(
            f"Where the bound was met on validation data ({len(met):,} of {len(methods):,} runs), "
            f"it held on test data in {both:.0%}. By method: "
            + ", ".join(f"{name} {row['sum']}/{row['size']}" for name, row in kept.iterrows())
            + "."
        )
    else:
        best = methods.merge(
            done[done["method"] == CONSTANT][[*TABLE, "seed", "test_objective"]],
            on=[*TABLE, "seed"],
            suffixes=("", "_constant"),
        )
        beats = best["test_objective"] < best["test_objective_constant"]
        kept = beats.groupby(best["method"], sort=False).agg(["sum", "size"])
        lines.append(
            "Better than the constant classifier on test data: "
            + ", ".join(f"{name} {row['sum']}/{row['size']}" for name, row in kept.iterrows())
            + "."
        )
    lines.append(_degenerate(methods))
    lines += _against_random(grid, methods)
    yield "## What it shows\n\n" + "\n".join(f"- {line}" for line in lines if line)


def _degenerate(methods: pd.DataFrame) -> str:
    flagged = methods[methods["status"] == "degenerate"]
    if flagged.empty:
        return "No run is degenerate."
    by = flagged.groupby("method", sort=False).size()
    return (
        f"**{len(flagged):,} of {len(methods):,} runs are degenerate** (they decide alike for "
        "almost everybody, or score no better than the constant classifier on validation data): "
        + ", ".join(f"{name} {n}" for name, n in by.items())
        + "."
    )


CONTROLS = (
    ("layerwise", "layerwise, random search"),
    ("layerwise", "random, budget of layerwise"),
    ("layerwise, papers' space", "random"),
    ("adversarial", "threshold"),
    ("zhang", "threshold"),
)


def _against_random(grid: Grid, methods: pd.DataFrame) -> Iterator[str]:
    """Searches beside random search, seed by seed, on the data that both optimised."""
    sign = 1 if grid.objective.maximise else -1
    wide = methods.pivot_table(index=[*TABLE, "seed"], columns="method", values="valid_objective")
    for method, control in CONTROLS:
        if method in wide and control in wide:
            gain = sign * (wide[method] - wide[control]).dropna()
            if len(gain):
                yield (
                    f"{method} against {control}, validation objective, same seed: better by "
                    f"{gain.mean():.3f} on average (standard error "
                    f"{gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else 0:.3f}), better "
                    f"in {int((gain > 1e-12).sum())} and worse in {int((gain < -1e-12).sum())} of "
                    f"{len(gain)} runs."
                )


def block(grid: Grid, part: pd.DataFrame, key: tuple[str, ...]) -> str:
    """One table with its heading."""
    data, sensitive, columns, network, measure = key
    done = part[part["state"] == "done"]
    seen = "blind" if columns == "blind" else ""
    heading = f"## {data}, {sensitive}: " + ", ".join(filter(None, [measure, network, seen]))
    if done.empty:
        return f"{heading}\n\nNothing has been run yet."
    half = ((done["test_bias_high"] - done["test_bias_low"]) / 2)[
        done["method"] == results.ORIGINAL
    ].median()
    rows = done[done["method"] == CONSTANT]
    sizes = (
        f"{int(rows['rows_valid'].median()):,} validation rows, "
        f"{int(rows['rows_test'].median()):,} test rows; the 95 % interval of one seed's {measure} "
        f"on test data is about +-{half:.3f}."
    )
    constrained = isinstance(grid.objective, Constrained)
    good = grid.objective.performance_measure.name.replace("_", " ")
    header = ["method", "validation objective", "test objective", f"test {measure}", f"test {good}"]
    header += ["held" if constrained else "beats the constant", "status", "seconds"]
    constant = rows.set_index("seed")["test_objective"]
    lines = [
        _line(grid, str(method), group, constant)
        for method, group in part.groupby("method", sort=False)
    ]
    return "\n\n".join([heading, sizes, pages.table(header, lines)])


def _line(grid: Grid, method: str, part: pd.DataFrame, constant: pd.Series) -> list[str]:
    done = part[part["state"] == "done"]
    n = len(done)
    star = "\\*" if n and (done["needs_group"] == True).any() else ""  # noqa: E712 - nan else
    name = method + star + (f" ({n} of {len(grid.seeds)} seeds)" if n < len(grid.seeds) else "")
    if not n:
        return [name] + ["-"] * 7
    if isinstance(grid.objective, Constrained):
        test = pages.middle(done["test_objective"])
        good = int((done["test_bias"].abs() < grid.objective.epsilon).sum())
    else:
        test = pages.spread(done["test_objective"])
        good = int((done.set_index("seed")["test_objective"] < constant).sum())
    yardstick = method in YARDSTICKS
    counted = done["status"].value_counts().items()
    status = ", ".join(f"{str(name).replace('_', ' ')} {count}/{n}" for name, count in counted)
    return [
        name,
        pages.spread(done["valid_objective"]),
        test,
        pages.spread(done["test_bias"]),
        pages.spread(done["test_performance"]),
        "" if method == CONSTANT and not isinstance(grid.objective, Constrained) else f"{good}/{n}",
        "" if yardstick else status,
        "" if yardstick else pages.middle(done["seconds"], 1),
    ]


def _tables(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    for key, part in frame.groupby(TABLE, sort=False):
        assert isinstance(key, tuple)
        yield tuple(map(str, key)), part
