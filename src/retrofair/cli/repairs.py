"""A repair for people at a terminal: what was reached, at what cost, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from torch import nn

from retrofair.certifiers.words import BASIS, down, empty, scale_words, up
from retrofair.cli.tables import console
from retrofair.individual import Performance, Repair, RepairStatus, Round
from retrofair.individual.judged import Judge

VERDICT_STYLE = {"fair": "green", "unfair": "red", "unknown": "yellow"}


def on_test_rows(found: Repair, original: nn.Module, judge: Judge) -> dict[str, Performance]:
    """The original, the returned network and the best constant on test rows, by name."""
    return {
        "original": judge(original),
        "returned": judge(found.network),
        "constant": judge.constant(),
    }


def headline(found: Repair) -> str:
    """The result in one sentence."""
    certificate, last = found.certificate, found.history[-1]
    which = f"the network of round {found.best}" if found.best else "the original network"
    most = f"no two similar people differ by more than {up(certificate.upper)}"
    proved = f"{which} is returned; {most} {scale_words(certificate)}, as is proved"
    if empty(certificate):
        proved = f"{which} is returned, for which no useful bound is proved"
    if found.status is RepairStatus.MET:
        made = len(found.history) - 1
        after = f"Met after {rounds(made)}" if made else "Nothing to repair"
        after += f", round {found.best} is returned" if found.best != made else ""
        basis = f"certified, {BASIS[certificate.tier]}"
        return f"{after}: {most} {scale_words(certificate)} ({basis})."
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
    if found.regression:
        return f"mean squared error {found.mse:.4g}"
    return f"balanced accuracy {found.balanced_accuracy:.3f}"


def show_repair(
    found: Repair,
    title: str,
    lines: Sequence[tuple[str, str]],
    on_test: Mapping[str, Performance],
    flags: Sequence[str],
) -> None:
    """Headline, rounds, test rows, what was asked, objections."""
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    out.print()
    out.print(f"[bold]{escape(headline(found))}[/bold]", highlight=False)
    out.print()
    out.print(rounds_table(found))
    out.print()
    out.print(unseen_table(on_test))
    about = Table.grid(padding=(0, 2))
    about.add_column(no_wrap=True, style="cyan")
    about.add_column()
    asked = f"at most {found.delta:g} {scale_words(found.certificate)}"
    if found.floor is not None:
        kind = "mean squared error at most" if found.regression else "balanced accuracy at least"
        asked += f"; {kind} {found.floor:g} on validation data"
    for name, text in [("asked", asked), *lines]:
        about.add_row(escape(name), escape(text))
    out.print(about)
    for flag in (*flags, *found.flags):
        out.print(f"[yellow]![/yellow] {escape(flag)}", highlight=False)


def rounds_table(found: Repair) -> Table:
    """The history, one round a line, and the best constant."""
    table = Table(
        title=f"Largest difference between similar people, and performance on {found.rows:,} "
        "validation rows \\[95 % interval]",
        title_justify="left",
        caption="an interval of the difference is left as it was when its verdict was known, "
        "unless its network is returned without meeting the target",
        caption_justify="left",
    )
    table.add_column("round")
    for name in ("lam", "found", "certified"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for name in (*_names(found.constant), "spread", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    frame = found.table()
    for r, note in zip(found.history, frame["note"], strict=False):
        table.add_row(*_row(r), *_figures(r.performance), f"{r.seconds:.1f}", escape(note))
    table.add_section()
    table.add_row("constant", "", "0", "0", "", *_figures(found.constant), "", "the best constant")
    return table


def unseen_table(on_test: Mapping[str, Performance]) -> Table:
    """What the returned network costs on rows that played no part."""
    one = on_test["original"]
    table = Table(
        title=f"Performance on test data, {one.rows:,} rows \\[95 % interval]", title_justify="left"
    )
    table.add_column("network")
    for name in (*_names(one), "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, each in on_test.items():
        table.add_row("the best constant" if name == "constant" else name, *_figures(each))
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


def _names(one: Performance) -> list[str]:
    return ["mse"] if one.regression else ["balanced accuracy", "accuracy"]


def _figures(found: Performance) -> list[str]:
    values, cells = found.figures(), []
    for name in ("mse",) if found.regression else ("balanced_accuracy", "accuracy"):
        value, low, high = (values[name + end] for end in ("", "_low", "_high"))
        digits = ".4g" if found.regression else ".3f"
        known = low == high  # a constant's balanced accuracy is half whatever the rows are
        limits = "" if known else f" \\[{low:{digits}}, {high:{digits}}]"
        cells.append(f"{value:{digits}}{limits}")
    return [*cells, f"{found.spread:.4g}"]
