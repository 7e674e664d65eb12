"""`retrofair repair`: fine-tune a network until its similar people are proved to be near."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from retrofair.certifiers.pairs import EVERYONE, Pairs
from retrofair.certifiers.question import Question
from retrofair.certifiers.words import down, up
from retrofair.cli import certify_options as c
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.asked import Asked, rehearse
from retrofair.cli.cases import of_table
from retrofair.cli.certified import write_certificate
from retrofair.cli.repairs import figure, on_test_rows, show_repair
from retrofair.cli.similarity import Similarity, similar_lines
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.individual import Repair, RepairStatus, Round, repair
from retrofair.individual.judged import Judge, Performance
from retrofair.individual.wishes import check_wishes, largest_difference
from retrofair.plots import repair_history
from retrofair.report import sections
from retrofair.report.sections import certificate_values, repair_values

Delta = Annotated[
    float | None,
    typer.Option(help="The target: no two similar people may differ by more than this."),
]
Floor = Annotated[
    float | None,
    typer.Option(
        help="The lowest balanced accuracy allowed, on validation data (with --outputs values: "
        "the largest mean squared error)."
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds of fine-tuning at most.")]
Seconds = Annotated[float, typer.Option(min=0, help="Time for each certificate.")]
Lam = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Weight of the loss in the first fine-tuning, the rest weighs the difference; halved "
        "from round to round until the target is met.",
    ),
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", help="Folder for finished rounds: the same command goes on after them."
    ),
]

FILES = (
    "network.safetensors",
    "history.json",
    "certificate.json",
    "witness.csv",
    "repair.png",
)
KNOWN_ROWS = (
    "which rows this network was trained on before is not known here: validation and test rows may "
    "be among them, and its performance on them too good"
)


def mend(
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    network: o.Network = None,
    weights: o.Weights = None,
    trust_network_file: o.Trust = False,
    delta: Delta = None,
    floor: Floor = None,
    rounds: Rounds = 8,
    seconds: Seconds = 30.0,
    lam: Lam = 0.5,
    epsilon: c.Epsilon = None,
    distance: c.DistanceChoice = "l_inf",
    weight: c.WeightOption = None,
    tolerance: c.Tolerance = None,
    method: c.Method = "milp",
    outputs: c.OutputsChoice = None,
    relax: c.Relax = False,
    width: c.Width = None,
    depth: c.Depth = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    config: o.Config = None,
    seed: o.Seed = 0,
    checkpoint: Kept = None,
    out: o.Out = None,
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """Certify a network, fine-tune it with the worst pairs found, and certify again.

    It ends when the target is proved, the rounds are used, or the performance is below the floor.
    Your own network (--network, --weights) is fine-tuned on a fresh split of the data: rows that it
    was trained on before may be among the validation and test rows, which flatters it. To avoid
    that, give data that it has not seen.
    """
    reporting = r.Reporting.of(locals())
    if delta is None:
        raise InputError("expected a target, got none: the largest difference allowed (--delta)")
    _check(delta, floor, rounds, lam, outputs, network)
    source = o.one_source(file, data)
    for name in (network, source):
        if name is not None and name.lower().endswith(".nnet"):
            raise InputError(
                f"expected a network with data to train it on, got the .nnet file {name}: "
                "`retrofair certify` takes it"
            )
    if network is not None:
        c.refuse({"--width": width, "--depth": depth}, "with --network: it has its own layers")
    similarity = Similarity.of(distance, weight, tolerance, epsilon, None, 0.2)
    question = Asked.of(method, seconds, 0.0, delta, None, outputs, seed)
    choice = o.TableChoice(
        source,
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
    subject = o.subject(
        choice,
        network,
        weights,
        trust_network_file,
        parts=o.USUAL,
        check=lambda rows: rehearse(similarity, question, rows, network is not None),
        width=width or c.WIDTH,
        depth=c.DEPTH if depth is None else depth,
        base_weights=True,
    )
    case = of_table(choice, subject, network or f"a base network with {weights}")
    case = case.relaxed() if relax else case
    metric = similarity.distance(case.domain, case.training)
    rehearse(
        similarity, question, subject.rows, network is not None
    )  # what can be refused is refused first
    judge = Judge.of(subject.test, case.network, case.domain, question.outputs, "test")
    most = largest_difference(Question.of(case.network, case.domain.d, question.outputs, None))
    check_wishes(delta, floor, rounds, lam, regression=judge.regression, most=most)
    flags = [] if subject.trained_here else [KNOWN_ROWS]
    flags += [EVERYONE] if Pairs.of(case.domain, metric, similarity.epsilon).everyone else []
    notes.flush()
    found = repair(
        case.network,
        subject.parts[0],
        case.domain,
        metric,
        similarity.epsilon,
        delta,
        valid=subject.fit,
        floor=floor,
        rounds=rounds,
        seconds=seconds,
        lam=lam,
        seed=seed,
        outputs=question.outputs,
        method=method,
        checkpoint=checkpoint,
        on_round=tell,
    )
    on_test = on_test_rows(found, case.network, judge)
    if on_test["returned"].falls_below(floor) and not found.history[found.best].below:
        flags.append(f"on test data the returned network is below the floor: {_why(on_test)}")
    lines = [
        ("similar is", similarity.words(case.domain)),
        *similar_lines(case.domain, metric, similarity.epsilon),
        ("domain", case.box),
    ]
    if as_json:
        figures = {name: each.to_dict() for name, each in on_test.items()}
        test = {"rows": len(subject.test), **figures}
        print(json_text({**found.to_dict(), "flags": [*flags, *found.flags], "test": test}))
    else:
        show_repair(found, case.title, lines, on_test, flags)
    if out is not None:
        reporting.begin()
        write(found, case.title, out)
        values = sections(found)
        values["repair"] = repair_values(found, on_test)
        values["repair"]["flags"] = [*flags, *found.flags]
        values["certificate"] = certificate_values(found.certificate, lines=lines)
        reporting.about(
            network=found.network, rows=subject.rows, source=choice.data, weights=weights
        ).write(values, f"{case.title}, repaired", FILES)
    return 0 if found.status is RepairStatus.MET else 3


def _why(on_test: Mapping[str, Performance]) -> str:
    found = on_test["returned"]
    return found.degenerate or figure(found)


def _check(
    delta: float,
    floor: float | None,
    rounds: int,
    lam: float,
    outputs: str | None,
    network: str | None,
) -> None:
    """Refuse what cannot be meant before a network is trained for it."""
    if network is None and outputs == "values":
        raise InputError(
            "expected --network with --outputs values: the base network answers a logit for labels "
            "0 and 1, and a logit's squared error from them means nothing"
        )
    # a network of one's own may end in a scaled sigmoid: that shows once it is taken apart
    known = network is None or outputs is not None
    most = 1.0 if known and outputs != "values" else math.inf
    values = outputs == "values" if known else None
    check_wishes(delta, floor, rounds, lam, regression=values, most=most)


def tell(done: Round) -> None:
    """A line for every finished round, as it is finished."""
    name = f"round {done.number}" if done.number else "the original"
    print(
        f"{name}: found {down(done.lower)}, proved at most {up(done.upper)} ({done.verdict}), "
        f"{figure(done.performance)}, {done.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def write(found: Repair, title: str, out: Path) -> None:
    """Weights, history, certificate, worst pair and picture."""
    found.save(out)
    write_certificate(found.certificate, out)
    repair_history(found, out / "repair.png", title=title)
    notes.say(f"wrote {', '.join(FILES[:-1])} and {FILES[-1]} into {out}")
