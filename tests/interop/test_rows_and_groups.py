"""Which rows are held out, what seeds stand for, and how values become groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import retrofair as rf
from retrofair.errors import InputError
from retrofair.interop.rows import held_out, seed_of
from retrofair.interop.sensitive import Groups


def data_of(y: list[int], group: list[int]) -> rf.GroupedData:
    x = torch.arange(len(y), dtype=torch.float32)[:, None]
    return rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_every_cell_gives_its_share_and_no_row_is_in_both(share: float) -> None:
    random = np.random.default_rng(0)
    y, group = random.integers(2, size=(2, 997))
    y[group == 0] &= random.integers(2, size=(group == 0).sum())  # cells of other sizes
    data = data_of(y.tolist(), group.tolist())
    first, second = held_out(data, share, seed=3)
    rows = torch.cat([first.x, second.x]).flatten().sort().values
    assert rows.tolist() == list(range(997))
    for k in (0, 1):
        for label in (0, 1):
            size = int(((y == label) & (group == k)).sum())
            held = int(((second.y == label) & (second.group == k)).sum())
            assert abs(held - share * size) <= 1
    again, other = held_out(data, share, seed=3)[1], held_out(data, share, seed=4)[1]
    assert torch.equal(again.x, second.x)
    assert not torch.equal(other.x, second.x)


def test_a_handful_of_rows_serves_for_both() -> None:
    first, second = held_out(data_of([0, 0, 0, 1], [0, 0, 1, 1]), 0.25, seed=0)
    assert len(first) == len(second) == 4


@pytest.mark.parametrize("share", [0, 1, -0.1, True, "0.5", None, float("nan")])
def test_a_share_out_of_range(share) -> None:
    with pytest.raises(InputError, match="expected valid_size"):
        held_out(data_of([0, 1], [0, 1]), share, seed=0)


def test_seeds() -> None:
    before = np.random.get_state()[1].tolist()
    assert seed_of(7) == 7
    assert seed_of(np.int64(7)) == 7
    assert seed_of(None) != seed_of(None)
    state = np.random.RandomState(0)
    assert seed_of(state) != seed_of(state)
    assert seed_of(np.random.RandomState(0)) == seed_of(np.random.RandomState(0))
    for wrong in (-1, 1.5, "1", True):
        with pytest.raises(InputError, match="expected a seed"):
            seed_of(wrong)
    assert np.random.get_state()[1].tolist() == before  # nobody else's numbers are used up


@pytest.mark.parametrize(
    "values",
    [
        ["f", "m", "m", "f"],
        np.array(["f", "m", "m", "f"], dtype=object),
        pd.Series(["f", "m", "m", "f"], index=[9, 8, 7, 6]),
        pd.Series(["f", "m", "m", "f"], dtype="category"),
        pd.DataFrame({"sex": ["f", "m", "m", "f"]}),
        {"sex": ["f", "m", "m", "f"]},
        [["f"], ["m"], ["m"], ["f"]],
    ],
)
def test_values_of_any_kind_of_column(values) -> None:
    groups = Groups.of(values, np.array([0, 1, 1, 0]))
    assert groups.names == ("f", "m")
    assert groups.codes(values, 4).tolist() == [0, 1, 1, 0]


def test_numbers_and_truth_values_are_read_alike() -> None:
    y = np.array([1, 0, 1, 0])
    for values in ([0, 1, 0, 1], [False, True, False, True], torch.tensor([0.0, 1, 0, 1])):
        groups = Groups.of(values, y)
        assert groups.names == ("0", "1")  # 1 is the privileged one, whatever the labels
        assert groups.codes(values, 4).tolist() == [0, 1, 0, 1]
    assert Groups.of([0, 1, 0, 1], y, privileged=0).names == ("1", "0")


def test_columns_of_one_name_and_their_intersections() -> None:
    frame = pd.DataFrame([["f", 1], ["f", 2], ["m", 1]], columns=["a", "a"])
    groups = Groups.of(frame, np.array([0, 1, 0]))
    assert groups.names == ("f & 1", "m & 1", "f & 2")  # the largest mean label last
    with pytest.raises(InputError, match="expected 2 columns"):
        groups.codes(["f", "m", "m"], 3)
