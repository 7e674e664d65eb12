"""A user's own function of labels, predictions and groups as a measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics.counts import Array
from retrofair.metrics.intervals import LEVEL

DRAWS = 200


@dataclass(frozen=True)
class CallableMeasure:
    """Wraps `function(y, prediction, group) -> number`, three (n,) integer arrays.

    The rows it sees are put together from counts, so their order carries no meaning. Its interval
    is a bootstrap of the counts (a multinomial draw per replicate), 200 replicates.
    """

    function: Callable[[Array, Array, Array], float]
    ideal: float = 0.0
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def meaning(self) -> str:
        text = (self.function.__doc__ or "").strip()
        return text.splitlines()[0] if text else "the caller's own measure"

    def __call__(self, counts: Array) -> Array:
        stack = counts.reshape(-1, *counts.shape[-3:])
        values = [self._one(cells) for cells in stack]
        return np.asarray(values).reshape(counts.shape[:-3])

    def bias(self, counts: Array) -> Array:
        return np.abs(self(counts))

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        total = int(counts.sum())
        draws = np.random.default_rng(0).multinomial(total, (counts / total).ravel(), size=DRAWS)
        values = self(draws.reshape(DRAWS, *counts.shape))
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def _one(self, counts: Array) -> float:
        group, y, prediction = (
            np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape)
        )
        result = self.function(y, prediction, group)
        try:
            value = float(result)
        except (TypeError, ValueError):
            raise InputError(
                f"expected the measure {self.name!r} to return a number, "
                f"got {type(result).__name__}"
            ) from None
        if not math.isfinite(value):
            raise InputError(
                f"expected the measure {self.name!r} to return a finite number, got {value} for "
                f"{int(counts.sum()):,} rows; return 0 where it has no meaning"
            )
        return value
