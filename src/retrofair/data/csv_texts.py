"""Columns of a CSV file that were read as texts, though people meant numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from retrofair.errors import RetrofairWarning

# as other programs write a missing value; in a column of texts each of them may be a text
MARKS = ("NA", "N/A", "nan", "NaN", "null", "None", "?", "-")
TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


DECIMAL_COMMA = r"-?(?:\d+|\d+(?:\.\d{3})*,\d+)"


def with_numbers(frame: pd.DataFrame, *, commas: bool = False) -> pd.DataFrame:
    """The table with marks of missing values taken as such in columns of numbers or truth values.

    A column of anything else stays as it is: "None" may be a category, and NA is Namibia. What was
    done is warned about.

    Args:
        commas: numbers may have decimal commas, as where no comma separates the fields.
    """
    for name in frame.columns:
        if pd.api.types.infer_dtype(frame[name], skipna=True) == "string":
            found = _numbers(frame[name], commas)
            if found is not None:
                frame[name] = found
    return frame


def _numbers(column: pd.Series, commas: bool) -> pd.Series | None:
    """The column as numbers or truth values; None where it holds texts."""
    texts = column.str.strip()
    marked = texts.isin(MARKS)
    known = texts[~marked].dropna()
    comma = commas and bool(known.str.contains(",").any())
    comma = comma and bool(known.str.fullmatch(DECIMAL_COMMA).all())
    if not len(known) or not (comma or marked.any()):
        return None
    values: pd.Series
    if known.isin(TRUTHS).all():
        values = known.map(TRUTHS).astype(object)
    else:
        if comma:
            known = known.str.replace(".", "").str.replace(",", ".")
        values = pd.to_numeric(known, errors="coerce")
        if values.isna().any():
            return None
    if comma:
        _say(f"read the numbers of column {column.name!r} with a decimal comma")
    if marked.any():
        marks = ", ".join(map(repr, sorted(set(texts[marked]))))
        _say(
            f"took {marks} in {int(marked.sum()):,} rows of column {column.name!r} as missing, as "
            "its other values are no texts; leave these fields empty"
        )
    return values.reindex(column.index, fill_value=np.nan)


def _say(note: str) -> None:
    warnings.warn(note, RetrofairWarning, stacklevel=3)
