"""A preparation as tensor operations, so that an exported network takes a table's own columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from retrofair.data import Preparation
from retrofair.data.encoders import MISSING, Category, Number
from retrofair.data.preparation import LARGEST


class PreparedTable(nn.Module):
    """(n, columns) float64 as of `raw_table` -> features (n, d) float32, and which rows are usable.

    The features equal those of `GroupedData.prepared` bit for bit, as the same operations are done
    in double precision. A row is not usable where the preparation would refuse or drop it: a
    missing value that it does not fill, a code of no category, a number out of range. Its features
    are 0.
    """

    source: Tensor  # (d,) the column of each feature
    number: Tensor  # (d,) whether the feature is a number rather than an indicator
    mean: Tensor  # (d,) of a number; the code of an indicator
    spread: Tensor  # (d,)
    fill: Tensor  # (c,) of each column; nan where a missing value makes the row unusable
    top: Tensor  # (c,) the highest code of each column; -1 for numbers

    def __init__(self, preparation: Preparation) -> None:
        super().__init__()
        source: list[int] = []
        numbers: list[tuple[bool, float, float]] = []
        fills, tops = [], []
        for position, column in enumerate(preparation.columns):
            imputed = preparation.missing == "impute" and column.name not in preparation.sensitive
            if isinstance(column, Number):
                numbers.append((True, column.mean, column.spread))
                fill, top = column.fill, -1
            elif isinstance(column, Category):
                numbers += [(False, float(code), 1.0) for code in range(len(column.values))]
                known = MISSING in column.values
                fill = float(column.values.index(MISSING)) if known else math.nan
                top = len(column.values) - 1
            else:
                numbers.append((False, 1.0, 1.0))
                fill, top = 0.0, 1
            source += [position] * len(column.feature_names)
            fills.append(fill if imputed else math.nan)
            tops.append(top)
        exact = torch.float64
        self.register_buffer("source", torch.tensor(source))
        self.register_buffer("number", torch.tensor([kind for kind, _, _ in numbers]))
        self.register_buffer("mean", torch.tensor([mean for _, mean, _ in numbers], dtype=exact))
        self.register_buffer("spread", torch.tensor([each[2] for each in numbers], dtype=exact))
        self.register_buffer("fill", torch.tensor(fills, dtype=exact))
        self.register_buffer("top", torch.tensor(tops, dtype=exact))

    def forward(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        filled = torch.where(torch.isnan(columns), self.fill, columns)
        # comparisons with nan are false: such a code is none, such a number not in range
        code = (filled >= 0) & (filled <= self.top) & (torch.floor(filled) == filled)
        known = code | (self.top < 0)
        values = filled[:, self.source]
        scaled = (values - self.mean) / self.spread
        x = torch.where(self.number, scaled, (values == self.mean).to(scaled)).float()
        usable = every(known) & every(x.abs() <= LARGEST)
        return torch.where(usable[:, None], x, torch.zeros_like(x)), usable


def every(truths: Tensor) -> Tensor:
    """Rows in which all are true, (n, k) -> (n,): a sum, which every format knows."""
    return (~truths).float().sum(1) == 0
