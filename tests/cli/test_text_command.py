"""Texts at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
import retrofair as rf
from hugging_cases import saved, table
from retrofair.cli import run
from retrofair.debiasers.result import decide
from retrofair.deploy.formats import quiet
from retrofair.networks import load_network

COLUMNS = ["--label", "smiling", "--sensitive", "race", "--privileged", "White"]
GIVEN = ["reviews.csv", "--text", "review", "--network", "bert", "--outputs", "logits", *COLUMNS]


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved("bert", tmp_path)
    table().to_csv("reviews.csv", index=False)


def fails(capsys: Any, message: str, *arguments: object) -> None:
    assert run([str(each) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert not out


@pytest.mark.parametrize("method", [["fair_head"], ["threshold"], ["pruning", "--head-only"]])
def test_debias_and_audit_of_the_saved_result(method: list[str], capsys) -> None:
    name, *more = method
    asked = ["debias", *GIVEN, "--method", name, *more, "--out", "o", "--report", "--json"]
    assert run(asked) in (0, 3)
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["rows"] == 60
    assert Path("o/report.html").is_file()
    result = rf.load_result("o", load_network("bert"))
    data = rf.texts_of(
        table(), "bert", text="review", label="smiling", sensitive="race", privileged="White"
    )
    test = rf.split_rows(data, 0, (0.0, 0.5, 0.5)).test
    assert found["test"]["after"]["spd"]["value"] == rf.audit(result, test)["spd"].value
    assert run(["audit", *GIVEN[:5], "--result", "o", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spd"]["value"] == rf.audit(result, data)["spd"].value
    asked = ["export", "o", "--network", "bert", "--format", "torchscript", "--out", "served"]
    assert run([*asked, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "the tokenizer in bert makes" in err
    done = json.loads(out)
    names = [each["name"] for each in done["inputs"]]
    assert sorted(names) == ["attention_mask", "input_ids", "token_type_ids"]
    assert done["written"]
    x, _, _ = next(iter(test))
    Path("reviews.csv").rename("moved.csv")
    assert run([*asked, "--data", "moved.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"] == done["parity"]
    with quiet():  # TorchScript is deprecated
        served = torch.jit.load("served/model.pt")
    chance, decision = served(*(x[name] for name in names))
    assert decision.tolist() == result.predict(x).tolist()
    assert chance.numpy() == pytest.approx(decide(result.model, result.rule, x)[0], abs=1e-5)


def test_frontier(capsys) -> None:
    methods = ["--methods", "threshold,fair_head", "--bounds", "0.3", "--choose", "bias=0.9"]
    assert run(["frontier", *GIVEN, *methods, "--json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)


def test_texts_that_are_cut_are_counted(capsys) -> None:
    assert run(["audit", *GIVEN, "--max-length", "5", "--json"]) == 0
    assert "texts after 5 tokens (--max-length)" in capsys.readouterr().err


def test_what_is_wrong(capsys) -> None:
    missing = [*GIVEN[:2], "revue", *GIVEN[3:]]
    fails(capsys, "'revue'", "audit", *missing)
    fails(capsys, "got numbers", "audit", *GIVEN[:2], "smiling", *GIVEN[3:])
    fails(capsys, "--network FOLDER", "audit", *GIVEN[:3], *COLUMNS)
    fails(capsys, "which holds the network and its", "audit", *GIVEN[:4], "mine:make", *COLUMNS)
    fails(capsys, "the data set 'adult'", "audit", "adult", *GIVEN[1:])
    fails(capsys, "--images with --size", "audit", *GIVEN, "--size", "8")
    fails(capsys, "(--max-length)", "audit", *GIVEN, "--max-length", "500")
    for each in ("tokenizer.json", "tokenizer_config.json"):
        Path("bert", each).unlink()
    fails(capsys, "expected a tokenizer in bert", "audit", *GIVEN)
