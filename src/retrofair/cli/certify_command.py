"""`retrofair certify`: how far two similar people can be treated apart, proved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import typer

from retrofair.certifiers import (
    Certificate,
    Curve,
    Distance,
    EmpiricalDelta,
    Step,
    Verdict,
    empirical_curve,
)
from retrofair.certifiers.curve import Measured
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.cli import certify_options as c
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.asked import Asked, rehearse
from retrofair.cli.cases import Case, of_nnet, of_table
from retrofair.cli.certificates import show_certificate
from retrofair.cli.certified import (
    answers_of,
    files_of,
    flags_of,
    say_curve,
    summary,
    write_certificate,
    write_curve,
)
from retrofair.cli.similarity import Similarity, similar_lines
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.progress import Interval
from retrofair.report.sections import certificate_values, curve_values

MAIN_SHARE = 0.7  # of --seconds, where that curve is drawn

Sensitive = Annotated[
    str | None,
    typer.Option(
        help="Protected column, free to differ; several by commas. Of a .nnet file the number "
        "of the input, from 0 (8 or x8).",
        rich_help_panel=o.OF_DATA,
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        help="Your own network, as package.module:factory, or a .nnet file.",
        rich_help_panel=o.OF_NETWORK,
    ),
]
Delta = Annotated[
    float | None, typer.Option(help="Ask: does no similar pair differ by more than this?")
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Ask: can a similar pair get different decisions at this probability?"),
]
CurveChoice = Annotated[
    str | None,
    typer.Option(
        "--curve",
        help="Further epsilons, as 0,0.1,0.4; each gets an equal share of --seconds. With --out "
        "alone some around --epsilon share 30 % of it.",
    ),
]


def certify(
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    sensitive: Sensitive = None,
    privileged: o.Privileged = None,
    network: Network = None,
    weights: o.Weights = None,
    trust_network_file: o.Trust = False,
    epsilon: c.Epsilon = None,
    distance: c.DistanceChoice = "l_inf",
    weight: c.WeightOption = None,
    tolerance: c.Tolerance = None,
    delta: Delta = None,
    threshold: Threshold = None,
    method: c.Method = "milp",
    seconds: Annotated[float, typer.Option(min=0, help="Time for the search.")] = 60.0,
    gap: Annotated[float, typer.Option(min=0, help="Relative gap at which to stop.")] = 0.001,
    absolute_gap: Annotated[
        float, typer.Option("--absolute-gap", min=0, help="Upper - lower at which to stop.")
    ] = 0.0,
    outputs: c.OutputsChoice = None,
    curve: CurveChoice = None,
    relax: c.Relax = False,
    nnet_normalised: Annotated[
        bool, typer.Option("--nnet-normalised", help="Apply the .nnet file's means and ranges.")
    ] = False,
    width: c.Width = None,
    depth: c.Depth = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    config: o.Config = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """Prove how far two similar people can be treated apart, and show the worst pair found."""
    reporting = r.Reporting.of(locals())
    is_nnet = network is not None and network.lower().endswith(".nnet")
    similarity = Similarity.of(distance, weight, tolerance, epsilon, curve, 0.0 if is_nnet else 0.2)
    question = Asked.of(method, seconds, gap, delta, threshold, outputs, seed, absolute_gap)
    if is_nnet:
        given = {
            "FILE": file,
            "--data": data,
            "--label": label,
            "--positive": positive,
            "--privileged": privileged,
            "--weights": weights,
            "--drop": drop,
            "--root": root,
            "--width": width,
            "--depth": depth,
            "--blind": blind or None,
            "--no-scale": no_scale or None,
        }
        c.refuse(given, f"with the .nnet file {network}: its ranges are the domain, it has no data")
        case = of_nnet(str(network), sensitive, nnet_normalised)
        question = question.reading_logits()
    else:
        if (named := file or data) and named.lower().endswith(".nnet"):
            raise InputError(f"expected --network {named}: a .nnet file is a network, not data")
        c.refuse({"--nnet-normalised": nnet_normalised or None}, "without --network FILE.nnet")
        if network is not None:
            c.refuse({"--width": width, "--depth": depth}, "with --network: it has its own layers")
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
        subject = o.subject(
            choice,
            network,
            weights,
            trust_network_file,
            parts=o.WHOLE,
            check=lambda rows: rehearse(similarity, question, rows, network is not None),
            width=width or c.WIDTH,
            depth=c.DEPTH if depth is None else depth,
            base_weights=True,
        )
        case = of_table(choice, subject, network or f"a base network with {weights}")
    if relax:
        case = case.relaxed()
    reporting = reporting.about(
        network=case.network, rows=case.rows, source=file or data or network, weights=weights
    )
    return answer(case, similarity, question, reporting, as_json)


# --- the answer -----------------------------------------------------------------------------------


def answer(
    case: Case, similarity: Similarity, question: Asked, reporting: r.Reporting, as_json: bool
) -> int:
    """Certify, show, write."""
    out = reporting.out
    metric = similarity.distance(case.domain, case.training)
    epsilons = similarity.epsilons(drawn=out is not None)
    # what can be refused is refused before anything is said
    Pairs.of(case.domain, metric, similarity.epsilon)
    Question.of(case.network, case.domain.d, question.outputs, question.threshold)
    measured = Measured(Question.of(case.network, case.domain.d, question.outputs, None))
    notes.flush()
    seen: list[EmpiricalDelta] = []
    if case.rows is not None and len(case.rows) > 1:
        seen = empirical_curve(measured, case.rows, metric, epsilons, domain=case.domain)
    here = seen[epsilons.index(similarity.epsilon)] if seen else None

    started = time.monotonic()
    share = main_share(similarity, question, epsilons)
    with Interval(f"certifying, epsilon {similarity.epsilon:g}") as line:
        found = question.put(
            case,
            metric,
            similarity.epsilon,
            share * question.seconds,
            showing(line),
        )
    if out is not None:
        reporting.begin()
        write_certificate(found, out)
    words: dict[str, Any] = {
        "lines": [
            ("similar is", similarity.words(case.domain)),
            *similar_lines(case.domain, metric, similarity.epsilon),
            ("domain", case.box),
        ],
        "flags": flags_of(found, case, similarity, measured, here),
        "seen": here,
        "rows": len(case.rows) if case.rows is not None else 0,
        "answers": answers_of(found, measured),
    }
    if not as_json:
        show_certificate(found, title=case.title, **words)
    curve = None
    if len(epsilons) > 1 and found.stopped != "interrupted":
        until = started + question.seconds
        curve = curve_of(case, metric, question, epsilons, found, seen, until)
    if out is not None:
        names = files_of(curve)
        if curve is not None:
            write_curve(curve, found, case.title, out)
            say_curve(curve, similarity)
        notes.say(f"wrote {', '.join(names[:-1])} and {names[-1]} into {out}")
        values: dict[str, Any] = {"certificate": certificate_values(found, **words)}
        if curve is not None:
            values["curve"] = curve_values(curve)
        reporting.write(values, case.title, names)
    if as_json:
        print(json_text(summary(found, here, curve)))
    elif curve is not None and out is None:
        print(curve.to_frame().to_string(index=False))
    return 3 if question.decides and found.verdict is not Verdict.FAIR else 0


def showing(line: Interval) -> Callable[[Step], None]:
    """What hands every narrower interval to a line at the terminal."""
    return lambda step: line.show(step.lower, step.upper)


def main_share(similarity: Similarity, question: Asked, epsilons: Sequence[float]) -> float:
    """The part of --seconds for the certificate itself; the rest is the curve's."""
    if len(epsilons) == 1:
        return 1.0
    if similarity.others is None:
        return MAIN_SHARE
    # decisions are another question than differences: the curve needs a point of its own
    return 1 / (len(epsilons) + (question.threshold is not None))


def curve_of(
    case: Case,
    metric: Distance,
    question: Asked,
    epsilons: Sequence[float],
    main: Certificate,
    seen: Sequence[EmpiricalDelta],
    until: float,
) -> Curve:
    """Certificates at the other epsilons in the time that is left, in equal shares of it.

    Ctrl-C leaves the points that are done.
    """
    found = {} if question.threshold is not None else {main.epsilon: main}
    waiting = [each for each in epsilons if each not in found]
    try:
        for i, epsilon in enumerate(waiting):
            share = max(until - time.monotonic(), 0.0) / (len(waiting) - i)
            with Interval(f"the curve, epsilon {epsilon:g}") as line:
                step = question.put(
                    case,
                    metric,
                    epsilon,
                    share,
                    showing(line),
                    curve=True,
                )
            found[epsilon] = step
            if step.stopped == "interrupted":
                break
    except KeyboardInterrupt:
        notes.say("interrupted: the curve has the points that were done")
    points = sorted(found)
    rows = [seen[epsilons.index(each)] for each in points] if seen else []
    return Curve(np.array(points), tuple(found[each] for each in points), tuple(rows))
