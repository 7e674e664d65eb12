"""Which parts a node can be split into, and the parts themselves.

A split is a number: first the sign of y' of every unit, then of y'', then the features of x', then
those of x'', by halves of their ranges or categories.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.domain import Floats, Integer, OneHot
from retrofair.certifiers.tree.dual import Dual
from retrofair.certifiers.tree.nodes import HIGH, HIGH_2, LOW, LOW_2, Nodes

SETTLED = 1e-9  # a sign counts as known where the other side is smaller than this share
VIOLATED = 1e-7  # of a unit's size: how far a point must leave the ReLU
FRACTION = 1e-4
NARROWEST = 1e-3  # part of a number's range that is not split again
COMBINATIONS = 64  # values of free features that are told apart at the root, at most


class Splits:
    def __init__(self, dual: Dual) -> None:
        self.dual, self.pairs = dual, dual.supports.pairs
        self.domain = self.pairs.domain
        self.signs = 2 * dual.units
        self.features = len(self.domain.features)
        self.count = self.signs + 2 * self.features
        self.small = SETTLED * dual.sizes.clamp(min=1e-300)
        numbers = {int(column): i for i, column in enumerate(dual.supports.columns)}
        self.place = [numbers.get(where.start, -1) for _, where in self.domain.placed]

    def roots(self) -> Nodes:
        """All pairs, apart by the values of free features with few of them."""
        root = self.dual.root()
        parts = [root]
        for (feature, where), place in zip(self.domain.placed, self.place, strict=True):
            free = self.pairs.cap[where] >= (self.pairs.high - self.pairs.low)[where]
            if not free.all() or not (self.pairs.cap[where] > 0).all():
                continue
            count = where.stop - where.start
            if isinstance(feature, Integer):
                count = int(feature.high - feature.low) + 1
            if len(parts) * count**2 > COMBINATIONS:
                continue
            values = self._values(feature, where)
            if values is None:
                continue
            table = [
                t
                for (_, w), t in zip(self.domain.groups, self.pairs.exchange, strict=True)
                if w == where
            ]
            if table and not table[0].all():
                continue
            parts = [
                _fixed(part, place, where, one, two)
                for part in parts
                for one, two in itertools.product(values, repeat=2)
            ]
        return Nodes.joined(parts)

    def _values(self, feature: object, where: slice) -> list[Floats] | None:
        if isinstance(feature, OneHot):
            return list(np.eye(where.stop - where.start))
        if isinstance(feature, Integer):
            raw = np.arange(feature.low, feature.high + 1)
            i = where.start
            return [np.array([(v - self.domain.mean[i]) / self.domain.spread[i]]) for v in raw]
        return None

    # --- which ------------------------------------------------------------------------------------

    def open(self, nodes: Nodes) -> Tensor:
        """(B, count) the splits that leave something on both sides."""
        layers = nodes.layers
        signs = [
            (layers[:, low] < -self.small) & (layers[:, high] > self.small)
            for low, high in ((LOW, HIGH), (LOW_2, HIGH_2))
        ]
        features = torch.stack(
            [
                self._divisible(nodes, person, feature, where, place)
                for person in (0, 1)
                for (feature, where), place in zip(self.domain.placed, self.place, strict=True)
            ],
            1,
        )
        return torch.cat([*signs, features], 1)

    def _divisible(
        self, nodes: Nodes, person: int, feature: object, where: slice, place: int
    ) -> Tensor:
        """(B,) whether a person's feature has more than one value left."""
        i = where.start
        if person and not (self.pairs.cap[where] > 0).any():
            return torch.zeros(len(nodes), dtype=torch.bool)  # it is x's as well
        if place < 0:
            return nodes.open[:, person, where].sum(1) > 1
        width = nodes.high[:, person, place] - nodes.low[:, person, place]
        if isinstance(feature, Integer):
            least = 0.5 / self.domain.spread[i]
        else:
            least = NARROWEST * max((self.pairs.high - self.pairs.low)[i], 1e-300)
        return torch.gt(width, float(least))

    def fractional(self, first: Floats, second: Floats) -> Tensor:
        """(2 * features,) where the people lie between categories or whole numbers."""
        found = []
        for person, (feature, where) in itertools.product((first, second), self.domain.placed):
            part = person[where]
            if isinstance(feature, OneHot):
                found.append(bool(part.max() < 1 - FRACTION))
            elif isinstance(feature, Integer):
                i = where.start
                raw = part[0] * self.domain.spread[i] + self.domain.mean[i]
                found.append(bool(abs(raw - np.rint(raw)) > FRACTION))
            else:
                found.append(False)
        return torch.tensor(found)

    # --- the parts --------------------------------------------------------------------------------

    def halves(self, nodes: Nodes, split: Tensor, points: Tensor | None = None) -> Nodes:
        """Both parts of each node by its split (B,): first all of one kind, then all others.

        Args:
            points: (B, 2, d) people in between: the parts of a feature should not hold them.
        """
        layers = [nodes.layers.clone(), nodes.layers.clone()]
        n = self.dual.units
        row = torch.nonzero(split < self.signs).flatten()
        copy, unit = split[row] // n, split[row] % n
        layers[0][row, 2 * copy, unit] = layers[0][row, 2 * copy, unit].clamp(min=0)
        layers[1][row, 2 * copy + 1, unit] = layers[1][row, 2 * copy + 1, unit].clamp(max=0)
        low, high = ([t.clone(), t.clone()] for t in (nodes.low, nodes.high))
        allowed = [nodes.open.clone(), nodes.open.clone()]
        for index in (split[split >= self.signs] - self.signs).unique().tolist():
            row = torch.nonzero(split == self.signs + index).flatten()
            person, which = divmod(index, self.features)
            (feature, where), place = self.domain.placed[which], self.place[which]
            at = None if points is None else points[row][:, person, where]
            cap = self.pairs.cap[where]
            if place < 0:
                left = self._categories(nodes.take(row), person, where, at)
                old = nodes.open[row][:, person, where]
                who = [person] if (cap > 0).any() else [0, 1]
                for side, kept in enumerate((left, old & ~left)):
                    part = allowed[side][row]
                    part[:, who, where] = kept[:, None]
                    allowed[side][row] = part
                continue
            bottom, top = nodes.low[row, person, place], nodes.high[row, person, place]
            ends = self._ends(feature, where.start, bottom, top, None if at is None else at[:, 0])
            high[0][row, person, place], low[1][row, person, place] = ends
            other, room = 1 - person, float(cap[0])
            high[0][row, other, place] = high[0][row, other, place].minimum(ends[0] + room)
            low[1][row, other, place] = low[1][row, other, place].maximum(ends[1] - room)
        return Nodes.joined(
            [
                nodes.put(layers=layers[side], low=low[side], high=high[side], open=allowed[side])
                for side in (0, 1)
            ]
        )

    def _ends(
        self, feature: object, i: int, bottom: Tensor, top: Tensor, at: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(b,) where the lower half of a range ends and the upper one begins."""
        middle = (bottom + top) / 2
        if not isinstance(feature, Integer):
            return middle, middle
        spread, mean = self.domain.spread[i], self.domain.mean[i]
        raw = torch.floor((middle if at is None else at) * spread + mean + 1e-6)
        first, last = torch.round(bottom * spread + mean), torch.round(top * spread + mean)
        raw = torch.minimum(raw.maximum(first), last - 1)
        return (raw - mean) / spread, (raw + 1 - mean) / spread

    def _categories(self, nodes: Nodes, person: int, where: slice, at: Tensor | None) -> Tensor:
        """(b, k) the categories of one half: apart by the unit that tells them apart most."""
        weight = self.dual.network.weights[0][:, where]
        units = self.dual.slices[0]
        layers = nodes.layers[..., units]
        bent = ((layers[:, 0] < 0) & (layers[:, 1] > 0)) | ((layers[:, 2] < 0) & (layers[:, 3] > 0))
        left = nodes.open[:, person, where]
        if at is None:
            pair = left
        else:  # the two categories that the person is a mixture of
            top = torch.where(left, at, -1.0).topk(2, dim=1).indices
            pair = torch.zeros_like(left).scatter(1, top, True)
        infinite = torch.tensor(torch.inf, dtype=weight.dtype)
        most = torch.where(pair[:, None], weight, -infinite).amax(2)
        least = torch.where(pair[:, None], weight, infinite).amin(2)
        share = nodes.own[..., units].abs().sum(1) + nodes.mix[:, units].abs() + 1e-6
        chosen = ((most - least) * share * (bent + 1e-3)).argmax(1)
        cut = ((most + least) / 2).gather(1, chosen[:, None])
        half = left & (weight[chosen] <= cut)
        # where all are alike, one against the others
        alone = torch.zeros_like(left).scatter(1, left.to(torch.int8).argmax(1, keepdim=True), True)
        bad = (half.sum(1) == 0) | (half.sum(1) == left.sum(1))
        return torch.where(bad[:, None], alone, half)


def _fixed(node: Nodes, place: int, where: slice, one: Floats, two: Floats) -> Nodes:
    """The node with one feature's value known in both people."""
    if place >= 0:
        low, high = node.low.clone(), node.high.clone()
        for side, value in enumerate((one, two)):
            low[:, side, place] = high[:, side, place] = float(value[0])
        return node.put(low=low, high=high)
    allowed = node.open.clone()
    allowed[:, 0, where] = torch.from_numpy(one > 0)
    allowed[:, 1, where] = torch.from_numpy(two > 0)
    return node.put(open=allowed)
