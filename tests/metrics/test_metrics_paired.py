"""Changes between decisions on the same rows, and their intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import multinomial

from retrofair.errors import InputError
from retrofair.metrics import count, intervals, rates
from retrofair.metrics.paired import changes, count_pairs, newcombe

Z = intervals.quantile(0.95)


def rows(n: int = 400, groups: int = 3, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    group = random.integers(groups, size=n)
    y = random.integers(2, size=n)
    before = (random.random(n) < 0.3 + 0.3 * y).astype(int)
    after = np.where(random.random(n) < 0.2, 1 - before, before)
    return y, before, after, group


def test_pairs_are_counted_as_a_loop_counts_them() -> None:
    y, before, after, group = rows()
    found = count_pairs(y, before, after, group, 4)
    expected = np.zeros((4, 2, 2, 2), int)
    for each in zip(group, y, before, after, strict=True):
        expected[each] += 1
    assert (found == expected).all()
    assert (found.sum(axis=-1) == count(y, before, group, 4)).all()
    assert (found.sum(axis=-2) == count(y, after, group, 4)).all()


def test_decisions_that_are_no_pairs() -> None:
    with pytest.raises(InputError, match="on the same rows before and after, got 2 and 1"):
        count_pairs(np.ones(2), np.ones(2), np.ones(1), np.zeros(2), 1)
    with pytest.raises(InputError, match="expected whole predictions from 0 to 1, got 0 to 2"):
        count_pairs(np.ones(2), np.array([0, 2]), np.ones(2), np.zeros(2), 1)


@pytest.mark.parametrize("rate", rates.ALL, ids=lambda rate: rate.name)
def test_a_change_is_the_difference_of_the_rates(rate: rates.Rate) -> None:
    y, before, after, group = rows()
    pairs = count_pairs(y, before, after, group, 4)  # the last group has no rows
    found, (low, high) = changes(rate, pairs, Z)
    with np.errstate(invalid="ignore"):
        expected = rate(count(y, after, group, 4)) - rate(count(y, before, group, 4))
    assert found == pytest.approx(expected, nan_ok=True)
    assert np.isnan([found[3], low[3], high[3]]).all()
    assert (low[:3] <= found[:3]).all()
    assert (found[:3] <= high[:3]).all()


def test_a_group_without_positive_labels_has_no_true_positive_rate_to_change() -> None:
    pairs = np.zeros((1, 2, 2, 2), int)
    pairs[0, 0] = [[20, 5], [0, 10]]
    value, (low, high) = changes(rates.TPR, pairs, Z)
    assert np.isnan([value, low, high]).all()
    value, (low, high) = changes(rates.FPR, pairs, Z)
    assert value == pytest.approx(5 / 35)
    assert low > 0


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Altman and others (2000), Statistics with confidence, Table 6.2
        ((14, 5, 0, 22), -0.226, -0.011),
        # Cavo and others (2012), as in R's contingencytables: 0.0621 (0.0046 to 0.1186)
        ((59, 6, 16, 80), 0.0046, 0.1186),
    ],
)
def test_newcombes_interval_is_the_published_one(table, low, high) -> None:
    digits = 5e-4 if low < -0.1 else 5e-5
    assert np.array(newcombe(*table, Z)) == pytest.approx([low, high], abs=digits)


def test_newcombes_interval_covers_by_exact_enumeration() -> None:
    n = 30
    tables = [t for t in itertools.product(range(n + 1), repeat=3) if sum(t) <= n]
    both, lost, gained = np.array(tables).T
    neither = n - both - lost - gained
    low, high = newcombe(both, lost, gained, neither, Z)
    covered = []
    for share, moved, up in itertools.product((0.1, 0.3, 0.5), (0.05, 0.2), (0.0, 0.5, 1.0)):
        chances = [share - moved * (1 - up) / 2, moved * (1 - up) / 2, moved * (1 + up) / 2]
        if min(chances) < 0:
            continue
        weight = multinomial.pmf(
            np.stack([both, lost, gained, neither], 1), n, [*chances, 1 - sum(chances)]
        )
        truth = chances[2] - chances[1]
        covered.append(weight[(low <= truth) & (truth <= high)].sum())
    assert min(covered) > 0.93
    assert np.mean(covered) > 0.95
    # no wider than rates that were not paired would have it, where most pairs agree
    alone = intervals.linear([(1.0, 17, 30), (-1.0, 15, 30)], Z)
    paired = newcombe(14, 1, 3, 12, Z)
    assert paired[1] - paired[0] < 0.7 * (alone[2] - alone[1])


def test_the_interval_of_a_changed_precision_covers_and_is_kept_back_where_rows_are_few() -> None:
    random = np.random.default_rng(0)
    chances = np.array([[[0.3, 0.08], [0.04, 0.1]], [[0.1, 0.08], [0.05, 0.25]]])
    drawn = random.multinomial(400, chances.ravel(), size=3000).reshape(-1, 1, 2, 2, 2)
    truth, _ = changes(rates.PPV, chances[None] * 1e9, Z)
    _, (low, high) = changes(rates.PPV, drawn, Z)
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.015)
    few = np.zeros((1, 2, 2, 2), int)
    few[0, 1, 1, 1], few[0, 0, 1, 1] = 20, 4
    value, (low, high) = changes(rates.PPV, few, Z)
    assert value == 0
    assert np.isnan([low, high]).all()
