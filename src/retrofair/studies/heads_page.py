"""`heads`: what its page says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from retrofair import metrics
from retrofair.studies import heads_paired, pages
from retrofair.studies.heads_paired import SETTING, Key, by_setting, half
from retrofair.studies.results import CONSTANT, YARDSTICKS

ABOUT = """
One base network per data set, split and setting (depth 10, width 32, the papers' training), shared
by all methods; they see its validation data and nothing else, and every number here is of test
data that played no part in any choice. The objective is the balanced accuracy where |bias| <
epsilon, and 0 elsewhere.

- *columns in*: the network reads the protected column among its inputs, and so may what is put on
  it.
- *blind*: neither network nor head sees the sensitive column. Others that tell of it stay
  (relationship and marital status on Adult and ACSIncome), so that the group can often be inferred
  all the same. Six methods run here; the others with *columns in* only.

Methods marked with \\* must be told the group of everybody they decide about, in *blind* too:
their figures are what knowing the group is worth. *fair_head, given* is the fair head that is told
the group (`FairHead(attribute="given")`). ACSIncome is a random 50,000 of the file's
332,900 rows, the same for all splits, with race as White and non-White (which is what spd, eod and
aod compare in any case); *many groups* uses all rows and all groups.

What to know before reading:

- The bound is asked for on validation data. A method that stops at the bound breaks it on test
  data in about half of the splits, by no fault but the data's size, and the test objective is then
  0. So the median test objective jumps; balanced accuracy and |bias| beside it do not.
- Five splits are few, and splits of one data set share rows.
- Default options for all methods: nobody's were tuned for these data. `random` is 101
  perturbations; seconds are beside every row, since the methods do not have equal budgets.
"""


def reading(seeds: Sequence[int], measures: Sequence[str]) -> str:
    """How to read the tables."""
    meanings = "\n".join(f"- {name}: {metrics.get(name).meaning}" for name in measures)
    return (
        f"Seeds {', '.join(map(str, seeds))}: each has its own 60/20/20 split, network and method "
        "run. A +- is the standard deviation over seeds. The *constant classifier* is the better "
        "of refusing and accepting everybody, by validation data. Seconds are wall time on one "
        f"torch thread while other work ran beside.\n\n{meanings}"
    )


def summary(main: pd.DataFrame, seeds: int) -> Iterator[str]:
    """The comparisons, from what has been run."""
    done = main[main["state"] == "done"]
    if done.empty:
        return
    yield heads_paired.near(done)
    yield heads_paired.pooled(done)
    yield heads_paired.behind(done)
    yield _overall(done, seeds)
    yield heads_paired.uncertain(done)


def _overall(done: pd.DataFrame, seeds: int) -> str:
    """One row per method, columns and bound, over the settings that it ran in."""
    header = [
        "method",
        "columns",
        "epsilon",
        "settings",
        "runs",
        "test objective",
        "within the bound",
    ]
    header += ["balanced accuracy", "|bias|", "beats the constant", "degenerate", "seconds"]
    lines = []
    for (columns, epsilon), rows in done.groupby(["columns", "epsilon"], sort=False):
        for method, part in rows.groupby("method", sort=False):
            n, settings = len(part), part.groupby(SETTING).ngroups
            lines.append(
                [
                    _name(str(method), part),
                    str(columns),
                    f"{epsilon:g}",
                    str(settings),
                    str(n) + ("" if n == settings * seeds else f" of {settings * seeds}"),
                    f"{part['test_objective'].mean():.3f}",
                    f"{part['test_feasible'].astype(bool).mean():.0%}",
                    f"{part['test_performance'].mean():.3f}",
                    f"{part['test_unfair'].mean():.3f}",
                    "" if method == CONSTANT else f"{int(part['test_beats_constant'].sum())}/{n}",
                    ""
                    if method in YARDSTICKS
                    else f"{int((part['status'] == 'degenerate').sum())}",
                    "" if method in YARDSTICKS else f"{part['seconds'].median():.1f}",
                ]
            )
    text = "Means over settings and seeds (seconds: median). Rows of fewer settings do not compare."
    return f"## Over all settings\n\n{text}\n\n{pages.table(header, lines)}"


def many(frame: pd.DataFrame, seeds: int) -> Iterator[str]:
    """The part with many groups."""
    if frame.empty:
        return
    yield (
        "## Many groups\n\n"
        "Race by sex on ACSIncome as the file has it, all rows, columns in. The measure is the "
        "largest difference of selection rates between any two groups, so that the smallest groups "
        "(some twenty test rows) decide it: their rates alone have intervals far wider than "
        "epsilon, and a bound kept on validation data says little of test data. What can be "
        "compared is time, |bias| and balanced accuracy."
    )
    for key, part in by_setting(frame):
        yield _table(key, part, seeds, level="###")
    failed = frame[frame["state"] == "failed"]
    if len(failed):
        lines = [
            f"- {method}, {len(part)} of {seeds} seeds: {pages.plain(str(part['error'].iloc[0]))}"
            for method, part in failed.groupby("method", sort=False)
        ]
        yield "What failed:\n\n" + "\n".join(lines)


def tables(main: pd.DataFrame, seeds: int) -> Iterator[str]:
    """Every setting's table."""
    for key, part in by_setting(main):
        yield _table(key, part, seeds, level="##")


def _table(key: Key, part: pd.DataFrame, seeds: int, level: str) -> str:
    columns, epsilon, data, who, measure = key
    seen = "columns in" if columns == "in" else "blind"
    heading = f"{level} {data}, {who}: {measure}, epsilon {epsilon:g}, {seen}"
    done = part[part["state"] == "done"]
    if done.empty:
        return f"{heading}\n\nNothing has been run yet."
    first = done[done["method"] == CONSTANT]
    width = half(done)
    text = (
        f"{first['rows_test'].median():,.0f} test rows and {first['rows_valid'].median():,.0f} "
        f"validation rows; test rows by group, the privileged one last (seed "
        f"{first['seed'].iloc[0]}): {pages.plain(str(first['groups'].iloc[0]), 2000)}. The 95 % "
        f"interval of one seed's {measure} on test data is about +-{width:.3f}"
    )
    text += ", more than epsilon: no winner can be told here." if width > epsilon else "."
    header = [
        "method",
        "seeds",
        "test objective: median (range)",
        "balanced accuracy: median (range)",
    ]
    header += [f"test {measure}", "test |bias|", "within the bound", "beats constant"]
    header += ["met on validation", "seconds"]
    lines = [_row(str(m), rows, seeds) for m, rows in part.groupby("method", sort=False)]
    return "\n\n".join([heading, text, pages.table(header, lines)])


def _row(method: str, part: pd.DataFrame, seeds: int) -> list[str]:
    done = part[part["state"] == "done"]
    n = len(done)
    few = str(n) if n == seeds else f"{n} of {seeds}"
    if not n:
        return [pages.plain(method), few, *["-"] * 8]
    yardstick = method in YARDSTICKS
    return [
        _name(method, done),
        few,
        pages.middle(done["test_objective"]),
        pages.middle(done["test_performance"]),
        pages.spread(done["test_bias"]),
        pages.spread(done["test_unfair"]),
        f"{int(done['test_feasible'].sum())}/{n}",
        "" if method == CONSTANT else f"{int(done['test_beats_constant'].sum())}/{n}",
        "" if yardstick else f"{int((done['status'] == 'met').sum())}/{n}",
        "" if yardstick else pages.middle(done["seconds"], 1),
    ]


def _name(method: str, done: pd.DataFrame) -> str:
    return pages.plain(method) + (
        "\\*" if any(told is True for told in done["needs_group"]) else ""
    )
