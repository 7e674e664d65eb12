"""A study that is one grid: its page has a table per data set, network and measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from retrofair import metrics
from retrofair.objective import Constrained
from retrofair.studies import pages, results
from retrofair.studies.cells import Cell
from retrofair.studies.figures import bias_and_objective
from retrofair.studies.findings import findings
from retrofair.studies.grid import Grid
from retrofair.studies.results import CONSTANT, ORIGINAL, TABLE, YARDSTICKS
from retrofair.studies.run import Plan

Figure = Callable[[pd.DataFrame, Grid, Path], Path]


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
        picture, image = "", folder / f"{self.name}.png"
        if done[~done["method"].isin(YARDSTICKS)].empty:
            image.unlink(missing_ok=True)  # of other results
        else:
            written.append(self.figure(frame, self.grid, image))
            picture = f"![{pages.plain(self.title)}]({self.name}.png)"
        parts = [
            self.about,
            pages.provenance(plan),
            picture,
            reading(self.grid),
            *findings(self.grid, done),
            *(block(self.grid, part, key) for key, part in _tables(frame)),
        ]
        title = pages.plain(self.title)
        written.append(pages.write_page(folder / f"{self.name}.md", title, *parts))
        return written


def reading(grid: Grid) -> str:
    """How to read the tables."""
    objective, seeds = grid.objective, ", ".join(map(str, grid.seeds))
    good = objective.performance_measure.name.replace("_", " ")
    each = "each has its own 60/20/20 split, network and method run"
    if grid.networks is not None and grid.networks < len(grid.seeds):
        each = (
            f"they take turns on {grid.networks} splits and networks, so that runs on one of them "
            "differ by the method's seed alone"
        )
    text = (
        f"Seeds {seeds}: {each}. Methods see the validation data only, and choose there; every "
        "column named *test* is on test data. A +- is the standard deviation over seeds, not of a "
        "mean. The *constant classifier* is the better of refusing and accepting everybody, by "
        "validation data. "
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
            "better when lower. "
        )
    text += (
        "|bias| is the distance from fair, its mean not that of signed values. *Beats constant* "
        "counts the seeds in which the test objective is better than the constant classifier's. "
        "*Status* is that on validation data. Methods marked with \\* must be told the group of "
        "everybody they decide about. Seconds are wall time on one torch thread while other cells "
        "ran beside: they compare methods within this page only."
    )
    meanings = "\n".join(f"- {name}: {metrics.get(name).meaning}" for name in grid.measures)
    return f"{text}\n\n{meanings}"


def block(grid: Grid, part: pd.DataFrame, key: tuple[str, ...]) -> str:
    """One table with its heading."""
    data, sensitive, columns, network, measure = key
    done = part[part["state"] == "done"]
    seen = "blind" if columns == "blind" else ""
    title = ", ".join(filter(None, [measure, pages.plain(network), seen]))
    heading = f"## {pages.plain(data)}, {pages.plain(sensitive)}: {title}"
    if done.empty:
        return f"{heading}\n\nNothing has been run yet."
    original = done[done["method"] == ORIGINAL]
    half = ((original["test_bias_high"] - original["test_bias_low"]) / 2).median()
    rows = done[done["method"] == CONSTANT]
    size = rows["rows_valid"].median()
    sizes = (
        f"{size:,.0f} validation rows; test rows by group, the privileged one last "
        f"(seed {rows['seed'].iloc[0]}): {pages.plain(str(rows['groups'].iloc[0]))}. The 95 % "
        f"interval of one seed's {measure} on test data is about +-{half:.3f}."
    )
    good = grid.objective.performance_measure.name.replace("_", " ")
    header = ["method", "validation objective", "test objective", f"test {measure}", "test |bias|"]
    header += [f"test {good}", *(["held"] if isinstance(grid.objective, Constrained) else [])]
    header += ["beats constant", "status", "seconds"]
    lines = [_line(grid, str(m), group) for m, group in part.groupby("method", sort=False)]
    return "\n\n".join([heading, sizes, pages.table(header, lines)])


def _line(grid: Grid, method: str, part: pd.DataFrame) -> list[str]:
    done = part[part["state"] == "done"]
    n, constrained = len(done), isinstance(grid.objective, Constrained)
    star = "\\*" if n and any(told is True for told in done["needs_group"]) else ""
    whole = len({grid.split(s) for s in grid.seeds} if method in YARDSTICKS else grid.seeds)
    few = f" ({n} of {whole} seeds)" if n < whole else ""
    name = pages.plain(method) + star + few
    if not n:
        return [name] + ["-"] * (9 if constrained else 8)
    centre = pages.middle if constrained else pages.spread
    yardstick = method in YARDSTICKS
    counted = done["status"].value_counts().items()
    status = ", ".join(f"{str(state).replace('_', ' ')} {count}/{n}" for state, count in counted)
    return [
        name,
        pages.spread(done["valid_objective"]),
        centre(done["test_objective"]),
        pages.spread(done["test_bias"]),
        f"{done['test_unfair'].mean():.3f}",
        pages.spread(done["test_performance"]),
        *([f"{int(done['test_feasible'].sum())}/{n}"] if constrained else []),
        "" if method == CONSTANT else f"{int(done['test_beats_constant'].sum())}/{n}",
        "" if yardstick else status,
        "" if yardstick else pages.middle(done["seconds"], 1),
    ]


def _tables(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    for key, part in frame.groupby(TABLE, sort=False):
        assert isinstance(key, tuple)
        yield tuple(map(str, key)), part
