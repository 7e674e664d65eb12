"""What debiasing did: whose rates got worse, what else moved, and what tells the group."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from retrofair.debiasers.effects_text import sentences
from retrofair.debiasers.effects_text_classes import sentences_of_classes
from retrofair.errors import unknown
from retrofair.metrics import LEVEL, Array, Measure, Several, WorstClass, bias_change, intervals
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.metrics.rates import FPR, SELECTION, TPR

Levelling = Literal["no", "partial", "full", "unclear", "not judged"]
# by the label that is good for a person: 1 where more of a rate is better for the group, -1 where
# less is; precision is for whoever decides, and falls by itself when more are selected. Where label
# 1 is bad, more true positives are no gain to those they are found among
BETTER = {
    "selection_rate": 1,
    "true_positive_rate": 1,
    "false_positive_rate": -1,
    "accuracy": 1,
}
BETTER_OF = {1: BETTER, 0: {"selection_rate": -1, "false_positive_rate": -1, "accuracy": 1}}


@dataclass(frozen=True)
class RateChange:
    """A group's rate before and after on the same rows; nan where it has no value.

    Args:
        change: after minus before.
        low, high: its 95 % interval from the pairs of decisions, for all groups of a rate at once.
        rows: that the rate is a share of; the fewer of before and after.
        favourable: the label that is good for a person, 0 or 1.
        label: the class, one against the rest; "" of labels 0/1, and of a rate of all classes.
    """

    group: str
    rate: str
    before: float
    after: float
    change: float
    low: float
    high: float
    rows: int
    favourable: int = 1
    label: str = ""

    @property
    def way(self) -> int:
        """1 where more of the rate is better for the group, -1 where less is, 0 where neither: as
        to be decided for one of many classes, of which none is taken as the good one."""
        if self.label and self.rate == SELECTION.name:
            return 0
        return BETTER_OF[self.favourable].get(self.rate, 0)

    @property
    def gain(self) -> float:
        """The change, positive where it is good for the group; 0 for a rate without direction."""
        return self.way * self.change

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def few(self) -> bool:
        """Whether there are too few rows to tell: fewer than 30, and an interval around 0."""
        return self.rows < FEW_ROWS and not self.clear

    @property
    def gain_high(self) -> float:
        """The most that the group may have gained, by the interval."""
        return self.high if self.way > 0 else -self.low


@dataclass(frozen=True)
class MeasureChange:
    """A fairness measure before and after.

    Args:
        before, after: its values, signed where they are; of K classes those of the worst class.
        bias: how much the bias grew; below 0 where it fell.
        low, high: its 95 % interval, from the pairs of decisions (see `metrics.bias_change`); nan
            for a caller's own measure. It covers 92 % or more of the time, also where the bias is
            all but 0 before or after, when it is wider; less (84 to 93 %) only for the ratio of
            equalized odds, and where four groups or more are all alike before or after. nan also
            for very many groups and classes. Of three classes see `metrics.bias_change`.
    """

    name: str
    before: float
    after: float
    bias: float
    low: float
    high: float

    @classmethod
    def of(cls, measure: Measure, was: Array, now: Array, pairs: Array | None) -> MeasureChange:
        """From counts before and after, and those of the pairs; without pairs no interval."""
        bias = float(measure.bias(now) - measure.bias(was))
        low = high = math.nan
        if pairs is not None and bias_change.has_interval(measure) and math.isfinite(bias):
            z = intervals.quantile(LEVEL)
            low, high = bias_change.change_limits(measure, pairs, z)
        return cls(measure.name, float(measure(was)), float(measure(now)), bias, low, high)


@dataclass(frozen=True)
class Aim:
    """A measure whose bias was to be lowered.

    Args:
        compared: the rates by which groups are judged to gain or lose where it falls.
    """

    name: str
    compared: tuple[str, ...]


@dataclass(frozen=True)
class GroupAuc:
    """How well a number tells a group from all others: the area under the ROC curve, 0.5 nothing.

    Args:
        of: "score_before", "score_after", or "inner_estimate" (what a fair head thinks of the
            group, which it decides by).
        label: the class whose score it is; its interval holds for all classes at once.
    """

    of: str
    group: str
    value: float
    low: float
    high: float
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What decisions after debiasing do, beside those before, on the same rows.

    Where label 1 is good for a person (`favourable` is 1), a lower selection or true positive
    rate is a loss to the group, a higher false positive rate one to those it is wrong about.
    Where it is bad, as in COMPAS (`favourable` is 0), a higher selection or false positive rate
    is the loss, and the true positive rate has no direction. Of three classes or more none is
    taken as favourable: there are the rates of each class against the rest, where being decided
    for the own class less often, or wrongly for it more often, is a loss, and each group's
    accuracy.

    Args:
        measure: the measure of bias that was to be lowered; of several constraints all names.
        compared: the rates by which groups are judged to gain or lose: those that the measure
            compares. Of true and false positive rates only that of people whose own label is the
            favourable one counts (the former where it is 1), as everybody "gains" in the other
            from fewer favourable decisions: a measure of the other alone, and a caller's own, is
            judged by selection.
        rates: of every group.
        measures: all of them, and the caller's own.
        group_auc: by number and group.
        rows_seen: whether the method had seen these rows when it decided on them.
        needs_group: whether the decisions after take each row's own group.
        favourable: the label that is good for a person, 0 or 1.
        aims: each of several constraints, or the measure alone; empty in results of earlier
            versions.
        classes: their names, or codes, where there are three or more; otherwise none.
    """

    measure: str
    compared: tuple[str, ...]
    rates: tuple[RateChange, ...]
    measures: tuple[MeasureChange, ...]
    group_auc: tuple[GroupAuc, ...]
    rows_seen: bool
    needs_group: bool
    favourable: int = 1
    aims: tuple[Aim, ...] = ()
    classes: tuple[str, ...] = ()

    def of(self, group: str, rate: str, label: str = "") -> RateChange:
        """One group's rate; with three classes or more of a class, but for the accuracy.

        Raises:
            InputError: there is no such group, rate or class.
        """
        for each in self.rates:
            if (each.group, each.rate, each.label) == (group, rate, label):
                return each
        if group not in (groups := [each.group for each in self.rates]):
            raise unknown("group", group, list(dict.fromkeys(groups)))
        labels = {e.label: None for e in self.rates if (e.group, e.rate) == (group, rate)}
        if labels:
            raise unknown("class", label, list(labels))
        raise unknown("rate", rate, list(dict.fromkeys(each.rate for each in self.rates)))

    @property
    def bias(self) -> MeasureChange:
        """The change of the measure that was to be lowered; of several, of the one nearest its
        bound or furthest beyond it, which may be another before than after."""
        return next(each for each in self.measures if each.name == self.measure)

    @property
    def aimed(self) -> tuple[MeasureChange, ...]:
        """The change of each measure that was to be lowered."""
        names = [each.name for each in self.aims]
        found = [next(m for m in self.measures if m.name == name) for name in names]
        return tuple(found) or (self.bias,)

    @property
    def fell(self) -> tuple[MeasureChange, ...]:
        """Those of `aimed` whose bias fell."""
        return tuple(each for each in self.aimed if each.bias < 0)

    @property
    def judged(self) -> tuple[str, ...]:
        """The rates by which levelling down is judged: those compared by what fell."""
        if not self.aims:
            return self.compared
        fell = [each.name for each in self.fell]
        rates = [rate for aim in self.aims if aim.name in fell for rate in aim.compared]
        return tuple(dict.fromkeys(rates))

    @property
    def worse(self) -> tuple[RateChange, ...]:
        """Rates that got worse for a group beyond sampling error, the worst first."""
        found = [each for each in self.rates if each.gain < 0 and each.clear]
        return tuple(sorted(found, key=lambda each: each.gain))

    @property
    def too_few(self) -> tuple[RateChange, ...]:
        """Rates with a direction, of groups with too few rows to tell; those compared first."""
        found = [each for each in self.rates if each.few and each.way]
        return tuple(sorted(found, key=lambda each: each.rate not in self.compared))

    @property
    def moved(self) -> tuple[MeasureChange, ...]:
        """Other measures whose bias changed beyond sampling error, what grew most first."""
        own = {self.measure, *(each.name for each in self.aims)}
        found = [m for m in self.measures if m.name not in own and (m.low > 0 or m.high < 0)]
        return tuple(sorted(found, key=lambda each: -each.bias))

    @property
    def levelling_down(self) -> Levelling:
        """Whether the bias fell by taking from some groups rather than by giving to others.

        "full": a group lost beyond sampling error and none gained, in no rate compared.
        "partial": some gained, but the group that was best off lost more than the worst off
        gained. "unclear": none gained beyond sampling error, yet one may have gained as much as
        was lost. "no": none of these, or the bias did not fall. Of several constraints those that
        fell are judged, by the rates that they compare. "not judged": there are three classes or
        more, none of which is taken as favourable.

        Reference:
            Mittelstadt, Wachter and Russell (2023), The unfairness of fair machine learning:
            levelling down and strict egalitarianism by default.
        """
        if self.classes:
            return "not judged"
        if not self.fell:
            return "no"
        found = [self._levelling(self._known(rate)) for rate in self.judged]
        return next(
            (each for each in ("no", "partial", "unclear") if each in found),
            found[0] if found else "no",
        )

    def _known(self, rate: str) -> list[RateChange]:
        """The groups' changes of a rate that can be judged."""
        known = [e for e in self.rates if e.rate == rate and not math.isnan(e.change)]
        enough = [each for each in known if each.rows >= FEW_ROWS]
        return enough if len(enough) >= 2 else known

    def _levelling(self, changes: list[RateChange]) -> Levelling:
        lost = [each for each in changes if each.gain < 0 and each.clear]
        if len(changes) < 2 or not lost:
            return "no"
        if not any(each.gain > 0 and each.clear for each in changes):
            largest = max(-each.gain for each in lost)
            possible = max(each.gain_high for each in changes)
            return "unclear" if possible >= largest else "full"
        way = changes[0].way
        first = max(changes, key=lambda each: way * each.before)
        last = min(changes, key=lambda each: way * each.before)
        return "partial" if first.clear and -first.gain > max(last.gain, 0) else "no"

    def tells(self, of: str) -> GroupAuc | None:
        """The group that a number tells best; None where there is no such number."""
        found = [e for e in self.group_auc if e.of == of and not math.isnan(e.value)]
        return max(found, key=lambda e: (round(abs(e.value - 0.5), 9), e.value), default=None)

    def rates_frame(self) -> pd.DataFrame:
        """One row per group and rate, with three classes or more also per class ("label")."""
        found = _frame(self.rates, ["group", "rate"], bool(self.classes))
        return found.drop(columns="favourable", errors="ignore")

    def measures_frame(self) -> pd.DataFrame:
        """One row per measure."""
        return _frame(self.measures, ["name"])

    def group_auc_frame(self) -> pd.DataFrame:
        """One row per number and group, with three classes or more also per class ("label")."""
        return _frame(self.group_auc, ["of", "group"], bool(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, with what follows from it, ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "worse": [dataclasses.asdict(each) for each in self.worse],
            "moved": [each.name for each in self.moved],
            "levelling_down": self.levelling_down,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Effects:
        """Read what `to_dict` wrote, also after JSON, where nan and infinity are null."""
        return cls(
            measure=values["measure"],
            compared=tuple(values["compared"]),
            rates=tuple(_read(RateChange, each) for each in values["rates"]),
            measures=tuple(_read(MeasureChange, each) for each in values["measures"]),
            group_auc=tuple(_read(GroupAuc, each) for each in values["group_auc"]),
            rows_seen=values["rows_seen"],
            needs_group=values["needs_group"],
            favourable=values.get("favourable", 1),
            aims=tuple(
                Aim(each["name"], tuple(each["compared"])) for each in values.get("aims", ())
            ),
            classes=tuple(values.get("classes", ())),
        )

    def sentences(self, most: int = 9) -> list[str]:
        """Plain lines, the most important first: at most eight, with several constraints nine."""
        return (sentences_of_classes(self) if self.classes else sentences(self))[:most]


def compared_by(measure: Measure, favourable: int = 1) -> tuple[str, ...]:
    """The names of the rates by which groups are judged, see `Effects`."""
    if isinstance(measure, Several):
        found = [name for each in measure.measures for name in compared_by(each, favourable)]
        return tuple(dict.fromkeys(found))
    if isinstance(measure, WorstClass):
        return compared_by(measure.measure, favourable)
    rates = getattr(measure, "rates", (SELECTION,))
    own, other = (TPR, FPR) if favourable else (FPR, TPR)
    if own in rates:
        rates = [rate for rate in rates if rate is not other]
    # precision has no direction, and everybody gains in the other rate from fewer favourable
    # decisions: whom a fairer one helps shows in who is selected
    way = BETTER_OF[favourable]
    names = [r.name if r.name in way and r is not other else SELECTION.name for r in rates]
    return tuple(dict.fromkeys(names))


def _read(kind: type[Any], values: Mapping[str, Any]) -> Any:
    return kind(**{name: math.nan if value is None else value for name, value in values.items()})


def _frame(rows: Iterable[Any], index: list[str], labelled: bool = False) -> pd.DataFrame:
    found = pd.DataFrame([dataclasses.asdict(each) for each in rows])
    if found.empty:
        return found
    if labelled:
        return found.set_index([*index, "label"])
    return found.drop(columns="label", errors="ignore").set_index(index)
