"""`retrofair init`: a file of options for a table, each guess with its reason."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.markup import escape
from rich.table import Table

from retrofair import datasets
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.configs import Setting, settings_of_table, text_of_config
from retrofair.cli.table_choice import check_there
from retrofair.cli.tables import console
from retrofair.data import GroupedData, read_table
from retrofair.data.guesses import Guesses, guess_columns
from retrofair.errors import InputError, RetrofairWarning
from retrofair.files import json_text, replacing

ASKED = ("label", "sensitive")  # what no command can do without


def init(
    file: Annotated[
        str, typer.Argument(metavar="TABLE|NAME", help="A table, or a data set's name.")
    ],
    label: o.Label = None,
    sensitive: o.Sensitive = None,
    to: Annotated[Path, typer.Option(help="The file to write.")] = Path("retrofair.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    root: o.Root = None,
    as_json: o.Json = False,
) -> int:
    """Write a file of options for a table: columns guessed, each with the reason.

    It is read by the other commands with --config. Guesses are for you to check. Exit status 3: the
    file was written, but something in it is left to fill in.
    """
    if to.is_dir():
        raise InputError(f"expected a file to write, but {to} is a folder (--to)")
    if not to.parent.is_dir():
        raise InputError(f"expected a folder that is there, got {to.parent} (--to)")
    if to.exists() and not force:
        raise InputError(
            f"{to} is there already: expected --force to replace it, or another file (--to)"
        )
    choice = o.TableChoice(file, label, sensitive=sensitive, root=root)
    check_there(file)
    found = None
    if choice.is_file:
        frame = read_table(file)
        found = guess_columns(frame, label=label, sensitive=choice.columns or ())
        lines = settings_of_table(_relative(file, to), found)
    else:
        lines = _of_data_set(choice)
    protected = _others(choice, found)
    text = text_of_config(
        str(to),
        lines,
        protected=protected,
        prediction=str(found.prediction.value) if found and found.prediction else None,
        numbers=found.numbers if found else (),
    )
    problems = [f"{line.key}: {line.why}" for line in lines if line.value is None]
    if found is not None and not any(line.key in ASKED for line in lines if line.value is None):
        problems += _tried(frame, lines)
    with replacing(to) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if as_json:
        print(json_text(_summary(to, lines, protected, problems)))
    else:
        _show(to, lines, protected)
    for problem in problems:
        notes.say(f"to be filled in, {problem}")
    notes.say(f"wrote {to}; check it, then: retrofair audit --config {to}")
    return 3 if problems else 0


def _of_data_set(choice: o.TableChoice) -> list[Setting]:
    if choice.label is not None:
        raise InputError(f"--label is for files, but {choice.data!r} is a data set's name")
    known = datasets.get(choice.data)
    chosen = list(known.attributes(choice.columns))
    values = [known.protected[name].privileged for name in chosen]
    why = "given" if choice.columns else "the data set's first protected column"
    return [
        Setting("data", known.name, known.reference or "a data set of retrofair"),
        Setting("sensitive", chosen, why),
        Setting("privileged", values, "the data set's own"),
    ]


def _others(choice: o.TableChoice, found: Guesses | None) -> dict[str, str]:
    """Protected columns besides the chosen ones."""
    if found is None:
        known = datasets.get(choice.data)
        chosen: Sequence[str] = known.attributes(choice.columns)
        return {
            name: f"privileged: {each.privileged}"
            for name, each in known.protected.items()
            if name not in chosen
        }
    chosen = [] if found.sensitive is None else found.sensitive.value
    return {name: why for name, why in found.protected.items() if name not in chosen}


def _tried(frame: pd.DataFrame, lines: Sequence[Setting]) -> list[str]:
    """What hinders the settings from making data of the table."""
    options = {line.key: line.value for line in lines if line.key != "data"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrofairWarning)
        try:
            GroupedData.from_frame(frame, **options)
        except InputError as error:
            return [str(error)]
    return []


def _relative(file: str, to: Path) -> str:
    """The table's path as the file will name it."""
    try:
        return Path(os.path.relpath(file, to.parent)).as_posix()
    except ValueError:  # on another drive
        return str(Path(file).absolute())


def _summary(
    to: Path, lines: Sequence[Setting], protected: dict[str, str], problems: list[str]
) -> dict[str, Any]:
    return {
        "file": str(to),
        "settings": {line.key: {"value": line.value, "why": line.why} for line in lines},
        "also_protected": protected,
        "problems": problems,
    }


def _show(to: Path, lines: Sequence[Setting], protected: dict[str, str]) -> None:
    table = Table(title=f"Options in {escape(str(to))}", title_justify="left")
    for column in ("option", "value", "why"):
        table.add_column(column, overflow="fold")
    for line in lines:
        value = line.value
        shown = "?" if value is None else ", ".join(value) if isinstance(value, list) else value
        table.add_row(line.key, escape(str(shown)), escape(line.why))
    console().print(table)
    for name, remark in protected.items():
        console().print(f"[bold]also protected?[/] {escape(name)}: {escape(remark)}")
