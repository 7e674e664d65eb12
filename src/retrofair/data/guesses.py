"""What the columns of a table are likely to be: guesses, each with a reason, for a person to check.

Nothing here decides anything by itself: `retrofair init` writes the guesses down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import (
    is_datetime64_any_dtype,
    is_float_dtype,
    is_integer_dtype,
    is_numeric_dtype,
    is_object_dtype,
    is_timedelta64_dtype,
)

from retrofair.data.encoders import MISSING, as_text
from retrofair.data.learned import MANY_GROUP_VALUES
from retrofair.data.words import (
    IDENTIFIERS,
    LABELS,
    NEGATIVE,
    POSITIVE,
    PREDICTIONS,
    PROTECTED,
    called,
)
from retrofair.errors import InputError, unknown

FEW_DROPPED = 0.05  # share of rows with a missing value up to which they are left out
FEW_ROWS = 0.02  # share of the rows up to which a group is too small to be the privileged one
TELLING = 0.95  # share of the rows in which one column gives the label, from which it is suspect
SEVERAL = 0.9  # share of different values from which a column called like one is an identifier


@dataclass(frozen=True)
class Guess:
    """A value and the reason for it.

    Args:
        sure: whether a name or a word says so, rather than a rule of thumb.
    """

    value: Any
    why: str
    sure: bool = True


@dataclass(frozen=True)
class Guesses:
    """What a table's columns are likely to be; None where nothing is.

    Args:
        protected: every column that looks protected, with the reason and what hinders its use.
        drop: columns to leave out, with the reason.
        numbers: features that are numbers and not protected.
        telling: features each of which alone gives almost every row's label, with the share.
    """

    rows: int
    label: Guess | None
    positive: Guess | None
    sensitive: Guess | None
    privileged: Guess | None
    prediction: Guess | None
    missing: Guess
    protected: dict[str, str] = field(default_factory=dict)
    drop: dict[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    telling: dict[str, str] = field(default_factory=dict)


def guess_columns(
    frame: pd.DataFrame, *, label: str | None = None, sensitive: Sequence[str] = ()
) -> Guesses:
    """Guess the label, the protected columns and what should be left out.

    Args:
        label: the label, where it is known.
        sensitive: the protected columns, where they are known.

    Raises:
        InputError: a known column that is not there.

    Example:
        >>> frame = pd.DataFrame({"id": range(4), "Geschlecht": ["w", "m", "w", "m"],
        ...                       "score": [0.1, 0.2, 0.3, 0.4], "hired": ["no", "yes"] * 2})
        >>> found = guess_columns(frame)
        >>> found.label.value, found.positive.value, found.sensitive.value, found.privileged.value
        ('hired', 'yes', ['Geschlecht'], ['m'])
        >>> found.drop
        {'id': "a different value in every row, and called 'id'"}
    """
    names = [str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis=1)
    if len(set(names)) < len(names):
        raise InputError(f"expected different column names, got {sorted(names)}")
    for name in (*([] if label is None else [label]), *sensitive):
        if name not in names:
            raise unknown("column", name, names)
    if label is not None and label in sensitive:
        raise InputError(
            f"expected protected columns besides the label, got {label!r} as both (--label, "
            "--sensitive)"
        )
    odd = {name: why for name in names if (why := _odd(frame[name])) is not None}
    for name in (*([] if label is None else [label]), *sensitive):
        if name in odd:
            raise InputError(f"expected a column of numbers or texts, got {name!r}: {odd[name]}")
    names = [name for name in names if name not in odd]
    values = {name: frame[name].nunique() for name in names}
    protected = {name: kind for name in names if (kind := _protected_kind(name)) is not None}
    of_label = _label(names, values, protected) if label is None else Guess(label, "given")
    target = None if of_label is None else str(of_label.value)
    protected = {name: kind for name, kind in protected.items() if name != target}
    positive = None if target is None else _positive(as_text(frame[target]).dropna())
    of_sensitive = Guess(list(sensitive), "given") if sensitive else _sensitive(protected, values)
    chosen = [] if of_sensitive is None else list(of_sensitive.value)
    prediction = _prediction(names, values, target)
    kept = {target, *chosen, *([prediction.value] if prediction else [])}
    drop = odd | {
        name: why
        for name in names
        if name not in kept and (why := _useless(frame[name], values[name])) is not None
    }
    if prediction is not None:
        drop[str(prediction.value)] = "a decision made from the features, no feature itself"
    features = [name for name in names if name != target and name not in drop]
    return Guesses(
        rows=len(frame),
        label=of_label,
        positive=positive,
        sensitive=of_sensitive,
        privileged=_privileged(frame, chosen, target, positive),
        prediction=prediction,
        missing=_missing(frame[features]),
        protected={name: _described(kind, values[name]) for name, kind in protected.items()},
        drop=drop,
        numbers=tuple(
            name
            for name in features
            if name not in protected and values[name] > 2 and is_numeric_dtype(frame[name])
        ),
        telling={} if target is None else _telling(frame, features, target, values),
    )


# --- one by one -----------------------------------------------------------------------------------


def _protected_kind(name: str) -> str | None:
    return next((kind for kind, words in PROTECTED.items() if called(name, words)), None)


def _label(names: list[str], values: dict[str, int], protected: dict[str, str]) -> Guess | None:
    """By its name, or the last column of two values."""
    binary = [name for name in names if values[name] == 2 and name not in protected]
    for word in LABELS:
        found = [name for name in binary if called(name, [word])]
        if found:
            return Guess(found[-1], f"two values, and called {word!r}")
    if not binary:
        return None
    where = "the last column" if binary[-1] == names[-1] else "the last column of two values"
    return Guess(binary[-1], f"two values, and {where}", sure=False)


def _positive(label: pd.Series) -> Guess | None:
    counts = label.value_counts()
    values = sorted(counts.index)
    if len(values) != 2:
        return None
    if values == ["0", "1"]:
        return Guess("1", "a 0/1 label")
    plain = {value.strip().lower(): value for value in values}
    for word in POSITIVE:
        if word in plain:
            return Guess(plain[word], f"{word!r} is usually the favourable value")
    for word in NEGATIVE:
        if word in plain:
            (other,) = (value for value in values if value != plain[word])
            return Guess(other, f"{plain[word]!r} is usually the unfavourable value")
    rarer = str(counts.index[-1])
    return Guess(rarer, f"the rarer value, {counts.iloc[-1] / len(label):.0%} of the rows", False)


def _sensitive(protected: dict[str, str], values: dict[str, int]) -> Guess | None:
    """The first protected column whose values can be groups."""
    for kind in PROTECTED:
        for name, of in protected.items():
            if of == kind and 2 <= values[name] <= MANY_GROUP_VALUES:
                return Guess([name], f"called like {_article(kind)}, {values[name]} values")
    return None


def _privileged(
    frame: pd.DataFrame, chosen: list[str], target: str | None, positive: Guess | None
) -> Guess | None:
    """Of each protected column the value with the largest share of positive labels."""
    if target is None or positive is None or not chosen:
        return None
    known = frame[[target, *chosen]].dropna()
    good = as_text(known[target]) == positive.value
    found, said = [], []
    for name in chosen:
        texts = as_text(known[name])
        counts = texts.value_counts()
        common = counts[counts >= FEW_ROWS * len(texts)].index
        shares = good[texts.isin(common)].groupby(texts).mean()
        if not len(shares):
            return None
        best = str(shares.idxmax())
        rest = good[texts != best].mean()
        found.append(best)
        said.append(
            f"{shares.max():.0%} of its rows are {positive.value!r}, of the others {rest:.0%}"
        )
    return Guess(found, "; ".join(said), sure=False)


def _prediction(names: list[str], values: dict[str, int], target: str | None) -> Guess | None:
    for name in names:
        word = called(name, PREDICTIONS)
        if word is not None and name != target and target is not None and values[name] == 2:
            return Guess(name, f"two values, and called {word!r}")
    return None


def _odd(column: pd.Series) -> str | None:
    """Why a column, of a Parquet file, cannot be looked at any closer; None for one that can."""
    if is_object_dtype(column):
        for value in column:
            if isinstance(value, np.ndarray | list | tuple | dict | set):
                kind = "lists" if not isinstance(value, dict) else "records"
                return f"values that are neither numbers nor texts ({kind})"
    return None


def _useless(column: pd.Series, different: int) -> str | None:
    """Why a column is no feature; None for one that is."""
    rows = int(column.notna().sum())
    if not rows:
        return "no values at all"
    if different == 1 and rows == len(column):
        return "the same value in every row"
    word = called(str(column.name), IDENTIFIERS)
    if is_datetime64_any_dtype(column) or is_timedelta64_dtype(column):
        return "dates, which are neither numbers nor categories"
    number = is_numeric_dtype(column)
    counting = is_integer_dtype(column) and column.is_monotonic_increasing
    if different == rows and rows > 1 and (word or counting):
        return "a different value in every row" + (f", and called {word!r}" if word else "")
    if word and different >= SEVERAL * rows and not is_float_dtype(column):
        return f"{different:,} different values, and called {word!r}"
    if not number and different > max(MANY_GROUP_VALUES, len(column) // 2):
        return f"{different:,} different texts, like an identifier"
    return None


def _missing(features: pd.DataFrame) -> Guess:
    empty = features.isna()
    rows = int(empty.any(axis=1).sum())
    if not rows:
        return Guess("drop", "no feature has missing values")
    counts = empty.sum().sort_values(ascending=False)
    named = ", ".join(f"{name} ({n:,})" for name, n in counts[counts > 0].head(3).items())
    share = rows / len(features)
    said = f"{rows:,} rows ({share:.1%}) have missing values: {named}"
    return Guess("drop" if share <= FEW_DROPPED else "impute", said)


def _described(kind: str, different: int) -> str:
    if different > MANY_GROUP_VALUES:
        return f"called like {_article(kind)}, but {different:,} values: bin them to use it"
    return f"called like {_article(kind)}, {different} values"


def _article(kind: str) -> str:
    return {"age": "an age", "disability": "a disability"}.get(kind, kind)


def _telling(
    frame: pd.DataFrame, features: list[str], target: str, values: dict[str, int]
) -> dict[str, str]:
    """Columns known only after the label was, as far as this shows: by their values, or where they
    are many, by whether there is one."""
    label = as_text(frame[target])
    base = label.value_counts(normalize=True).iloc[0]
    found = {}
    for name in features:
        few = values[name] <= MANY_GROUP_VALUES
        cell = as_text(frame[name]).fillna(MISSING) if few else frame[name].isna()
        right = label.groupby(cell).agg(lambda part: part.value_counts().max()).sum() / len(label)
        if right >= TELLING and 1 - right <= (1 - base) / 2:
            found[name] = f"alone gives the label of {right:.1%} of the rows"
    return found
