"""Which rows of its dataset a DataLoader means."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from retrofair.errors import InputError


def sampled(loader: DataLoader[Any]) -> Tensor | None:
    """The rows (n,) that a DataLoader's sampler names, in the dataset's order; None for all.

    A last batch that is dropped counts all the same: it is left out to have batches of one size.

    Raises:
        InputError: it names a row twice, or other rows each time.
    """
    batches: Any = loader.batch_sampler
    sampler: Any = batches.sampler if type(batches) is BatchSampler else batches or loader.sampler
    kind = type(sampler)
    dataset: Any = loader.dataset
    rows = len(dataset)
    if kind is SequentialSampler:
        return None
    if kind is WeightedRandomSampler:
        raise _other(kind)
    if kind is RandomSampler:
        if sampler.replacement or sampler.num_samples != rows:
            raise _other(kind)
        return None
    named = getattr(sampler, "indices", sampler)
    if sampler is batches:  # with batches of its own making
        named = (row for batch in batches for row in batch)
    with torch.random.fork_rng(devices=[]):  # to look is not to draw
        found = list(islice(named, rows + 1))
    try:
        index = torch.as_tensor(found, dtype=torch.long)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"expected a sampler of rows, got one of {found[:1]}") from None
    if len(index.unique()) < len(index):
        raise _other(kind)
    return None if len(index) == rows else index.sort().values


def _other(kind: type) -> InputError:
    return InputError(
        f"expected a DataLoader whose sampler names each row once, got a {kind.__name__} that "
        "repeats rows or draws others each time: audits and methods need the rows as they are; "
        "give the dataset itself, or torch.utils.data.Subset(dataset, rows)"
    )
