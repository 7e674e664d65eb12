"""`retrofair frontier`: what several methods reach, and the point chosen among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrofair import debiasers
from retrofair.audit import Audit
from retrofair.audit import audit as audit_network
from retrofair.cli import large as g
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.frontiers import choice_of, show_chosen, show_effort, show_points
from retrofair.cli.goals import MeasureName, PerformanceName
from retrofair.cli.results import with_source
from retrofair.debiasers import compare
from retrofair.debiasers.stored import ABOUT, PREPARATION, WEIGHTS
from retrofair.errors import InputError
from retrofair.files import json_text, replacing, write_json
from retrofair.frontier import Frontier, Point
from retrofair.frontier import frontier as find_frontier
from retrofair.frontier.asked import check_numbers, debiasers_by_name, goals_of, parts_of
from retrofair.frontier.run import BOUNDS, METHODS
from retrofair.networks import Outputs
from retrofair.networks.recording import recording
from retrofair.plots import frontier as draw
from retrofair.report import sections
from retrofair.report.sections import frontier_values

Methods = Annotated[
    str,
    typer.Option(help="By commas, of: " + ", ".join(known.name for known in debiasers.ALL) + "."),
]
Bounds = Annotated[str, typer.Option(help="Bounds on the bias that each method aims at.")]
Seconds = Annotated[
    float | None,
    typer.Option(
        help="Time for each method: all bounds, then again with further seeds. Without it every "
        "bound once.",
        show_default=False,
    ),
]
HeldOut = Annotated[
    float, typer.Option(help="Share of the validation rows that judges and is not fitted to.")
]
Choose = Annotated[
    str,
    typer.Option(
        help="bias=B: the best performance with less bias; performance=P: the least bias with at "
        "least that; knee: where the frontier bends most."
    ),
]
USUAL, SPAN = ",".join(METHODS), ",".join(f"{bound:g}" for bound in BOUNDS)
CHOSEN, RUNS = "chosen", "runs"


def frontier(
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    favourable: o.Favourable = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    methods: Methods = USUAL,
    measure: MeasureName = "spd",
    performance: PerformanceName = "balanced_accuracy",
    bounds: Bounds = SPAN,
    seconds: Seconds = None,
    held_out: HeldOut = 0.5,
    choose: Choose = "bias=0.05",
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
    config: o.Config = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """Run several methods on one network, and choose among what none of the others beats.

    Methods are fitted on one part of the validation rows and judged on the other; the chosen
    network is audited on test rows. With --out finished runs are kept in a folder `runs` there,
    and the same command goes on after an interruption.
    """
    given = dict(locals())
    reporting = r.Reporting.of(given)
    large = g.Large.of(given)
    named = g.tuned(debiasers_by_name(o.commas(methods) or []), given)
    wanted = numbers(bounds)
    goals = goals_of(measure, wanted, performance)
    check_numbers(seconds, held_out)
    rule = choice_of(choose)
    choice = large.choice(
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
        classes=False,
    ).with_favourable(favourable)
    answers = o.outputs_of(outputs)
    what = o.subject(
        choice,
        network,
        weights,
        trust_network_file,
        check=lambda fit: parts_of(fit, goals[0], held_out, seed),
        device=device,
    )
    notes.flush()
    with recording(cache):  # no pass over the data is made twice
        front = find_frontier(
            what.network,
            what.fit,
            measure,
            methods=list(named.values()),
            performance=performance,
            bounds=wanted,
            seconds=seconds,
            held_out=held_out,
            seed=seed,
            outputs=answers,
            store=None if out is None else out / RUNS,
            head_only=head_only,
        )
        return _shown(what, front, choice, choose, rule, reporting, weights, as_json)


def _shown(
    what: o.Subject,
    front: Frontier,
    choice: o.TableChoice,
    choose: str,
    rule: dict[str, Any],
    reporting: r.Reporting,
    weights: Path | None,
    as_json: bool,
) -> int:
    """The points and the chosen network, shown and written."""
    out, measure = reporting.out, front.measure
    chosen = front.choose(**rule)
    # with probabilities the frontier warned; an audit must read the outputs alike
    kind = front.tried[0].result.about["outputs"]
    tests = {"original": audit_network(what.network, what.test, outputs=kind)}
    if chosen is not None:
        tests["chosen"] = audit_network(chosen.result, what.test)
    summary = {
        **front.to_dict(),
        "choose": choose,
        "chosen": None if chosen is None else front.describe(chosen),
        "test": {name: found.to_dict() for name, found in tests.items()},
        "flags": [*tests["chosen"].flags, *front.remarks(chosen)] if chosen else [],
    }
    if out is not None:
        reporting.begin()
        write(out, front, chosen, tests, summary, choice, rule.get("bias"))
        reporting.about(
            network=what.network, rows=what.test, source=choice.data, weights=weights
        ).write(
            report_values(front, chosen, tests, what, kind),
            f"{choice.name}: {len(front.points)} operating points, {measure} against "
            f"{front.performance.replace('_', ' ')}",
            ("frontier.png", "frontier.csv", "frontier.json", *([CHOSEN + "/"] if chosen else [])),
        )
    if as_json:
        print(json_text(summary))
    else:
        show_points(
            front, chosen, f"{choice.data}: {' and '.join(front.group_names)}{choice.setting}"
        )
        show_effort(front)
        show_chosen(front, chosen, tests, choose)
    return 0 if chosen is not None else 3


def write(
    out: Path,
    front: Frontier,
    chosen: Point | None,
    tests: dict[str, Audit],
    summary: dict[str, Any],
    choice: o.TableChoice,
    bias: float | None,
) -> None:
    """The picture, the table, the figures, and the chosen network with its audit."""
    title = f"{choice.data}, {front.measure}"
    title += f": {len(front.points)} non-dominated of {len(front.tried)} points tried"
    draw(front, out / "frontier.png", title=title, bias=bias, chosen=chosen)
    with replacing(out / "frontier.csv") as table:
        front.to_frame().to_csv(table, index=False)
    write_json(out / "frontier.json", summary)
    folder, audit = out / CHOSEN, "audit.json"
    if chosen is not None:
        with_source(chosen.result, choice).save(folder)
        write_json(folder / audit, {name: found.to_dict() for name, found in tests.items()})
    else:  # no answer of an earlier call stays behind
        for name in (WEIGHTS, PREPARATION, ABOUT, audit):
            (folder / name).unlink(missing_ok=True)
    also = f", and the chosen network in {CHOSEN}," if chosen is not None else ""
    notes.say(f"wrote frontier.png, frontier.csv and frontier.json{also} into {out}")


def report_values(
    front: Frontier,
    chosen: Point | None,
    tests: dict[str, Audit],
    what: o.Subject,
    kind: Outputs,
) -> dict[str, Any]:
    """The frontier, and the chosen network (without one the original) on test rows."""
    if chosen is None:
        found = sections(tests["original"])
    else:
        effects = compare(what.network, chosen.result, what.test, outputs=kind)
        found = sections(tests["chosen"], effects, before=tests["original"])
    found["frontier"] = frontier_values(front, chosen)
    return found


def numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in o.commas(text) or ()]
    except ValueError:
        raise InputError(f"expected numbers separated by commas, got {text!r} (--bounds)") from None
