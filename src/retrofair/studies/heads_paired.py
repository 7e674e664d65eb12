"""`heads`: methods compared on the same network, split and objective."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
from scipy import stats

from retrofair.metrics import Array
from retrofair.studies import pages

HEAD, GIVEN = "fair_head", "group_thresholds"
RIVALS = ("random", "layerwise", "adversarial", "zhang", "lagrangian")
SETTING = ["columns", "epsilon", "data", "sensitive", "measure"]
NEAR = 0.01  # balanced accuracy that fair_head may be behind group_thresholds
LARGE = ("adult", "bank", "acs_income")
SMALLEST = 1e-12  # differences below are none
Key = tuple[str, float, str, str, str]  # values of SETTING
Rows = TypeVar("Rows", pd.Series, pd.DataFrame)


def by_setting(rows: Rows) -> Iterator[tuple[Key, Rows]]:
    """Each setting's rows, in order."""
    for key, part in rows.groupby(SETTING, sort=False):
        columns, epsilon, data, who, measure = cast(tuple[Any, ...], key)
        yield (str(columns), float(epsilon), str(data), str(who), str(measure)), part


def gains(done: pd.DataFrame, other: str, value: str) -> pd.Series:
    """What fair_head has more of `value` than the other, by setting and split."""
    wide = done[done["method"].isin((HEAD, other))].pivot_table(
        index=[*SETTING, "split"], columns="method", values=value, sort=False
    )
    if HEAD not in wide or other not in wide:
        return pd.Series(
            dtype=float, index=pd.MultiIndex.from_arrays([[]] * 6, names=wide.index.names)
        )
    return (wide[HEAD] - wide[other]).dropna()


def near(done: pd.DataFrame) -> str:
    """fair_head less group_thresholds, for each data set and measure."""
    header = [
        "data",
        "measure",
        "epsilon",
        "columns",
        "seeds",
        "`fair_head`",
        "`group_thresholds`\\*",
    ]
    header += ["difference: median (range)", "within the bound", "95 % half-width", "within 0.01"]
    lines, asked, kept = [], 0, 0
    difference = gains(done, GIVEN, "test_performance")
    for key, values in by_setting(difference):
        part = _at(done, key)
        columns, epsilon, data, who, measure = key
        head, given = (part[part["method"] == name] for name in (HEAD, GIVEN))
        median = float(np.median(values))
        if data in LARGE:
            asked, kept = asked + 1, kept + (median >= -NEAR)
        lines.append(
            [
                f"{data}, {who}",
                str(measure),
                f"{epsilon:g}",
                str(columns),
                str(len(values)),
                f"{head['test_performance'].median():.3f}",
                f"{given['test_performance'].median():.3f}",
                f"{median:+.3f} ({values.min():+.3f} to {values.max():+.3f})",
                f"{_held(head)} against {_held(given)}",
                f"+-{half(part):.3f}",
                ("yes" if median >= -NEAR else "no") if data in LARGE else "",
            ]
        )
    if not lines:
        return ""
    text = (
        "Balanced accuracy on test data, medians over seeds, and the paired difference. "
        "`group_thresholds` is told everybody's group where `fair_head` infers it. On Adult, Bank "
        f"and ACSIncome the median difference is {-NEAR:g} or better in {kept} of {asked} "
        "settings. More balanced accuracy at a broken bound is no gain: *within the bound* counts "
        "the seeds with |bias| < epsilon on test data, `fair_head` first. Where *95 % half-width* "
        "(of the measure on one test set) is above epsilon, no test set of this size can tell "
        "whether a bound is kept."
    )
    heading = "## `fair_head` against thresholds that are told the group"
    return f"{heading}\n\n{text}\n\n{pages.table(header, lines)}"


def pooled(done: pd.DataFrame) -> str:
    """fair_head against each rival over all data sets and splits."""
    header = ["against", "columns", "epsilon", "gain in test objective", "better / worse", "parts"]
    header += ["sign test p", "Wilcoxon p", "in balanced accuracy", "in |bias|", "runs"]
    lines = []
    for other, columns in product(RIVALS, dict.fromkeys(done["columns"])):
        for epsilon in dict.fromkeys(done["epsilon"]):
            rows = done[(done["columns"] == columns) & (done["epsilon"] == epsilon)]
            objective = gains(rows, other, "test_objective")
            if objective.empty:
                continue
            parts = _by_part(objective)
            more = [_by_part(gains(rows, other, f"test_{v}")) for v in ("performance", "unfair")]
            better, worse = int((parts > SMALLEST).sum()), int((parts < -SMALLEST).sum())
            lines.append(
                [
                    other,
                    str(columns),
                    f"{epsilon:g}",
                    _mean(parts),
                    f"{better} / {worse}",
                    str(len(parts)),
                    *_tests(parts),
                    *map(_mean, more),
                    str(len(objective)),
                ]
            )
    if not lines:
        return ""
    text = (
        "Gain of `fair_head` on the same network, split and objective: mean +- standard error over "
        "parts, a data set with its split (groups and measures that share it are averaged first). "
        "The splits of one data set share rows, so that the p values are somewhat too small. The "
        "test objective is 0 wherever the bound is missed by a hair: balanced accuracy and |bias| "
        "(less is better) beside it say what it is made of."
    )
    heading = "## `fair_head` against the methods that change weights"
    return f"{heading}\n\n{text}\n\n{pages.table(header, lines)}"


def behind(done: pd.DataFrame) -> str:
    """The settings in which fair_head is behind a rival."""
    header = ["against", "data", "measure", "epsilon", "columns", "gain: mean (95 % interval)"]
    header += ["better / worse", "Wilcoxon p", "in balanced accuracy", "in |bias|", "significant"]
    lines, compared, sure, for_it = [], 0, 0, 0
    for other in RIVALS:
        extra = [
            {key: float(values.mean()) for key, values in by_setting(gains(done, other, value))}
            for value in ("test_performance", "test_unfair")
        ]
        for key, values in by_setting(gains(done, other, "test_objective")):
            compared += 1
            low, high = interval(values.to_numpy(dtype=float))
            for_it += low > 0
            if values.mean() >= -SMALLEST:
                continue
            columns, epsilon, data, who, measure = key
            sure += high < 0
            good, unfair = (each[key] for each in extra)
            lines.append(
                [
                    other,
                    f"{data}, {who}",
                    str(measure),
                    f"{epsilon:g}",
                    str(columns),
                    f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"
                    if len(values) > 1
                    else f"{values.mean():+.3f}",
                    f"{int((values > SMALLEST).sum())} / {int((values < -SMALLEST).sum())}",
                    _tests(values.to_numpy(dtype=float))[1],
                    f"{good:+.3f}",
                    f"{unfair:+.3f}",
                    "**yes**" if high < 0 else "",
                ]
            )
    if not compared:
        return ""
    n = done["split"].nunique()
    text = (
        f"In {len(lines)} of {compared} settings and rivals the mean paired gain in the test "
        f"objective is below 0; in {sure} its 95 % t interval is (*significant*), in {for_it} the "
        f"interval is above 0. With so many comparisons about {0.025 * compared:.0f} on each side "
        f"would be so by chance alone. Over {n} splits a Wilcoxon test cannot say less than p = "
        f"{2 * 0.5**n:.4g}, so that no single setting is significant by it at 0.05 with five."
    )
    found = pages.table(header, lines) if lines else ""
    return f"### Where `fair_head` is behind\n\n{text}\n\n{found}"


def uncertain(done: pd.DataFrame) -> str:
    """Intervals where the bound is below the sampling error of one test set."""
    header = ["data", "measure", "epsilon", "columns", "method", "test bias, seed by seed: "]
    header[-1] += "95 % intervals"
    lines = []
    for key, part in by_setting(done):
        columns, epsilon, data, who, measure = key
        if not (data in ("german", "bank") and measure == "eod" and epsilon < half(part)):
            continue
        for method, rows in part.groupby("method", sort=False):
            ends = zip(rows["test_bias_low"], rows["test_bias_high"], strict=True)
            found = ", ".join(f"{low:+.2f} to {high:+.2f}" for low, high in ends)
            about = [f"{data}, {who}", str(measure), f"{epsilon:g}", str(columns)]
            lines.append([*about, pages.plain(str(method)), found])
    if not lines:
        return ""
    text = (
        "There are too few positive rows in the groups of Bank and German for eod: a test set's "
        "interval is wider than the bound, and who kept it on test data did so by luck. No winner "
        "is named; the intervals of every seed instead."
    )
    return (
        f"## Where the bound is below the sampling error\n\n{text}\n\n{pages.table(header, lines)}"
    )


def half(part: pd.DataFrame) -> float:
    """Typical half-width of a test set's 95 % interval of the measure, of real decisions."""
    rows = part[~part["method"].isin(["constant classifier"])]
    return float(((rows["test_bias_high"] - rows["test_bias_low"]) / 2).median())


def interval(values: Array) -> tuple[float, float]:
    """95 % t interval of the mean; unbounded for a single value."""
    n = len(values)
    if n < 2:
        return -np.inf, np.inf
    reach = float(stats.t.ppf(0.975, n - 1)) * float(values.std(ddof=1)) / n**0.5
    return float(values.mean()) - reach, float(values.mean()) + reach


def _at(done: pd.DataFrame, key: Key) -> pd.DataFrame:
    return done[(done[SETTING] == list(key)).all(axis=1)]


def _held(rows: pd.DataFrame) -> str:
    return f"{int(rows['test_feasible'].sum())}/{len(rows)}"


def _by_part(values: pd.Series) -> Array:
    return np.asarray(values.groupby(level=["data", "split"]).mean().to_numpy(), dtype=float)


def _mean(values: Array) -> str:
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    return f"{values.mean():+.3f} +- {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def _tests(values: Array) -> list[str]:
    """p values of the sign test and of Wilcoxon's, two-sided, without differences of 0."""
    moved = values[np.abs(values) > SMALLEST]
    if not len(moved):
        return ["-", "-"]
    sign = stats.binomtest(int((moved > 0).sum()), len(moved)).pvalue
    ranks = stats.wilcoxon(moved, method="exact" if len(moved) <= 50 else "approx").pvalue
    return [f"{sign:.2g}", f"{ranks:.2g}"]
