"""From differences of logits to differences of probabilities, slab by slab.

sigmoid(y'') - sigmoid(y') = sinh(D/2) / (cosh m + cosh(D/2)) with D = y'' - y' and the mean m of
the two. It rises with D and falls as m leaves 0. The pairs that reach a value T are those with
D >= g(m), where g is convex in m; so the largest D - g'(c) m over a slab around c says almost all
there is to say of that slab.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from retrofair.certifiers.activations import sigmoid_difference
from retrofair.certifiers.domain import Floats

PARTS = 1000  # of a slab, on each of which the value is bounded by its ends
LEVEL = 1 - 1e-9


@dataclass(frozen=True)
class Slab:
    """Pairs whose mean logit lies in [low, high].

    Args:
        lines: (slope, top): D <= top + slope * m for all of them.
        ends: what either logit lies in.
    """

    low: float
    high: float
    lines: tuple[tuple[float, float], ...]
    ends: tuple[float, float]

    @property
    def width(self) -> float:
        return self.high - self.low

    @cached_property
    def worth(self) -> float:
        """An upper bound on the difference of sigmoids; 0 where no pair is left."""
        cuts = np.linspace(self.low, self.high, PARTS + 1)
        a, b = cuts[:-1], cuts[1:]
        nearest = np.where((a <= 0) & (b >= 0), 0.0, np.minimum(np.abs(a), np.abs(b)))
        # y' and y'' stay within the ends
        d = np.minimum(2 * (self.ends[1] - a), 2 * (b - self.ends[0]))
        for slope, top in self.lines:
            d = np.minimum(d, top + np.maximum(slope * a, slope * b))
        return float(_sigmoid_differences(np.maximum(d, 0.0), nearest).max())

    def halves(self) -> tuple[Slab, Slab]:
        """Two slabs; the first cut is at 0."""
        cut = 0.0 if self.low < 0 < self.high else (self.low + self.high) / 2
        return replace(self, high=cut), replace(self, low=cut)

    def under(self, slope: float, top: float) -> Slab:
        """The same slab with one more line."""
        return replace(self, lines=(*self.lines, (slope, top)))

    def line(self, value: float) -> tuple[float, float]:
        """Slope and top of the line that touches g at the middle of the slab.

        Where no pair of the slab lies above it, none has a difference of sigmoids above `value`.
        """
        t = min(max(value, 0.0), LEVEL)
        m = 0.0 if self.low < 0 < self.high else (self.low + self.high) / 2
        # half of g: e^u = (t cosh m + sqrt(t^2 cosh^2 m + 1 - t^2)) / (1 - t)
        c = t * math.cosh(min(abs(m), 300.0))
        u = math.log((c + math.sqrt(c * c + 1 - t * t)) / (1 - t))
        rise = t * math.sinh(min(abs(m), 300.0)) / (math.cosh(u) - t * math.sinh(u))
        slope = math.copysign(2 * rise, m)
        return slope, 2 * u - slope * m


def _sigmoid_differences(d: Floats, m: Floats) -> Floats:
    """`sigmoid_difference` for arrays, m >= 0."""
    half = d / 2
    top = np.maximum(half, m)
    rise = np.exp(half - top) - np.exp(-half - top)
    total = np.exp(m - top) + np.exp(-m - top) + np.exp(half - top) + np.exp(-half - top)
    return np.asarray(rise / total)


def around_zero(slab: Slab, small: Callable[[float], bool]) -> tuple[Slab, list[Slab]]:
    """The part near 0 and the parts so far from it that even the largest D is worth little."""
    near, far = 0.0, max(abs(slab.low), abs(slab.high))
    reach = min(top for slope, top in slab.lines if not slope)
    while far - near > 1e-3 * far:
        middle = (near + far) / 2
        if small(sigmoid_difference(reach, middle)):
            far = middle
        else:
            near = middle
    inner = replace(slab, low=max(slab.low, -far), high=max(min(slab.high, far), slab.low))
    inner = replace(inner, low=min(inner.low, inner.high))
    outer = [replace(slab, high=inner.low)] if inner.low > slab.low else []
    outer += [replace(slab, low=inner.high)] if inner.high < slab.high else []
    return inner, outer
