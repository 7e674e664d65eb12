"""Running the cells of a study that are not stored yet, side by side, each stored at once."""

from __future__ import annotations

import contextlib
import datetime
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import joblib

from retrofair.errors import InputError, unknown
from retrofair.studies.cells import Cell, execute, is_network, key_of, versions
from retrofair.studies.cluster import connected
from retrofair.studies.devices import check_device, device_here
from retrofair.studies.durations import Durations, like_of
from retrofair.studies.pool import Local, Pool, quiet
from retrofair.studies.sources import Source
from retrofair.studies.store import Store

Backend = Literal["local", "dask"]
Each = Callable[[Cell, dict[str, Any]], None]
# Torch's random state belongs to the process: a cluster's worker with several threads takes turns.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """The cells of a study and what a store already has of them.

    Args:
        cells: each once, networks before what starts from them.
        keys: of the cells, in the same order.
        checksums: of the data as they were when the plan was made. A cell that finds other content
            fails: its numbers would be stored under the name of the old.
    """

    cells: tuple[Cell, ...]
    keys: tuple[str, ...]
    store: Store
    root: str | None
    checksums: Mapping[Source, str]

    @classmethod
    def of(cls, cells: Sequence[Cell], store: Store, root: str | None = None) -> Plan:
        """The plan for these cells and the networks they need.

        Raises:
            InputError: a data file is missing.
        """
        networks = [cell.needs for cell in cells if cell.needs is not None]
        every = [*networks, *cells]
        sources = dict.fromkeys(cell.source for cell in every)
        checksums = {source: source.checksum(root) for source in sources}
        found: dict[str, Cell] = {}
        for cell in every:
            found.setdefault(key_of(cell, checksums[cell.source]), cell)
        order = sorted(found, key=lambda key: not is_network(found[key]))
        return cls(tuple(found[key] for key in order), tuple(order), store, root, checksums)

    @property
    def missing(self) -> list[Cell]:
        """The cells that have to run; one that failed before is tried again.

        Among them networks that are known from a file, without tensors, where others start from
        them.
        """
        pairs = list(zip(self.cells, self.keys, strict=True))
        left = {key for _, key in pairs if not self.store.done(key)}
        needed = {self.key(cell.needs) for cell, key in pairs if key in left and cell.needs}
        left |= {key for key in needed if not self.store.has_tensors(key)}
        return [cell for cell, key in pairs if key in left]

    def checksum(self, cell: Cell) -> str:
        known = self.checksums.get(cell.source)
        return cell.source.checksum(self.root) if known is None else known

    def key(self, cell: Cell) -> str:
        return key_of(cell, self.checksum(cell))

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The record of a cell that finished, well or not."""
        return self.store.get(self.key(cell))


def run(
    plan: Plan,
    *,
    jobs: int | None = None,
    backend: Backend = "local",
    scheduler: str | None = None,
    device: str = "cpu",
    each: Each = lambda cell, record: None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run the missing cells of a plan, and keep each as it finishes.

    A cell that raises, or whose process dies, is recorded with its error, and the others go on.
    Interrupted or killed at any moment, the next run starts with what is stored.

    Args:
        jobs: cells at a time; None: one per core of this machine, or all the cluster has room for.
        backend: "local" processes, or the workers of a "dask" cluster.
        scheduler: the address of the cluster's scheduler.
        device: where cells compute: "cpu"; "cuda", the GPU that each process sees; or "auto",
            that where there is one. It is no part of a cell's name: what is stored is not
            computed again on another device.
        each: called with every cell and its record as it is stored.
        ready: called once, when the options are found in order and the workers are there.

    Raises:
        InputError: no such backend or device, or no scheduler with workers at the address.
        RetrofairError: worker processes cannot start, or the cluster is lost.
        OSError: the store cannot be written.
    """
    check(jobs, backend, scheduler, device)
    missing = plan.missing
    if not missing:
        return  # a study that is complete needs no cluster
    # Networks first: the other cells start from them. Of settings that share one network (other
    # groups, the same rows), the first trains it and the others find it in the cache.
    waves: list[list[Cell]] = [[], [], []]
    first: set[tuple[Any, ...]] = set()
    for cell in missing:
        if not is_network(cell):
            waves[2].append(cell)
            continue
        of = cell.source
        shared = (of.data, of.target, of.split, cell.seed, cell.training)
        waves[shared in first].append(cell)
        first.add(shared)
    with quiet(), _pool(jobs, scheduler) as pool:
        ready()
        for wave in waves:
            _run_wave(plan, wave, pool, each, device)


def check(jobs: int | None, backend: str, scheduler: str | None, device: str = "cpu") -> None:
    """Refuse options that do not fit together.

    Raises:
        InputError: naming the option.
    """
    if backend not in ("local", "dask"):
        raise unknown("backend", backend, ("local", "dask"))
    if backend == "local" and scheduler is not None:
        raise InputError("expected --backend dask with a scheduler, got local")
    if backend == "dask" and scheduler is None:
        raise InputError("expected the address of a scheduler with --backend dask (--scheduler)")
    if jobs is not None and jobs < 1:
        raise InputError(f"expected at least one job, got {jobs} (--jobs)")
    if backend == "local":
        device_here(device)
    else:  # the workers' machines may have what this one lacks
        check_device(device)


def _pool(jobs: int | None, scheduler: str | None) -> contextlib.AbstractContextManager[Pool]:
    return contextlib.nullcontext(Local(jobs)) if scheduler is None else connected(scheduler, jobs)


def _run_wave(plan: Plan, cells: list[Cell], pool: Pool, each: Each, device: str) -> None:
    left = {plan.key(cell): cell for cell in _ordered(plan, cells)}
    for key, cell in list(left.items()):
        if cell.needs is not None and not plan.store.done(plan.key(cell.needs)):
            failed = plan.record(cell.needs)
            why = "unknown" if failed is None else failed.get("error", "unknown")
            outcome = {"status": "failed", "error": f"its network failed: {why}"}
            _keep(plan, key, left.pop(key), outcome, pool, each)

    def task(key: str) -> Any:
        return _task(plan, key, left[key], pool.threads, device)

    with contextlib.closing(pool.results(list(left), task)) as results:
        for key, outcome in results:
            _keep(plan, key, left[key], outcome, pool, each)


def _ordered(plan: Plan, cells: list[Cell]) -> list[Cell]:
    """Split by split, so that a study stopped early has whole seeds.

    In each the longest come first, so that no core waits for a long one at the end. A study that
    gives its cells places has its own order.
    """
    known = Durations(plan.store)
    splits = {
        split: place for place, split in enumerate(dict.fromkeys(c.source.split for c in cells))
    }

    def order(cell: Cell) -> tuple[int, int, float]:
        return getattr(cell, "place", 0), splits[cell.source.split], -known.guess(cell)

    return sorted(cells, key=order)


def _task(plan: Plan, key: str, cell: Cell, threads: int, device: str) -> Any:
    """One cell as a task for a worker, with all that it needs."""
    tensors = None if cell.needs is None else plan.store.tensors(plan.key(cell.needs))
    expected = (versions(), plan.checksum(cell))
    return joblib.delayed(_work)(key, cell, tensors, plan.root, threads, expected, device)


def _work(key: str, *task: Any) -> tuple[str, dict[str, Any]]:
    with _ONE_AT_A_TIME:
        return key, execute(*task)


def _keep(
    plan: Plan, key: str, cell: Cell, outcome: dict[str, Any], pool: Pool, each: Each
) -> None:
    tensors = outcome.pop("tensors", None)
    record = {
        "key": key,
        "kind": cell.kind,
        "config": cell.config(),
        "versions": {**versions(), "python": platform.python_version()},
        "data": plan.checksum(cell),
        "like": list(like_of(cell)),
        "jobs": pool.workers,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **outcome,
    }
    plan.store.add(record, tensors)
    each(cell, record)
