"""The report of a command: its values beside the results, and with --report the page."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from retrofair.audit import Estimate
from retrofair.cli import called, notes
from retrofair.cli import options as o
from retrofair.cli.folders import say_others
from retrofair.cli.tables import Row, bounded, holds
from retrofair.data import GroupedData, Rows
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.networks.digest import digest
from retrofair.objective import Objective
from retrofair.report.record import NAME, record, write_record
from retrofair.report.written import write_page

PAGE = "report.html"
Report = Annotated[
    bool,
    typer.Option("--report", help=f"Write {PAGE} into --out: one file, to read and to hand on."),
]
# those that change no figure, and typer's own
UNSAID = ("as_json", "report", "out", "root", "context", "device", "cache", "workers", "checkpoint")
CHOICE = ("--choose",)


@dataclass(frozen=True)
class Reporting:
    """Where to write, whether a page is wanted, and what was asked.

    Args:
        out: the folder, or None: then nothing is written.
        given: the command's options by the names of its arguments.
        hashes: of data and weights; `notes_on`: what was assumed about the data.
    """

    out: Path | None
    page: bool
    given: Mapping[str, object]
    hashes: tuple[tuple[str, str], ...] = ()
    notes_on: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Reporting:
        """The options --out and --report of a command, checked.

        Args:
            given: all of the command's arguments, as its `locals()` are when it begins.

        Raises:
            InputError: a report without a folder for it, a folder that is a file, or one with
                another command's results.
        """
        out, page = given["out"], given["report"]
        if page and out is None:
            raise InputError(
                "expected --out DIR with --report, got none: the page is written there"
            )
        folder = o.checked_out(out)
        say_others(folder, called.name())
        return cls(folder, page, dict(given))

    def about(
        self,
        *,
        network: nn.Module | None = None,
        rows: Rows | None = None,
        source: str | None = None,
        weights: Path | None = None,
    ) -> Reporting:
        """The same, with hashes of what the figures depend on; nothing without a folder."""
        if self.out is None:
            return self
        found = []
        for name, path in (("the data file", source), ("the weights file", weights)):
            if path is not None and Path(path).is_file():
                found.append((f"{name} {Path(path).name}", file_hash(Path(path))))
        if rows is not None:
            found.append(("the rows used, as the network takes them", rows_hash(rows)))
        if network is not None:
            found.append(("the network and its weights", digest(network)))
        said = rows.notes if rows is not None else ()
        return Reporting(self.out, self.page, self.given, tuple(found), tuple(said))

    def write(self, found: Mapping[str, Any], title: str, files: Sequence[str] = ()) -> None:
        """The values, and the page where it is wanted."""
        if self.out is None:
            return
        seed: Any = self.given.get("seed")
        values = record(
            found,
            title=title,
            command=called.command(),
            choose=called.command(CHOICE),
            options=[(option(name), text(value)) for name, value in asked(self.given)],
            seed=seed,
            hashes=self.hashes,
            notes=self.notes_on,
            files=files,
        )
        write_record(self.out, values)
        if self.page:
            written = write_page(self.out / PAGE, json.loads(json_text(values)))
            notes.say(f"wrote {written}")

    def begin(self) -> None:
        """Remove values and page of an earlier call: a folder without them is unfinished."""
        if self.out is not None:
            for name in (NAME, PAGE):
                (self.out / name).unlink(missing_ok=True)


def asked(given: Mapping[str, object]) -> list[tuple[str, object]]:
    """The options that were set or have a default."""
    return [
        (name, value)
        for name, value in given.items()
        if name not in UNSAID
        and value is not None
        and value is not False
        and (name != "loss" or given.get("regression"))
    ]


def option(name: str) -> str:
    """An argument's name as the option it is.

    >>> option("no_scale"), option("file")
    ('--no-scale', 'data')
    """
    return "data" if name == "file" else "--" + name.replace("_", "-")


def text(value: object) -> str:
    """An option's value in few characters."""
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_hash(rows: Rows) -> str:
    """Of data in memory whole; of streamed ones batch by batch, so that they never are there."""
    if isinstance(rows, GroupedData):
        return digest(rows.x, rows.y, rows.group, rows.group_names)
    parts = []
    for x, _, _ in rows:
        each = [x[name] for name in sorted(x)] if isinstance(x, dict) else x
        parts.append(digest(*each) if isinstance(each, list | tuple) else digest(each))
    return digest(parts, rows.y, rows.group, rows.group_names)


def comparison(
    rows: Sequence[Row], objective: Objective, *, about: str, caption: str
) -> dict[str, Any]:
    """Networks side by side, as values for the page."""
    goals = bounded(objective)
    names = [measure.name for measure, _ in goals]
    names.append(objective.performance_measure.name)
    bounds = [(measure, bound) for measure, bound in goals if not math.isnan(bound)]
    return {
        "about": about,
        "caption": caption,
        "columns": names,
        "bounds": [
            f"{measure.name if len(bounds) > 1 else 'bias'} < {bound:g} here"
            for measure, bound in bounds
        ],
        "rows": [
            {
                "name": row.name,
                "figures": [figure(row.audit[name]) for name in names],
                "holds": [holds(row.audit[each.name], at, each.ideal) for each, at in bounds],
                "status": row.status.value if row.status else row.note,
            }
            for row in rows
        ],
    }


def figure(found: Estimate) -> list[float]:
    return [found.value, found.low, found.high]
