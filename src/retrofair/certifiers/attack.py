"""The search for the worst pair: gradients for numbers, moves for whole numbers and categories.

Each start climbs by turns: steps of Frank and Wolfe towards the best corner of the numbers' box and
of the distance's ball (what two people share moves by the sum of both gradients, what differs by
their difference), then the best single change of a whole number or a category. Every pair on the
way is legal; what is returned is rounded to the network's own precision, checked again for
legality, and run through the original network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.board import Board
from retrofair.certifiers.distances import Norm
from retrofair.certifiers.domain import Floats, Integer, Mask
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.certifiers.witness import Witness, legalised

Goal = Callable[[Tensor, Tensor], Tensor]  # logits (n, K) of both to what is climbed, (n,)
SIZES = (1.0, 0.5, 0.2, 0.05, 0.01, 0.001)
CLIMBS = 12  # steps of numbers between two searches among moves
TINY = 1e-12
ROUNDED = 1e-12  # of a step, so that rounding leaves it within epsilon
FITTINGS = 8  # halvings when numbers make room for a move
JUMPS = (1.0, 0.5, 0.2, 0.05, 0.01)  # of a number's range
DOUBLES = 64  # pairs of moves tried at once
BLOCK = 4_000_000  # numbers in one batch of moves


@dataclass
class Climber:
    """Searches for one question over one set of pairs."""

    question: Question
    pairs: Pairs
    generator: np.random.Generator
    stop: Callable[[], bool] = lambda: False  # whether to stop early

    def __post_init__(self) -> None:
        domain = self.pairs.domain
        self.numbers: Mask = ~domain.integer
        for _, where in domain.groups:
            self.numbers[where] = False
        self.mobile = bool(self.numbers.any()) and bool(
            (self.pairs.high > self.pairs.low)[self.numbers].any()
        )

    def starts(self, n: int, rows: Floats | None = None) -> tuple[Floats, Floats]:
        """n legal pairs at random: half in the corners of the box; or at the rows of data."""
        domain, rng = self.pairs.domain, self.generator
        first = rng.uniform(domain.low, domain.high, (n, domain.d))
        corner = rng.random(first.shape) < 0.5
        ends = np.where(rng.random(first.shape) < 0.5, domain.low, domain.high)
        first[: n // 2] = np.where(corner, ends, first)[: n // 2]
        if rows is not None and len(rows):
            chosen = rng.integers(len(rows), size=(n + 3) // 4)
            first[-len(chosen) :] = domain.to_raw(rows[chosen])
            first = np.clip(first, domain.low, domain.high)
        for feature, where in domain.placed:
            if isinstance(feature, Integer):
                first[:, where] = np.rint(first[:, where])
            elif where.stop - where.start > 1 or where in [w for _, w in domain.groups]:
                best = np.argmax(first[:, where] + 1e-9 * rng.random(first[:, where].shape), 1)
                first[:, where] = np.eye(where.stop - where.start)[best]
        first = domain.to_inputs(first)
        second = first.copy()
        for (_, where), table in zip(domain.groups, self.pairs.exchange, strict=True):
            if table.all():  # free: any two categories
                second[:, where] = rng.permutation(second[:, where])
        for i in np.flatnonzero(self.pairs.cap >= (self.pairs.high - self.pairs.low)):
            if not any(w.start <= i < w.stop for _, w in domain.groups):
                second[:, i] = rng.permutation(second[:, i])
        good = self.pairs.similar(first, second)
        return first, np.where(good[:, None], second, first)

    def climb(self, first: Floats, second: Floats, goal: Goal, until: float) -> tuple[Floats, ...]:
        """Climb from pairs (n, d) until nothing helps or the time is up: pairs and heights."""
        height = self._heights(first, second, goal)
        going = np.ones(len(first), dtype=bool)
        while going.any() and time.monotonic() < until and not self.stop():
            f, s, h = first[going], second[going], height[going]
            for _ in range(CLIMBS if self.mobile else 0):
                f, s, risen = self._step(f, s, h, goal)
                better = (risen > h + 1e-7 * np.abs(h)).any()
                h = risen
                if not better or time.monotonic() > until:
                    break
            for _ in range(CLIMBS):
                f, s, risen = self._move(f, s, h, goal)
                better = (risen > h + 1e-9 * np.abs(h)).any()
                h = risen
                if not better or time.monotonic() > until:
                    break
            rose = h > height[going] + 1e-6 * np.abs(height[going]) + 1e-12
            first[going], second[going], height[going] = f, s, h
            going[going] = rose
        return first, second, height

    # --- steps of numbers -------------------------------------------------------------------------

    def _step(
        self, first: Floats, second: Floats, height: Floats, goal: Goal
    ) -> tuple[Floats, Floats, Floats]:
        """The best of some steps towards the corner that the gradients point to."""
        slope_1, slope_2 = self._gradients(first, second, goal)
        low, high, on = self.pairs.low, self.pairs.high, self.numbers
        middle, apart = (first + second) / 2, second - first
        shared = slope_1 + slope_2
        target = np.where(shared > 0, high, np.where(shared < 0, low, middle))
        spread = self.corner((slope_2 - slope_1) / 2, apart)
        best = first, second, height
        for along, across in [(s, s) for s in SIZES] + [(0.0, s) for s in SIZES[::2]]:
            d = np.where(on, apart + across * (spread - apart), apart)
            m = np.where(on, middle + along * (target - middle), middle)
            half = np.abs(d) / 2
            m = np.where(on, np.clip(m, low + half, np.maximum(high - half, low + half)), m)
            one = np.where(on, np.clip(m - d / 2, low, high), first)
            two = np.where(on, np.clip(m + d / 2, low, high), second)
            best = self._better(best, (one, two, self._heights(one, two, goal)))
        return best

    def corner(self, slope: Floats, apart: Floats) -> Floats:
        """The difference of numbers that goes farthest along a slope, whole budget spent."""
        pairs, norm, on = self.pairs, self.pairs.norm, self.numbers
        slope, cap = np.where(on, slope, 0.0), np.where(on, pairs.cap, 0.0)
        best = np.sign(slope) * cap
        if not isinstance(norm, Norm) or (norm.diagonal and norm.p == np.inf):
            return np.asarray(best)
        paid = np.abs(norm.matrix).max(0) > 0 if len(norm.matrix) else np.zeros(len(cap), bool)
        if norm.diagonal and norm.p == 1.0:
            w = np.diag(norm.matrix)
            rate = np.where(paid, np.abs(slope) / np.where(paid, w, 1.0), 0.0)
            order = np.argsort(-rate, axis=1)
            cost = np.take_along_axis(np.broadcast_to(w * cap, rate.shape), order, 1)
            spent = np.clip(pairs.epsilon - (np.cumsum(cost, 1) - cost), 0, cost)
            budget = np.empty_like(rate)
            np.put_along_axis(budget, order, spent, 1)
            return np.where(paid, np.sign(slope) * budget / np.where(paid, w, 1.0), best)
        if norm.diagonal:
            return self._filled(slope, cap, best)
        matrix = norm.matrix * (cap > 0)
        y = slope @ np.linalg.pinv(matrix)
        if norm.p == np.inf:
            y = np.sign(y)
        elif norm.p == 1.0:
            y = np.where(np.abs(y) == np.abs(y).max(1, keepdims=True), y, 0.0)
        d = y @ np.linalg.pinv(matrix).T
        rest = slope - (slope @ np.linalg.pinv(matrix)) @ matrix
        loose = np.abs(rest) > 1e-9 * (1 + np.abs(slope).max(1, keepdims=True))
        size = norm.size(norm.coordinates(d))[:, None]
        d = d * np.divide(pairs.epsilon, size, out=np.zeros_like(size), where=size > 0)
        d = np.clip(np.where(paid, d, 0.0), -cap, cap)
        free = np.where(loose & ~paid, np.sign(rest) * cap, 0.0)
        if loose[:, paid].any():  # along the null space of a matrix that is not diagonal
            null = rest * paid
            steps = np.divide(cap, np.abs(null), out=np.full_like(null, np.inf), where=null != 0)
            d = d + null * np.where(np.isfinite(steps.min(1)), steps.min(1), 0.0)[:, None]
        return np.asarray(np.clip(d + free, -cap, cap))

    def _filled(self, slope: Floats, cap: Floats, best: Floats) -> Floats:
        """The same for a weighted l_2 ball within a box: where the box stops a column, the others
        take its share."""
        norm = self.pairs.norm
        assert isinstance(norm, Norm)
        w = np.diag(norm.matrix) ** 2
        paid = w > 0
        way = np.where(paid, np.abs(slope) / np.where(paid, w, 1.0), 0.0)
        way = way / np.maximum(way.max(1, keepdims=True), TINY)
        # along the way each column goes until it stops at its cap; in the order in which they do
        stops = np.divide(cap, way, out=np.full_like(way, np.inf), where=way > 0)
        order = np.argsort(stops, axis=1)
        stops = np.take_along_axis(stops, order, 1)
        last = np.where(np.isfinite(stops), stops, 0.0).max(1)
        size = np.take_along_axis(np.where(way > 0, w * cap**2, 0.0), order, 1)
        used = np.cumsum(size, 1) - size  # by those that stopped before
        cost = np.cumsum(np.take_along_axis(w * way**2, order, 1)[:, ::-1], 1)[:, ::-1]
        left = np.maximum(self.pairs.epsilon**2 - used, 0.0)
        reach = np.sqrt(np.divide(left, cost, out=np.full_like(cost, np.inf), where=cost > 0))
        within = reach <= stops
        k = within.argmax(1)[:, None]
        far = np.where(within.any(1), np.take_along_axis(reach, k, 1)[:, 0], last)
        far = np.minimum(far, last)[:, None] * (1 - ROUNDED)
        d = np.where(paid, np.minimum(far * way, cap), cap)
        return np.asarray(np.sign(slope) * np.where(paid, d, np.abs(best)))

    def _gradients(self, first: Floats, second: Floats, goal: Goal) -> tuple[Floats, Floats]:
        one = torch.from_numpy(first).requires_grad_()
        two = torch.from_numpy(second).requires_grad_()
        with torch.enable_grad():
            forward = self.question.network.forward
            total = goal(forward(one), forward(two)).sum()
        slopes = torch.autograd.grad(total, (one, two))
        return slopes[0].numpy(), slopes[1].numpy()

    # --- moves of whole numbers and categories ----------------------------------------------------

    def _move(
        self, first: Floats, second: Floats, height: Floats, goal: Goal
    ) -> tuple[Floats, Floats, Floats]:
        """The best change of an integer or a category, in one of the two or in both; or of two."""
        best = first, second, height
        rows = max(1, BLOCK // max(first.size, 1))
        moves = list(self._moves(first, second))
        if not moves:
            return best
        some = self.generator.integers(len(moves), size=(DOUBLES, 2))
        plans = [[move] for move in moves] + [[moves[i], moves[j]] for i, j in some]
        waiting: list[tuple[Floats, Floats]] = []
        for plan in plans:
            one, two = first.copy(), second.copy()
            for columns, values, who in plan:
                if who != "second":
                    one[:, columns] = values[0]
                if who != "first":
                    two[:, columns] = values[1]
            waiting.append((one, two))
            if len(waiting) == rows:
                best = self._best_of(waiting, best, goal)
                waiting = []
        return self._best_of(waiting, best, goal) if waiting else best

    def _moves(self, first: Floats, second: Floats) -> Iterator[tuple[slice, Any, str]]:
        """Columns, their new values in both, and who changes."""
        domain, pairs = self.pairs.domain, self.pairs
        for feature, where in domain.placed:
            i = where.start
            if isinstance(feature, Integer):
                steps = 2.0 ** np.arange(np.ceil(np.log2(max(feature.high - feature.low, 1))) + 1)
                unit = 1 / domain.spread[i]
                for step in [*steps, *-steps]:
                    one = np.clip(first[:, i] + step * unit, pairs.low[i], pairs.high[i])
                    two = np.clip(second[:, i] + step * unit, pairs.low[i], pairs.high[i])
                    for who in ("both", "first", "second")[: 3 if pairs.cap[i] > 0 else 1]:
                        yield where, (one[:, None], two[:, None]), who
            elif where in [w for _, w in domain.groups]:
                for row in np.eye(where.stop - where.start):
                    for who in ("both", "first", "second")[: 3 if pairs.cap[i] > 0 else 1]:
                        yield where, (row, row), who
            else:  # far jumps, which no gradient sees
                for share in (*JUMPS, *(-jump for jump in JUMPS)):
                    step = share * (pairs.high[i] - pairs.low[i])
                    one = np.clip(first[:, i] + step, pairs.low[i], pairs.high[i])
                    two = np.clip(second[:, i] + step, pairs.low[i], pairs.high[i])
                    yield where, (one[:, None], two[:, None]), "both"

    def _best_of(
        self,
        waiting: list[tuple[Floats, Floats]],
        best: tuple[Floats, Floats, Floats],
        goal: Goal,
    ) -> tuple[Floats, Floats, Floats]:
        ones, twos = np.stack([w[0] for w in waiting]), np.stack([w[1] for w in waiting])
        moves, n, d = ones.shape
        one, two = self.fitted(ones.reshape(-1, d), twos.reshape(-1, d))
        heights = self._heights(one, two, goal).reshape(moves, n)
        chosen, index = heights.argmax(0), np.arange(n)
        ones, twos = one.reshape(ones.shape), two.reshape(twos.shape)
        return self._better(
            best, (ones[chosen, index], twos[chosen, index], heights[chosen, index])
        )

    def fitted(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """Pairs whose numbers differ less where a move has spent what they differed by."""
        if not self.mobile:
            return first, second
        far = np.flatnonzero(~self.pairs.similar(first, second))
        if not len(far):
            return first, second
        one, two = first[far], second[far]
        middle, half = (one + two) / 2, (two - one) / 2
        low, high = np.zeros((len(far), 1)), np.ones((len(far), 1))
        for _ in range(FITTINGS):
            share = (low + high) / 2
            near = self.pairs.similar(
                np.where(self.numbers, middle - share * half, one),
                np.where(self.numbers, middle + share * half, two),
            )[:, None]
            low, high = np.where(near, share, low), np.where(near, high, share)
        first, second = first.copy(), second.copy()
        first[far] = np.where(self.numbers, middle - low * half, one)
        second[far] = np.where(self.numbers, middle + low * half, two)
        return first, second

    # --- both -------------------------------------------------------------------------------------

    def _better(
        self, old: tuple[Floats, Floats, Floats], new: tuple[Floats, Floats, Floats]
    ) -> tuple[Floats, Floats, Floats]:
        rise = new[2] > old[2]
        return (
            np.where(rise[:, None], new[0], old[0]),
            np.where(rise[:, None], new[1], old[1]),
            np.where(rise, new[2], old[2]),
        )

    def _heights(self, first: Floats, second: Floats, goal: Goal) -> Floats:
        """What is climbed, (n,), and -inf where a pair is not similar."""
        with torch.no_grad():
            forward = self.question.network.forward
            z = forward(torch.from_numpy(np.concatenate([first, second])))
            found = goal(z[: len(first)], z[len(first) :]).numpy()
        return np.where(self.pairs.similar(first, second), found, -np.inf)


def attack_pairs(
    question: Question,
    pairs: Pairs,
    goal: Goal,
    *,
    generator: np.random.Generator,
    seconds: float,
    rounds: int = 4,
    restarts: int = 48,
    rows: Floats | None = None,
    keep: int = 3,
    stop: Callable[[], bool] = lambda: False,
) -> list[Witness]:
    """The best legal pairs found by some rounds of climbing from random starts, best first."""
    climber = Climber(question, pairs, generator, stop)
    until = time.monotonic() + seconds
    found: list[tuple[float, Floats, Floats]] = []
    for _ in range(rounds):
        first, second = climber.starts(restarts, rows)
        first, second, height = climber.climb(first, second, goal, until)
        for i in np.argsort(-height)[:keep]:
            found.append((float(height[i]), first[i], second[i]))
        if time.monotonic() > until or stop():
            break
    found.sort(key=lambda each: -each[0])
    witnesses = [legalised(question, pairs, one, two) for _, one, two in found[: 2 * keep]]
    return [w for w in witnesses if w is not None]


def hunt(
    question: Question,
    pairs: Pairs,
    board: Board,
    seconds: float,
    generator: np.random.Generator,
    rows: Floats | None = None,
    rounds: int = 4,
) -> None:
    """Search for pairs and put them on the board: for what is asked, and for the logits."""
    goals: list[Goal] = [question.delta]
    if question.kind != "values":
        goals.append(question.logit)
    if question.cut is not None:
        goals.insert(0, question.margin)
    for goal in goals:
        share = min(seconds, board.left) / len(goals)
        for witness in attack_pairs(
            question,
            pairs,
            goal,
            generator=generator,
            seconds=share,
            rounds=rounds,
            rows=rows,
            stop=lambda: board.interrupted,
        ):
            board.found(witness)
        if board.done() is not None or board.interrupted:
            return
