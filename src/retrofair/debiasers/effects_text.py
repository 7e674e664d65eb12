"""Effects in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they call `sentences`
    from retrofair.debiasers.effects import Effects, GroupAuc, MeasureChange, RateChange

LEVELLING = {
    "full": "Levelling down: {name} fell only because groups lost; none gained in {rates} beyond "
    "sampling error.",
    "partial": "Partly levelling down: {name} fell more by what the best-off group lost in {rates} "
    "than by what the worst-off gained.",
    "unclear": "Perhaps levelling down: groups lost in {rates}, and the data do not tell whether "
    "any gained.",
    "no": "No levelling down: {name} fell, and the best-off group lost no more in {rates} than the "
    "worst-off gained.",
}
NOBODY = "No levelling down: {name} fell, and no group lost in {rates} beyond sampling error."
GROUPS, WORSE, MEASURES, FEW = 2, 3, 2, 3  # how many are named


def sentences(effects: Effects) -> list[str]:
    """At most eight lines, with several constraints nine, the most important first."""
    return [
        _levelling(effects),
        *_constraints(effects),
        *_gaps(effects),
        *_worse(effects),
        *measures(effects),
        *proxies(effects),
        *few(effects),
    ]


def _levelling(effects: Effects) -> str:
    fell, several = effects.fell, len(effects.aimed) > 1
    if not fell:
        if several:
            return f"None of {_and(each.name for each in effects.aimed)} fell."
        return f"{effects.measure} did not fall: {moves(effects.bias)}."
    lost = any(each.rate in effects.judged for each in effects.worse)
    text = LEVELLING[effects.levelling_down] if lost else NOBODY
    rates, names = _and(map(plain, effects.judged)), _and(each.name for each in fell)
    noisy = [each.name for each in fell if each.high >= 0]
    which = f"The fall of {_and(noisy)}" if several else "That fall"
    noise = f" {which} is within sampling error." if noisy else ""
    return text.format(name=names, rates=rates) + noise


def _constraints(effects: Effects) -> list[str]:
    """Each of several constraints by itself: what grew before what fell."""
    if len(effects.aimed) < 2:
        return []
    ways = {
        "grew": [each for each in effects.aimed if each.bias > 0],
        "fell": list(effects.fell),
        "stayed": [each for each in effects.aimed if not each.bias > 0 and not each.bias < 0],
    }
    said = [
        f"whose bias {way}: {', '.join(map(moves, found))}" for way, found in ways.items() if found
    ]
    return [f"Constraints {'; '.join(said)}."]


def _gaps(effects: Effects) -> list[str]:
    """What happened to the two groups that stood furthest apart, in the rates compared."""
    lines = []
    for rate in effects.compared[:2]:
        known = [e for e in effects.rates if e.rate == rate and not math.isnan(e.change)]
        known.sort(key=lambda each: each.gain)
        shown = known if len(known) <= GROUPS else [known[0], known[-1]]
        if shown:
            others = f"; {len(known) - len(shown)} groups between" if len(known) > GROUPS else ""
            lines.append(f"{plain(rate).capitalize()}: {'; '.join(map(moved, shown))}{others}.")
    return lines


def _worse(effects: Effects) -> list[str]:
    found = [each for each in effects.worse if each.rate not in effects.compared[:2]]
    if not found:
        return []
    text = "; ".join(f"{each.group}, {plain(each.rate)} {_change(each)}" for each in found[:WORSE])
    return [f"Also worse: {text}{more(found, WORSE)}."]


def measures(effects: Effects) -> list[str]:
    """Other measures whose bias grew or fell."""
    lines = []
    for grew, word in ((True, "grew"), (False, "fell")):
        found = [each for each in effects.moved if (each.bias > 0) == grew]
        found = _distinct(found if grew else found[::-1], effects.aimed)
        if found:
            text = "; ".join(moves(each) for each in found[:MEASURES])
            lines.append(f"Other bias that {word}: {text}{more(found, MEASURES)}.")
    if not any(each.bias > 0 for each in effects.moved):
        lines.insert(0, "No other bias measured grew beyond sampling error.")
    return lines[:2]


def proxies(effects: Effects) -> list[str]:
    """What the score tells of the group, and what else decides by it."""
    before, after = effects.tells("score_before"), effects.tells("score_after")
    inner = effects.tells("inner_estimate")
    if before is None or after is None:
        return []
    same = (after.value, after.label) == (before.value, before.label)
    was = "as before" if same else f"before, {_scored(before) if before.label else _told(before)}"
    text = f"Proxies: {_scored(after)} ({was}; 0.5 tells nothing)"
    if inner is not None:
        text += f"; inside, the head infers {_told(inner)}, and decides by it"
    if effects.needs_group:
        text += "; the rule is told each row's group besides"
    return [text + "."]


def few(effects: Effects) -> list[str]:
    """Rates of which the rows are too few to tell."""
    found = effects.too_few
    if not found:
        return []
    text = "; ".join(f"{e.group}, {rate_of(e)} ({e.rows:,} rows)" for e in found[:FEW])
    return [f"Too few rows to tell: {text}{more(found, FEW)}."]


def moved(change: RateChange) -> str:
    """A group and how its rate moved."""
    few = ", too few rows to tell" if change.few else ""
    return f"{change.group} {change.before:.3f} to {change.after:.3f} ({_change(change)}{few})"


def plain(name: str) -> str:
    """A rate's name as words."""
    return name.replace("_", " ")


def rate_of(change: RateChange) -> str:
    """The rate's name, and of which class."""
    name = plain(change.rate)
    return f"{name} of class {change.label}" if change.label else name


def _change(change: RateChange | MeasureChange, name: str = "change") -> str:
    value = getattr(change, name)
    if math.isnan(change.low):
        return f"{value:+.3f}"
    return f"{value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def moves(change: MeasureChange) -> str:
    """Both values as they are, with a sign where one is below 0, and how much the bias grew."""
    sign = "+" if min(change.before, change.after) < 0 else ""
    values = f"{change.before:{sign}.3f} to {change.after:{sign}.3f}"
    return f"{change.name} {values} (size of the bias {_change(change, 'bias')})"


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)


def _distinct(found: Sequence[MeasureChange], own: Sequence[MeasureChange]) -> list[MeasureChange]:
    """Without those that say what another says: with two groups many measures are the same."""
    kept: list[MeasureChange] = []
    for each in found:
        if all(
            not (
                math.isclose(each.bias, other.bias, abs_tol=1e-12)
                and math.isclose(abs(each.before), abs(other.before), abs_tol=1e-12)
            )
            for other in (*own, *kept)
        ):
            kept.append(each)
    return kept


def more(found: Sequence[object], shown: int) -> str:
    """How many are not named."""
    return f"; {len(found) - shown} more" if len(found) > shown else ""


def _scored(auc: GroupAuc) -> str:
    of = f" of class {auc.label}" if auc.label else ""
    return f"the score{of} tells {_told(auc)}"


def _told(auc: GroupAuc) -> str:
    """An area; turned round where the group's numbers are the lower ones."""
    value, low, high = auc.value, auc.low, auc.high
    if value < 0.5:
        value, low, high = 1 - value, 1 - high, 1 - low
    return f"{auc.group} with AUC {value:.2f} [{low:.2f}, {high:.2f}]"
