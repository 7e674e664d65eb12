"""The help: grouped, within 80 columns, with an example each; and what is near a wrong word."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import typer

from retrofair.cli import run
from retrofair.cli.app import app

GROUP = typer.main.get_command(app)
SHOWN = [name for name, command in GROUP.commands.items() if not command.hidden]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_commands_are_grouped_and_each_has_one_line(capsys) -> None:
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    panels = [line.split()[1] for line in lines if line.startswith("╭")]
    assert panels[:5] == ["Options", "Start", "Look", "Mend", "Prove"]
    for name in SHOWN:
        (line,) = [each for each in lines if each.startswith(f"│ {name} ")]
        assert line.rstrip(" │").endswith("."), line  # whole, not cut or wrapped
    assert any("Exit status: 0 done; 2 bad input" in line for line in lines)


@pytest.mark.parametrize("name", SHOWN)
def test_every_command_shows_an_example_within_80_columns(name, capsys) -> None:
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Example: retrofair {name} " in out
    assert max(map(len, out.splitlines())) <= 80
    assert run(["help", name]) == 0
    assert capsys.readouterr().out.split() == out.split()


def test_help_alone_and_no_command_show_the_commands(capsys) -> None:
    assert run(["help"]) == 0
    assert "certify" in capsys.readouterr().out
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert "certify" in out
    assert not err


@pytest.mark.parametrize("words", [["debais"], ["help", "debais"]])
def test_a_misspelt_command_has_a_neighbour(words, capsys) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert "id you mean 'debias'" in err
    assert len(err.splitlines()) == 1
    assert not out


@pytest.mark.parametrize("name", SHOWN)
def test_a_paragraph_fills_its_lines(name, capsys) -> None:
    """No line breaks of the source: the first word of a line did not fit the one before."""
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out.partition("╭")[0]
    for part in re.split(r"\n *\n", text):
        lines = [line.strip() for line in part.splitlines() if line.strip()]
        for line, after in pairwise(lines):
            if not line.startswith("Usage") and not after.startswith("Usage"):
                assert len(line) + 1 + len(after.split()[0]) > 78, part


def test_what_the_help_must_say(capsys) -> None:
    assert run(["audit", "--help"]) == 0
    assert "A file needs --label and --sensitive" in capsys.readouterr().out
    assert run(["init", "--help"]) == 0
    assert "Exit status 3" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["audit", "debias", "init"])
def test_a_path_that_is_no_table(name, capsys, tmp_path) -> None:
    for given, message in (
        ("x.csv.gz", "there is no file x.csv.gz"),
        ("nope/adult", "there is no file nope/adult"),
        (str(tmp_path), "got the folder"),
    ):
        assert run([name, given]) == 2
        out, err = capsys.readouterr()
        assert message in err
        assert ".csv, .tsv, .parquet" in err
        assert len(err.splitlines()) == 1
        assert not out
    packed = tmp_path / "x.csv.gz"
    packed.write_bytes(b"x")
    assert run([name, str(packed)]) == 2
    assert "expected a table (.csv" in capsys.readouterr().err
