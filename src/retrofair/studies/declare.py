"""A user's own study, declared in a TOML file; `docs/studies.md` shows one.

What is wrong in the file is said with the file's name and the line.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from retrofair import datasets, debiasers, metrics
from retrofair.data import Preparation, read_table
from retrofair.data.encoders import text_of
from retrofair.data.split import check_seed
from retrofair.data.tables import TABLES
from retrofair.errors import InputError, MissingFileError, unknown
from retrofair.networks import Training
from retrofair.objective import Constrained, Weighted
from retrofair.studies.grid import Grid, Method
from retrofair.studies.grid_study import GridStudy
from retrofair.studies.results import YARDSTICKS
from retrofair.studies.sources import Source

Key = tuple[str | int, ...]
Chosen = TypeVar("Chosen")
LARGEST = 100_000  # bytes; what is larger is some other file
MOST_SEEDS = 1000
NAME = re.compile(r"\w(?:[\w .-]{0,58}\w)?")  # a file name on every system
TOP = (
    *("name", "title", "measures", "seeds", "objective"),
    *("data", "network", "methods", "method"),
)
OF_FILES = ("label", "positive", "privileged")
DATA = ("name", "file", "sensitive", "include_sensitive", *OF_FILES)
METHOD = ("name", "method", "measures")


def read_study(path: str | Path) -> GridStudy:
    """The study that a TOML file declares.

    Tables that it names are read once, so that a misspelt column is found before any work is done.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is not TOML in UTF-8, or says what no study can be: the message names the
            file and the line.
    """
    path = Path(path)
    top = _read(path)
    top.only(*TOP)
    name = top.text("name", path.stem)
    if not NAME.fullmatch(name):
        raise top.error(
            f"expected a name that files can have (letters, digits, space, _ - ., at most 60), got "
            f'{_shown(name)}: name = "..."',
            "name",
        )
    measures = _measures(top)
    if measures is None:
        raise top.missing("measures")
    grid = Grid(
        sources=_sources(top, path.absolute().parent),
        measures=measures,
        methods=_methods(top, measures),
        seeds=_seeds(top),
        objective=_objective(top, measures[0]),
        trainings=_trainings(top),
    )
    return GridStudy(name=name, title=top.label("title", name), grid=grid)


# --- the parts of a study -------------------------------------------------------------------------


def _measures(table: _Table) -> tuple[str, ...] | None:
    """The measures by their first names, which is how cells and pages know them."""
    names = table.texts("measures")
    if names is None:
        return None
    with table.at("measures"):
        found = tuple(metrics.get(name).name for name in names)
    return table.different(found, "measures")


def _seeds(top: _Table) -> tuple[int, ...]:
    value = top.values.get("seeds", 5)
    if isinstance(value, list):
        with top.at("seeds"):
            for seed in value:
                check_seed(_typed(seed, int))
        if 1 <= len(value) <= MOST_SEEDS:
            return top.different(tuple(value), "seeds")
    elif not isinstance(value, int) or isinstance(value, bool):
        raise top.error(f"expected seeds to be a number or a list, got {_shown(value)}", "seeds")
    elif 1 <= value <= MOST_SEEDS:
        return tuple(range(value))
    count = len(value) if isinstance(value, list) else _shown(value)
    raise top.error(
        f"expected 1 to {MOST_SEEDS} seeds, got {count} (one seed of that number: seeds = [...])",
        "seeds",
    )


def _objective(top: _Table, measure: str) -> Constrained | Weighted:
    table = top.table("objective")
    table.only("epsilon", "lam", "performance")
    if {"epsilon", "lam"} <= set(table.values):
        raise table.error(
            "expected epsilon (a bound on the bias) or lam (its weight), got both: remove one",
            "lam",
        )
    kind = Weighted if "lam" in table.values else Constrained
    with table.at("performance"):
        metrics.get_performance(table.text("performance", "accuracy"))
    return table.made(lambda **options: kind(measure, **options), table.options(kind))


def _sources(top: _Table, folder: Path) -> tuple[Source, ...]:
    blocks = top.tables("data")
    if not blocks:
        raise top.missing("data")
    sources = tuple(_source(table, folder) for table in blocks)
    # a page tells its tables apart by these two
    _distinct(blocks, [f"{s.to_dict()['data']} by {s.groups}" for s in sources], "data", "")
    return sources


def _source(table: _Table, folder: Path) -> Source:
    table.only(*DATA)
    if ("name" in table.values) == ("file" in table.values):
        raise table.error("expected name (a data set) or file (a table of yours), one of the two")
    chosen: dict[str, Any] = {"include_sensitive": table.value("include_sensitive", bool, True)}
    if "name" in table.values:
        return _data_set(table, chosen)
    for key in ("label", "sensitive"):
        if key not in table.values:
            raise table.missing(key)
    chosen |= {"label": table.text("label", ""), "sensitive": table.texts("sensitive")}
    chosen |= {"privileged": table.texts("privileged", as_text=True)}
    if "positive" in table.values:
        with table.at("positive"):
            chosen["positive"] = _as_text(table.values["positive"])
    file = folder / table.text("file", "")
    with table.at("file"):
        if file.suffix.lower() not in TABLES:
            raise InputError(f"expected a file of the kinds {', '.join(TABLES)}, got {file.name!r}")
        if not file.is_file():
            raise InputError(
                f"expected a table at {file}, found no such file (paths start at this one's folder)"
            )
        frame = read_table(file)
    with table.at():
        Preparation.fit(frame, **chosen)
    return Source(str(file), **chosen)


def _data_set(table: _Table, chosen: dict[str, Any]) -> Source:
    for key in OF_FILES:
        if key in table.values:
            raise table.error(f"expected {key} with file only, got it with name: remove it", key)
    name = table.text("name", "")
    with table.at("name"):
        if Path(name).suffix.lower() in TABLES:
            raise InputError(f"expected a data set's name, got {name!r}: file = {name!r}")
        data_set = datasets.get(name)
    with table.at("sensitive"):
        return Source(name, data_set.attributes(table.texts("sensitive")), **chosen)


def _trainings(top: _Table) -> tuple[tuple[str, Training], ...]:
    blocks = top.tables("network")
    if not blocks:
        return (("", Training()),)
    trainings = []
    for table in blocks:
        options = table.options(Training, "name")
        if len(blocks) > 1 and "name" not in table.values:
            raise table.missing("name", "needed where there are several")
        trainings.append((table.label("name", ""), table.made(_training, options)))
    _distinct(blocks, [name for name, _ in trainings], "network", "name")
    return tuple(trainings)


def _training(**options: Any) -> Training:
    training = Training(**options)
    # what the network itself would refuse, much later
    if min(training.width, training.depth) < 1 or not 0 <= training.dropout < 1:
        raise InputError(
            "expected width and depth of at least 1 and dropout in [0, 1), got "
            f"{training.width}, {training.depth} and {training.dropout}"
        )
    return training


def _methods(top: _Table, measures: tuple[str, ...]) -> tuple[Method, ...]:
    known = {kind.name: kind for kind in debiasers.ALL}
    names = top.texts("methods") or ()
    with top.at("methods"):
        plain = [Method(name, _member("method", name, known)()) for name in names]
    top.different(names, "methods")
    blocks = top.tables("method")
    made = [_method(table, measures, known) for table in blocks]
    if not plain and not made:
        raise top.missing("methods", 'methods = ["..."] or [[method]]')
    for table, method in zip(blocks, made, strict=True):
        if method.name in (*names, *YARDSTICKS):
            raise table.error(f"expected another name than {method.name!r}, which is taken", "name")
    _distinct(blocks, [method.name for method in made], "method", "name")
    return (*plain, *made)


def _method(table: _Table, measures: tuple[str, ...], known: Mapping[str, Any]) -> Method:
    if "method" not in table.values:
        table.only(*table.values if "name" in table.values else METHOD)
        raise table.missing("method", f"one of {', '.join(known)}")
    name = table.text("method", "")
    with table.at("method"):
        kind = _member("method", name, known)
    debiaser = table.made(kind, table.options(kind, *METHOD))
    chosen = _measures(table)
    with table.at("measures"):
        for measure in chosen or ():
            _member("measure of this study", measure, dict.fromkeys(measures))
    return Method(table.label("name", name), debiaser, chosen)


def _member(kind: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise unknown(kind, name, choices)
    return choices[name]


def _distinct(blocks: list[_Table], names: list[str], kind: str, key: str) -> None:
    """Refuse a block that is called as an earlier one."""
    for index, name in enumerate(names):
        if name in names[:index]:
            first = blocks[names.index(name)]
            fix = f': give it another {key} = "..."' if key else ""
            raise blocks[index].error(
                f"expected different [[{kind}]], got {name!r} twice (before at line {first.line()})"
                + fix,
                key,
            )


# --- one table of the file ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table's values by type; its errors say where.

    Args:
        file: as the user called it.
        lines: those of all keys of the file.
        key: the table's own.
    """

    file: str
    values: Mapping[str, Any]
    lines: Mapping[Key, int]
    key: Key = ()
    title: str = "the file"

    def line(self, key: str = "") -> int | None:
        """That of the key, or else of the table; none of the file as a whole."""
        return self.lines.get((*self.key, key), self.lines.get(self.key))

    def error(self, reason: object, key: str = "") -> InputError:
        line = self.line(key)
        return InputError(f"{self.file}{'' if line is None else f', line {line}'}: {reason}")

    @contextmanager
    def at(self, key: str = "") -> Iterator[None]:
        """Errors of the block are about this key."""
        try:
            yield
        except (InputError, OSError) as error:
            raise self.error(error, key) from None

    def missing(self, key: str, fix: str = "") -> InputError:
        return self.error(f"expected the field {key!r} in {self.title}, got none" + f" ({fix})" * bool(fix))

    def only(self, *known: str) -> None:
        """Refuse fields of other names."""
        for key in self.values:
            if key not in known:
                hint = ""
                if self.key and key in TOP:
                    hint = f"; {key} of the study stands above the first [table]"
                raise self.error(f"{unknown(f'field of {self.title}', key, known)}{hint}", key)

    def value(self, key: str, kind: Any, default: Any = None) -> Any:
        """The value, if it is of the kind: a type, X | None, or a Literal."""
        if key not in self.values:
            return default
        with self.at(key):
            return _typed(self.values[key], kind, key)

    def text(self, key: str, default: str) -> str:
        return str(self.value(key, str, default))

    def label(self, key: str, default: str) -> str:
        """A text for a heading or a cell of a table."""
        text = self.text(key, default)
        if key in self.values and (not text.strip() or not text.isprintable() or "|" in text):
            raise self.error(
                f"expected {key} to be one line of text without |, got {_shown(text)}", key
            )
        return text

    def texts(self, key: str, *, as_text: bool = False) -> tuple[str, ...] | None:
        """One text or a list of them; None without the key.

        Args:
            as_text: take numbers and truth values as texts.
        """
        value = self.values.get(key)
        if value is None:
            return None
        listed = value if isinstance(value, list) else [value]
        with self.at(key):
            if not listed:
                raise InputError(f"expected at least one of {key}, got []")
            if as_text:
                return tuple(map(_as_text, listed))
            if not all(isinstance(text, str) for text in listed):
                raise InputError(f"expected {key} to be a list of texts, got {_shown(value)}")
        return tuple(listed)

    def different(self, values: tuple[Chosen, ...], key: str) -> tuple[Chosen, ...]:
        """The values, none of which comes twice."""
        twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
        if twice is not None:
            raise self.error(f"expected different {key}, got {twice!r} twice: remove one", key)
        return values

    def table(self, key: str) -> _Table:
        """A [table]; an empty one if it is not there."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(f"expected a table [{key}], got {_shown(value)}", key)
        return dataclasses.replace(self, values=value, key=(*self.key, key), title=f"[{key}]")

    def tables(self, key: str) -> list[_Table]:
        """All blocks [[key]]."""
        value = self.values.get(key, [])
        if isinstance(value, dict):
            raise self.error(f"expected [[{key}]], each in two brackets, got [{key}]", key)
        if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
            raise self.error(f"expected blocks [[{key}]], got {_shown(value)}", key)
        return [
            dataclasses.replace(self, values=b, key=(*self.key, key, i), title=f"[[{key}]]")
            for i, b in enumerate(value)
        ]

    def options(self, kind: type[Any], *others: str) -> dict[str, Any]:
        """The given ones of a dataclass's fields, by their types; no fields but these and others.

        `measure` is never one of them: a study has its measures.
        """
        fields = [f.name for f in dataclasses.fields(kind) if f.name != "measure"]
        self.only(*others, *fields, *(("epsilon", "lam") if kind in (Constrained, Weighted) else ()))
        hints = get_type_hints(kind)
        return {name: self.value(name, hints[name]) for name in fields if name in self.values}

    def made(self, make: Callable[..., Chosen], options: dict[str, Any]) -> Chosen:
        """What `make` makes of the options.

        Its error is about the one option without which there is none, or else about the table.
        """
        try:
            return make(**options)
        except InputError as error:
            guilty = [name for name in options if _accepted(make, options, name)]
            raise self.error(error, guilty[0] if len(guilty) == 1 else "") from None


def _accepted(make: Callable[..., Any], options: Mapping[str, Any], without: str) -> bool:
    try:
        make(**{name: value for name, value in options.items() if name != without})
    except InputError:
        return False
    return True


def _typed(value: Any, kind: Any, key: str = "") -> Any:
    """The value, if it is of the kind; truth values are no numbers."""
