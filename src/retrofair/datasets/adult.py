"""Adult: does a person earn more than 50,000 dollars a year (US census, 1994)?

Prepared as AIF360 does it: both published parts together, the sampling weight `fnlwgt` left out,
rows with a missing value dropped (45,222 of 48,842 stay), sex and race as one 0/1 column each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import DataSet, Protected, numbers, read_csv, two_groups
from retrofair.datasets.fetch import DataFile, Source

COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income-per-year",
)
NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
TRAIN, TEST = "adult/adult.data", "adult/adult.test"
ZIP = "https://archive.ics.uci.edu/static/public/2/adult.zip"
FOLDER = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult"


def read(paths: Mapping[str, Path]) -> pd.DataFrame:
    """Both parts, complete rows only."""
    parts = []
    # The second part opens with a comment line and ends its labels with a full stop.
    for path, skip, end in ((TEST, 1, "."), (TRAIN, 0, "")):
        part = read_csv(
            paths[path],
            labels=("<=50K" + end, ">50K" + end),
            header=None,
            names=COLUMNS,
            index_col=False,
            skiprows=skip,
            skipinitialspace=True,
            na_values=["?", ""],
        )
        numbers(part, paths[path], NUMBERS)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).drop(columns="fnlwgt").dropna()
    label = COLUMNS[-1]
    table[label] = table[label].str.rstrip(".")
    table["race"] = two_groups(table["race"] == "White", "White", "non-White")
    return table.reset_index(drop=True)


ADULT = DataSet(
    name="adult",
    label="income-per-year",
    positive=">50K",
    protected={"sex": Protected("Male"), "race": Protected("White")},
    read=read,
    files=(
        DataFile(
            TRAIN,
            "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
            (Source(f"{FOLDER}/adult.data"), Source(ZIP, ("adult.data",))),
        ),
        DataFile(
            TEST,
            "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
            (Source(f"{FOLDER}/adult.test"), Source(ZIP, ("adult.test",))),
        ),
    ),
    reference="Becker and Kohavi (1996), Adult, UCI Machine Learning Repository",
)
