"""The rows that an export is tried on: as the file takes them, and as the library does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from retrofair.data import GroupedData, Preparation, raw_table
from retrofair.data.preparation import prepare
from retrofair.deploy.exported import Input
from retrofair.errors import InputError
from retrofair.metrics import Array


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in both forms.

    Args:
        given: (n, ...) what the exported file takes.
        codes: (n,) the group of each; 0 where the table does not tell it.
        x: features of the rows that the preparation keeps.
        group: their group codes.
        kept: (k,) positions of these among all rows.
        first: the first input of the file.
        preparation: what is baked in; None: the file takes features.
    """

    given: Tensor
    codes: Tensor
    x: Tensor
    group: Tensor
    kept: Array
    first: Input
    group_names: tuple[str, ...]
    preparation: Preparation | None

    @classmethod
    def of(
        cls, data: GroupedData | pd.DataFrame, preparation: Preparation | None, needs_group: bool
    ) -> Rows:
        """The rows of a table, which are prepared, or of prepared data.

        Raises:
            InputError: neither, no rows, or a table without a preparation.
        """
        if isinstance(data, pd.DataFrame):
            if preparation is None:
                raise InputError(
                    "expected preparation= with a table, got none; give data that are prepared "
                    "already to export a network that takes features"
                )
            return cls._table(data, preparation, needs_group)
        if not isinstance(data, GroupedData):
            raise InputError(
                f"expected GroupedData or a pandas DataFrame as data, got {type(data).__name__}"
            )
        if preparation is not None:
            raise InputError(
                "expected a table (a pandas DataFrame) as data with preparation=, got GroupedData: "
                "the exported file takes what data holds"
            )
        if not len(data):
            raise InputError("expected data with rows, got none")
        dtype = str(data.x.dtype).removeprefix("torch.")
        named = data.feature_names if data.x.ndim == 2 else ()
        first = Input("x", dtype, ("rows", *data.x.shape[1:]), named)
        rows = np.arange(len(data))
        return cls(data.x, data.group, data.x, data.group, rows, first, data.group_names, None)

    @classmethod
    def _table(cls, frame: pd.DataFrame, preparation: Preparation, needs_group: bool) -> Rows:
        given = torch.from_numpy(raw_table(preparation, frame))
        frame = _completed(frame, preparation, needs_group)
        kept, _ = preparation.kept(frame)
        x, _, group, _ = prepare(preparation, frame, quiet=True)
        codes = torch.zeros(len(frame), dtype=torch.long)
        codes[torch.from_numpy(kept)] = torch.from_numpy(group)
        names = tuple(column.name for column in preparation.columns)
        first = Input("columns", "float64", ("rows", len(names)), names)
        return cls(
            given,
            codes,
            torch.from_numpy(x),
            torch.from_numpy(group),
            kept,
            first,
            preparation.group_names,
            preparation,
        )


def _completed(frame: pd.DataFrame, preparation: Preparation, needs_group: bool) -> pd.DataFrame:
    """With a label, and with a group where none is needed: serving knows neither."""
    new: dict[str, str | int] = {}
    if preparation.label not in frame.columns:
        new[preparation.label] = 0 if preparation.positive is None else preparation.positive
    if not needs_group:
        groups = zip(preparation.sensitive, preparation.groups[-1], strict=True)
        new |= {name: value for name, value in groups if name not in frame.columns}
    return frame.assign(**new) if new else frame
