"""A table as plain numbers before any preparation: what an exported network takes.

One number per column: a number as it is, a category as its position among the preparation's
values, a flag as 1 for its value and 0 for the other. Missing values are nan.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from retrofair.data.encoders import Array, Category, Encoder, Number, as_text, numbers_of
from retrofair.data.preparation import Preparation, check_columns


def codes(preparation: Preparation) -> dict[str, dict[str, int]]:
    """The number that stands for each text, by column; columns of numbers have none."""
    tables: dict[str, dict[str, int]] = {}
    for column in preparation.columns:
        if isinstance(column, Category):
            tables[column.name] = {value: code for code, value in enumerate(column.values)}
        elif not isinstance(column, Number):
            tables[column.name] = {column.value: 1}
            if column.other is not None:
                tables[column.name][column.other] = 0
    return tables


def raw_table(preparation: Preparation, frame: pd.DataFrame) -> Array:
    """The features of every row as numbers, (n, columns) float64, in the preparation's order.

    Args:
        frame: a table with the feature columns; label and group are not needed, others ignored.

    Raises:
        InputError: a column is missing, holds something else than numbers, or has a category or
            a value of a two-valued protected column that the preparation does not know.

    Example:
        >>> frame = pd.DataFrame({"age": [20, 30], "job": ["cook", "smith"], "hired": [0, 1],
        ...                       "sex": ["F", "M"]})
        >>> made = Preparation.fit(frame, label="hired", sensitive="sex", privileged="M")
        >>> raw_table(made, frame).tolist()
        [[20.0, 0.0, 0.0], [30.0, 1.0, 1.0]]
    """
    check_columns(frame, [column.name for column in preparation.columns])
    return np.column_stack([_numbers(column, frame[column.name]) for column in preparation.columns])


def _numbers(column: Encoder, values: pd.Series) -> Array:
    if isinstance(column, Number):
        return numbers_of(values)
    texts = as_text(values)
    gone = texts.isna().to_numpy()
    some = column.values[0] if isinstance(column, Category) else column.value
    return np.where(gone, np.nan, column.check(texts.fillna(some)))
