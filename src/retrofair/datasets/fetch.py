"""Where a data file lies: a folder of the user's, the cache, or the network."""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import os
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from retrofair.errors import InputError, MissingFileError

VARIABLE = "RETROFAIR_DATA"
SECONDS = 30
CHUNK = 1 << 16


@dataclass(frozen=True)
class Source:
    """An address to download from.

    Args:
        url: of the file itself, or of a zip that holds it.
        member: the path inside the zip; several for a zip inside a zip.
    """

    url: str
    member: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """A published file.

    Args:
        path: its place below the root, such as "adult/adult.data".
        sha256: of its content.
        sources: addresses, tried in this order; none where it may not be passed on.
        about: where it is had from, and what is in it, where there are none.
        needed: always; else it is looked for when an option asks for it.
    """

    path: str
    sha256: str
    sources: tuple[Source, ...] = ()
    about: str = ""
    needed: bool = True


def cache_folder() -> Path:
    """The user's own folder for downloaded data."""
    return Path(platformdirs.user_cache_dir("retrofair")) / "data"


def find(file: DataFile, root: str | Path | None = None) -> tuple[Path, bool]:
    """The place of a file, and whether it is the published one.

    Looked for in `root`, in the folder that RETROFAIR_DATA names, in the cache, and then on the
    network, into the cache. The cache holds verified files only; the user's own folders may hold
    a changed one.

    Raises:
        InputError: root or RETROFAIR_DATA is not a folder.
        MissingFileError: the file is nowhere.
    """
    looked = []
    for option, given in (("root", root), (VARIABLE, os.environ.get(VARIABLE) or None)):
        if given is None:
            continue
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise InputError(f"expected {option} to be a folder that exists, got {str(given)!r}")
        place = folder / file.path
        if place.is_file():
            return place, _sha256(place) == file.sha256
        looked.append(f"{folder} ({option})")
    place = cache_folder() / file.path
    if place.is_file() and _sha256(place) == file.sha256:
        return place, True
    looked.append(f"{cache_folder()} (the cache)")
    failures = []
    for source in file.sources:
        failure = _download(source, file.sha256, place)
        if failure is None:
            return place, True
        failures.append(f"{source.url} ({failure})")
    found = f"found it neither in {', '.join(looked)} nor at {', '.join(failures)}; get it"
    if not failures:
        about = f" ({file.about})" if file.about else ""
        found = f"found it not in {', '.join(looked)}; get it{about}"
    raise MissingFileError(
        f"expected the data file {file.path}, {found}, put it at {file.path} below a folder, and "
        f"name that folder with root=... or the environment variable {VARIABLE}"
    )


def _download(source: Source, sha256: str, place: Path) -> str | None:
    """Fetch one file into the cache; None, or why it could not be done."""
    temporary: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as out:
            _copy(source.url, out, place.name)
        if source.member:
            temporary.write_bytes(_unzipped(temporary.read_bytes(), source.member))
        if _sha256(temporary) != sha256:
            return "what came has another SHA-256 than the published file"
        # Last, and in one step: a reader sees the whole file or none.
        temporary.replace(place)
        return None
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except zipfile.BadZipFile as error:
        return f"what came is no zip: {error}"
    except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _copy(url: str, out: io.BufferedWriter, title: str) -> None:
    # rich takes a while to import, and most runs find their files on disk.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        silent = not sys.stderr.isatty()
        with Progress(*columns, console=Console(stderr=True), disable=silent) as progress:
            task = progress.add_task(title, total=total)
            done = 0
            for chunk in iter(functools.partial(answer.read, CHUNK), b""):
                out.write(chunk)
                done += len(chunk)
                progress.update(task, completed=done)
    if total is not None and done < total:
        raise OSError(f"the connection ended after {done:,} of {total:,} bytes")


def _unzipped(content: bytes, member: tuple[str, ...]) -> bytes:
    for name in member:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(name)
    return content


def _sha256(place: Path) -> str:
    try:
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"expected a file that can be read, got {place}: {error}") from None
