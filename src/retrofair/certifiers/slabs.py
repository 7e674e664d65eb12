"""From differences of logits to differences of probabilities, slab by slab.

sigmoid(y'') - sigmoid(y') = sinh(D/2) / (cosh m + cosh(D/2)) with D = y'' - y' and the mean m of
the two. It rises with D and falls as m leaves 0. The pairs that reach a value T are those with
D >= g(m), where g is convex in m; so the largest D - g'(c) m over a slab around c says almost all
there is to say of that slab.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from retrofair.certifiers.activations import sigmoid_difference

PARTS = 64  # of a slab, on each of which the value is bounded by its ends
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
        step = self.width / PARTS
        cuts = [self.low + i * step for i in range(PARTS)] + [self.high]
        return max(self._part(*pair) for pair in itertools.pairwise(cuts))

    def _part(self, a: float, b: float) -> float:
        nearest = 0.0 if a <= 0 <= b else min(abs(a), abs(b))
        d = min(top + max(slope * a, slope * b) for slope, top in self.lines)
        d = min(d, 2 * (self.ends[1] - a), 2 * (b - self.ends[0]))  # y' and y'' stay within
        return sigmoid_difference(max(d, 0.0), nearest)

    def halves(self) -> tuple[Slab, Slab]:
        """Two slabs; the first cut is at 0."""
        cut = 0.0 if self.low < 0 < self.high else (self.low + self.high) / 2
        return replace(self, high=cut), replace(self, low=cut)

    def under(self, slope: float, top: float) -> Slab:
        """The same slab with one more line."""
        return replace(self, lines=(*self.lines, (slope, top)))

    def slope(self, value: float) -> float:
        """The slope of g at the middle of the slab, for a difference of sigmoids of `value`."""
        t, m = min(max(value, 0.0), LEVEL), (self.low + self.high) / 2
        if t <= 0 or self.low < 0 < self.high:
            return 0.0
        # half of g: e^u = (t cosh m + sqrt(t^2 cosh^2 m + 1 - t^2)) / (1 - t)
        c = t * math.cosh(min(abs(m), 300.0))
        u = math.log((c + math.sqrt(c * c + 1 - t * t)) / (1 - t))
        rise = t * math.sinh(min(abs(m), 300.0)) / (math.cosh(u) - t * math.sinh(u))
        return math.copysign(2 * rise, m)


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
