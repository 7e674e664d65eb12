"""The interval of a changed bias: against brute force, and how often it covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import NonlinearConstraint, minimize

from retrofair import metrics
from retrofair.metrics import bias_change, intervals
from retrofair.metrics.bias_change import PRIOR, WIDER, change_limits
from retrofair.metrics.rates import FPR, SELECTION, TPR

Z = intervals.quantile(0.95)


def pairs_of(groups: int, seed: int, rows: int = 300) -> Any:
    rng = np.random.default_rng(seed)
    return rng.multinomial(rows, rng.dirichlet(np.full(8, 2.0)), size=groups).reshape(
        groups, 2, 2, 2
    )


def covariance(pairs: Any, rate: Any) -> Any:
    """(G, 2, 2) of a group's rate before and after, from its rows, one by one."""
    found = []
    for cells in pairs:
        base = np.array(rate.base)[:, 0] > 0
        table = cells + PRIOR * (cells.sum((1, 2), keepdims=True) > 0)
        rows = np.array(
            [[rate.hits[y][b], rate.hits[y][a]] for y in (0, 1) for b in (0, 1) for a in (0, 1)]
        )
        weights = (table * base[:, None, None]).ravel()
        mean = weights @ rows / weights.sum()
        away = rows - mean
        found.append((away * weights[:, None]).T @ away / weights.sum() ** 2)
    return np.array(found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("name", "rate"), [("spd", SELECTION), ("eod", TPR)])
def test_limits_are_the_furthest_on_the_ellipse(name: str, rate: Any, seed: int) -> None:
    pairs = pairs_of(2, seed, rows=150)
    spread = covariance(pairs, rate).sum(0)  # of the differences before and after
    was, now = (float(metrics.get(name)(pairs.sum(axis))) for axis in (-1, -2))
    kinked = abs(was) < Z * spread[0, 0] ** 0.5 or abs(now) < Z * spread[1, 1] ** 0.5
    reach = Z * (1 + WIDER * kinked)
    turn = np.linspace(0, 2 * np.pi, 200_001)
    root = np.linalg.cholesky(spread)
    ring = np.array([was, now])[:, None] + reach * root @ np.array([np.cos(turn), np.sin(turn)])
    on_ring = abs(ring[1]) - abs(ring[0])
    # the extremes are on the rim, or where a bias is 0 inside it
    inside = np.linspace(ring.min(1), ring.max(1), 801).T
    grid = np.stack(np.meshgrid(*inside), -1).reshape(-1, 2)
    away = np.linalg.solve(root, (grid - [was, now]).T)
    kept = grid[(away**2).sum(0) <= reach**2]
    change = np.concatenate([on_ring, abs(kept[:, 1]) - abs(kept[:, 0])])
    assert change_limits(metrics.get(name), pairs, Z) == pytest.approx(
        (change.min(), change.max()), abs=1e-3
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("groups", [2, 3])
def test_of_several_rates_and_groups_no_point_within_reach_is_further(
    groups: int, seed: int
) -> None:
    measure = metrics.get("equalized_odds_difference")
    pairs = pairs_of(groups, seed, rows=400)
    roots = {
        (rate, g): np.linalg.cholesky(covariance(pairs, rate)[g])
        for rate in (TPR, FPR)
        for g in range(groups)
    }
    seen = {rate: np.stack([rate(pairs.sum(axis)) for axis in (-1, -2)]) for rate in (TPR, FPR)}

    def change(z: Any) -> float:
        """Of rates z standard errors away."""
        z = z.reshape(2, groups, 2)
        bias = []
        for k, rate in enumerate((TPR, FPR)):
            moved = seen[rate].T + np.stack([roots[rate, g] @ z[k, g] for g in range(groups)])
            bias.append(np.ptp(moved, axis=0))
        before, after = np.max(bias, axis=0)
        return float(after - before)

    limits = np.array(change_limits(measure, pairs, Z))
    rng = np.random.default_rng(0)
    lows, highs = [], []
    # TPR and FPR are of other rows, and so independent: a ball in their standard errors
    for tied in range(groups):
        reach = Z * (1 + WIDER * tied)
        ball = NonlinearConstraint(lambda z: z @ z, 0, reach**2)
        for sign, found in ((1, lows), (-1, highs)):
            best = np.inf
            for _ in range(15):
                start = rng.normal(size=4 * groups)
                start *= reach / np.linalg.norm(start)
                of = minimize(
                    lambda z, s=sign: s * change(z), start, constraints=[ball], method="SLSQP"
                )
                if of.x @ of.x <= reach**2 * (1 + 1e-6):
                    best = min(best, of.fun)
            found.append(sign * best)
    # the reach is one of these
    closest = min(
        zip(lows, highs, strict=True), key=lambda each: float(np.abs(each - limits).max())
    )
    assert closest == pytest.approx(tuple(limits), abs=2e-3)


def chances(before: float, after: float, share: float) -> Any:
    """(2, 2) decisions before and after of one group and label, mostly alike."""
    both = 0.9 * min(before, after) + 0.1 * before * after
    return share * np.array([[1 - before - after + both, after - both], [before - both, both]])


def coverage(name: str, rows: int, before: float, after: float, draws: int) -> tuple[float, float]:
    """How often the interval covers, and its mean width."""
    cells = np.stack(
        [
            np.stack([chances(p - before * (g == 0), p - after * (g == 0), s) for p, s in of])
            for g, of in enumerate(([(0.25, 0.21), (0.6, 0.14)], [(0.25, 0.39), (0.6, 0.26)]))
        ]
    )
    measure = metrics.get(name)
    true = float(measure.bias(cells.sum(-2)) - measure.bias(cells.sum(-1)))
    rng = np.random.default_rng(0)
    limits = np.array(
        [
            change_limits(measure, rng.multinomial(rows, cells.ravel()).reshape(2, 2, 2, 2), Z)
            for _ in range(draws)
        ]
    )
    inside = (limits[:, 0] <= true + 1e-12) & (true - 1e-12 <= limits[:, 1])
    return float(inside.mean()), float((limits[:, 1] - limits[:, 0]).mean())


# With a bootstrap's quantiles the first three are 0.84, 0.86 and 0.82. 600 draws tell a coverage to
# one point: the bounds are three standard errors below 0.945 and above 0.95.
@pytest.mark.parametrize(
    ("name", "rows", "before", "after"),
    [
        ("spd", 500, 0.2, 0.0),
        ("spd", 10_000, 0.02, 0.0),
        ("eod", 2_000, 0.1, 0.0),
        ("eod", 500, 0.2, 0.02),
        ("disparate_impact", 2_000, 0.0, 0.1),
        ("equalized_odds_difference", 500, 0.2, 0.0),
    ],
)
def test_the_interval_covers_where_a_bias_is_near_its_kink(
    name: str, rows: int, before: float, after: float
) -> None:
    assert coverage(name, rows, before, after, 600)[0] > 0.917


def test_away_from_kinks_it_covers_as_it_says_and_is_no_wider() -> None:
    covered, width = coverage("spd", 10_000, 0.2, 0.1, 600)
    assert 0.923 < covered < 0.977
    # as wide as an interval of the signed change, which has no kink: 0.024 by the delta method
    assert width == pytest.approx(0.024, abs=0.001)
    assert coverage("spd", 500, 0.0, 0.0, 300)[0] > 0.96  # wide where both are 0


def test_what_has_no_value_has_no_limits() -> None:
    pairs = np.zeros((2, 2, 2, 2), int)
    pairs[0, 0], pairs[1] = [[20, 5], [0, 10]], 10
    assert np.isnan(change_limits(metrics.get("eod"), pairs, Z)).all()
    low, high = change_limits(metrics.get("spd"), pairs, Z)
    assert -1 <= low < high <= 1
    both = metrics.Several((metrics.get("spd"), metrics.get("eod")), (0.1, 0.1))
    assert np.isnan(change_limits(both, pairs, Z)).all()
    assert not bias_change.has_interval(metrics.get(lambda y, p, g: 0.0))


def test_of_several_constraints_it_is_that_of_the_scaled_bias() -> None:
    pairs = pairs_of(2, 0)
    one = metrics.get("spd")
    # the second counts for a hundredth: the first all but alone decides
    both = metrics.Several((one, metrics.get("false_positive_rate_difference")), (0.01, 1.0))
    assert change_limits(both, pairs, Z) == pytest.approx(change_limits(one, pairs, Z), abs=1e-3)


def test_nothing_moved_is_no_change() -> None:
    pairs = np.zeros((2, 2, 2, 2), int)
    for g, (no, yes) in enumerate(((60, 40), (20, 80))):
        pairs[g, :, 0, 0], pairs[g, :, 1, 1] = no, yes
    low, high = change_limits(metrics.get("spd"), pairs, Z)
    assert -0.02 < low < 0 < high < 0.02
