"""A sample of rows, for methods that would look at all of them too often."""

from __future__ import annotations

from typing import Any

import torch

from retrofair.errors import InputError


def sample_of(data: Any, rows: int, seed: int) -> Any:
    """So many rows, with each group and label in its share.

    Args:
        data: `GroupedData` or `StreamedData`.

    Raises:
        InputError: there are fewer.
    """
    n = len(data)
    if not 1 <= rows <= n:
        raise InputError(f"expected a sample of 1 to {n:,} rows, got {rows:,} (rows)")
    mixed = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    cell = data.group * (int(data.y.max()) + 1) + data.y.long()
    by_cell = mixed[torch.sort(cell[mixed], stable=True).indices]
    # every n/rows-th of rows that lie cell by cell
    places = ((torch.arange(rows).double() + 0.5) * n / rows).long()
    return data[by_cell[places].sort().values]
