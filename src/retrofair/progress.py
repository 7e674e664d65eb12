"""Progress bars on standard error, shown only to a person at a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
LINE_SECONDS = 60
_silent = False


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar that disappears when done; without a terminal, just iterate."""
    console = Console(file=sys.stderr)
    if _silent or not console.is_terminal:
        yield from items
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


@contextmanager
def silent() -> Iterator[None]:
    """No bars from `track` meanwhile: of many computations side by side only one bar speaks."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


class Cells:
    """A bar over cells done and failed, with the time left; without a terminal, a line a minute.

    Args:
        done: cells that were there before.
    """

    def __init__(self, what: str, *, total: int, done: int = 0) -> None:
        self.what, self.total, self.done, self.failed = what, total, done, 0
        console = Console(file=sys.stderr)
        self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, failed: bool) -> None:
        """One more finished, well or not."""
        self.done += 1
        self.failed += failed
        self._bar.update(self._task, completed=self.done)

    @property
    def due(self) -> bool:
        """Whether a person would like to hear of the time left again."""
        return time.monotonic() - self._said > (LINE_SECONDS if self._bar.disable else 1)

    def show(self, seconds_left: float) -> None:
        """Say where things stand."""
        note = f"{self.failed} failed, about {words(seconds_left)} left"
        self._bar.update(self._task, note=note)
        if self._bar.disable and self.due:
            print(f"{self.what}: {self.done} of {self.total} cells, {note}", file=sys.stderr)
        self._said = time.monotonic()


class Interval:
    """Two bounds as they narrow, on one line; without a terminal, a line a minute."""

    def __init__(self, what: str) -> None:
        self.what = what
        console = Console(file=sys.stderr)
        self._said = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=_silent or not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=None, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, lower: float, upper: float) -> None:
        """Say where the bounds stand."""
        gap = f"{(upper - lower) / upper:.0%}" if 0 < upper < math.inf else "-"
        note = f"found {lower:.4g}, proved at most {upper:.4g}, gap {gap}"
        self._bar.update(self._task, note=note)
        if self._bar.disable and not _silent and time.monotonic() - self._said > LINE_SECONDS:
            print(f"{self.what}: {note}", file=sys.stderr)
            self._said = time.monotonic()


def words(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
