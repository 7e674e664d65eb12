"""All legal pairs of similar people, and how far a linear function can go over them.

Everything here is on the columns as the network takes them. The set of pairs is symmetric: with
(x', x'') it holds (x'', x'), so a difference's lower bound is minus its upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from retrofair.certifiers.distances import Columns, Distance, NetworkNorm, Norm, Resolved
from retrofair.certifiers.domain import Domain, Floats, Mask
from retrofair.errors import InputError

DUAL = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}
ROUNDING = 1e-9
NOTHING = 1e-12  # of a column's width: the rounding of a pseudo-inverse
EVERYONE = (
    "everyone is similar to everyone (weights of 0, or a large epsilon): the difference is that "
    "between the largest and the smallest answer there is, and says nothing about similar people"
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs x', x'' of the domain with distance at most epsilon.

    Attributes:
        cap: (d,) the most by which a column can differ.
        exchange: per one-hot feature a (k, k) table of the exchanges that may be possible.
    """

    domain: Domain
    norm: Resolved
    epsilon: float
    low: Floats = field(init=False)
    high: Floats = field(init=False)
    cap: Floats = field(init=False)
    exchange: tuple[Mask, ...] = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "low", self.domain.to_inputs(self.domain.low))
        put(self, "high", self.domain.to_inputs(self.domain.high))
        cap = np.minimum(self._reach(), self.high - self.low)
        whole, spread = self.domain.integer, self.domain.spread
        steps = np.floor(cap * spread + ROUNDING * (1 + cap * spread))
        cap = np.where(whole, np.minimum(steps / spread, self.high - self.low), cap)
        exchange = []
        for _, where in self.domain.groups:
            table = self._exchange(where)
            exchange.append(table)
            moves = table & ~np.eye(len(table), dtype=bool)
            cap[where] = np.where(moves.any(0) | moves.any(1), 1.0, 0.0)
        put(self, "cap", cap)
        put(self, "exchange", tuple(exchange))

    @classmethod
    def of(cls, domain: Domain, distance: Distance, epsilon: float) -> Pairs:
        """The pairs that a distance calls similar.

        Raises:
            InputError: the distance does not fit the domain's columns.
        """
        norm = distance.resolve(Columns.of(domain))
        if isinstance(norm, Norm) and norm.matrix.shape[1] != domain.d:
            raise InputError(
                f"expected a distance of {domain.d} columns, got {norm.matrix.shape[1]}"
            )
        return cls(domain, norm, epsilon)

    @property
    def shared(self) -> Mask:
        """(d,) the columns that cannot differ at all."""
        return np.asarray(self.cap <= 0)

    @property
    def everyone(self) -> bool:
        """Whether any two people are similar, as with weights of 0."""
        if not isinstance(self.norm, Norm):
            return False
        i = self.single
        alone = all(table.all() for table in self.exchange)
        alone = alone and bool((self.cap[i] >= self._width[i] * (1 - NOTHING)).all())
        # each feature may differ by any amount; all together only where they share no budget
        return alone and (self.norm.p == math.inf or not self.norm.matrix.any())

    @property
    def single(self) -> npt.NDArray[np.intp]:
        """The columns of features that are not one-hot."""
        grouped = np.zeros(self.domain.d, dtype=bool)
        for _, where in self.domain.groups:
            grouped[where] = True
        return np.flatnonzero(~grouped)

    # --- how far a linear function goes -----------------------------------------------------------

    def value(self, a: Floats) -> Floats:
        """The largest a'x of one person, (m,) for rows a (m, d)."""
        single = self.single
        total = np.maximum(a[:, single] * self.low[single], a[:, single] * self.high[single]).sum(1)
        for _, where in self.domain.groups:
            total = total + a[:, where].max(1)
        return np.asarray(total)

    def difference(self, a: Floats) -> Floats:
        """An upper bound on the largest a'd with d = x'' - x', (m,) for rows a (m, d)."""
        total = (np.abs(a[:, self.single]) * self.cap[self.single]).sum(1)
        for (_, where), table in zip(self.domain.groups, self.exchange, strict=True):
            total = total + _best_exchange(a[:, where], a[:, where], table)
        if isinstance(self.norm, Norm):
            total = np.minimum(total, self._budget(a))
        return np.asarray(np.maximum(total, 0.0))

    def joint(self, second: Floats, first: Floats) -> Floats:
        """An upper bound on the largest second'x'' - first'x', (m,) for rows (m, d)."""
        total = np.zeros(len(second))
        i = self.single
        low, high, cap = self.low[i], self.high[i], self.cap[i]
        corners = [  # of the hexagon {x', x'' in [low, high], |x'' - x'| <= cap}, as (x'', x')
            (low, low),
            (low + cap, low),
            (high, high - cap),
            (high, high),
            (high - cap, high),
            (low, low + cap),
        ]
        total = np.max([second[:, i] * s - first[:, i] * f for s, f in corners], axis=0).sum(1)
        for (_, where), table in zip(self.domain.groups, self.exchange, strict=True):
            total = total + _best_exchange(second[:, where], first[:, where], table)
        return np.asarray(total)

    # --- legality ---------------------------------------------------------------------------------

    def similar(self, first: Floats, second: Floats) -> Mask:
        """(n,) whether the distance is at most epsilon, up to the rounding of one addition."""
        return np.asarray(self.norm.between(first, second) <= self.epsilon * (1 + 1e-12))

    def legal(self, first: Floats, second: Floats) -> Mask:
        """(n,) whether both are in the domain, given in the user's units, and similar."""
        inside = self.domain.contains(first) & self.domain.contains(second)
        return np.asarray(
            inside & self.similar(self.domain.to_inputs(first), self.domain.to_inputs(second))
        )

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _width(self) -> Floats:
        return np.asarray(self.high - self.low)

    def _reach(self) -> Floats:
        """The most by which each column can differ, by the distance and the box together."""
        if isinstance(self.norm, NetworkNorm):
            return self._width
        norm, width = self.norm, self._width
        if norm.diagonal:
            w = np.diag(norm.matrix)
            return np.where(w > 0, self.epsilon / np.where(w > 0, w, 1.0), width)
        y, rest = _solve(norm, np.eye(len(width)), width)  # of d_i over its own width
        share = self.epsilon * np.linalg.norm(y, ord=DUAL[norm.p], axis=1) + np.abs(rest).sum(1)
        return np.where(share < NOTHING, 0.0, share * (1 + ROUNDING)) * width

    def _budget(self, a: Floats) -> Floats:
        """a'd = y'(M d) + r'd, bounded through the dual norm of y and the box for the rest r."""
        assert isinstance(self.norm, Norm)
        norm, width = self.norm, np.where(self.cap > 0, self._width, 0.0)
        y, rest = _solve(norm, a * width, width)
        spent = self.epsilon * np.linalg.norm(y, ord=DUAL[norm.p], axis=1) * (1 + ROUNDING)
        i, table = self.single, self.exchange
        share = np.divide(self.cap, width, out=np.zeros_like(width), where=width > 0)
        total = spent + (np.abs(rest[:, i]) * share[i]).sum(1)
        for (_, where), moves in zip(self.domain.groups, table, strict=True):
            total = total + _best_exchange(rest[:, where], rest[:, where], moves)
        if norm.p == 1.0 and norm.diagonal:
            total = np.minimum(total, self._knapsack(a))
        return np.asarray(total)

    def _knapsack(self, a: Floats) -> Floats:
        """The largest a'd with sum w_i |d_i| <= epsilon and |d_i| <= cap_i: by best value first."""
        assert isinstance(self.norm, Norm)
        w = np.diag(self.norm.matrix)
        paid = (w > 0) & (self.cap > 0)
        free = np.abs(a[:, ~paid]) * self.cap[~paid]
        rate = np.abs(a[:, paid]) / w[paid]
        order = np.argsort(-rate, axis=1)
        cost = np.broadcast_to(w[paid] * self.cap[paid], rate.shape)
        cost = np.take_along_axis(cost, order, 1)
        before = np.cumsum(cost, axis=1) - cost
        spent = np.clip(self.epsilon - before, 0, cost)
        return np.asarray(free.sum(1) + (spent * np.take_along_axis(rate, order, 1)).sum(1))

    def _exchange(self, where: slice) -> Mask:
        """Which exchanges of categories can be within epsilon; more than really can is sound."""
        k = where.stop - where.start
        if isinstance(self.norm, NetworkNorm):
            return np.ones((k, k), dtype=bool)
        m, p = self.norm.matrix, self.norm.p
        if self.norm.diagonal:
            w = np.diag(m)[where]
            sizes = np.stack(np.broadcast_arrays(w[:, None], w[None, :]), -1)
            cost = np.linalg.norm(sizes, ord=p, axis=-1)
            np.fill_diagonal(cost, 0.0)
        else:
            # what the other columns cannot make good of an exchange, in l_2
            others = np.delete(m * self._width, np.r_[where], axis=1)
            part = m[:, where]
            left = part - others @ (np.linalg.pinv(others) @ part) if others.size else part
            cost = np.linalg.norm(left[:, :, None] - left[:, None, :], axis=0)
            if p == math.inf:  # ||v||_inf >= ||v||_2 / sqrt(r)
                cost = cost / math.sqrt(len(m))
        room = ROUNDING * np.abs(m[:, where]).max()
        return np.asarray(cost <= self.epsilon * (1 + ROUNDING) + room)


def _best_exchange(second: Floats, first: Floats, table: Mask) -> Floats:
    """The largest second[k] - first[j] over the exchanges j -> k that may be made, (m,)."""
    if table.all():
        return np.asarray(second.max(1) - first.min(1))
    if not (table & ~np.eye(len(table), dtype=bool)).any():
        return np.asarray((second - first).max(1))
    best = np.full(len(second), -np.inf)
    for j, row in enumerate(table):
        best = np.maximum(best, second[:, row].max(1) - first[:, j])
    return best


def _solve(norm: Norm, a: Floats, width: Floats) -> tuple[Floats, Floats]:
    """y and r with a = (M diag(width))'y + r row by row, both over columns of width 1.

    Any y is sound: what it leaves over is paid by the box.
    """
    if norm.diagonal:
        w = np.diag(norm.matrix) * width
        paid = w > 0
        y = np.where(paid, a / np.where(paid, w, 1.0), 0.0)
        return y, np.where(paid, 0.0, a)
    m = norm.matrix * width
    y = a @ np.linalg.pinv(m)
    rest = a - y @ m
    rounding = 2.0**-53 * max(8, len(m)) * (np.abs(a) + np.abs(y) @ np.abs(m))
    return y, rest + np.copysign(rounding, rest)
