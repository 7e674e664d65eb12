"""Lines for the person at the terminal, on standard error.

They wait until the input has been checked: an error is then the only line there is.
"""

from __future__ import annotations

import sys

_waiting: list[str] = []


def say(text: str) -> None:
    """A line that is shown with the next `flush`, once: a table may have been read twice."""
    if text not in _waiting:
        _waiting.append(text)


def flush() -> None:
    """Show the lines that wait; called before long work and at the end."""
    for line in _waiting:
        print(line, file=sys.stderr, flush=True)
    _waiting.clear()


def drop() -> None:
    """Forget the lines that wait."""
    _waiting.clear()
