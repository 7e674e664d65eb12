"""How a table becomes numbers: categories, scaling, missing values, groups.

A `Preparation` is a value: it can be written as JSON, read again and applied to new tables.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrofair.data.encoders import (
    KINDS,
    Array,
    Encoder,
    Number,
    as_text,
    text_of,
)
from retrofair.data.learned import (
    Missing,
    encoder_of,
    fitted_number,
    groups_of,
    label_codes,
    negatives_of,
    positive_of,
)
from retrofair.errors import InputError, RetrofairWarning, unknown


@dataclass(frozen=True)
class Preparation:
    """Everything needed to turn a table of the same columns into grouped data.

    Args:
        columns: one encoder per feature column of the table.
        label: the label's column; `positive` is its value that counts as 1 (None: regression).
        sensitive: the protected columns; `groups` holds one tuple of their values per group, the
            privileged group last.
        missing: what happens to rows with a missing feature.
        negative: the label's other values; () is unknown, as in files of older versions, and then
            no value is refused.
        left_out: columns of the table that were left out on purpose.
    """

    columns: tuple[Encoder, ...]
    label: str
    positive: str | None
    sensitive: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    missing: Missing = "drop"
    notes: tuple[str, ...] = ()
    # an older file lacks these, and is of the same preparation all the same
    negative: tuple[str, ...] = field(default=(), compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)

    @property
    def group_names(self) -> tuple[str, ...]:
        return tuple(" & ".join(values) for values in self.groups)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What 0 and 1 are called; of several other values, or unknown ones, 0 is "not" the
        positive one. () where the label is a number."""
        if self.positive is None:
            return ()
        alone = len(self.negative) == 1
        return (self.negative[0] if alone else f"not {self.positive}"), self.positive

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.feature_names)

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        *,
        label: str,
        sensitive: str | Sequence[str],
        positive: object = None,
        privileged: object = None,
        include_sensitive: bool = True,
        missing: Missing = "drop",
        drop: Sequence[str] = (),
        scale: bool = True,
        regression: bool = False,
        flags: Mapping[str, object] | None = None,
    ) -> Preparation:
        """Learn categories, groups, fills and scaling from a table (see `from_frame`)."""
        protected = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
        if missing not in ("drop", "impute", "raise"):
            raise unknown("choice for missing=", missing, ("drop", "impute", "raise"))
        if not protected:
            raise InputError("expected at least one sensitive column, got none")
        check_columns(frame, (label, *protected, *drop, *(flags or {})))
        if label in protected:
            raise InputError(f"expected a sensitive column other than the label {label!r}")
        if len(set(protected)) < len(protected):
            raise InputError(f"expected different sensitive columns, got {list(protected)}")
        frame = frame.dropna(subset=[label, *protected])
        if not len(frame):
            raise InputError(
                f"expected rows with a label and a group, got none: {label!r} or "
                f"{', '.join(map(repr, protected))} is missing everywhere"
            )
        if regression:
            _check_numbers(frame[label])
        value = None if regression else positive_of(frame[label], positive)
        others = () if value is None else negatives_of(frame[label], value)
        groups, notes = groups_of(frame, protected, privileged, label, value)
        flag_values = {name: text_of(v) for name, v in (flags or {}).items()}
        for position, name in enumerate(protected):
            if frame[name].nunique() == 2:
                flag_values[name] = groups[-1][position]
        left_out = {label, *drop} | (set() if include_sensitive else set(protected))
        columns = tuple(
            encoder_of(frame[name], flag_values.get(name), missing, name in protected)
            for name in map(str, frame.columns)
            if name not in left_out
        )
        if not columns:
            raise InputError("expected at least one feature column, got none")
        made = cls(columns, label, value, protected, groups, missing, notes, others, tuple(drop))
        for kind, found in (("feature", made.feature_names), ("group", made.group_names)):
            twice = sorted({name for name in found if found.count(name) > 1})
            if twice:
                raise InputError(f"expected different {kind} names, but {twice} come up twice")
        return made.fitted(frame, scale=scale)

    def fitted(self, frame: pd.DataFrame, *, scale: bool = True) -> Preparation:
        """The same preparation with fills, means and spreads of this table's rows."""
        columns = tuple(
            fitted_number(column, frame[column.name], scale)
            if isinstance(column, Number)
            else column
            for column in self.columns
        )
        return dataclasses.replace(self, columns=columns)

    def kept(self, frame: pd.DataFrame) -> tuple[Array, tuple[str, ...]]:
        """Positions of the rows that are used, and notes on what was missing."""
        features = [column.name for column in self.columns]
        check_columns(frame, (self.label, *self.sensitive, *features))
        needed = list(dict.fromkeys([self.label, *self.sensitive]))
        keep = frame[needed].notna().all(axis=1).to_numpy()
        notes = list(_missing_note(frame, needed, ~keep, "dropped"))
        gaps = [name for name in features if name not in needed and frame[name].isna().any()]
        if gaps:
            rows = frame[gaps].isna().any(axis=1).to_numpy() & keep
            if self.missing == "raise":
                note = next(_missing_note(frame, gaps, rows, "found"), "")
                raise InputError(f"expected no missing values, {note}; use missing='drop'/'impute'")
            done = "dropped" if self.missing == "drop" else "imputed values in"
            notes += _missing_note(frame, gaps, rows, done)
            if self.missing == "drop":
                keep = keep & ~rows
        if not keep.any():
            raise InputError(
                "expected at least one complete row, got none"
                + (f" ({'; '.join(notes)})" if notes else "")
                + "; use missing='impute'"
            )
        return np.flatnonzero(keep), tuple(notes)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, with the numbers that stand for texts in an exported network.

        A new table is prepared with it by `GroupedData.prepared(Preparation.load(path), frame)`.
        """
        from retrofair.data.stored import write_preparation  # it reads this file's class

        return write_preparation(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Preparation:
        """Read what `save` wrote.

        Raises:
            MissingFileError: there is no such file.
            InputError: it is damaged or of another version.
        """
        from retrofair.data.stored import read_preparation

        return read_preparation(Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        kinds = {kind: name for name, kind in KINDS.items()}
        columns = [
            {"kind": kinds[type(column)], **dataclasses.asdict(column)} for column in self.columns
        ]
        return {**dataclasses.asdict(self), "columns": columns}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """Read what `to_dict` wrote, also after a round trip through JSON.

        Raises:
            InputError: a field is missing or unknown.
        """
        try:
            columns = []
            for item in values["columns"]:
                kind: Callable[..., Encoder] = KINDS[item["kind"]]
                fields = {k: tuple(v) if isinstance(v, list) else v for k, v in item.items()}
                columns.append(kind(**{k: v for k, v in fields.items() if k != "kind"}))
            rest: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            rest["groups"] = tuple(tuple(group) for group in values["groups"])
            return cls(**{**rest, "columns": tuple(columns)})
        except (KeyError, TypeError) as error:
            raise InputError(f"expected a preparation written by Retrofair, got {error}") from None


def prepare(
    preparation: Preparation, frame: pd.DataFrame, *, quiet: bool = False
) -> tuple[Array, Array, Array, tuple[str, ...]]:
    """Apply a preparation: x (n, d) float32, y (n,), group (n,) and notes.

    Raises:
        InputError: a column is missing or new, a category, a group or a value of the label is new,
            an infinite number.
    """
    rows, notes = preparation.kept(frame)
    _check_known(preparation, frame)
    frame = frame.iloc[rows]
    x = np.empty((len(frame), len(preparation.feature_names)), dtype=np.float32)
    start = 0
    for column in preparation.columns:
        stop = start + len(column.feature_names)
        column.encode(frame[column.name], x[:, start:stop])
        start = stop
    notes = (*preparation.notes, *notes)
    if not quiet:
        for note in notes:
            warnings.warn(note, RetrofairWarning, stacklevel=4)
    return x, _label(preparation, frame[preparation.label]), _codes(preparation, frame), notes


def check_columns(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """Refuse what is no table with rows and these columns."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"expected a pandas DataFrame, got {type(frame).__name__}")
    if not frame.columns.is_unique:
        twice = sorted(set(map(str, frame.columns[frame.columns.duplicated()])))
        raise InputError(f"expected different column names, got {twice} more than once")
    other = [name for name in frame.columns if not isinstance(name, str)]
    if other:
        raise InputError(
            f"expected texts as column names, got {other[:5]}: rename them, for example with "
            "frame.columns = frame.columns.map(str)"
        )
    absent = [name for name in dict.fromkeys(names) if name not in frame.columns]
    if len(absent) == 1:
        raise unknown("column", absent[0], frame.columns)
    if absent:
        raise InputError(
            f"expected a table with the columns {', '.join(map(repr, absent))}, which are not "
            f"there (it has: {', '.join(map(str, frame.columns))})"
        )
    if not len(frame):
        raise InputError("expected a table with rows, got an empty one")


def _missing_note(frame: pd.DataFrame, names: list[str], rows: Array, done: str) -> Iterator[str]:
    if rows.any():
        counts = frame[names].isna().sum()
        where = ", ".join(f"{name} ({counts[name]:,})" for name in names if counts[name])
        yield f"{done} {int(rows.sum()):,} of {len(frame):,} rows with missing values: {where}"


def _check_known(preparation: Preparation, frame: pd.DataFrame) -> None:
    """Refuse columns that were neither used nor left out when the preparation was made."""
    features = [column.name for column in preparation.columns]
    known = {preparation.label, *preparation.sensitive, *preparation.left_out, *features}
    extra = [name for name in frame.columns if name not in known]
    if extra:
        more = f" and {len(extra) - 10:,} more" if len(extra) > 10 else ""
        raise InputError(
            f"the table has columns that the preparation does not know: "
            f"{', '.join(map(repr, extra[:10]))}{more}; leave them out, "
            "frame.drop(columns=[...]) (--drop)"
        )


def _label(preparation: Preparation, column: pd.Series) -> Array:
    if preparation.positive is None:
        _check_numbers(column)
        return column.to_numpy(dtype=np.float32)
    return label_codes(column, preparation.positive, preparation.negative)


def _check_numbers(label: pd.Series) -> None:
    if not pd.api.types.is_numeric_dtype(label):
        raise InputError(f"expected numbers in the label {label.name!r}, got {label.dtype}")


def _codes(preparation: Preparation, frame: pd.DataFrame) -> Array:
    texts = [as_text(frame[name]) for name in preparation.sensitive]
    names = functools.reduce(lambda left, right: left + " & " + right, texts)
    codes = pd.Index(preparation.group_names).get_indexer(pd.Index(names))
    if (codes < 0).any():
        new = sorted(set(names[codes < 0]))
        raise InputError(
            f"expected the groups {list(preparation.group_names)}, got also {new} "
            f"({int((codes < 0).sum()):,} rows)"
        )
    return codes.astype(np.int64)
