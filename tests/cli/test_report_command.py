"""`--report` and `retrofair report`: pages of what commands found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import retrofair as rf
from retrofair.cli import called, run
from retrofair.cli.reporting import file_hash
from retrofair.datasets.synthetic import read


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def people(tmp_path: Path) -> str:
    frame = read({}, n=1500, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    frame["decision"] = (frame["skill"] + frame["neighbourhood"] > 0).astype(int)
    frame.to_csv(tmp_path / "people.csv", index=False)
    return "people.csv"


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """A small network of one's own, so that nothing has to be trained."""
    (tmp_path / "own_report_network.py").write_text(
        "import torch\nfrom torch import nn\ndef make():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0))\n"
    )
    return ["--network", "own_report_network:make"]


COLUMNS = ["--label", "hired", "--positive", "yes", "--sensitive", "sex", "--privileged", "Male"]
DROP = ["--drop", "decision"]


def page(folder: str = "out") -> str:
    return (Path(folder) / "report.html").read_text(encoding="utf-8")


def test_an_audit_with_a_report(people, own, capsys):
    command = ["audit", people, *COLUMNS, *own, *DROP, "--threshold", "0.6", "--out", "out"]
    assert run([*command, "--report", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert json.loads(Path("out/audit.json").read_text()) == found
    assert {each.name for each in Path("out").iterdir()} == {
        "audit.json",
        "report.json",
        "report.html",
    }
    text = page()
    assert f"{found['spd']['value']:.3f}".replace("-", "\N{MINUS SIGN}") in text
    assert 'type="range"' in text
    assert "own_report_network:make" in text
    assert file_hash(Path(people)) in text
    assert f"wrote {Path('out/report.html')}" in err
    kept = json.loads(Path("out/report.json").read_text())
    assert kept["audit"]["scores"]["threshold"] == 0.6


def test_the_page_can_be_made_later(people, own):
    assert run(["audit", people, *COLUMNS, *own, *DROP, "--out", "out"]) == 0
    assert not Path("out/report.html").exists()
    assert run(["report", "out"]) == 0
    first = page()
    assert run(["report", "out", "--out", "elsewhere/other.html"]) == 0
    assert Path("elsewhere/other.html").read_text(encoding="utf-8") == first
    assert 'retrofair</span> <span class="word">audit</span>' in first


def test_a_column_of_decisions_has_a_page_without_a_slider(people):
    command = ["audit", people, *COLUMNS, "--prediction", "decision", "--out", "out", "--report"]
    assert run(command) == 0
    assert 'type="range"' not in page()
    assert "There is no threshold to move" in page()
    assert "By sex" in page()
    assert ">Label hired = yes<" in page()  # not label 1: the table has none
    assert run(["report", "out"]) == 0
    assert ">Label hired = yes<" in page()


def test_the_value_that_counts_as_one_is_named(people, own, capsys):
    command = ["audit", people, *COLUMNS, *own, *DROP, "--out", "out", "--report"]
    assert run(command) == 0
    assert "the base rate is of label hired = yes" in " ".join(capsys.readouterr().out.split())
    assert "label hired = yes above the line, other labels below it" in page()
    digits = pd.read_csv(people).assign(hired=lambda table: (table["hired"] == "yes").astype(int))
    digits.to_csv("digits.csv", index=False)
    command[1] = "digits.csv"
    for positive, words in (("1", "Label 1 is read"), ("0", "Label hired = 0 is read")):
        command[command.index("--positive") + 1] = positive
        assert run(command) == 0
        assert words in page()


def test_debias_shows_before_and_after(people, own):
    command = ["debias", people, *COLUMNS, *own, *DROP, "--method", "threshold", "--out", "out"]
    assert run([*command, "--report"]) in (0, 3)
    text = page()
    for words in ("Before and after", "Networks compared", "constant classifier", "before: "):
        assert words in text
    assert set(json.loads(Path("out/audit.json").read_text())) == {"before", "after"}


def test_every_command_of_a_frontier_chooses_its_point(people, own):
    command = ["frontier", people, *COLUMNS, *own, *DROP, "--methods", "threshold,fair_head"]
    command += ["--choose", "knee", "--out", "out", "--report"]
    assert run(command) in (0, 3)
    kept = json.loads(Path("out/report.json").read_text())
    points = kept["frontier"]["points"]
    assert len(points) > 1
    from retrofair.report.points import frontier_context

    rows = frontier_context(kept["frontier"], kept["choose"])["rows"]
    for point, row in zip(points, rows, strict=True):
        assert row["command"].startswith("retrofair frontier people.csv")
        assert "knee" not in row["command"]
        assert run(row["command"].split()[1:]) == 0
        chosen = json.loads(Path("out/frontier.json").read_text())["chosen"]
        assert chosen["bias"] == point["bias"]
        assert chosen["performance"] == point["performance"]


def test_certify_and_repair_show_bounds(people, own):
    similar = ["--tolerance", "skill=0.5", "--method", "bounds", "--seconds", "2"]
    command = ["certify", people, *COLUMNS, *own, *DROP, *similar, "--delta", "0.9"]
    assert run([*command, "--out", "out", "--report"]) in (0, 3)
    for words in ("Similar people", "certified (upper bound)", "tier", "Verdict"):
        assert words in page()
    command = ["repair", people, *COLUMNS, *own, *DROP, *similar, "--delta", "0.9"]
    assert run([*command, "--rounds", "1", "--out", "repaired", "--report"]) in (0, 3)
    assert "Rounds" in page("repaired")


def fails(capsys, message: str, *arguments: str) -> None:
    assert run(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert not out


def test_errors_are_one_line(people, capsys, tmp_path):
    fails(capsys, "expected --out DIR with --report", "audit", people, *COLUMNS, "--report")
    fails(capsys, "expected --out DIR with --report", "debias", people, *COLUMNS, "--report")
    fails(capsys, "got nothing there", "report", "none")
    fails(capsys, "holds no report.json", "report", str(tmp_path))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "audit.json").write_text("{")
    fails(capsys, "of an interrupted or an older run", "report", "half")
    (tmp_path / "half" / "report.json").write_text('{"format": 1}')
    fails(capsys, "run the command again", "report", "half")
    assert not (tmp_path / "half" / "report.html").exists()


def test_a_damaged_folder_and_a_file_that_is_no_page(people, capsys, tmp_path):
    assert run(["audit", people, *COLUMNS, "--prediction", "decision", "--out", "out"]) == 0
    capsys.readouterr()
    weights = Path("out/model.safetensors")
    weights.write_bytes(b"weights")
    fails(capsys, "ends in .html, got out/model", "report", "out", "--out", str(weights))
    assert weights.read_bytes() == b"weights"
    assert run(["report", "out", "--out", "page.htm"]) == 0
    capsys.readouterr()
    for depth in (400, 100_000):
        deep = "[" * depth + "]" * depth
        for name in ("audit", "title", "result"):
            text = f'{{"format": 1, "{name}": {deep}}}'
            Path("out/report.json").write_text(text, encoding="utf-8")
            fails(capsys, "expected", "report", "out")


def test_an_interrupted_command_leaves_no_old_values(people, own, monkeypatch):
    """What was written before is not taken for the values of files written since."""
    from retrofair.cli import audit_command

    command = ["audit", people, *COLUMNS, *own, *DROP, "--out", "out"]
    assert run(command) == 0

    def broken(*_: object) -> None:
        raise rf.InputError("stopped")

    monkeypatch.setattr(audit_command, "write_json", broken)
    assert run(command) == 2
    assert run(["report", "out"]) == 2


def test_the_command_is_quoted_and_can_leave_an_option_out():
    called.remember(["frontier", "a b.csv", "--choose", "knee", "--choose=bias=0.1", "--json"])
    assert called.command() == "retrofair frontier 'a b.csv' --choose knee --choose=bias=0.1 --json"
    assert called.command(["--choose"]) == "retrofair frontier 'a b.csv' --json"
