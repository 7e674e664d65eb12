"""`retrofair init`: what it guesses, what it writes, and that the other commands can use it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retrofair.cli import run
from retrofair.cli.config import defaults_of
from retrofair.cli.table_choice import commas
from retrofair.datasets.synthetic import read


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    frame = read({}, n=800, seed=1)
    frame.insert(0, "person_id", range(100, 900))
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    frame["decision"] = (frame["skill"] > 0).astype(int)
    frame.loc[:99, "skill"] = np.nan
    frame.to_csv("people.csv", index=False)
    return frame


def written(path: str = "retrofair.toml") -> dict:
    return tomllib.loads(Path(path).read_text(encoding="utf-8"))


def test_it_writes_what_the_other_commands_read(frame, capsys) -> None:
    assert run(["init", "people.csv"]) == 0
    out = capsys.readouterr().out
    assert "two values, and called 'hired'" in out
    found = written()
    assert (found["data"], found["label"], found["positive"]) == ("people.csv", "hired", "yes")
    assert (found["sensitive"], found["privileged"]) == (["sex"], ["Male"])
    assert found["drop"] == ["person_id", "decision"]
    assert found["missing"] == "impute"
    assert found["audit"] == {"prediction": "decision"}
    assert run(["audit", "--config", "retrofair.toml", "--json"]) == 0
    by_file = json.loads(capsys.readouterr().out)["spd"]["value"]
    rates = frame.groupby("sex")["decision"].mean()
    assert by_file == pytest.approx(rates["Female"] - rates["Male"])
    for command in ("debias", "frontier", "certify", "repair", "train"):
        assert defaults_of(Path("retrofair.toml"), command)["label"] == "hired"
    assert run(["train", "--config", "retrofair.toml", "--depth", "1", "--patience", "1"]) == 0


def test_a_file_that_is_there_stays(frame, capsys) -> None:
    Path("retrofair.toml").write_text("mine")
    assert run(["init", "people.csv"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("retrofair.toml").read_text() == "mine"
    assert run(["init", "people.csv", "--force"]) == 0
    assert written()["label"] == "hired"


def test_known_columns_json_and_another_place(frame, capsys) -> None:
    Path("sub").mkdir()
    options = ["--sensitive", "sex,region", "--to", "sub/mine.toml", "--json"]
    assert run(["init", "people.csv", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == "sub/mine.toml"
    assert found["settings"]["sensitive"] == {"value": ["sex", "region"], "why": "given"}
    assert found["problems"] == []
    assert written("sub/mine.toml")["data"] == "../people.csv"
    assert run(["audit", "--config", "sub/mine.toml"]) == 0


def test_parquet_and_names_that_need_quotes(capsys) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({'the "sex"': random.choice(["f", "m"], 200)})
    frame["größe [cm]\n"] = random.normal(size=200)
    frame['it\'s "good"'] = random.choice(["a\\b", "c"], 200)
    frame.to_parquet("people.parquet")
    assert run(["init", "people.parquet"]) == 0
    found = written()
    assert found["label"] == 'it\'s "good"'
    assert found["positive"] in ("a\\b", "c")
    assert found["sensitive"] == ['the "sex"']
    assert run(["train", "--config", "retrofair.toml", "--depth", "0", "--patience", "1"]) == 0


def test_names_and_values_with_commas(capsys) -> None:
    random = np.random.default_rng(0)
    sex, kind = 'My "sex", or gender', "kind, of a person"
    frame = pd.DataFrame({sex: random.choice(["f", "m, or so"], 200), "a,b": range(200)})
    frame[kind] = random.choice(["u, v", "w"], 200)
    frame["x"] = random.normal(size=200)
    frame["hired"] = random.choice(["no", "yes"], 200)
    frame.to_csv("people.csv", index=False)
    marked = ",".join(name.replace(",", "\\,") for name in (sex, kind))
    assert run(["init", "people.csv", "--sensitive", marked]) == 0, capsys.readouterr().err
    assert (written()["sensitive"], written()["drop"]) == ([sex, kind], ["a,b"])
    train = ["train", "--config", "retrofair.toml", "--depth", "0", "--patience", "1"]
    assert run(train) == 0, capsys.readouterr().err
    text = defaults_of(Path("retrofair.toml"), "audit")
    assert commas(text["sensitive"]) == [sex, kind]


def test_a_column_of_lists_is_left_out(capsys) -> None:
    frame = read({}, n=200, seed=1)
    frame["tags"] = [[1, 2]] * 199 + [None]
    frame["where"] = [{"x": 1}] * 200
    frame.to_parquet("people.parquet")
    assert run(["init", "people.parquet"]) == 0, capsys.readouterr().err
    assert written()["drop"] == ["tags", "where"]
    assert "tags: values that are neither numbers nor texts (lists)" in " ".join(
        Path("retrofair.toml").read_text().split()
    )
    assert run(["train", "--config", "retrofair.toml", "--depth", "0", "--patience", "1"]) == 0
    assert run(["init", "people.parquet", "--sensitive", "tags", "--force"]) == 2
    assert "expected a column of numbers or texts, got 'tags'" in capsys.readouterr().err


def test_what_cannot_be_guessed_is_left_to_fill_in(capsys) -> None:
    pd.DataFrame({"a": range(10), "b": range(10)}).to_csv("numbers.csv", index=False)
    assert run(["init", "numbers.csv"]) == 3
    err = capsys.readouterr().err
    assert "to be filled in, label: no column of two values found" in err
    assert "to be filled in, sensitive" in err
    assert "label" not in written()


def test_what_hinders_the_other_commands_is_said(capsys) -> None:
    frame = pd.DataFrame({"sex": ["f", "m"] * 10, "hired": [0, 1] * 10, "x": ["inf", "1"] * 10})
    frame["x"] = frame["x"].astype(float)
    frame.to_csv("people.csv", index=False)
    assert run(["init", "people.csv"]) == 3
    assert "infinite values" in capsys.readouterr().err


def test_a_data_set(capsys) -> None:
    assert run(["init", "compas"]) == 0
    found = written()
    assert (found["data"], found["sensitive"]) == ("compas", ["race"])
    assert "label" not in found
    assert "sex" in capsys.readouterr().out
    assert run(["init", "compas", "--sensitive", "sex", "--to", "sex.toml"]) == 0
    assert written("sex.toml")["sensitive"] == ["sex"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "there is no file nothing.csv"),
        (["adultt"], "did you mean 'adult'"),
        (["people.csv", "--label", "hird"], "did you mean 'hired'"),
        (["people.csv", "--sensitive", "Sex"], "did you mean 'sex'"),
        (["adult", "--label", "x"], "--label is for files"),
        (["people.csv", "--to", "."], "is a folder (--to)"),
        (["people.csv", "--to", "nope/x.toml"], "expected a folder that is there, got nope (--to)"),
        (["people.csv", "--label", "sex", "--sensitive", "sex"], "got 'sex' as both"),
    ],
)
def test_bad_input(frame, arguments, message, capsys) -> None:
    assert run(["init", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out
    assert not Path("retrofair.toml").exists()
    assert not Path("nope").exists()
