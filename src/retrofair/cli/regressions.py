"""Audit and debias where the label is a number: `--regression`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.reporting import Reporting
from retrofair.cli.tables import STATUS_STYLE, console, show_flags
from retrofair.data import GroupedData, read_table
from retrofair.debiasers import Status
from retrofair.errors import InputError, unknown
from retrofair.files import json_text, write_json
from retrofair.regression import (
    BoundedGroupLoss,
    BoundedLoss,
    GroupLoss,
    RegressionAudit,
    audit_regression,
    bound_group_loss,
)
from retrofair.regression.losses import Loss, check_loss, constant_of, labels
from retrofair.report import sections

FILES = ("model.safetensors", "bounded_loss.json")
METHOD = "bounded_group_loss"
Bound = Annotated[
    float | None,
    typer.Option(
        help="With --regression: what every group's mean loss may be at most, in the unit of the "
        "loss.",
        show_default=False,
    ),
]


def audit_numbers(
    choice: o.TableChoice,
    loss: str,
    prediction: str | None,
    network: str | None,
    weights: Path | None,
    trust: bool,
    reporting: Reporting,
    as_json: bool,
) -> int:
    """`retrofair audit --regression`: a network, or numbers that stand in a column."""
    check_loss(loss)
    out = reporting.out
    if prediction is not None:
        found = _audit_column(choice, prediction, cast(Loss, loss))
        what = f"the numbers in {prediction!r}"
    else:
        looked_at = o.subject(choice, network, weights, trust, parts=o.WHOLE)
        found = audit_regression(looked_at.network, looked_at.test, cast(Loss, loss))
        what = str(network)
    if out is not None:
        reporting.begin()
        write_json(out / "audit.json", found.to_dict())
        notes.say(f"wrote {out / 'audit.json'}")
        reporting.write(sections(found), f"{choice.name}: {what}", ["audit.json"])
    if as_json:
        print(json_text(found.to_dict()))
    else:
        show_numbers(found, f"{choice.data}: {what}, {found.overall.rows:,} rows")
    return 0


class _Column(nn.Module):
    """Answers with the last column of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1]


def _audit_column(choice: o.TableChoice, prediction: str, loss: Loss) -> RegressionAudit:
    if not choice.is_file:
        raise InputError(
            f"--prediction names a column of your own file, but {choice.data!r} is a data set"
        )
    label, columns = choice.needed()
    frame = read_table(choice.data)
    for name in (label, prediction, *columns):
        if name not in frame.columns:
            raise unknown("column", name, frame.columns)
    if frame[prediction].dtype.kind not in "iuf":
        raise InputError(
            f"expected numbers in column {prediction!r}, got {frame[prediction].dtype} "
            "(--prediction)"
        )
    used = frame[list(dict.fromkeys([label, prediction, *columns]))].dropna()
    data = GroupedData.from_frame(
        used,
        label=label,
        sensitive=columns,
        privileged=o.commas(choice.privileged),
        missing="drop",
        scale=False,
        regression=True,
    )
    said = torch.tensor(used[prediction].tolist(), dtype=torch.float64)
    return audit_regression(_Column(), replace(data, x=said[:, None]), loss)


def debias_numbers(
    choice: o.TableChoice,
    loss: str,
    bound: float | None,
    network: str | None,
    weights: Path | None,
    trust: bool,
    reporting: Reporting,
    as_json: bool,
) -> int:
    """`retrofair debias --regression`: fine-tune until every group's loss is bounded."""
    check_loss(loss)
    if bound is None:
        raise InputError(
            "expected --bound with --regression, what every group's mean loss may be at most, got "
            "none: `retrofair audit --regression` shows what it is"
        )
    objective = BoundedGroupLoss(bound, cast(Loss, loss))
    out = reporting.out
    what = o.subject(choice, network, weights, trust)
    notes.flush()
    result = bound_group_loss(what.network, what.fit, objective, seed=choice.seed)
    # both beside the same constant, which has seen the fit rows and not these
    constant = constant_of(labels(what.fit), objective.loss)
    audits = [
        audit_regression(net, what.test, objective.loss, constant=constant)
        for net in (what.network, result.model)
    ]
    if out is not None:
        reporting.begin()
        result.save(out)
        both = dict(zip(("before", "after"), (each.to_dict() for each in audits), strict=True))
        write_json(out / "audit.json", both)
        files = [*FILES, "audit.json"]
        notes.say(f"wrote model.safetensors, bounded_loss.json and audit.json into {out}")
        values = {**sections(audits[1], before=audits[0]), "bound": bound}
        values["numbers"]["flags"] = [*result.notes, *audits[1].flags]
        reporting.write(values, f"{choice.name}: {METHOD.replace('_', ' ')}", files)
    if as_json:
        print(json_text(_summary(result, audits[0], audits[1])))
    else:
        title = (
            f"{choice.data}{choice.setting}: fitted on {len(what.fit):,} rows, "
            f"tested on {len(what.test):,} others"
        )
        _show_change(result, audits[0], audits[1], title)
        show_flags(audits[1].flags)
        _say_verdict(result, audits[1].flags)
    return 0 if result.status is Status.MET else 3


def _summary(
    result: BoundedLoss, before: RegressionAudit, after: RegressionAudit
) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "about": result.about,
        "fit": {"before": result.before.to_dict(), "after": result.after.to_dict()},
        "test": {"before": before.to_dict(), "after": after.to_dict()},
        "notes": list(result.notes),
    }


def _say_verdict(result: BoundedLoss, shown: Sequence[str]) -> None:
    lines = {
        Status.MET: "goal met on the rows that judged; the test columns say what to expect "
        "elsewhere",
        Status.NOT_MET: "goal not met on the rows that judged: try a larger --bound",
        Status.DEGENERATE: "degenerate: a constant does as well, or the outputs hardly vary",
    }
    notes.say(lines[result.status])
    for note in result.notes:
        if note not in shown:  # the same of the test rows
            notes.say(note)


# --- tables ---------------------------------------------------------------------------------------


def show_numbers(found: RegressionAudit, title: str) -> None:
    """The loss and the error of each group, beside a constant's."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column("group")
    for column in ("n", f"{found.loss} loss \\[95 % interval]", "mean error \\[95 % interval]"):
        table.add_column(column, justify="right")
    table.add_column(f"loss of a\nconstant ({found.constant:.4g})", justify="right")
    for each in (*found.groups, found.overall):
        table.add_row(
            escape(each.name),
            f"{each.rows:,}",
            escape(str(each.loss)),
            escape(str(each.error)),
            _short(each.constant_loss),
        )
    console().print(table)
    console().print(
        f"worst group: {escape(found.worst)}, {escape(str(found.worst_loss))} (for all groups at "
        "once)",
        highlight=False,
    )
    show_flags(found.flags)


def _show_change(
    result: BoundedLoss, before: RegressionAudit, after: RegressionAudit, title: str
) -> None:
    bound, style = result.objective.bound, STATUS_STYLE[result.status]
    table = Table(title=escape(title), title_justify="left")
    table.add_column("group")
    columns = ("n", "loss before\non test", "loss after\non test", "error after\non test")
    for column in (*columns, "loss of a\nconstant", f"loss <= {bound:g}\non test"):
        table.add_column(column, justify="right")
    of_all = [(before.overall, after.overall)]
    for was, now in (*zip(before.groups, after.groups, strict=True), *of_all):
        means = (was.loss, now.loss, now.error)
        table.add_row(
            escape(now.name),
            f"{now.rows:,}",
            *(escape(str(each)) for each in means),
            _short(now.constant_loss),
            "" if now is after.overall else _holds(now, bound),
        )
    console().print(table)
    said = result.status.value.replace("_", " ")
    console().print(f"goal on the rows that judged: [{style}]{said}[/{style}]")


def _holds(group: GroupLoss, bound: float) -> str:
    """Whether the bound holds; "not sure" where the interval reaches over it."""
    loss = group.loss
    if loss.value != loss.value:
        return "undefined"
    said = "yes" if loss.value <= bound else "no"
    sure = loss.high <= bound or loss.low > bound
    return said if sure else f"{said}, not sure"


def _short(value: float) -> str:
    return "-" if value != value else f"{value:.4g}"
