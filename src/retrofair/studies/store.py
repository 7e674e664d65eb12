"""Where finished cells are kept: one file that only ever grows.

`cells.jsonl` has a header and one line per finished cell; tensors lie beside it, one safetensors
file per cell, written before the line that names them. Killed while writing, it ends in part of a
line, which the next reader ignores and the next writer cuts off.

Finished cells travel without their tensors: `give` writes them into one small file, and `take`
reads it on another machine.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from retrofair.errors import InputError, RetrofairWarning
from retrofair.files import json_text, replacing
from retrofair.version import __version__

try:
    import fcntl
except ImportError:  # no such locks on Windows: there, one study at a time per store
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
FILE = "cells.jsonl"
KEY = re.compile(r"[0-9a-f]{20}")
STATUSES = ("done", "failed")
START = b'{"format": '


class Store:
    """Finished cells by key, in a folder.

    Args:
        folder: made when the first cell is added.

    Raises:
        InputError: the folder is a file, or holds a store of another format.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> Store(folder).add({"key": "0" * 20, "status": "done"})
        >>> Store(folder).get("0" * 20)["status"]
        'done'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"expected a folder, but {self.folder} is a file (--store)")
        self._records: dict[str, dict[str, Any]] = {}
        self.bad_lines = 0
        if self.file.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._records.values())

    def get(self, key: str) -> dict[str, Any] | None:
        """The last record of a cell; None if it never finished."""
        return self._records.get(key)

    def done(self, key: str) -> bool:
        """Whether the cell finished well, and its tensors are there and whole."""
        record = self._records.get(key)
        if record is None or record["status"] != "done":
            return False
        if not record.get("tensors"):
            return True
        try:
            with safe_open(self._tensor_file(key), framework="pt"):  # checks the file's length
                return True
        except (OSError, SafetensorError):
            return False

    def tensors(self, key: str) -> dict[str, Tensor]:
        """The tensors of a finished cell.

        Raises:
            InputError: their file is missing or damaged.
        """
        file = self._tensor_file(key)
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"expected the tensors of a finished cell in {file}, got {error}: start the study "
                "again, and the cell runs again"
            ) from None

    def add(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Keep a finished cell: on disk when this returns.

        Raises:
            OSError: the disk is full or not writable; what was there before stays readable.
        """
        record = dict(record)
        if not KEY.fullmatch(record["key"]):
            raise InputError(f"expected a key of 20 hexadecimal digits, got {record['key']!r}")
        self.folder.mkdir(parents=True, exist_ok=True)
        if tensors:
            record["tensors"] = sorted(tensors)
            content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            file = self._tensor_file(record["key"])
            with replacing(file) as temporary, temporary.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())  # before the line that names it
        line = json_text(record, indent=None)
        with self._appending() as end:
            end.write(line)
        self._records[record["key"]] = json.loads(line)

    def has_tensors(self, key: str) -> bool:
        """Whether a cell was stored with tensors; one that was taken from a file was not."""
        return bool(self._records.get(key, {}).get("tensors"))

    def give(self, path: Path, keys: Iterable[str]) -> int:
        """Write the finished ones of these cells into a file for `take`; how many there are.

        Cells that answer with tensors beside their values are left out, but for networks, which
        can be trained again.
        """
        found = [self._records[key] for key in sorted(set(keys)) if self._travels(key)]
        lines = [json_text(_header(), indent=None)]
        lines += [json_text({**each, "tensors": None}, indent=None) for each in found]
        content = ("\n".join(lines) + "\n").encode()
        with replacing(path) as temporary:
            temporary.write_bytes(gzip.compress(content, mtime=0))  # no time: the same cells alike
        return len(found)

    def _travels(self, key: str) -> bool:
        record = self._records.get(key)
        if record is None or record["status"] != "done":
            return False
        return not record.get("tensors") or record["kind"] == "network"

    def take(self, path: Path) -> int:
        """Know the cells of a file that `give` wrote, until the program ends; how many are new.

        Raises:
            InputError: the file is no such file, damaged, or of another format.
        """
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"expected a file of finished cells, but {path} cannot be read: {error} (--cells)"
            ) from None
        self._check(content, path)
        records = [_record(line) for line in content.split(b"\n")[1:-1]]
        if None in records:
            raise InputError(f"expected a file of finished cells, but {path} is damaged (--cells)")
        new = [each for each in records if each is not None and not self.done(each["key"])]
        self._records |= {each["key"]: each for each in new}
        return len(new)

    def _tensor_file(self, key: str) -> Path:
        return self.folder / "tensors" / f"{key}.safetensors"

    @contextmanager
    def _appending(self) -> Iterator[_Line]:
        """Whole lines only: what a killed writer or a full disk left of one is cut off."""
        binary = getattr(os, "O_BINARY", 0)  # of Windows, where line breaks would change
        handle = os.open(self.file, os.O_RDWR | os.O_CREAT | binary, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            self._check(os.read(handle, 1_000))  # another process may have made it meanwhile
            end = _end_of_last_line(handle)
            os.ftruncate(handle, end)
            os.lseek(handle, end, os.SEEK_SET)
            line = _Line(handle)
            try:
                if end == 0:
                    line.write(json_text(_header(), indent=None))
                yield line
                os.fsync(handle)
            except BaseException:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)

    def _read(self) -> None:
        content = self.file.read_bytes()
        self._check(content[:1_000])
        lines = content.split(b"\n")[:-1]  # after the last line break: nothing, or a torn line
        for line in lines[1:]:
            record = _record(line)
            if record is None:
                self.bad_lines += 1
            else:
                self._records[record["key"]] = record
        if self.bad_lines:
            warnings.warn(
                f"{self.bad_lines} of {len(lines) - 1:,} lines of {self.file} cannot be read; "
                "their cells are run again",
                RetrofairWarning,
                stacklevel=3,
            )

    def _check(self, content: bytes, path: Path | None = None) -> None:
        place = path or self.file
        line, whole, _ = content.partition(b"\n")
        if not whole and line[: len(START)] == START[: len(line)]:
            return  # empty, or torn in the header
        try:
            header = json.loads(line)
            found, by = header["format"], header["retrofair"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"expected a store of studies, but {place} is something else: choose another "
                + ("folder (--store)" if path is None else "file (--cells)")
            ) from None
        if found != FORMAT:
            raise InputError(
                f"expected a store of format {FORMAT}, but {path or self.folder} has format "
                f"{found}, written by version {by}: use that version, or another "
                + ("folder (--store)" if path is None else "file (--cells)")
            )


class _Line:
    """Writes whole lines to a file handle."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def write(self, text: str) -> None:
        left = memoryview(text.encode() + b"\n")
        while left:
            left = left[os.write(self.handle, left) :]


def _header() -> dict[str, Any]:
    return {"format": FORMAT, "retrofair": __version__}


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line, if it is one."""
    try:
        record = json.loads(line)
        good = KEY.fullmatch(record["key"]) and record["status"] in STATUSES
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if good else None


def _end_of_last_line(handle: int) -> int:
    """The position after the last line break."""
    end = os.lseek(handle, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65_536)
        os.lseek(handle, start, os.SEEK_SET)
        found = os.read(handle, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
