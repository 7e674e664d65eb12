"""`retrofair frontier` as a user meets it: tables, files, exit status, errors."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import retrofair as rf
from retrofair.cli import run
from retrofair.datasets.synthetic import read

COLUMNS = ["--label", "hired", "--positive", "yes", "--sensitive", "sex", "--privileged", "Male"]
QUICK = ["--methods", "threshold,group_thresholds", "--bounds", "0.2,0.1,0.05"]


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """A user's table, and a network that has learned something from another one."""
    frame = read({}, n=2500, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    frame.to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "frontier_network.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            def make():
                return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
            """
        )
    )
    torch.manual_seed(0)
    net, data = make(), table(tmp_path)
    descent = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        descent.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(data.x)[:, 0], data.y.float())
        loss.backward()
        descent.step()
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    own = ["--network", "frontier_network:make", "--weights", "own.safetensors"]
    return ["frontier", "people.csv", *COLUMNS, *own, *QUICK]


def table(folder: Path) -> rf.GroupedData:
    return rf.GroupedData.from_frame(
        pd.read_csv(folder / "people.csv"),
        label="hired",
        positive="yes",
        sensitive="sex",
        privileged="Male",
    )


def test_tables_files_and_the_chosen_network(asked, capsys, tmp_path):
    assert run([*asked, "--choose", "bias=0.15", "--out", "front", "--seconds", "1"]) == 0
    told, said = capsys.readouterr()
    for text in ("original, threshold 0.5", "all negative", "chosen, 1,250 test rows", "runs"):
        assert text in told
    assert "flatter" in said
    found = json.loads((tmp_path / "front" / "frontier.json").read_text())
    assert found["chosen"] in found["points"]
    assert found["chosen"]["bias"] < 0.15
    assert found["seconds"] == 1
    below = [p["performance"] for p in found["points"] if p["bias"] < 0.15]
    assert found["chosen"]["performance"] == max(below)
    frame = pd.read_csv(tmp_path / "front" / "frontier.csv")
    assert len(frame) == 3 + found["tried"]
    assert (tmp_path / "front" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    result = rf.load_result(tmp_path / "front" / "chosen", make())
    audit = json.loads((tmp_path / "front" / "chosen" / "audit.json").read_text())
    assert audit == found["test"]
    assert audit["chosen"]["spd"]["value"] != found["chosen"]["measured"]  # other rows
    assert result.about["epsilon"] == found["chosen"]["bound"]
    assert result.needs_group == found["chosen"]["needs_group"]


def test_a_choice_no_fairer_than_the_original_is_said(asked, capsys, tmp_path):
    wide = ["--methods", "threshold", "--bounds", "0.9", "--choose", "knee"]
    command = [*asked[: -len(QUICK)], *wide, "--out", "front", "--report", "--favourable", "0"]
    assert run(command) == 0
    told = capsys.readouterr().out
    assert "people.csv: Female and Male, columns in, fitted on" in told
    found = json.loads((tmp_path / "front" / "frontier.json").read_text())
    assert found["chosen"]["bias"] >= found["reference"][0]["bias"]
    (flag,) = [each for each in found["flags"] if "no fairer" in each]
    assert flag in " ".join(told.split())
    page = (tmp_path / "front" / "report.html").read_text(encoding="utf-8")
    assert "The chosen point is no fairer than the original network" in page
    assert "Label 0 is taken as the good outcome." in page
    chosen = rf.load_result(tmp_path / "front" / "chosen", make())
    assert chosen.effects.favourable == 0


def test_no_point_that_is_good_enough_is_status_3_and_leaves_no_answer(asked, capsys, tmp_path):
    assert run([*asked, "--choose", "knee", "--out", "front"]) == 0
    assert (tmp_path / "front" / "chosen" / "result.json").exists()
    capsys.readouterr()
    assert run([*asked, "--choose", "performance=0.99", "--out", "front", "--json"]) == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["chosen"] is None
    assert set(found["test"]) == {"original"}
    assert "chosen" not in err
    assert not list((tmp_path / "front" / "chosen").iterdir())
    assert run([*asked, "--choose", "performance=0.99"]) == 3
    assert "no non-dominated point satisfies performance=0.99" in capsys.readouterr().err


def test_the_same_command_goes_on_from_its_folder(asked, capsys, tmp_path):
    def times() -> list[float]:
        assert run([*asked, "--choose", "knee", "--out", "front", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        return [p["seconds"] for p in found["points"]]

    assert times() == times()  # read, not run: a clock would not give the same
    assert len(list((tmp_path / "front" / "runs").iterdir())) == 6


def test_a_base_network_is_trained_where_none_is_given(capsys, monkeypatch):
    import retrofair.cli.options as options

    def quickly(train, valid, **named):
        return rf.networks.train_mlp(train, valid, width=8, depth=1, max_epochs=2)

    monkeypatch.setattr(options, "train_mlp", quickly)
    assert run(["frontier", "synthetic", *QUICK, "--choose", "knee"]) == 0
    assert "training a base network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--choose", "bias"], "expected knee, bias=B or performance=P, got 'bias' (--choose)"),
        (["--choose", "bias=x"], "expected a number, got 'bias=x' (--choose)"),
        (["--choose", "bias=2"], "expected bias in (0, 1], got 2.0 (--choose)"),
        (["--methods", "treshold"], "did you mean 'threshold'"),
        (["--methods", ""], "expected at least one method"),
        (["--bounds", "0.1,x"], "expected numbers separated by commas, got '0.1,x' (--bounds)"),
        (["--bounds", "2"], "expected epsilon in (0, 1]"),
        (["--seconds", "0"], "expected seconds above 0"),
        (["--held-out", "1"], "expected held_out in (0, 1)"),
        (["--held-out", "0.99999"], "expected rows in both parts"),
        (["--measure", "sdp"], "did you mean 'spd'"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(options, message, capsys):
    assert run(["frontier", "synthetic", *options]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert err.startswith("retrofair: ")
    assert message in err
    assert not out
