"""The rows that an export is tried on: as the file takes them, and as the library does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from retrofair.data import Batches, GroupedData, Preparation, StreamedData, raw_table
from retrofair.data.preparation import prepare
from retrofair.deploy.form import ROWS, Form, Input
from retrofair.errors import InputError
from retrofair.metrics import Array


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in both forms.

    Args:
        given: what the exported file takes, tensors (n, ...).
        codes: (n,) the group of each; 0 where the table does not tell it.
        x: what the network takes, of the rows that the preparation keeps.
        form: what x is made of.
        group: their group codes.
        kept: (k,) positions of these among all rows.
        inputs: of the file, but for the group.
        data: the kept rows as a network is looked at with.
        preparation: what is baked in; None: the file takes features.
    """

    given: tuple[Tensor, ...]
    codes: Tensor
    x: Any
    form: Form
    group: Tensor
    kept: Array
    inputs: tuple[Input, ...]
    data: Batches
    preparation: Preparation | None

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.data.group_names

    def of_tokens(self) -> Rows:
        """The same, of which a file takes more or fewer tokens too."""
        return replace(self, inputs=self.form.inputs(self.x, tokens=True))

    @classmethod
    def of(
        cls,
        data: GroupedData | StreamedData | pd.DataFrame,
        preparation: Preparation | None,
        needs_group: bool,
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
        if not isinstance(data, GroupedData | StreamedData):
            raise InputError(
                "expected GroupedData, StreamedData or a pandas DataFrame as data, got "
                f"{type(data).__name__}"
            )
        if preparation is not None:
            raise InputError(
                "expected a table (a pandas DataFrame) as data with preparation=, got "
                f"{type(data).__name__}: the exported file takes what data holds"
            )
        if not len(data):
            raise InputError("expected data with rows, got none")
        x = data.x
        form = Form.of(x)
        inputs = form.inputs(x, data.feature_names if isinstance(data, GroupedData) else ())
        rows = np.arange(len(data))
        given = tuple(form.parts(x))
        return cls(given, data.group, x, form, data.group, rows, inputs, data, None)

    @classmethod
    def _table(cls, frame: pd.DataFrame, preparation: Preparation, needs_group: bool) -> Rows:
        given = torch.from_numpy(raw_table(preparation, frame))
        frame = _completed(frame, preparation, needs_group)
        kept, _ = preparation.kept(frame)
        x, _, group, _ = prepare(preparation, frame, quiet=True)
        codes = torch.zeros(len(frame), dtype=torch.long)
        codes[torch.from_numpy(kept)] = torch.from_numpy(group)
        names = tuple(column.name for column in preparation.columns)
        inputs = (Input("columns", "float64", (ROWS, len(names)), names),)
        features = torch.from_numpy(x)
        data = GroupedData(
            x=features,
            y=torch.zeros(len(x)),
            group=torch.from_numpy(group),
            group_names=preparation.group_names,
            label_names=preparation.label_names,
        )
        return cls((given,), codes, features, Form(), data.group, kept, inputs, data, preparation)


def _completed(frame: pd.DataFrame, preparation: Preparation, needs_group: bool) -> pd.DataFrame:
    """With a label, and with a group where none is needed: serving knows neither."""
    new: dict[str, str | int] = {}
    if preparation.label not in frame.columns:
        new[preparation.label] = 0 if preparation.positive is None else preparation.positive
    if not needs_group:
        groups = zip(preparation.sensitive, preparation.groups[-1], strict=True)
        new |= {name: value for name, value in groups if name not in frame.columns}
    return frame.assign(**new) if new else frame
