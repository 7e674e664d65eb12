"""The rows of the study's tables: each chooses the weights of a model from training data.

Adding one = a frozen dataclass with a name that is called with a `Case`, and its name in `METHODS`.
None sees test data; those that speak of accuracy choose among their steps by validation data.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers import Distance, Domain
from retrofair.individual import Settings, fit_individually_fair
from retrofair.preprocessing import resampling_weights
from retrofair.studies.fairnn.descent import (
    JUMP,
    Score,
    Slope,
    Walk,
    adam,
    anneal,
    backprop,
    best_of,
    descend,
    differences,
)
from retrofair.studies.fairnn.housing import Rows
from retrofair.studies.fairnn.model import Shape, Squash, released_sigmoid

MANY = 100  # weights: with more, the slope is taken by backpropagation
BACKPROP = 3  # evaluations that a gradient by backpropagation is worth, its value included
H = 1e-4
CONSTANT, ONE = "constant model", "one random draw"  # what others are measured against
ALGORITHM, BEST = "Algorithm 1", "best of 20 draws"
PAIRS, PEOPLE = "trained", "train_individually_fair"  # what is compared in training


@dataclass(frozen=True, eq=False)
class Case:
    """A model to be chosen, and the rows to choose it by.

    Args:
        attribute: (n,) the sensitive attribute of the training rows, which resampling goes by.
        domain, distance: the people around the training rows, and who is similar to whom.
    """

    shape: Shape
    train: Rows
    valid: Rows
    attribute: Tensor
    domain: Domain
    distance: Distance

    def delta(self, squash: Squash = torch.sigmoid, rows: Rows | None = None) -> Score:
        """Delta over the training rows, or others, as a function of the weights."""
        rows = self.train if rows is None else rows

        def score(theta: Tensor) -> float:
            with torch.no_grad():
                return float(rows.delta(self.shape.outputs(theta, rows.x, squash)))

        return score

    def slope(self, score: Score, rows: Rows, squash: Squash = torch.sigmoid) -> Slope:
        """Of delta, by differences as in the paper, or by backpropagation of many weights.

        Args:
            score: delta over `rows` with `squash`.
        """
        if self.shape.size <= MANY:
            return differences(score, H)
        return self.exact_slope(rows, squash)

    def exact_slope(self, rows: Rows, squash: Squash = torch.sigmoid) -> Slope:
        return backprop(lambda theta: rows.delta(self.shape.outputs(theta, rows.x, squash)))

    def start(self, rng: np.random.Generator) -> Tensor:
        """Random weights to train from: small, so that no output starts at an end of the range."""
        return self.shape.draw(rng) * (1.0 if self.shape.hidden else 0.1)

    def mse(self, theta: Tensor, rows: Rows) -> Tensor:
        return (self.shape.outputs(theta, rows.x) - rows.y).square().mean()

    def resampled(self, rng: np.random.Generator, *, uniform: bool = False) -> Rows:
        """The training rows drawn again, by Algorithm 2's weights or all alike.

        Pairs are those between the rows that were drawn, so some of the pairs that were there.

        Raises:
            InputError: the attribute does not vary, or no two of the drawn rows are similar.
        """
        n = len(self.train.x)
        weights = np.ones(n) if uniform else resampling_weights(self.attribute, self.train.y)
        drawn = torch.from_numpy(rng.choice(n, size=n, p=weights / weights.sum()))
        there = torch.zeros(n, dtype=torch.bool)
        there[drawn] = True
        kept = there[self.train.first] & there[self.train.second]
        # twice the same row is a pair that differs by 0: pairs of different rows are enough
        first, second = self.train.first[kept], self.train.second[kept]
        return dataclasses.replace(self.train, first=first, second=second).with_pairs()


class Method(Protocol):
    """Chooses weights. `name` is what tables call it."""

    @property
    def name(self) -> str: ...
    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Constant:
    """The mean of the training targets for everybody: delta 0, and what accuracy is measured by."""

    name: str = CONSTANT

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        return case.shape.constant(float(case.train.y.mean()))


@dataclass(frozen=True)
class Draws:
    """The best of random draws, by delta over the training rows."""

    tries: int = 20
    name: str = BEST

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        return best_of([case.shape.draw(rng) for _ in range(self.tries)], case.delta())


@dataclass(frozen=True)
class Framework:
    """Algorithm 1 of Liu and Hu (2023): best of random draws, resampling, simulated gradient.

    The paper's pseudocode takes the draw with the largest delta; meant, and done here, is the
    smallest.

    Args:
        released: with the released code's sigmoid in place of the sigmoid.
    """

    resampling: bool = False
    released: bool = False
    starts: int = 20
    epochs: int = 20
    rate: float = 0.01
    jump: float = JUMP
    name: str = ALGORITHM

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        return self.walk(case, rng).best

    def walk(self, case: Case, rng: np.random.Generator) -> Walk:
        squash: Squash = released_sigmoid if self.released else torch.sigmoid
        draws = [case.shape.draw(rng) for _ in range(self.starts)]
        start = best_of(draws, case.delta(squash))
        rows = case.resampled(rng) if self.resampling else case.train
        score = case.delta(squash, rows)
        slope = case.slope(score, rows, squash)
        return descend(start, score, slope, epochs=self.epochs, rate=self.rate, jump=self.jump)


@dataclass(frozen=True)
class PlainGradient:
    """The gradient of delta by backpropagation, at the rate of the simulated one."""

    starts: int = 20
    evaluations: int = 581
    rate: float = 0.01
    name: str = "plain gradient, equal budget"

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        start = best_of([case.shape.draw(rng) for _ in range(self.starts)], case.delta())
        steps = self.evaluations // BACKPROP
        slope = case.exact_slope(case.train)
        return descend(start, case.delta(), slope, epochs=steps, rate=self.rate, jump=math.inf).best


@dataclass(frozen=True)
class Restarts:
    """Simulated gradients from several of the best draws, with the epochs shared among them."""

    starts: int = 20
    times: int = 4
    epochs: int = 5
    name: str = "restarts, equal budget"

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        score = case.delta()
        draws = sorted((case.shape.draw(rng) for _ in range(self.starts)), key=score)
        slope = case.slope(score, case.train)
        paths = [descend(d, score, slope, epochs=self.epochs) for d in draws[: self.times]]
        return min(paths, key=lambda path: path.score).best


@dataclass(frozen=True)
class Annealing:
    """Simulated annealing from the best draw."""

    starts: int = 20
    evaluations: int = 581
    name: str = "annealing, equal budget"

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        score = case.delta()
        start = best_of([case.shape.draw(rng) for _ in range(self.starts)], score)
        return anneal(start, score, rng, steps=self.evaluations - 1).best


@dataclass(frozen=True)
class Trained:
    """Adam on lam * MSE + (1 - lam) * delta over the training rows.

    As the paper's formula has it: lam = 1 is ordinary training, lam = 0 ignores accuracy. (Its
    text says the opposite.) Its Problem 2 compares each row with the worst person similar to it in
    the whole domain; here only pairs of rows are compared.
    """

    lam: float = 1.0
    steps: int = 2000
    rate: float = 0.01
    name: str = f"{PAIRS}, lambda = 1"

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        def loss(theta: Tensor, accuracy: Rows | None = None) -> Tensor:
            rows = case.train
            outputs = case.shape.outputs(theta, rows.x)
            error = (outputs - rows.y).square().mean()
            if accuracy is not None:
                error = case.mse(theta, accuracy)
            return self.lam * error + (1 - self.lam) * rows.delta(outputs)

        def judge(theta: Tensor) -> float:
            return float(loss(theta, case.valid))

        return adam(case.start(rng), loss, judge, steps=self.steps, rate=self.rate)


@dataclass(frozen=True)
class Individually:
    """`train_individually_fair`: lam * MSE + (1 - lam) * |f(x) - f(x*)|, Problem 2 proper.

    x* is the worst similar person of the box around the training rows; half of the second term is
    a proved bound.
    """

    lam: float = 0.5
    epochs: int = 400
    rate: float = 0.01
    sparsity: float = 0.2
    name: str = f"{PEOPLE}, lambda = 0.5"

    def __call__(self, case: Case, rng: np.random.Generator) -> Tensor:
        settings = Settings(
            lam=self.lam,
            epochs=self.epochs,
            batch_size=64,
            learning_rate=self.rate,
            patience=100,
            sparsity=self.sparsity,
        )
        fair = fit_individually_fair(
            case.shape.network(case.start(rng)),
            (case.train.x.float(), case.train.y),
            case.domain,
            case.distance,
            case.train.epsilon,
            settings,
            valid=(case.valid.x.float(), case.valid.y),
            seed=int(rng.integers(2**31)),
            outputs="values",
        )
        return case.shape.weights(fair.network)


LAMBDAS = (1.0, 0.9, 0.5, 0.1)
TRAINED = tuple(Trained(lam, name=f"{PAIRS}, lambda = {lam:g}") for lam in LAMBDAS)
INDIVIDUALLY = tuple(Individually(lam, name=f"{PEOPLE}, lambda = {lam:g}") for lam in LAMBDAS[1:])
METHODS: tuple[Method, ...] = (
    Constant(),
    Draws(1, ONE),
    Draws(),
    Draws(601, "random search, equal budget"),
    Framework(),
    Framework(resampling=True, name="Algorithm 1, resampling"),
    Framework(released=True, name="Algorithm 1, released code's sigmoid"),
    PlainGradient(),
    Restarts(),
    Annealing(),
    *TRAINED,
    *INDIVIDUALLY,
)
DEEP_METHODS: tuple[Method, ...] = (
    Constant(),
    Draws(1, ONE),
    Draws(),
    Framework(),
    Framework(resampling=True, name="Algorithm 1, resampling"),
    *TRAINED,
    *INDIVIDUALLY,
)
