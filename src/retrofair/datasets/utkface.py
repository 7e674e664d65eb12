"""UTKFace: faces of people aged 1 to 116, with age, gender and race.

23,704 faces, reduced to 64x64; 390 of them are byte copies of another and are left out before
anything is split (23,314 stay). Labels were estimated by a model and checked by a person, so say
its authors. Ages start at 1: children are among the faces.

What is predicted (`target`): "young", whether somebody is at most `threshold` years old (30: 53 %
are); "gender" (1 = female); "age", the number. Groups: race (White is privileged; `others=True`
merges the other four), gender, age (under 40 is privileged). A column that says what is predicted
cannot be the sensitive one.

Images are in no table: `load` gives `StreamedData`, decoded once (290 MB) and shared by the parts.
`images=` takes the original faces instead, in a folder or zip, with another `size=` if wanted.
UTKFace is for non-commercial research only.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import Cut, DataSet, Protected, broken, named, numbers, two_groups
from retrofair.datasets.fetch import DataFile
from retrofair.errors import InputError, unknown

FILE = "utkface/utkface_64x64.zip"
LABEL = "label"
RACES = {0: "White", 1: "Black", 2: "Asian", 3: "Indian", 4: "Other"}
GENDERS = {0: "Male", 1: "Female"}
# what is predicted, and the column that says it
TARGETS = {"young": "age", "gender": "gender", "age": "age"}
YOUNG, OLDER = 30, 40


def read(
    paths: Mapping[str, Path],
    *,
    sensitive: Sequence[str] = (),
    target: str = "young",
    threshold: int = YOUNG,
    others: bool = False,
) -> pd.DataFrame:
    """A row for every face that is no copy: file, age, gender, race and label."""
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if TARGETS[target] in sensitive:
        raise InputError(
            f"expected a sensitive attribute other than {TARGETS[target]!r}, which target="
            f"{target!r} predicts: take another, or another target ({', '.join(TARGETS)})"
        )
    place = paths[FILE]
    with zipfile.ZipFile(place) as archive, archive.open("labels.csv") as file:
        table = pd.read_csv(file)
    if not len(table):
        raise broken(place, "no rows")
    numbers(table, place, ("age", "gender", "race"))
    table = table[table["duplicate_of"].isna()].drop(columns="duplicate_of").reset_index(drop=True)
    age = table["age"]
    if not age.min() <= threshold < age.max():
        raise InputError(
            f"expected a threshold from {age.min()} to {age.max() - 1} years, got {threshold!r}"
        )
    label = {"young": age <= threshold, "gender": table["gender"] == 1, "age": age}[target]
    table[LABEL] = label.astype(int)
    table["race"] = named(table["race"], RACES, place)
    table["gender"] = named(table["gender"], GENDERS, place)
    if others:
        table["race"] = two_groups(table["race"] == "White", "White", "non-White")
    return table


UTKFACE = DataSet(
    name="utkface",
    label=LABEL,
    protected={
        "race": Protected("White"),
        "gender": Protected("Male"),
        "age": Protected("under 40", Cut(OLDER, "under 40", "40 and over")),
    },
    read=read,
    number_target="age",
    file="file",
    images=FILE,
    files=(
        DataFile(
            FILE,
            "a2e4e996873de58dc4963c7ebeeaa5ff24d2508e6a41adc682b92ee8f947e37d",
            about="faces for non-commercial research, from the authors of UTKFace; the zip holds "
            "img/NAME, the aligned faces as JPEG of 64x64 pixels, and labels.csv with the columns "
            "file (NAME), age, gender (1 = female), race (0 to 4) and duplicate_of (the NAME that "
            "a copy repeats)",
        ),
    ),
    reference="Zhang, Song and Qi (2017), Age progression/regression by conditional adversarial "
    "autoencoder",
)
