"""Whole people near people in between, from whom the search for the worst pair can start."""

from __future__ import annotations

import numpy as np

from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs

ALIKE = 1e-6


def whole_people(
    pairs: Pairs, first: Floats, second: Floats, n: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """n pairs: categories drawn by their shares in a pair (d,), integers near theirs.

    The nearest comes first. Numbers are as they were: two people may be too far apart.
    """
    domain = pairs.domain
    draws = generator.random((n, len(domain.features)))
    draws[0] = 0.5
    one, two = (domain.to_raw(np.repeat(person[None], n, 0)) for person in (first, second))
    for (_, where), draw in zip(domain.placed, draws.T, strict=True):
        if where in [columns for _, columns in domain.groups]:
            categories = np.eye(where.stop - where.start)
            one[:, where] = categories[_drawn(first[where], draw)]
            same = np.abs(first[where] - second[where]).max() < ALIKE
            two[:, where] = one[:, where] if same else categories[_drawn(second[where], draw)]
        elif domain.integer[where.start]:
            i = where.start
            apart = np.rint(two[:, i] - one[:, i])
            one[:, i] = np.clip(np.rint(one[:, i] + draw - 0.5), domain.low[i], domain.high[i])
            two[:, i] = np.clip(one[:, i] + apart, domain.low[i], domain.high[i])
    return domain.to_inputs(one), domain.to_inputs(two)


def _drawn(shares: Floats, draw: Floats) -> np.ndarray:
    """(n,) categories for draws in [0, 1); the largest share in the middle."""
    order = np.argsort(shares)
    order = np.concatenate([order[::2], order[1::2][::-1]])
    ends = np.cumsum(np.clip(shares[order], 0, None))
    return np.asarray(order[np.minimum((draw[:, None] * ends[-1] >= ends).sum(1), len(order) - 1)])
