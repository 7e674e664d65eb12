"""Which rows train a network and which debias it, and the seed that says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from retrofair.data import GroupedData
from retrofair.data.split import check_seed
from retrofair.errors import InputError


def held_out(data: GroupedData, share: float, seed: int) -> tuple[GroupedData, GroupedData]:
    """Rows to train on and rows held out, alike in their groups and labels.

    Where either part would lack a label, as of a handful of rows, both are all rows.

    Args:
        share: of the rows held out, in (0, 1).

    Raises:
        InputError: another share.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"expected valid_size in (0, 1), got {share!r}")
    classes = int(data.y.max()) + 1
    cell = (data.group * classes + data.y).numpy()
    order = np.random.default_rng(seed).permutation(len(cell))
    sorted_by_cell = order[np.argsort(cell[order], kind="stable")]
    # of the sorted rows evenly, so that each cell gives its share
    place = np.arange(len(cell))
    chosen = np.floor((place + 1) * share) > np.floor(place * share)
    first, second = data[sorted_by_cell[~chosen]], data[sorted_by_cell[chosen]]
    whole = [len(torch.unique(part.y)) == len(torch.unique(data.y)) for part in (first, second)]
    return (first, second) if all(whole) else (data, data)


def seed_of(random_state: Any) -> int:
    """The seed that scikit-learn's `random_state` stands for; an integer is one itself.

    Raises:
        InputError: it is none of None, a whole number, or a numpy `RandomState`.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return check_seed(random_state)
