"""Tables of a TOML file: values by type, and errors that name the file and the line."""

from __future__ import annotations

import codecs
import dataclasses
import re
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from retrofair.data.encoders import text_of
from retrofair.errors import InputError, MissingFileError, unknown

Key = tuple[str | int, ...]
Made = TypeVar("Made")
LARGEST = 100_000  # bytes; what is larger is some other file
WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
PLACE = re.compile(r"\(at line (\d+), column \d+\)$")
LIMIT = 2**63  # of TOML's whole numbers
CLOSING = ("]", "}", '"""', "'''")


@dataclass(frozen=True)
class Table:
    """A table's values, and where they stand.

    Args:
        file: as the user called it.
        lines: those of all keys of the file; a block's number is part of its keys.
        key: the table's own.
        title: how messages call it.
    """

    file: str
    values: Mapping[str, Any]
    lines: Mapping[Key, int]
    key: Key = ()
    title: str = "the file"

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def line(self, key: str = "") -> int | None:
        """That of the key, or else of the table; None for the file as a whole."""
        return self.lines.get((*self.key, key), self.lines.get(self.key))

    def error(self, reason: object, key: str = "") -> InputError:
        line = self.line(key)
        return InputError(f"{self.file}{'' if line is None else f', line {line}'}: {reason}")

    def missing(self, key: str, hint: str = "") -> InputError:
        return self.error(f"expected the field {key!r} in {self.title}, got none{hint}")

    @contextmanager
    def at(self, key: str = "") -> Iterator[None]:
        """Errors of the block are about this key. Not to be nested, as each says the place."""
        try:
            yield
        except InputError as error:
            raise self.error(error, key) from None
        except OSError as error:
            reason = f"expected a file that can be read, got {error.strerror or error}"
            raise self.error(reason, key) from None

    def only(self, *known: str) -> None:
        """Refuse fields of other names."""
        for key in self.values:
            if key not in known:
                raise self.error(unknown(f"field of {self.title}", key, known), key)

    def value(self, key: str, kind: Any, default: Any = None) -> Any:
        """The value, if it is of the kind: a type, `X | None` or a `Literal`."""
        if key not in self:
            return default
        with self.at(key):
            return typed(key, self.values[key], kind)

    def text(self, key: str, default: str = "") -> str:
        return str(self.value(key, str, default))

    def texts(self, key: str, *, convert: bool = False) -> tuple[str, ...] | None:
        """One text or a list of them; None without the key.

        Args:
            convert: take numbers and truth values as texts.
        """
        if key not in self:
            return None
        value = self.values[key]
        listed = value if isinstance(value, list) else [value]
        fitting = str | int | float if convert else str
        if not all(isinstance(each, fitting) for each in listed):
            raise self.error(f"expected {key} to be a list of texts, got {shown(value)}", key)
        if not listed:
            raise self.error(f"expected {key} to have at least one text, got []", key)
        return tuple(text_of(each) for each in listed)

    def different(self, key: str, values: tuple[Made, ...]) -> tuple[Made, ...]:
        """The values, none of which comes twice."""
        for index, value in enumerate(values):
            if value in values[:index]:
                raise self.error(f"expected different {key}, got {value!r} twice: remove one", key)
        return values

    def table(self, key: str) -> Table:
        """A [table]; an empty one if it is not there."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(f"expected one table, [{key}], got {shown(value)}", key)
        return dataclasses.replace(self, values=value, key=(*self.key, key), title=f"[{key}]")

    def blocks(self, key: str) -> list[Table]:
        """All [[blocks]] of this name."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
            raise self.error(
                f"expected blocks, each headed [[{key}]] in two brackets, got {shown(value)}", key
            )
        return [
            dataclasses.replace(self, values=each, key=(*self.key, key, n), title=f"[[{key}]]")
            for n, each in enumerate(value)
        ]

    def options(self, kind: type[Any], *others: str) -> dict[str, Any]:
        """The given fields of a dataclass, by their types; refuses any but these and `others`."""
        names = [field.name for field in dataclasses.fields(kind)]
        self.only(*others, *names)
        hints = get_type_hints(kind)
        return {name: self.value(name, hints[name]) for name in names if name in self}

    def made(self, make: Callable[..., Made], options: dict[str, Any]) -> Made:
        """What `make` makes of the options.

        Its error is about the one option without which all is well, or else about the table.
        """
        try:
            return make(**options)
        except InputError as error:
            guilty = [name for name in options if _accepts(make, options, name)]
            raise self.error(error, guilty[0] if len(guilty) == 1 else "") from None


def _accepts(make: Callable[..., Any], options: Mapping[str, Any], without: str) -> bool:
    try:
        make(**{name: value for name, value in options.items() if name != without})
    except InputError:
        return False
    return True


def typed(name: str, value: Any, kind: Any) -> Any:
    """The value, if it is of the kind. Truth values are no numbers, and numbers are finite.

    Raises:
        InputError: it is of another kind.
    """
    choices = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):  # TOML has no None: leaving it out says so
        (kind,) = (choice for choice in choices if choice is not types.NoneType)
        return typed(name, value, kind)
    if get_origin(kind) is Literal:
        if value not in choices:
            found = value if isinstance(value, str) else shown(value)
            raise unknown(f"choice for {name}", found, choices)
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = not number or abs(value) < LIMIT  # nan does not
    if kind is float and number and fits:
        return float(value)  # 1 and 1.0 are one option, and the key of a cell is made from its text
    if type(value) is kind and fits:
        return value
    raise InputError(f"expected {name} to be {WORDS[kind]}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value of TOML in a message, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        more = ", ..." if len(value) > 5 else ""
        return f"[{', '.join(map(shown, value[:5]))}{more}]"[:200]
    if isinstance(value, int) and abs(value) >= LIMIT:
        return "one of more than 64 bits"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:60] + "...")
    return str(value)


# --- the file -------------------------------------------------------------------------------------


def read_toml(path: Path) -> Table:
    """The whole of a file.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is too large, not in UTF-8, or not TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1).removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise MissingFileError(f"expected a TOML file, but there is no file {path}") from None
    except OSError as error:
        raise InputError(
            f"expected a TOML file, but {path} cannot be read: {error.strerror}"
        ) from None
    if len(content) > LARGEST:
        raise InputError(f"expected a TOML file of at most {LARGEST:,} bytes, but {path} is larger")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: expected text in UTF-8, got the byte "
            f"0x{content[error.start]:02x}: save the file as UTF-8"
        ) from None
    try:
        # with a line break at the end, a mistake in the last line is not "at end of document"
        return Table(str(path), tomllib.loads(text + "\n"), locate(text))
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        place = PLACE.search(reason)
        where = f", line {place[1]}" if place else ""
        raise InputError(
            f"{path}{where}: expected TOML, got something else: {PLACE.sub('', reason).strip()} "
            "(texts stand in quotes, lists in [ ])"
        ) from None
    except (ValueError, RecursionError):  # Python's own limits
        raise InputError(
            f"{path}: expected TOML, got a number of thousands of digits or hundreds of brackets "
            "within each other"
        ) from None


def locate(text: str) -> dict[Key, int]:
    """The line in which each table and key of a valid text begins.

    tomllib keeps no lines. But each statement is valid TOML by itself: lines are put together until
    they can be parsed. What stands in comments, strings or lists over several lines can thus not be
    taken for a key. Keys of tables within a list have the line of the whole statement.

    Example:
        >>> locate("a = [\\n]\\n[[b]]\\nc.d = '[e]' # f = 1\\n")
        {('a',): 1, ('b',): 3, ('b', 0): 3, ('b', 0, 'c'): 4, ('b', 0, 'c', 'd'): 4}
    """
    found: dict[Key, int] = {}
    last: dict[Key, int] = {}  # number of the last block, by the key of its list
    table: Key = ()
    statement, first = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        statement += line + "\n"
        if number > first and not any(mark in line for mark in CLOSING):
            continue  # nothing that began on an earlier line can end here
        try:
            values = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _header(values, last, found, first)
        else:
            for key in _keys(values, table):
                found.setdefault(key, first)
        statement, first = "", number + 1
    return found


def _header(values: Any, last: dict[Key, int], found: dict[Key, int], line: int) -> Key:
    """The key of the table that [a.b] or [[a.b]] opens."""
    key: Key = ()
    while values:
        ((name, values),) = values.items()
        key += (name,)
        found.setdefault(key, line)
        if isinstance(values, list):
            last[key] = last.get(key, -1) + 1
            values = None
        if key in last:
            key += (last[key],)
    found[key] = line
    return key


def _keys(values: Any, key: Key) -> Iterator[Key]:
    """The keys of everything within."""
    inner = values.items() if isinstance(values, dict) else enumerate(values)
    for name, value in inner:
        yield (*key, name)
        if isinstance(value, dict | list):
            yield from _keys(value, (*key, name))
