"""Slabs of mean logits bound every pair in them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from retrofair.certifiers.activations import sigmoid_difference
from retrofair.certifiers.slabs import Slab, around_zero


def grid(slab: Slab, reach: float) -> float:
    """The largest difference of sigmoids over a fine grid of the slab's pairs."""
    m = np.linspace(slab.low, slab.high, 400)[:, None]
    d = np.linspace(0, reach, 400)[None, :]
    low, high = m - d / 2, m + d / 2
    inside = (low >= slab.ends[0]) & (high <= slab.ends[1])
    for slope, top in slab.lines:
        inside &= d <= top + slope * m
    value = 1 / (1 + np.exp(-high)) - 1 / (1 + np.exp(-low))
    return float(np.where(inside, value, 0).max())


@pytest.mark.parametrize("low", [-6.0, -1.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("lines", [((0.0, 2.0),), ((0.0, 5.0), (0.7, 1.0)), ((-0.5, 3.0),)])
def test_worth_is_above_every_pair_and_near_the_best(low: float, lines: tuple) -> None:
    slab = Slab(low, low + 2.0, lines, (-7.0, 7.0))
    best = grid(slab, 6.0)
    assert slab.worth >= best - 1e-12
    assert slab.worth <= best + 0.05


def test_halves_cover_the_slab_and_are_worth_no_more() -> None:
    for low, high in ((-3.0, 5.0), (1.0, 2.0)):
        slab = Slab(low, high, ((0.0, 2.0),), (-9.0, 9.0))
        first, second = slab.halves()
        assert (first.low, first.high, second.high) == (low, second.low, high)
        assert max(first.worth, second.worth) <= slab.worth + 1e-12


@pytest.mark.parametrize("middle", [0.7, 2.0, -3.0])
def test_the_slope_is_that_of_what_a_value_needs(middle: float) -> None:
    value = 0.3

    def needed(m: float) -> float:
        low, high = 0.0, 40.0
        for _ in range(200):
            d = (low + high) / 2
            low, high = (d, high) if sigmoid_difference(d, m) < value else (low, d)
        return low

    slab = Slab(middle - 0.1, middle + 0.1, ((0.0, 40.0),), (-50.0, 50.0))
    step = 1e-4
    wanted = (needed(middle + step) - needed(middle - step)) / (2 * step)
    slope, top = slab.line(value)
    assert slope == pytest.approx(wanted, rel=1e-3)
    assert top + slope * middle == pytest.approx(needed(middle), rel=1e-6)
    under = slab.under(slope, top)
    assert value <= under.worth <= value * 1.05


def test_around_zero_leaves_nothing_out() -> None:
    slab = Slab(-8.0, 30.0, ((0.0, 1.0),), (-9.0, 31.0))
    inner, outer = around_zero(slab, lambda value: value <= 0.05)
    parts = sorted([inner, *outer], key=lambda part: part.low)
    assert parts[0].low == slab.low
    assert parts[-1].high == slab.high
    assert all(a.high == b.low for a, b in itertools.pairwise(parts))
    assert all(part.worth <= 0.0501 for part in outer)
    assert inner.low <= 0 <= inner.high
