"""Results as the plain values that a page is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from retrofair.audit import Audit, audit_to_dict
from retrofair.audit.audited import audit_counts
from retrofair.audit.classes import audit_classes
from retrofair.certifiers import Certificate, Curve, EmpiricalDelta
from retrofair.certifiers.words import (
    answer_lines,
    basis_lines,
    empty,
    headline,
    interval_lines,
    pair_lines,
    pair_title,
    scale_words,
    verdict_lines,
)
from retrofair.debiasers import Debiased, Effects
from retrofair.errors import InputError
from retrofair.frontier import Frontier, Point
from retrofair.individual import Performance, Repair
from retrofair.metrics import Array
from retrofair.regression import RegressionAudit

Shown = Audit | Debiased | Effects | Frontier | Certificate | Curve | Repair | RegressionAudit


def sections(*results: Shown, before: Audit | RegressionAudit | None = None) -> dict[str, Any]:
    """The values of each result, by section.

    Raises:
        InputError: nothing, two of a kind, or something that has no place in a report.
    """
    if not results:
        raise InputError("expected a result to report, got none")
    found: dict[str, Any] = {}
    for result in results:
        for kind, name, make in KINDS:
            if isinstance(result, kind):
                if name in found:
                    raise InputError(f"expected one {kind.__name__} to report, got two")
                found[name] = make(result)
                break
        else:
            raise InputError(
                "expected results to report: an audit, also of numbers, a debiased result, "
                "effects, a frontier, a certificate, a curve or a repair, got "
                f"{type(result).__name__}"
            )
    if isinstance(before, RegressionAudit):
        found["numbers_before"] = before.to_dict()
    elif before is not None:
        found["before"] = audit_to_dict(before)
    for result in results:
        if isinstance(result, Debiased):
            _add_fit(found, result)
    if "repair" in found:
        found.setdefault("certificate", found["repair"]["certificate"])
    return found


def result_values(result: Debiased) -> dict[str, Any]:
    """What a debiased network says of itself."""
    return {
        "status": result.status.value,
        "method": result.about.get("method", ""),
        "about": {k: _said(v) for k, v in result.about.items() if isinstance(v, str | int | float)},
        "notes": list(result.notes),
        "needs_group": result.needs_group,
        "rule": result.rule.kind,
        "rows": int(result.before.array.sum()),
    }


def _add_fit(found: dict[str, Any], result: Debiased) -> None:
    """What a result knows of the rows it was fitted to, where nothing is known of others."""
    if "audit" not in found:
        found["on_fit"] = "cross_fitted" if result.about.get("cross_fitted") else "seen"
        for name, scores in (("audit", result.after), ("before", result.before)):
            found.setdefault(name, audit_to_dict(_audited(scores.array, result.group_names)))
        if result.effects is not None:
            found.setdefault("effects", result.effects.to_dict())


def _audited(counts: Array, names: tuple[str, ...]) -> Audit:
    if counts.shape[-1] > 2:
        return audit_classes(counts, names, (), ())
    return audit_counts(counts, names)


def _said(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def certificate_values(
    found: Certificate,
    *,
    lines: Sequence[tuple[str, str]] = (),
    flags: Sequence[str] = (),
    seen: EmpiricalDelta | None = None,
    rows: int = 0,
    answers: Sequence[tuple[str, Any]] | None = None,
) -> dict[str, Any]:
    """A certificate with its words; see `cli.certificates.show_certificate` for the arguments."""
    if answers is None:
        answers = _answers(found)
    objections = list(flags) or [note for note in found.notes if not note.startswith("not decided")]
    if empty(found) and not flags:
        objections.append("the upper bound is near 1, the largest there can be: it says little")
    return {
        "headline": headline(found),
        "verdict": found.verdict.value,
        "asked": found.delta is not None or found.threshold is not None,
        "epsilon": found.epsilon,
        "lower": found.lower,
        "upper": found.upper,
        "delta": found.delta,
        "tier": found.tier,
        "scale": scale_words(found),
        "logits": found.outputs != "values",
        "lines": [list(e) for e in [*verdict_lines(found), *basis_lines(found), *lines]],
        "interval": [asdict(line) for line in interval_lines(found, seen, rows)],
        "flags": objections,
        "pair_title": pair_title(found),
        "pair": [asdict(line) for line in pair_lines(found)],
        "answers": [[name, shown] for name, shown in answer_lines(found, answers)],
    }


def _answers(found: Certificate) -> list[tuple[str, torch.Tensor]]:
    if found.scores is None or found.witness is None:
        return []
    return [("network's output", torch.stack([torch.atleast_1d(each) for each in found.scores]))]


def curve_values(curve: Curve) -> list[dict[Any, Any]]:
    """A row per epsilon."""
    return curve.to_frame().to_dict(orient="records")


def frontier_values(front: Frontier, chosen: Point | None = None) -> dict[str, Any]:
    """All points tried, and the one chosen."""
    frame = front.to_frame()
    return {
        **{k: v for k, v in front.to_dict().items() if k not in ("points", "reference")},
        "frame": frame.to_dict(orient="records"),
        "points": [_slim(front.describe(point)) for point in front.points],
        "reference": [_slim(front.describe(point)) for point in front.reference],
        "chosen": None if chosen is None else _place(front, chosen),
        "flags": [] if chosen is None else list(front.remarks(chosen)),
    }


def _slim(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name != "counts"}


def _place(front: Frontier, chosen: Point) -> int | None:
    """Where the chosen point stands among those that are not dominated."""
    return next((i for i, point in enumerate(front.points) if point is chosen), None)


def repair_values(
    found: Repair, on_test: Mapping[str, Performance] | None = None
) -> dict[str, Any]:
    """Round by round; and what the networks are worth on test rows, where it is known."""
    return {
        "status": found.status.value,
        "delta": found.delta,
        "floor": found.floor,
        "rows": found.rows,
        "regression": found.regression,
        "flags": list(found.flags),
        "rounds": found.table().to_dict(orient="records"),
        "test": [
            {"name": name, "rows": each.rows, **each.figures()}
            for name, each in (on_test or {}).items()
        ],
        "certificate": certificate_values(found.certificate),
    }


KINDS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (Audit, "audit", audit_to_dict),
    (RegressionAudit, "numbers", RegressionAudit.to_dict),
    (Debiased, "result", result_values),
    (Effects, "effects", Effects.to_dict),
    (Frontier, "frontier", frontier_values),
    (Certificate, "certificate", certificate_values),
    (Curve, "curve", curve_values),
    (Repair, "repair", repair_values),
)
