"""Every error and warning that Retrofair raises on purpose.

A message says what was expected, what was found, and what to change.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RetrofairError(Exception):
    """Base of all errors raised by Retrofair itself."""


class InputError(RetrofairError, ValueError):
    """The caller gave something that cannot be used: the message names it and the fix."""


class MissingFileError(InputError):
    """A data file is neither on disk nor downloadable: the message names it and its place."""


class UnsafeFileError(InputError):
    """A file whose loading could run code, where a plain checkpoint is expected."""


class RetrofairWarning(UserWarning):
    """Something was assumed or dropped; the message says what and how to decide otherwise."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest one that does.

    >>> str(unknown("measure", "sdp", ["spd", "eod"]))
    "unknown measure 'sdp': did you mean 'spd'? (choose from: eod, spd)"
    """
    known = sorted(map(str, choices))
    near = [each for each in known if each.casefold() == str(name).casefold()]
    near = near or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {str(name)!r}{hint} (choose from: {', '.join(known)})")
