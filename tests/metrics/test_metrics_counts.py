"""Counting rows, against a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrofair import metrics
from retrofair.errors import InputError

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 1)), max_size=50)


def columns(table: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and groups."""
    group, y, prediction = np.array(table, dtype=np.int64).reshape(-1, 3).T
    return y, prediction, group


def loop(y: Any, prediction: Any, group: Any, n_groups: int) -> np.ndarray:
    counts = np.zeros((n_groups, 2, 2), np.int64)
    for label, decision, code in zip(y, prediction, group, strict=True):
        counts[int(code), int(label), int(decision)] += 1
    return counts


@given(rows, st.sampled_from([5, 6, 63, 64, 300]))
def test_count_against_a_loop(table: list[tuple[int, int, int]], n_groups: int) -> None:
    y, prediction, group = columns(table)
    group = np.where(group == 4, n_groups - 1, group)
    got = metrics.count(y, prediction, group, n_groups)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, loop(y, prediction, group, n_groups))
    np.testing.assert_array_equal(metrics.collapse(y, group, n_groups), got.sum(axis=2))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("n_groups", [2, 63, 64, 100])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 1_001])
def test_count_of_all_types(dtype: Any, n_groups: int, n: int) -> None:
    random = np.random.default_rng(n)
    y, prediction = random.integers(2, size=(2, n))
    group = random.integers(n_groups, size=n)
    expected = loop(y, prediction, group, n_groups)
    for codes in (group, group.astype(np.float32), group.astype(np.uint8)):
        got = metrics.count(y.astype(dtype), prediction.astype(dtype), codes, n_groups)
        np.testing.assert_array_equal(got, expected)
    reversed_ = metrics.count(y[::-1].astype(dtype), prediction[::-1], group[::-1], n_groups)
    np.testing.assert_array_equal(reversed_, expected)
    column = metrics.count(y[:, None], prediction[:, None].astype(bool), group[:, None], n_groups)
    np.testing.assert_array_equal(column, expected)


def test_count_leaves_its_input_alone() -> None:
    y, prediction, group = (np.array([0, 1, 1], np.uint8) for _ in range(3))
    metrics.count(y, prediction, group, 2)
    for values in (y, prediction, group):
        np.testing.assert_array_equal(values, [0, 1, 1])


@settings(max_examples=50)
@given(rows, st.randoms(use_true_random=False), st.integers(0, 50))
def test_order_and_batches_do_not_matter(
    table: list[tuple[int, int, int]], random: Any, cut: int
) -> None:
    whole = metrics.count(*columns(table), 5)
    shuffled = list(table)
    random.shuffle(shuffled)
    np.testing.assert_array_equal(metrics.count(*columns(shuffled), 5), whole)
    first, second = metrics.count(*columns(table[:cut]), 5), metrics.count(*columns(table[cut:]), 5)
    np.testing.assert_array_equal(first + second, whole)


@pytest.mark.parametrize(
    ("y", "prediction", "group", "message"),
    [
        ([0, 1], [0], [0, 1], "one length, got 2, 1 and 2"),
        ([0, 2], [0, 1], [0, 1], "whole labels from 0 to 1, got 0 to 2"),
        ([0, 1], [0, -1], [0, 1], "whole predictions from 0 to 1, got -1 to 0"),
        ([0, 1], [0.2, 0.7], [0, 1], "whole predictions from 0 to 1, got 0.2 to 0.7"),
        ([0, 1], [0, 1], [0, 2], "whole group codes from 0 to 1, got 0 to 2"),
        ([0, 1], [0, 1], [-1, 0], "whole group codes from 0 to 1, got -1 to 0"),
        ([0, float("nan")], [0, 1], [0, 1], "whole labels from 0 to 1, got nan"),
        (["no", "yes"], [0, 1], [0, 1], "numbers as labels"),
    ],
)
def test_bad_values_are_named(y: Any, prediction: Any, group: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        metrics.count(y, prediction, group, 2)
