"""The command line as it was typed, so that a report can say how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_arguments: list[str] = []


def remember(arguments: Sequence[str]) -> None:
    """Keep the arguments of this call."""
    _arguments[:] = arguments


def name() -> str:
    """The command's own name, "" outside the command line."""
    return _arguments[0] if _arguments else ""


def command(without: Sequence[str] = ()) -> str:
    """The whole command, quoted for a shell.

    Args:
        without: options left out with their values, and flags.
    """
    kept, skip = [], False
    for argument in _arguments:
        name, equals, _ = argument.partition("=")
        if skip or name in without:
            skip = not skip and not equals
            continue
        kept.append(argument)
    return shlex.join(["retrofair", *kept])
