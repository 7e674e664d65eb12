"""Two copies of a network and their difference as a mixed-integer linear program.

y1, y2 and their difference Dy have variables of their own in every layer, so that the solver sees
what two big-M copies forget: that both read nearly the same person. Layer by layer the bounds are
first narrowed by linear programs on what stands so far.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.activations import Activation
from retrofair.certifiers.distances import Norm
from retrofair.certifiers.domain import Floats, Integer
from retrofair.certifiers.layered import Layered
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.program import Program, Row, Term
from retrofair.certifiers.propagate import LayerBounds, Way, layer_bounds

PIECES = 8
FOLDS = 9  # of the cone's polyhedron; its relative error is below 1e-5 per pair of numbers
MOST_STEPS = 1000  # of an integer that the program keeps whole


@dataclass(eq=False)
class Twin:
    """The program of two copies of a network over legal pairs.

    Args:
        difference: with variables and lines for the differences; without, the naive two copies.
        pieces: straight pieces of a smooth activation, at most.
    """

    pairs: Pairs
    difference: bool = True
    pieces: int = PIECES
    program: Program = field(default_factory=Program)
    first: list[Term] = field(default_factory=list)
    second: list[Term] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._inputs()
        self.people_whole = frozenset(self.program.whole)
        norm = self.pairs.norm
        if isinstance(norm, Norm):
            self._within(
                [
                    [(float(c), t) for c, t in zip(row, self.apart, strict=True) if c]
                    for row in norm.matrix
                ]
            )

    # --- people -----------------------------------------------------------------------------------

    def _inputs(self) -> None:
        """Variables for both people, in the network's units, and for what differs."""
        pairs, domain, program = self.pairs, self.pairs.domain, self.program
        self.apart: list[Term] = []
        for feature, where in domain.placed:
            for i in range(where.start, where.stop):
                low, high = float(pairs.low[i]), float(pairs.high[i])
                # with many steps whole numbers help little, and the solver's tolerance spans some
                whole = isinstance(feature, Integer) and feature.high - feature.low <= MOST_STEPS
                grouped = where.stop - where.start > 1
                terms = []
                for _ in range(1 if pairs.cap[i] <= 0 else 2):
                    if low == high:
                        terms.append(Term(-1, 0.0, low))
                        continue
                    # in [0, 1], whatever the unit: the solver's tolerances are absolute
                    x = Term(program.variable(0.0, 1.0, whole=grouped), high - low, low)
                    terms.append(x)
                    if whole:
                        k = program.variable(domain.low[i], domain.high[i], whole=True)
                        steps = float(domain.high[i] - domain.low[i])
                        program.row(
                            float(domain.low[i]),
                            [(1.0, Term(k, 1.0)), (-steps, Term(x.variable, 1.0))],
                            float(domain.low[i]),
                        )
                self.first.append(terms[0])
                self.second.append(terms[-1])
                if len(terms) == 1:
                    self.apart.append(Term(-1, 0.0))
                else:
                    cap = float(pairs.cap[i])
                    d = program.number(-cap, cap)
                    program.equal(d, [(1.0, terms[1]), (-1.0, terms[0])])
                    self.apart.append(d)
        for (_, where), table in zip(domain.groups, pairs.exchange, strict=True):
            columns = range(where.start, where.stop)
            for copy in (self.first, self.second)[: 2 if pairs.cap[where].any() else 1]:
                program.row(1.0, [(1.0, copy[i]) for i in columns], 1.0)
            if table.all() or not pairs.cap[where].any():
                continue
            for j in columns:  # who leaves category j goes where an exchange is possible
                there = [
                    (1.0, self.second[k])
                    for k in columns
                    if table[j - where.start, k - where.start]
                ]
                program.row(0.0, [*there, (-1.0, self.first[j])], math.inf)

    def _within(self, rows: list[Row]) -> None:
        """||rows||_p <= epsilon: exactly for p = 1 and inf, for p = 2 up to 1e-4 from outside."""
        program, epsilon, p = self.program, self.pairs.epsilon, self.pairs.norm.p
        rows = [row for row in rows if any(term.factor for _, term in row)]
        if not rows:
            return
        if p == math.inf or len(rows) == 1:
            for row in rows:
                program.row(-epsilon, row, epsilon)
            return
        sizes = []
        for row in rows:
            size = program.number(0.0, epsilon)
            program.row(0.0, [(1.0, size), *[(-c, t) for c, t in row]], math.inf)
            program.row(0.0, [(1.0, size), *row], math.inf)
            sizes.append(size)
        if p == 1.0:
            program.row(0.0, [(1.0, size) for size in sizes], epsilon)
            return
        while len(sizes) > 1:  # a tree of cones over two numbers each
            joined = [self._cone(*pair) for pair in zip(sizes[::2], sizes[1::2], strict=False)]
            sizes = joined + sizes[2 * len(joined) :]

    def _cone(self, a: Term, b: Term) -> Term:
        """A variable that is at least sqrt(a^2 + b^2) / 1.000005, for a, b >= 0.

        Reference: Ben-Tal and Nemirovski (2001), On polyhedral approximations of the
        second-order cone.
        """
        program, epsilon = self.program, self.pairs.epsilon
        x, y = a, b
        for fold in range(FOLDS):
            angle = math.pi / 2 ** (fold + 2)
            c, s = math.cos(angle), math.sin(angle)
            turned = program.number(0.0, 2 * epsilon)
            program.equal(turned, [(c, x), (s, y)])
            folded = program.number(0.0, 2 * epsilon)
            program.row(0.0, [(1.0, folded), (s, x), (-c, y)], math.inf)
            program.row(0.0, [(1.0, folded), (-s, x), (c, y)], math.inf)
            x, y = turned, folded
        radius = program.number(0.0, epsilon)
        program.row(0.0, [(1.0, radius), (-1.0, x)], math.inf)
        program.row(0.0, [(math.tan(math.pi / 2 ** (FOLDS + 1)), x), (-1.0, y)], math.inf)
        return radius

    # --- networks ---------------------------------------------------------------------------------

    def network(
        self,
        network: Layered,
        *,
        tighten: bool,
        until: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[list[LayerBounds], list[list[Term]]]:
        """Add both copies of a network: its layers' bounds, and the outputs' y1, y2 and Dy.

        Args:
            tighten: narrow every layer's bounds by linear programs until the time is up, or
                until `stop` says so.
        """
        found: list[LayerBounds] = []
        copies = [self.first, self.second]
        apart = self.apart
        for depth, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            layer, _ = layer_bounds(network, self.pairs, found, depth, self._ways)
            last = depth == len(network.weights) - 1
            ys = [self._affine(weight, bias, copies[0], layer.low, layer.high)]
            zero = torch.zeros_like(bias)
            dy: list[Term] = []
            if self.difference:
                dy = self._affine(weight, zero, apart, -layer.reach, layer.reach)
                ys.append(self._sums(ys[0], dy, layer))
            else:
                ys.append(self._affine(weight, bias, copies[1], layer.low, layer.high))
                dy = self._gaps(ys, layer) if last else []
            if tighten and depth:
                layer = self._tightened(network, depth, layer, ys[0], dy, until, stop)
            found.append(layer)
            if last:
                return found, [*ys, dy]
            copies, apart = self._activated(network.activations[depth], layer, ys, dy)
        raise AssertionError("a network has a last layer")

    def _affine(
        self, weight: Tensor, bias: Tensor, inputs: list[Term], low: Tensor, high: Tensor
    ) -> list[Term]:
        made = []
        w, b = weight.numpy(), bias.numpy()
        for i in range(len(w)):
            y = self.program.number(float(low[i]), float(high[i]))
            terms = [(float(c), t) for c, t in zip(w[i], inputs, strict=True) if c]
            self.program.row(-float(b[i]), [*terms, (-1.0, y)], -float(b[i]))
            made.append(y)
        return made

    def _sums(self, y: list[Term], dy: list[Term], layer: LayerBounds) -> list[Term]:
        made = []
        for i in range(len(y)):
            two = self.program.number(float(layer.low[i]), float(layer.high[i]))
            self.program.equal(two, [(1.0, y[i]), (1.0, dy[i])])
            made.append(two)
        return made

    def _gaps(self, ys: list[list[Term]], layer: LayerBounds) -> list[Term]:
        made = []
        for one, two, reach in zip(*ys, layer.reach.tolist(), strict=True):
            d = self.program.number(-reach, reach)
            self.program.equal(d, [(1.0, two), (-1.0, one)])
            made.append(d)
        return made

    def _tightened(
        self,
        network: Layered,
        depth: int,
        layer: LayerBounds,
        y: list[Term],
        dy: list[Term],
        until: float,
        stop: Callable[[], bool],
    ) -> LayerBounds:
        """Bounds narrowed by three linear programs per unit; both copies have the same."""
        low, high, reach = layer.low.clone(), layer.high.clone(), layer.reach.clone()
        last = depth == len(network.weights) - 1
        for i in range(len(low)):
            if time.monotonic() > until or stop():
                break
            left = until - time.monotonic()
            kink = last or not network.activations[depth].piecewise or low[i] < 0 < high[i]
            if kink:
                for sign in (1.0, -1.0):
                    top = self.program.highest(y[i], sign, left)
                    if sign > 0:
                        high[i] = min(float(high[i]), top)
                    else:
                        low[i] = max(float(low[i]), -top)
                if low[i] > high[i]:
                    low[i], high[i] = layer.low[i], layer.high[i]
            if dy and reach[i] > 0:
                top = self.program.highest(dy[i], 1.0, left)
                reach[i] = min(float(reach[i]), max(top, 0.0))
        narrowed = layer.narrowed(LayerBounds(low, high, reach))
        for i in range(len(low)):
            bounds = float(narrowed.low[i]), float(narrowed.high[i]), float(narrowed.reach[i])
            self.program.narrow(y[i], bounds[0], bounds[1])
            if dy:
                self.program.narrow(dy[i], -bounds[2], bounds[2])
        return narrowed

    def _activated(
        self,
        activation: Activation,
        layer: LayerBounds,
        ys: list[list[Term]],
        dy: list[Term],
    ) -> tuple[list[list[Term]], list[Term]]:
        """The values after an activation in both copies, and their differences."""
        program = self.program
        copies: list[list[Term]] = [[], []]
        apart: list[Term] = []
        least, most = activation.slopes(layer.low, layer.high)
        for i in range(len(layer.low)):
            low, high, reach = (float(t[i]) for t in (layer.low, layer.high, layer.reach))
            slopes = float(least[i]), float(most[i])
            if activation.piecewise and slopes[0] == slopes[1]:  # never bends: y times a slope
                for copy, y in zip(copies, ys, strict=True):
                    copy.append(y[i].times(slopes[0]))
                apart.append(dy[i].times(slopes[0]) if dy else Term(-1, 0.0))
                continue
            whole = []
            for copy, y in zip(copies, ys, strict=True):
                if activation.piecewise:
                    h, switch = self._bent(activation.slope, low, high, y[i])
                    whole.append(switch)
                else:
                    h = self._smooth(activation, low, high, y[i])
                copy.append(h)
            if not dy:
                apart.append(Term(-1, 0.0))
                continue
            size = max(abs(slopes[0]), abs(slopes[1])) * reach
            dh = program.number(-size, size)
            program.equal(dh, [(1.0, copies[1][i]), (-1.0, copies[0][i])])
            middle, rise = (slopes[0] + slopes[1]) / 2, (slopes[1] - slopes[0]) / 2 * reach
            program.row(-rise, [(1.0, dh), (-middle, dy[i])], rise)
            if whole:
                self._switched(activation.slope, reach, dh, dy[i], *whole)
            apart.append(dh)
        return copies, apart

    def _bent(self, slope: float, low: float, high: float, y: Term) -> tuple[Term, Term]:
        """h = y where y > 0, slope * y elsewhere, and the 0/1 variable that says which."""
        ends = slope * low, high
        program = self.program
        h = program.number(min(*ends, 0.0), max(*ends, 0.0))
        a = Term(program.variable(0.0, 1.0, whole=True), 1.0)
        k = 1 - slope
        sign = 1.0 if k > 0 else -1.0  # a steeper left piece turns the inequalities round
        # sign*h >= sign*y and sign*slope*y; each is met from below where its piece is the one
        program.row(0.0, [(sign, h), (-sign, y)], math.inf)
        program.row(0.0, [(sign, h), (-sign * slope, y)], math.inf)
        # sign*h <= sign*y - |k|*low*(1 - a)
        program.row(-math.inf, [(sign, h), (-sign, y), (-abs(k) * low, a)], -abs(k) * low)
        program.row(-math.inf, [(sign, h), (-sign * slope, y), (-abs(k) * high, a)], 0.0)
        return h, a

    def _switched(self, slope: float, reach: float, dh: Term, dy: Term, a: Term, b: Term) -> None:
        """How the difference depends on which piece each copy is on."""
        program, k = self.program, 1 - slope
        sign, k = (1.0, k) if k > 0 else (-1.0, -k)
        # r = (dh - slope*dy) / (1 - slope) is the difference of the two ReLUs
        r: Row = [(sign, dh), (-sign * slope, dy)]
        free = math.inf
        program.row(-free, [*r, (-k * reach, b)], 0.0)
        program.row(-free, [*r, (-k, dy), (k * reach, b)], k * reach)
        program.row(0.0, [*r, (k * reach, a)], free)
        program.row(-k * reach, [*r, (-k, dy), (-k * reach, a)], free)

    def _smooth(self, activation: Activation, low: float, high: float, y: Term) -> Term:
        """h between two lines on each of some pieces of [low, high], one of which is chosen."""
        program = self.program
        ends = torch.tensor(activation.pieces(low, high, self.pieces), dtype=torch.float64)
        lines = activation.lines(ends[:-1], ends[1:])
        below, under, above, over = (line.tolist() for line in lines)
        values = activation(torch.tensor([low, high], dtype=torch.float64)).tolist()
        h = program.number(values[0] - 1e-12, values[1] + 1e-12)
        if len(ends) == 2:
            program.row(under[0], [(1.0, h), (-below[0], y)], math.inf)
            program.row(-math.inf, [(1.0, h), (-above[0], y)], over[0])
            return h
        parts, ons = [], []
        lower: Row = [(1.0, h)]
        upper: Row = [(1.0, h)]
        for i, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
            on = Term(program.variable(0.0, 1.0, whole=True), 1.0)
            part = program.number(min(start, 0.0), max(end, 0.0))
            program.row(0.0, [(1.0, part), (-start, on)], math.inf)
            program.row(-math.inf, [(1.0, part), (-end, on)], 0.0)
            parts.append(part)
            ons.append(on)
            lower += [(-below[i], part), (-under[i], on)]
            upper += [(-above[i], part), (-over[i], on)]
        program.row(1.0, [(1.0, on) for on in ons], 1.0)
        program.equal(y, [(1.0, part) for part in parts])
        program.row(0.0, lower, math.inf)
        program.row(-math.inf, upper, 0.0)
        return h

    def embedded(self, until: float) -> None:
        """The distance of an embedding network: a twin of its own on the same people."""
        norm = self.pairs.norm
        assert not isinstance(norm, Norm)
        _, (_, _, apart) = self.network(norm.network, tighten=False, until=until)
        self._within(
            [
                [(float(c), t) for c, t in zip(row, apart, strict=True) if c]
                for row in norm.inner.matrix
            ]
        )

    # --- solutions --------------------------------------------------------------------------------

    def people(self, solution: Floats) -> tuple[Floats, Floats]:
        """Both people, (d,) in the network's units, of a solution's variables."""
        return self._person(self.first, solution), self._person(self.second, solution)

    def _person(self, terms: list[Term], solution: Floats) -> Floats:
        return np.array(
            [
                t.factor * solution[t.variable] + t.constant if t.factor else t.constant
                for t in terms
            ]
        )

    def start(self, first: Floats, second: Floats) -> dict[int, float]:
        """Values of the people's variables for a pair (d,)."""
        whole = set(self.program.whole)
        values: dict[int, float] = {}
        for copy, person in ((self.first, first), (self.second, second)):
            for term, value in zip(copy, person, strict=True):
                if term.factor:
                    found = float(value - term.constant) / term.factor
                    values[term.variable] = round(found) if term.variable in whole else found
        return values

    @property
    def _ways(self) -> tuple[Way, ...]:
        return ("crown", "difference") if self.difference else ("crown",)
