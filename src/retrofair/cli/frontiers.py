"""A frontier for people at a terminal, and the choice of a point as they say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from retrofair.audit import Audit
from retrofair.cli import notes
from retrofair.cli.tables import STATUS_STYLE, console, show_flags
from retrofair.errors import InputError
from retrofair.frontier import Frontier, Point, Reference
from retrofair.frontier.points import check_choice


def choice_of(text: str) -> dict[str, Any]:
    """The arguments of `Frontier.choose` for knee, bias=B or performance=P.

    Raises:
        InputError: it is none of these, or the number is out of range.
    """
    name, equals, value = text.partition("=")
    rule: dict[str, Any] = {"rule": text}
    if equals and name in ("bias", "performance"):
        try:
            rule = {name: float(value)}
        except ValueError:
            raise InputError(f"expected a number, got {text!r} (--choose)") from None
    elif text != "knee":
        raise InputError(f"expected knee, bias=B or performance=P, got {text!r} (--choose)")
    try:
        check_choice(rule.get("rule"), rule.get("bias"), rule.get("performance"))
    except InputError as error:
        raise InputError(f"{error} (--choose)") from None
    return rule


def show_points(front: Frontier, chosen: Point | None, title: str) -> None:
    """The references and the non-dominated points on the rows held out."""
    marks = "* must be told each row's group to decide" if _needing(front) else ""
    table = Table(
        title=escape(
            f"{title}, fitted on {front.rows_fitted:,} rows, judged on {front.rows_held_out:,} "
            f"others: {len(front.points)} of {len(front.tried)} points are not dominated"
        ),
        title_justify="left",
        caption=marks or None,
    )
    table.add_column("network", no_wrap=True)
    table.add_column("bound\naimed at", justify="right")
    table.add_column("bias, held out\n\\[95 % interval]", justify="right", no_wrap=True)
    table.add_column(f"{front.measure}, signed", justify="right")
    good = front.performance.replace("_", " ")
    table.add_column(f"{good}, held out\n\\[95 % interval]", justify="right", no_wrap=True)
    table.add_column("bound on\nfit data")
    table.add_column("")
    for reference in front.reference:
        table.add_row(escape(reference.method), "", *_figures(reference), "", "for comparison")
    table.add_section()
    for point in front.points:
        style, status = STATUS_STYLE[point.status], point.status.value.replace("_", " ")
        table.add_row(
            escape(point.method) + " *" * point.needs_group,
            f"{point.bound:g}",
            *_figures(point),
            f"[{style}]{status}[/{style}]",
            "chosen" if point is chosen else "",
        )
    console().print(table)


def show_effort(front: Frontier) -> None:
    """What was spent on each method, and why one could not be run."""
    table = Table()
    table.add_column("method", no_wrap=True)
    for name in ("runs", "seconds", "not dominated"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name, effort in front.effort.items():
        best = sum(point.method == name for point in front.points)
        note = front.failed.get(name, effort.note)
        cells = (str(effort.runs), f"{effort.seconds:.1f}", str(best), escape(note))
        table.add_row(escape(name), *cells)
    console().print(table)


def show_chosen(
    front: Frontier, chosen: Point | None, tests: Mapping[str, Audit], choose: str
) -> None:
    """The chosen point on the rows that chose it and on test rows, beside the original."""
    if chosen is None:
        notes.say(
            f"no non-dominated point satisfies {choose}: try other --methods, other --bounds, or "
            "ask for less"
        )
        return
    measured, good = front.measure, front.performance
    n = tests["chosen"].n
    table = Table(title=escape(f"Chosen by {choose}: {chosen.method}"), title_justify="left")
    table.add_column("network and rows")
    table.add_column(f"{measured} \\[95 % interval]", justify="right", no_wrap=True)
    table.add_column(f"{good.replace('_', ' ')} \\[95 % interval]", justify="right", no_wrap=True)
    held = front.rows_held_out
    for name, one, other in (
        (
            f"original, {held:,} held out",
            front.reference[0].measured,
            front.reference[0].performance,
        ),
        (f"original, {n:,} test rows", tests["original"][measured], tests["original"][good]),
        (f"chosen, {held:,} held out", chosen.measured, chosen.performance),
        (f"chosen, {n:,} test rows", tests["chosen"][measured], tests["chosen"][good]),
    ):
        table.add_row(name, escape(str(one)), escape(str(other)))
    console().print(table)
    show_flags([*tests["chosen"].flags, *front.remarks(chosen)])
    notes.say(
        f"chosen among {len(front.tried)} points by the rows held out, whose figures therefore "
        "flatter it a little; the test rows do not"
    )


def _figures(point: Reference) -> tuple[str, str, str]:
    return (
        escape(str(point.bias)),
        f"{point.measured.value:.3f}",
        escape(str(point.performance)),
    )


def _needing(front: Frontier) -> bool:
    return any(point.needs_group for point in front.points)
