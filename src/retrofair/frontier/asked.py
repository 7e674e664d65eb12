"""What a frontier is asked for: methods by name, bounds as goals, the two parts of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from numbers import Real

from retrofair import metrics
from retrofair.data import Rows
from retrofair.data.split import alike_in_parts, check_seed
from retrofair.debiasers import Debiaser
from retrofair.debiasers.run import check_data, resolve
from retrofair.errors import InputError
from retrofair.objective import Constrained, MeasureLike


def debiasers_by_name(methods: Sequence[str | Debiaser]) -> dict[str, Debiaser]:
    """Debiasers by name; those that share one show the options in which they are not usual."""
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise InputError(f"expected a list of methods, got {methods!r}")
    if not methods:
        raise InputError("expected at least one method, got none")
    found = [resolve(method) for method in methods]
    for i, each in enumerate(found):
        if each in found[:i]:
            raise InputError(
                f"expected different methods, got {each.name!r} with the same options twice"
            )
    counts: dict[str, Debiaser] = {}
    names = [each.name for each in found]
    for name, each in zip(names, found, strict=True):
        shown = name if names.count(name) == 1 else name + _unusual(each)
        number = 2
        while shown in counts:  # no dataclass, or options that look alike
            shown, number = f"{name}{_unusual(each)} {number}", number + 1
        counts[shown] = each
    return counts


def _unusual(debiaser: Debiaser) -> str:
    """(option=value, ...) where it is not the default; empty where all are."""
    if not is_dataclass(debiaser):
        return ""
    values = {f.name: getattr(debiaser, f.name) for f in fields(debiaser)}
    usual = {f.name: f.default for f in fields(debiaser)}
    shown = [f"{name}={value}" for name, value in values.items() if value != usual[name]]
    return f"({', '.join(shown)})" if shown else ""


def goals_of(
    measure: MeasureLike, bounds: Sequence[float], performance: str
) -> tuple[Constrained, ...]:
    """One objective per bound, the middle one first and then outwards."""
    if isinstance(measure, list | tuple):
        raise InputError(
            f"expected one measure for a frontier, which varies its bound, got {measure!r}"
        )
    if not isinstance(bounds, Iterable) or isinstance(bounds, str):
        raise InputError(f"expected a list of bounds, got {bounds!r} (bounds, --bounds)")
    goals = [Constrained(measure, epsilon, performance) for epsilon in bounds]
    goals.sort(key=lambda goal: -goal.epsilon)
    if not goals:
        raise InputError("expected at least one bound, got none (bounds, --bounds)")
    if len({goal.epsilon for goal in goals}) < len(goals):
        raise InputError(f"expected different bounds, got {list(bounds)} (bounds, --bounds)")
    middle = (len(goals) - 1) / 2
    return tuple(goals[i] for i in sorted(range(len(goals)), key=lambda i: abs(i - middle)))


def check_numbers(seconds: float | None, held_out: float) -> None:
    """Refuse a budget or a share out of range."""
    for name, number in (("seconds", seconds), ("held_out", held_out)):
        real = isinstance(number, Real) and not isinstance(number, bool)
        if not (real or (number is None and name == "seconds")):
            raise InputError(f"expected a number for {name}, got {number!r}")
    if seconds is not None and not 0 < seconds < math.inf:
        raise InputError(f"expected seconds above 0, or None, got {seconds!r} (seconds, --seconds)")
    if not 0 < held_out < 1:
        raise InputError(f"expected held_out in (0, 1), got {held_out!r} (held_out, --held-out)")


def parts_of(data: Rows, goal: Constrained, held_out: float, seed: int) -> tuple[Rows, Rows]:
    """The fitting part and the held-out part, after checking that the measure speaks of both."""
    if not isinstance(data, Rows):
        raise InputError(f"expected GroupedData, got {type(data).__name__}")
    classes = metrics.class_count(data.y.numpy())
    if classes > 2:
        raise InputError(
            f"expected labels 0/1 for a frontier, got {classes} classes: use debias with several "
            "bounds instead"
        )
    parts = alike_in_parts(data, held_out, check_seed(seed))
    for part, what in zip(parts, ("to fit on", "held out"), strict=True):
        where = f"of {len(data):,} rows {len(part):,} are {what}, held_out={held_out:g}"
        if not len(part):
            raise InputError(f"expected rows in both parts of the data: {where}")
        try:
            counts = check_data(part, goal)
            metrics.require(goal.bias_measure, counts, part.group_names)
        except InputError as error:
            raise InputError(f"{error} ({where})") from None
    return parts
