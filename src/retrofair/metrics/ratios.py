"""Ratios of rates between groups, as the four-fifths rule uses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrofair.metrics.arrays import functions, largest
from retrofair.metrics.counts import Array
from retrofair.metrics.gaps import nan_max
from retrofair.metrics.intervals import LEVEL, quantile, ratio
from retrofair.metrics.rates import Rate


@dataclass(frozen=True)
class RateRatio:
    """A group's rate over another's: over the privileged one, or (`worst`) over any.

    With `worst` it is the smallest rate over the largest, at most 1, as in fairlearn. Without, the
    unprivileged rate over the privileged one; with more than two groups the smallest such ratio.
    The value is nan where the rate below the line is 0.
    """

    name: str
    meaning: str
    rates: tuple[Rate, ...]
    worst: bool = False
    aliases: tuple[str, ...] = ()
    ideal: float = 1.0

    def __call__(self, counts: Array) -> Array:
        do, negative = functions(counts), []
        for rate in self.rates:
            rates = rate(counts)
            if self.worst:
                top, bottom = -nan_max(-rates), nan_max(rates)
                enough = do.isfinite(rates).sum(axis=-1) >= 2
                bottom = do.where(enough & (bottom > 0), bottom, np.nan)
                negative.append(-(top / bottom))
            else:
                bottom = do.where(rates[..., -1:] > 0, rates[..., -1:], np.nan)
                negative.append(nan_max(-rates[..., :-1] / bottom))
        found: Array = do.asarray(-largest(negative))
        return found

    def bias(self, counts: Array) -> Array:
        """1 minus the ratio or its inverse, whichever is below 1, of the worst group: in [0, 1].

        It looks at both sides: a group selected five times as often as the privileged one is as
        far from fair as one selected a fifth as often, though the value only shows the latter.
        """
        if self.worst:
            found: Array = functions(counts).asarray(1 - self(counts))
            return found
        do, deviations = functions(counts), []
        for rate in self.rates:
            rates = rate(counts)
            low = do.minimum(rates[..., :-1], rates[..., -1:])
            high = do.maximum(rates[..., :-1], rates[..., -1:])
            # a ratio to a rate of 0 has no value, and therefore no bias either
            high = do.where(rates[..., -1:] > 0, high, np.nan)
            deviations.append(nan_max(1 - low / high))
        found = largest(deviations)
        return found

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        """Simultaneous over the ratios compared, so at least at the level."""
        n_groups = counts.shape[-3]
        if self.worst:
            one, other = np.nonzero(~np.eye(n_groups, dtype=bool))
            comparisons = len(one) // 2  # a ratio and its inverse share their limits
        else:
            one, other = np.arange(n_groups - 1), np.full(n_groups - 1, n_groups - 1)
            comparisons = len(one)
        z = quantile(level, len(self.rates) * comparisons)
        limits = []
        for rate in self.rates:
            hits, base = rate.parts(counts)
            limits.append(ratio((hits[one], base[one]), (hits[other], base[other]), z))
            if np.isnan(limits[-1][0]).all():
                return np.nan, np.nan
        lows, highs = np.concatenate(limits, axis=1)
        known = ~np.isnan(lows)
        cap = 1.0 if self.worst else np.inf
        return min(float(lows[known].min()), cap), min(float(highs[known].min()), cap)
