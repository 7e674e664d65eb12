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
    SubsetRandomSampler,
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
    if kind is SubsetRandomSampler:
        sampler = sampler.indices
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
    with torch.random.fork_rng(devices=[]):  # to look is not to draw
        # twice: one that draws rows names others then
        index, again = (_named(sampler, rows, whole=sampler is not batches) for _ in range(2))
    if len(index.unique()) < len(index) or not torch.equal(index, again):
        raise _other(kind)
    return None if len(index) == rows else index


def _named(sampler: Any, rows: int, *, whole: bool) -> Tensor:
    """The rows that a sampler, or one of whole batches, names now, sorted; one too many at most."""
    named = sampler if whole else (row for batch in sampler for row in batch)
    found = list(islice(named, rows + 1))
    try:
        return torch.as_tensor(found, dtype=torch.long).sort().values
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"expected a sampler of rows, got one of {found[:1]}") from None


def _other(kind: type) -> InputError:
    return InputError(
        f"expected a DataLoader whose sampler names each row once, got a {kind.__name__} that "
        "repeats rows or draws others each time: audits and methods need the rows as they are; "
        "give the dataset itself, or torch.utils.data.Subset(dataset, rows)"
    )
