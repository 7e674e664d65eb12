"""split_frame: disjoint, complete, repeatable, and scaled on the training part."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from retrofair.data import GroupedData, Preparation, split_frame
from retrofair.errors import InputError, RetrofairWarning

OPTIONS: dict[str, Any] = {"label": "y", "sensitive": "g", "privileged": "m"}


def table(n: int = 100) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "row": np.arange(n, dtype=float),
            "wage": random.lognormal(size=n),
            "job": ["rare", *random.choice(["a", "b"], size=n - 1)],
            "g": random.choice(["f", "m"], size=n),
            "y": random.integers(2, size=n),
        }
    )


def rows_of(data: GroupedData) -> list[int]:
    """The positions in the table, read back from the column `row`."""
    assert isinstance(data.preparation, Preparation)
    number = data.preparation.columns[0]
    back = data.x[:, 0].double() * number.spread + number.mean
    return back.round().long().tolist()


def test_the_parts_are_disjoint_and_complete() -> None:
    splits = split_frame(table(), **OPTIONS)
    parts = [rows_of(part) for part in (splits.train, splits.valid, splits.test)]
    assert [len(part) for part in parts] == [60, 20, 20]
    assert sorted(itertools.chain(*parts)) == list(range(100))


def test_rows_keep_their_label_and_group() -> None:
    frame = table()
    splits = split_frame(frame, **OPTIONS)
    for part in (splits.train, splits.valid, splits.test):
        rows = rows_of(part)
        assert part.y.tolist() == frame["y"].iloc[rows].tolist()
        assert part.group.tolist() == (frame["g"].iloc[rows] == "m").astype(int).tolist()


def test_the_seed_decides() -> None:
    once, again, other = (split_frame(table(), seed=seed, **OPTIONS) for seed in (3, 3, 4))
    assert torch.equal(once.train.x, again.train.x)
    assert torch.equal(once.test.x, again.test.x)
    assert rows_of(once.train) != rows_of(other.train)


def test_the_split_leaves_the_global_random_states_alone() -> None:
    state = np.random.get_state()[1].copy()
    torch_state = torch.random.get_rng_state()
    split_frame(table(), **OPTIONS)
    assert (np.random.get_state()[1] == state).all()
    assert torch.equal(torch_state, torch.random.get_rng_state())


def test_scaling_is_the_training_parts() -> None:
    frame = table()
    splits = split_frame(frame, **OPTIONS)
    train = frame["wage"].iloc[rows_of(splits.train)]
    test = frame["wage"].iloc[rows_of(splits.test)]
    scaled = (test - train.mean()) / train.std(ddof=0)
    assert splits.test.x[:, 1].tolist() == pytest.approx(scaled.tolist(), rel=1e-5)
    assert float(splits.train.x[:, 1].mean()) == pytest.approx(0, abs=1e-6)


def test_imputed_values_are_the_training_parts() -> None:
    frame = table()
    frame.loc[::7, "wage"] = np.nan
    with pytest.warns(RetrofairWarning, match="imputed"):
        splits = split_frame(frame, missing="impute", scale=False, **OPTIONS)
    train = frame["wage"].iloc[splits.train.x[:, 0].long().tolist()]
    test = frame["wage"].iloc[splits.test.x[:, 0].long().tolist()].fillna(train.median())
    assert splits.test.x[:, 1].tolist() == pytest.approx(test.tolist(), rel=1e-6)


def test_a_category_of_one_row_has_its_column_in_every_part() -> None:
    for seed in range(5):
        splits = split_frame(table(), seed=seed, **OPTIONS)
        assert "job=rare" in splits.train.feature_names
        assert splits.train.feature_names == splits.test.feature_names


def test_rows_dropped_for_missing_values_are_in_no_part() -> None:
    frame = table()
    frame.loc[[5, 50], "job"] = None
    with pytest.warns(RetrofairWarning, match="dropped 2 of 100") as caught:
        splits = split_frame(frame, **OPTIONS)
    assert len(caught) == 1
    parts = [rows_of(part) for part in (splits.train, splits.valid, splits.test)]
    assert sorted(itertools.chain(*parts)) == [row for row in range(100) if row not in (5, 50)]


def test_scale_false_reaches_every_part() -> None:
    splits = split_frame(table(), scale=False, **OPTIONS)
    assert sorted(splits.test.x[:, 0].tolist() + splits.train.x[:, 0].tolist())[-1] <= 99
    assert all(float(v).is_integer() for v in splits.test.x[:, 0])


@pytest.mark.parametrize(
    "parts", [(0.5, 0.5, 0.5), (0.5, 0.5), (1.2, -0.1, -0.1), (0.5, float("nan"), 0.5)]
)
def test_shares_that_are_no_partition(parts: Any) -> None:
    with pytest.raises(InputError, match="three shares that add up to 1"):
        split_frame(table(), parts=parts, **OPTIONS)


def test_an_empty_training_part_is_allowed() -> None:
    splits = split_frame(table(), parts=(0.0, 0.5, 0.5), **OPTIONS)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [0, 50, 50]


def test_the_frame_is_not_modified() -> None:
    frame = table()
    before = frame.copy(deep=True)
    split_frame(frame, **OPTIONS)
    pd.testing.assert_frame_equal(frame, before)
