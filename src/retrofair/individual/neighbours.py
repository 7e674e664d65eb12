"""The person similar to each row whom the network treats most differently, found by gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.attack import Climber
from retrofair.certifiers.distances import Norm
from retrofair.certifiers.domain import Floats, Integer, OneHot
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question

COMBINATIONS = 8  # values of free features tried per row, at most
HALVINGS = 16  # until people are as far apart as they may be
Apart = Callable[[Tensor, Tensor], Tensor]


class Neighbours:
    """Looks for x* within epsilon of each row x: free features by trying, numbers by gradient.

    The rows are those of people in the domain.

    Whole numbers that can differ are taken as continuous: x* lies at most a fraction of a unit
    beyond what is legal, which makes training a little stricter and touches no certificate.
    """

    def __init__(self, question: Question, pairs: Pairs, generator: np.random.Generator) -> None:
        self.pairs, self.generator = pairs, generator
        relaxed = Pairs(pairs.domain.relaxed(), pairs.norm, pairs.epsilon)
        relaxed.cap[pairs.cap <= 0] = 0.0
        self.climber = Climber(question, relaxed, generator)
        norm = pairs.norm
        # where each column counts for itself, what is within its cap is similar
        self.apart_alone = isinstance(norm, Norm) and norm.diagonal and norm.p == np.inf
        self.moving = torch.from_numpy(self.climber.numbers & (relaxed.cap > 0))
        self.low = torch.from_numpy(pairs.low)
        self.high = torch.from_numpy(pairs.high)
        self.free = self._free()
        counts = [len(values) for _, values in self.free]
        self.all = list(itertools.product(*(range(c) for c in counts)))

    def _free(self) -> list[tuple[slice, Floats]]:
        """Discrete features that can take any value in the other person, with their values."""
        domain, cap = self.pairs.domain, self.pairs.cap
        tables = {w.start: t for (_, w), t in zip(domain.groups, self.pairs.exchange, strict=True)}
        found: list[tuple[slice, Floats]] = []
        for feature, where in domain.placed:
            if isinstance(feature, OneHot) and tables[where.start].all():
                found.append((where, np.eye(where.stop - where.start)))
            elif isinstance(feature, Integer):
                i = where.start
                if cap[i] > 0 and cap[i] >= (self.pairs.high - self.pairs.low)[i]:
                    raw = np.arange(feature.low, feature.high + 1)
                    found.append((where, ((raw - domain.mean[i]) / domain.spread[i])[:, None]))
        return found

    def worst(self, x: Tensor, apart: Apart, steps: int) -> Tensor:
        """(n, d) the worst found for rows x (n, d), float64; x itself where there is none.

        Args:
            apart: |f(x) - f(x*)| of rows and rows, (m,), differentiable.
        """
        starts = self._starts(x)
        rows = x.repeat(len(starts) // len(x), 1)
        starts = self._similar(rows, starts)
        if steps:
            starts = self._off(rows, starts, apart)
        with torch.no_grad():
            best, most = starts, apart(rows, starts)
        now = starts
        for _ in range(steps if bool(self.moving.any()) else 0):
            tried = now.clone().requires_grad_()
            (slope,) = torch.autograd.grad(apart(rows, tried).sum(), tried)
            far = self.climber.corner(slope.numpy(), (now - rows).numpy())
            moved = (rows + torch.from_numpy(far)).clamp(self.low, self.high)
            now = self._similar(rows, torch.where(self.moving, moved, now))
            with torch.no_grad():
                height = apart(rows, now)
            better = height > most
            best = torch.where(better[:, None], now, best)
            most = torch.where(better, height, most)
        chosen = most.view(-1, len(x)).argmax(0)
        return best.view(-1, *x.shape)[chosen, torch.arange(len(x))]

    def _off(self, rows: Tensor, starts: Tensor, apart: Apart) -> Tensor:
        """The starts, but none at its row itself, where |f(x) - f(x*)| has no slope.

        They lie at a random corner of what is similar, or at the opposite one, if that is worse.
        """
        same = (starts == rows).all(1)
        if not bool(same.any() and self.moving.any()):
            return starts
        ways = self.generator.normal(size=rows.shape)
        far = torch.from_numpy(self.climber.corner(ways, np.zeros_like(ways)))
        one, two = (self._similar(rows, self._moved(rows, way)) for way in (far, -far))
        with torch.no_grad():
            corners = torch.where((apart(rows, one) >= apart(rows, two))[:, None], one, two)
        return torch.where(same[:, None], corners, starts)

    def _moved(self, rows: Tensor, by: Tensor) -> Tensor:
        return torch.where(self.moving, (rows + by).clamp(self.low, self.high), rows)

    def _similar(self, rows: Tensor, found: Tensor) -> Tensor:
        """The found people, nearer to their rows in numbers where they are not similar to them.

        Categories may have spent what numbers differ by; and in a distance that is not of each
        column alone, the ends of the ranges may make people less similar.
        """
        if self.apart_alone:
            return found
        far = torch.from_numpy(~self.pairs.similar(rows.numpy(), found.numpy()))
        if not bool(far.any()):
            return found
        one, two = rows[far], found[far]
        low, high = torch.zeros(len(one), 1).double(), torch.ones(len(one), 1).double()

        def between(share: Tensor) -> tuple[Tensor, Tensor]:
            people = torch.where(self.moving, one + share * (two - one), two)
            near = self.pairs.similar(one.numpy(), people.numpy())
            return people, torch.from_numpy(near)[:, None]

        for _ in range(HALVINGS):
            middle = (low + high) / 2
            near = between(middle)[1]
            low, high = torch.where(near, middle, low), torch.where(near, high, middle)
        people, near = between(low)
        fitted = found.clone()
        fitted[far] = torch.where(near, people, one)
        return fitted

    def _starts(self, x: Tensor) -> Tensor:
        """The rows with some or all combinations of the free features, one block each; without
        free features twice the rows as they are."""
        if not self.free:
            return x.repeat(2, 1)
        every = len(self.all) <= COMBINATIONS
        tried = self.all if every else [None] * COMBINATIONS
        blocks = []
        for combination in tried:
            block = x.clone()
            for k, (where, values) in enumerate(self.free):
                if combination is None:
                    index = self.generator.integers(len(values), size=len(x))
                    block[:, where] = torch.from_numpy(values[index])
                else:
                    block[:, where] = torch.from_numpy(values[combination[k]])
            blocks.append(block)
        return torch.cat(blocks)
