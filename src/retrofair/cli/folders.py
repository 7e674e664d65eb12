"""Whose results a folder holds, so that no command writes over another's."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from retrofair.deploy.exported import ABOUT as EXPORT
from retrofair.errors import InputError
from retrofair.report.record import NAME

# what tells of a command whose report is not there, as it was interrupted
FILES = {
    "result.json": ("debias",),
    "bounded_loss.json": ("debias",),
    "frontier.json": ("frontier",),
    "certificate.json": ("certify",),
    "history.json": ("repair",),
    "network.json": ("train",),
}
SPARE = "demo"  # whose picture and page may go


def refuse_others(out: Path | None, command: str) -> None:
    """Refuse a folder with the results of another command; its own are replaced.

    Raises:
        InputError: naming the file that tells.
    """
    if out is None or not command or not out.is_dir():
        return
    if command == "debias" and (out / EXPORT).is_file():
        raise InputError(
            f"expected a folder without an export, but {out} has {EXPORT} of an earlier result: "
            "name another folder, or remove the exported files (--out)"
        )
    found, file = _owner(out)
    if found and found not in (command, SPARE):
        raise InputError(
            f"expected a folder of its own for {command}, but {out} holds the results of {found} "
            f"({file}): name another (--out)"
        )


def refuse_results(out: Path, source: Path | None) -> None:
    """Refuse a folder with a result other than the one that is exported.

    Raises:
        InputError: the preparation there would be replaced by another's.
    """
    own = source is not None and source.is_dir() and out.is_dir() and out.samefile(source)
    held = next((name for name in FILES if "debias" in FILES[name] and (out / name).exists()), None)
    if held is not None and not own:
        raise InputError(
            f"expected a folder of its own for export, or the exported result's, but {out} holds "
            f"another ({held}): name another (--out)"
        )


def _owner(out: Path) -> tuple[str, str]:
    """The command, and the file that tells; both empty where none does."""
    try:
        words = shlex.split(json.loads((out / NAME).read_text(encoding="utf-8"))["command"])
        return words[1], NAME
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        pass  # none, or one that tells nothing
    for file, (command,) in FILES.items():
        if (out / file).is_file():
            return command, file
    return "", ""
