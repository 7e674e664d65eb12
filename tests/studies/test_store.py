"""The store: it only grows, a torn line costs itself alone, and keys tell cells apart."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrofair import debiasers
from retrofair.errors import InputError, RetrofairWarning
from retrofair.objective import Constrained
from retrofair.studies import cells
from retrofair.studies.cells import DebiasCell, NetworkCell, key_of
from retrofair.studies.sources import Source
from retrofair.studies.store import FILE, Store


def record(number: int, **values: Any) -> dict[str, Any]:
    return {"key": f"{number:020x}", "status": "done", "answer": {"number": number}, **values}


def numbers(store: Store) -> list[int]:
    return sorted(each["answer"]["number"] for each in store)


def filled(folder: Path, count: int) -> bytes:
    store = Store(folder)
    for number in range(count):
        store.add(record(number))
    return (folder / FILE).read_bytes()


def python(code: str, *args: str | Path, cwd: Path | None = None) -> str:
    """What a Python process of its own prints."""
    command = [sys.executable, "-c", code, *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- torn and damaged files -----------------------------------------------------------------------


def test_a_line_torn_at_any_byte_costs_itself_alone(tmp_path: Path) -> None:
    content = filled(tmp_path / "whole", 3)
    last = content[:-1].rindex(b"\n") + 1
    for cut in range(last, len(content) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / FILE).write_bytes(content[:cut])
        store = Store(folder)  # a warning would be an error here
        whole = [0, 1, 2] if cut == len(content) else [0, 1]
        assert numbers(store) == whole
        store.add(record(3))
        assert numbers(store) == numbers(Store(folder)) == [*whole, 3]
        assert (folder / FILE).read_bytes().startswith(content[:last])


def test_a_header_torn_at_any_byte_is_written_again(tmp_path: Path) -> None:
    content = filled(tmp_path / "whole", 1)
    for cut in range(content.index(b"\n") + 2):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / FILE).write_bytes(content[:cut])
        store = Store(folder)
        assert len(store) == 0
        store.add(record(0))
        assert (folder / FILE).read_bytes() == content


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\xfe\x00",
        b"\0" * 4096,
        b"[1, 2]",
        b'"text"',
        b"7",
        b"{}",
        b'{"key": "0000"}',
        b'{"key": ["a"], "status": "done"}',
        b'{"key": "%020x"}' % 9,
        b'{"key": "%020x", "status": "odd"}' % 9,
        b'{"key": "%020x", "status": "do' % 9,
        b"[" * 100_000,
    ],
)
def test_a_bad_line_in_the_middle_is_told_and_the_others_live(
    tmp_path: Path, garbage: bytes
) -> None:
    lines = filled(tmp_path, 3).split(b"\n")
    (tmp_path / FILE).write_bytes(b"\n".join([*lines[:2], garbage, *lines[2:]]))
    with pytest.warns(RetrofairWarning, match=r"1 of 4 lines of .* run again"):
        store = Store(tmp_path)
    assert numbers(store) == [0, 1, 2]
    store.add(record(3))
    with pytest.warns(RetrofairWarning, match="1 of 5 lines"):
        assert numbers(Store(tmp_path)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 2, "retrofair": "9.1"}\n', r"format 1, but .* has format 2, .* version 9\.1"),
        (b'{"format": "1", "retrofair": "0"}\n{}\n', "has format 1"),
        (b"a,b\n1,2\n", "is something else: choose another folder"),
        (b"[1]\n", "something else"),
        (b"notes of mine, without a line break", "something else"),
        (b"\x89PNG\r\n\x1a\n", "something else"),
    ],
)
def test_what_is_no_store_of_this_format_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, message: str
) -> None:
    early = Store(tmp_path)  # before there was any file
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Store(tmp_path)
    with pytest.raises(InputError, match=message):
        early.add(record(0))
    assert (tmp_path / FILE).read_bytes() == content


def test_a_store_needs_a_folder_and_a_record_a_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"expected a folder, but .*file is a file"):
        Store(tmp_path / "file")
    with pytest.raises(InputError, match=r"20 hexadecimal digits, got '../x'"):
        Store(tmp_path).add({"key": "../x", "status": "done"})
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_last_record_of_a_cell_counts_and_undefined_numbers_are_null(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(record(1, status="failed", error="x"))
    assert not store.done(record(1)["key"])
    store.add(record(1, measure=float("nan"), counts=torch.tensor([1, 2]).numpy()))
    for seen in (store, Store(tmp_path)):
        assert seen.done(record(1)["key"])
        assert len(seen) == 1
        found = seen.get(record(1)["key"])
        assert found is not None
        assert found["measure"] is None
        assert found["counts"] == [1, 2]
    assert store.get("f" * 20) is None
    assert not store.done("f" * 20)


# --- tensors --------------------------------------------------------------------------------------


def test_a_cell_whose_tensors_are_lost_or_damaged_is_not_done(tmp_path: Path) -> None:
    key, tensors = (
        record(0)["key"],
        {"weight": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(1)},
    )
    store = Store(tmp_path)
    store.add(record(0), tensors)
    file = tmp_path / "tensors" / f"{key}.safetensors"
    whole = file.read_bytes()
    for damage in (whole[:-1], whole[:20], b"", None):
        assert Store(tmp_path).done(key)
        read = Store(tmp_path).tensors(key)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)
        file.unlink() if damage is None else file.write_bytes(damage)
        assert not store.done(key)
        assert not Store(tmp_path).done(key)
        with pytest.raises(InputError, match=r"the tensors of a finished cell in .* runs again"):
            store.tensors(key)
        store.add(record(0), tensors)


# --- several writers, kills, full and read-only disks ---------------------------------------------


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    code = """
import os, sys
from retrofair.studies.store import Store
store = Store(sys.argv[1])
begin, end = os.pipe()
children = []
for start in (0, 100, 200):
    children.append(os.fork())
    if children[-1] == 0:
        os.close(end)
        os.read(begin, 1)  # all three go when the pipe is closed
        for number in range(start, start + 100):
            store.add({"key": f"{number:020x}", "status": "done", "answer": {"number": number},
                       "text": "x" * (number * 97 % 20_000)})
        os._exit(0)
os.close(end)
print([os.waitpid(child, 0)[1] for child in children])
"""
    assert python(code, tmp_path) == "[0, 0, 0]\n"
    assert numbers(Store(tmp_path)) == list(range(300))  # and no line that cannot be read


def test_what_was_stored_survives_kill_9(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
import torch
from retrofair.studies.store import Store

def write(start, end):
    store = Store(sys.argv[1])
    for number in range(start, start + 100_000):
        record = {"key": f"{number:020x}", "status": "done", "answer": {"number": number},
                  "text": "x" * (number * 997 % 50_000)}
        store.add(record, {"number": torch.full((1000,), float(number))} if number % 2 else None)
        os.write(end, b"%d\\n" % number)

for attempt in range(12):
    begin, end = os.pipe()
    child = os.fork()
    if child == 0:
        write(attempt * 100_000, end)
    os.close(end)
    first = os.read(begin, 1 << 20)  # from its first record on, at another moment each time
    time.sleep(0.003 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = first + os.read(begin, 1 << 20)
    store = Store(sys.argv[1])
    assert store.bad_lines == 0
    for line in told.split():
        key = f"{int(line):020x}"
        assert store.done(key), line
        if int(line) % 2:
            assert store.tensors(key)["number"].eq(int(line)).all()
print(len(store))
"""
    assert int(python(code, tmp_path)) >= 12


def test_a_full_disk_leaves_whole_lines_and_later_cells_fit_again(tmp_path: Path) -> None:
    code = """
import errno, resource, sys
from pathlib import Path
import torch
from retrofair.studies.store import Store

folder = Path(sys.argv[1])
store = Store(folder)

def record(number, text=""):
    return {"key": f"{number:020x}", "status": "done", "answer": {"number": number}, "text": text}

def room(size):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if size is None else size, most))

def refused(number, *args):
    before = (folder / "cells.jsonl").read_bytes() if number else b""
    try:
        store.add(record(number, "x" * 1000), *args)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError("there was room")
    assert (folder / "cells.jsonl").read_bytes() == before
    assert store.get(record(number)["key"]) is None
    assert len(Store(folder)) == number and Store(folder).bad_lines == 0
    room(None)
    store.add(record(number), *args)
    assert store.done(record(number)["key"])

room(100)  # the header fits, the first line does not
refused(0)
room((folder / "cells.jsonl").stat().st_size + 10)
refused(1)
room(500)  # a tensor file of its own
refused(2, {"weight": torch.ones(1000)})
assert len(list((folder / "tensors").iterdir())) == 1
assert Store(folder).tensors(record(2)["key"])["weight"].sum() == 1000
print([each["answer"]["number"] for each in Store(folder)])
"""
    assert python(code, tmp_path) == "[0, 1, 2]\n"


def test_a_folder_that_cannot_be_written_is_an_error_and_stays_as_it_was(tmp_path: Path) -> None:
    filled(tmp_path / "old", 2)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "old" / FILE, tmp_path / "old", tmp_path / "empty", tmp_path):
        path.chmod(0o444 if path.is_file() else 0o555)
    code = """
import os
import torch
from retrofair.studies.store import Store
if os.geteuid() == 0:
    os.setuid(65534)  # nobody: root may write everywhere
for folder in ("old", "empty"):
    for tensors in (None, {"weight": torch.ones(3)}):
        store = Store(folder)
        try:
            store.add({"key": "f" * 20, "status": "done"}, tensors)
        except PermissionError:
            print(folder, len(store), len(Store(folder)), sorted(os.listdir(folder)))
"""
    told = python(code, cwd=tmp_path)
    assert told == "old 2 2 ['cells.jsonl']\n" * 2 + "empty 0 0 []\n" * 2


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "people.csv"
    file.write_text("age,sex,job\n" + "31,F,yes\n45,M,no\n" * 20)
    return file


@pytest.fixture
def cell(table: Path) -> DebiasCell:
    source = Source(str(table), ("sex",), label="job", positive="yes", privileged=("M",))
    return DebiasCell(
        NetworkCell(source, 0), debiasers.Random(), Constrained("spd", epsilon=0.05), 0
    )


def key(cell: DebiasCell | NetworkCell) -> str:
    return key_of(cell, cell.source.checksum())


def changed(value: Any, without: tuple[str, ...] = ()) -> Iterator[Any]:
    """A dataclass with each of its fields changed in turn."""
    for field in dataclasses.fields(value):
        if field.name in without:
            continue
        old = getattr(value, field.name)
        new = {
            "data": None,
            "sensitive": ("age",),
            "privileged": ("F",),
            "measure": "eod",
            "performance": "accuracy",
        }.get(field.name, f"{old}x" if isinstance(old, str) else old)
        if isinstance(old, bool):
            new = not old
        elif isinstance(old, int | float):
            new = old + 1 if isinstance(old, int) else old / 2
        if new is None:
            continue
        assert new != old, field.name
        yield dataclasses.replace(value, **{field.name: new})


def variants(cell: DebiasCell) -> Iterator[DebiasCell]:
    """The cell with every setting of it changed, one at a time."""
    network, replace = cell.network, dataclasses.replace
    for source in changed(network.source, without=("rows", "others")):  # not of a file
        yield replace(cell, network=replace(network, source=source))
    for training in changed(network.training):
        yield replace(cell, network=replace(network, training=training))
    for debiaser in (*changed(cell.debiaser), debiasers.Threshold(), debiasers.Zhang()):
        yield replace(cell, debiaser=debiaser)
    for objective in changed(cell.objective):
        yield replace(cell, objective=objective)
    yield replace(cell, network=replace(network, seed=1))
    yield replace(cell, seed=1)


def test_every_setting_is_part_of_the_key(cell: DebiasCell) -> None:
    cells = [cell, *variants(cell)]
    assert len(cells) > 20
    assert len({key(each) for each in cells}) == len(cells)
    networks = {json.dumps(each.network.config()): key(each.network) for each in cells}
    assert len(set(networks.values())) == len(networks) > 10


def test_versions_and_the_bytes_of_the_data_are_part_of_the_key(
    cell: DebiasCell, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key(cell)]
    ours = {"retrofair": (cells, "9.9"), "torch": (torch, "9.9+cpu"), "numpy": (np, "9.9")}
    for module, version in ours.values():
        with monkeypatch.context() as other:
            other.setattr(module, "__version__", version)
            keys.append(key(cell))
    with monkeypatch.context() as other:
        other.setattr(torch, "__version__", "9.9+cu130")
        assert key(cell) == keys[2]  # the same release for another device
    assert key(cell) == keys[0]
    table.write_bytes(table.read_bytes().replace(b"31", b"32", 1))  # as long as before
    keys.append(key(cell))
    assert len(set(keys)) == len(keys) == 5


def test_the_place_of_the_file_and_the_name_shown_are_not_part_of_the_key(
    cell: DebiasCell, table: Path, tmp_path: Path
) -> None:
    before = key(cell)
    (tmp_path / "elsewhere").mkdir()
    moved = table.rename(tmp_path / "elsewhere" / table.name)
    source = dataclasses.replace(cell.source, data=str(moved))
    elsewhere = dataclasses.replace(cell, network=dataclasses.replace(cell.network, source=source))
    assert key(elsewhere) == before
    assert key(dataclasses.replace(elsewhere, name="Random, as shown")) == before
    with pytest.raises(InputError, match=r"expected a table at .* found no such file"):
        key(cell)
