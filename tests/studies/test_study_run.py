"""The runner: what is lost when something dies is the running cells, and no number changes."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import psutil
import pytest
from joblib.externals.loky import get_reusable_executor
from study_cells import SOURCE, TINY, Toy, answers, real, study, toys

from retrofair.data import read_table
from retrofair.errors import InputError, RetrofairError
from retrofair.studies import cells as cells_module
from retrofair.studies import cluster
from retrofair.studies.cells import NetworkCell
from retrofair.studies.durations import Durations
from retrofair.studies.run import Plan, run
from retrofair.studies.sources import Source
from retrofair.studies.store import FILE, Store

HERE = str(Path(__file__).parent)
# Others may use the machine: what takes this long is stuck.
STUCK = 120


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Networks are kept apart from the user's, and no worker outlives this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
        get_reusable_executor().shutdown(wait=True)
        yield
        get_reusable_executor().shutdown(wait=True)


def stored(folder: Path) -> list[dict[str, Any]]:
    return list(Store(folder))


def statuses(folder: Path) -> Counter[str]:
    return Counter(record["status"] for record in Store(folder))


@contextlib.contextmanager
def elsewhere(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a study, in a group of its own as at a terminal."""
    process = subprocess.Popen(
        # a process in the background may have been told to ignore Ctrl-C, and passes that on
        [
            sys.executable,
            "-c",
            "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"from study_cells import *\n{code}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def group(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that it started, also those that it left behind."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(each.pid) == process.pid and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + STUCK
    while not what():
        assert time.monotonic() < end, "stuck"
        time.sleep(0.05)


# --- interrupted and killed -----------------------------------------------------------------------


def test_killed_in_the_middle_a_study_goes_on_where_it_was(tmp_path: Path) -> None:
    code = f"study({str(tmp_path / 'killed')!r}, real() + toys(*range(8), seconds=2.0), jobs=2)"
    with elsewhere(code) as process:
        lines(process, 4)
        process.kill()  # -9
        process.wait()
        # it leaves no worker at work: each looks once a second
        wait_for(lambda: not group(process))
    before = {record["key"]: record for record in stored(tmp_path / "killed")}
    cells = real() + toys(*range(8))
    assert 4 <= len(before) < len(cells) + 2  # networks count too
    again: list[str] = []
    killed = study(
        tmp_path / "killed", cells, jobs=1, each=lambda cell, record: again.append(record["key"])
    )
    assert len(set(again)) == len(again)
    assert set(again) == set(killed.keys) - set(before)
    whole = study(tmp_path / "whole", cells, jobs=1)
    assert answers(killed) == answers(whole)
    assert all(Store(tmp_path / "killed").get(key) == before[key] for key in before)


def test_interrupted_at_any_moment_a_study_ends_cleanly(tmp_path: Path) -> None:
    code = f"""
for attempt in range(4):
    print("up", flush=True)
    try:
        study({str(tmp_path)!r}, toys(*range(8), seconds=1.0), jobs=2)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    with elsewhere(code) as process:
        assert lines(process, 1) == ["up\n"]
        for seconds in (0.0, 0.2, 0.6):  # while the workers load their libraries
            wait_for(lambda: len(group(process)) >= 4)  # itself, what tracks resources, workers
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
            assert lines(process, 2) == ["interrupted\n", "up\n"]
        lines(process, 3)  # cells run
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=STUCK)
        assert out.endswith("interrupted\n")
        assert err == ""  # not a word of the workers
        wait_for(lambda: not group(process))
    assert 3 <= len(Store(tmp_path)) < 8


# --- cells that fail ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Untrainable(NetworkCell):
    def run(self, splits: Any, network: Any = None) -> Any:
        raise MemoryError("by design")


def test_a_cell_that_raises_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    network = Untrainable(SOURCE, 0, TINY)
    cells = [Toy(0), Toy(1, "raise"), Toy(2, needs=network), Toy(3)]
    plan = study(tmp_path, cells, jobs=1)
    assert statuses(tmp_path) == {"done": 2, "failed": 3}
    errors = {cell: (plan.record(cell) or {}).get("error") for cell in (network, *cells)}
    assert errors == {
        network: "MemoryError: by design",
        cells[0]: None,
        cells[1]: "ZeroDivisionError: by design",
        cells[2]: "its network failed: MemoryError: by design",
        cells[3]: None,
    }
    assert plan.missing == [network, cells[1], cells[2]]
    tried: list[Any] = []
    again = Plan.of(cells, Store(tmp_path))
    run(again, jobs=1, each=lambda cell, record: tried.append(cell))
    assert tried == [network, cells[2], cells[1]] or tried == [network, cells[1], cells[2]]


# --- the same numbers everywhere ------------------------------------------------------------------


def test_two_processes_find_what_one_finds_with_threads_to_share(tmp_path: Path) -> None:
    cells = real() + toys(*range(4))
    one, two = (study(tmp_path / str(jobs), cells, jobs=jobs) for jobs in (1, 2))
    assert answers(one) == answers(two)
    found = [r["answer"] for r in stored(tmp_path / "2") if r["kind"] == "toy"]
    assert os.getpid() not in {answer["process"] for answer in found}
    assert all(answer["threads"] <= max(1, joblib.cpu_count() // 2) for answer in found)


def test_a_worker_of_other_versions_gives_a_failed_cell_and_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ours() -> dict[str, str]:
        return {**cells_module.versions(), "torch": "1.0"}

    asking = importlib.import_module("retrofair.studies.run")  # not the worker
    monkeypatch.setattr(asking, "versions", ours)
    plan = study(tmp_path, toys(0), jobs=1)
    record = plan.record(plan.cells[0])
    assert record is not None
    assert record["status"] == "failed"
    assert "expected a worker with the versions" in record["error"]
    assert "'1.0'" in record["error"]
    assert "answer" not in record


def test_data_that_change_while_a_study_runs_are_not_mixed_with_the_old(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("age,sex,job\n" + "31,F,yes\n45,M,no\n50,F,no\n20,M,yes\n" * 20)
    source = Source(str(table), ("sex",), label="job", positive="yes", privileged=("M",))
    cells = toys(0, 1, source=source)
    old = table.read_text()

    def change(cell: Any, record: Any) -> None:
        table.write_text(old.replace("31", "32"))

    plan = Plan.of(cells, Store(tmp_path / "store"))
    run(plan, jobs=1, each=change)
    first, second = (plan.record(cell) for cell in cells)
    assert first is not None
    assert second is not None
    assert (first["status"], second["status"]) == ("done", "failed")
    assert "same files" in second["error"]
    assert first["data"] == second["data"]
    # From now on these are other cells; the old one stays, and is found again with the old data.
    assert len(Plan.of(cells, Store(tmp_path / "store")).missing) == 2
    table.write_text(old)
    assert Plan.of(cells, Store(tmp_path / "store")).missing == [cells[1]]


# --- processes that die ---------------------------------------------------------------------------


def test_a_cell_that_takes_its_process_down_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    cells = toys(*range(6), marks=str(tmp_path / "marks"))
    cells[0] = Toy(0, "die", marks=str(tmp_path / "marks"))
    plan = study(tmp_path / "store", cells, jobs=2)
    assert statuses(tmp_path / "store") == {"done": 5, "failed": 1}
    failed = plan.record(cells[0])
    assert failed is not None
    assert "its worker process died (exit code SIGKILL(-9))" in failed["error"]
    starts = Counter(mark.name.split()[0] for mark in (tmp_path / "marks").iterdir())
    assert starts["0"] == 2  # beside others, and alone
    assert max(starts.values()) <= 2


def test_processes_that_cannot_even_start_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrofair.studies.pool._begin", os._exit)
    with pytest.raises(RetrofairError, match="worker processes to start, but they die without"):
        study(tmp_path, toys(0, 1), jobs=2)
    assert stored(tmp_path) == []


def test_data_that_change_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "people.csv"
    table.write_text("age,sex,job\n" + "31,F,yes\n45,M,no\n50,F,no\n20,M,yes\n" * 20)
    source = Source(str(table), ("sex",), label="job", positive="yes", privileged=("M",))

    def slowly(path: str) -> Any:
        table.write_text(table.read_text() + "31,F,yes\n")
        return read_table(path)

    with monkeypatch.context() as writing:
        writing.setattr("retrofair.studies.sources.read_table", slowly)
        with pytest.raises(InputError, match="stay as they are while they are read"):
            source.load()
    parts = source.load()
    assert sum(len(part) for part in (parts.train, parts.valid, parts.test)) == 81


# --- the store under a running study --------------------------------------------------------------


def test_a_network_whose_file_is_lost_is_trained_again(tmp_path: Path) -> None:
    cells = real(1)
    plan = study(tmp_path, cells, jobs=1)
    before = answers(plan)
    network = plan.cells[0]
    file = tmp_path / "tensors" / f"{plan.keys[0]}.safetensors"
    whole = file.read_bytes()
    for damaged in (None, whole[:100]):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        again = Plan.of(cells, Store(tmp_path))
        assert again.missing == [network]
        run(again, jobs=1)
        assert file.read_bytes() == whole
        assert answers(again) == before


def found(plan: Plan) -> list[Any]:
    """What each cell answered, wherever it was computed."""
    records = [plan.record(cell) for cell in plan.cells]
    return [record["answer"] for record in records if record is not None]


def test_cells_travel_in_a_file_and_networks_come_back_only_where_needed(tmp_path: Path) -> None:
    cells = real(1)
    plan = study(tmp_path / "here", cells, jobs=1)
    file = tmp_path / "cells.jsonl.gz"
    assert plan.store.give(file, plan.keys) == len(plan.cells)
    again = tmp_path / "again.jsonl.gz"
    plan.store.give(again, reversed(plan.keys))
    assert file.read_bytes() == again.read_bytes()
    there = Store(tmp_path / "there")
    assert there.take(file) == len(plan.cells)
    assert there.take(file) == 0
    known = Plan.of(cells, there)
    assert known.missing == []
    assert found(known) == found(plan)
    assert not (tmp_path / "there").exists()  # nothing was computed there
    # one cell was not in the file: its network, which has no weights there, is trained for it
    network, *others = plan.cells
    plan.store.give(file, [plan.key(cell) for cell in (network, *others[1:])])
    fewer = Store(tmp_path / "there")
    fewer.take(file)
    known = Plan.of(cells, fewer)
    assert known.missing == [network, others[0]]
    run(known, jobs=1)
    assert found(known) == found(plan)
    assert Plan.of(cells, Store(tmp_path / "there")).missing == list(others[1:])


def test_cells_of_another_machine_do_not_replace_what_is_here(tmp_path: Path) -> None:
    plan = study(tmp_path, real(1), jobs=1)
    file = tmp_path / "cells.jsonl.gz"
    plan.store.give(file, plan.keys)
    store = Store(tmp_path)
    assert store.take(file) == 0
    assert store.has_tensors(plan.keys[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"{}\n"), "something else: choose another file"),
        (gzip.compress(b'{"format": 9, "retrofair": "3"}\n'), "has format 9, .* another file"),
        (gzip.compress(b'{"format": 1, "retrofair": "0"}\n{"key": 1}\n'), "is damaged"),
        (gzip.compress(b'{"format": 1, "retrofair": "0"}\n' * 99)[:-9], "cannot be read"),
    ],
    ids=["no gzip", "no header", "other format", "bad line", "cut off"],
)
def test_a_file_of_cells_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cells.jsonl.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Store(tmp_path / "store").take(tmp_path / "cells.jsonl.gz")


def test_a_network_lost_under_a_running_study_stops_it(tmp_path: Path) -> None:
    def lose(cell: Any, record: Any) -> None:
        if cell.kind == "debias":
            shutil.rmtree(tmp_path / "tensors", ignore_errors=True)

    plan = Plan.of(real(), Store(tmp_path))
    with pytest.raises(InputError, match="expected the tensors of a finished cell"):
        run(plan, jobs=1, each=lose)
    again = study(tmp_path, real(), jobs=1)
    assert answers(again) == answers(study(tmp_path / "whole", real(), jobs=1))


def test_a_store_removed_under_a_running_study_is_begun_again(tmp_path: Path) -> None:
    def remove(cell: Any, record: Any) -> None:
        if cell.number == 1:
            shutil.rmtree(tmp_path / "store")

    run(Plan.of(toys(*range(4)), Store(tmp_path / "store")), jobs=1, each=remove)
    assert len(Store(tmp_path / "store")) == 2  # what came later; the next run adds the others
    assert len(Plan.of(toys(*range(4)), Store(tmp_path / "store")).missing) == 2


def test_a_store_that_cannot_be_written_stops_the_study(tmp_path: Path) -> None:
    def block(cell: Any, record: Any) -> None:
        (tmp_path / FILE).rename(tmp_path / "kept")
        (tmp_path / FILE).mkdir()

    for jobs in (1, 2):
        with pytest.raises(IsADirectoryError):
            run(Plan.of(toys(*range(4)), Store(tmp_path)), jobs=jobs, each=block)
        (tmp_path / FILE).rmdir()
        (tmp_path / "kept").rename(tmp_path / FILE)
        assert statuses(tmp_path) == {"done": jobs}  # one more each time


# --- plans ----------------------------------------------------------------------------------------


def test_seeds_are_finished_one_after_the_other_and_long_cells_come_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    quick = {"status": "done", "answer": {}}
    for number, (like, seconds) in enumerate(
        [(("debias", "random", "other"), 9.0), (("debias", "threshold", "other"), 1.0)]
    ):
        taken = {"seconds": seconds / 2, "wall_seconds": seconds}
        store.add({**quick, **taken, "key": f"{number:020x}", "like": like})
    order: list[Any] = []
    plan = Plan.of(real(), store)
    assert Durations(store).total(plan.missing[2:], jobs=2) == 10.0
    run(plan, jobs=1, each=lambda cell, record: order.append(cell))
    kinds = [(cell.kind, cell.source.split, cell.label) for cell in order]
    assert kinds == [
        ("network", 0, "network"),
        ("network", 1, "network"),
        ("debias", 0, "random"),
        ("debias", 0, "threshold"),
        ("debias", 1, "random"),
        ("debias", 1, "threshold"),
    ]
    assert plan.missing == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "at least one job, got 0"),
        ({"backend": "spark"}, "unknown backend 'spark'"),
        ({"backend": "dask"}, "expected the address of a scheduler"),
        ({"scheduler": "tcp://127.0.0.1:9"}, "expected --backend dask"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        study(tmp_path, toys(0), **options)
    assert stored(tmp_path) == []


# --- a Dask cluster -------------------------------------------------------------------------------


class Dask:
    """A scheduler and workers, each a process of its own; a killed one does not come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: dict[subprocess.Popen[bytes], int] = {}
        self.started = 0
        told = folder / "scheduler.json"
        place = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(told))
        self.scheduler = self._start("scheduler", *place)
        wait_for(lambda: told.exists() and told.read_text().rstrip().endswith("}"))
        self.address: str = json.loads(told.read_text())["address"]

    def _start(self, what: str, *args: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *args]
        with self.log(what).open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def log(self, what: str) -> Path:
        return self.folder / f"{what}-{self.started}.log"

    def with_workers(self, *threads: int) -> list[subprocess.Popen[bytes]]:
        """Living workers with as many threads, and no others; they may be left from before."""
        living = {p: n for p, n in self.workers.items() if p.poll() is None}
        chosen: dict[subprocess.Popen[bytes], int] = {}
        for count in threads:
            process = next((p for p, n in living.items() if n == count and p not in chosen), None)
            if process is None:
                self.started += 1
                place = ("--local-directory", str(self.folder))
                options = ("--no-nanny", "--nthreads", str(count), *place)
                process = self._start("worker", self.address, *options)
                wait_for(lambda: b"Registered to" in self.log("worker").read_bytes())
            chosen[process] = count
        for process in living.keys() - chosen.keys():
            process.kill()
            process.wait()
        self.workers = chosen
        return list(chosen)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Dask]]:
    started: list[Dask] = []
    yield started
    for each in started:
        each.stop()


@pytest.fixture
def dask(clusters: list[Dask], tmp_path: Path) -> Dask:
    """A cluster whose scheduler is alive, with the workers that other tests left."""
    if not clusters or clusters[-1].scheduler.poll() is not None:
        (tmp_path / "dask").mkdir()
        clusters.append(Dask(tmp_path / "dask"))
    return clusters[-1]


def killing(process: subprocess.Popen[bytes]) -> Callable[[Any, Any], None]:
    """For `each`: kill -9 when cells other than networks run."""
    return lambda cell, record: process.kill() if cell.kind == "toy" else None


def test_on_a_cluster_with_a_worker_killed_the_numbers_are_those_of_one_process(
    tmp_path: Path, dask: Dask, capfd: pytest.CaptureFixture[str]
) -> None:
    one, four = dask.with_workers(1, 4)
    cells = real() + toys(*range(12), seconds=0.2)
    several = toys(*range(20, 26), seconds=0.1)  # at once in one process, with one random state
    local = [study(tmp_path / "local", some, jobs=1) for some in (cells, several)]
    capfd.readouterr()
    options: dict[str, Any] = {"backend": "dask", "scheduler": dask.address}
    assert answers(study(tmp_path / "threads", several, **options)) == answers(local[1])
    plan = study(tmp_path / "cluster", cells, each=killing(four), **options)
    assert four.wait() == -signal.SIGKILL
    assert answers(plan) == answers(local[0])
    found = [r["answer"] for r in stored(tmp_path / "cluster") if r["kind"] == "toy"]
    assert one.pid in {answer["process"] for answer in found} <= {one.pid, four.pid}
    assert {answer["threads"] for answer in found} == {1}
    # A single core is left, and still it is not this process that works.
    study(tmp_path / "single", toys(*range(3)), **options)
    assert {r["answer"]["process"] for r in stored(tmp_path / "single")} == {one.pid}
    assert capfd.readouterr().err == ""


def test_a_cluster_that_is_lost_is_an_error_and_what_was_finished_is_kept(
    tmp_path: Path, dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.2)
    options: dict[str, Any] = {"backend": "dask", "scheduler": dask.address}
    cells = toys(*range(8), seconds=0.3)
    dask.with_workers()
    (worker,) = dask.with_workers(1)
    place = dask.log("worker").read_text().split("Listening to:")[1].split()[0]
    with pytest.raises(InputError, match=r"expected a Dask scheduler at .* got Worker"):
        study(tmp_path / "worker", cells, backend="dask", scheduler=place)
    with pytest.raises(RetrofairError, match=r"lost its workers \(none for 1 s\).*is stored"):
        study(tmp_path / "workers", cells, each=killing(worker), **options)
    assert 1 <= statuses(tmp_path / "workers")["done"] < len(cells)
    with pytest.raises(InputError, match=r"cluster with workers at .* got none: start some"):
        study(tmp_path / "none", toys(0), **options)
    dask.with_workers(1)
    with pytest.raises(RetrofairError, match=r"lost its scheduler: start it again.*is stored"):
        study(tmp_path / "scheduler", cells, each=killing(dask.scheduler), **options)
    assert statuses(tmp_path / "scheduler").keys() == {"done"}
    for folder in ("workers", "scheduler"):  # on with it, here
        plan = study(tmp_path / folder, cells, jobs=1)
        assert answers(plan) == answers(study(tmp_path / "whole", cells, jobs=1))


@pytest.mark.parametrize("kind", ["closed", "silent", "nonsense", "no address"])
def test_no_scheduler_at_the_address_is_an_error_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if kind == "nonsense":

            def answer() -> None:
                with server.accept()[0] as connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
                    connection.recv(1000)

            threading.Thread(target=answer, daemon=True).start()
        if kind == "closed":
            server.close()
        if kind == "no address":
            address = "adult"
        with pytest.raises(InputError, match=r"expected a Dask scheduler at '.*', got no a"):
            study(tmp_path, toys(0), backend="dask", scheduler=address)
    assert stored(tmp_path) == []
