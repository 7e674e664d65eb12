"""Pages with a session tell the truth."""

from __future__ import annotations

import doctest
from pathlib import Path

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


def test_the_session_of_deployment_gives_the_output_it_shows() -> None:
    failed, tried = doctest.testfile(
        str(DOCS / "deploy.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 15
    assert not failed
