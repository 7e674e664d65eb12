"""What can be asked of a repair: one clear error for what cannot be meant."""

from __future__ import annotations

import math
import numbers

from retrofair.certifiers.question import Question
from retrofair.errors import InputError


def check_wishes(
    delta: float,
    floor: float | None,
    rounds: int,
    lam: float,
    *,
    regression: bool | None = None,
    most: float = math.inf,
) -> None:
    """Refuse what cannot be meant.

    Args:
        regression: whether the floor is a mean squared error; None where that is not known yet.
        most: the largest difference there can be between two answers.
    """
    if not _number(delta) or not 0 < delta < math.inf:
        raise InputError(
            f"expected a target above 0, got {delta!r} (--delta): only a constant has difference 0"
        )
    if delta >= most:
        what = "probabilities" if most == 1 else "answers of this network"
        raise InputError(
            f"expected a target below {most:g}, got {delta:g} (--delta): no two {what} differ by "
            "more than that, so there is nothing to prove"
        )
    top = 1 if regression is False else math.inf
    if floor is not None and not (_number(floor) and 0 < floor < top):
        raise InputError(
            "expected as the floor a balanced accuracy in (0, 1), or for regression a mean "
            f"squared error above 0, got {floor!r} (--floor)"
        )
    whole = isinstance(rounds, numbers.Integral) and not isinstance(rounds, bool)
    if not whole or rounds < 1:
        raise InputError(f"expected at least one round, got {rounds!r} (--rounds)")
    if not _number(lam) or not 0 <= lam <= 1:
        raise InputError(f"expected lam in [0, 1], got {lam!r} (--lam)")


def largest_difference(question: Question) -> float:
    """The largest difference that two answers can have: 1 for probabilities, inf for values."""
    return math.inf if question.kind == "values" else float(question.scale.max())


def _number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
