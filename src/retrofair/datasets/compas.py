"""COMPAS: is a defendant charged again within two years (Broward County, 2013 and 2014)?

Prepared as AIF360 does it: ProPublica's filter (6,172 of 7,214 rows), ten features, rows without
a charge description dropped (6,167 stay), sex and race as one 0/1 column each. One departure: the
positive label is 1, being charged again, which is the unfavourable outcome; AIF360 calls 0
favourable, and so does `favourable` here. A positive bias thus means that the unprivileged group is
predicted to reoffend more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import DataSet, Protected, numbers, read_csv, two_groups
from retrofair.datasets.fetch import DataFile, Source

FILE = "compas/compas-scores-two-years.csv"
FEATURES = (
    "sex",
    "age",
    "age_cat",
    "race",
    "juv_fel_count",
    "juv_misd_count",
    "juv_other_count",
    "priors_count",
    "c_charge_degree",
    "c_charge_desc",
)
NUMBERS = ("age", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count")
DAYS = 30


def read(paths: Mapping[str, Path]) -> pd.DataFrame:
    """ProPublica's selection of rows, AIF360's of columns."""
    place = paths[FILE]
    filters = ("days_b_screening_arrest", "is_recid", "score_text")
    # The file names two columns twice; pandas marks the second of each, and the first is meant.
    table = read_csv(
        place, labels=("0", "1"), columns=(*FEATURES, *filters, "two_year_recid"), na_values=[""]
    )
    numbers(table, place, (*NUMBERS, "days_b_screening_arrest", "is_recid"))
    kept = (
        table["days_b_screening_arrest"].between(-DAYS, DAYS)
        & (table["is_recid"] != -1)
        & (table["c_charge_degree"] != "O")
        & (table["score_text"] != "N/A")
    )
    table = table.loc[kept, [*FEATURES, "two_year_recid"]].dropna().reset_index(drop=True)
    table["race"] = two_groups(table["race"] == "Caucasian", "Caucasian", "non-Caucasian")
    return table


COMPAS = DataSet(
    name="compas",
    label="two_year_recid",
    favourable=0,
    protected={"race": Protected("Caucasian"), "sex": Protected("Female")},
    read=read,
    files=(
        DataFile(
            FILE,
            "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
            (
                Source(
                    "https://raw.githubusercontent.com/propublica/compas-analysis/master/"
                    "compas-scores-two-years.csv"
                ),
            ),
        ),
    ),
    reference="Angwin, Larson, Mattu and Kirchner (2016), Machine bias",
)
