"""Bank marketing: does a customer subscribe to a term deposit (Portugal, 2008 to 2010)?

Prepared as AIF360 does it: the file with the economic columns, rows with an "unknown" value
dropped (30,488 of 41,188 stay), age as one 0/1 column. One departure: AIF360 counts an age of 60
or more as unprivileged, here 25 and over is privileged without an upper end, as in the papers on
intra-processing. With sensitive="marital" the groups are the three marital states.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import DataSet, Protected, numbers, read_csv, two_groups
from retrofair.datasets.fetch import DataFile, Source

FILE = "bank/bank-additional-full.csv"
NUMBERS = (
    "age",
    "duration",
    "campaign",
    "pdays",
    "previous",
    "emp.var.rate",
    "cons.price.idx",
    "cons.conf.idx",
    "euribor3m",
    "nr.employed",
)
AGE = 25


def read(paths: Mapping[str, Path]) -> pd.DataFrame:
    """Complete rows, age in two groups."""
    place = paths[FILE]
    table = read_csv(
        place,
        labels=("no", "yes"),
        columns=(*NUMBERS, "marital", "y"),
        sep=";",
        na_values=["unknown", ""],
    )
    numbers(table, place, NUMBERS)
    table = table.dropna().reset_index(drop=True)
    table["age"] = two_groups(table["age"] >= AGE, "25 and over", "under 25")
    return table


BANK = DataSet(
    name="bank",
    label="y",
    positive="yes",
    protected={"age": Protected("25 and over"), "marital": Protected("married")},
    read=read,
    files=(
        DataFile(
            FILE,
            "74adfc578bf77a7ff4bb1ba4a9f8709d9e3c6907342959c2c8416847e0afb4d8",
            (
                Source(
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/00222/"
                    "bank-additional.zip",
                    ("bank-additional/bank-additional-full.csv",),
                ),
                Source(
                    "https://archive.ics.uci.edu/static/public/222/bank+marketing.zip",
                    ("bank-additional.zip", "bank-additional/bank-additional-full.csv"),
                ),
            ),
        ),
    ),
    reference="Moro, Cortez and Rita (2014), A data-driven approach to predict the success of "
    "bank telemarketing",
)
