"""Differences of rates between groups: signed against the privileged group, or the largest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from retrofair.metrics.arrays import functions, largest
from retrofair.metrics.counts import Array
from retrofair.metrics.intervals import LEVEL, linear, quantile
from retrofair.metrics.rates import Rate, mean


@dataclass(frozen=True)
class SignedGap:
    """Mean over `rates` of the unprivileged group's rate minus the privileged group's.

    With two groups the value is signed, as in AIF360. With more, it is the largest absolute
    difference to the privileged (last) group. Groups without rows of the condition are left out;
    without two that have some the value is nan.
    """

    name: str
    meaning: str
    rates: tuple[Rate, ...]
    aliases: tuple[str, ...] = ()
    ideal: float = 0.0

    def __call__(self, counts: Array) -> Array:
        rates = mean([rate(counts) for rate in self.rates])
        difference = rates[..., :-1] - rates[..., -1:]
        if difference.shape[-1] == 1:
            found: Array = functions(counts).asarray(difference[..., 0])
            return found
        return nan_max(abs(difference))

    def bias(self, counts: Array) -> Array:
        found: Array = functions(counts).abs(self(counts))
        return found

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        """With more than two groups simultaneous over them, so at least at the level."""
        z = quantile(level, counts.shape[-3] - 1)
        terms = []
        for rate in self.rates:
            hits, base = rate.parts(counts)
            weight = 1 / len(self.rates)
            terms += [(weight, hits[:-1], base[:-1]), (-weight, hits[-1], base[-1])]
        _, lows, highs = linear(terms, z)
        if len(lows) == 1:
            return float(lows[0]), float(highs[0])
        return largest_absolute(lows, highs)


@dataclass(frozen=True)
class LargestGap:
    """The largest difference of a rate between any two groups, over all `rates`; unsigned.

    As in fairlearn: the maximum minus the minimum over the groups.
    """

    name: str
    meaning: str
    rates: tuple[Rate, ...]
    aliases: tuple[str, ...] = ()
    ideal: float = 0.0

    def __call__(self, counts: Array) -> Array:
        do, gaps = functions(counts), []
        for rate in self.rates:
            values = rate(counts)
            enough = do.isfinite(values).sum(axis=-1) >= 2
            gap = nan_max(values) + nan_max(-values)
            gaps.append(do.where(enough, gap, np.nan))
        found: Array = largest(gaps)
        return found

    def bias(self, counts: Array) -> Array:
        return self(counts)

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        """Simultaneous over all pairs of groups, so at least at the level."""
        one, other = np.triu_indices(counts.shape[-3], k=1)
        z = quantile(level, len(one) * len(self.rates))
        lows, highs = [], []
        for rate in self.rates:
            hits, base = rate.parts(counts)
            terms = [(1.0, hits[one], base[one]), (-1.0, hits[other], base[other])]
            _, low, high = linear(terms, z)
            if np.isnan(low).all():  # as the value: nan where one of the rates has no gap
                return np.nan, np.nan
            lows.append(low)
            highs.append(high)
        return largest_absolute(np.concatenate(lows), np.concatenate(highs))


def nan_max(values: Array) -> Array:
    """Maximum over the last axis without the nans; nan where all are, or where there are none."""
    if isinstance(values, torch.Tensor):
        low = values.new_full((*values.shape[:-1], 1), -np.inf)
        top = torch.cat([torch.where(values.isnan(), low, values), low], -1).amax(-1)
        return torch.where(top.isneginf(), np.nan, top)
    filled = np.where(np.isnan(values), -np.inf, values).max(axis=-1, initial=-np.inf)
    return np.asarray(np.where(np.isneginf(filled), np.nan, filled))


def largest_absolute(lows: Array, highs: Array) -> tuple[float, float]:
    """Limits of the largest absolute value, from simultaneous limits of each."""
    known = ~(np.isnan(lows) | np.isnan(highs))
    if not known.any():
        return np.nan, np.nan
    lows, highs = lows[known], highs[known]
    nearest = np.maximum(np.maximum(lows, -highs), 0)
    return float(nearest.max()), float(np.maximum(np.abs(lows), np.abs(highs)).max())
