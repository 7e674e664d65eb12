"""Resampling: against the formula written out row by row, and what cannot be weighted."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.preprocessing import resample, resampling_weights

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=20).filter(
    lambda values: statistics.pstdev(values) > 1e-3
)


def plain(attribute: list[float], output: list[float], first: float, second: float) -> list[float]:
    """Algorithm 2, a row at a time."""
    s = [(a - statistics.fmean(attribute)) / statistics.pstdev(attribute) for a in attribute]
    o = [(b - statistics.fmean(output)) / statistics.pstdev(output) for b in output]
    pseudo = [abs(value) + first for value in s]
    middle = sum(b * v for b, v in zip(o, pseudo, strict=True)) / sum(pseudo)
    return [v / (abs(b - middle) + second) for b, v in zip(o, pseudo, strict=True)]


@given(NUMBERS, NUMBERS, st.floats(0, 5), st.floats(0.1, 5))
def test_weights_are_those_of_the_formula(
    attribute: list[float], output: list[float], first: float, second: float
) -> None:
    n = min(len(attribute), len(output))
    attribute, output = attribute[:n], output[:n]
    if min(statistics.pstdev(attribute), statistics.pstdev(output)) <= 1e-3:
        return
    found = resampling_weights(
        attribute,
        torch.tensor(output, dtype=torch.double),
        attribute_offset=first,
        output_offset=second,
    )
    assert found == pytest.approx(plain(attribute, output, first, second), rel=1e-9, abs=1e-12)


def test_the_papers_ones_are_the_defaults() -> None:
    rng = np.random.default_rng(0)
    attribute, output = rng.normal(size=(2, 30)).tolist()
    found = resampling_weights(attribute, output)
    assert found == pytest.approx(plain(attribute, output, 1, 1))
    assert found != pytest.approx(plain(attribute, output, 0, 1))
    assert found != pytest.approx(plain(attribute, output, 1, 2))


def test_outliers_of_the_attribute_and_inliers_of_the_output_weigh_most() -> None:
    attribute = [-3.0, 0, 0, 0, 0, 3.0]
    output = [0.0, 0, 5, -5, 0, 0]
    found = resampling_weights(attribute, output)
    assert found[0] == found[5] == found.max()
    assert found[2] == pytest.approx(found.min())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attribute": [1.0, 1, 1]}, "expected an attribute that varies, got 1 in every row"),
        ({"output": [0.1, 0.1, 0.1]}, "expected an output that varies, got 0.1 in every row"),
        ({"output": [1.0, 2]}, "one length, got 3 and 2 rows"),
        ({"attribute": [1.0, math.nan, 2]}, "NaN or infinite"),
        ({"attribute": ["a", "b", "c"]}, "expected numbers as attribute"),
        ({"attribute": np.zeros((3, 2))}, "got shape \\(3, 2\\)"),
        ({"attribute": [], "output": []}, "with rows, got none"),
        ({"attribute_offset": -1.0}, "attribute_offset >= 0 and output_offset > 0"),
        ({"output_offset": 0.0}, "got 1.0 and 0.0"),
        ({"output_offset": math.nan}, "got 1.0 and nan"),
        ({"output_offset": "a"}, "both finite, got 1.0 and 'a'"),
        ({"attribute_offset": None}, "both finite, got None and 1.0"),
        ({"attribute_offset": 1e308, "output_offset": 1e-9}, "weights are finite, got 1e\\+308"),
        ({"attribute": ["1", "2", "3"]}, "expected numbers as attribute, got list"),
        ({"attribute": np.array(["1", 2, 3], dtype=object)}, "numbers as attribute, got ndarray"),
        ({"attribute": [1, None, 3]}, "expected numbers as attribute"),
        ({"attribute": [1, [2], 3]}, "expected numbers as attribute"),
        ({"attribute": [1, 10**400, 3]}, "expected numbers as attribute"),
    ],
)
def test_what_cannot_be_weighted(change: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"attribute": [1.0, 2, 3], "output": [1.0, 2, 4]}
    with pytest.raises(InputError, match=message):
        resampling_weights(**{**usual, **change})


def test_large_and_small_numbers_weigh_as_those_of_usual_size() -> None:
    usual = resampling_weights([1, -1, 3e-5], [1.0, 2, 4])
    large = resampling_weights([1e200, -1e200, 3e195], [1e308, -1e308, 4e307])
    assert np.isfinite(large).all()
    for scale in (2.0**800, 2.0**-800):
        found = resampling_weights(np.array([1, -1, 3e-5]) * scale, [1.0, 2, 4])
        assert found.tolist() == usual.tolist()


def test_whole_numbers_booleans_and_objects_are_numbers() -> None:
    usual = resampling_weights([0.0, 1, 1], [1.0, 2, 4])
    for attribute in (
        [False, True, True],
        np.array([0, 1, 1], dtype=object),
        torch.tensor([0, 1, 1]),
    ):
        assert resampling_weights(attribute, [1, 2, 4]).tolist() == usual.tolist()


def people(n: int) -> GroupedData:
    code = torch.arange(n)
    return GroupedData(x=code[:, None].float(), y=code % 2, group=code % 2, group_names=("a", "b"))


def test_rows_are_drawn_by_their_weights_and_stay_whole() -> None:
    data = people(4)
    drawn = resample(data, [0, 1, 2, 5], seed=3, rows=80_000)
    rows = drawn.x[:, 0].long()
    shares = torch.bincount(rows, minlength=4) / len(rows)
    # three standard errors of a share near one half
    assert shares.tolist() == pytest.approx([0, 1 / 8, 2 / 8, 5 / 8], abs=3 * 0.5 / 80_000**0.5)
    assert torch.equal(drawn.y, rows % 2)
    assert torch.equal(drawn.group, rows % 2)


def test_drawing_is_repeatable_and_leaves_the_global_state() -> None:
    data, state = people(50), torch.get_rng_state()
    one, other = (resample(data, torch.ones(50), seed=1).x for _ in range(2))
    assert torch.equal(one, other)
    assert len(one) == 50
    assert not torch.equal(one, resample(data, torch.ones(50), seed=2).x)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ([1.0, 1], {}, "expected 3 weights, one per row, got 2"),
        ([0.0, 0, 0], {}, "not all 0"),
        ([1.0, -1, 1], {}, "at least 0"),
        ([1.0, 1, 1], {"rows": -1}, "rows, at least 0 .*, got -1"),
        ([1.0, 1, 1], {"rows": 2.5}, "a whole number of rows, .*, got 2.5"),
        ([1.0, 1, 1], {"rows": "2"}, "a whole number of rows, .*, got '2'"),
        (["1", "1", "1"], {}, "expected numbers as weights"),
        ([1.0, 1, 1], {"seed": -1}, "expected a seed"),
    ],
)
def test_what_cannot_be_drawn(weights: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resample(people(3), weights, **options)


def test_no_rows_cannot_be_drawn_from() -> None:
    with pytest.raises(InputError, match="data with rows to draw from, got none"):
        resample(people(3)[:0], [])


def test_weights_of_any_size_are_shares() -> None:
    usual = resample(people(3), [1, 1, 1], seed=4).x
    for size in (1e308, 5e-324):
        assert torch.equal(resample(people(3), [size] * 3, seed=4).x, usual)
