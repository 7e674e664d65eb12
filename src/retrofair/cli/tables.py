"""Tables for people at a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retrofair.audit import Audit, Estimate
from retrofair.debiasers import Debiased, Effects, Status
from retrofair.metrics import Measure, Several
from retrofair.objective import Constrained, Objective

STATUS_STYLE = {Status.MET: "green", Status.NOT_MET: "red", Status.DEGENERATE: "yellow"}
BY_CLASS = ("spd", "eod", "aod")


@dataclass(frozen=True)
class Row:
    """One line of a comparison on test data."""

    name: str
    audit: Audit
    score: float | None = None
    status: Status | None = None
    seconds: float | None = None
    note: str = ""


def console() -> Console:
    """Standard output; wide enough for the tables where it is not a terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=140)


def show_audit(found: Audit, title: str) -> None:
    """All measures, the groups, and what an expert would object to."""
    out = console()
    table = Table(title=escape(title), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("fair", justify="right")
    table.add_column("meaning")
    for estimate in found.estimates.values():
        ideal = f"{estimate.ideal:g}" if estimate.kind == "bias" else ""
        table.add_row(
            estimate.name,
            number(estimate.value),
            interval(estimate),
            ideal,
            estimate.note or estimate.meaning,
        )
    out.print(table)
    if found.classes:
        show_classes(found)
    counted = f"; the base rate is of {found.positive_label}" if found.outcome else ""
    title = escape(f"By group (the last is the privileged one{counted})")
    groups = Table(title=title, title_justify="left")
    groups.add_column("group")
    groups.add_column("n", justify="right")
    rates = list(next(iter(found.groups.values())))
    if found.classes:  # the others stand in the table by class, or are too many
        rates = [rate for rate in rates if "[" not in rate or rate.startswith("selection")]
    for rate in rates:
        groups.add_column(escape(rate.replace("_", " ")), justify="right")
    for position, name in enumerate(found.group_names):
        cells = [short(found.groups[name][rate]) for rate in rates]
        groups.add_row(escape(name), f"{int(found.counts[position].sum()):,}", *cells)
    out.print(groups)
    show_flags(found.flags)


def show_classes(found: Audit) -> None:
    """The differences of each class, one against the rest."""
    table = Table(title="By class, one against the rest", title_justify="left")
    table.add_column("class")
    table.add_column("n", justify="right")
    for measure in BY_CLASS:
        table.add_column(measure, justify="right")
    for position, name in enumerate(found.class_names):
        cells = [str(found.classes[name][m]).replace("[", "\\[") for m in BY_CLASS]
        table.add_row(escape(name), f"{int(found.counts[:, position].sum()):,}", *cells)
    console().print(table)


def show_flags(flags: Sequence[str]) -> None:
    """Warnings, one a line."""
    out = console()
    for flag in flags:
        out.print(f"[yellow]![/yellow] {escape(flag)}")


def show_effects(effects: Effects) -> None:
    """What debiasing did to each group on test data, at most nine lines."""
    out = console()
    read = f"label {effects.favourable} taken as the good outcome"
    read = "each class against the rest" if effects.classes else read
    out.print(f"What changed on test data \\[95 % intervals; {read}]:")
    for line in effects.sentences():
        out.print(f"- {escape(line)}", highlight=False, soft_wrap=True)


def show_comparison(
    rows: Sequence[Row], objective: Objective, title: str, *, caption: str = ""
) -> None:
    """Original, constant and debiased networks side by side."""
    pairs = bounded(objective)
    performance = objective.performance_measure.name
    if any(row.name.endswith("*") for row in rows):
        caption = "; ".join(filter(None, [caption, "* must be told each row's group to decide"]))
    table = Table(title=escape(title), title_justify="left", caption=escape(caption) or None)
    table.add_column("network", no_wrap=True)
    table.add_column("objective\non fit data", justify="right")
    for measure, _ in pairs:
        name = "\n".join(textwrap.wrap(measure.name.replace("_", " "), 22))
        table.add_column(f"{name} on test\n\\[95 % interval]", justify="right", no_wrap=True)
    good = escape(performance.replace("_", " "))
    table.add_column(f"{good} on test\n\\[95 % interval]", justify="right", no_wrap=True)
    table.add_column("goal on\nfit data")
    if isinstance(objective, Constrained):
        for measure, epsilon in pairs:
            said = measure.name.replace("_", " ") if len(pairs) > 1 else "bias"
            table.add_column(f"{said} < {epsilon:g}\non test")
    table.add_column("seconds", justify="right")
    for row in rows:
        found = [row.audit[measure.name] for measure, _ in pairs]
        style = STATUS_STYLE.get(row.status, "") if row.status else ""
        verdict = row.status.value.replace("_", " ") if row.status else row.note
        cells = [
            escape(row.name),
            "" if row.score is None else number(row.score),
            *(str(bias).replace("[", "\\[") for bias in found),
            str(row.audit[performance]).replace("[", "\\["),
            f"[{style}]{verdict}[/{style}]" if style else verdict,
        ]
        if isinstance(objective, Constrained):
            cells += [
                holds(bias, epsilon, measure.ideal)
                for bias, (measure, epsilon) in zip(found, pairs, strict=True)
            ]
        cells.append("" if row.seconds is None else f"{row.seconds:.1f}")
        table.add_row(*cells)
    console().print(table)


def bounded(objective: Objective) -> list[tuple[Measure, float]]:
    """The measures of an objective with their bounds; of one without a bound, nan."""
    measure = objective.bias_measure
    if isinstance(measure, Several):
        return list(zip(measure.measures, measure.bounds, strict=True))
    return [(measure, getattr(objective, "epsilon", float("nan")))]


def holds(bias: Estimate, epsilon: float, ideal: float) -> str:
    """Whether the bound holds; "not sure" where the interval reaches over it."""
    if bias.value != bias.value:
        return "undefined"
    low, high = sorted((_deviation(bias.low, ideal), _deviation(bias.high, ideal)))
    crosses = (bias.low - ideal) * (bias.high - ideal) <= 0
    if high < epsilon:
        return "yes"
    if not crosses and low >= epsilon:
        return "no"
    return ("yes" if _deviation(bias.value, ideal) < epsilon else "no") + ", not sure"


def _deviation(value: float, ideal: float) -> float:
    """How far a value is from fair, as the objective counts it."""
    if ideal == 0:
        return abs(value)
    return 1 - min(value, 1 / value) if value > 0 else 1.0


def row_of(name: str, result: Debiased, audit: Audit) -> Row:
    """The line of a result; a star where it needs the group of each row to decide."""
    name = name + " *" if result.needs_group else name
    return Row(name, audit, result.after.objective, result.status, result.about["seconds"])


def number(value: float) -> str:
    """Three decimals; a dash where there is no value."""
    return "-" if value != value else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """The two limits."""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def short(estimate: Estimate) -> str:
    """A value with half the width of its interval."""
    if estimate.value != estimate.value:
        return "-"
    return f"{estimate.value:.3f} ±{(estimate.high - estimate.low) / 2:.3f}"
