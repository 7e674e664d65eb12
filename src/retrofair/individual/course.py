"""Which round of a repair comes next: lam falls until the target is met, then part of the way back.

Everything follows from the rounds that are there, so that a resumed repair goes the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from retrofair.certifiers import Verdict
from retrofair.individual.repaired import RepairStatus, Round

FALL = 0.5  # lam from one fine-tuning to the next: halved, the difference weighs ever more
ROOM = 0.5  # of the target: where not even that much is found, more was taken than was asked
CLOSE = 0.1  # two lam this near to each other, relative to the larger, have nothing between them


class Next(NamedTuple):
    """The next fine-tuning: its weight of the loss, and the round it starts from."""

    lam: float
    start: int


def following(done: Sequence[Round], lam: float, delta: float) -> Next | None:
    """The fine-tuning after these rounds (the original first); None where it is over."""
    if done[0].below or done[0].verdict is Verdict.FAIR:
        return None
    met = [r for r in done if r.verdict is Verdict.FAIR]
    if done[-1].below and done[-1].verdict is not Verdict.FAIR:
        return None  # more fairness would cost even more
    if not met:
        return Next(lam * FALL ** (len(done) - 1), done[-1].number)
    return _back(done, max(met, key=_lam), delta)


def _back(done: Sequence[Round], met: Round, delta: float) -> Next | None:
    """Between the last lam that fails and the first that meets, where there is something to win."""
    failing = [r for r in done if r.verdict is not Verdict.FAIR and _lam(r) > _lam(met)]
    if not failing:
        return None
    nearest = min(failing, key=_lam)
    if _lam(nearest) - _lam(met) <= CLOSE * _lam(nearest):
        return None
    most = max(r.performance.worth for r in done if r.verdict is not Verdict.FAIR)
    lost = not any(r.performance.worth >= most for r in done if meets(r))
    if not (met.below or (met.lower < ROOM * delta and lost)):
        return None
    return Next((_lam(nearest) + _lam(met)) / 2, nearest.number)


def meets(r: Round) -> bool:
    """Whether the target is proved at a performance not below the floor."""
    return r.verdict is Verdict.FAIR and not r.below


def best_of(done: Sequence[Round]) -> Round:
    """The round to return.

    Of those that meet the target the one with the best performance; where none does, of those not
    below the floor the one with the smallest proved bound; else the original.
    """
    if good := [r for r in done if meets(r)]:
        return max(good, key=lambda r: (r.performance.worth, -r.upper))
    return min([r for r in done if not r.below] or done[:1], key=lambda r: r.upper)


def status_of(done: Sequence[Round], otherwise: RepairStatus) -> RepairStatus:
    """How a repair with these rounds ended; `otherwise` where they do not say it."""
    if any(meets(r) for r in done):
        return RepairStatus.MET
    if otherwise is RepairStatus.INTERRUPTED:
        return otherwise
    return RepairStatus.FLOOR if any(r.below for r in done) else otherwise


def _lam(r: Round) -> float:
    """The original was trained on the loss alone, as with lam = 1."""
    return 1.0 if r.lam is None else r.lam
