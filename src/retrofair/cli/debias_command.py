"""`retrofair debias`: a fairer network, and what it costs on test data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from retrofair import debiasers, metrics
from retrofair.audit import Audit, audit_predictions
from retrofair.audit import audit as audit_network
from retrofair.cli import large as g
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.goals import Epsilon, Lam, MeasureName, PerformanceName, objective_of
from retrofair.cli.regressions import METHOD, Bound, debias_numbers
from retrofair.cli.results import with_source
from retrofair.cli.tables import (
    Row,
    row_of,
    show_classes,
    show_comparison,
    show_effects,
    show_flags,
)
from retrofair.data import GroupedData
from retrofair.debiasers import Debiased, Effects, Status, compare
from retrofair.debiasers import debias as debias_network
from retrofair.debiasers.rules import Argmax
from retrofair.debiasers.run import check_data, check_method, resolve
from retrofair.debiasers.stored import PREPARATION
from retrofair.errors import InputError
from retrofair.files import json_text, write_json
from retrofair.networks.recording import recording
from retrofair.objective import Objective
from retrofair.plots import Point, bias_performance
from retrofair.report import sections

FILES = (
    "model.safetensors",
    "preparation.json",
    "result.json",
    "audit.json",
    "before-after.png",
)
Method = Annotated[
    str, typer.Option(help="One of: " + ", ".join(known.name for known in debiasers.ALL) + ".")
]


ORIGINAL, ORIGINAL_CLASSES = "original, threshold 0.5", "original, most probable class"


def debias(
    context: typer.Context,
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    favourable: o.Favourable = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    method: Method = "random",
    measure: MeasureName = "spd",
    epsilon: Epsilon = None,
    lam: Lam = None,
    performance: PerformanceName = "balanced_accuracy",
    regression: o.Regression = False,
    bound: Bound = None,
    loss: o.LossChoice = "squared",
    network: o.Network = None,
    weights: o.Weights = None,
    trust_network_file: o.Trust = False,
    outputs: o.OutputsChoice = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    images: g.Images = None,
    labels: g.Labels = None,
    image_column: g.ImageColumn = None,
    size: g.Size = None,
    channels: g.Channels = None,
    on_error: g.OnError = None,
    text: g.Text = None,
    max_length: g.MaxLength = None,
    label_output: g.LabelOutput = None,
    batch_rows: g.BatchRows = None,
    workers: g.Workers = None,
    device: g.Device = "auto",
    head_only: g.HeadOnly = False,
    cache: g.Cache = None,
    layers: g.Layers = None,
    micro_rows: g.MicroRows = None,
    mixed: g.Mixed = False,
    checkpoint: g.Checkpoint = None,
    config: o.Config = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """Debias a trained network on validation data, and show before and after on test data.

    Data are a table's columns; or images in a folder or zip, with a table of their --labels; or a
    table's column of --text. Images and texts need a --network.
    """
    given = dict(locals())
    reporting = r.Reporting.of(given)
    large = g.Large.of(given)
    options = (
        label,
        positive,
        sensitive,
        privileged,
        blind,
        missing,
        drop,
        no_scale,
        root,
        seed,
    )
    where = (network, weights, trust_network_file)
    if regression:
        if favourable is not None:
            raise InputError("expected no --favourable with --regression: its label is a number")
        refuse_goals(context, ("method", "measure", "epsilon", "lam", "performance", "outputs"))
        g.refuse_tuning(given)
        choice = large.choice(*options, regression=True)
        return debias_numbers(choice, loss, bound, *where, reporting, as_json)
    if method == METHOD or bound is not None or loss != "squared":
        raise InputError(
            f"expected --regression with {METHOD}, --bound or --loss, got none: they are for a "
            "label of numbers"
        )
    # a misspelt method or measure should not cost a training run
    objective = objective_of(measure, epsilon, lam, performance)
    debiaser = g.tuned({method: resolve(method)}, given)[method]
    choice = large.choice(*options).with_favourable(favourable)
    classes = choice.class_names
    if classes:
        check_method(debiaser, len(classes))
    answers = o.outputs_of(outputs)
    what = o.subject(
        choice,
        *where,
        check=lambda fit: metrics.require(
            objective.bias_measure, check_data(fit, objective), fit.group_names
        ),
        device=device,
    )
    with recording(cache):  # no pass over the data is made twice
        result = debias_network(
            what.network,
            what.fit,
            objective,
            debiaser,
            seed=seed,
            outputs=answers,
            head_only=head_only,
        )
        result = with_source(result, choice)
        return _shown(what, result, choice, objective, method, reporting, weights, as_json)


def _shown(
    what: o.Subject,
    result: Debiased,
    choice: o.TableChoice,
    objective: Objective,
    method: str,
    reporting: r.Reporting,
    weights: Path | None,
    as_json: bool,
) -> int:
    """Before and after on the test data, shown and written."""
    out, classes = reporting.out, choice.class_names
    # with probabilities the first audit warned; the second must read the outputs alike
    kind = result.about["outputs"]
    good = objective.performance_measure
    wanted: list[Any] = [
        objective.bias_measure,
        *([good] if isinstance(good, metrics.CostMatrix) else []),
    ]
    named: Any = {"measures": wanted, "class_names": classes}
    before = audit_network(what.network, what.test, outputs=kind, **named)
    after = audit_network(result, what.test, **named)
    constant = constant_audit(what.test, result, wanted, classes)
    effects = compare(
        what.network,
        result,
        what.test,
        measure=objective.bias_measure,
        outputs=kind,
        class_names=classes or None,
    )
    rows = [
        Row("constant classifier", constant, result.constant.objective, note="yardstick"),
        Row(ORIGINAL_CLASSES if classes else ORIGINAL, before, result.before.objective),
        row_of(method, result, after),
    ]
    if out is not None:
        reporting.begin()
        write(out, result, before, after, rows, objective, choice.data)
        found = sections(after, result, effects, before=before)
        found["comparison"] = r.comparison(
            rows,
            objective,
            about="The original, the debiased network and the better constant classifier.",
            caption=f"Fitted on {len(what.fit):,} rows, shown on {len(what.test):,} test rows "
            "with 95 % intervals",
        )
        reporting.about(
            network=what.network, rows=what.test, source=choice.data, weights=weights
        ).write(found, f"{choice.name}: debiased with {method.replace('_', ' ')}", files_of(result))
    if as_json:
        print(json_text(summary(result, before, after, constant, effects)))
    else:
        groups = " and ".join(what.test.group_names)
        show_comparison(
            rows,
            objective,
            f"{choice.data}: {groups}{choice.setting}, fitted on {len(what.fit):,} rows, "
            f"tested on {len(what.test):,} others",
        )
        if classes:
            show_classes(after)
        show_flags(after.flags)
        show_effects(effects)
        verdict(result)
    return 0 if result.status is Status.MET else 3


def refuse_goals(context: typer.Context, names: Sequence[str]) -> None:
    """Refuse options that mean nothing with --regression, once they are given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is None or source.name in ("DEFAULT", "DEFAULT_MAP"):
            continue
        if name == "method" and context.params[name] == METHOD:
            continue
        instead = f"its method is {METHOD}" if name == "method" else "the goal is --bound"
        raise InputError(f"expected no --{name} with --regression: {instead}")


def constant_audit(
    test: GroupedData,
    result: Debiased,
    measures: Sequence[Any] = (),
    classes: Sequence[str] = (),
) -> Audit:
    """The better constant classifier of the fit data, on the test data."""
    decided = int(result.constant.array.sum(axis=(0, 1)).argmax())
    return audit_predictions(
        test.y.numpy(),
        np.full(len(test), decided),
        test.group.numpy(),
        group_names=test.group_names,
        measures=measures,
        class_names=classes or None,
    )


def write(
    out: Any,
    result: Debiased,
    before: Audit,
    after: Audit,
    rows: list[Row],
    objective: Objective,
    title: str,
) -> None:
    """The result, its audit and its picture into a folder."""
    result.save(out)
    write_json(out / "audit.json", {"before": before.to_dict(), "after": after.to_dict()})
    measure, good = objective.bias_measure.name, objective.performance_measure.name
    bias_performance(
        [Point(row.name, row.audit[measure], row.audit[good]) for row in rows],
        out / "before-after.png",
        title=f"{title}: before and after",
        epsilon=getattr(objective, "epsilon", None),
    )
    *first, last = files_of(result)
    notes.say(f"wrote {', '.join(first)} and {last} into {out}")


def files_of(result: Debiased) -> list[str]:
    """What is written: images and texts have no preparation of columns."""
    return [name for name in FILES if name != PREPARATION or result.preparation is not None]


def summary(
    result: Debiased, before: Audit, after: Audit, constant: Audit, effects: Effects
) -> dict[str, Any]:
    """What a machine wants to know."""
    return {
        "status": result.status.value,
        **decided_by(result),
        "needs_group": result.needs_group,
        "about": result.about,
        "fit": {
            "before": vars(result.before),
            "after": vars(result.after),
            "constant": vars(result.constant),
        },
        "test": {
            "before": before.to_dict(),
            "after": after.to_dict(),
            "constant": constant.to_dict(),
        },
        "flags": list(after.flags),
        "effects": effects.to_dict(),
    }


def decided_by(result: Debiased) -> dict[str, Any]:
    """The threshold, or with three classes and more the offsets."""
    if isinstance(result.rule, Argmax):
        return {"offsets": list(result.rule.offsets)}
    return {"threshold": result.threshold}


def verdict(result: Debiased) -> None:
    """One line on what the status means."""
    lines = {
        Status.MET: "goal met on the fit data; the test columns say what to expect elsewhere",
        Status.NOT_MET: "goal not met on the fit data: try another --method or a larger --epsilon",
        Status.DEGENERATE: "degenerate: it decides alike for (almost) everybody, or a constant "
        "classifier scores as well; do not use it",
    }
    notes.say(lines[result.status])
    for note in result.notes:
        notes.say(note)
