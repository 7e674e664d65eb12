"""What a preparation learns from a table: the label's positive value, groups, encoders, scaling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from retrofair.data.encoders import (
    MISSING,
    Array,
    Category,
    Encoder,
    Flag,
    Number,
    as_text,
    text_of,
)
from retrofair.errors import InputError, unknown

Missing = Literal["drop", "impute", "raise"]
MANY_GROUP_VALUES = 50
GUESSED = "as the privileged group (the largest mean label)"
LARGEST = float(np.finfo(np.float32).max)


def positive_of(label: pd.Series, positive: object) -> str:
    values = sorted(set(as_text(label)))
    shown = ", ".join(map(repr, values[:6])) + (", ..." if len(values) > 6 else "")
    if len(values) < 2:
        raise InputError(
            f"expected a label with two classes, but {label.name!r} is {shown} in every row"
        )
    if positive is None:
        if values == ["0", "1"]:
            return "1"
        raise InputError(
            f"expected a 0/1 label, but {label.name!r} has the values {shown}: "
            "say which one is positive with positive=... (--positive)"
        )
    return _known(positive, values, f"value of the label {label.name!r}")


def negatives_of(label: pd.Series, positive: str) -> tuple[str, ...]:
    """The label's other values."""
    return tuple(sorted(set(as_text(label)) - {positive}))


def label_codes(label: pd.Series, positive: str, negative: tuple[str, ...]) -> Array:
    """1 for the positive value, 0 for the others.

    Raises:
        InputError: a value is neither, where the negative ones are known.
    """
    texts = as_text(label)
    known = (positive, *negative)
    new = ~texts.isin(known)
    if negative and new.any():
        shown = ", ".join(map(repr, known[:6])) + (", ..." if len(known) > 6 else "")
        got = ", ".join(map(repr, sorted(set(texts[new]))[:5]))
        raise InputError(
            f"expected the label {label.name!r} to be one of {shown}, got also {got} "
            f"({int(new.sum()):,} rows): write them as the preparation knows them"
        )
    return (texts == positive).to_numpy(dtype=np.int64)


def _known(value: object, values: list[str], kind: str) -> str:
    """The value as it stands in the column; True and False are its 1 and 0."""
    text = text_of(value)
    truth = {"true": "1", "false": "0"}.get(text.lower(), text)
    for known in (text, truth):
        if known in values:
            return known
    raise unknown(kind, value, values)


def groups_of(
    frame: pd.DataFrame,
    protected: tuple[str, ...],
    privileged: object,
    label: str,
    positive: str | None,
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The groups with the privileged one last, and a note where it had to be chosen."""
    texts = {name: as_text(frame[name]) for name in protected}
    values = {name: sorted(set(texts[name])) for name in protected}
    for name, found in values.items():
        if len(found) > MANY_GROUP_VALUES:
            raise InputError(
                f"expected a sensitive column with at most {MANY_GROUP_VALUES} values, but "
                f"{name!r} has {len(found):,}: bin it first, for example with pandas.cut"
            )
        if len(found) < 2:
            raise InputError(
                f"expected at least two groups with rows, but {name!r} is {found[0]!r} everywhere"
            )
    notes: tuple[str, ...] = ()
    if privileged is None:
        target = frame[label] if positive is None else as_text(frame[label]) == positive
        last = tuple(_favoured(texts[name], values[name], target) for name in protected)
        if any(values[name] != ["0", "1"] for name in protected):
            notes = (
                f"took {' & '.join(last)!r} {GUESSED}; "
                "name another with privileged=... (--privileged)",
            )
    else:
        given = (
            [privileged]
            if isinstance(privileged, str) or not isinstance(privileged, Sequence)
            else list(privileged)
        )
        if len(given) != len(protected):
            raise InputError(
                f"expected one privileged value for each of {list(protected)}, got {given}"
            )
        last = tuple(
            _known(value, values[name], f"value of the column {name!r}")
            for name, value in zip(protected, given, strict=True)
        )
    present = set(zip(*(texts[name] for name in protected), strict=True)) | {last}
    every = [g for g in itertools.product(*values.values()) if g in present and g != last]
    return (*every, last), notes


def _favoured(texts: pd.Series, values: list[str], target: pd.Series) -> str:
    if values == ["0", "1"]:
        return "1"
    return str(target.groupby(texts).mean().idxmax())


def encoder_of(column: pd.Series, flag: str | None, missing: Missing, protected: bool) -> Encoder:
    """How a column is encoded: one with a flag, or else by its kind."""
    name = str(column.name)
    if flag is not None:
        others = set(as_text(column).dropna()) - {flag} if protected else set()
        return Flag(name, flag, others.pop() if len(others) == 1 else None)
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise InputError(
            f"expected numbers or texts in column {name!r}, got {column.dtype}: "
            "turn the times into numbers or leave them out with drop=... (--drop)"
        )
    if not protected and pd.api.types.is_numeric_dtype(column):
        return Number(name)
    texts = as_text(column)
    values = sorted(set(texts.dropna()))
    if len(values) > max(50, len(column) // 2):
        raise InputError(
            f"column {name!r} has {len(values):,} different texts in {len(column):,} rows, like "
            "an identifier: leave it out with drop=... (--drop) or group its values first"
        )
    if missing == "impute" and texts.isna().any() and MISSING not in values:
        values.append(MISSING)
    return Category(name, tuple(values))


def fitted_number(column: Number, values: pd.Series, scale: bool) -> Number:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        raise InputError(f"column {column.name!r} has no values at all: leave it out with drop=...")
    wild = int((np.abs(known) > LARGEST).sum())
    if wild:
        raise InputError(
            f"expected finite numbers in column {column.name!r}, got {wild:,} infinite values "
            f"or values beyond {LARGEST:.1g}: replace them first"
        )
    fill = float(np.median(known))
    if not scale or pd.api.types.is_bool_dtype(values):
        return Number(column.name, fill)
    filled = np.where(np.isnan(numbers), fill, numbers)
    mean, spread = float(filled.mean()), float(filled.std())
    # the spread of a constant column is rounding error, not always 0
    constant = spread <= 1e-12 * float(np.abs(filled).max())
    return Number(column.name, fill, mean, 1.0 if constant else spread)
