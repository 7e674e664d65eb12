"""`retrofair repair` as a user meets it: what it says, writes, refuses, and its exit status."""

from __future__ import annotations

import importlib
import json
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import retrofair as rf
from retrofair.cli import run
from retrofair.datasets.synthetic import read

COLUMNS = ["--label", "hired", "--positive", "yes", "--sensitive", "sex", "--privileged", "Male"]
FAST = ["--seconds", "5", "--epsilon", "0.1", "--rounds", "2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, with a cache of its own, and little training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = importlib.import_module("retrofair.individual.repair")
    real = module.train_individually_fair
    monkeypatch.setattr(
        module, "train_individually_fair", lambda *a, **o: real(*a, **{**o, "epochs": 20})
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = read({}, n=400, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def own(tmp_path: Path, table: Path) -> list[str]:
    """A user's own network, with weights that were fitted to the table."""
    (tmp_path / "repaired_network.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            def make():
                return nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 1))
            def sigmoid():
                return nn.Sequential(make(), nn.Sigmoid())
            def constant():
                last = nn.Linear(9, 1)
                nn.init.zeros_(last.weight)
                return last
            """
        )
    )
    data = rf.GroupedData.from_frame(
        pd.read_csv(table), label="hired", positive="yes", sensitive="sex", privileged="Male"
    )
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 1))
    optimiser = torch.optim.Adam(made.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        out = made(data.x)[:, 0]
        nn.functional.binary_cross_entropy_with_logits(out, data.y.float()).backward()
        optimiser.step()
    save_file(made.state_dict(), tmp_path / "own.safetensors")
    return ["--network", "repaired_network:make", "--weights", "own.safetensors"]


def repair(*arguments: object) -> int:
    return run(["repair", *(str(a) for a in arguments)])


def fails(capsys, message: str, *arguments: object) -> None:
    """Exit status 2, one line on standard error, nothing on standard output."""
    assert repair(*arguments) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert err.startswith("retrofair: ")
    assert message in err
    assert not out


def test_a_network_is_repaired_and_written(table, own, capsys):
    status = repair(
        table, *COLUMNS, *own, *FAST, "--delta", "0.42", "--out", "out", "--rounds", "6"
    )
    out, err = capsys.readouterr()
    words = " ".join(out.split())
    assert status == 0, out
    assert "Met after" in words
    assert "no two similar people differ by more than 0." in words
    parts = ["original", "the best constant", "returned", "test data, 80 rows", "free to differ"]
    for part in [
        *parts,
        "80 validation rows [95 % interval]",
        "which rows this network was trained",
    ]:
        assert part in words, part
    assert "the original: found" in err
    assert "round 1: found" in err
    assert {p.name for p in Path("out").iterdir()} == {
        "network.safetensors",
        "history.json",
        "certificate.json",
        "witness.csv",
        "repair.png",
        "report.json",
    }
    history = json.loads(Path("out/history.json").read_text())
    assert history["status"] == "met"
    assert history["history"][0]["verdict"] == "unfair"
    assert history["history"][-1]["upper"] <= 0.42
    # what was written is certified by the other command
    weights = ["--network", "repaired_network:make", "--weights", "out/network.safetensors"]
    arguments = [*COLUMNS, *weights, "--epsilon", "0.1", "--delta", "0.42", "--seconds", "10"]
    assert run(["certify", str(table), *arguments]) == 0
    assert load_file("out/network.safetensors")["0.weight"].shape == (4, 9)


def test_a_target_that_is_missed_ends_with_status_3(table, own, capsys):
    given = [table, *COLUMNS, *own, *FAST, "--delta", "0.0001", "--rounds", "1", "--lam", "1"]
    assert repair(*given, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["status"] in ("budget", "floor")
    assert found["certificate"]["verdict"] != "fair"
    assert set(found["test"]) == {"rows", "original", "returned", "constant"}
    assert found["test"]["rows"] == 80
    returned = found["test"]["returned"]
    low, high = returned["balanced_accuracy_interval"]
    assert low < returned["balanced_accuracy"] < high
    assert returned["rows"] == 80
    assert any("trained on before" in flag for flag in found["flags"])
    assert len(found["history"]) <= 2


def test_the_floor_is_kept_and_said(table, own, capsys):
    assert repair(table, *COLUMNS, *own, *FAST, "--delta", "0.1", "--floor", "0.99") == 3
    words = " ".join(capsys.readouterr().out.split())
    assert "below the floor" in words
    assert "the original network is returned" in words
    assert "balanced accuracy at least 0.99 on validation data" in words


def test_a_constant_network_is_said_to_be_one(table, own, capsys):
    given = ["--network", "repaired_network:constant", *FAST, "--delta", "0.1"]
    assert repair(table, *COLUMNS, *given) == 3
    words = " ".join(capsys.readouterr().out.split())
    assert "Not met: for the original itself it gives every row the same answer" in words
    assert "degenerate" in words


def test_a_base_network_is_said_nothing_of_and_its_weights_are_read_again(table, capsys):
    base = [table, *COLUMNS, "--depth", "1", "--width", "4", "--epsilon", "0.1", "--seconds", "5"]
    asked = [*base, "--rounds", "1", "--delta", "0.9"]
    assert repair(*asked, "--out", "out") == 0
    assert "trained on before" not in capsys.readouterr().out
    upper = json.loads(Path("out/certificate.json").read_text())["upper"]
    again = ["--weights", "out/network.safetensors"]
    assert run(["certify", *map(str, base), *again, "--delta", str(upper)]) == 0
    assert "a base network with out/network.safetensors" in capsys.readouterr().out
    assert repair(*asked, *again) == 0
    assert "trained on before" in " ".join(capsys.readouterr().out.split())
    assert run(["certify", *map(str, base), "--weights", "none.safetensors"]) == 2
    assert "is not there" in capsys.readouterr().err
    assert run(["certify", *map(str, base), *again, "--width", "5"]) == 2
    assert "--depth 1 --width 5" in capsys.readouterr().err


def test_everyone_being_similar_is_said_by_both_commands(table, own, capsys):
    names = [c for c in pd.read_csv(table).columns if c not in ("hired", "sex")]
    given = [table, *COLUMNS, *own, "--epsilon", "0.1", "--seconds", "1", "--delta", "0.99999"]
    nothing = ["--weight", ",".join(f"{name}=0" for name in names)]
    for command in ("repair", "certify"):
        run([command, *map(str, [*given, *nothing])])
        assert "everyone is similar to everyone" in " ".join(capsys.readouterr().out.split())
        run([command, *map(str, given)])
        assert "everyone is similar" not in capsys.readouterr().out


def test_test_rows_of_one_class_are_refused_before_the_work(table, own, capsys):
    frame = pd.read_csv(table)
    frame = pd.concat([frame[frame["hired"] == "yes"], frame[frame["hired"] == "no"].head(1)])
    frame.to_csv("one.csv", index=False)
    assert repair("one.csv", *COLUMNS, *own, *FAST, "--delta", "0.1") == 2
    assert "rows of both classes, got only label 1" in capsys.readouterr().err


def test_a_network_that_ends_in_probabilities(table, own, capsys):
    given = ["--network", "repaired_network:sigmoid", *FAST, "--delta", "0.9"]
    assert repair(table, *COLUMNS, *given, "--outputs", "probabilities", "--json") in (0, 3)
    assert json.loads(capsys.readouterr().out)["certificate"]["outputs"] == "probabilities"


def test_the_checkpoint_goes_on(table, own, capsys):
    given = [table, *COLUMNS, *own, *FAST, "--delta", "0.0001"]
    given += ["--rounds", "1", "--checkpoint", "kept"]
    assert repair(*given) == 3
    assert "round 1: found" in capsys.readouterr().err
    assert Path("kept/round-0.json").exists()
    assert repair(*given, "--json") == 3
    out, err = capsys.readouterr()
    assert "found" not in err  # nothing was done anew
    assert json.loads(out)["history"]
    assert repair(*given, "--lam", "0.3") == 2
    assert "(--checkpoint)" in capsys.readouterr().err


def test_what_cannot_be_meant(table, own, capsys):
    base = [table, *COLUMNS, *own]
    fails(capsys, "(--delta)", *base)
    fails(capsys, "(--delta)", *base, "--delta", "0")
    fails(capsys, "below 1, got 1 (--delta)", *base, "--delta", "1")
    fails(capsys, "(--floor)", *base, "--delta", "0.1", "--floor", "1.5")
    values = ["--delta", "3", "--outputs", "values"]
    fails(capsys, "expected --network with --outputs values", table, *COLUMNS, *values)
    fails(capsys, "--rounds", *base, "--delta", "0.1", "--rounds", "0")
    fails(capsys, "--lam", *base, "--delta", "0.1", "--lam", "2")
    fails(capsys, "--width", *base, "--delta", "0.1", "--width", "4")
    fails(capsys, "unknown method", *base, "--delta", "0.1", "--method", "magic")
    fails(capsys, "unknown column", *base, "--delta", "0.1", "--weight", "agge=2")
    fails(capsys, "retrofair certify", "--network", "a.nnet", table, "--delta", "0.1")
    fails(capsys, "expected data", "--delta", "0.1")
    Path("file").write_text("")
    fails(capsys, "expected a folder", *base, "--delta", "0.1", "--out", "file")


def test_help_has_an_example(capsys):
    assert run(["repair", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Example: retrofair repair" in words
    assert "may be among the validation and test rows" in words
    for option in ("--delta", "--floor", "--rounds", "--tolerance", "--checkpoint"):
        assert option in words
