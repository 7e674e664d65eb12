"""`retrofair study`: a study of the papers or of the user's own, resumable."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import joblib
import platformdirs
import typer
from rich.markup import escape
from rich.table import Table

from retrofair import studies
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.tables import console
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.progress import Cells
from retrofair.studies import Plan, Store, Study
from retrofair.studies.cells import Cell
from retrofair.studies.declare import read_study
from retrofair.studies.run import like_of, run

NAMES = ", ".join(known.name for known in studies.ALL)


def study(
    which: Annotated[
        str, typer.Argument(metavar="NAME|FILE.toml", help=f"One of: {NAMES}; or a file.")
    ],
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many of the study's seeds.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for page, table and figures.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the finished cells, shared by all studies.")
    ] = None,
    root: o.Root = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time; without it, one per core.")
    ] = None,
    backend: Annotated[str, typer.Option(help="local (processes) or dask (a cluster).")] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of the Dask scheduler, tcp://host:port.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and an estimate, run nothing.")
    ] = False,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Write the page from what is stored, run nothing.")
    ] = False,
    as_json: o.Json = False,
) -> int:
    """Run a study of the papers, or your own, and write its page; stopped, it goes on later."""
    chosen = chosen_study(which, seeds)
    folder = o.checked_out(out) or Path("retrofair-out") / chosen.name
    place = store or Path(platformdirs.user_cache_dir("retrofair")) / "studies"
    plan = Plan.of(chosen.cells(), Store(place), None if root is None else str(root))
    if dry_run:
        show_plan(chosen, plan, jobs, as_json)
        return 0
    if not page_only:
        watch(chosen, plan, jobs, backend, scheduler)
    written = chosen.write(plan, folder)
    failed = [record for cell in plan.cells if (record := failure(plan, cell)) is not None]
    stored = len(plan.cells) - len(plan.missing)
    if as_json:
        print(
            json_text(
                {
                    "study": chosen.name,
                    "cells": len(plan.cells),
                    "done": stored,
                    "failed": len(failed),
                    "files": [str(path) for path in written],
                }
            )
        )
    else:
        print(f"{chosen.title}: {stored:,} of {len(plan.cells):,} cells done")
        for path in written:
            print(f"  {path}")
    if failed:
        reasons = Counter(record["error"] for record in failed).most_common(3)
        for reason, count in reasons:
            notes.say(f"failed, {count} cells: {reason}")
        notes.say("failed cells are tried again by the same command")
    return 3 if failed else 0


def chosen_study(which: str, seeds: int | None) -> Study:
    """A built-in study by name or the user's own, with fewer seeds if asked."""
    path = Path(which)
    found = read_study(path) if path.suffix == ".toml" else studies.get(which)
    if path.suffix == ".toml" and found.name in {known.name for known in studies.ALL}:
        raise InputError(f"expected a name that no built-in study has, got {found.name!r} ({path})")
    if seeds is None:
        return found
    holder: Any = getattr(found, "grid", found)
    if seeds > len(holder.seeds):
        raise InputError(
            f"expected at most the study's {len(holder.seeds)} seeds, got {seeds} (--seeds)"
        )
    fewer = dataclasses.replace(holder, seeds=holder.seeds[:seeds])
    whole: Any = found
    result: Study = dataclasses.replace(whole, grid=fewer) if holder is not found else fewer
    return result


def watch(chosen: Study, plan: Plan, jobs: int | None, backend: str, scheduler: str | None) -> None:
    """Run the missing cells with a bar: done, failed, time left."""
    missing = plan.missing
    stored = len(plan.cells) - len(missing)
    workers = jobs or joblib.cpu_count()
    notes.say(
        f"{chosen.name}: {len(plan.cells):,} cells, {stored:,} of them stored in "
        f"{plan.store.folder}"
    )
    started = time.monotonic()
    left = {plan.key(cell) for cell in missing}
    by_key = dict(zip(plan.keys, plan.cells, strict=True))
    with Cells(chosen.name, total=len(plan.cells), done=stored) as bar:
        bar.update(0, 0, plan.seconds(missing, workers))

        def each(cell: Cell, record: dict[str, Any]) -> None:
            notes.flush()  # now backend and scheduler have been found in order
            left.discard(record["key"])
            rest = [by_key[key] for key in left]
            bar.update(1, record["status"] != "done", plan.seconds(rest, workers))

        kind: Any = backend
        try:
            run(plan, jobs=jobs, backend=kind, scheduler=scheduler, each=each)
        except KeyboardInterrupt:
            notes.say(
                f"{len(plan.cells) - len(left):,} of {len(plan.cells):,} cells are stored; the "
                "same command goes on from there"
            )
            notes.flush()
            raise
    if missing:
        notes.say(f"{len(missing):,} cells in {(time.monotonic() - started) / 60:.1f} minutes")


def failure(plan: Plan, cell: Cell) -> dict[str, Any] | None:
    """The record of a cell that failed."""
    record = plan.record(cell)
    return record if record is not None and record["status"] != "done" else None


def show_plan(chosen: Study, plan: Plan, jobs: int | None, as_json: bool) -> None:
    """What would be run, and about how long it would take."""
    workers = jobs or joblib.cpu_count()
    missing = {plan.key(cell) for cell in plan.missing}
    seconds = plan.seconds(plan.missing, workers)
    if as_json:
        cells = [
            {"key": key, "kind": cell.kind, "stored": key not in missing, "config": cell.config()}
            for key, cell in zip(plan.keys, plan.cells, strict=True)
        ]
        print(json_text({"study": chosen.name, "seconds": seconds, "cells": cells}))
        return
    counted: dict[tuple[str, ...], list[int]] = {}
    for key, cell in zip(plan.keys, plan.cells, strict=True):
        counts = counted.setdefault(like_of(cell), [0, 0])
        counts[0] += 1
        counts[1] += key in missing
    table = Table(title=escape(chosen.title), title_justify="left")
    for column in ("kind", "what", "data", "cells", "to run", "seconds each"):
        table.add_column(column, justify="right" if column in ("cells", "to run") else "left")
    for like, (total, to_run) in counted.items():
        each = plan.seconds([c for c in plan.cells if like_of(c) == like][:1], 1)
        table.add_row(
            *map(escape, like), str(total), str(to_run), "?" if each is None else f"{each:.1f}"
        )
    console().print(table)
    time_left = "unknown time" if seconds is None else f"about {seconds / 60:.0f} minutes"
    print(f"{len(missing):,} of {len(plan.cells):,} cells to run, {time_left} with {workers} jobs")
