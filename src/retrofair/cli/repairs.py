"""A repair for people at a terminal: what was reached, at what cost, round by round."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from torch import nn

from retrofair.certifiers import Domain
from retrofair.certifiers.question import Outputs
from retrofair.cli.certificates import BASIS, down, scale_words, up
from retrofair.cli.tables import console
from retrofair.data import GroupedData
from retrofair.individual import Performance, Repair, RepairStatus, Round
from retrofair.individual.judged import Judge

VERDICT_STYLE = {"fair": "green", "unfair": "red", "unknown": "yellow"}


def tested(
    found: Repair, original: nn.Module, rows: GroupedData, domain: Domain, outputs: Outputs | None
) -> dict[str, Any]:
    """The original, the returned network and the best constant on test rows, by name."""
    judge = Judge.of(rows, original, domain, outputs)
    figures = {
        "original": judge(original),
        "returned": judge(found.network),
        "constant": judge.constant(),
    }
    return {"rows": len(rows), **{k: dataclasses.asdict(v) for k, v in figures.items()}}


def headline(found: Repair) -> str:
    """The result in one sentence."""
    certificate, last = found.certificate, found.history[-1]
    which = f"the network of round {found.best}" if found.best else "the original network"
    proved = (
        f"{which} is returned, of which at most {up(certificate.upper)} is proved "
        f"{scale_words(certificate)}"
    )
    if found.status is RepairStatus.MET:
        after = f"Met after {rounds(found.best)}" if found.best else "Nothing to repair"
        return (
            f"{after}: no two similar people differ by more than {up(certificate.upper)} "
            f"{scale_words(certificate)} (certified, {BASIS[certificate.tier]})."
        )
    if found.status is RepairStatus.FLOOR:
        why = last.performance.degenerate or f"{figure(last.performance)} is below the floor"
        who = f"in round {last.number}" if last.number else "for the original itself"
        return f"Not met: {who} {why}; {proved}."
    if found.status is RepairStatus.INTERRUPTED:
        return f"Interrupted after {rounds(last.number)}: {proved}."
    return f"Not met after {rounds(last.number)}: {proved}."


def rounds(number: int) -> str:
    return "1 round" if number == 1 else f"{number} rounds"


def figure(found: Performance) -> str:
    """A performance in words."""
    if not math.isnan(found.mse):
        return f"mean squared error {found.mse:.4g}"
    return f"balanced accuracy {found.balanced_accuracy:.3f}"


def show_repair(
    found: Repair, title: str, lines: Sequence[tuple[str, str]], on_test: dict[str, Any]
) -> None:
    """Headline, rounds, what was asked, objections."""
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    out.print()
    out.print(f"[bold]{escape(headline(found))}[/bold]", highlight=False)
    out.print()
    out.print(rounds_table(found))
    about = Table.grid(padding=(0, 2))
    about.add_column(no_wrap=True, style="cyan")
    about.add_column()
    asked = f"at most {found.delta:g} {scale_words(found.certificate)}"
    if found.floor is not None:
        kind = "mean squared error up to" if found.regression else "balanced accuracy from"
        asked += f", {kind} {found.floor:g} on"
    shown = {k: figure(Performance(**v)) for k, v in on_test.items() if k != "rows"}
    test = (
        f"{shown['returned']} of the returned network, {shown['original']} of the original, "
        f"{shown['constant']} of the best constant; {on_test['rows']:,} rows"
    )
    for name, text in [("asked", asked), ("test data", test), *lines]:
        about.add_row(escape(name), escape(text))
    out.print(about)
    for flag in found.flags:
        out.print(f"[yellow]![/yellow] {escape(flag)}", highlight=False)


def rounds_table(found: Repair) -> Table:
    """The history, one round a line, and the best constant."""
    values = found.regression
    table = Table(
        title=f"Largest difference between similar people, and performance on {found.rows:,} "
        "validation rows",
        title_justify="left",
        caption="an interval is left as it was when its verdict was known",
    )
    table.add_column("round")
    names = ["mse"] if values else ["balanced accuracy", "accuracy"]
    for name in ("lam", "found", "certified"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for name in (*names, "spread", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("")
    frame = found.table()
    for r, note in zip(found.history, frame["note"], strict=False):
        table.add_row(*_row(r), *_figures(r.performance, values), f"{r.seconds:.1f}", escape(note))
    table.add_section()
    dashes = ["", "0", "0", ""]
    table.add_row("constant", *dashes, *_figures(found.constant, values), "", "the best constant")
    return table


def _row(r: Round) -> list[str]:
    style = VERDICT_STYLE[r.verdict.value]
    return [
        str(r.number) if r.number else "original",
        "" if r.lam is None else f"{r.lam:.3g}",
        down(r.lower),
        up(r.upper),
        f"[{style}]{r.verdict.value}[/{style}]",
    ]


def _figures(found: Performance, regression: bool) -> list[str]:
    shown = [found.mse] if regression else [found.balanced_accuracy, found.accuracy]
    return [f"{value:.4g}" for value in (*shown, found.spread)]
