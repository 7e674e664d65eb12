"""Activations as a certifier sees them: values, slopes, and the lines between which they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["relu", "leaky_relu", "sigmoid", "tanh"]
BISECTIONS = 50
NARROW = 1e-6  # a range that one straight piece covers
FLAT, GRID = 30.0, 1001  # beyond FLAT an S is level; points of the grid on which bends are seen


@dataclass(frozen=True)
class Activation:
    """One activation function, applied to each unit of a layer.

    Args:
        slope: of a leaky ReLU below 0.
    """

    kind: Kind
    slope: float = 0.0

    @property
    def piecewise(self) -> bool:
        """Two straight pieces that meet at 0, rather than a smooth S."""
        return self.kind in ("relu", "leaky_relu")

    def __call__(self, y: Tensor) -> Tensor:
        if self.piecewise:
            return torch.where(y > 0, y, self.slope * y)
        return torch.sigmoid(y) if self.kind == "sigmoid" else torch.tanh(y)

    def derivative(self, y: Tensor) -> Tensor:
        if self.piecewise:
            return self._side(y > 0, y)
        if self.kind == "tanh":
            return 1 / torch.cosh(y) ** 2
        return torch.sigmoid(y) * torch.sigmoid(-y)

    def slopes(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest slope of a chord within [low, high]."""
        at = self.derivative(low), self.derivative(high)
        if self.piecewise:  # the derivative at 0 itself is that of the left piece
            right, left = self._side(high > 0, high), self._side(low >= 0, low)
            return torch.minimum(left, right), torch.maximum(left, right)
        steepest = self.derivative(torch.zeros_like(low).clamp(low, high))
        return torch.minimum(*at), steepest

    def offsets(self, k: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest value of f(y) - k*y on [low, high], exactly."""
        inner = [torch.zeros_like(low)] if self.piecewise else list(self._stationary(k))
        points = [low, high, *(p.clamp(low, high) for p in inner)]
        values = torch.stack([self(p) - k * p for p in points])
        return values.amin(0), values.amax(0)

    def lines(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Slope and intercept of a line below the function on [low, high] and of one above it."""
        below, above = self._slopes_of_lines(low, high)
        return below, self.offsets(below, low, high)[0], above, self.offsets(above, low, high)[1]

    def pieces(self, low: float, high: float, most: int) -> list[float]:
        """Where the straight pieces of a smooth function meet: 0, and closer where it bends more.

        A chord over a short piece of width w leaves the curve by about |f''| w^2 / 8, so pieces
        as wide as 1 / sqrt(|f''|) are all equally good.
        """
        if most == 1 or high - low < NARROW:
            return [low, high]
        inner = np.linspace(max(low, -FLAT), min(high, FLAT), GRID)
        points = np.unique(np.concatenate([[low, high], inner[(inner > low) & (inner < high)]]))
        slope = self.derivative(torch.from_numpy(points)).numpy()
        bend = np.sqrt(np.abs(np.diff(slope)) * np.diff(points))
        way = np.concatenate([[0.0], np.cumsum(bend + 1e-9)])
        ends = np.interp(np.linspace(0.0, way[-1], most + 1), way, points)
        ends[0], ends[-1] = low, high
        if low < 0 < high:  # no piece with both curvatures
            ends[1 + int(np.abs(ends[1:-1]).argmin())] = 0.0
        return [float(end) for end in np.unique(ends)]

    def _side(self, right: Tensor, like: Tensor) -> Tensor:
        """The slope of the right piece or the left one, in the precision of `like`."""
        return torch.where(right, torch.ones_like(like), torch.full_like(like, self.slope))

    def _stationary(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Where the derivative of an S is k: two points, or any where there is none."""
        k = k if self.kind == "sigmoid" else k / 4  # tanh(y) = 2 sigmoid(2y) - 1
        root = torch.sqrt((1 - 4 * k).clamp(0, 1))
        s = (2 * k / (1 + root)).clamp(torch.finfo(k.dtype).tiny, 0.5)
        y = torch.log(s) - torch.log1p(-s)
        y = y if self.kind == "sigmoid" else y / 2
        return y, -y

    def _slopes_of_lines(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        width = (high - low).clamp(min=1e-300)
        chord = torch.where(
            high - low > 1e-12, (self(high) - self(low)) / width, self.derivative(low)
        )
        if self.piecewise:
            steep = self._side(high > -low, low)
            stable = (low >= 0) | (high <= 0)
            side = torch.where(stable, chord, steep)
            return (side, chord) if self.slope <= 1 else (chord, side)
        return self._above(-high, -low, chord), self._above(low, high, chord)

    def _above(self, low: Tensor, high: Tensor, chord: Tensor) -> Tensor:
        """The slope of a line above an S on [low, high]; the one below mirrors it."""
        middle = self.derivative((low + high) / 2)
        # between: the line through the left end that touches the curve at t > 0
        left, right = torch.zeros_like(low), high.clamp(min=0)
        start = self(low)
        for _ in range(BISECTIONS):
            t = (left + right) / 2
            early = self.derivative(t) * (t - low) > self(t) - start
            left, right = torch.where(early, t, left), torch.where(early, right, t)
        touching = self.derivative(left)
        bent = torch.where(self.derivative(high) >= chord, chord, touching)
        return torch.where(low >= 0, middle, torch.where(high <= 0, chord, bent))


def sigmoid_difference(d: float, m: float) -> float:
    """sigmoid(m + d/2) - sigmoid(m - d/2), without cancellation; increasing in d >= 0.

    >>> round(sigmoid_difference(2.0, 0.0), 6) == round(math.tanh(0.5), 6)
    True
    """
    if d <= 0:
        return 0.0
    # sinh(d/2) / (cosh m + cosh(d/2)), with everything divided by the largest exponential
    half, m = d / 2, abs(m)
    top = max(half, m)
    rise = math.exp(half - top) - math.exp(-half - top)
    total = math.exp(m - top) + math.exp(-m - top) + math.exp(half - top) + math.exp(-half - top)
    return rise / total
