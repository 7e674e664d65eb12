"""`retrofair study` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from retrofair.cli import run
from retrofair.studies.store import FILE

STUDY = """
name = "tiny"
title = "A tiny study"
measures = ["spd"]
methods = ["threshold", "equalized_odds"]
seeds = 2

[[data]]
name = "synthetic"
sensitive = "sex"

[[network]]
name = "small"
depth = 2
max_epochs = 2
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(STUDY)


def test_a_study_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "tiny.toml", "--jobs", "1", "--out", "out", "--store", "store"]) == 0
    shown = capsys.readouterr()
    assert "6 of 6 cells done" in shown.out
    assert "6 cells, 0 of them stored" in shown.err
    assert "A tiny study" in (tmp_path / "out" / "tiny.md").read_text()
    assert len(pd.read_csv(tmp_path / "out" / "tiny.csv")) == 2 * (2 + 2)
    before = (tmp_path / "store" / FILE).read_bytes()
    first = (tmp_path / "out" / "tiny.md").read_text()
    assert run(["study", "tiny.toml", "--jobs", "1", "--out", "again", "--store", "store"]) == 0
    assert "6 of them stored" in capsys.readouterr().err
    assert (tmp_path / "store" / FILE).read_bytes() == before
    assert (tmp_path / "again" / "tiny.md").read_text() == first


def test_finished_cells_go_to_another_machine_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["study", "tiny.toml", "--jobs", "1", "--cells", "kept/cells.jsonl.gz"]
    assert run([*here, "--seeds", "1", "--store", "store", "--out", "out"]) == 0
    assert "cells.jsonl.gz" in capsys.readouterr().out
    assert run([*here, "--store", "other", "--out", "out"]) == 0
    shown = capsys.readouterr()
    assert "3 finished cells in kept/cells.jsonl.gz that are not in other" in shown.err
    assert "6 cells, 3 of them stored" in shown.err
    assert run([*here, "--store", "third", "--out", "out", "--page-only"]) == 0
    assert "6 of 6 cells done" in capsys.readouterr().out
    assert run([*here[:4], "--cells", "tiny.toml"]) == 2
    assert "--cells" in capsys.readouterr().err


def test_a_dry_run_prints_the_cells_and_runs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", "tiny.toml", "--dry-run", "--store", "store", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "6 of 6 cells to run" in shown
    assert "equalized_odds" in shown
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "retrofair-out").exists()
    run(["study", "tiny.toml", "--seeds", "1", "--jobs", "1", "--store", "store"])
    capsys.readouterr()
    assert run(["study", "tiny.toml", "--dry-run", "--json", "--store", "store"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert sum(cell["stored"] for cell in planned["cells"]) == 3
    assert planned["seconds"] > 0


def test_the_page_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "tiny.toml", "--page-only"]) == 2
    assert "leave out --page-only" in capsys.readouterr().err
    assert not (tmp_path / "retrofair-out").exists()
    run(["study", "tiny.toml", "--jobs", "1", "--seeds", "1"])
    capsys.readouterr()
    assert run(["study", "tiny.toml", "--page-only", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 3
    page = (tmp_path / "retrofair-out" / "tiny" / "tiny.md").read_text()
    assert "3 cells have not been run" in page


def test_cells_of_another_version_are_said_and_not_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["study", "tiny.toml", "--jobs", "1", "--store", "store"])
    monkeypatch.setattr("retrofair.studies.cells.__version__", "9.9")
    capsys.readouterr()
    assert run(["study", "tiny.toml", "--dry-run", "--store", "store"]) == 0
    shown = capsys.readouterr()
    assert "6 stored cells of this study were made with retrofair 0.1.0" in shown.err
    assert "6 of 6 cells to run" in shown.out
    assert run(["study", "tiny.toml", "--page-only", "--store", "store"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["itnra"], "did you mean 'intra'"),
        (["nowhere.toml"], "nowhere.toml"),
        (["tiny.toml", "--seeds", "3"], "at most the study's 2 seeds, got 3"),
        (["tiny.toml", "--backend", "spark"], "unknown backend 'spark'"),
        (["tiny.toml", "--backend", "dask"], "--scheduler"),
        (["tiny.toml", "--scheduler", "tcp://localhost:1"], "--backend dask"),
        (["tiny.toml", "--dry-run", "--page-only"], "--dry-run or --page-only"),
        (["tiny.toml", "--out", "tiny.toml"], "is a file (--out)"),
        (["tiny.toml", "--store", "tiny.toml"], "is a file (--store)"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert not shown.out


def test_an_unknown_field_is_named_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("wrong.toml").write_text(STUDY.replace("measures", "mesures"))
    assert run(["study", "wrong.toml"]) == 2
    error = capsys.readouterr().err
    assert "line 4" in error
    assert "mesures" in error


def test_a_store_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / FILE).write_text('{"format": 99, "retrofair": "9.9.9"}\n')
    assert run(["study", "tiny.toml", "--store", "store"]) == 2
    assert "written by version 9.9.9" in capsys.readouterr().err


def test_cells_that_fail_are_said_and_the_exit_status_is_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "people.csv"
    # one group is too small to have both labels in the validation part
    rows = [("yes" if i % 2 else "no", "a" if i else "b", i) for i in range(60)]
    pd.DataFrame(rows, columns=["hired", "sex", "age"]).to_csv(table, index=False)
    source = 'file = "people.csv"\nlabel = "hired"\npositive = "yes"'
    Path("own.toml").write_text(STUDY.replace('name = "synthetic"', source))
    assert run(["study", "own.toml", "--jobs", "1", "--store", "store"]) == 3
    shown = capsys.readouterr()
    assert "failed, " in shown.err
    assert "tried again" in shown.err
    assert "cells failed" in (tmp_path / "retrofair-out" / "tiny" / "tiny.md").read_text()


def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background
        from retrofair.studies import run as runner
        from retrofair.cli import main, study_command
        kept = []
        real = study_command.run
        def run(plan, **options):
            each = options.pop("each")
            def stop(cell, record):
                each(cell, record)
                kept.append(cell)
                if len(kept) == 3:
                    os.kill(os.getpid(), signal.SIGINT)
            real(plan, each=stop, **options)
        study_command.run = run
        main(["study", "tiny.toml", "--jobs", "1", "--store", "store"])
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "3 of 6 cells are stored; the same command goes on from there" in done.stderr
    assert "Traceback" not in done.stderr
    assert len((tmp_path / "store" / FILE).read_text().splitlines()) == 1 + 3
    assert run(["study", "tiny.toml", "--jobs", "1", "--store", "store"]) == 0
    assert len((tmp_path / "store" / FILE).read_text().splitlines()) == 1 + 6
