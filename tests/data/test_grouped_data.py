"""GroupedData from tensors, arrays and lists: what is accepted, refused, selected and iterated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrofair.data import Batches, GroupedData, grouped
from retrofair.errors import InputError

NAN, INF = float("nan"), float("inf")


def made(**fields: Any) -> GroupedData:
    """Three rows of two features, two groups; any field replaced."""
    usual: dict[str, Any] = {
        "x": torch.arange(6.0).reshape(3, 2),
        "y": torch.tensor([0, 1, 1]),
        "group": torch.tensor([0, 1, 1]),
        "group_names": ("a", "b"),
    }
    return GroupedData(**{**usual, **fields})


def many(n: int) -> GroupedData:
    """Rows whose x, y and group tell their own position."""
    row = torch.arange(n)
    return GroupedData(
        x=row[:, None].float(), y=row % 2, group=row % 3, group_names=("a", "b", "c")
    )


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        [[1, 2], [3, 4], [5, 6]],
        np.array([[1, 2], [3, 4], [5, 6]], dtype=np.uint16),
    ],
    ids=["tensor", "array of doubles", "list", "whole numbers", "unsigned"],
)
def test_x_of_any_kind_becomes_float32(x: Any) -> None:
    data = made(x=x)
    assert data.x.dtype == torch.float32
    assert data.x.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_tensor_of_doubles_is_kept_for_a_network_of_doubles() -> None:
    assert made(x=torch.zeros(3, 2, dtype=torch.float64)).x.dtype == torch.float64


@pytest.mark.parametrize(
    "group",
    [
        [0, 1, 1],
        np.array([0.0, 1.0, 1.0]),
        np.array([0, 1, 1], dtype=np.uint8),
        np.array([0, 1, 1], dtype=np.uint16),
        torch.tensor([False, True, True]),
        torch.tensor([[0], [1], [1]]),
    ],
    ids=["list", "floats", "uint8", "uint16", "bool", "column"],
)
def test_group_codes_of_any_kind_become_int64(group: Any) -> None:
    data = made(group=group)
    assert data.group.dtype == torch.int64
    assert data.group.tolist() == [0, 1, 1]


def test_labels_keep_their_numbers() -> None:
    assert made(y=[0.5, -2.0, 7.0]).y.tolist() == [0.5, -2.0, 7.0]
    assert made(y=torch.tensor([[0], [1], [0]])).y.tolist() == [0, 1, 0]


def test_group_names_become_texts() -> None:
    assert made(group_names=(1, 2)).group_names == ("1", "2")


def test_more_dimensions_are_rows_of_anything() -> None:
    assert made(x=torch.zeros(3, 1, 4, 4)).x.shape == (3, 1, 4, 4)


@pytest.mark.parametrize("short", ["x", "y", "group"])
def test_lengths_must_agree(short: str) -> None:
    fields = {"x": torch.zeros(3, 2), "y": torch.zeros(3), "group": torch.zeros(3, dtype=int)}
    with pytest.raises(InputError, match=r"one length, got .*2"):
        made(**{short: fields[short][:2]})


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_values_that_are_not_finite_are_counted_and_their_columns_named(bad: float) -> None:
    x = torch.zeros(3, 2)
    x[0, 1] = x[2, 1] = bad
    with pytest.raises(InputError, match=r"got 2 NaN or infinite values in wage;"):
        made(x=x, feature_names=("age", "wage"))
    with pytest.raises(InputError, match=r"finite numbers in x, got 2"):
        made(x=x)
    with pytest.raises(InputError, match=r"finite numbers in y, got 1"):
        made(y=torch.tensor([0, 1, bad]))


def test_a_sum_that_overflows_is_no_infinite_value() -> None:
    assert made(x=torch.full((3, 2), 3e38)).x.max() == pytest.approx(3e38)


@pytest.mark.parametrize("code", [-1, 2, 0.5, NAN, INF, -INF])
def test_bad_group_codes(code: float) -> None:
    with pytest.raises(InputError, match="group codes"):
        made(group=torch.tensor([0, 1, code]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"group_names": ("a", "a")}, "different group names"),
        ({"group_names": ()}, "group codes"),
        ({"x": "text"}, "expected x to be a tensor"),
        ({"group": ["a", "b", "b"]}, "expected group to be a tensor"),
        ({"x": torch.tensor(1.0)}, "a single number"),
    ],
)
def test_what_cannot_be_grouped_data(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(**fields)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, 4), [0, 4, 8]),
        (slice(20, 30), []),
        (torch.tensor([7, 0, 7]), [7, 0, 7]),
        (np.array([1, 9]), [1, 9]),
        ([3, -1], [3, 9]),
        ([], []),
        (torch.arange(10) > 6, [7, 8, 9]),
        (np.arange(10) < 2, [0, 1]),
        ([True] + [False] * 9, [0]),
        (4, [4]),
        (-1, [9]),
        (np.int64(4), [4]),
    ],
    ids=str,
)
def test_selecting_rows(index: Any, rows: list[int]) -> None:
    data = many(10)
    chosen = data[index]
    assert chosen.x[:, 0].tolist() == rows
    assert chosen.y.tolist() == [row % 2 for row in rows]
    assert chosen.group.tolist() == [row % 3 for row in rows]
    assert chosen.group_names == data.group_names
    assert len(chosen) == len(rows)
    assert len(data) == 10


@pytest.mark.parametrize("index", [10, -11, [10], torch.tensor([10]), torch.tensor([True])])
def test_a_row_that_is_not_there(index: Any) -> None:
    with pytest.raises(InputError, match="rows from 0 to 9, as a slice, index or mask"):
        many(10)[index]


@pytest.mark.parametrize("index", [torch.tensor(1), (0, 1), "0", 0.5, None])
def test_what_selects_no_rows(index: Any) -> None:
    with pytest.raises(InputError, match="slice"):
        many(10)[index]


def test_selecting_keeps_names_and_notes() -> None:
    data = made(feature_names=("u", "v"), notes=("a note",))[1:]
    assert data.feature_names == ("u", "v")
    assert data.notes == ("a note",)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 11, 12])
def test_batches_are_the_rows_in_order(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "BATCH_ROWS", 4)
    data = many(n)
    batches = list(data)
    assert [len(y) for _, y, _ in batches] == [4] * (n // 4) + [n % 4] * (n % 4 > 0)
    if n:
        x, y, group = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert torch.equal(x, data.x)
        assert torch.equal(y, data.y)
        assert torch.equal(group, data.group)


@given(st.integers(0, 2**31 - 1), st.integers(1, 40))
def test_a_sample_has_whole_rows_and_comes_from_the_generator_alone(seed: int, rows: int) -> None:
    data = many(9)
    before = torch.random.get_rng_state()
    x, y, group = data.sample(rows, torch.Generator().manual_seed(seed))
    again, _, _ = data.sample(rows, torch.Generator().manual_seed(seed))
    row = x[:, 0].long()
    assert len(row) == rows
    assert torch.equal(y, row % 2)
    assert torch.equal(group, row % 3)
    assert torch.equal(x, again)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_sample_reaches_every_row() -> None:
    x, _, _ = many(9).sample(1000, torch.Generator().manual_seed(0))
    assert set(x[:, 0].tolist()) == set(range(9))


def test_grouped_data_is_batches() -> None:
    assert isinstance(many(3), Batches)
    assert not isinstance([1, 2], Batches)


def test_the_text_of_grouped_data_counts_the_groups() -> None:
    assert repr(many(4)) == "GroupedData(x=(4, 1), groups=(a: 2, b: 1, c: 1))"
