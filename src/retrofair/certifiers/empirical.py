"""The largest difference in output between two similar rows of given data, over all pairs of rows.

Nearly all pairs are decided by bounds: rows that differ only in free columns become one point, the
points fall into parts with no similar pair across, and each part into small leaves with a box
around their places and an interval around their outputs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.distance import pdist
from torch import Tensor, nn

from retrofair.certifiers.distances import (
    Columns,
    NetworkNorm,
    Norm,
    Resolved,
    check_distance,
    check_epsilon,
)
from retrofair.certifiers.domain import Domain, Floats, Mask
from retrofair.data import GroupedData
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.outputs import as_input, evaluating, forward
from retrofair.networks.threads import fitting_threads
from retrofair.progress import track

Integers = npt.NDArray[np.intp]

BATCH_ROWS = 65_536
LEAF_ROWS = 256
MOST_LEAVES = 1_500
DENSE = 2_000  # candidates of a block from which whole matrices are faster than a list
FEW_COLUMNS = 4
EXACT_AT_ONCE = 512
SHOWN_BLOCKS = 200
NEAREST_ROWS = 2_000
RELATIVE_SLACK = 1e-9
ROUNDING = 2.0**-49  # eight units in the last place of a double


@dataclass(frozen=True)
class EmpiricalDelta:
    """The largest difference over all pairs of rows within epsilon, and a pair that has it.

    Args:
        delta: nan where no pair of rows is within epsilon.
        first, second: the pair's row numbers, first < second, or None.
        distance: the pair's own, nan where there is none.
        pairs: all pairs of rows, n (n - 1) / 2; each was decided, by bounds or one by one.
    """

    epsilon: float
    delta: float
    first: int | None
    second: int | None
    distance: float
    pairs: int


def empirical_delta(
    network: nn.Module,
    x: Any,
    distance: object,
    epsilon: float,
    *,
    domain: Domain | None = None,
) -> float:
    """The largest |f(x_i) - f(x_j)| over all pairs of rows with distance(x_i, x_j) <= epsilon.

    Exact over all pairs, identical rows included. f are the network's own outputs in eval mode;
    with K outputs the largest difference of any. It says nothing of people who are not in x: it
    is a lower bound of what `certify` bounds from above. Where no pair is within epsilon it is
    nan, with a warning.

    Args:
        network: (n, d) to (n,), (n, 1) or (n, K).
        x: (n, d) as the network takes it, or GroupedData, whose names weights may use.
        distance: WeightedLp, Mahalanobis or Embedding; taken in double precision on x as given.
        epsilon: at least 0; pairs at exactly epsilon count.
        domain: tells which columns are sensitive, so free to differ, and what they are called. x
            stays as the network takes it.

    Raises:
        InputError: x is no finite table of at least two rows, the network fails on it or answers
            in another shape, or the distance does not fit the columns.

    Example:
        >>> from retrofair.certifiers.distances import WeightedLp
        >>> x = torch.tensor([[0.0, 0.0], [0.1, 1.0], [5.0, 1.0]])
        >>> network = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(network.weight)
        >>> round(empirical_delta(network, x, WeightedLp(math.inf, [1, 0]), 0.2), 6)
        1.1

    Reference: John, Vijaykeerthy and Saha (2020), Verifying individual fairness in machine
    learning models.
    """
    points = _points(network, x, distance, domain)
    found = _search(points, check_epsilon(epsilon))
    if found.first is None:
        warnings.warn(
            f"no two of the {points.rows:,} rows are within epsilon = {epsilon:g} of each other: "
            f"the difference is undefined (nan); {_nearest(points)}use a larger epsilon or more "
            "rows",
            RetrofairWarning,
            stacklevel=2,
        )
    return found.delta


def empirical_pair(
    network: nn.Module,
    x: Any,
    distance: object,
    epsilon: float,
    *,
    domain: Domain | None = None,
) -> EmpiricalDelta:
    """As `empirical_delta`, with the pair of rows that differs most; no pair is no warning."""
    return _search(_points(network, x, distance, domain), check_epsilon(epsilon))


def empirical_curve(
    network: nn.Module,
    x: Any,
    distance: object,
    epsilons: Sequence[float],
    *,
    domain: Domain | None = None,
) -> list[EmpiricalDelta]:
    """`empirical_pair` for each epsilon, in the order given; delta grows with epsilon.

    Raises:
        InputError: as `empirical_delta`, or there is no epsilon.
    """
    if isinstance(epsilons, Tensor):
        epsilons = epsilons.tolist()
    if isinstance(epsilons, str) or not isinstance(epsilons, Iterable):
        raise InputError(f"expected several epsilons, got {epsilons!r}: use [{epsilons!r}]")
    wanted = [check_epsilon(epsilon) for epsilon in epsilons]
    if not wanted:
        raise InputError("expected at least one epsilon, got none")
    points = _points(network, x, distance, domain)
    found: dict[float, EmpiricalDelta] = {}
    before = None
    for epsilon in sorted(set(wanted)):
        before = found[epsilon] = _search(points, epsilon, before)
    return [found[epsilon] for epsilon in wanted]


# --- rows to points -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Points:
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


def _points(network: nn.Module, x: Any, distance: object, domain: Domain | None) -> _Points:
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(network).__name__}")
    known = check_distance(distance)
    names = x.feature_names if isinstance(x, GroupedData) else ()
    table = _table(x.x if isinstance(x, GroupedData) else x, network)
    if domain is not None and not isinstance(domain, Domain):
        raise InputError(f"expected a Domain as domain=, got {type(domain).__name__}")
    if domain is not None and domain.d != table.shape[1]:
        raise InputError(
            f"expected x with the domain's {domain.d} columns, got {table.shape[1]} columns"
        )
    columns = Columns.plain(table.shape[1], names) if domain is None else Columns.of(domain)
    norm = known.resolve(columns)
    outputs = _outputs(network, table)

    exact = table.detach().cpu().double().numpy() + 0.0  # + 0.0: no -0.0
    # a matrix product may round the same row differently at another place in the batch
    label, first = _same(exact)
    outputs = outputs[first][label]
    exact = np.where(_read(norm, table.shape[1]), exact, 0.0)
    label, first = _same(exact)
    low_row, high_row = (np.empty((outputs.shape[1], len(first)), dtype=np.intp) for _ in range(2))
    for k, values in enumerate(outputs.T):
        order = np.lexsort((values, label))
        starts = np.flatnonzero(np.diff(label[order], prepend=-1))
        low_row[k] = order[starts]
        high_row[k] = order[np.append(starts[1:], len(order)) - 1]
    which = np.arange(outputs.shape[1])[:, None]
    points = exact[first]
    places = norm.coordinates(points)
    if not np.isfinite(places).all():
        raise InputError("expected x and a distance with finite values, got an overflow: rescale x")
    return _Points(
        len(exact),
        norm,
        points,
        places,
        outputs[low_row, which],
        outputs[high_row, which],
        low_row,
        high_row,
        np.bincount(label) > 1,
    )


def _table(x: Any, network: nn.Module) -> Tensor:
    """x as given, checked."""
    if isinstance(x, dict):
        raise InputError("expected x as one table (n, d), got a dict")
    given = x if isinstance(x, Tensor) else np.asarray(x)
    as_input(given, network)  # one clear error where these are no numbers
    exact = torch.as_tensor(given)
    if exact.ndim != 2 or not exact.shape[1]:
        raise InputError(f"expected x of shape (n, d), got {tuple(exact.shape)}")
    if len(exact) < 2:
        raise InputError(f"expected x with at least two rows, got {len(exact)}")
    bad = int((~torch.isfinite(exact)).sum())
    if bad:
        raise InputError(
            f"expected finite numbers in x, got {bad:,} NaN or infinite ones: drop or fill them"
        )
    return exact


def _outputs(network: nn.Module, table: Tensor) -> Floats:
    """(n, K) float64, from the network in its own dtype."""
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    found = []
    with evaluating(network), fitting_threads(network):
        for batch in table.split(BATCH_ROWS):
            try:
                out: Any = forward(network, batch.to(dtype))
            except Exception as error:  # a user's own network may raise anything
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(
                    f"expected a network that takes x of shape {tuple(batch.shape)}, but it "
                    f"fails: {reason}"
                ) from error
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            if not isinstance(out, Tensor) or out.ndim not in (1, 2) or len(out) != len(batch):
                raise InputError(
                    f"expected outputs of shape (n,) or (n, K) for n = {len(batch):,} rows, got "
                    f"{shape}"
                )
            found.append(out.reshape(len(batch), -1).double().cpu().numpy())
    outputs = np.concatenate(found)
    if not outputs.size:
        raise InputError("expected at least one output per row, got none")
    if not np.isfinite(outputs).all():
        raise InputError(
            f"expected finite outputs, got {int((~np.isfinite(outputs)).sum()):,} NaN or infinite "
            "ones; check the weights and the scale of the features"
        )
    return outputs


def _read(norm: Resolved, d: int) -> Mask:
    """(d,) the columns that the distance depends on."""
    if isinstance(norm, Norm):
        return np.asarray((norm.matrix != 0).any(0))
    if isinstance(norm, NetworkNorm):
        return np.asarray((norm.network.weights[0] != 0).any(0).numpy())
    return np.ones(d, dtype=bool)


def _same(x: Floats) -> tuple[Integers, Integers]:
    """A number per row, the same for equal rows, and the first row of each number."""
    rows = np.ascontiguousarray(x).view(np.dtype((np.void, x.itemsize * x.shape[1]))).ravel()
    _, first, label = np.unique(rows, return_index=True, return_inverse=True)
    return label.reshape(-1), first


def _nearest(points: _Points) -> str:
    """The smallest distance in words, where it is cheap."""
    if points.rows > NEAREST_ROWS:
        return ""
    metric: Literal["cityblock", "euclidean", "chebyshev"] = "chebyshev"
    if points.norm.p != math.inf:
        metric = "cityblock" if points.norm.p == 1 else "euclidean"
    smallest = pdist(points.places, metric).min()
    return f"the smallest distance is {smallest:.4g}; "


# --- points to parts and leaves -------------------------------------------------------------------


def _limit(points: _Points, epsilon: float) -> float:
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


# --- search ---------------------------------------------------------------------------------------


def _search(
    points: _Points, epsilon: float, before: EmpiricalDelta | None = None
) -> EmpiricalDelta:
    """The largest difference within epsilon; `before` is that of a smaller epsilon."""
    search = _Search(points, epsilon, before)
    for k in range(len(points.low)):
        search.same_point(k)
    if search.leaves:
        for k in range(len(points.low)):
            search.within_leaves(k)
        for k in range(len(points.low)):
            search.across_leaves(k)
    pair = None if search.pair is None else sorted(search.pair)
    return EmpiricalDelta(
        epsilon,
        math.nan if pair is None else search.best,
        None if pair is None else int(pair[0]),
        None if pair is None else int(pair[1]),
        search.distance,
        points.rows * (points.rows - 1) // 2,
    )


class _Search:
    """Branch and bound over the pairs of leaves of each part."""

    def __init__(self, points: _Points, epsilon: float, before: EmpiricalDelta | None) -> None:
        self.points, self.epsilon, self.p = points, epsilon, points.norm.p
        self.best, self.distance = -math.inf, math.nan
        self.pair: tuple[int, int] | None = None
        if before is not None and before.first is not None and before.second is not None:
            self.best, self.distance = before.delta, before.distance
            self.pair = before.first, before.second
        self.limit = _limit(points, epsilon)
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
