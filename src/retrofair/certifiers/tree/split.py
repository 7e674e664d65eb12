"""Which parts a node can be split into, and the parts themselves.

A split is a number: first the sign of y' of every unit, then of y'', then one per feature that
is the same in both people, by halves of its range or its categories.
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
COMBINATIONS = 64  # values of free features that are told apart at the root, at most


class Splits:
    def __init__(self, dual: Dual) -> None:
        self.dual, self.pairs = dual, dual.supports.pairs
        self.domain = self.pairs.domain
        self.signs = 2 * dual.units
        self.count = self.signs + len(self.domain.features)
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
            values = self._values(feature, where)
            if values is None or len(parts) * len(values) ** 2 > COMBINATIONS:
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
        features = []
        for (feature, where), place in zip(self.domain.placed, self.place, strict=True):
            i = where.start
            if place < 0:
                features.append(nodes.open[:, 0, where].sum(1) > 1)
                continue
            width = nodes.high[:, 0, place] - nodes.low[:, 0, place]
            step = (
                0.999 / self.domain.spread[i]
                if isinstance(feature, Integer)
                else 1e-3 * (self.pairs.high - self.pairs.low)[i]
            )
            features.append((width > step) & bool(self.pairs.high[i] > self.pairs.low[i]))
        shared = torch.stack(features, 1) & self._shared()
        return torch.cat([*signs, shared], 1)

    def _shared(self) -> Tensor:
        """(features,) those that are the same in both, or nearly so."""
        cap, width = self.pairs.cap, self.pairs.high - self.pairs.low
        return torch.tensor(
            [
                bool((cap[where] <= 0).all())
                or (place >= 0 and bool((cap[where] < width[where] / 2).all()))
                for (_, where), place in zip(self.domain.placed, self.place, strict=True)
            ]
        )

    def fractional(self, person: Floats) -> Tensor:
        """(features,) where a person lies between categories or whole numbers."""
        found = []
        for feature, where in self.domain.placed:
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
            points: (B, d) a person whom the parts of a feature should keep from being mixed.
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
            (feature, where), place = self.domain.placed[index], self.place[index]
            at = None if points is None else points[row][:, where]
            if place < 0:
                left = self._categories(nodes.take(row), where, at)
                old = nodes.open[row][:, 0, where]
                for side, kept in enumerate((left, old & ~left)):
                    part = allowed[side][row]
                    part[:, :, where] = kept[:, None]
                    allowed[side][row] = part
                continue
            i = where.start
            bottom, top = nodes.low[row, 0, place], nodes.high[row, 0, place]
            middle = (bottom + top) / 2
            if isinstance(feature, Integer):
                spread, mean = self.domain.spread[i], self.domain.mean[i]
                whole = middle if at is None else at[:, 0].clamp(bottom, top)
                raw = torch.floor(whole * spread + mean + 1e-6)
                first, last = torch.ceil(bottom * spread + mean - 1e-6), top * spread + mean
                raw = torch.minimum(raw.maximum(first), torch.ceil(last - 1e-6) - 1)
                left_end, right_end = (raw - mean) / spread, (raw + 1 - mean) / spread
            else:
                left_end = right_end = middle
            cap = float(self.pairs.cap[i])
            high[0][row, 0, place] = left_end
            high[0][row, 1, place] = torch.minimum(high[0][row, 1, place], left_end + cap)
            low[1][row, 0, place] = right_end
            low[1][row, 1, place] = torch.maximum(low[1][row, 1, place], right_end - cap)
        return Nodes.joined(
            [
                nodes.put(layers=layers[side], low=low[side], high=high[side], open=allowed[side])
                for side in (0, 1)
            ]
        )

    def _categories(self, nodes: Nodes, where: slice, at: Tensor | None) -> Tensor:
        """(b, k) the categories of one half: apart by the unit that tells them apart most."""
        weight = self.dual.network.weights[0][:, where]
        units = self.dual.slices[0]
        layers = nodes.layers[..., units]
        bent = ((layers[:, 0] < 0) & (layers[:, 1] > 0)) | ((layers[:, 2] < 0) & (layers[:, 3] > 0))
        left = nodes.open[:, 0, where]
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
