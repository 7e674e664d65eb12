"""Small domains that can be counted through, and their worst pairs found by trying them all."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from retrofair.certifiers import Continuous, Domain, Integer, OneHot

INF = math.inf
Apart = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (n, d) and (n, d) to (n,)


def discrete(mean: bool = False) -> Domain:
    """96 people: two whole numbers, three categories and a sensitive flag; 6 columns."""
    features = [
        Integer("a", 0, 3),
        Integer("b", -1, 2),
        OneHot("c", ["x", "y", "z"]),
        Integer("sex", 0, 1, sensitive=True),
    ]
    return (
        Domain(features, [1.5, 0.3, 0, 0, 0, 0], [1.7, 0.6, 1, 1, 1, 1])
        if mean
        else Domain(features)
    )


def mixed() -> Domain:
    """Numbers, whole numbers, fixed and free categories; 9 columns."""
    return Domain(
        [
            Continuous("a", -1, 2),
            Integer("b", 0, 4),
            OneHot("c", 3),
            Continuous("d", 0, 50),
            OneHot("race", 2, sensitive=True),
            Continuous("e", 0.25, 0.25),
        ],
        [0, 1, 0, 0, 0, 20, 0, 0, 0],
        [1, 2, 1, 1, 1, 30, 1, 1, 1],
    )


def people(domain: Domain, points: int = 5) -> np.ndarray:
    """Everybody there is, in the user's units; a grid where numbers are continuous."""
    choices = []
    for feature in domain.features:
        if isinstance(feature, OneHot):
            choices.append([tuple(row) for row in np.eye(len(feature.columns))])
        elif isinstance(feature, Integer):
            choices.append([(v,) for v in np.arange(feature.low, feature.high + 1)])
        else:
            choices.append([(v,) for v in np.linspace(feature.low, feature.high, points)])
    return np.array([sum(parts, ()) for parts in itertools.product(*choices)])


def network(
    d: int,
    *widths: int,
    seed: int = 0,
    outputs: int = 1,
    activation: nn.Module | None = None,
    size: float = 2.0,
) -> nn.Sequential:
    """A random network, (n, d) -> (n,) or (n, outputs), whose units bend inside a small box."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inside, out in itertools.pairwise([d, *widths]):
            layers += [nn.Linear(inside, out), activation or nn.ReLU()]
        layers.append(nn.Linear(widths[-1] if widths else d, outputs))
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(size)
    return nn.Sequential(*layers, *([nn.Flatten(0)] if outputs == 1 else []))


def answers(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """The outputs in double precision, (n, K)."""
    exact = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        return exact(torch.from_numpy(x)).numpy().reshape(len(x), -1)


def lp(p: float, weights: Any, domain: Domain) -> Apart:
    """The formula of WeightedLp, feature by feature."""
    w = np.broadcast_to(np.asarray(weights, dtype=float), domain.d).copy()
    w[domain.sensitive] = 0.0

    def apart(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        d = np.abs(two - one)
        return (w * d).max(-1) if p == INF else (w * d**p).sum(-1) ** (1 / p)

    return apart


def quadratic(s: Any, domain: Domain) -> Apart:
    """The formula of Mahalanobis: sqrt(d' S d) over what is not sensitive."""
    matrix = np.asarray(s, dtype=float)

    def apart(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        d = np.where(domain.sensitive, 0.0, two - one)
        return np.sqrt(np.maximum(np.einsum("...i,ij,...j", d, matrix, d), 0))

    return apart


def embedded(module: nn.Module, p: float, domain: Domain) -> Apart:
    """The formula of Embedding: a plain l_p distance after the module."""

    def apart(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        seen = [
            answers(module, np.where(domain.sensitive, 0.0, x).reshape(-1, domain.d))
            for x in np.broadcast_arrays(one, two)
        ]
        d = np.abs(seen[1] - seen[0])
        far = d.max(-1) if p == INF else (d**p).sum(-1) ** (1 / p)
        return far.reshape(np.broadcast_shapes(one.shape, two.shape)[:-1])

    return apart


def similar(domain: Domain, apart: Apart, epsilon: float, points: int = 5) -> tuple[Any, Any]:
    """Everybody as the network takes them, and who is similar to whom, (n, n)."""
    x = domain.to_inputs(people(domain, points))
    return x, np.stack([apart(row[None], x) for row in x]) <= epsilon * (1 + 1e-12)


def worst(values: np.ndarray, near: np.ndarray) -> float:
    """The largest difference of a column of values (n, K) over the pairs that are near."""
    return max(float(np.where(near, np.abs(v[:, None] - v[None]), 0.0).max()) for v in values.T)
