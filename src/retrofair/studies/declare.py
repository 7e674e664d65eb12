"""A user's own study, declared in a TOML file; `docs/studies.md` shows one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from retrofair import datasets, debiasers, metrics
from retrofair.data import Preparation, read_table
from retrofair.data.split import check_seed
from retrofair.data.tables import TABLES
from retrofair.errors import InputError, unknown
from retrofair.networks import Training
from retrofair.objective import Constrained, Weighted
from retrofair.studies.figures import bars_and_planes, bias_and_objective
from retrofair.studies.findings import with_controls
from retrofair.studies.grid import Grid, Method
from retrofair.studies.grid_study import GridStudy
from retrofair.studies.results import YARDSTICKS
from retrofair.studies.sources import Source
from retrofair.studies.toml_table import Table, read_toml, shown, typed

TOP = ("name", "title", "measures", "seeds", "objective", "data", "network", "methods", "method")
DATA_SET = ("name", "sensitive", "include_sensitive")
FILE = ("file", "label", "positive", "sensitive", "privileged", "include_sensitive")
METHOD = ("name", "method", "measures")
NAME = re.compile(r"\w(?:[\w .-]{0,58}\w)?")  # a file's name on every system
SEEDS, MOST_SEEDS = 5, 1000


def read_study(path: str | Path) -> GridStudy:
    """The study that a TOML file declares.

    Tables that it names are read once, so that a misspelt column is found before any work is done.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is not TOML in UTF-8, or declares no study: the message names the line.
    """
    path = Path(path)
    top = read_toml(path)
    top.only(*TOP)
    _refuse_misplaced(top)
    name = top.text("name", path.stem)
    if not NAME.fullmatch(name):
        raise top.error(
            "expected a name for files (letters, digits, and between them space _ - or ., at most "
            f'60), got {shown(name)}: choose another with name = "..."',
            "name",
        )
    measures = _measures(top)
    if measures is None:
        raise top.missing("measures", ', for example measures = ["spd"]')
    grid = Grid(
        sources=_sources(top, path.absolute().parent),
        measures=measures,
        methods=with_controls(_methods(top, measures)),
        seeds=_seeds(top),
        objective=_objective(top.table("objective"), measures[0]),
        trainings=_trainings(top),
    )
    weighted = isinstance(grid.objective, Weighted)
    return GridStudy(
        name=name,
        title=_label(top, "title", name),
        grid=grid,
        figure=bars_and_planes if weighted else bias_and_objective,
    )


def _refuse_misplaced(top: Table) -> None:
    """A line belongs to the [table] above it, which is easily forgotten."""
    blocks = [top.table("objective")]
    blocks += [block for kind in ("data", "network", "method") for block in top.blocks(kind)]
    for block in blocks:
        own = METHOD if block.title == "[[method]]" else ()
        for key in ("title", "measures", "seeds", "methods"):
            if key in block and key not in own:
                raise block.error(
                    f"expected {key} above the first [table], got it in {block.title}: move it up",
                    key,
                )


def _label(table: Table, key: str, default: str) -> str:
    """A text for a heading or a cell of a page's table."""
    text = table.text(key, default)
    if key in table and (not text.strip() or not text.isprintable() or "|" in text):
        raise table.error(f"expected {key} to be one line without |, got {shown(text)}", key)
    return text


def _measures(table: Table) -> tuple[str, ...] | None:
    """Measures by their first names, by which cells and pages know them."""
    names = table.texts("measures")
    if names is None:
        return None
    with table.at("measures"):
        found = tuple(metrics.get(name).name for name in names)
    return table.different("measures", found)


def _seeds(top: Table) -> tuple[int, ...]:
    value = top.values.get("seeds", SEEDS)
    if not isinstance(value, list):
        count = top.value("seeds", int, SEEDS)
        if not 1 <= count <= MOST_SEEDS:
            alone = f" (for that seed alone: seeds = [{count}])" if count >= 0 else ""
            raise top.error(
                f"expected seeds to be a number from 1 to {MOST_SEEDS}, got {count}{alone}", "seeds"
            )
        return tuple(range(count))
    if not 1 <= len(value) <= MOST_SEEDS:
        raise top.error(f"expected 1 to {MOST_SEEDS} seeds, got {len(value)}", "seeds")
    with top.at("seeds"):
        seeds = tuple(check_seed(typed("each seed", seed, int)) for seed in value)
    return top.different("seeds", seeds)


def _objective(table: Table, measure: str) -> Constrained | Weighted:
    table.only("epsilon", "lam", "performance")
    if "epsilon" in table and "lam" in table:
        raise table.error(
            "expected epsilon (a bound on the bias) or lam (its weight), got both: remove one",
            "lam",
        )
    kinds = {"epsilon": float, "lam": float, "performance": str}
    options = {key: table.value(key, kind) for key, kind in kinds.items() if key in table}
    # the measure is replaced by each of the study's
    if "lam" in table:
        return table.made(partial(Weighted, measure), options)
    return table.made(partial(Constrained, measure), options)


# --- data -----------------------------------------------------------------------------------------


def _sources(top: Table, folder: Path) -> tuple[Source, ...]:
    blocks = top.blocks("data")
    if not blocks:
        raise top.missing("data", ': name one with [[data]] and name = "..." or file = "..."')
    sources = tuple(_source(block, folder) for block in blocks)
    # a page tells its tables apart by these three
    columns = ("blind", "with the sensitive columns")
    titles = [
        f"{s.to_dict()['data']} by {s.groups}, {columns[s.include_sensitive]}" for s in sources
    ]
    _refuse_twice(blocks, titles)
    return sources


def _source(table: Table, folder: Path) -> Source:
    if "file" in table and "name" not in table:
        table.only(*FILE)
        return _file(table, folder)
    table.only(*dict.fromkeys(DATA_SET + FILE))
    if ("name" in table) == ("file" in table):
        got = "both" if "name" in table else "none"
        raise table.error(
            f"expected name (a data set) or file (a table of yours) in [[data]], got {got}"
        )
    for key in FILE:
        if key in table and key not in DATA_SET:
            raise table.error(f"expected {key} with file only, got it with name: remove it", key)
    name, sensitive = table.text("name"), table.texts("sensitive")
    with table.at("name"):
        if Path(name).suffix.lower() in TABLES:
            raise InputError(f"expected the name of a data set, got {name!r}: use file = ...")
        data_set = datasets.get(name)
    with table.at("sensitive"):
        chosen = data_set.attributes(sensitive)
    return Source(name, chosen, include_sensitive=table.value("include_sensitive", bool, True))


def _file(table: Table, folder: Path) -> Source:
    label, sensitive = table.text("label"), table.texts("sensitive")
    for key in ("label", "sensitive"):
        if key not in table:
            raise table.missing(key, ": name a column of the file")
    positive = table.texts("positive", convert=True)
    if positive is not None and len(positive) > 1:
        raise table.error(f"expected one positive value, got {list(positive)}", "positive")
    chosen: dict[str, Any] = {
        "label": label,
        "positive": None if positive is None else positive[0],
        "sensitive": sensitive,
        "privileged": table.texts("privileged", convert=True),
        "include_sensitive": table.value("include_sensitive", bool, True),
    }
    place = folder / table.text("file")
    with table.at("file"):
        if place.suffix.lower() not in TABLES:
            raise InputError(f"expected a file of type {', '.join(TABLES)}, got {place.name!r}")
        if not place.is_file():
            raise InputError(
                f"expected a table at {place}, found no such file (paths are relative to the "
                "folder of this file)"
            )
        frame = read_table(place)
    with table.at():
        Preparation.fit(frame, **chosen)
        return Source(str(place), **chosen)


# --- networks and methods -------------------------------------------------------------------------


def _trainings(top: Table) -> tuple[tuple[str, Training], ...]:
    blocks = top.blocks("network")
    if not blocks:
        return (("", Training()),)
    found = []
    for block in blocks:
        options = block.options(Training, "name")
        if len(blocks) > 1 and "name" not in block:
            raise block.missing("name", ", which tells several networks apart")
        found.append((_label(block, "name", ""), block.made(Training, options)))
    _refuse_twice(blocks, [name for name, _ in found], "name")
    return tuple(found)


def _methods(top: Table, measures: tuple[str, ...]) -> tuple[Method, ...]:
    known: dict[str, Any] = {kind.name: kind for kind in debiasers.ALL}
    names = top.texts("methods") or ()
    with top.at("methods"):
        plain = [Method(name, _chosen("method", name, known)()) for name in names]
    top.different("methods", names)
    blocks = top.blocks("method")
    made = [_method(block, measures, known) for block in blocks]
    if not plain and not made:
        raise top.missing("methods", f", for example methods = {list(known)[:2]}, or [[method]]")
    for block, method in zip(blocks, made, strict=True):
        if method.name in (*names, *YARDSTICKS):
            raise block.error(
                f'expected a name that is not taken, got {method.name!r}: add name = "..."', "name"
            )
    _refuse_twice(blocks, [method.name for method in made], "name")
    return (*plain, *made)


def _method(table: Table, measures: tuple[str, ...], known: Mapping[str, Any]) -> Method:
    if "method" not in table:
        options = {field.name for kind in known.values() for field in dataclasses.fields(kind)}
        table.only(*METHOD, *options & set(table.values))  # a misspelt "method" first
        raise table.missing("method", f" (choose from: {', '.join(sorted(known))})")
    name = table.text("method")
    with table.at("method"):
        kind = _chosen("method", name, known)
    debiaser = table.made(kind, table.options(kind, *METHOD))
    only = _measures(table)
    with table.at("measures"):
        for measure in only or ():
            _chosen("measure of this study", measure, dict.fromkeys(measures))
    return Method(_label(table, "name", name), debiaser, only)


def _chosen(kind: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise unknown(kind, name, choices)
    return choices[name]


def _refuse_twice(blocks: list[Table], names: list[str], key: str = "") -> None:
    """Refuse a block that is called like an earlier one."""
    for n, name in enumerate(names):
        if name in names[:n]:
            first = blocks[names.index(name)].line(key)
            fix = f'give one another {key}, {key} = "..."' if key else "remove one"
            raise blocks[n].error(
                f"expected different {blocks[n].title}, got {name!r} as in line {first}: {fix}", key
            )
