"""Writing a page."""

from __future__ import annotations

import json
from pathlib import Path

from retrofair.audit import Audit
from retrofair.errors import InputError
from retrofair.files import json_text, replacing
from retrofair.regression import RegressionAudit
from retrofair.report.page import page
from retrofair.report.record import record
from retrofair.report.sections import Shown, sections


def report(
    path: str | Path,
    *results: Shown,
    before: Audit | RegressionAudit | None = None,
    title: str = "",
) -> Path:
    """Write results as one self-contained HTML file, which asks no other address for anything.

    Args:
        path: of the file; one that is there is replaced whole or not at all.
        results: an audit, also of numbers, a result of `debias`, effects, a frontier, a certificate
            or a curve of them, a repair: one of each kind.
        before: an audit of the original on the same rows.
        title: of the page.

    Raises:
        InputError: nothing to show, two of a kind, something else, or the path is a folder.

    Example:
        >>> import retrofair as rf
        >>> found = rf.audit_predictions([1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1])
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     report(f"{folder}/report.html", found, title="Hiring").name
        'report.html'
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"expected a file to write, got a folder: name it {path / 'report.html'}")
    found = sections(*results, before=before)
    values = record(found, title=title or "Fairness report")
    return write_page(path, json.loads(json_text(values)))  # as it would be read from a file


def write_page(path: Path, values: dict[str, object]) -> Path:
    """Write the page of a record that was read from JSON."""
    text = page(values)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
