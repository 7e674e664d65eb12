"""A preparation as tensor operations, so that an exported network takes a table's own columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from retrofair.data import Preparation
from retrofair.data.encoders import MISSING, Category, Flag, Number
from retrofair.data.learned import LARGEST


class PreparedTable(nn.Module):
    """(n, columns) float64 as of `raw_table` -> features (n, d) float32, and which rows are usable.

    The features equal those of `GroupedData.prepared` bit for bit, as the same operations are done
    in double precision. A row is not usable where the preparation would refuse or drop it: a
    missing value that it does not fill, a code of no category, a number out of range. Its features
    are finite, and mean nothing.
    """

    number: Tensor  # (k,) the columns that are numbers
    mean: Tensor  # (k,)
    spread: Tensor  # (k,)
    code: Tensor  # (d - k,) for which each indicator is 1
    fill: Tensor  # (c,) of each column; nan where a missing value makes the row unusable
    top: Tensor  # (c,) the highest code of each column; -1 for numbers

    def __init__(self, preparation: Preparation) -> None:
        super().__init__()
        numbers: list[tuple[int, Number]] = []
        indicators: list[int] = []
        # of each column: its position, and where its numbers or indicators start and stop
        self.layout: list[tuple[int, bool, int, int]] = []
        fills, tops = [], []
        for position, column in enumerate(preparation.columns):
            imputed = preparation.missing == "impute" and column.name not in preparation.sensitive
            if isinstance(column, Number):
                self.layout.append((position, True, len(numbers), len(numbers) + 1))
                numbers.append((position, column))
                fill, top = column.fill, -1
            else:
                codes, fill = _codes(column)
                start, stop = len(indicators), len(indicators) + len(codes)
                self.layout.append((position, False, start, stop))
                indicators += codes
                top = codes[-1]
            fills.append(fill if imputed else math.nan)
            tops.append(top)
        exact = torch.float64
        values = {
            "number": torch.tensor([place for place, _ in numbers], dtype=torch.long),
            "mean": torch.tensor([each.mean for _, each in numbers], dtype=exact),
            "spread": torch.tensor([each.spread for _, each in numbers], dtype=exact),
            "code": torch.tensor(indicators, dtype=torch.float32),
            "fill": torch.tensor(fills, dtype=exact),
            "top": torch.tensor(tops, dtype=exact),
        }
        for name, value in values.items():
            self.register_buffer(name, value)

    def forward(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        filled = torch.where(torch.isnan(columns), self.fill, columns)
        # comparisons with nan are false: such a code is none, such a number not in range
        code = (filled >= 0) & (filled <= self.top) & (torch.floor(filled) == filled)
        usable = every(code | (self.top < 0))
        numbers = filled
        if len(self.number):  # ONNX cannot hold an empty constant of doubles
            scaled = ((filled[:, self.number] - self.mean) / self.spread).float()
            within = scaled.abs() <= LARGEST
            usable = usable & every(within)
            numbers = torch.where(within, scaled, torch.zeros_like(scaled))
        # column by column, as gathering hundreds of indicators takes longer than the network;
        # codes are small, single precision holds them
        codes = filled.float()
        parts = [
            numbers[:, start:stop]
            if number
            else (codes[:, place : place + 1] == self.code[start:stop]).float()
            for place, number, start, stop in self.layout
        ]
        return torch.cat(parts, 1), usable


def _codes(column: Category | Flag) -> tuple[list[int], float]:
    """The codes that have an indicator, and the one that a missing value is taken for."""
    if isinstance(column, Flag):
        return [1], 0.0
    known = MISSING in column.values
    fill = float(column.values.index(MISSING)) if known else math.nan
    return list(range(len(column.values))), fill


def every(truths: Tensor) -> Tensor:
    """Rows in which all are true, (n, k) -> (n,): a sum, which every format knows."""
    return (~truths).float().sum(1) == 0
