"""Pages with a session tell the truth."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import sklearn

from retrofair.cli import run
from retrofair.cli.config import defaults_of
from retrofair.datasets.synthetic import read

DOCS = Path(__file__).parent.parent / "docs"


def test_the_session_of_several_classes_gives_the_output_it_shows() -> None:
    failed, tried = doctest.testfile(
        str(DOCS / "multiclass.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 10
    assert not failed


def test_the_session_of_regression_gives_the_output_it_shows() -> None:
    failed, tried = doctest.testfile(
        str(DOCS / "regression.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 10
    assert not failed


@pytest.mark.filterwarnings("ignore")  # of AIF360's own imports
def test_the_session_of_scikit_learn_gives_the_output_it_shows() -> None:
    try:
        failed, tried = doctest.testfile(
            str(DOCS / "sklearn.md"), module_relative=False, optionflags=doctest.ELLIPSIS
        )
    finally:
        sklearn.set_config(enable_metadata_routing=False)
    assert tried >= 20
    assert not failed


def test_the_page_of_options_from_a_file_tells_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands run, and its example is one."""
    page = (DOCS / "config.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    people = read({}, n=600, seed=1).assign(person_id=range(600))
    people["hired"] = people["hired"].map({0: "no", 1: "yes"})
    people.to_csv("people.csv", index=False)
    commands = re.findall(r"^retrofair (.*?)(?: +#.*)?$", page, re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        # a network of the papers takes its time; what is asked here is the page
        short = ["--network", "small:make"] if "debias" in line or "audit" in line else []
        Path("small.py").write_text("from torch import nn\nmake = lambda: nn.Linear(9, 1)\n")
        assert run([*line.split(), *short]) in (0, 3), line
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    Path("example.toml").write_text(example)
    assert defaults_of(Path("example.toml"), "debias")["epsilon"] == 0.05
    found = defaults_of(Path("example.toml"), "certify")
    assert (found["epsilon"], found["tolerance"]) == (0.2, "age=5,hours=2")
    assert (found["sensitive"], found["seed"]) == ("sex,region", 3)


def test_the_session_of_the_report_gives_the_output_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it writes pages
    failed, tried = doctest.testfile(
        str(DOCS / "report.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 10
    assert not failed
    assert {each.name for each in tmp_path.iterdir()} == {"report.html", "both.html"}


def test_the_session_of_deployment_gives_the_output_it_shows() -> None:
    failed, tried = doctest.testfile(
        str(DOCS / "deploy.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 15
    assert not failed


def test_the_session_of_images_gives_the_output_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failed, tried = doctest.testfile(
        str(DOCS / "images.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 15
    assert not failed


@pytest.mark.filterwarnings("ignore")  # of transformers' own imports
@pytest.mark.parametrize(("page", "least"), [("text.md", 15), ("large.md", 15)])
def test_the_sessions_of_texts_and_large_networks_give_the_output_they_show(page, least) -> None:
    if page == "text.md":
        pytest.importorskip("transformers")
    failed, tried = doctest.testfile(
        str(DOCS / page), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= least
    assert not failed


def test_options_on_the_pages_of_large_networks_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for page in ("images.md", "text.md", "large.md"):
        text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"^retrofair (\w+) (.*)$", text, re.MULTILINE):
            run([command, "--help"])
            known = capsys.readouterr().out
            for option in re.findall(r"--[a-z-]+", rest):
                assert option in known, (page, command, option)
