"""Running the cells of a study that are not stored yet, side by side, each stored at once."""

from __future__ import annotations

import contextlib
import datetime
import math
import multiprocessing
import platform
import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from retrofair.errors import InputError, RetrofairError, unknown
from retrofair.studies.cells import Cell, NetworkCell, execute, key_of, versions
from retrofair.studies.store import Store

Backend = Literal["local", "dask"]
CRASHES = 3
CONNECT_SECONDS = 10
# Torch's random state belongs to the process: a cluster's worker with several threads takes turns.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """The cells of a study and what a store already has of them.

    Args:
        cells: each once, networks before what starts from them.
        keys: of the cells, in the same order.
    """

    cells: tuple[Cell, ...]
    keys: tuple[str, ...]
    store: Store
    root: str | None = None

    @classmethod
    def of(cls, cells: Sequence[Cell], store: Store, root: str | None = None) -> Plan:
        """The plan for these cells and the networks they need.

        Raises:
            InputError: a data file is missing.
        """
        found: dict[str, Cell] = {}
        networks = [cell.needs for cell in cells if cell.needs is not None]
        for cell in (*networks, *cells):
            found.setdefault(key_of(cell, cell.source.checksum(root)), cell)
        order = sorted(found, key=lambda key: not isinstance(found[key], NetworkCell))
        return cls(tuple(found[key] for key in order), tuple(order), store, root)

    @property
    def missing(self) -> list[Cell]:
        """The cells that have to run; one that failed before is tried again."""
        pairs = zip(self.cells, self.keys, strict=True)
        return [cell for cell, key in pairs if not self.store.done(key)]

    def key(self, cell: Cell) -> str:
        return key_of(cell, cell.source.checksum(self.root))

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The record of a cell that finished, well or not."""
        return self.store.get(self.key(cell))

    def seconds(self, cells: Sequence[Cell], jobs: int) -> float | None:
        """A guess at the time the cells take, from stored ones like them; None without any."""
        known = Durations(self.store)
        guesses = [known.guess(cell) for cell in cells]
        seen = [guess for guess in guesses if guess is not None]
        if not seen:
            return None
        typical = statistics.fmean(seen)
        return sum(typical if g is None else g for g in guesses) / max(jobs, 1)


class Durations:
    """How long cells took: by kind, data and method, as far as the store knows any."""

    def __init__(self, store: Store) -> None:
        self._seen: dict[tuple[str, ...], list[float]] = {}
        for record in store:
            if record["status"] == "done":
                self.add(tuple(record["like"]), record["wall_seconds"])

    def add(self, like: tuple[str, ...], seconds: float) -> None:
        for length in range(1, len(like) + 1):
            self._seen.setdefault(like[:length], []).append(seconds)

    def guess(self, cell: Cell) -> float | None:
        """The median of the cells most like it."""
        like = like_of(cell)
        for length in range(len(like), 0, -1):
            if like[:length] in self._seen:
                return statistics.median(self._seen[like[:length]])
        return None


def like_of(cell: Cell) -> tuple[str, ...]:
    """What decides the duration of a cell, most important first."""
    return (cell.kind, cell.label, cell.source.to_dict()["data"])


def run(
    plan: Plan,
    *,
    jobs: int | None = None,
    backend: Backend = "local",
    scheduler: str | None = None,
    each: Callable[[Cell, dict[str, Any]], None] = lambda cell, record: None,
) -> None:
    """Run the missing cells of a plan, and keep each as it finishes.

    A cell that raises is recorded with its error, and the others go on. Interrupted or killed at
    any moment, the next run starts with what is stored.

    Args:
        jobs: cells at a time on this machine; None: one per core.
        backend: "local" processes, or the workers of a "dask" cluster.
        scheduler: the address of the cluster's scheduler.
        each: called with every cell and its record as it is stored.

    Raises:
        InputError: no such backend, or no scheduler at the address.
        RetrofairError: worker processes die again and again.
        OSError: the store cannot be written.
    """
    if backend not in ("local", "dask"):
        raise unknown("backend", backend, ("local", "dask"))
    if backend == "local" and scheduler is not None:
        raise InputError("expected --backend dask with a scheduler, got local")
    if backend == "dask" and scheduler is None:
        raise InputError("expected the address of a scheduler with --backend dask (--scheduler)")
    if jobs is not None and jobs < 1:
        raise InputError(f"expected at least one job, got {jobs} (--jobs)")
    missing = plan.missing
    # Networks first: the other cells start from them. Of settings that share one network (other
    # groups, the same rows), the first trains it and the others find it in the cache.
    waves: list[list[Cell]] = [[], [], []]
    first: set[tuple[Any, ...]] = set()
    for cell in missing:
        if not isinstance(cell, NetworkCell):
            waves[2].append(cell)
            continue
        shared = (cell.source.data, cell.source.split, cell.seed, cell.training)
        waves[shared in first].append(cell)
        first.add(shared)
    with _pool(jobs, backend, scheduler) as pool:
        for wave in waves:
            _run_wave(plan, wave, pool, each)


Each = Callable[[Cell, dict[str, Any]], None]


@dataclass(frozen=True)
class Pool:
    """Something that runs tasks side by side, and the threads that torch may use in each."""

    parallel: joblib.Parallel
    threads: int
    crashed: tuple[type[BaseException], ...]


@contextlib.contextmanager
def _pool(jobs: int | None, backend: Backend, scheduler: str | None) -> Iterator[Pool]:
    # One cell per message: a finished one is stored at once, and a killed worker costs one.
    options: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
    if backend == "local":
        cores = joblib.cpu_count()
        workers = cores if jobs is None else jobs
        parallel = joblib.Parallel(workers, pre_dispatch=workers + 1, **options)
        yield Pool(parallel, max(1, cores // workers), (BrokenProcessPool,))
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise InputError(
            "expected the package distributed for --backend dask: pip install 'retrofair[dask]'"
        ) from None
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected a Dask scheduler at {scheduler}, got no answer within {CONNECT_SECONDS} s "
            f"({' '.join(str(error).split())[:120]}) (--scheduler)"
        ) from None
    try:
        if not client.scheduler_info()["workers"]:
            raise InputError(
                f"expected a Dask cluster with workers at {scheduler}, got none: start some with "
                f"dask worker {scheduler} --nthreads 1"
            )
        with joblib.parallel_config(backend="dask", client=client, n_jobs=jobs or -1):
            yield Pool(joblib.Parallel(**options), 1, (KilledWorker,))
    finally:
        client.close()


def _run_wave(plan: Plan, cells: list[Cell], pool: Pool, each: Each) -> None:
    known = Durations(plan.store)
    # the longest first, so that no core waits for a long one at the end
    order = sorted(cells, key=lambda cell: -(known.guess(cell) or math.inf))
    left = {plan.key(cell): cell for cell in order}
    for key, cell in list(left.items()):
        if cell.needs is not None and not plan.store.done(plan.key(cell.needs)):
            failed = plan.record(cell.needs)
            why = "unknown" if failed is None else failed.get("error", "unknown")
            outcome = {"status": "failed", "error": f"its network failed: {why}"}
            _keep(plan, key, left.pop(key), outcome, each)
    for key in {plan.key(cell.needs) for cell in left.values() if cell.needs is not None}:
        plan.store.tensors(key)  # a damaged file is found here, not in the middle of the work
    crashes = 0
    while left:
        before = len(left)
        tasks = (_task(plan, key, cell, pool.threads) for key, cell in list(left.items()))
        try:
            with contextlib.closing(pool.parallel(tasks)) as outcomes:
                for key, outcome in outcomes:
                    _keep(plan, key, left.pop(key), outcome, each)
        except pool.crashed:
            crashes = crashes + 1 if len(left) == before else 1
            if crashes >= CRASHES:
                raise RetrofairError(
                    f"worker processes died {crashes} times in a row, perhaps for want of memory: "
                    "fewer at a time may help (--jobs); what was finished is stored"
                ) from None


def _task(plan: Plan, key: str, cell: Cell, threads: int) -> Any:
    """One cell as a task for a worker, with all that it needs."""
    tensors = None if cell.needs is None else plan.store.tensors(plan.key(cell.needs))
    expected = (versions(), cell.source.checksum(plan.root))
    return joblib.delayed(_work)(key, cell, tensors, plan.root, threads, expected)


def _work(key: str, *task: Any) -> tuple[str, dict[str, Any]]:
    if multiprocessing.parent_process() is not None:
        # The asking process is interrupted too, and stops its workers itself.
        with contextlib.suppress(ValueError):  # a cluster's worker runs tasks in a thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _ONE_AT_A_TIME:
        return key, execute(*task)


def _keep(plan: Plan, key: str, cell: Cell, outcome: dict[str, Any], each: Each) -> None:
    tensors = outcome.pop("tensors", None)
    record = {
        "key": key,
        "kind": cell.kind,
        "config": cell.config(),
        "versions": {**versions(), "python": platform.python_version()},
        "data": cell.source.checksum(plan.root),
        "like": list(like_of(cell)),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **outcome,
    }
    plan.store.add(record, tensors)
    each(cell, record)
