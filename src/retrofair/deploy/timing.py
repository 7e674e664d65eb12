"""How long an exported file takes beside the network it was made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from retrofair.deploy.formats import Run

BATCHES = ((1, 200), (1024, 30))  # rows, and how often
SECONDS = 5.0  # for a batch's repetitions, of which there are fewer where each takes long
FEWEST, SLOW = 3, 64  # repetitions at least, and rows where those of the larger batch take longer


@dataclass(frozen=True)
class Timing:
    """Medians for one size of batch, in milliseconds, measured in turns.

    Args:
        original: the network and its rule in Python, on prepared features.
        exported: the file in its runtime, from what it takes.
    """

    rows: int
    repeats: int
    original: float
    exported: float

    @property
    def ratio(self) -> float:
        """Exported over original: below 1 the export is faster."""
        return self.exported / self.original if self.original else float("nan")

    @property
    def seconds(self) -> float:
        """Of both together, a row."""
        return (self.original + self.exported) / 1000 / self.rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "ratio": self.ratio}


def timed(
    original: Callable[[Sequence[Tensor]], object],
    run: Run,
    features: Sequence[Tensor],
    inputs: Sequence[Tensor],
) -> tuple[Timing, ...]:
    """Both on the same rows, repeated until they fill the batch.

    Args:
        original: of features and group codes.
        features: those of all rows and their group codes.
        inputs: what the file takes for all rows.
    """
    found: list[Timing] = []
    for rows, repeats in BATCHES:
        if found and found[0].seconds * rows * FEWEST > SECONDS:
            rows = min(rows, SLOW)
        index = np.arange(rows) % len(inputs[0])
        used = [each[index % len(each)] for each in features]
        given = [each[index] for each in inputs]
        ours, theirs = [], []
        begun = time.perf_counter()
        # the first few calls compile, allocate and fill caches
        for done in range(-3, repeats):
            if done >= FEWEST and time.perf_counter() - begun > SECONDS:
                break
            started = time.perf_counter()
            original(used)
            middle = time.perf_counter()
            run(given)
            theirs.append(time.perf_counter() - middle)
            ours.append(middle - started)
        medians = [1000 * float(np.median(each[3:])) for each in (ours, theirs)]
        found.append(Timing(rows, len(ours) - 3, *medians))
    return tuple(found)
