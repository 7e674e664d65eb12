"""How one column of a table becomes numbers, and how its values are written as texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from retrofair.errors import InputError

Array = npt.NDArray[Any]
MISSING = "(missing)"


@dataclass(frozen=True)
class Number:
    """One column of numbers; becomes (value - mean) / spread."""

    name: str
    fill: float = 0.0
    mean: float = 0.0
    spread: float = 1.0

    @property
    def feature_names(self) -> tuple[str, ...]:
        return (self.name,)

    def encode(self, column: pd.Series, out: Array) -> None:
        values = numbers_of(column)
        values = np.where(np.isnan(values), self.fill, values)
        out[:, 0] = (values - self.mean) / self.spread


@dataclass(frozen=True)
class Category:
    """One column of texts; becomes one 0/1 column per known text."""

    name: str
    values: tuple[str, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={value}" for value in self.values)

    def encode(self, column: pd.Series, out: Array) -> None:
        codes = self.check(as_text(column).fillna(MISSING))
        out[:] = 0
        out[np.arange(len(codes)), codes] = 1

    def check(self, texts: pd.Series) -> Array:
        """The position of each text among the values.

        Raises:
            InputError: one is not among them.
        """
        codes = pd.Index(self.values).get_indexer(pd.Index(texts))
        if (codes < 0).any():
            raise _new_values(self.name, texts[codes < 0])
        return np.asarray(codes)


@dataclass(frozen=True)
class Flag:
    """One column in which a single value counts; becomes 1 there and 0 elsewhere.

    Args:
        other: of a column of two values the second; None: any, or written by an older version.
    """

    name: str
    value: str
    other: str | None = field(default=None, compare=False)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return (self.name,)

    def encode(self, column: pd.Series, out: Array) -> None:
        out[:, 0] = (as_text(column) == self.value).to_numpy(dtype=bool, na_value=False)

    def check(self, texts: pd.Series) -> Array:
        """1 for the value and 0 for the other.

        Raises:
            InputError: one is neither, where both are known.
        """
        new = ~texts.isin([self.value, self.other])
        if self.other is not None and new.any():
            raise _new_values(self.name, texts[new])
        return (texts == self.value).to_numpy(dtype=np.int64)


def _new_values(name: str, texts: pd.Series) -> InputError:
    return InputError(
        f"column {name!r} has categories that the preparation does not know: "
        f"{', '.join(map(repr, sorted(set(texts))[:5]))} ({len(texts):,} rows); "
        "drop these rows or prepare again with them"
    )


Encoder = Number | Category | Flag
KINDS: dict[str, type[Number] | type[Category] | type[Flag]] = {
    "number": Number,
    "category": Category,
    "flag": Flag,
}


def numbers_of(column: pd.Series) -> Array:
    """The column's values in double precision, missing ones as nan.

    Raises:
        InputError: they are no numbers; times are none, although numpy would count nanoseconds.
    """
    why = "turn times into numbers"
    if getattr(column.dtype, "kind", "O") not in "mM":
        try:
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            why = str(error)
    raise InputError(f"expected numbers in column {column.name!r}, got {column.dtype}: {why}")


def as_text(column: pd.Series) -> pd.Series:
    """The column's values as texts; 1.0 and 1 are both "1"; missing values stay missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:
        raise InputError(
            f"expected numbers or texts in column {column.name!r}, got values that are neither "
            f"({error}): leave it out with drop=... (--drop)"
        ) from None
    texts = np.array([text_of(value) for value in values] + [None], dtype=object)
    return pd.Series(texts[codes], index=column.index, dtype=object)


def text_of(value: object) -> str:
    """One value as text: whole numbers without a decimal point, truth values as 0 and 1."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
