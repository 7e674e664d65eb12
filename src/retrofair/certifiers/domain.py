"""Who there can be: every feature's kind and range, in the user's own units."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retrofair.data import GroupedData
from retrofair.data.encoders import Category, Flag, Number
from retrofair.errors import InputError, unknown

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LARGEST = 1e38  # float32 ends a little above
LARGEST_INTEGER = 2.0**24  # float32 counts no further in steps of one


@dataclass(frozen=True)
class Continuous:
    """A number anywhere in [low, high], both included.

    Args:
        sensitive: free to differ between two people who count as similar.
        unit: shown beside its values.
    """

    name: str
    low: float
    high: float
    sensitive: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        _check_range(self)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class Integer:
    """A whole number from low to high, both included.

    Args:
        labels: what each number stands for, from low on, where that is known.
    """

    name: str
    low: float
    high: float
    sensitive: bool = False
    unit: str = ""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_range(self)
        low, high = math.ceil(self.low), math.floor(self.high)
        if low > high:
            raise InputError(
                f"expected a range with a whole number in it for the integer {self.name!r}, got "
                f"[{self.low:g}, {self.high:g}]"
            )
        if max(-low, high) > LARGEST_INTEGER:
            raise InputError(
                f"expected an integer {self.name!r} within +-2^24, got [{low}, {high}]: declare "
                "it as Continuous"
            )
        object.__setattr__(self, "low", float(low))
        object.__setattr__(self, "high", float(high))

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class OneHot:
    """One category of several, as one 0/1 column each, of which exactly one is 1.

    Args:
        categories: their number, or their names.
    """

    name: str
    categories: int | Sequence[str]
    sensitive: bool = False

    def __post_init__(self) -> None:
        given = self.categories
        whole = isinstance(given, numbers.Integral) and not isinstance(given, bool)
        if not whole and (isinstance(given, str) or not isinstance(given, Iterable)):
            raise InputError(
                f"expected the number or the names of the categories of {self.name!r}, got "
                f"{given!r}"
            )
        names: Iterable[object] = range(int(given)) if whole else given  # type: ignore[assignment,arg-type]
        object.__setattr__(self, "categories", tuple(str(name) for name in names))
        if not self.names or len(set(self.names)) < len(self.names):
            raise InputError(
                f"expected at least one category, all different, for {self.name!r}, got {given!r}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.categories)  # type: ignore[arg-type]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={value}" for value in self.names)


Feature = Continuous | Integer | OneHot


@dataclass(frozen=True, eq=False)
class Domain:
    """All people a certificate speaks about: a box with whole numbers and categories in it.

    Args:
        features: in the order of the network's input columns; a one-hot feature takes one column
            per category.
        mean, spread: (d,) per column, where the network takes (value - mean) / spread instead of
            the value itself, as after standardisation.

    Raises:
        InputError: a range is empty or infinite, two features share a name.

    Example:
        >>> people = Domain([Continuous("age", 17, 90, unit="years"), OneHot("race", 3)])
        >>> people.d, people.columns
        (4, ('age', 'race=0', 'race=1', 'race=2'))
    """

    features: Sequence[Feature]
    mean: Any = None
    spread: Any = None
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = field(init=False)
    low: Floats = field(init=False)
    high: Floats = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "features", tuple(self.features))
        if not self.features:
            raise InputError("expected a domain of at least one feature, got none")
        for feature in self.features:
            if not isinstance(feature, Continuous | Integer | OneHot):
                raise InputError(
                    f"expected Continuous, Integer or OneHot features, got {feature!r}"
                )
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"expected different feature names, but {twice} come up twice")
        put(self, "columns", tuple(c for feature in self.features for c in feature.columns))
        put(self, "mean", self._per_column(self.mean, 0.0, "mean"))
        put(self, "spread", self._per_column(self.spread, 1.0, "spread"))
        if not (self.spread > 0).all():
            raise InputError(f"expected a positive spread per column, got {self.spread.min():g}")
        bounds = [
            (0.0, 1.0) if isinstance(feature, OneHot) else (feature.low, feature.high)
            for feature in self.features
            for _ in feature.columns
        ]
        # an end that float32 does not hold counts with its rounding: 0.1 is a value of [0, 0.1]
        low, high = (np.array(ends) for ends in zip(*bounds, strict=True))
        put(self, "low", np.minimum(low, low.astype(np.float32)))
        put(self, "high", np.maximum(high, high.astype(np.float32)))
        for feature, where in self.groups:
            if (self.mean[where] != 0).any() or (self.spread[where] != 1).any():
                raise InputError(
                    f"expected 0/1 columns for the one-hot feature {feature.name!r}, got scaled "
                    "ones: leave its mean 0 and its spread 1"
                )

    @classmethod
    def from_data(
        cls,
        data: GroupedData,
        *,
        sensitive: str | Sequence[str] | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> Domain:
        """The box around a data set's rows, with its categories and its standardisation.

        A column of whole numbers is taken as Integer. Two-valued columns that were made 0/1 are
        integers from 0 to 1.

        Args:
            sensitive: features that are free to differ; without it the protected columns that
                the data were prepared with.
            ranges: wider or narrower ranges by feature name, in the feature's own units.

        Raises:
            InputError: x is no table, or a name is unknown.
        """
        if not isinstance(data, GroupedData):
            raise InputError(f"expected GroupedData of a table, got {type(data).__name__}")
        if data.x.ndim != 2:
            raise InputError(f"expected data with a table x (n, d), got {tuple(data.x.shape)}")
        if not len(data):
            raise InputError("expected data with rows, got none")
        x = data.x.double().numpy()
        rounding = np.abs(x).max(0) * 2.0**-22
        names = data.feature_names or tuple(f"x{i}" for i in range(x.shape[1]))
        encoders: Sequence[Any] = (
            data.preparation.columns if data.preparation else [Number(name) for name in names]
        )
        chosen = _names(sensitive, data, [encoder.name for encoder in encoders])
        wanted = dict(ranges or {})
        features: list[Feature] = []
        mean, spread = np.zeros(x.shape[1]), np.ones(x.shape[1])
        start = 0
        for encoder in encoders:
            free = encoder.name in chosen
            if isinstance(encoder, Category):
                features.append(OneHot(encoder.name, encoder.values, free))
            elif isinstance(encoder, Flag):
                values = (f"not {encoder.value}", encoder.value)
                features.append(Integer(encoder.name, 0, 1, free, labels=values))
            else:
                mean[start], spread[start] = encoder.mean, encoder.spread
                raw = x[:, start] * encoder.spread + encoder.mean
                step = rounding[start] * encoder.spread + abs(encoder.mean) * 2.0**-22
                features.append(_number(encoder.name, raw, step, free, wanted))
            start += len(encoder.feature_names)
        for name in wanted:
            raise unknown("number for ranges=", name, [f.name for f in features])
        return cls(features, mean, spread, _notes(chosen, features))

    @property
    def d(self) -> int:
        """The number of the network's input columns."""
        return len(self.columns)

    @property
    def groups(self) -> list[tuple[OneHot, slice]]:
        """The one-hot features and their columns."""
        return [(f, s) for f, s in self.placed if isinstance(f, OneHot)]

    @property
    def placed(self) -> list[tuple[Feature, slice]]:
        """Every feature with its columns."""
        found, start = [], 0
        for feature in self.features:
            stop = start + len(feature.columns)
            found.append((feature, slice(start, stop)))
            start = stop
        return found

    @property
    def integer(self) -> Mask:
        """(d,) the columns of Integer features."""
        return self._mask(lambda feature: isinstance(feature, Integer))

    @property
    def sensitive(self) -> Mask:
        """(d,) the columns of sensitive features."""
        return self._mask(lambda feature: feature.sensitive)

    def to_inputs(self, raw: Floats) -> Floats:
        """Values in the user's units, (n, d), as what the network takes."""
        return np.asarray((raw - self.mean) / self.spread)

    def to_raw(self, inputs: Floats) -> Floats:
        """What the network takes, (n, d), in the user's units."""
        return np.asarray(inputs * self.spread + self.mean)

    def contains(self, raw: Floats) -> Mask:
        """(n,) whether each row, in the user's units, is in the domain."""
        raw = np.asarray(raw, dtype=np.float64)
        inside = ((raw >= self.low) & (raw <= self.high)).all(1)
        whole = (raw[:, self.integer] == np.rint(raw[:, self.integer])).all(1)
        inside &= whole
        for _, where in self.groups:
            part = raw[:, where]
            inside &= ((part == 0) | (part == 1)).all(1) & (part.sum(1) == 1)
        return np.asarray(inside)

    def relaxed(self) -> Domain:
        """The same with integers that are not sensitive made continuous."""
        features = [
            Continuous(f.name, f.low, f.high, f.sensitive, f.unit)
            if isinstance(f, Integer) and not f.sensitive
            else f
            for f in self.features
        ]
        return dataclasses.replace(self, features=features)

    def in_own_units(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Weights per own unit (a year, a dollar) as weights per what the network takes.

        With p = inf, `1 / tolerance` per feature and epsilon = 1 says: similar is who differs by
        at most the tolerance in each. (For p = 1 the same holds; for p = 2 weights multiply the
        squares, so square the factor.)
        """
        factors = {f.name: float(self.spread[s.start]) for f, s in self.placed}
        for name in weights:
            if name not in factors:
                raise unknown("feature", name, factors)
        return {name: weight * factors[name] for name, weight in weights.items()}

    def _mask(self, chosen: Any) -> Mask:
        return np.array([bool(chosen(f)) for f in self.features for _ in f.columns])

    def _per_column(self, values: Any, default: float, what: str) -> Floats:
        if values is None:
            return np.full(self.d, default)
        found = np.asarray(values, dtype=np.float64).reshape(-1)
        if len(found) != self.d or not np.isfinite(found).all():
            raise InputError(
                f"expected {self.d} finite numbers as {what}, one per column, got {len(found)}"
            )
        return found


def _check_range(feature: Continuous | Integer) -> None:
    low, high = feature.low, feature.high
    try:
        finite = math.isfinite(low) and math.isfinite(high)
    except TypeError:
        raise InputError(
            f"expected numbers as the range of {feature.name!r}, got {low!r} to {high!r}"
        ) from None
    if not finite:
        raise InputError(
            f"expected a finite range for {feature.name!r}, got [{low:g}, {high:g}]: nothing can "
            "be certified over an unbounded domain"
        )
    if max(abs(low), abs(high)) > LARGEST:
        raise InputError(
            f"expected a range that float32 holds for {feature.name!r}, got [{low:g}, {high:g}]: "
            "use another unit"
        )
    if low > high:
        raise InputError(f"expected low <= high for {feature.name!r}, got [{low:g}, {high:g}]")


def _names(
    sensitive: str | Sequence[str] | None, data: GroupedData, known: Sequence[str]
) -> set[str]:
    if sensitive is None:
        return set(data.preparation.sensitive) if data.preparation else set()
    chosen = [sensitive] if isinstance(sensitive, str) else list(sensitive)
    for name in chosen:
        if name not in known:
            raise unknown("feature", name, known)
    return set(chosen)


def _notes(chosen: set[str], features: Sequence[Feature]) -> tuple[str, ...]:
    away = sorted(chosen - {feature.name for feature in features})
    if not away:
        return ()
    return (f"the network does not read {', '.join(away)}: nothing to differ in there",)


def _number(
    name: str, raw: Floats, step: float, free: bool, wanted: dict[str, tuple[float, float]]
) -> Feature:
    """An Integer where all values are whole up to the rounding of float32, else Continuous."""
    whole = step < 0.1 and bool((np.abs(raw - np.rint(raw)) <= max(2 * step, 1e-9)).all())
    values = np.rint(raw) if whole else raw
    low, high = wanted.pop(name, (float(values.min()), float(values.max())))
    if whole and max(abs(low), abs(high)) <= LARGEST_INTEGER:
        return Integer(name, low, high, free)
    return Continuous(name, low, high, free)
