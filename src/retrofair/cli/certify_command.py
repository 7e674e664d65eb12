"""`retrofair certify`: how far two similar people can be treated apart, proved."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import torch
import typer
from torch import nn

from retrofair import certifiers
from retrofair.certifiers import (
    Certificate,
    Curve,
    Distance,
    Domain,
    EmpiricalDelta,
    Step,
    Verdict,
    empirical_curve,
)
from retrofair.certifiers import certify as certify_network
from retrofair.certifiers.curve import Measured
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.certifiers.run import chosen
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.cases import Case, of_nnet, of_table
from retrofair.cli.certificates import empty, show_certificate
from retrofair.cli.similarity import DISTANCES, Similarity, similar_lines
from retrofair.data import GroupedData
from retrofair.errors import InputError, unknown
from retrofair.files import json_text, replacing
from retrofair.plots import delta_curve
from retrofair.progress import Interval

MAIN_SHARE = 0.7  # of --seconds, where that curve is drawn
ALIKE = 1e-6  # a spread of outputs below which the network is constant

Sensitive = Annotated[
    str | None,
    typer.Option(
        help="Protected column, free to differ; several by commas. Of a .nnet file the number "
        "of the input, from 0 (8 or x8)."
    ),
]
Network = Annotated[
    str | None,
    typer.Option(help="Your own network, as package.module:factory, or a .nnet file."),
]
Epsilon = Annotated[
    float | None,
    typer.Option(
        help="The distance up to which two people are similar (default 0.2; 1 with --tolerance; "
        "0 for a .nnet file: only protected inputs differ).",
        show_default=False,
    ),
]
DistanceChoice = Annotated[
    str,
    typer.Option(
        help=f"One of: {', '.join(DISTANCES)}; on the network's inputs (numbers in standard "
        "deviations, unless --no-scale). mahalanobis: the pseudo-inverse of the covariance of the "
        "training rows' columns that are not protected; a direction in which they never vary "
        "costs nothing."
    ),
]
WeightOption = Annotated[
    str | None,
    typer.Option(
        "--weight", help="Weights in the distance, as age=2,hours=0 (0: free to differ; others 1)."
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        help="Similar is who differs by at most this, in own units: age=5,hours-per-week=2 (a "
        "category: 0 or 1). All other features must be equal."
    ),
]
Delta = Annotated[
    float | None, typer.Option(help="Ask: does no similar pair differ by more than this?")
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Ask: can a similar pair get different decisions at this probability?"),
]
Method = Annotated[
    str, typer.Option(help="One of: " + ", ".join(known.name for known in certifiers.ALL) + ".")
]
OutputsChoice = Annotated[
    str | None,
    typer.Option(
        help="What the network answers: logits, probabilities, or values to compare as they are."
    ),
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
    epsilon: Epsilon = None,
    distance: DistanceChoice = "l_inf",
    weight: WeightOption = None,
    tolerance: Tolerance = None,
    delta: Delta = None,
    threshold: Threshold = None,
    method: Method = "milp",
    seconds: Annotated[float, typer.Option(min=0, help="Time for the search.")] = 60.0,
    gap: Annotated[float, typer.Option(min=0, help="Relative gap at which to stop.")] = 0.001,
    outputs: OutputsChoice = None,
    curve: CurveChoice = None,
    relax: Annotated[
        bool, typer.Option("--relax", help="Whole numbers that are not protected: any number.")
    ] = False,
    nnet_normalised: Annotated[
        bool, typer.Option("--nnet-normalised", help="Apply the .nnet file's means and ranges.")
    ] = False,
    width: Annotated[
        int | None, typer.Option(min=1, help="Units per layer of the base network (32).")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=0, help="Hidden layers of the base network (10).")
    ] = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    as_json: o.Json = False,
) -> int:
    """Prove how far two similar people can be treated apart, and show the worst pair found."""
    is_nnet = network is not None and network.lower().endswith(".nnet")
    similarity = Similarity.of(distance, weight, tolerance, epsilon, curve, 0.0 if is_nnet else 0.2)
    question = Asked.of(method, seconds, gap, delta, threshold, outputs, seed)
    o.checked_out(out)
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
        refuse(given, f"with the .nnet file {network}: its ranges are the domain, it has no data")
        case = of_nnet(str(network), sensitive, nnet_normalised)
        question = question.reading_logits()
    else:
        if (named := file or data) and named.lower().endswith(".nnet"):
            raise InputError(f"expected --network {named}: a .nnet file is a network, not data")
        refuse({"--nnet-normalised": nnet_normalised or None}, "without --network FILE.nnet")
        if network is not None:
            refuse({"--width": width, "--depth": depth}, "with --network: it has its own layers")
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
            whole=True,
            check=lambda rows: rehearse(similarity, question, rows),
            width=width or 32,
            depth=10 if depth is None else depth,
        )
        case = of_table(choice, subject, network)
    if relax:
        case = case.relaxed()
    return answer(case, similarity, question, out, as_json)


def refuse(given: dict[str, Any], why: str) -> None:
    """One error for options that make no sense here."""
    for option, value in given.items():
        if value is not None:
            raise InputError(f"expected no {option} {why}")


# --- what is asked --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The question and the effort, as the options say."""

    method: str
    seconds: float
    gap: float
    delta: float | None
    threshold: float | None
    outputs: Outputs | None
    seed: int

    @classmethod
    def of(
        cls,
        method: str,
        seconds: float,
        gap: float,
        delta: float | None,
        threshold: float | None,
        outputs: str | None,
        seed: int,
    ) -> Asked:
        """The options, checked as far as they can be without a network.

        Raises:
            InputError: an unknown name, a number out of range, two questions at once.
        """
        chosen(method)
        if delta is not None and threshold is not None:
            raise InputError("expected --delta or --threshold, got both: they are two questions")
        known = get_args(Outputs)
        if outputs is not None and outputs not in known:
            raise unknown("choice for --outputs", outputs, known)
        for name, value in (("seconds", seconds), ("gap", gap), ("delta", delta or 0.0)):
            if not math.isfinite(value) or value < 0:
                raise InputError(f"expected a finite {name} >= 0, got {value:g} (--{name})")
        if threshold is not None and outputs != "values" and not 0 < threshold < 1:
            raise InputError(f"expected a threshold in (0, 1), got {threshold:g} (--threshold)")
        asked = cast(Outputs | None, outputs)
        return cls(method, seconds, gap, delta, threshold, asked, seed)

    def reading_logits(self) -> Asked:
        """The same, with outputs that are logits unless something else was said."""
        return replace(self, outputs=self.outputs or "logits")

    @property
    def decides(self) -> bool:
        return self.delta is not None or self.threshold is not None

    def put(
        self,
        case: Case,
        metric: Distance,
        epsilon: float,
        seconds: float,
        on_step: Callable[[Step], None] | None = None,
        *,
        curve: bool = False,
    ) -> Certificate:
        """A certificate; for a point of the curve no question is asked."""
        return certify_network(
            case.network,
            case.domain,
            metric,
            epsilon,
            method=self.method,
            seconds=seconds,
            gap=self.gap,
            delta=None if curve else self.delta,
            threshold=None if curve else self.threshold,
            outputs=self.outputs,
            data=case.rows,
            seed=self.seed,
            on_step=on_step,
        )


def rehearse(similarity: Similarity, question: Asked, rows: GroupedData) -> None:
    """Certify a tiny network: what is wrong with the options shows before a training run."""
    domain = Domain.from_data(rows)
    with torch.random.fork_rng(devices=[]):
        tiny = Case(nn.Sequential(nn.Linear(domain.d, 1), nn.Flatten(0)), domain, "", "")
    question.put(tiny, similarity.distance(domain, rows), similarity.epsilon, 0.0)


# --- the answer -----------------------------------------------------------------------------------


def answer(
    case: Case, similarity: Similarity, question: Asked, out: Path | None, as_json: bool
) -> int:
    """Certify, show, write."""
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
        write_certificate(found, out)
    if not as_json:
        lines = [
            ("similar is", similarity.words(case.domain)),
            *similar_lines(case.domain, metric, similarity.epsilon),
            ("domain", case.box),
        ]
        show_certificate(
            found,
            title=case.title,
            lines=lines,
            flags=flags_of(found, case, similarity, measured, here),
            seen=here,
            rows=len(case.rows) if case.rows is not None else 0,
            answers=answers_of(found, measured),
        )
    curve = None
    if len(epsilons) > 1 and found.stopped != "interrupted":
        until = started + question.seconds
        curve = curve_of(case, metric, question, epsilons, found, seen, until)
    if out is not None:
        if curve is not None:
            write_curve(curve, found, case.title, out)
            say_curve(curve, similarity)
        notes.say(f"wrote {files_of(found, curve)} into {out}")
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


def answers_of(found: Certificate, measured: Measured) -> list[tuple[str, torch.Tensor]]:
    """What the network says of the pair, and the same as probabilities."""
    if found.scores is None or found.witness is None:
        return []
    scores = torch.stack([torch.atleast_1d(score) for score in found.scores])
    name = "output" if found.outputs == "values" else "probability"
    with torch.no_grad():
        shown = measured.question.on_scale(scores)
    if torch.equal(shown, scores):
        return [(name, scores)]
    return [("logit", scores), (name, shown)]


def flags_of(
    found: Certificate,
    case: Case,
    similarity: Similarity,
    measured: Measured,
    here: EmpiricalDelta | None,
) -> list[str]:
    """What an expert would object to."""
    flags = []
    with torch.no_grad():
        everybody = measured(case.people()).double().reshape(-1)
    low, high = float(everybody.min()), float(everybody.max())
    who = f"all {len(case.people()):,} " + ("rows" if case.rows is not None else "people tried")
    if high - low <= ALIKE:
        flags.append(
            f"the network is (nearly) constant: {low:.6g} to {high:.6g} for {who}; a small "
            "difference says nothing about fairness then"
        )
    elif found.threshold is not None and not low <= found.threshold < high:
        flags.append(f"{who} get the same decision at the threshold {found.threshold:g}")
    if empty(found):
        trained = " (--depth 1 --width 16 where it is trained here)" if case.rows else ""
        flags.append(
            "the upper bound is near 1, the largest difference there can be: it says (almost) "
            "nothing. Deep or wide networks are hard to bound: try a smaller network"
            f"{trained}, a smaller --epsilon or more --seconds"
        )
    ignored = sorted(
        {*(similarity.weights or {}), *(similarity.tolerances or {})}
        & {feature.name for feature in case.domain.features if feature.sensitive}
    )
    if ignored:
        flags.append(f"no weight counts for {', '.join(ignored)}: protected, so free to differ")
    if here is not None and here.first is None:
        flags.append(
            "no two rows of the data are this similar: the bounds speak of possible people only"
        )
    for note, times in Counter(found.notes).items():
        if not note.startswith("not decided"):  # printed with the verdict already
            flags.append(note if times == 1 else f"{note} ({times} times)")
    return flags


def write_certificate(found: Certificate, out: Path) -> None:
    found.save(out / "certificate.json")
    with replacing(out / "witness.csv") as temporary:
        found.table().to_csv(temporary, index=False)


def write_curve(curve: Curve, found: Certificate, title: str, out: Path) -> None:
    with replacing(out / "delta.csv") as temporary:
        curve.to_frame().to_csv(temporary, index=False)
    delta_curve(
        curve,
        out / "delta.png",
        title=title,
        delta=found.delta,
        epsilon=found.epsilon,
        what="probability" if found.outputs == "probabilities" else "output",
    )


def say_curve(curve: Curve, similarity: Similarity) -> None:
    """How much time the points of the curve had."""
    times = [c.seconds for c in curve.certificates if c.epsilon != similarity.epsilon]
    why = "" if similarity.others is not None else "; name your own with --curve"
    if times:
        notes.say(
            f"the curve's other points took {min(times):.1f} to {max(times):.1f} s each, so that "
            f"all fit into --seconds; they may be wider than the certificate{why}"
        )


def files_of(found: Certificate, curve: Curve | None) -> str:
    names = ["certificate.json", "witness.csv"]
    if curve is not None:
        names += ["delta.csv", "delta.png"]
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def summary(found: Certificate, here: EmpiricalDelta | None, curve: Curve | None) -> dict[str, Any]:
    """What a machine wants to know."""
    values = found.to_dict()
    if here is not None:
        values["empirical"] = vars(here)
    if curve is not None:
        values["curve"] = curve.to_frame().to_dict(orient="records")
    return values
