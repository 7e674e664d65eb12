"""Whose results a folder holds, so that no command writes over another's unsaid."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from retrofair.cli.notes import say
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


def say_others(out: Path | None, command: str) -> None:
    """Say that a folder holds what another command wrote, some of which will be replaced."""
    if out is None or not command or not out.is_dir():
        return
    if command == "debias" and (out / EXPORT).is_file():
        say(f"{out} holds an export of an earlier result, which stays as it is: export again")
    found, file = _owner(out)
    if found and found != command:
        say(
            f"{out} holds what {found} wrote ({file}): files of the same names are replaced, the "
            "others stay; --out names another folder"
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
