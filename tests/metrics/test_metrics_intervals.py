"""Confidence intervals: exact and simulated coverage, containment, and the AUC against twins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from retrofair import metrics
from retrofair.metrics import performance
from retrofair.metrics.intervals import linear, quantile, ratio, wilson
from retrofair.metrics.ratios import RateRatio

Z = quantile(0.95)
RATES = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99])

cells = st.one_of(st.just(0), st.integers(0, 30))
tables = st.integers(1, 4).flatmap(
    lambda g: st.lists(cells, min_size=4 * g, max_size=4 * g).map(
        lambda values: np.array(values).reshape(-1, 2, 2)
    )
)


def covered(low: np.ndarray, truth: Any, high: np.ndarray) -> np.ndarray:
    return np.asarray((low <= truth + 1e-12) & (truth - 1e-12 <= high))


# ----------------------------------------------------------------- exact coverage, small n


def wilson_coverage(n: int, rate: float) -> float:
    hits = np.arange(n + 1)
    low, high = wilson(hits, np.full(n + 1, n), Z)
    return float(stats.binom.pmf(hits, n, rate) @ covered(low, rate, high))


@pytest.mark.parametrize("n", [10, 20, 50, 100, 400, 1000])
def test_one_rate_is_covered(n: int) -> None:
    rates = np.linspace(0.002, 0.998, 250)
    every = np.array([wilson_coverage(n, rate) for rate in rates])
    enough = n * np.minimum(rates, 1 - rates) >= 2
    assert every.mean() == pytest.approx(0.95, abs=0.01)
    assert every[enough].min() > 0.91
    assert every.min() > 0.85  # Wilson's known dips, where a single count decides


def pair_coverage(kind: str, n: int, m: int, top: float, bottom: float) -> float:
    a, b = np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij")
    weight = np.outer(
        stats.binom.pmf(range(n + 1), n, top), stats.binom.pmf(range(m + 1), m, bottom)
    )
    one, other = (a, np.full_like(a, n)), (b, np.full_like(b, m))
    if kind == "difference":
        _, low, high = linear([(1.0, *one), (-1.0, *other)], Z)
        return float((weight * covered(low, top - bottom, high)).sum())
    low, high = ratio(one, other, Z)
    return float((weight * covered(low, top / bottom, high)).sum())


@pytest.mark.parametrize("kind", ["difference", "ratio"])
@pytest.mark.parametrize(("n", "m"), [(10, 15), (30, 20), (100, 120), (300, 100)])
def test_differences_and_ratios_are_covered(kind: str, n: int, m: int) -> None:
    grid = np.array([[pair_coverage(kind, n, m, p, q) for q in RATES] for p in RATES])
    rare = np.minimum(RATES, 1 - RATES)
    enough = (n * rare[:, None] >= 2) & (m * rare >= 2)
    assert 0.945 < grid.mean() < 0.97
    assert grid[enough].min() > 0.93
    assert grid.min() > 0.85
    if kind == "difference":
        assert grid[enough].max() < 0.98  # and no wider than needed


# ------------------------------------------------------------- simulated coverage, measures


def simulate(
    measure: Any, rows: int, cells: np.ndarray, seed: int, sims: int = 400
) -> tuple[float, float]:
    """Share of intervals of independent draws that hold the true value, and the share with any."""
    random = np.random.default_rng(seed)
    draws = np.stack(
        [random.multinomial(rows, p.ravel(), size=sims).reshape(-1, 2, 2) for p in cells], axis=1
    )
    limits = np.array([measure.interval(draw) for draw in draws])
    truth = float(measure(cells))
    known = ~np.isnan(limits).any(axis=1)
    return float(covered(limits[:, 0], truth, limits[:, 1])[known].mean()), float(known.mean())


def population(selection: float, groups: int) -> np.ndarray:
    """Cell probabilities (G, 2, 2) in which the groups differ a little."""
    base = np.linspace(0.4, 0.6, groups)
    shift = np.linspace(-0.04, 0.04, groups) * min(selection, 1 - selection) * 4
    tpr = np.clip(selection + shift + 0.25 * min(selection, 1 - selection), 0.001, 0.999)
    fpr = np.clip(selection + shift - 0.25 * min(selection, 1 - selection), 0.001, 0.999)
    cells = np.empty((groups, 2, 2))
    for label, share, rate in ((0, 1 - base, fpr), (1, base, tpr)):
        cells[:, label, 1] = share * rate
        cells[:, label, 0] = share * (1 - rate)
    return cells


# the bounds are 0.94 and 0.99; 400 draws tell a coverage to one point, 200 to one and a half
LEAST, MOST = 0.92, 0.995


@pytest.mark.parametrize("name", ["spd", "eod", "aod"])
@pytest.mark.parametrize(("rows", "selection"), [(100, 0.1), (60, 0.5), (2000, 0.03), (2000, 0.5)])
def test_signed_gaps_of_two_groups_are_covered_and_no_wider_than_needed(
    name: str, rows: int, selection: float
) -> None:
    measure = metrics.get(name)
    for chance in (selection, 1 - selection) if selection < 0.5 else (selection,):
        share, known = simulate(measure, rows, population(chance, 2), seed=rows)
        assert known > 0.99
        assert LEAST < share < MOST


@pytest.mark.parametrize("measure", metrics.ALL, ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("rows", "selection", "groups"), [(80, 0.08, 2), (80, 0.5, 4), (2000, 0.95, 4), (2000, 0.3, 2)]
)
def test_every_measure_is_covered(measure: Any, rows: int, selection: float, groups: int) -> None:
    share, known = simulate(measure, rows, population(selection, groups), seed=1, sims=200)
    assert known > 0.9
    assert share > LEAST


@pytest.mark.parametrize("good", performance.ALL, ids=lambda m: m.name)
@pytest.mark.parametrize(("rows", "selection"), [(60, 0.15), (60, 0.5), (2000, 0.97)])
def test_every_performance_is_covered(good: Any, rows: int, selection: float) -> None:
    share, known = simulate(good, rows, population(selection, 2), seed=2)
    assert known > 0.99
    assert share > LEAST


# ------------------------------------------------------------------------------- properties


@settings(max_examples=150, deadline=None)
@given(tables)
def test_an_interval_holds_its_value(counts: np.ndarray) -> None:
    for measure in (*metrics.ALL, *performance.ALL):
        value = float(measure(counts))
        low, high = measure.interval(counts)
        wide_low, wide_high = measure.interval(counts, level=0.99)
        if math.isnan(value):
            # a ratio to a rate of 0 has no value, but still a lower limit
            assert math.isnan(low) or isinstance(measure, RateRatio)
            continue
        assert low - 1e-12 <= value <= high + 1e-12, measure.name
        if measure.name not in ("spd", "eod", "aod") or len(counts) > 2:
            assert low >= 0, measure.name
        if isinstance(measure, performance.Performance) or getattr(measure, "worst", False):
            assert high <= 1, measure.name
        assert wide_low <= low + 1e-12, measure.name
        assert wide_high >= high - 1e-12, measure.name


@settings(max_examples=60, deadline=None)
@given(tables)
def test_intervals_of_swapped_groups_mirror_each_other(counts: np.ndarray) -> None:
    if len(counts) < 2:
        return
    for measure in metrics.ALL:
        low, high = measure.interval(counts[:2])
        other = measure.interval(counts[:2][::-1])
        if measure.name in ("spd", "eod", "aod"):
            np.testing.assert_allclose(other, (-high, -low), atol=1e-12)
        elif measure.name != "disparate_impact":
            np.testing.assert_allclose(other, (low, high), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_ratio_and_its_inverse_share_their_limits(n: int, m: int, data: Any) -> None:
    a, b = data.draw(st.integers(1, n)), data.draw(st.integers(1, m))
    one, other = (np.array(a), np.array(n)), (np.array(b), np.array(m))
    low, high = (float(v) for v in ratio(one, other, Z))
    inverse_low, inverse_high = (float(v) for v in ratio(other, one, Z))
    assert 0 <= low <= a * m / (n * b) <= high
    if 2 * b / m > wilson(*other, Z)[1] and 2 * a / n > wilson(*one, Z)[1]:
        assert inverse_high == pytest.approx(1 / low, rel=1e-9)
        assert inverse_low == pytest.approx(1 / high, rel=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_published_intervals(one: Any, other: Any, low: float, high: float) -> None:
    """Newcombe (1998), table II, method 10."""
    terms = [(1.0, *map(np.array, one)), (-1.0, *map(np.array, other))]
    _, lower, upper = linear(terms, Z)
    assert (round(float(lower), 4), round(float(upper), 4)) == (low, high)


@given(st.integers(1, 200), st.data())
def test_wilson_solves_its_equation(n: int, data: Any) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = (float(v) for v in wilson(np.array(hits), np.array(n), Z))
    assert 0 <= low <= hits / n <= high <= 1
    for limit in (low, high):
        # the hypothesis p = limit is rejected with exactly z
        gap = (hits / n - limit) ** 2
        assert gap == pytest.approx(Z * Z * limit * (1 - limit) / n, abs=1e-12)


def test_wilson_without_rows_is_nan() -> None:
    assert np.isnan(wilson(np.array(0), np.array(0), Z)).all()


def test_more_comparisons_widen() -> None:
    assert quantile(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert quantile(0.95, 0) == quantile(0.95, 1) < quantile(0.95, 3)
    assert quantile(0.95, 5) == pytest.approx(quantile(0.99))


# -------------------------------------------------------------------------------------- AUC


def scores(seed: int, n: int, ties: int | None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = (random.random(n) < 0.4).astype(int)
    y[:4] = [0, 1, 0, 1]
    score = y + random.normal(size=n)
    return (np.round(score * ties) / ties if ties else score), y


@pytest.mark.parametrize("ties", [None, 1, 3])
@pytest.mark.parametrize("n", [5, 30, 300])
@pytest.mark.parametrize("seed", range(3))
def test_auc_against_sklearn_and_plain_delong(seed: int, n: int, ties: int | None) -> None:
    from sklearn.metrics import roc_auc_score

    score, y = scores(seed, n, ties)
    value, low, high = metrics.auc(score, y)
    assert value == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert 0 <= low <= value <= high <= 1
    positive, negative = score[y == 1], score[y == 0]
    wins = np.array(
        [[1.0 if p > q else 0.5 if p == q else 0.0 for q in negative] for p in positive]
    )
    assert value == pytest.approx(wins.mean(), abs=1e-12)
    if 0 < value < 1:
        of_positive = sum((row.mean() - value) ** 2 for row in wins) / (len(positive) - 1)
        of_negative = sum((col.mean() - value) ** 2 for col in wins.T) / (len(negative) - 1)
        error = math.sqrt(of_positive / len(positive) + of_negative / len(negative))
        logit, half = math.log(value / (1 - value)), Z * error / (value * (1 - value))
        assert low == pytest.approx(1 / (1 + math.exp(-(logit - half))), abs=1e-12)
        assert high == pytest.approx(1 / (1 + math.exp(-(logit + half))), abs=1e-12)


def test_auc_is_covered() -> None:
    random = np.random.default_rng(0)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    for n in (40, 400):
        y = np.arange(n) % 3 == 0
        limits = np.array(
            [metrics.auc(y + random.normal(size=n), y.astype(int))[1:] for _ in range(600)]
        )
        assert 0.925 < covered(limits[:, 0], truth, limits[:, 1]).mean() < 0.985


def test_auc_at_its_ends() -> None:
    y = np.array([0, 0, 0, 1, 1, 1, 1])
    perfect = np.arange(7.0)
    value, low, high = metrics.auc(perfect, y)
    assert (value, high) == (1.0, 1.0)
    assert low == 0.0  # three of a class say next to nothing
    value, low, high = metrics.auc(np.repeat(perfect, 100), np.repeat(y, 100))
    assert (value, low, high) == (1.0, 0.99, 1.0)
    value, low, high = metrics.auc(-np.repeat(perfect, 100), np.repeat(y, 100))
    assert (value, low) == (0.0, 0.0)
    assert high == pytest.approx(0.01)
    assert metrics.auc(np.zeros(7), y) == (0.5, 0.5, 0.5)
    assert np.isnan(metrics.auc(perfect, np.ones(7))).all()
    assert np.isnan(metrics.auc(perfect[:0], y[:0])).all()
    value, low, high = metrics.auc(np.array([1.0, 2.0, 0.0]), np.array([1, 0, 0]))
    assert (value, low, high) == (0.5, 0.0, 1.0)
