"""Classifiers whose config names its classes, at the command line: outputs are told by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

pytest.importorskip("transformers")
import retrofair as rf
from hugging_cases import bert, saved_as, spoken
from retrofair.cli import run
from retrofair.deploy.formats import quiet
from retrofair.networks import load_network

COLUMNS = ["--label", "said", "--sensitive", "race", "--privileged", "White"]
GOAL = ["--epsilon", "1"]  # which all keep: what is right stays right


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def given(kind: str, words: list[str]) -> list[str]:
    """The options of data on which the network is right."""
    spoken(kind, Path(), words).to_csv("rows.csv", index=False)
    data = ["rows.csv", "--text", "review"]
    if kind == "resnet":
        data = ["--images", "faces", "--labels", "rows.csv"]
    return [*data, "--network", "spoken"]


def said(capsys: Any, *arguments: object) -> tuple[dict[str, Any], str]:
    assert run([*map(str, arguments), "--json"]) in (0, 3)
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.mark.parametrize("kind", ["resnet", "bert"])
@pytest.mark.parametrize("words", [["yes", "no"], ["young", "middle", "old"]])
def test_what_is_right_is_right_everywhere(kind: str, words: list[str], capsys: Any) -> None:
    data = given(kind, words)
    positive = ["--positive", "yes"] if len(words) == 2 else []
    found, err = said(capsys, "audit", *data, *COLUMNS, *positive)
    assert found["accuracy"]["value"] == 1.0
    assert "outputs" not in err
    asked = [*data, *COLUMNS, *positive, *GOAL, "--method", "threshold", "--out", "o"]
    found, err = said(capsys, "debias", *asked)
    for part in ("before", "after"):
        assert found["test"][part]["accuracy"]["value"] == 1.0
    assert "outputs" not in err
    found, _ = said(capsys, "audit", *data, "--result", "o")
    assert found["accuracy"]["value"] == 1.0
    # and where the other value is the positive one
    if positive:
        found, _ = said(capsys, "audit", *data, *COLUMNS, "--positive", "no")
        assert found["accuracy"]["value"] == 1.0
        more = ["--methods", "threshold", "--bounds", "1", "--out", "f"]
        found, _ = said(capsys, "frontier", *data, *COLUMNS, *positive, *more)
        assert found["test"]["original"]["accuracy"]["value"] == 1.0


def test_what_is_exported_is_turned_too(capsys: Any) -> None:
    data = given("bert", ["yes", "no"])
    asked = [*data, *COLUMNS, "--positive", "yes", *GOAL, "--method", "threshold", "--out", "o"]
    said(capsys, "debias", *asked)
    done, _ = said(
        capsys, "export", "o", "--network", "spoken", "--format", "torchscript", "--out", "served"
    )
    assert done["written"]
    with quiet():  # TorchScript is deprecated
        served = torch.jit.load("served/model.pt")
    x = texts().x
    _, decided = served(*(x[name] for name in sorted(x)))
    assert decided.tolist() == texts().y.tolist()


def texts() -> rf.StreamedData:
    columns = {"label": "said", "sensitive": "race", "privileged": "White", "positive": "yes"}
    return rf.texts_of(pd.read_csv("rows.csv"), "spoken", text="review", **columns)


def test_other_names_are_noted_once(capsys: Any) -> None:
    data = given("bert", ["NEGATIVE", "POSITIVE"])
    frame = spoken("bert", Path(), ["NEGATIVE", "POSITIVE"])
    frame.assign(said=(frame["said"] == "POSITIVE").astype(int)).to_csv("rows.csv", index=False)
    asked = [*data, *COLUMNS, *GOAL, "--method", "threshold", "--out", "o"]
    for command in (["audit", *data, *COLUMNS], ["debias", *asked]):
        found, err = said(capsys, *command)
        assert err.count("'POSITIVE' is taken for the label '1'") == 1
        assert "--positive" in err
    assert found["test"]["before"]["accuracy"]["value"] == 1.0
    said(capsys, "audit", *data, *COLUMNS, "--positive", "0")


def test_names_without_meaning_are_not_noted(capsys: Any) -> None:
    data = given("bert", ["LABEL_0", "LABEL_1"])
    frame = spoken("bert", Path(), ["LABEL_0", "LABEL_1"])
    frame.assign(said=(frame["said"] == "LABEL_1").astype(int)).to_csv("rows.csv", index=False)
    found, err = said(capsys, "audit", *data, *COLUMNS)
    assert found["accuracy"]["value"] == 1.0
    assert "is taken" not in err


def fails(capsys: Any, message: str, *arguments: object) -> None:
    capsys.readouterr()  # what transformers says while it saves
    assert run([str(each) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert not out


def test_what_is_refused(capsys: Any) -> None:
    data = given("bert", ["young", "middle", "old"])
    frame = spoken("bert", Path(), ["young", "middle", "old"])
    frame.replace({"said": {"old": "elderly"}}).to_csv("rows.csv", index=False)
    for command in ("audit", "debias"):
        message = "the network's outputs, young, middle, old, got elderly"
        fails(capsys, message, command, *data, *COLUMNS)
    model: Any = bert()
    model.config.problem_type = "multi_label_classification"
    model.config.id2label = {0: "toxic", 1: "insult"}
    saved_as("bert", model, Path("many"))
    for command in ("audit", "debias", "frontier"):
        fails(capsys, "2 labels at once (toxic, insult", command, *data[:-1], "many", *COLUMNS)
    message = "--label-output 'toxic' or a label's column that is called as one of them"
    fails(capsys, message, "audit", *data[:-1], "many", *COLUMNS)
    chosen = [*data[:-1], "many", *COLUMNS, "--label-output", "tosic"]
    fails(capsys, "unknown output 'tosic': did you mean 'toxic'?", "audit", *chosen)
    fails(capsys, "expected output from 0 to 1, got 2", "audit", *chosen[:-1], "2")
    table = ["rows.csv", "--label", "smiling", "--sensitive", "race", "--label-output", "toxic"]
    fails(capsys, "expected --images or --text with --label-output", "audit", *table)
    asked = [*data, "--result", "o", "--label-output", "toxic"]
    fails(capsys, "expected no --label-output with a saved result", "audit", *asked)


def test_an_output_is_not_read_of_classes_or_upside_down(capsys: Any) -> None:
    data = given("bert", ["young", "middle", "old"])
    message = "3 classes that exclude each other (young, middle, old)"
    fails(capsys, message, "audit", *data, *COLUMNS, "--label-output", "old")
    config = Path("spoken/config.json")
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"problem_type": "multi_label_classification"}))
    frame = pd.read_csv("rows.csv")
    frame.assign(old=(frame["said"] == "old").astype(int)).to_csv("rows.csv", index=False)
    asked = ["--label", "old", "--sensitive", "race", "--privileged", "White"]
    found = [said(capsys, "audit", *data, *asked, "--positive", each)[0] for each in (1, 0)]
    assert found[0]["accuracy"]["value"] == found[1]["accuracy"]["value"]
    spd = [each["spd"]["value"] for each in found]
    assert spd[0] == pytest.approx(-spd[1], abs=1e-12)
    assert spd[0] != 0


@pytest.mark.parametrize("missing_first", [True, False])
def test_classes_that_are_numbers_with_some_missing(missing_first: bool, capsys: Any) -> None:
    data = given("bert", ["0", "1", "2"])
    frame = pd.read_csv("rows.csv")
    some = frame.assign(said=frame["said"].where(frame.index >= 10))
    (some if missing_first else frame).to_csv("rows.csv", index=False)
    said(capsys, "debias", *data, *COLUMNS, *GOAL, "--method", "threshold", "--out", "o")
    (frame if missing_first else some).to_csv("rows.csv", index=False)
    found, _ = said(capsys, "audit", *data, "--result", "o")
    assert found["accuracy"]["value"] == 1.0
    assert json.loads(Path("o/result.json").read_text())["about"]["label_names"] == ["0", "1", "2"]


def test_new_rows_for_a_result(capsys: Any) -> None:
    data = given("bert", ["young", "middle", "old"])
    said(capsys, "debias", *data, *COLUMNS, "--method", "threshold", "--out", "o")
    frame = pd.read_csv("rows.csv")
    late = frame["race"].ne("White") & frame["said"].eq("old")  # now others have more
    frame[~frame["race"].eq("White") | frame["said"].ne("old") | late].to_csv("rows.csv")
    _, err = said(capsys, "audit", *data, "--result", "o")
    assert "privileged" not in err  # the result's is known
    frame.replace({"said": {"old": "elderly"}}).to_csv("rows.csv", index=False)
    message = "expected 'said' to be middle, old, young, as in the data that the result was fitted"
    fails(capsys, message, "audit", *data, "--result", "o")


@pytest.mark.parametrize("name", ["bert", "resnet"])
@pytest.mark.parametrize("chosen", [True, False])
def test_one_of_several_labels(name: str, chosen: bool, capsys: Any) -> None:
    names = ["toxic", "insult", "threat"]
    frame = spoken(name, Path(), names)
    config = Path("spoken/config.json")
    values = json.loads(config.read_text())
    values["problem_type"] = "multi_label_classification"
    config.write_text(json.dumps(values))
    column = "mean" if chosen else "Insult"
    frame[column] = (frame["said"] == "insult").astype(int)
    frame.to_csv("rows.csv", index=False)
    columns = ["--label", column, "--sensitive", "race", "--privileged", "White"]
    reads = ["--label-output", "insult"] if chosen else []
    about = ["rows.csv", "--text", "review"]
    if name == "resnet":
        about = ["--images", "faces", "--labels", "rows.csv"]
    data = [*about, "--network", "spoken"]
    found, err = said(capsys, "audit", *data, *columns, *reads)
    assert ("of the network's labels 'insult' is read, as the column is called" in err) != chosen
    assert "is taken for" not in err

    model: Any = load_network("spoken", output=1)
    labels = {"label": column, "sensitive": "race", "privileged": "White"}
    rows = (
        rf.texts_of(frame, "spoken", text="review", **labels)
        if name == "bert"
        else rf.images_of("faces", frame, **rf.networks.image_options("spoken"), **labels)
    )
    assert found["accuracy"]["value"] == rf.audit(model, rows)["accuracy"].value
    asked = ["--method", "threshold", "--epsilon", "0.5", "--out", "o", *reads]
    said(capsys, "debias", *data, *columns, *asked)
    whole, _ = said(capsys, "audit", *data, "--result", "o")
    raw: Any = model.network  # as transformers gives it
    assert whole["accuracy"]["value"] == rf.audit(rf.load_result("o", raw), rows)["accuracy"].value
    written = ["o", "--network", "spoken", "--format", "torchscript", "--out", "served"]
    assert said(capsys, "export", *written)[0]["written"]
