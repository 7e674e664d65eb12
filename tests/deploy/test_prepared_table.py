"""A table's own columns through tensor operations: the same bits as the preparation in pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrofair.data import GroupedData, Preparation, raw_table
from retrofair.deploy.prepared import PreparedTable
from retrofair.errors import InputError


def people(rows: int = 200, seed: int = 0, gaps: bool = True) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(17, 90, rows).astype(float),
            "wealth": random.normal(size=rows) * 1e6,
            "job": random.choice(["cook", "smith", "clerk"], rows).astype(object),
            "town": random.choice(["A", "B"], rows).astype(object),
            "sex": random.choice(["F", "M"], rows),
            "hired": random.integers(0, 2, rows),
        }
    )
    if gaps:
        for name in ("age", "job", "town"):
            frame.loc[random.random(rows) < 0.1, name] = None
    return frame


def fit(frame: pd.DataFrame, **more: Any) -> Preparation:
    options = {"label": "hired", "sensitive": "sex", "privileged": "M", "flags": {"town": "A"}}
    return Preparation.fit(frame, **{**options, **more})


@pytest.mark.parametrize("missing", ["drop", "impute"])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.filterwarnings("ignore::retrofair.errors.RetrofairWarning")
def test_the_same_bits_and_the_same_rows(missing: str, include: bool) -> None:
    frame = people()
    made = fit(frame, missing=missing, include_sensitive=include)
    x, usable = PreparedTable(made)(torch.from_numpy(raw_table(made, frame)))
    kept, _ = made.kept(frame)
    assert usable.numpy().nonzero()[0].tolist() == kept.tolist()
    assert (missing == "impute") == (len(kept) == len(frame))
    assert torch.equal(x[usable], GroupedData.prepared(made, frame).x)
    assert torch.isfinite(x).all()


@settings(max_examples=50, deadline=None)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    mean=st.floats(-1e6, 1e6),
    spread=st.floats(1e-6, 1e6),
)
def test_any_number_is_scaled_to_the_same_bits(number: float, mean: float, spread: float) -> None:
    from retrofair.data.encoders import Number

    column = Number("a", 0.0, mean, spread)
    made = Preparation((column,), "y", "1", ("s",), (("0",), ("1",)))
    ours = np.zeros((1, 1), dtype=np.float32)
    with np.errstate(over="ignore"):
        column.encode(pd.Series([number]), ours)
    x, usable = PreparedTable(made)(torch.tensor([[number]], dtype=torch.float64))
    if np.isfinite(ours[0, 0]):
        assert bool(usable[0])
        assert x.numpy().tobytes() == ours.tobytes()
    else:
        assert not usable[0]


def test_what_the_preparation_does_not_know_is_not_usable() -> None:
    made = fit(people(gaps=False))
    table = PreparedTable(made)
    row = torch.from_numpy(raw_table(made, people(1, gaps=False)))
    names = [column.name for column in made.columns]
    assert table(row)[1].tolist() == [True]
    wrong = [
        ("job", 3.0),
        ("job", -1.0),
        ("job", 0.5),
        ("job", torch.nan),
        ("town", 2.0),
        ("town", torch.nan),
        ("age", torch.nan),
        ("age", torch.inf),
        ("age", 1e300),
        ("sex", torch.nan),
    ]
    for name, value in wrong:
        odd = row.clone()
        odd[0, names.index(name)] = value
        assert table(odd)[1].tolist() == [False], (name, value)


def test_a_missing_group_is_not_imputed() -> None:
    """The preparation drops such rows whatever `missing` says."""
    frame = people()
    made = fit(frame, missing="impute")
    odd = frame.head(3).assign(sex=["F", None, "M"])
    assert PreparedTable(made)(torch.from_numpy(raw_table(made, odd)))[1].tolist() == [
        True,
        False,
        True,
    ]


def test_raw_tables_that_cannot_be_made() -> None:
    frame = people(gaps=False)
    made = fit(frame)
    with pytest.raises(InputError, match="'job' has categories that the preparation does not know"):
        raw_table(made, frame.assign(job="king"))
    with pytest.raises(InputError, match="unknown column 'age'"):
        raw_table(made, frame.drop(columns="age"))
    with pytest.raises(InputError, match=r"the columns 'age', 'job', which are not there"):
        raw_table(made, frame.drop(columns=["age", "job"]))
    with pytest.raises(InputError, match="expected numbers in column 'age'"):
        raw_table(made, frame.assign(age="old"))
    # the label and the group are not needed, other columns and another order do no harm
    fewer = frame.drop(columns="hired").assign(more=1)[::-1]
    assert (raw_table(made, fewer[sorted(fewer)])[::-1] == raw_table(made, frame)).all()
