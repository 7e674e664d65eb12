"""`--config FILE`: options of the commands from a TOML file.

A key is the name of an option, above all tables for every command that has it, or in the table of
one command. The file is checked whole against the commands' own parameters, whichever of them
runs: there is no other list of what may stand in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from retrofair.cli.table_choice import TableChoice
from retrofair.data.encoders import text_of
from retrofair.data.tables import TABLES
from retrofair.errors import InputError, MissingFileError, unknown
from retrofair.studies.toml_table import Table, read_toml, shown, typed

IMAGES = ("images", "labels", "image_column", "size", "channels", "on_error")
# an option, and those it stands instead of: one given on the command line, of any of the file; one
# in a command's table, of those above all tables
INSTEAD_OF = {
    # one table names the images
    "file": ("data", "labels"),
    "data": ("labels",),
    "labels": ("data",),
    "text": IMAGES,
    "images": ("text", "max_length"),
    # decisions that are made need neither a network nor features
    "prediction": (
        *("network", "weights", "threshold", "outputs"),
        *("blind", "missing", "drop", "no_scale"),
        *(*IMAGES, "text", "max_length", "batch_rows", "workers", "label_output"),
    ),
    "network": ("prediction",),
    "weight": ("tolerance",),
    "tolerance": ("weight",),
    # a saved result brings what it was fitted with
    "result": (
        *("label", "positive", "sensitive", "privileged", "blind", "missing", "drop", "no_scale"),
        *("prediction", "threshold", "outputs", "size", "channels", "max_length", "label_output"),
    ),
}
NUMBERS = ("tolerance", "weight")  # a table of one number each
NAMES = ("sensitive", "privileged", "drop", *NUMBERS)  # of columns and values
FILES = ("data", "network")  # which may name a file, or something else


def apply(ctx: typer.Context, value: Path | None) -> None:
    """Callback of the option, which is read before those whose defaults it gives."""
    if value is not None and not ctx.resilient_parsing:
        ctx.default_map = Defaults(ctx.params, defaults_of(value, str(ctx.info_name)))


class Defaults(dict[str, Any]):
    """Values for options that were not given, less those that given ones stand instead of.

    The command line's own options are read before any default is asked for.
    """

    def __init__(self, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.given = given

    def get(self, name: str, default: Any = None) -> Any:
        given = dict(self.given)
        source = given.get("source")  # export's argument, which is either
        if source is not None:
            given["file" if TableChoice(source).is_data else "result"] = source
        for instead, names in INSTEAD_OF.items():
            if name in names and given.get(instead) is not None:
                return default
        return super().get(name, default)


@dataclass(frozen=True)
class Parameter:
    """An option of a command.

    Args:
        name: of the function's parameter.
        key: of the option, without dashes in front.
        kind: str, int, float, bool or Path.
        least, most: bounds, of numbers that have any.
    """

    name: str
    key: str
    kind: Any
    least: float | None = None
    most: float | None = None


def defaults_of(path: Path, command: str) -> dict[str, Any]:
    """The values that a file gives the parameters of a command.

    Raises:
        InputError: it is not TOML, or has an unknown key or a value of the wrong kind, anywhere.
    """
    if not path.exists():
        raise MissingFileError(
            f"expected a file of options, but there is no file {path}: `retrofair init` writes one "
            "(--config)"
        )
    known = configurable()
    top = read_toml(path)
    every = {option.key: option for options in known.values() for option in options.values()}
    for key in top.values:
        if key not in known and _key(key) not in every:
            where = "a [table] of one command, or an option as `retrofair COMMAND --help` has them"
            raise top.error(_unknown(key, [*every, *known], where), key)
    for_all: dict[str, Any] = {}
    for_one: dict[str, Any] = {}
    folder = path.parent
    for key in top.values:
        if key not in known:
            # of several commands' options of one name the one asked for comes first
            option = known.get(command, {}).get(_key(key), every[_key(key)])
            _refuse_twice(top, key)
            value = _value(top, key, option, folder)
            if _key(key) in known.get(command, {}):
                for_all[option.name] = value
    for name, options in known.items():
        for key, option, value in _section(top.table(name), options, folder):
            _refuse_twice(top.table(name), key)
            if name == command:
                for_one[option.name] = value
    beaten = {name for instead in for_one for name in INSTEAD_OF.get(instead, ())}
    return {name: value for name, value in for_all.items() if name not in beaten} | for_one


def _section(
    table: Table, options: Mapping[str, Parameter], folder: Path
) -> Iterator[tuple[str, Parameter, Any]]:
    for key in table.values:
        if _key(key) not in options:
            where = f"an option of `retrofair {table.title[1:-1]} --help`"
            raise table.error(_unknown(key, options, where), key)
        option = options[_key(key)]
        yield key, option, _value(table, key, option, folder)


def _unknown(key: str, known: Iterable[str], wanted: str) -> str:
    """With the nearest name; all of them would fill the screen."""
    near = str(unknown("key", key, known)).partition(" (choose from")[0]
    return f"{near}{' ' if near.endswith('?') else ': '}expected {wanted}"


def _refuse_twice(table: Table, key: str) -> None:
    twice = [other for other in table.values if other != key and _key(other) == _key(key)]
    if twice:
        raise table.error(f"expected an option once, got {key!r} and {twice[0]!r}", key)


def _key(key: str) -> str:
    return key.replace("_", "-")


def _value(table: Table, key: str, option: Parameter, folder: Path) -> Any:
    value = table.values[key]
    with table.at(key):
        if option.kind is Path:
            return str(folder / typed(key, value, str))
        if option.kind is not str:
            return _within(key, typed(key, value, option.kind), option)
        if value == []:
            return None  # as if the option were not there
        text = _text(key, value)
        if option.key in NUMBERS:
            from retrofair.cli.similarity import named_numbers  # which imports what imports this

            named_numbers(text, f"--{option.key}")
    if option.key in FILES:
        place = folder / text
        there = place.is_file() or (option.key == "network" and place.is_dir())
        return str(place) if there or Path(text).suffix.lower() in TABLES else text
    return text


def _text(key: str, value: Any) -> str:
    """A text; numbers, lists and tables as the command line would have them."""
    if isinstance(value, dict) and value:
        inner = {name: _text(key, each) for name, each in value.items()}
        return ",".join(f"{_part(key, name)}={each}" for name, each in inner.items())
    if isinstance(value, list) and value:
        return ",".join(_part(key, _text(key, each)) for each in value)
    if isinstance(value, str | int | float):
        return text_of(value)
    raise InputError(f"expected {key} to be a text or a list of texts, got {shown(value)}")


def _part(key: str, text: str) -> str:
    """One of several, its commas marked for `commas`, where the command reads names with it."""
    if _key(key) not in NAMES and "," in text:
        raise InputError(f"expected {key} without commas, got {text!r}")
    if text.endswith("\\"):
        raise InputError(f"expected {key} without a backslash at the end, got {text!r}")
    return text.replace(",", "\\,")


def _within(key: str, value: Any, option: Parameter) -> Any:
    low, high = option.least, option.most
    if (low is not None and value < low) or (high is not None and value > high):
        bound = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise InputError(f"expected {key} to be {bound}, got {value}")
    return value


# --- what the commands take -----------------------------------------------------------------------


def configurable() -> dict[str, dict[str, Parameter]]:
    """The options of every command that takes --config, by the command's name and their keys."""
    from retrofair.cli.app import app  # which imports the commands, which import this

    return {
        str(info.name): {option.key: option for option in options_of(info.callback)}
        for info in app.registered_commands
        if info.callback is not None and takes_config(info.callback)
    }


def takes_config(function: Callable[..., Any]) -> bool:
    """Whether a command has the option."""
    return "config" in inspect.signature(function).parameters


def options_of(function: Callable[..., Any]) -> Iterator[Parameter]:
    """The options of a command's function, less --config; arguments are none."""
    hints = get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        if hints[name] is typer.Context:
            continue
        kind, *marks = get_args(hints[name])
        option = next((mark for mark in marks if isinstance(mark, OptionInfo)), None)
        if option is None or name == "config":
            continue
        kind = next((each for each in get_args(kind) if each is not NoneType), kind)
        # typer takes the first of the names in Annotated for a default
        names = [option.default, *(option.param_decls or ())]
        long = [each for each in names if isinstance(each, str) and each.startswith("--")]
        key = long[0].removeprefix("--") if long else name.replace("_", "-")
        yield Parameter(name, key, kind, option.min, option.max)
