"""German credit: is a borrower a good credit risk (Germany, 1973 to 1975)?

Prepared as AIF360 does it: 1,000 rows, sex taken from the column of personal status, which itself
is left out; age over 25 and sex as one 0/1 column each. The positive label is good credit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import DataSet, Protected, numbers, read_csv, two_groups
from retrofair.datasets.fetch import DataFile, Source

FILE = "german/german.data"
COLUMNS = (
    "status",
    "month",
    "credit_history",
    "purpose",
    "credit_amount",
    "savings",
    "employment",
    "investment_as_income_percentage",
    "personal_status",
    "other_debtors",
    "residence_since",
    "property",
    "age",
    "installment_plans",
    "housing",
    "number_of_credits",
    "skill_level",
    "people_liable_for",
    "telephone",
    "foreign_worker",
    "credit",
)
NUMBERS = (
    "month",
    "credit_amount",
    "investment_as_income_percentage",
    "residence_since",
    "age",
    "number_of_credits",
    "people_liable_for",
)
FEMALE = ("A92", "A95")
AGE = 25


def read(paths: Mapping[str, Path]) -> pd.DataFrame:
    """All rows, sex and age in two groups each."""
    place = paths[FILE]
    table = read_csv(place, labels=("1", "2"), sep=" ", header=None, names=COLUMNS, index_col=False)
    numbers(table, place, NUMBERS)
    sex = two_groups(table["personal_status"].isin(FEMALE), "Female", "Male")
    table["age"] = two_groups(table["age"] > AGE, "over 25", "25 and under")
    return table.drop(columns="personal_status").assign(sex=sex)


GERMAN = DataSet(
    name="german",
    label="credit",
    positive="1",
    protected={"sex": Protected("Male"), "age": Protected("over 25")},
    read=read,
    files=(
        DataFile(
            FILE,
            "b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871",
            (
                Source(
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/statlog/german/"
                    "german.data"
                ),
                Source(
                    "https://archive.ics.uci.edu/static/public/144/statlog+german+credit+data.zip",
                    ("german.data",),
                ),
            ),
        ),
    ),
    reference="Hofmann (1994), Statlog (German credit data), UCI Machine Learning Repository",
)
