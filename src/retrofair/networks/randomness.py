"""Seeds: all randomness comes from a generator, and the global state is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from retrofair.data.split import check_seed


def generator_of(seed: int) -> torch.Generator:
    """A generator started from a seed.

    Raises:
        InputError: it is not a whole number from 0 to 2**63 - 1.
    """
    return torch.Generator().manual_seed(check_seed(seed))


def draw_seed(generator: torch.Generator) -> int:
    """A fresh seed from a generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator))


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """For code that only knows the global random state (dropout, initial weights)."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(draw_seed(generator))
        yield
