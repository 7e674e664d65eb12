"""A certificate for people at a terminal: what is proved, what was found, what the rows show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from retrofair.certifiers import Certificate, EmpiricalDelta
from retrofair.certifiers.words import (
    answer_lines,
    basis_lines,
    headline,
    interval_lines,
    pair_lines,
    pair_title,
    scale_words,
    verdict_lines,
)
from retrofair.cli.tables import console

ROWS = 40  # of the table of a pair


def show_certificate(
    found: Certificate,
    *,
    title: str,
    lines: Sequence[tuple[str, str]],
    flags: Sequence[str],
    seen: EmpiricalDelta | None,
    rows: int,
    answers: Sequence[tuple[str, Any]],
) -> None:
    """Headline, interval, what it rests on, objections and the pair.

    Args:
        lines: what was asked, as name and text.
        answers: what the network says of the pair: a name and the (2, K) values.
    """
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    out.print()
    out.print(f"[bold]{escape(headline(found))}[/bold]", highlight=False)
    out.print()
    out.print(interval_table(found, seen, rows))
    about = Table.grid(padding=(0, 2))
    about.add_column(no_wrap=True, style="cyan")
    about.add_column()
    for name, text in [*verdict_lines(found), *basis_lines(found), *lines]:
        about.add_row(escape(name), escape(text))
    out.print(about)
    for flag in flags:
        out.print(f"[yellow]![/yellow] {escape(flag)}", highlight=False)
    if found.witness is not None:
        out.print(pair_table(found, answers))


def interval_table(found: Certificate, seen: EmpiricalDelta | None, rows: int) -> Table:
    """Three different things, one a line: seen in the data, found by search, proved."""
    values, deciding = found.outputs == "values", found.threshold is not None
    table = Table(title=f"Largest difference {scale_words(found)}", title_justify="left")
    table.add_column("")
    table.add_column("output" if values else "probability", justify="right")
    if not values:
        table.add_column("logit", justify="right")
    table.add_column("meaning")
    for line in interval_lines(found, seen, rows):
        logit = [] if values else ["" if deciding else line.logit]
        table.add_row(line.name, line.value, *logit, line.meaning)
    return table


def pair_table(found: Certificate, answers: Sequence[tuple[str, Any]]) -> Table:
    """The two people side by side, what differs first."""
    lines = pair_lines(found)
    shown = max(ROWS, sum(line.differs for line in lines))
    hidden = len(lines) - shown
    table = Table(
        title=pair_title(found),
        title_justify="left",
        caption=f"{hidden} more features, equal in both, are left out" if hidden > 0 else None,
    )
    for name in ("feature", "person A", "person B", "differs"):
        table.add_column(name, justify="right" if name.startswith("person") else "left")
    for line in lines[:shown]:
        cells = (escape(line.feature), escape(line.first), escape(line.second), line.mark)
        table.add_row(*cells, style="bold yellow" if line.differs else "dim")
    table.add_section()
    for name, shown_values in answer_lines(found, answers):
        table.add_row(name, *shown_values, "", style="bold")
    return table
