"""Searches over a vector of weights: the paper's simulated gradient, and others beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Score = Callable[[Tensor], float]
Slope = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor], Tensor]

JUMP = 2.0  # "much larger", in units of the smallest score so far
SCALE, HEAT = 0.2, 1.0  # of annealing


@dataclass(frozen=True, eq=False)
class Walk:
    """Where a search went.

    Args:
        best: the weights with the smallest score that was seen, (p,).
        score: theirs.
        steps: all weights, the start first.
        history: their scores.
        jumped: the epoch at which it stopped for a jump, if it did.
    """

    best: Tensor
    score: float
    steps: tuple[Tensor, ...]
    history: tuple[float, ...]
    jumped: int | None = None


def differences(score: Score, h: float = 1e-4) -> Slope:
    """The gradient of a score by central differences: two evaluations per weight."""

    def slope(theta: Tensor) -> Tensor:
        found = torch.zeros_like(theta)
        for k in range(len(theta)):
            up, down = theta.clone(), theta.clone()
            up[k] += h
            down[k] -= h
            found[k] = (score(up) - score(down)) / (2 * h)
        return found

    return slope


def backprop(loss: Loss) -> Slope:
    """The gradient of a loss by backpropagation; of a maximum, that of one pair that has it."""

    def slope(theta: Tensor) -> Tensor:
        theta = theta.clone().requires_grad_()
        (found,) = torch.autograd.grad(loss(theta), theta)
        return found

    return slope


def descend(
    start: Tensor,
    score: Score,
    slope: Slope,
    *,
    epochs: int,
    rate: float = 0.01,
    jump: float = JUMP,
) -> Walk:
    """Steps of `rate` against the slope, until a jump; the best weights on the way win.

    With `differences` as the slope this is Algorithm 3 of Liu and Hu (2023), with two slips
    mended: it counts its epochs, and keeps the smallest score instead of the largest. "Much larger"
    is `jump` times the smallest score so far; math.inf: never stop.
    """
    theta, value = start, score(start)
    best, least = theta, value
    steps, history, jumped = [theta], [value], None
    for epoch in range(1, epochs + 1):
        theta = theta - rate * slope(theta)
        value = score(theta)
        steps.append(theta)
        history.append(value)
        if value > jump * least:
            jumped = epoch
            break
        if value < least:
            best, least = theta, value
    return Walk(best, least, tuple(steps), tuple(history), jumped)


def jump_of(history: Sequence[float], jump: float = JUMP) -> int | None:
    """The first epoch at which `descend` stops for a jump, of scores that went on after it."""
    far = (e for e in range(1, len(history)) if history[e] > jump * min(history[:e]))
    return next(far, None)


def kept(history: Sequence[float]) -> int:
    """The epoch whose weights `descend` keeps: of the smallest score before the first jump."""
    return int(np.argmin(history[: jump_of(history)]))


def anneal(
    start: Tensor,
    score: Score,
    rng: np.random.Generator,
    *,
    steps: int,
    scale: float = SCALE,
    heat: float = HEAT,
) -> Walk:
    """Simulated annealing: normal moves of all weights, accepted by Metropolis's rule.

    Args:
        scale: standard deviation of a move in each weight.
        heat: the temperature at the start, in units of the score; it falls linearly to 0.
    """
    theta, value = start, score(start)
    best, least = theta, value
    tried, history = [theta], [value]
    for step in range(steps):
        warmth = heat * (1 - step / steps)
        other = theta + scale * torch.from_numpy(rng.standard_normal(len(theta)))
        now = score(other)
        if now <= value or rng.random() < math.exp((value - now) / warmth):
            theta, value = other, now
        if now < least:
            best, least = other, now
        tried.append(other)
        history.append(now)
    return Walk(best, least, tuple(tried), tuple(history))


def best_of(thetas: Sequence[Tensor], score: Score) -> Tensor:
    """The one with the smallest score; of equals the first."""
    return min(thetas, key=score)


def adam(
    start: Tensor, loss: Loss, judge: Score, *, steps: int, rate: float = 0.01, every: int = 10
) -> Tensor:
    """Adam on a loss; of every tenth step the weights that the judge likes best."""
    theta = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([theta], lr=rate)
    best, least = start, judge(start)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        loss(theta).backward()
        optimiser.step()
        if step % every == 0:
            with torch.no_grad():
                value = judge(theta.detach())
            if value < least:
                best, least = theta.detach().clone(), value
    return best
