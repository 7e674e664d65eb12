"""A certificate in words: what is proved, what was found, and what it rests on."""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retrofair.certifiers.certificate import TIERS, Certificate, Verdict
from retrofair.certifiers.empirical import EmpiricalDelta

SATURATED = 0.99  # an upper bound on a difference of probabilities that says (almost) nothing
NARROW = 0.01  # a relative gap below which the upper bound is the truth, however near 1
BASIS = {
    "rigorous": "rigorous",
    "float64": "double precision",
    "solver": "within the solver's tolerances",
}
STOPPED = {
    "gap": "the interval is as narrow as was asked (--gap, --absolute-gap)",
    "target": "the question is decided; the interval is left as it was then",
    "time": "the time was up (--seconds)",
    "interrupted": "interrupted; this is what was proved until then",
    "finished": "the method has no more to do; another --method may narrow the interval",
}


def up(value: float, digits: int = 4) -> str:
    """A bound from above with a few digits, rounded upward: never less than what is proved.

    >>> up(0.40001), up(1.0), up(54009.387), up(0.0)
    ('0.4001', '1', '54010', '0')
    """
    return _rounded(value, digits, decimal.ROUND_CEILING)


def down(value: float, digits: int = 4) -> str:
    """A bound from below with a few digits, rounded downward."""
    return _rounded(value, digits, decimal.ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return "-"
    context = decimal.Context(prec=digits, rounding=rounding)
    exact = context.create_decimal_from_float(value)
    shown = f"{exact:f}" if not exact or abs(exact) >= decimal.Decimal("1e-4") else f"{exact:e}"
    return shown.rstrip("0").rstrip(".") if "." in shown and "e" not in shown else shown


def headline(found: Certificate) -> str:
    """The result in one sentence."""
    basis = f"certified, {BASIS[found.tier]}"
    if found.threshold is not None:
        return {
            Verdict.FAIR: f"No two similar people get different decisions at the threshold "
            f"{found.threshold:g} ({basis}).",
            Verdict.UNFAIR: f"Two similar people get different decisions at the threshold "
            f"{found.threshold:g}: the pair below.",
            Verdict.UNKNOWN: "Not decided: no two similar people with different decisions at the "
            f"threshold {found.threshold:g} were found, but it is not proved that there are none.",
        }[found.verdict]
    where = scale_words(found)
    pair = (
        f"the worst pair found differs by {down(found.lower)}"
        if found.witness is not None
        else "no pair was found"
    )
    if not math.isfinite(found.upper):
        return f"Nothing is proved: no bound was reached; {pair} {where}."
    if found.upper <= 0:
        return f"All similar people get the same answer ({basis})."
    if empty(found):
        return (
            f"No useful upper bound: two similar people may differ by up to {up(found.upper)} "
            f"{where}, as far as is proved; {pair}."
        )
    return f"No two similar people differ by more than {up(found.upper)} {where} ({basis}); {pair}."


def scale_words(found: Certificate) -> str:
    """What a difference is one of."""
    return "in probability" if found.outputs == "probabilities" else "in the network's output"


def empty(found: Certificate) -> bool:
    """Whether the upper bound is hardly below the largest difference of two probabilities."""
    return found.outputs == "probabilities" and found.upper >= SATURATED and found.gap > NARROW


def verdict_lines(found: Certificate) -> list[tuple[str, str]]:
    """The verdict, where something was asked."""
    if found.threshold is not None:
        lines = [("verdict", f"{found.verdict}: can a decision flip at {found.threshold:g}?")]
        if found.margin is not None:
            low, high = found.margin
            lines.append(
                (
                    "margin",
                    f"{down(low)} to {up(high)}: how far a similar pair's "
                    + ("outputs" if found.outputs == "values" else "logits")
                    + " reach on both sides of the threshold; below 0 no decision can flip",
                )
            )
        return lines
    if found.delta is None:
        return []
    why = {
        Verdict.FAIR: f"no two similar people differ by more than delta = {found.delta:g}",
        Verdict.UNFAIR: f"the pair below differs by more than delta = {found.delta:g}",
        Verdict.UNKNOWN: f"delta = {found.delta:g} lies between the two bounds; more --seconds or "
        "another --method may decide it",
    }
    return [("verdict", f"{found.verdict}: {why[found.verdict]}")]


def basis_lines(found: Certificate) -> list[tuple[str, str]]:
    """What the upper bound rests on, and why it is no better."""
    why = "the tolerances" if found.tier == "solver" else "rounding"
    slack = f"; {found.slack:.1g} was added for {why}" if found.slack else ""
    return [
        ("tier", f"{found.tier}: {TIERS[found.tier]}{slack}"),
        ("method", f"{found.method}, {found.seconds:.1f} s; {STOPPED[found.stopped]}"),
    ]


@dataclass(frozen=True)
class IntervalLine:
    """One figure of the largest difference, with what it says."""

    name: str
    value: str
    logit: str
    meaning: str


def interval_lines(
    found: Certificate, seen: EmpiricalDelta | None, rows: int
) -> list[IntervalLine]:
    """Three different things, one a line: seen in the data, found by search, proved."""
    deciding = found.threshold is not None
    lines = []
    if seen is not None:
        if seen.first is None:
            meaning = f"no two of the {rows:,} rows of the data are similar"
        else:
            meaning = f"between two similar rows, over all pairs of the {rows:,} rows of the data"
            meaning += ", whatever their decisions" if deciding else ""
        lines.append(IntervalLine("in the data", _plain(seen.delta), "", meaning))
    which = " and with different decisions" if deciding else ""
    pair = found.witness is not None and (not deciding or found.verdict is Verdict.UNFAIR)
    other = " (another pair)" if pair and _of_another_pair(found) else ""
    return [
        *lines,
        IntervalLine(
            "found (lower bound)",
            down(found.lower) if pair else "-",
            f"{down(found.lower_logit)}{other}" if pair else "-",
            f"between two possible people who are similar{which}"
            if pair
            else f"no such pair{which}",
        ),
        IntervalLine(
            "certified (upper bound)",
            up(found.upper),
            up(found.upper_logit),
            f"no two possible people who are similar{which} differ by more",
        ),
        IntervalLine(
            "gap", f"{found.gap:.2%}", f"{found.gap_logit:.2%}", "(upper - lower) / upper"
        ),
    ]


@dataclass(frozen=True)
class PairLine:
    """A feature of both people of a pair."""

    feature: str
    first: str
    second: str
    differs: bool
    mark: str


def pair_lines(found: Certificate) -> list[PairLine]:
    """The two people side by side, what differs first."""
    lines = []
    for feature, first, second, differs, role in found.table().itertuples(index=False):
        mark = "yes, free to" if differs and role else differs
        if role and not differs:
            mark = "free to, but equal"
        lines.append(PairLine(feature, first, second, bool(differs), mark))
    return sorted(lines, key=lambda line: not line.differs)


def pair_title(found: Certificate) -> str:
    """What the pair is, and how far apart."""
    title = "The worst pair found"
    if found.threshold is not None and found.verdict is not Verdict.UNFAIR:
        title = "The pair nearest to different decisions"
    if found.distance is not None:
        title += f", at distance {found.distance:.4g}"
    return title


def answer_lines(
    found: Certificate, answers: Sequence[tuple[str, Any]]
) -> list[tuple[str, list[str]]]:
    """What the network says of both, and with a threshold what is decided.

    Args:
        answers: a name and the (2, K) values; the decision follows from the last.
    """
    lines = [(name, [_numbers(row) for row in values]) for name, values in answers]
    if found.threshold is not None and found.scores is not None:
        lines.append(("decision", decisions(found, answers)))
    return lines


def decisions(found: Certificate, answers: Iterable[tuple[str, Any]]) -> list[str]:
    """Positive or negative, for both people, by the last of the answers."""
    assert found.threshold is not None
    *_, (_, values) = answers
    return ["positive" if float(row[0]) > found.threshold else "negative" for row in values]


def _numbers(row: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in row.tolist())


def _plain(value: float) -> str:
    return "-" if value != value else f"{value:.4g}"


def _of_another_pair(found: Certificate) -> bool:
    """Whether the largest difference of logits was found between others than the witness."""
    if found.scores is None or found.outputs != "probabilities":
        return False
    first, second = (score.double() for score in found.scores)
    if len(first) != 1 or bool(((first >= 0) & (first <= 1)).all()):  # no logits shown
        return False
    return float((second - first).abs().max()) < found.lower_logit * (1 - 1e-4)
