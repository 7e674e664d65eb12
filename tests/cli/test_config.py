"""Options from a file: the command line wins, and whatever is wrong in the file has its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from retrofair.cli import app as app_module
from retrofair.cli import run
from retrofair.cli.config import configurable, defaults_of
from retrofair.datasets.synthetic import read
from retrofair.errors import InputError

COMMANDS = ("audit", "debias", "frontier", "certify", "repair", "train", "export")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    frame = read({}, n=800, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    frame["decision"] = (frame["skill"] > 0).astype(int)
    frame["other"] = (frame["skill"] > 1).astype(int)
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    return path


TABLE = """
data = "people.csv"
label = "hired"
positive = "yes"
sensitive = ["sex"]
privileged = "Male"
"""


def config(text: str, path: str = "options.toml") -> str:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return path


def spd(capsys: pytest.CaptureFixture[str], *arguments: str) -> float:
    assert run(list(arguments)) == 0, capsys.readouterr().err
    return float(json.loads(capsys.readouterr().out)["spd"]["value"])


# --- what a file gives ----------------------------------------------------------------------------


def test_a_file_gives_what_the_options_give(people, capsys) -> None:
    by_options = spd(
        capsys, "audit", "people.csv", "--label", "hired", "--positive", "yes", "--sensitive",
        "sex", "--privileged", "Male", "--prediction", "decision", "--json",
    )  # fmt: skip
    file = config(TABLE + 'json = true\n[audit]\nprediction = "decision"\n')
    assert spd(capsys, "audit", "--config", file) == by_options


def test_the_command_line_wins(people, capsys) -> None:
    file = config(TABLE + 'json = true\n[audit]\nprediction = "decision"\n')
    usual = spd(capsys, "audit", "--config", file)
    other = spd(capsys, "audit", "--config", file, "--prediction", "other")
    turned = spd(capsys, "audit", "--privileged", "Female", "--config", file)
    assert other != usual
    assert turned == pytest.approx(-usual)


def test_a_commands_table_wins_over_the_top_and_is_for_it_alone() -> None:
    file = Path(config("epsilon = 0.1\nseed = 3\n[debias]\nepsilon = 0.2\n[certify]\ngap = 1\n"))
    assert defaults_of(file, "debias") == {"epsilon": 0.2, "seed": 3}
    assert defaults_of(file, "certify") == {"epsilon": 0.1, "seed": 3, "gap": 1.0}
    assert defaults_of(file, "audit") == {"seed": 3}  # which has no epsilon


def test_a_table_named_on_the_command_line_stands_instead_of_the_files(people, capsys) -> None:
    Path("more.csv").write_text(people.read_text())
    file = config(TABLE.replace("people", "absent") + '[audit]\nprediction = "decision"\n')
    assert run(["audit", "more.csv", "--config", file]) == 0
    assert "more.csv" in capsys.readouterr().out
    assert run(["audit", "--config", file, "--data", "more.csv"]) == 0


def test_options_that_exclude_each_other_are_not_mixed(people, capsys) -> None:
    file = config(TABLE + 'network = "mine:make"\nweights = "w.safetensors"\n')
    assert run(["audit", "--config", file, "--prediction", "decision"]) == 0
    config(TABLE + 'network = "mine:make"\n[audit]\nprediction = "decision"\n', file)
    assert run(["audit", "--config", file]) == 0
    for option in ("threshold = 0.3", 'missing = "impute"', 'drop = ["skill"]', "no_scale = true"):
        config(f'{option}\n{TABLE}[audit]\nprediction = "decision"\n', file)
        assert run(["audit", "--config", file]) == 0
    config(TABLE + 'network = "mine:make"\n[audit]\nprediction = "decision"\n', file)
    capsys.readouterr()
    assert run(["audit", "--config", file, "--network", "mine:make"]) == 2
    assert "cannot import 'mine'" in capsys.readouterr().err


def test_values_as_the_command_line_has_them() -> None:
    file = Path(
        config(
            "positive = 1\nprivileged = [true, 2]\ndrop = []\nno_scale = true\n"
            "[repair]\ntolerance = { age = 5, hours = 0.5 }\nlam = 1\n"
        )
    )
    assert defaults_of(file, "repair") == {
        "positive": "1", "privileged": "1,2", "drop": None, "no_scale": True,
        "tolerance": "age=5,hours=0.5", "lam": 1.0,
    }  # fmt: skip


def test_paths_are_relative_to_the_file(people) -> None:
    text = 'data = "../people.csv"\nweights = "net.safetensors"\nout = "o"\nroot = "/data"\n'
    found = defaults_of(Path(config(text, "sub/options.toml")), "debias")
    assert Path(found["data"]).resolve() == people.resolve()
    assert Path(found["weights"]) == Path("sub/net.safetensors")
    assert Path(found["out"]) == Path("sub/o")
    assert Path(found["root"]) == Path("/data")
    named = defaults_of(Path(config('data = "adult"\n', "sub/named.toml")), "debias")
    assert named["data"] == "adult"


def test_a_file_is_read_only_when_asked_for(capsys) -> None:
    config("no TOML at all", "retrofair.toml")
    assert run(["audit", "--data", "nothing.csv"]) == 2
    assert "nothing.csv" in capsys.readouterr().err


# --- what is wrong with it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\n\nlabell = "x"', "line 3: unknown key 'labell': did you mean 'label'?"),
        ('[debias]\nmesure = "x"', "line 2: unknown key 'mesure': did you mean 'measure'?"),
        ("[debiass]\n", "line 1: unknown key 'debiass': did you mean 'debias'?"),
        ("[audit]\nepsilon = 1", "line 2: unknown key 'epsilon'"),
        ('epsilon = "a"', "line 1: expected epsilon to be a number, got 'a'"),
        ("seed = 1.5", "line 1: expected seed to be a whole number, got 1.5"),
        ("blind = 1", "line 1: expected blind to be true or false, got 1"),
        ("out = 1", "line 1: expected out to be a text, got 1"),
        ("label = [{}]", "line 1: expected label to be a text or a list of texts, got a table"),
        ('[frontier]\nmethods = ["a,b"]', "line 2: expected methods without commas, got 'a,b'"),
        ('drop = ["a\\\\", "b"]', "line 1: expected drop without a backslash at the end"),
        ("debias = 3", "line 1: expected one table, [debias], got 3"),
        ("[certify]\nseconds = -1", "line 2: expected seconds to be at least 0, got -1"),
        ("[repair]\nlam = 2", "line 2: expected lam to be from 0 to 1, got 2"),
        (
            '[certify]\ntolerance = { age = "x" }',
            "line 2: expected a number, got 'x' (--tolerance)",
        ),
        ("[repair]\nweight = { age = -1 }", "line 2: expected finite numbers >= 0, got 'age=-1'"),
        ("seed = -1", "expected a seed from 0"),
        ("no-scale = true\nno_scale = true", "expected an option once"),
        ("data =", "line 1: expected TOML"),
        ("a = 1\na = 2", "line 2: expected TOML"),
    ],
)
def test_mistakes_have_a_line_and_a_fix(text: str, message: str, capsys) -> None:
    """Also those in a table of another command than the one that runs."""
    assert run(["audit", "synthetic", "--config", config(text)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out


def test_no_file(capsys) -> None:
    assert run(["audit", "synthetic", "--config", "none.toml"]) == 2
    assert "there is no file none.toml" in capsys.readouterr().err
    assert run(["audit", "synthetic", "--config", "."]) == 2


# --- the commands' own parameters -----------------------------------------------------------------


def test_every_key_is_an_option_of_the_command() -> None:
    """The names taken from the functions are those that the command line knows."""
    group = typer.main.get_command(app_module.app)
    known = configurable()
    assert set(known) == set(COMMANDS)
    for name, options in known.items():
        theirs = {
            long.removeprefix("--"): param.name
            for param in group.commands[name].params
            for long in param.opts
            if long.startswith("--")
        }
        for hidden in ("config", "help"):
            theirs.pop(hidden, None)
        assert {key: option.name for key, option in options.items()} == theirs


def test_defaults_of_an_unknown_command_are_none() -> None:
    assert defaults_of(Path(config("seed = 1")), "demo") == {}
    with pytest.raises(InputError, match="unknown key 'demo'"):
        defaults_of(Path(config("[demo]\nseed = 1")), "audit")
