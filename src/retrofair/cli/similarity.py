"""Who counts as similar: a distance from the options of `retrofair certify`, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrofair.certifiers import (
    Continuous,
    Distance,
    Domain,
    Mahalanobis,
    OneHot,
    WeightedLp,
)
from retrofair.certifiers.distances import check_epsilon
from retrofair.certifiers.pairs import Pairs
from retrofair.cli import options as o
from retrofair.data import GroupedData
from retrofair.errors import InputError, unknown

P = {"l_inf": math.inf, "l_1": 1, "l_2": 2}
DISTANCES = (*P, "mahalanobis")
FACTORS = (0.0, 0.5, 1.0, 2.0)  # of epsilon: the curve that comes with --out
STEPS = (0.0, 0.1, 0.2, 0.4)  # the same where epsilon is 0
EQUAL = 1e-12  # of its range: less than float32 can tell, for a number that must be equal
VANISHING = 1e-9  # of the largest variance: a direction in which the rows do not vary
NAMED = 8  # features named in one line


@dataclass(frozen=True)
class Similarity:
    """Who counts as similar, as the options say.

    Args:
        weights, tolerances: by feature, or None; at most one of them.
        others: the epsilons of the curve besides; None where none were named.
    """

    name: str
    epsilon: float
    weights: dict[str, float] | None
    tolerances: dict[str, float] | None
    others: tuple[float, ...] | None

    @classmethod
    def of(
        cls,
        name: str,
        weight: str | None,
        tolerance: str | None,
        epsilon: float | None,
        curve: str | None,
        default: float,
    ) -> Similarity:
        """The options, checked as far as they can be without a domain.

        Raises:
            InputError: an unknown distance, numbers that are none or out of range, or options
                that exclude each other.
        """
        if name not in DISTANCES:
            raise unknown("distance", name, DISTANCES)
        if weight is not None and tolerance is not None:
            raise InputError("expected --weight or --tolerance, got both")
        if weight is not None and name == "mahalanobis":
            raise InputError("expected no --weight with --distance mahalanobis: it weighs itself")
        if tolerance is not None and name != "l_inf":
            raise InputError(f"expected --distance l_inf with --tolerance, got {name}")
        if epsilon is None:
            epsilon = default if tolerance is None else 1.0
        others = None
        if curve is not None:
            others = tuple(_number(part, "--curve") for part in o.commas(curve) or ())
            if not others:
                raise InputError(f"expected epsilons as 0,0.1,0.4, got {curve!r} (--curve)")
            for each in others:
                check_epsilon(each)
        return cls(
            name,
            check_epsilon(epsilon),
            None if weight is None else named_numbers(weight, "--weight"),
            None if tolerance is None else named_numbers(tolerance, "--tolerance"),
            others,
        )

    def epsilons(self, drawn: bool) -> list[float]:
        """Those of the curve, this one among them; only this one where none is drawn."""
        if self.others is not None:
            return sorted({*self.others, self.epsilon})
        if not drawn:
            return [self.epsilon]
        return sorted({f * self.epsilon for f in FACTORS}) if self.epsilon else list(STEPS)

    def distance(self, domain: Domain, rows: GroupedData | None) -> Distance:
        """The distance on a domain's columns.

        Raises:
            InputError: a name is unknown, or there are no rows for the covariance.
        """
        if self.name == "mahalanobis":
            return inverse_covariance(domain, rows)
        if self.tolerances is not None:
            return WeightedLp(math.inf, self._tolerated(domain))
        return WeightedLp(P[self.name], 1.0 if self.weights is None else self.weights)

    def _tolerated(self, domain: Domain) -> dict[str, float]:
        """Weights by feature: 1 / tolerance, and for what must be equal so much that it is."""
        tolerances = dict(self.tolerances or {})
        top = max(self.epsilons(drawn=True)) or 1.0
        weights = {}
        for feature in domain.features:
            allowed = tolerances.pop(feature.name, 0.0)
            if allowed > 0:
                weights[feature.name] = 1 / allowed
            elif isinstance(feature, Continuous) and feature.high > feature.low:
                weights[feature.name] = top / (EQUAL * (feature.high - feature.low))
            else:
                weights[feature.name] = 2 * top
        for name in tolerances:
            raise unknown("feature", name, [feature.name for feature in domain.features])
        return domain.in_own_units(weights)

    def words(self, domain: Domain) -> str:
        """The distance in words."""
        kind = {
            "l_inf": "the largest difference of any feature (l_inf)",
            "l_1": "the sum of the differences (l_1)",
            "l_2": "the Euclidean distance (l_2)",
            "mahalanobis": "the Mahalanobis distance",
        }[self.name]
        units = "numbers in standard deviations"
        if self.tolerances is not None:
            units = "numbers in tolerances"
        elif self.name == "mahalanobis":
            units = "inverse covariance of the data"
        elif bool((domain.spread == 1).all()):
            units = "numbers in their own units"
        weighted = ", weighted" if self.weights else ""
        return f"{kind} at most epsilon = {self.epsilon:g}; {units}{weighted}"


def named_numbers(text: str, option: str) -> dict[str, float]:
    """age=2,hours=0 as a dict; the name is what stands before the last "="."""
    found: dict[str, float] = {}
    for part in o.commas(text) or ():
        name, equals, value = part.rpartition("=")
        if not equals or not name.strip():
            raise InputError(f"expected NAME=NUMBER,..., got {part!r} ({option})")
        if name.strip() in found:
            raise InputError(f"expected every name once, got {name.strip()!r} twice ({option})")
        found[name.strip()] = number = _number(value, option)
        if number < 0 or not math.isfinite(number):
            raise InputError(f"expected finite numbers >= 0, got {part!r} ({option})")
    if not found:
        raise InputError(f"expected NAME=NUMBER,..., got {text!r} ({option})")
    return found


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"expected a number, got {text!r} ({option})") from None


def inverse_covariance(domain: Domain, rows: GroupedData | None) -> Mahalanobis:
    """The pseudo-inverse of the covariance of the columns that are not protected."""
    if rows is None:
        raise InputError("expected data for --distance mahalanobis (a covariance), got none")
    used = ~domain.sensitive
    matrix = np.zeros((domain.d, domain.d))
    if used.any() and len(rows) > 1:
        x = rows.x.double().numpy()[:, used]
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(x, rowvar=False)))
        varies = values > VANISHING * max(values.max(), 1e-300)
        inverse = (vectors[:, varies] / values[varies]) @ vectors[:, varies].T
        matrix[np.ix_(used, used)] = (inverse + inverse.T) / 2
    return Mahalanobis(matrix)


def similar_lines(domain: Domain, distance: Distance, epsilon: float) -> list[tuple[str, str]]:
    """Who counts as similar, in the user's own units."""
    pairs = Pairs.of(domain, distance, epsilon)
    free, may, equal = [], [], []
    tables = iter(pairs.exchange)
    for feature, where in domain.placed:
        most = float(pairs.cap[where].max())
        if isinstance(feature, OneHot):
            table = next(tables)
            moves = table.sum() > len(table)
            text = feature.name + ("" if table.all() else " (some categories)")
        else:
            apart = most * float(domain.spread[where.start])
            moves = apart > 10 * EQUAL * (feature.high - feature.low)
            width = feature.high - feature.low
            unit = f" {feature.unit}" if feature.unit else ""
            number = f"{apart:,.0f}" if apart >= 1000 else f"{apart:.3g}"
            shown = "any amount" if apart >= width else f"up to {number}{unit}"
            text = f"{feature.name} by {shown}"
        if feature.sensitive:
            free.append(feature.name)
        elif moves:
            may.append(text)
        else:
            equal.append(feature.name)
    lines = [("free to differ", _listed(free) or "nothing")]
    alone = " (each alone)" if pairs.norm.p != math.inf and len(may) > 1 else ""
    if may:
        lines.append(("may differ" + alone, _listed(may)))
    if equal:
        lines.append(("must be equal", _listed(equal)))
    return lines


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
