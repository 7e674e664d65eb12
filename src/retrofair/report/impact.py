"""Selection rates and impact ratios by category, laid out as bias audits of hiring tools ask.

New York City's rules for Local Law 144 (6 RCNY 5-300 to 5-304) ask for the selection rate of each
category of sex, of race or ethnicity, and of their intersections, with its ratio to that of the
most selected category; where a tool gives scores, for the rate of scores above the median instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from retrofair.audit import Audit
from retrofair.metrics import Array
from retrofair.metrics.intervals import LEVEL, quantile, ratio

SMALL = 0.02  # of the rows, below which those rules let a category be left out
FIFTHS = 0.8
ALL_GROUPS = "group"


@dataclass(frozen=True)
class Category:
    """Some of the groups together: all women, or one intersection."""

    name: str
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Categories:
    """The categories of one protected column, or of all together."""

    name: str
    categories: tuple[Category, ...]


@dataclass(frozen=True)
class Line:
    """A category with its figures; nan where there is none.

    Args:
        rate: selected, of all rows.
        ratio: to the most selected category that is not small, the first of equal ones.
        low, high: its 95 % interval, which holds for all categories of the table at once; that of
            the most selected one itself is 1.
        small: fewer than 2 % of the rows: no reference for others.
    """

    name: str
    rows: int
    share: float
    selected: int
    rate: float
    ratio: float
    low: float
    high: float
    small: bool


def category_groups(found: Audit) -> list[Categories]:
    """By each protected column, then by their intersections; without columns by group."""
    tables = []
    for name, values in found.attributes.items():
        members: dict[str, list[int]] = {}
        for position, value in enumerate(values):
            members.setdefault(value, []).append(position)
        named = tuple(Category(value, tuple(groups)) for value, groups in members.items())
        tables.append(Categories(name, named))
    if len(tables) != 1:
        crossed = tuple(Category(name, (i,)) for i, name in enumerate(found.group_names))
        name = " and ".join(found.attributes) if tables else ALL_GROUPS
        tables.append(Categories(name, crossed))
    return tables


def lines(table: Categories, selected: Array, rows: Array) -> list[Line]:
    """The figures of each category.

    Args:
        selected, rows: (G,) by group.

    Example:
        >>> table = Categories("sex", (Category("F", (0,)), Category("M", (1,))))
        >>> [(line.name, line.rate, line.ratio)
        ...  for line in lines(table, np.array([1, 4]), np.array([10, 20]))]
        [('F', 0.1, 0.5), ('M', 0.2, 1.0)]
    """
    total = int(rows.sum())
    found = []
    for category in table.categories:
        n = int(rows[list(category.groups)].sum())
        hits = int(selected[list(category.groups)].sum())
        found.append((category.name, n, hits, hits / n if n else np.nan, n < SMALL * total))
    reference = max(
        (each for each in found if not each[4] and each[3] > 0), key=lambda e: e[3], default=None
    )
    return [
        Line(name, n, n / total, hits, rate, *_ratio((hits, n), reference, z_of(table)), small)
        if reference is None or reference[0] != name
        else Line(name, n, n / total, hits, rate, 1.0, 1.0, 1.0, small)
        for name, n, hits, rate, small in found
    ]


def z_of(table: Categories) -> float:
    """The normal quantile for comparing each category with the most selected one."""
    return quantile(LEVEL, len(table.categories) - 1)


def _ratio(
    over: tuple[int, int], reference: tuple[str, int, int, float, bool] | None, z: float
) -> tuple[float, float, float]:
    """The ratio to the most selected category, with its interval; nan where nobody is selected."""
    if reference is None or not over[1]:
        return np.nan, np.nan, np.nan
    _, n, hits, rate, _ = reference
    top, bottom = ((np.array(h), np.array(b)) for h, b in (over, (hits, n)))
    low, high = ratio(top, bottom, z)
    return over[0] / over[1] / rate, float(low), float(high)


def selection_lines(found: Audit) -> list[tuple[Categories, list[Line]]]:
    """By the decisions that were audited."""
    counts = found.counts
    return [
        (table, lines(table, counts[..., 1].sum(axis=1), counts.sum(axis=(1, 2))))
        for table in category_groups(found)
    ]


def scoring_lines(found: Audit) -> list[tuple[Categories, list[Line]]]:
    """By scores above the median of all; empty without scores."""
    if found.scores is None:
        return []
    counts = found.scores.at(found.scores.median)
    return [
        (table, lines(table, counts[..., 1].sum(axis=1), counts.sum(axis=(1, 2))))
        for table in category_groups(found)
    ]


def below_four_fifths(tables: list[tuple[Categories, list[Line]]]) -> Mapping[str, list[str]]:
    """Names of the categories that are not small and below four fifths, by table."""
    return {
        table.name: [line.name for line in found if not line.small and line.ratio < FIFTHS]
        for table, found in tables
    }
