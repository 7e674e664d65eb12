"""Effects of three classes and more in plain words; see `effects_text`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from retrofair.debiasers import effects_text as two

if TYPE_CHECKING:  # they call `sentences_of_classes`
    from retrofair.debiasers.effects import Effects, RateChange

WORSE, BETTER, DECIDED = 3, 2, 2  # how many are named


def sentences_of_classes(effects: Effects) -> list[str]:
    """At most eight lines, the most important first."""
    return [
        _bias(effects),
        _worse(effects),
        *_better(effects),
        *_decided(effects),
        *two.measures(effects),
        *two.proxies(effects),
        *two.few(effects),
    ]


def _bias(effects: Effects) -> str:
    own = effects.bias
    if not own.bias < 0:
        return f"{effects.measure} did not fall: {two.moves(own)}; it is of the worst class."
    noise = " That fall is within sampling error." if own.high >= 0 else ""
    return f"{effects.measure} fell: {two.moves(own)}; it is of the worst class.{noise}"


def _worse(effects: Effects) -> str:
    found = effects.worse
    if not found:
        return "No group's rate got worse beyond sampling error."
    text = "; ".join(map(_moved, found[:WORSE]))
    return f"Worse: {text}{two.more(found, WORSE)}."


def _better(effects: Effects) -> list[str]:
    found = [each for each in effects.rates if each.gain > 0 and each.clear]
    found.sort(key=lambda each: -each.gain)
    if not found:
        return []
    text = "; ".join(map(_moved, found[:BETTER]))
    return [f"Better: {text}{two.more(found, BETTER)}."]


def _decided(effects: Effects) -> list[str]:
    """Which groups are decided for which class more or less often."""
    found = [each for each in effects.rates if each.rate == "selection_rate" and each.clear]
    found.sort(key=lambda each: -abs(each.change))
    if not found:
        return []
    text = "; ".join(f"{each.group}, {each.label} {_change(each)}" for each in found[:DECIDED])
    return [f"Share decided for a class: {text}{two.more(found, DECIDED)}."]


def _moved(change: RateChange) -> str:
    return f"{change.group}, {two.rate_of(change)} {_change(change)}"


def _change(change: RateChange) -> str:
    text = f"{change.before:.3f} to {change.after:.3f} ({change.change:+.3f}"
    limits = "" if math.isnan(change.low) else f" [{change.low:+.3f}, {change.high:+.3f}]"
    return f"{text}{limits})"
