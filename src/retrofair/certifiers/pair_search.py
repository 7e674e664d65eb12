"""Branch and bound over pairs of rows: the largest difference of outputs within epsilon.

The points fall into parts with no similar pair across, and each part into small leaves with a box
around their places and an interval around their outputs. Pairs of leaves are looked into by
decreasing bound, until none can beat the best pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrofair.certifiers.distances import Norm, Resolved
from retrofair.certifiers.domain import Floats, Mask
from retrofair.progress import track

Integers = npt.NDArray[np.intp]

LEAF_ROWS = 256
MOST_LEAVES = 1_500
DENSE = 2_000  # candidates of a block from which whole matrices are faster than a list
FEW_COLUMNS = 4
EXACT_AT_ONCE = 512
SHOWN_BLOCKS = 200
RELATIVE_SLACK = 1e-9
ROUNDING = 2.0**-49  # eight units in the last place of a double


@dataclass(frozen=True, eq=False)
class Points:
    """Rows that are the same but for free columns are one point with an interval of outputs."""

    rows: int
    norm: Resolved
    x: Floats  # (u, d), free columns 0
    places: Floats  # (u, r), where the distance is a plain l_p norm
    low: Floats  # (K, u) smallest output
    high: Floats
    low_row: Integers  # (K, u) the row that has it
    high_row: Integers
    several: Mask  # (u,) more than one row


def limit_of(points: Points, epsilon: float) -> float:
    """Epsilon with room for the rounding of places: nothing nearer than epsilon is beyond it."""
    norm = points.norm
    if isinstance(norm, Norm):
        reach = np.abs(points.x).max(0) @ np.abs(norm.matrix).T
        slack = ROUNDING * points.x.shape[1] * float(norm.size(reach[None])[0])
    else:
        slack = RELATIVE_SLACK * float(norm.size(np.abs(points.places).max(0)[None])[0])
    limit: float = epsilon * (1 + RELATIVE_SLACK) + slack
    return limit


def _parts(places: Floats, limit: float) -> tuple[Integers, Integers]:
    """Points with company, and the part of each: other parts are further away than the limit.

    In every column a part has no hole wider than the limit. A split by one column can open holes
    in another, so it is repeated until nothing changes.
    """
    rows = np.arange(len(places))
    part = np.zeros(len(places), dtype=np.intp)
    columns = np.flatnonzero(np.ptp(places, axis=0) > limit)
    count = 0
    while len(rows) and len(columns):
        for column in columns:
            values = places[rows, column]
            order = np.lexsort((values, part))
            values, parts = values[order], part[order]
            new = (parts[1:] != parts[:-1]) | (values[1:] - values[:-1] > limit)
            part[order[1:]] = np.cumsum(new)
            part[order[0]] = 0
        sizes = np.bincount(part)
        company = sizes[part] > 1
        rows, part = rows[company], part[company]
        if len(sizes) == count:
            break
        count = int((sizes > 1).sum())
        part = np.unique(part, return_inverse=True)[1].reshape(-1)
    order = np.argsort(part, kind="stable")
    return rows[order], part[order]


def _leaves(places: Floats, size: int) -> list[Integers]:
    """The points in groups of at most `size` that lie close together, neighbours in sequence."""
    found: list[Integers] = []
    waiting = [np.arange(len(places))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= size:
            # a cut beside many equal values leaves small groups: join them again
            if found and len(found[-1]) + len(rows) <= size:
                found[-1] = np.concatenate([found[-1], rows])
            else:
                found.append(rows)
            continue
        widest = int(np.argmax(places[rows].var(0)))
        values = places[rows, widest]
        order = np.argsort(values, kind="stable")
        cuts = np.flatnonzero(np.diff(values[order])) + 1
        middle = len(rows) // 2
        cut = int(cuts[np.argmin(np.abs(cuts - middle))]) if len(cuts) else middle
        waiting += [rows[order[cut:]], rows[order[:cut]]]
    return found


class Search:
    """Branch and bound over the pairs of leaves of each part."""

    def __init__(self, points: Points, epsilon: float) -> None:
        self.points, self.epsilon, self.p = points, epsilon, points.norm.p
        self.best, self.distance = -math.inf, math.nan
        self.pair: tuple[int, int] | None = None
        self.limit = limit_of(points, epsilon)
        self.leaves: list[slice] = []
        self.parts: list[slice] = []  # of leaves
        rows, part = _parts(points.places, self.limit)
        if len(rows):
            self._arrange(rows, part)

    def _arrange(self, rows: Integers, part: Integers) -> None:
        """Put the points leaf after leaf, with what is needed of each leaf."""
        points, order = self.points, []
        places = self._telling(points.places[rows], part)
        size = max(LEAF_ROWS, len(rows) // MOST_LEAVES)
        starts = np.flatnonzero(np.diff(part, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            first = len(self.leaves)
            at = start
            for leaf in _leaves(places[start:stop], size):
                order.append(start + leaf)
                self.leaves.append(slice(at, at + len(leaf)))
                at += len(leaf)
            self.parts.append(slice(first, len(self.leaves)))
        arranged = np.concatenate(order)
        self.rows = rows[arranged]  # the numbers of the points
        places = places[arranged]
        self.low, self.high = points.low[:, self.rows], points.high[:, self.rows]
        at_leaf = [leaf.start for leaf in self.leaves]
        self.box_low = np.minimum.reduceat(places, at_leaf, axis=0)
        self.box_high = np.maximum.reduceat(places, at_leaf, axis=0)
        self.leaf_low = np.minimum.reduceat(self.low, at_leaf, axis=1)
        self.leaf_high = np.maximum.reduceat(self.high, at_leaf, axis=1)
        self.chunks = [
            np.ascontiguousarray(places[:, at : at + FEW_COLUMNS])
            for at in range(0, places.shape[1], FEW_COLUMNS)
        ]
        if self.p == 2:
            self.centred = places - places.mean(0)
            self.squares = np.einsum("ij,ij->i", self.centred, self.centred)
        else:
            self.columns = np.ascontiguousarray(places.T)

    def _telling(self, places: Floats, part: Integers) -> Floats:
        """The columns that can put two points of a part beyond the limit, the best first."""
        starts = np.flatnonzero(np.diff(part, prepend=-1))
        sizes = np.diff([*starts, len(part)])
        means = np.add.reduceat(places, starts, axis=0) / sizes[:, None]
        away = places - np.repeat(means, sizes, axis=0)
        widest = np.maximum.reduceat(places, starts) - np.minimum.reduceat(places, starts)
        kept = widest.max(0) > (self.epsilon if self.p == math.inf else 0)
        order = np.argsort(-away.var(0), kind="stable")
        order = order[kept[order]]
        return places[:, order] if len(order) else np.zeros((len(places), 1))

    def same_point(self, k: int) -> None:
        """Pairs of rows that are equal but for free columns."""
        low, high = self.points.low[k], self.points.high[k]
        gap = np.where(self.points.several, high - low, -math.inf)
        point = int(np.argmax(gap))
        if gap[point] > self.best:
            self.best, self.distance = float(gap[point]), 0.0
            self.pair = self.points.low_row[k, point], self.points.high_row[k, point]

    def within_leaves(self, k: int) -> None:
        """Near pairs come first: they give a difference that rules out most others."""
        bound = self.leaf_high[k] - self.leaf_low[k]
        for leaf in np.argsort(-bound, kind="stable"):
            if bound[leaf] <= self.best:
                return
            self._block(self.leaves[leaf], self.leaves[leaf], k)

    def across_leaves(self, k: int) -> None:
        """Pairs of leaves of one part whose boxes are near, the largest bound first."""
        low, high = self.leaf_low[k], self.leaf_high[k]
        found = []
        for part in self.parts:
            for a in range(part.start, part.stop - 1):
                b = np.arange(a + 1, part.stop)
                bound = np.maximum(high[a] - low[b], high[b] - low[a])
                b, bound = b[bound > self.best], bound[bound > self.best]
                between = np.maximum(self.box_low[b] - self.box_high[a], 0)
                between = np.maximum(between, self.box_low[a] - self.box_high[b])
                near = self.points.norm.size(between) <= self.limit
                found.append((np.full(near.sum(), a), b[near], bound[near]))
        if not found:
            return
        first, second, bounds = (np.concatenate(column) for column in zip(*found, strict=True))
        order: Any = np.argsort(-bounds, kind="stable")
        if len(order) > SHOWN_BLOCKS:
            order = track(order, "pairs of rows", len(order))
        for at in order:
            if bounds[at] <= self.best:
                return
            self._block(self.leaves[first[at]], self.leaves[second[at]], k)

    def _block(self, a: slice, b: slice, k: int) -> None:
        """All pairs of a point of leaf a and one of leaf b."""
        gap = self.high[k, a, None] - self.low[k, b]
        if a == b:
            np.fill_diagonal(gap, -math.inf)
        else:
            np.maximum(gap, self.high[k, b] - self.low[k, a, None], out=gap)
        top = np.array([gap.argmax()])
        if gap.flat[top[0]] <= self.best or self._take(top, gap, a, b, k):
            return
        wanted = gap > self.best
        if np.count_nonzero(wanted) > DENSE:
            self._near_matrix(wanted, a, b)
        self._take(self._near_list(np.flatnonzero(wanted), a, b), gap, a, b, k)

    def _near_matrix(self, wanted: Mask, a: slice, b: slice) -> None:
        """Drop from `wanted` pairs beyond the limit, by whole matrices while many are left."""
        if self.p == 2:
            squares = self.squares[a, None] + self.squares[b]
            slack = ROUNDING * (self.centred.shape[1] + 8) * float(squares.max())
            squares -= 2 * (self.centred[a] @ self.centred[b].T)
            wanted &= squares <= self.limit**2 * (1 + RELATIVE_SLACK) + slack
            return
        total = np.zeros(wanted.shape)
        for at, column in enumerate(self.columns, 1):
            apart = np.abs(column[a, None] - column[b])
            if self.p == 1:
                total += apart
            else:
                np.maximum(total, apart, out=total)
            if at % FEW_COLUMNS == 0:
                wanted &= total <= self.limit
                if np.count_nonzero(wanted) <= DENSE:
                    return

    def _near_list(self, candidates: Integers, a: slice, b: slice) -> Integers:
        """Those that may be within the limit, a few columns at a time: most are out early."""
        i, j = np.divmod(candidates, b.stop - b.start)
        i, j = i + a.start, j + b.start
        total = np.zeros(len(candidates))
        for chunk in self.chunks:
            apart = np.abs(chunk[i] - chunk[j])
            if self.p == math.inf:
                total = apart.max(1)
            else:
                total += apart.sum(1) if self.p == 1 else np.einsum("ij,ij->i", apart, apart)
            near = total <= (self.limit**2 * (1 + RELATIVE_SLACK) if self.p == 2 else self.limit)
            candidates, i, j, total = candidates[near], i[near], j[near], total[near]
        return candidates

    def _take(self, candidates: Integers, gap: Floats, a: slice, b: slice, k: int) -> bool:
        """Keep the candidate of the largest gap that is within epsilon by the distance itself."""
        gaps = gap.flat[candidates]
        while len(candidates):
            count = min(len(candidates), EXACT_AT_ONCE)
            order = np.argpartition(-gaps, count - 1)
            head = order[:count][np.argsort(-gaps[order[:count]], kind="stable")]
            i, j = np.divmod(candidates[head], b.stop - b.start)
            i, j = i + a.start, j + b.start
            x, rows = self.points.x, self.rows
            distances = self.points.norm.between(x[rows[i]], x[rows[j]])
            near = np.flatnonzero(distances <= self.epsilon)
            if len(near):
                first = near[0]
                self.best = float(gaps[head[first]])
                self.distance = float(distances[first])
                self.pair = self._rows_of(rows[i[first]], rows[j[first]], k)
                return True
            candidates, gaps = candidates[order[count:]], gaps[order[count:]]
        return False

    def _rows_of(self, i: int, j: int, k: int) -> tuple[int, int]:
        """The rows of two points whose outputs differ most."""
        low, high = self.points.low[k], self.points.high[k]
        if high[i] - low[j] < high[j] - low[i]:
            i, j = j, i
        return self.points.high_row[k, i], self.points.low_row[k, j]
