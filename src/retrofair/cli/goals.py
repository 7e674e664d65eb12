"""The options that say what to aim at, and the objective that they stand for."""

from __future__ import annotations

from typing import Annotated

import typer

from retrofair import metrics
from retrofair.errors import InputError
from retrofair.objective import EPSILON, Constrained, Objective, Weighted

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
