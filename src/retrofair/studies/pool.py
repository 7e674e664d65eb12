"""Where cells run side by side: here, in processes of this machine; `cluster` has the other place.

A pool gives `(key, outcome)` in the order in which cells finish. A cell whose process dies has an
outcome too, so that the others go on.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import joblib
from joblib.externals.loky.backend import resource_tracker as loky_tracker
from joblib.externals.loky.process_executor import BrokenProcessPool

from retrofair.errors import RetrofairError

Outcome = dict[str, Any]
# From a key to a task of joblib's: its first argument is the key, its result (key, outcome).
TaskOf = Callable[[str], Any]
# One cell per message: a finished one is stored at once, and a killed worker costs one.
ONE_BY_ONE: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}


class Pool(Protocol):
    """Something that runs cells side by side.

    `workers` is how many at a time, as far as that is known, and `threads` how many threads torch
    may use in each.
    """

    workers: int | None
    threads: int

    def results(self, keys: Sequence[str], task: TaskOf) -> Generator[tuple[str, Outcome]]:
        """The outcome of every key, as they come; tasks are made when their turn is near."""


class Local:
    """Processes of this machine; with one job, this process itself.

    A process that dies (for want of memory, or in a library's machine code) breaks the whole pool,
    and nothing says which cell it had. Those that were under way run again, at each death half as
    many at a time, and in the end alone: one that dies alone has failed.
    """

    def __init__(self, jobs: int | None) -> None:
        cores = joblib.cpu_count()
        workers = cores if jobs is None else jobs
        self.workers: int | None = workers
        self.threads = max(1, cores // workers)
        self._works = False  # some process has finished a cell

    def results(self, keys: Sequence[str], task: TaskOf) -> Generator[tuple[str, Outcome]]:
        """Raises RetrofairError if processes die even without work."""
        return self._side_by_side(keys, task, self.workers or 1)

    def _side_by_side(
        self, keys: Sequence[str], task: TaskOf, workers: int
    ) -> Generator[tuple[str, Outcome]]:
        waiting = dict.fromkeys(keys)
        suspects: list[str] = []
        while waiting:
            sent: list[str] = []
            try:
                with _started(workers, _noting(list(waiting), task, sent)) as results:
                    for key, outcome in results:
                        del waiting[key]
                        self._works = True
                        yield key, outcome
            except BrokenProcessPool:
                if not sent:
                    raise  # no cell is to blame, and the next attempt would end like this one
                lost = [key for key in sent if key in waiting]
                for key in lost:
                    del waiting[key]
                suspects += lost
        if suspects and workers // 2 > 1:
            yield from self._side_by_side(suspects, task, workers // 2)
        else:
            yield from self._alone(suspects, task)

    def _alone(self, keys: Sequence[str], task: TaskOf) -> Generator[tuple[str, Outcome]]:
        for key in keys:
            try:
                with _started(2, iter([task(key)])) as results:  # with 1, it would run in here
                    done = list(results)
                self._works = True
            except BrokenProcessPool as error:
                self._probe()
                codes = re.search(r"\{.+?\}", str(error))
                done = [(key, died("" if codes is None else f"exit code {codes.group()[1:-1]}"))]
            yield from done

    def _probe(self) -> None:
        """Whether it is the cells that die, or any process of the pool."""
        if self._works:
            return
        try:
            with _started(2, iter([joblib.delayed(os.getpid)()])) as results:
                list(results)
        except BrokenProcessPool as error:
            raise RetrofairError(
                f"expected worker processes to start, but they die without any work ({error}); "
                "--jobs 1 runs cells in the main process; what was finished is stored"
            ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without joblib's warnings of what is as it should be.

    These are a worker that is replaced because it grew, and cells given up at an interrupt.
    """
    with warnings.catch_warnings():
        for text in ("A worker stopped while some", ".*tasks (which were still|have been success)"):
            warnings.filterwarnings("ignore", text, UserWarning)
        yield


def died(how: str) -> Outcome:
    """The outcome of a cell that took its process with it."""
    return {
        "status": "failed",
        "error": f"its worker process died ({how or 'it is not known how'}), perhaps for want of "
        "memory: fewer at a time may help (--jobs)",
    }


def _noting(keys: Sequence[str], task: TaskOf, sent: list[str]) -> Iterator[Any]:
    for key in keys:
        sent.append(key)
        yield task(key)


@contextlib.contextmanager
def _started(workers: int, tasks: Iterator[Any]) -> Iterator[Iterator[Any]]:
    parallel = joblib.Parallel(
        workers,
        pre_dispatch=workers + 1,
        initializer=_begin,
        initargs=(os.getpid(),),
        **ONE_BY_ONE,
    )
    results = None
    before = threading.excepthook
    threading.excepthook = _without_what_is_given_up(before)
    try:
        # An interrupt that was held comes at the end of this block.
        with _interrupts_held() if workers > 1 else contextlib.nullcontext():
            results = parallel(tasks)
        yield results
    finally:
        try:
            if results is not None:
                results.close()
        finally:
            threading.excepthook = before


def _without_what_is_given_up(said: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A `threading.excepthook` without loky's thread that hands out cells: while its pool is given
    up it may look for one that is gone, and says so."""

    def hook(args: Any) -> None:
        gone = issubclass(args.exc_type, KeyError)
        if not (gone and getattr(args.thread, "name", None) == "ExecutorManagerThread"):
            said(args)

    return hook


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started in here never sees an interrupt, not even while it loads its libraries.

    A terminal interrupts all processes; this one then stops its workers itself.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # These start with the first workers otherwise, and lift the mask when they have.
    resource_tracker.ensure_running()
    loky_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: int) -> None:
    """In a new worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for systems without masks
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """End with the parent: of a killed one, nobody would fetch what this process finds."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
