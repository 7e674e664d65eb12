"""`retrofair debias`: a fairer network, and what it costs on test data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer

from retrofair import debiasers, metrics
from retrofair.audit import Audit, audit_predictions
from retrofair.audit import audit as audit_network
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.tables import Row, row_of, show_comparison, show_effects, show_flags
from retrofair.data import GroupedData
from retrofair.debiasers import Debiased, Effects, Status, compare
from retrofair.debiasers import debias as debias_network
from retrofair.debiasers.run import check_data, resolve
from retrofair.errors import InputError
from retrofair.files import json_text, write_json
from retrofair.objective import EPSILON, Constrained, Objective, Weighted
from retrofair.plots import Point, bias_performance

Method = Annotated[
    str, typer.Option(help="One of: " + ", ".join(known.name for known in debiasers.ALL) + ".")
]
MeasureName = Annotated[
    str,
    typer.Option(
        help="One of: "
        + ", ".join(known.name for known in metrics.ALL)
        + "; or several that must hold together, with a bound each: spd=0.05,eod=0.1."
    ),
]
Epsilon = Annotated[float | None, typer.Option(help="Bound on the bias; 0.05 where none is given.")]
Lam = Annotated[
    float | None,
    typer.Option(help="Minimise LAM*bias + (1-LAM)*(1-performance) instead of bounding the bias."),
]
PerformanceName = Annotated[
    str,
    typer.Option(
        help="One of: "
        + ", ".join(known.name for known in metrics.performance.ALL)
        + "; or costs of a true negative, false positive, false negative and true positive: "
        "cost=0,1,5,0."
    ),
]


def debias(
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    method: Method = "random",
    measure: MeasureName = "spd",
    epsilon: Epsilon = None,
    lam: Lam = None,
    performance: PerformanceName = "balanced_accuracy",
    network: o.Network = None,
    weights: o.Weights = None,
    trust_network_file: o.Trust = False,
    outputs: o.OutputsChoice = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    as_json: o.Json = False,
) -> int:
    """Debias a trained network on validation data, and show before and after on test data."""
    resolve(method)  # a misspelt method or measure should not cost a training run
    objective = objective_of(measure, epsilon, lam, performance)
    choice = o.TableChoice(
        o.one_source(file, data),
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
    answers = o.outputs_of(outputs)
    o.checked_out(out)
    what = o.subject(
        choice,
        network,
        weights,
        trust_network_file,
        check=lambda fit: metrics.require(
            objective.bias_measure, check_data(fit, objective), fit.group_names
        ),
    )
    result = debias_network(what.network, what.fit, objective, method, seed=seed, outputs=answers)
    # with probabilities the first audit warned; the second must read the outputs alike
    kind = result.about["outputs"]
    good = objective.performance_measure
    wanted: list[Any] = [
        objective.bias_measure,
        *([good] if isinstance(good, metrics.CostMatrix) else []),
    ]
    before = audit_network(what.network, what.test, outputs=kind, measures=wanted)
    after = audit_network(result, what.test, measures=wanted)
    constant = constant_audit(what.test, result, wanted)
    effects = compare(what.network, result, what.test, measure=objective.bias_measure, outputs=kind)
    rows = [
        Row("constant classifier", constant, result.constant.objective, note="yardstick"),
        Row("original, threshold 0.5", before, result.before.objective),
        row_of(method, result, after),
    ]
    if out is not None:
        write(out, result, before, after, rows, objective, choice.data)
    if as_json:
        print(json_text(summary(result, before, after, constant, effects)))
    else:
        groups = " and ".join(what.test.group_names)
        show_comparison(
            rows,
            objective,
            f"{choice.data}: {groups}, fitted on {len(what.fit):,} rows, "
            f"tested on {len(what.test):,} others",
        )
        show_flags(after.flags)
        show_effects(effects)
        verdict(result)
    return 0 if result.status is Status.MET else 3


def objective_of(
    measure: str, epsilon: float | None, lam: float | None, performance: str
) -> Objective:
    """The objective that the options say.

    Raises:
        InputError: unknown names, numbers that cannot be read, or two options that contradict.
    """
    good = _performance(performance)
    several = "=" in measure or "," in measure
    if lam is not None:
        if several:
            raise InputError("expected one --measure with --lam, got several constraints")
        if epsilon is not None:
            raise InputError(
                f"expected --lam or --epsilon, got both: --lam {lam:g} weighs the bias, --epsilon "
                f"{epsilon:g} bounds it"
            )
        return Weighted(measure, lam=lam, performance=good)
    bound = EPSILON if epsilon is None else epsilon
    if not several:
        return Constrained(measure, epsilon=bound, performance=good)
    parts = [each.partition("=") for each in measure.split(",")]
    if epsilon is not None and all(mark for _, mark, _ in parts):
        raise InputError(
            f"expected no --epsilon beside --measure {measure}, got {epsilon:g}: every bound is "
            "given there"
        )
    pairs = [
        (name.strip(), _numbers(text, "--measure")[0] if mark else float(bound))
        for name, mark, text in parts
    ]
    if len(pairs) == 1:
        return Constrained(pairs[0][0], epsilon=pairs[0][1], performance=good)
    return Constrained(pairs, performance=good)


def _performance(text: str) -> str | metrics.CostMatrix:
    name, _, costs = text.partition("=")
    if name != "cost":
        return text
    found = _numbers(costs, "--performance")
    if len(found) != 4:
        raise InputError(
            "expected four costs, of a true negative, false positive, false negative and true "
            f"positive, such as --performance cost=0,1,5,0, got {costs!r}"
        )
    return metrics.CostMatrix(((found[0], found[1]), (found[2], found[3])))


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise InputError(f"expected numbers after = in {option}, got {text!r}") from None


def constant_audit(test: GroupedData, result: Debiased, measures: Sequence[Any] = ()) -> Audit:
    """The better constant classifier of the fit data, on the test data."""
    positive = result.constant.array[..., 1].sum() > 0
    return audit_predictions(
        test.y.numpy(),
        np.full(len(test), positive),
        test.group.numpy(),
        group_names=test.group_names,
        measures=measures,
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
    notes.say(f"wrote model.safetensors, result.json, audit.json and before-after.png into {out}")


def summary(
    result: Debiased, before: Audit, after: Audit, constant: Audit, effects: Effects
) -> dict[str, Any]:
    """What a machine wants to know."""
    return {
        "status": result.status.value,
        "threshold": result.threshold,
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
