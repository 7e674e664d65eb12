"""The workers of a Dask cluster, found by the address of its scheduler, as a pool of joblib's.

joblib has a backend for Dask too. It waits for ever once a task cannot be had (killed workers, a
lost scheduler), and runs cells in the asking process while the cluster has a single core.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase

from retrofair.errors import InputError, RetrofairError
from retrofair.studies.pool import ONE_BY_ONE, Outcome, TaskOf, died

CONNECT_SECONDS = 10
# How long a study waits when the last worker has left, and how often it looks.
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 5.0


class Cluster:
    """A connected cluster; a cell whose workers die again and again fails alone.

    Args:
        client: of the package distributed.
        jobs: cells at a time; None: two for every core, so that none waits for the next.
    """

    threads = 1  # a worker's cores belong to all of its cells
    workers: int | None = None

    def __init__(self, client: Any, jobs: int | None) -> None:
        self._client = client
        self._at_once = "2 * n_jobs" if jobs is None else jobs

    def results(self, keys: Sequence[str], task: TaskOf) -> Generator[tuple[str, Outcome]]:
        """Raises RetrofairError if the scheduler or all workers are gone."""
        if not keys:
            return
        with DaskBackend(self._client).watching() as backend:
            parallel = joblib.Parallel(backend=backend, pre_dispatch=self._at_once, **ONE_BY_ONE)
            with contextlib.closing(parallel(task(key) for key in keys)) as results:
                yield from results


@contextlib.contextmanager
def connected(scheduler: str, jobs: int | None) -> Iterator[Cluster]:
    """The cluster at an address.

    Raises:
        InputError: no package distributed, no scheduler, or one without workers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "expected the package distributed for --backend dask: pip install 'retrofair[dask]'"
        ) from None
    with _quiet():
        found = _found(scheduler)
        if found != "Scheduler":
            raise InputError(
                f"expected a Dask scheduler at {scheduler!r}, got {found} (--scheduler)"
            )
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        try:
            if not client.nthreads():
                raise InputError(
                    f"expected a Dask cluster with workers at {scheduler}, got none: start some "
                    f"with dask worker {scheduler} --nthreads 1"
                )
            yield Cluster(client, jobs)
        finally:
            client.close()


def _found(address: str) -> str:
    """What answers at an address. A client asks for ever where something accepts and is silent."""
    from distributed.core import rpc

    async def ask() -> str:
        async with rpc(address, timeout=CONNECT_SECONDS) as remote:
            return str((await remote.identity())["type"])

    async def in_time() -> str:
        return await asyncio.wait_for(ask(), CONNECT_SECONDS)

    try:
        # in a thread, for there may be a loop in this one: that of a notebook
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, in_time()).result()
    except TimeoutError:
        return f"no answer within {CONNECT_SECONDS} s"
    except (ValueError, TypeError) as error:
        return f"no address such as tcp://host:8786 ({error})"
    except Exception as error:  # whatever another server's words do to the reader
        return f"no answer ({' '.join(str(error).split())[:120]})"


class DaskBackend(ParallelBackendBase):  # type: ignore[misc]
    """Tasks of joblib's as futures of Dask's."""

    supports_retrieve_callback = True

    def __init__(self, client: Any) -> None:
        super().__init__(nesting_level=0)
        self._client = client
        self._sent: dict[Any, Any] = {}
        self._all_left = False

    def effective_n_jobs(self, n_jobs: int) -> int:
        try:
            cores = int(sum(self._client.nthreads().values()))
        except Exception:
            raise self._gone() from None
        return max(2, cores)  # with 1, joblib would run the cells in the asking process

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        assert callback is not None
        try:
            future = self._client.submit(func, key=f"retrofair-{uuid.uuid4().hex}", pure=False)
        except Exception:  # the client gave up: joblib asks only futures for errors
            callback(None)
            return None
        self._sent[future.key] = (future, func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Any) -> list[tuple[str, Outcome]]:
        from distributed import CancelledError, KilledWorker

        if out is None:
            raise self._gone()
        _, func = self._sent[out.key]
        try:
            # Waits where the worker that had the result died meanwhile, and another one repeats it.
            found: list[tuple[str, Outcome]] = out.result()
            return found
        except CancelledError:
            raise self._gone() from None
        except KilledWorker as error:
            outcome = died(f"on {error.allowed_failures + 1} workers, one after the other")
        except Exception as error:
            if isinstance(error, OSError) and out.status != "error":
                raise self._gone() from None
            # what the cell raises is in its outcome: here the task could not be loaded
            why = f"its worker could not begin: {type(error).__name__}: {error}"
            outcome = {"status": "failed", "error": why}
        finally:
            del self._sent[out.key]
        return [(args[0], outcome) for _, args, _ in func.items]

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self._cancel()

    @contextlib.contextmanager
    def watching(self) -> Iterator[DaskBackend]:
        """Gives up when no worker is left and none comes."""
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            yield self
        finally:
            ended.set()

    def _watch(self, ended: threading.Event) -> None:
        last_seen = time.monotonic()
        while not ended.wait(LOOK_SECONDS):
            try:
                seen = bool(self._client.nthreads())
            except Exception:  # the scheduler is gone, which the futures tell
                return
            now = time.monotonic()
            if seen:
                last_seen = now
            elif now - last_seen > PATIENCE_SECONDS:
                self._all_left = True
                self._cancel()
                return

    def _cancel(self) -> None:
        with contextlib.suppress(Exception):  # without a scheduler there is nothing to cancel
            self._client.cancel([future for future, _ in list(self._sent.values())])

    def _gone(self) -> RetrofairError:
        what = "scheduler"
        if self._all_left:
            what = f"workers (none for {PATIENCE_SECONDS:.0f} s)"
        return RetrofairError(
            f"expected the Dask cluster to stay, but lost its {what}: start it again, and then the "
            "study; what was finished is stored"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what distributed's client says: what matters is raised."""
    log = logging.getLogger("distributed.client")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():  # of a large network, sent with each of its cells
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            yield
    finally:
        log.setLevel(before)
