"""Preparations as files: the same when read, and refused when they are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import retrofair as rf
from retrofair.data.raw import codes
from retrofair.errors import InputError, MissingFileError


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [20.1, 30.7, 40.3, 55.9],
            "job": ["cook", "smith", "cook", "clerk"],
            "sex": ["F", "M", "F", "M"],
            "hired": ["no", "yes", "yes", "no"],
        }
    )


@pytest.fixture
def made(frame: pd.DataFrame) -> rf.Preparation:
    return rf.Preparation.fit(frame, label="hired", positive="yes", sensitive="sex", privileged="M")


def edit(path: Path, change: Any) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_it_is_the_same_when_read(made: rf.Preparation, frame, tmp_path: Path) -> None:
    path = made.save(tmp_path / "a" / "p.json")
    again = rf.Preparation.load(str(path))
    assert again == made
    assert again.to_dict() == made.to_dict()
    one, two = (rf.GroupedData.prepared(each, frame) for each in (made, again))
    assert torch.equal(one.x, two.x)
    assert one.y.tolist() == [0, 1, 1, 0]


def test_a_file_without_what_older_versions_did_not_store(made, frame, tmp_path: Path) -> None:
    path = made.save(tmp_path / "p.json")
    for name in ("negative", "left_out"):
        edit(path, lambda v, name=name: v["preparation"].pop(name))
    edit(path, lambda v: v["preparation"]["columns"][2].pop("other"))
    again = rf.Preparation.load(path)
    assert again == made
    assert not again.negative
    assert codes(again)["sex"] == {"M": 1}
    assert rf.data.raw_table(again, frame.assign(sex="X"))[:, 2].tolist() == [0] * 4
    data = rf.GroupedData.prepared(again, frame.assign(hired=["no", "yes", "yes", "?"]))
    assert data.y.tolist() == [0, 1, 1, 0]  # the label's values are not known: none is refused


def test_other_values_of_the_label_are_refused(made: rf.Preparation, frame) -> None:
    """Adult's test rows have '>50K.' for '>50K': they are no negatives."""
    dots = frame.assign(hired=frame["hired"] + ".")
    words = r"'hired' to be one of 'yes', 'no', got also 'no\.', 'yes\.' \(4 rows\)"
    with pytest.raises(InputError, match=words):
        rf.GroupedData.prepared(made, dots)
    new = frame.assign(hired=["yes", None, "yes", "yes"])  # one class is enough, gaps are gaps
    with pytest.warns(rf.RetrofairWarning, match="hired"):
        assert rf.GroupedData.prepared(made, new).y.tolist() == [1, 1, 1]


@pytest.mark.parametrize("raw", [False, True])
def test_times_and_texts_are_no_numbers(raw: bool, made: rf.Preparation, frame) -> None:
    days = pd.Series(pd.to_datetime(["2020-01-01"] * 4))
    columns = {
        "datetime64": days,
        "datetime64.*UTC": days.dt.tz_localize("UTC"),
        "timedelta64": days - pd.Timestamp("2019-01-01"),
        "period": days.dt.to_period("D"),
        "object": days.astype(object),
        "str": pd.Series(["young"] * 4),
    }
    for kind, column in columns.items():
        table = frame.assign(age=column)
        with pytest.raises(InputError, match=f"expected numbers in column 'age', got {kind}"):
            rf.data.raw_table(made, table) if raw else rf.GroupedData.prepared(made, table)


def test_a_sensitive_value_that_is_not_known_has_no_number(made: rf.Preparation, frame) -> None:
    """The library refuses such a row; an exported file must not decide about it as one of F."""
    words = "'sex' has categories that the preparation does not know: 'X' \\(1 rows\\)"
    with pytest.raises(InputError, match=words):
        rf.data.raw_table(made, frame.assign(sex=["F", "M", "X", "M"]))
    gaps = rf.data.raw_table(made, frame.assign(sex=["F", "M", None, "M"]))[:, 2]
    assert gaps[:2].tolist() == [0, 1]
    assert pd.isna(gaps[2])


def test_any_other_value_of_a_flag(frame) -> None:
    made = rf.Preparation.fit(
        frame, label="hired", positive="yes", sensitive="sex", flags={"job": "cook"}
    )
    assert codes(made)["job"] == {"cook": 1}
    new = rf.data.raw_table(made, frame.assign(job=["cook", "king", "cook", "clerk"]))
    assert new[:, 1].tolist() == [1, 0, 1, 0]


def test_columns_that_are_not_known_are_refused(frame, tmp_path: Path) -> None:
    made = rf.Preparation.fit(
        frame.assign(id=range(4)), label="hired", positive="yes", sensitive="sex",
        privileged="M", drop=["id"], include_sensitive=False,
    )  # fmt: skip
    made = rf.Preparation.load(made.save(tmp_path / "p.json"))
    assert rf.GroupedData.prepared(made, frame.assign(id=7)).notes == ()
    words = "columns that the preparation does not know: 'extra', 'more'; leave them out"
    with pytest.raises(rf.InputError, match=words):
        rf.GroupedData.prepared(made, frame.assign(extra=1, id=7, more="x"))
    with pytest.raises(rf.InputError, match=r"'c9' and 2 more; .*--drop"):
        rf.GroupedData.prepared(made, frame.assign(**{f"c{i}": 1 for i in range(12)}))


def test_truth_values_and_digits_are_one_label(frame) -> None:
    digits = frame.assign(hired=[0, 1, 1, 0])
    made = rf.Preparation.fit(digits, label="hired", sensitive="sex", privileged="M")
    for values in ([False, True, True, False], [0.0, 1.0, 1.0, 0.0], ["0", "1", "1", "0"]):
        assert rf.GroupedData.prepared(made, frame.assign(hired=values)).y.tolist() == [0, 1, 1, 0]
    with pytest.raises(InputError, match="got also '2'"):
        rf.GroupedData.prepared(made, frame.assign(hired=[0, 1, 2, 0]))


def test_one_of_many_values_is_positive(frame) -> None:
    grades = frame.assign(hired=["low", "high", "middle", "low"])
    made = rf.Preparation.fit(
        grades, label="hired", positive="high", sensitive="sex", privileged="M"
    )
    assert made.negative == ("low", "middle")
    assert rf.GroupedData.prepared(made, grades).y.tolist() == [0, 1, 0, 0]


def test_a_new_table_is_not_learned_from(made: rf.Preparation, frame) -> None:
    new = frame.assign(age=frame["age"] + 100)
    moved = (
        rf.GroupedData.prepared(made, new).x[:, 0] - rf.GroupedData.prepared(made, frame).x[:, 0]
    )
    assert torch.allclose(moved, torch.full((4,), 100 / made.columns[0].spread))


def test_the_codes_for_other_programs(made: rf.Preparation, tmp_path: Path) -> None:
    values = json.loads(made.save(tmp_path / "p.json").read_text())
    assert values["codes"] == {"job": {"clerk": 0, "cook": 1, "smith": 2}, "sex": {"M": 1, "F": 0}}
    assert values["codes"] == codes(made)
    assert values["retrofair"] == rf.__version__


@pytest.mark.parametrize("number", [2, 0, None, "1"])
def test_another_version(number: Any, made: rf.Preparation, tmp_path: Path) -> None:
    path = made.save(tmp_path / "p.json")
    edit(path, lambda v: v.update(format=number, retrofair="9.9"))
    with pytest.raises(InputError, match=r"format 1 in .*another version \(Retrofair 9\.9\)"):
        rf.Preparation.load(path)


def test_what_is_no_preparation(made: rf.Preparation, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(MissingFileError, match="there is no file"):
        rf.Preparation.load(path)
    for text, words in (("{", "is damaged"), ("[1]", "format 1"), ("{}", "format 1")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            rf.Preparation.load(path)


def drop_columns(v: dict[str, Any]) -> None:
    del v["preparation"]["columns"]


def zero_spread(v: dict[str, Any]) -> None:
    v["preparation"]["columns"][0]["spread"] = 0


def text_mean(v: dict[str, Any]) -> None:
    v["preparation"]["columns"][0]["mean"] = "1"


def null_mean(v: dict[str, Any]) -> None:
    v["preparation"]["columns"][0]["mean"] = None


def number_value(v: dict[str, Any]) -> None:
    v["preparation"]["columns"][1]["values"] = [1, 2]


def nothing(v: dict[str, Any]) -> None:
    v["preparation"] = None


@pytest.mark.parametrize(
    "change", [drop_columns, zero_spread, text_mean, null_mean, number_value, nothing]
)
def test_damaged_values(change: Any, made: rf.Preparation, tmp_path: Path) -> None:
    path = made.save(tmp_path / "p.json")
    edit(path, change)
    with pytest.raises(InputError, match=r"damaged|written by Retrofair"):
        rf.Preparation.load(path)


def test_tables_of_other_columns(made: rf.Preparation, frame) -> None:
    def fails(words: str, table: pd.DataFrame) -> None:
        with pytest.raises(InputError, match=words):
            rf.GroupedData.prepared(made, table)

    fails(
        "'job' has categories that the preparation does not know: 'king'", frame.assign(job="king")
    )
    fails("unknown column 'age'", frame.drop(columns="age"))
    fails("the columns 'hired', 'age', which are not there", frame.drop(columns=["age", "hired"]))
    fails(r"the groups \['F', 'M'\], got also \['X'\]", frame.assign(sex="X"))
