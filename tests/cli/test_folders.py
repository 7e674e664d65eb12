"""One folder for different commands: none writes over another's results unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrofair.cli import notes, run
from retrofair.cli.folders import say_others

NETWORK = ["--network", "own_folder_network:make"]
DATA = ["synthetic", "--sensitive", "sex"]
DEBIAS = ["debias", *DATA, "--method", "threshold", *NETWORK, "--outputs", "logits"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from torch import nn\n\n\ndef make():\n    return nn.Linear(9, 1)\n"
    Path("own_folder_network.py").write_text(text)
    monkeypatch.setattr("retrofair.deploy.timing.BATCHES", ((1, 2), (16, 2)))


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def fails(capsys, message: str, *arguments: str) -> None:
    capsys.readouterr()
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out


def says(capsys, message: str, *arguments: str) -> None:
    capsys.readouterr()
    assert run(arguments) in (0, 3)
    assert message in capsys.readouterr().err


def test_what_another_command_left_is_said(capsys) -> None:
    assert run([*DEBIAS, "--out", "d1"]) in (0, 3)
    assert run([*DEBIAS, "--out", "d2"]) in (0, 3)
    capsys.readouterr()
    assert run([*DEBIAS, "--out", "d1"]) in (0, 3)  # its own
    assert "files of the same names" not in capsys.readouterr().err
    audit = ["audit", *DATA, *NETWORK, "--outputs", "logits", "--out", "d1"]
    says(capsys, "d1 holds what debias wrote (report.json): files of the same names", *audit)
    says(capsys, "d1 holds what audit wrote (report.json)", *DEBIAS, "--out", "d1")
    old = contents("d1")
    fails(capsys, "holds another (result.json)", "export", "d2", *NETWORK, "--out", "d1")
    assert contents("d1") == old


def test_an_export_stays_with_its_result(capsys) -> None:
    assert run([*DEBIAS, "--out", "k1"]) in (0, 3)
    export = ["export", "k1", *NETWORK, "--format", "torchscript", "--out", "k1"]
    assert run(export) == 0
    assert run(export) == 0
    says(capsys, "k1 holds an export of an earlier result", *DEBIAS, "--out", "k1")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"command": ""}', '{"command": 3}', "[" * 99_999]
)
def test_a_report_that_does_not_tell(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/report.json").write_text(text)
    say_others(Path("out"), "audit")
    notes.flush()
    assert not capsys.readouterr().err
    Path("out/frontier.json").touch()
    say_others(Path("out"), "audit")
    notes.flush()
    assert "what frontier wrote (frontier.json)" in capsys.readouterr().err
