"""Boston housing: the median value of homes in a census tract, in 1,000 dollars (1970).

The sensitive columns are numbers, split at the file's medians when they are the sensitive one:
`B` = 1000 (b - 0.63)^2 with b the share of Black residents (391.44 and over means b below 0.5 %),
and `LSTAT`, the percentage of residents of lower status (below 11.36 is privileged). The label is
whether the value is above its median of 21.2, or with target="regression" the value itself.

The data set is old and its column `B` ill-conceived; it is here because work on individual
fairness reports on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import Cut, DataSet, Protected, numbers, read_csv
from retrofair.datasets.fetch import DataFile, Source

FILE = "boston/boston.csv"
COLUMNS = (
    "CRIM",
    "ZN",
    "INDUS",
    "CHAS",
    "NOX",
    "RM",
    "AGE",
    "DIS",
    "RAD",
    "TAX",
    "PTRATIO",
    "B",
    "LSTAT",
    "MEDV",
)
B_MEDIAN, LSTAT_MEDIAN, MEDV_MEDIAN = 391.44, 11.36, 21.2


def read(paths: Mapping[str, Path]) -> pd.DataFrame:
    """All rows, in the usual order of columns."""
    place = paths[FILE]
    # The published copy misspells the pupil-teacher ratio; others do not.
    table = read_csv(place, na_values=[""]).rename(columns={"PIRATIO": "PTRATIO"})
    table = table[list(COLUMNS)]
    numbers(table, place, COLUMNS)
    return table


BOSTON = DataSet(
    name="boston",
    label="MEDV",
    protected={
        "B": Protected("B 391.44 and over", Cut(B_MEDIAN, "B below 391.44", "B 391.44 and over")),
        "LSTAT": Protected(
            "LSTAT below 11.36", Cut(LSTAT_MEDIAN, "LSTAT below 11.36", "LSTAT 11.36 and over")
        ),
    },
    read=read,
    threshold=MEDV_MEDIAN,
    files=(
        DataFile(
            FILE,
            "effb9d565d614bdd7e5fe75606485713b7380acd0f58f65639c56db2bd81f972",
            # Named by the note that came with a stored copy; the address itself was never tried.
            (
                Source(
                    "https://raw.githubusercontent.com/Zihao-Liu-Leo/FairNN-Co-Shiyu-Hu/"
                    "bd3ac55ee259291a85c690ce5cacfd7b2c28ef7f/boston.csv"
                ),
            ),
        ),
    ),
    reference="Harrison and Rubinfeld (1978), Hedonic housing prices and the demand for clean air",
)
