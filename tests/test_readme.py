"""The README tells the truth: its session runs, its commands and files exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from retrofair.cli import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_session_gives_the_output_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(
        str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 10
    assert not failed


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_options_of_the_commands_exist(capsys: pytest.CaptureFixture[str]):
    for command in ("audit", "debias", "frontier", "certify", "study"):
        run([command, "--help"])
        known = capsys.readouterr().out
        text = README.replace("\\\n", " ")
        for line in re.findall(rf"retrofair {command} .*", text):
            for option in re.findall(r"--[a-z-]+", line):
                assert option in known, (command, option)
