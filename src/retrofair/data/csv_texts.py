"""Columns of a CSV file that were read as texts, though people meant numbers with gaps."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from retrofair.errors import RetrofairWarning

# as other programs write a missing value; in a column of texts each of them may be a text
MARKS = ("NA", "N/A", "nan", "NaN", "null", "None", "?", "-")
TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


def with_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with marks of missing values taken as such in columns of numbers or truth values.

    A column of anything else stays as it is: "None" may be a category, and NA is Namibia. What was
    done is warned about.
    """
    for name in frame.columns:
        if pd.api.types.infer_dtype(frame[name], skipna=True) == "string":
            found = _numbers(frame[name])
            if found is not None:
                frame[name] = found
    return frame


def _numbers(column: pd.Series) -> pd.Series | None:
    """The column as numbers or truth values; None where it holds texts."""
    texts = column.str.strip()
    marked = texts.isin(MARKS)
    known = texts[~marked].dropna()
    if not marked.any() or not len(known):
        return None
    values: pd.Series
    if known.isin(TRUTHS).all():
        values = known.map(TRUTHS).astype(object)
    else:
        values = pd.to_numeric(known, errors="coerce")
        if values.isna().any():
            return None
    marks = ", ".join(map(repr, sorted(set(texts[marked]))))
    warnings.warn(
        f"took {marks} in {int(marked.sum()):,} rows of column {column.name!r} as missing, as its "
        "other values are no texts; leave these fields empty",
        RetrofairWarning,
        stacklevel=2,
    )
    return values.reindex(column.index, fill_value=np.nan)
