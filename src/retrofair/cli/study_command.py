"""`retrofair study`: a study of the papers or of the user's own, resumable."""

from __future__ import annotations

import dataclasses
import json
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
from retrofair.progress import Cells, words
from retrofair.studies import Plan, Store, Study
from retrofair.studies.cells import Cell, versions
from retrofair.studies.declare import read_study
from retrofair.studies.durations import Durations, like_of
from retrofair.studies.run import check, run

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
    cells: Annotated[
        Path | None,
        typer.Option(
            help="File of finished cells (.jsonl.gz): known from the start where it is there, and "
            "written at the end. To share them, or to go on on another machine."
        ),
    ] = None,
    root: o.Root = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time; without it, one per core.")
    ] = None,
    backend: Annotated[str, typer.Option(help="local (processes) or dask (a cluster).")] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of the Dask scheduler, tcp://host:port.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where cells compute: cpu, cuda, or auto (a GPU if there is one).")
    ] = "cpu",
    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery", help="Of celeba: also a picture of faces before and after, in --out."
        ),
    ] = False,
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
    check(jobs, backend, scheduler, device)
    if gallery and not hasattr(chosen, "gallery"):
        raise InputError(f"expected --gallery with the study celeba, got {chosen.name}")
    if dry_run and page_only:
        raise InputError("expected --dry-run or --page-only, got both")
    known = Store(place)
    if cells is not None and cells.exists():
        notes.say(f"{known.take(cells):,} finished cells in {cells} that are not in {place}")
    plan = Plan.of(chosen.cells(), known, None if root is None else str(root))
    say_elsewhere(plan)
    if dry_run:
        show_plan(chosen, plan, workers(jobs, backend), as_json)
        return 0
    if not page_only:
        watch(chosen, plan, jobs, backend, scheduler, device)
    elif len(plan.missing) == len(plan.cells):
        raise InputError(
            f"expected finished cells of this study in {place}, found none: leave out --page-only "
            "to run them, or name another folder (--store)"
        )
    written = chosen.write(plan, folder)
    if gallery:
        drawing: Any = chosen
        written.append(drawing.gallery(plan, folder, device))
    if cells is not None:
        known.give(cells, plan.keys)
        written.append(cells)
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
                    "errors": dict(Counter(record["error"] for record in failed)),
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


def watch(
    chosen: Study,
    plan: Plan,
    jobs: int | None,
    backend: str,
    scheduler: str | None,
    device: str = "cpu",
) -> None:
    """Run the missing cells with a bar: done, failed, time left."""
    missing = plan.missing
    stored = len(plan.cells) - len(missing)
    known = Durations(plan.store)
    notes.say(
        f"{chosen.name}: {len(plan.cells):,} cells, {stored:,} of them stored in "
        f"{plan.store.folder}; about {words(known.total(missing, workers(jobs, backend)))} left"
    )
    started = time.monotonic()
    left = {plan.key(cell): cell for cell in missing}
    with Cells(chosen.name, total=len(plan.cells), done=stored) as bar:

        def ready() -> None:
            notes.flush()
            bar.show(known.total(missing, workers(jobs, backend)))

        def each(cell: Cell, record: dict[str, Any]) -> None:
            left.pop(record["key"], None)
            failed = record["status"] != "done"
            if not failed:
                known.add(record)
            bar.advance(failed)
            if bar.due:
                bar.show(known.total(list(left.values()), workers(jobs, backend)))

        kind: Any = backend
        try:
            run(
                plan,
                jobs=jobs,
                backend=kind,
                scheduler=scheduler,
                device=device,
                each=each,
                ready=ready,
            )
        except KeyboardInterrupt:
            notes.say(
                f"{len(plan.cells) - len(left):,} of {len(plan.cells):,} cells are stored; the "
                "same command goes on from there"
            )
            notes.flush()
            raise
    if missing:
        notes.say(f"{len(missing):,} cells in {words(time.monotonic() - started)}")


def workers(jobs: int | None, backend: str) -> int:
    """How many cells run at a time; of a cluster, as many as asked for, or one."""
    return jobs or (joblib.cpu_count() if backend == "local" else 1)


def say_elsewhere(plan: Plan) -> None:
    """A note on cells that only differ in versions or data: they are kept, and not used."""
    wanted = {configuration(cell.kind, cell.config()) for cell in plan.missing}
    found: Counter[str] = Counter()
    ours = set(plan.keys)
    for record in plan.store:
        if record["status"] != "done" or record["key"] in ours:
            continue
        if configuration(record["kind"], record["config"]) in wanted:
            theirs = record["versions"]
            others = [f"{k} {theirs.get(k)}" for k, v in versions().items() if theirs.get(k) != v]
            found[", ".join(others) or "other content of the data files"] += 1
    for why, count in found.items():
        notes.say(f"{count:,} stored cells of this study were made with {why}: kept, but not used")


def configuration(kind: str, config: dict[str, Any]) -> str:
    """The configuration as text, alike before and after it was stored."""
    return json.dumps([kind, config], sort_keys=True)


def failure(plan: Plan, cell: Cell) -> dict[str, Any] | None:
    """The record of a cell that failed."""
    record = plan.record(cell)
    return record if record is not None and record["status"] != "done" else None


def show_plan(chosen: Study, plan: Plan, at_once: int, as_json: bool) -> None:
    """What would be run, and about how long it would take."""
    missing = {plan.key(cell) for cell in plan.missing}
    known = Durations(plan.store)
    seconds = known.total(plan.missing, at_once)
    if as_json:
        cells = [
            {"key": key, "kind": cell.kind, "stored": key not in missing, "config": cell.config()}
            for key, cell in zip(plan.keys, plan.cells, strict=True)
        ]
        print(json_text({"study": chosen.name, "seconds": seconds, "cells": cells}))
        return
    counted: dict[tuple[str, ...], list[int]] = {}
    each: dict[tuple[str, ...], float] = {}
    for key, cell in zip(plan.keys, plan.cells, strict=True):
        counts = counted.setdefault(like_of(cell), [0, 0])
        counts[0] += 1
        counts[1] += key in missing
        each[like_of(cell)] = known.guess(cell)
    table = Table(title=escape(chosen.title), title_justify="left")
    for column in ("kind", "what", "network", "data", "cells", "to run", "seconds each, about"):
        right = column in ("cells", "to run", "seconds each, about")
        table.add_column(column, justify="right" if right else "left")
    for like, (total, to_run) in counted.items():
        table.add_row(*map(escape, like), str(total), str(to_run), f"{each[like]:.1f}")
    console().print(table)
    print(
        f"{len(missing):,} of {len(plan.cells):,} cells to run, about {words(seconds)} with "
        f"{at_once} at a time"
    )
