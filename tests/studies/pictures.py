"""Generated pictures in place of faces: a source of a study's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrofair.data import Batch, Splits, StreamedData
from retrofair.data.split import split_rows
from retrofair.studies.sources import Source


@dataclass(frozen=True, eq=False)
class Rows:
    """A dataset in memory, which gives batches at once."""

    x: Tensor
    y: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Batch:
        return self.x[row], self.y[row], self.group[row]

    def batch(self, index: Tensor) -> Batch:
        return self.x[index], self.y[index], self.group[index]


@dataclass(frozen=True)
class Pictures(Source):
    """Noise that is brighter on the left for label 1, and at the top by group.

    Label 1 is more frequent in the last group. Of two groups, or with `others=False` of three.
    """

    n: int = 300

    def __post_init__(self) -> None:
        """No data set has these options."""

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "pictures": self.n}

    def checksum(self, root: str | None = None) -> str:
        return ""

    def load(self, root: str | None = None) -> Splits[Any]:
        random = torch.Generator().manual_seed(0)
        names = ("a", "c") if self.others else ("a", "b", "c")
        group = torch.randint(len(names), (self.n,), generator=random)
        chance = 0.3 + 0.4 * (group == len(names) - 1)
        y = (torch.rand(self.n, generator=random) < chance).long()
        x = torch.randn(self.n, 3, 32, 32, generator=random)
        x[..., :16] += 0.5 * y[:, None, None, None]
        x[..., :16, :] += 0.5 * group[:, None, None, None]
        return split_rows(StreamedData.of(Rows(x, y, group), names), self.split)
