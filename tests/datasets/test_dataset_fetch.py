"""Finding files: the order of the places, downloads, and broken files."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrofair import datasets
from retrofair.datasets import DataFile, Source, fetch
from retrofair.errors import InputError, MissingFileError, RetrofairWarning

CONTENT = b"1,2\n3,4\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:3])
            return
        super().do_GET()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _file(*sources: Source, sha256: str = SHA256) -> DataFile:
    return DataFile("some/table.csv", sha256, sources)


def _put(root: Path, content: bytes = CONTENT, path: str = "some/table.csv") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def _zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return out.getvalue()


def test_order_is_root_then_variable_then_cache_then_network(
    tmp_path: Path, cache: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "table.csv").write_bytes(CONTENT)
    file = _file(Source(f"{address}/table.csv"))
    root, named = tmp_path / "root", tmp_path / "named"
    in_root, in_named = _put(root), _put(named)
    in_cache = cache / file.path
    monkeypatch.setenv("RETROFAIR_DATA", str(named))
    assert fetch.find(file, root) == (in_root, True)
    assert not in_cache.exists()
    in_root.unlink()
    assert fetch.find(file, root) == (in_named, True)
    assert fetch.find(file) == (in_named, True)
    assert not in_cache.exists()
    in_named.unlink()
    assert fetch.find(file, str(root)) == (in_cache, True)
    assert in_cache.read_bytes() == CONTENT
    (folder / "table.csv").unlink()  # now only the cache has it
    assert fetch.find(file) == (in_cache, True)


def test_download_leaves_only_the_file(cache: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "table.csv").write_bytes(CONTENT)
    place, _ = fetch.find(_file(Source(f"{address}/table.csv")))
    assert [p for p in cache.rglob("*") if p.is_file()] == [place]


@pytest.mark.parametrize("depth", [1, 2])
def test_download_from_a_zip(cache: Path, served: tuple[Path, str], depth: int) -> None:
    folder, address = served
    inner = _zip(some__table_csv=CONTENT, other_csv=b"no")
    member: tuple[str, ...] = ("some/table.csv",)
    if depth == 2:
        inner, member = _zip(inner_zip=inner), ("inner.zip", *member)
    (folder / "all.zip").write_bytes(inner)
    place, genuine = fetch.find(_file(Source(f"{address}/all.zip", member)))
    assert genuine
    assert place.read_bytes() == CONTENT


def test_second_source_is_tried(cache: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "table.csv").write_bytes(CONTENT)
    file = _file(Source(f"{address}/gone.csv"), Source(f"{address}/table.csv"))
    assert fetch.find(file)[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "member", "reason"),
    [
        ("wrong.csv", (), "another SHA-256"),
        ("gone.csv", (), "HTTP 404"),
        ("short", (), "the connection ended|IncompleteRead"),
        ("wrong.csv", ("table.csv",), "no zip"),
        ("all.zip", ("absent.csv",), "absent.csv"),
    ],
)
def test_failed_download_leaves_nothing_and_says_why(
    cache: Path, served: tuple[Path, str], name: str, member: tuple[str, ...], reason: str
) -> None:
    folder, address = served
    (folder / "wrong.csv").write_bytes(CONTENT + b"5,6\n")
    (folder / "all.zip").write_bytes(_zip(table_csv=CONTENT))
    with pytest.raises(MissingFileError, match=reason):
        fetch.find(_file(Source(f"{address}/{name}", member)))
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_missing_file_error_names_all_that_helps(tmp_path: Path, cache: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Quiet) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/table.csv"
    # The server is gone: nothing listens there.
    with pytest.raises(MissingFileError) as caught:
        fetch.find(_file(Source(address)), tmp_path)
    text = str(caught.value)
    for part in ("some/table.csv", str(tmp_path), str(cache), address, "root=", "RETROFAIR_DATA"):
        assert part in text
    assert "refused" in text


def test_spoilt_cache_is_replaced(cache: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "table.csv").write_bytes(CONTENT)
    place = _put(cache, b"half")
    assert fetch.find(_file(Source(f"{address}/table.csv"))) == (place, True)
    assert place.read_bytes() == CONTENT


def test_root_that_is_no_folder(tmp_path: Path, cache: Path) -> None:
    for wrong in (tmp_path / "absent", _put(tmp_path)):
        with pytest.raises(InputError, match="expected root to be a folder that exists"):
            datasets.load("german", root=wrong)


def test_variable_that_is_no_folder(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETROFAIR_DATA", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="expected RETROFAIR_DATA to be a folder"):
        datasets.load("german")


def test_changed_file_in_the_users_folder_warns(
    data_root: Path, tmp_path: Path, cache: Path
) -> None:
    rows = (data_root / "german/german.data").read_bytes().splitlines(keepends=True)
    place = _put(tmp_path, b"".join(rows[:900]), "german/german.data")
    with pytest.warns(RetrofairWarning, match=r"german\.data is not the published file"):
        splits = datasets.load("german", root=tmp_path)
    assert place.is_file()
    assert sum(map(len, (splits.train, splits.valid, splits.test))) == 900


FILES = [(data_set.name, file.path) for data_set in datasets.ALL for file in data_set.files]


@pytest.mark.parametrize(("name", "path"), FILES)
@pytest.mark.parametrize("kind", ["empty", "page", "header", "truncated"])
def test_broken_file_is_one_error_that_names_it(
    data_root: Path, tmp_path: Path, cache: Path, name: str, path: str, kind: str
) -> None:
    for file in datasets.get(name).files:
        _put(tmp_path, (data_root / file.path).read_bytes(), file.path)
    content = (data_root / path).read_bytes()
    if kind == "truncated":
        # Somewhere in the middle of a row, before its last field.
        end = content.index(b"\n", len(content) // 2) + 12
        content = content[:end]
    else:
        content = {
            "empty": b"",
            "page": b"<html>\n<body>Not Found</body>\n</html>\n",
            "header": content.split(b"\n", 1)[0][:40] + b"\n",
        }[kind]
    place = _put(tmp_path, content, path)
    with pytest.raises(InputError) as caught:
        datasets.load(name, root=tmp_path)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
