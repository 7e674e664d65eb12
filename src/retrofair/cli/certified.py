"""What stands beside a certificate: what an expert would object to, and the files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from retrofair.certifiers import Certificate, Curve, EmpiricalDelta
from retrofair.certifiers.curve import Measured
from retrofair.certifiers.words import empty
from retrofair.cli import notes
from retrofair.cli.cases import Case
from retrofair.cli.similarity import Similarity
from retrofair.files import replacing
from retrofair.plots import delta_curve

ALIKE = 1e-6  # a spread of outputs below which the network is constant


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


def files_of(curve: Curve | None) -> list[str]:
    """The names of what is written."""
    names = ["certificate.json", "witness.csv"]
    return names if curve is None else [*names, "delta.csv", "delta.png"]


def summary(found: Certificate, here: EmpiricalDelta | None, curve: Curve | None) -> dict[str, Any]:
    """What a machine wants to know."""
    values = found.to_dict()
    if here is not None:
        values["empirical"] = vars(here)
    if curve is not None:
        values["curve"] = curve.to_frame().to_dict(orient="records")
    return values
