"""What a page is made from: plain values in one JSON file beside the results."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrofair.errors import InputError
from retrofair.files import write_json
from retrofair.version import __version__

FORMAT = 1
NAME = "report.json"
# what the commands write, by which a folder is known to be one of ours
OURS = (
    "audit.json",
    "result.json",
    "bounded_loss.json",
    "frontier.json",
    "certificate.json",
    "history.json",
    "network.json",
    "runs",
)


def record(
    found: Mapping[str, Any],
    *,
    title: str,
    command: str = "",
    choose: str = "",
    options: Sequence[tuple[str, str]] = (),
    seed: int | None = None,
    hashes: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """The values of a page.

    Args:
        found: the results as `sections` makes them.
        command: the whole command line; `choose` the same without its choice among points.
        options: what was asked, as name and text.
        hashes: SHA-256 by what it is of.
        notes: what was assumed or dropped on the way.
        files: beside the page.
    """
    return {
        "format": FORMAT,
        "title": title,
        "command": command,
        "choose": choose,
        "options": [list(each) for each in options],
        "seed": seed,
        "hashes": [list(each) for each in hashes],
        "notes": list(notes),
        "files": list(files),
        "versions": versions(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **found,
    }


def versions() -> list[list[str]]:
    """Of everything that the figures depend on."""
    return [
        ["retrofair", __version__],
        ["Python", platform.python_version()],
        ["torch", torch.__version__],
        ["numpy", np.__version__],
    ]


def write_record(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write report.json into a folder."""
    path = folder / NAME
    write_json(path, dict(values))
    return path


def read_record(folder: str | Path) -> dict[str, Any]:
    """Read what a command wrote into its folder.

    Raises:
        InputError: no folder, nothing of ours in it, something unfinished, or a damaged file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing there"
        raise InputError(f"expected the --out folder of a retrofair command, got {what}: {folder}")
    path = folder / NAME
    if not path.is_file():
        if any((folder / name).exists() for name in OURS):
            raise InputError(
                f"expected a finished folder, but {folder} has no {NAME}: it is of an interrupted "
                "or an older run; run its command again with the same --out"
            )
        raise InputError(
            f"expected the --out folder of a retrofair command, got {folder}, which holds no {NAME}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(
            f"expected a report in {path}, but its values are nested too deep"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"expected a report in {path}, but it is damaged: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise InputError(
            f"expected a report of format {FORMAT} in {path}, got {found!r}: it was written by "
            "another version; run its command again with the same --out"
        )
    return values
