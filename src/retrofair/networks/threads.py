"""One thread for small networks: splitting their short loops over cores costs more than it gains.

Measured with the papers' network on two cores: on an idle machine two threads are up to a quarter
faster in a single large pass, slower in training, and many times slower as soon as another process
wants a core.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import nn

SMALL = 1_000_000


@contextmanager
def fitting_threads(model: nn.Module) -> Iterator[None]:
    """Run on one thread while the network has fewer than a million weights.

    numpy's linear algebra too: a fair head was 13 times slower on two threads beside other work.
    """
    if sum(p.numel() for p in model.parameters()) >= SMALL:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
