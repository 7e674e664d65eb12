"""Results that can be written as a page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Reported:
    """A result with a page of its own."""

    def to_html(self, path: str | Path, *others: object, title: str = "") -> Path:
        """Write one self-contained HTML file that shows this result.

        Args:
            path: of the file; one that is there is replaced whole or not at all.
            others: further results for the same page, such as a certificate or a frontier.
            title: of the page.

        Raises:
            InputError: something that has no place in a report, or the path is a folder.
        """
        # the one import that points upwards: a result knows how to ask for its page, no more
        from retrofair.report import report

        given: tuple[Any, ...] = (self, *others)  # which are checked there
        return report(path, *given, title=title)
