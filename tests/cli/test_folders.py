"""One folder for different commands: none writes over another's results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrofair.cli import run
from retrofair.cli.folders import refuse_others
from retrofair.errors import InputError

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


def test_a_folder_belongs_to_a_command(capsys) -> None:
    assert run([*DEBIAS, "--out", "d1"]) in (0, 3)
    assert run([*DEBIAS, "--out", "d2"]) in (0, 3)
    old = contents("d1")
    says = "d1 holds the results of debias (report.json): name another (--out)"
    for command in ("audit", "certify", "train", "frontier"):
        fails(capsys, says, command, "--data", *DATA, "--out", "d1")
    fails(capsys, "holds another (result.json)", "export", "d2", *NETWORK, "--out", "d1")
    assert contents("d1") == old
    assert run([*DEBIAS, "--out", "d1"]) in (0, 3)  # its own
    Path("d1/report.json").unlink()
    fails(capsys, "results of debias (result.json)", "audit", *DATA, "--out", "d1")


def test_an_export_stays_with_its_result(capsys) -> None:
    assert run([*DEBIAS, "--out", "k1"]) in (0, 3)
    export = ["export", "k1", *NETWORK, "--format", "torchscript", "--out", "k1"]
    assert run(export) == 0
    assert run(export) == 0
    fails(capsys, "k1 has export.json of an earlier result", *DEBIAS, "--out", "k1")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"command": ""}', '{"command": 3}', "[" * 99_999]
)
def test_a_report_that_does_not_tell(text: str) -> None:
    Path("out").mkdir()
    Path("out/report.json").write_text(text)
    refuse_others(Path("out"), "audit")
    Path("out/frontier.json").touch()
    with pytest.raises(InputError, match=r"results of frontier \(frontier.json\)"):
        refuse_others(Path("out"), "audit")


def test_the_page_of_a_demonstration_may_go() -> None:
    Path("out").mkdir()
    Path("out/report.json").write_text(json.dumps({"command": "retrofair demo"}))
    refuse_others(Path("out"), "train")
