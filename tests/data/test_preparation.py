"""from_frame: how a table becomes numbers, groups and labels, and what is refused."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrofair.data import GroupedData, Preparation
from retrofair.errors import InputError, RetrofairWarning

AGE = [20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
NAN = float("nan")


def table(**columns: Any) -> pd.DataFrame:
    """Six people; any column replaced or added."""
    usual: dict[str, Any] = {
        "age": AGE,
        "job": ["a", "b", "a", "c", "b", "a"],
        "sex": ["F", "M", "F", "M", "F", "M"],
        "hired": [0, 1, 1, 1, 0, 0],
    }
    return pd.DataFrame({**usual, **columns})


def read(frame: pd.DataFrame, **options: Any) -> GroupedData:
    """from_frame with the usual label and groups; warnings are errors."""
    usual = {"label": "hired", "sensitive": "sex", "privileged": "M"}
    return GroupedData.from_frame(frame, **{**usual, **options})


def column(data: GroupedData, name: str) -> list[float]:
    return data.x[:, data.feature_names.index(name)].tolist()


# --- features ---------------------------------------------------------------------------------


def test_each_kind_of_column() -> None:
    data = read(table(member=[True, False, True, True, False, False]))
    assert data.feature_names == ("age", "job=a", "job=b", "job=c", "sex", "member")
    # mean 45, population variance (625 + 225 + 25) * 2 / 6
    assert column(data, "age") == pytest.approx([(a - 45) / (1750 / 6) ** 0.5 for a in AGE])
    assert column(data, "job=a") == [1, 0, 1, 0, 0, 1]
    assert column(data, "job=b") == [0, 1, 0, 0, 1, 0]
    assert column(data, "job=c") == [0, 0, 0, 1, 0, 0]
    assert column(data, "sex") == [0, 1, 0, 1, 0, 1]
    assert column(data, "member") == [1, 0, 1, 1, 0, 0]
    assert data.x.dtype == torch.float32


def test_scale_false_keeps_the_tables_units() -> None:
    assert column(read(table(), scale=False), "age") == AGE


def test_a_constant_column_becomes_zeros() -> None:
    # six times 0.1 has a spread of 1e-17 in floats, which must not be divided by
    assert np.full(6, 0.1).std() > 0
    for value in (5, 0.1, 0.7, 1.1, 0.0):
        data = read(table(age=[value] * 6))
        assert column(data, "age") == pytest.approx([0] * 6, abs=1e-6)
        later = read(table(age=[value + 1] * 6), like=data)
        assert column(later, "age") == pytest.approx([1] * 6)


def test_a_small_but_real_spread_is_kept() -> None:
    frame = table(age=[1e6, 1e6 + 1] * 3)
    assert column(read(frame), "age") == pytest.approx([-1, 1] * 3)


def test_drop_and_include_sensitive() -> None:
    assert read(table(), drop=["age"]).feature_names == ("job=a", "job=b", "job=c", "sex")
    without = read(table(), include_sensitive=False)
    assert without.feature_names == ("age", "job=a", "job=b", "job=c")
    assert without.group.tolist() == [0, 1, 0, 1, 0, 1]


def test_a_many_valued_sensitive_column_is_one_hot_even_of_numbers() -> None:
    data = read(table(sex=[3, 1, 2, 3, 1, 2]), privileged=1)
    assert data.feature_names[-3:] == ("sex=1", "sex=2", "sex=3")
    assert column(data, "sex=3") == [1, 0, 0, 1, 0, 0]


def test_flags_make_one_column() -> None:
    data = read(table(), flags={"job": "a"})
    assert data.feature_names == ("age", "job", "sex")
    assert column(data, "job") == [1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    "job",
    [
        pd.Categorical(["a", "b", "a", "c", "b", "a"], categories=["z", "c", "b", "a"]),
        pd.array(["a", "b", "a", "c", "b", "a"], dtype="string"),
        np.array(["a", "b", "a", "c", "b", "a"], dtype=object),
    ],
    ids=["categorical", "string", "object"],
)
def test_text_of_any_dtype(job: Any) -> None:
    data = read(table(job=job))
    assert data.feature_names == ("age", "job=a", "job=b", "job=c", "sex")
    assert torch.equal(data.x, read(table()).x)


def test_categories_of_numbers_are_categories() -> None:
    data = read(table(job=pd.Categorical([1, 2, 1, 3, 2, 1])))
    assert data.feature_names == ("age", "job=1", "job=2", "job=3", "sex")
    assert column(data, "job=2") == [0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("dtype", ["Int64", "int8", "Float64", "float32", "int64[pyarrow]"])
def test_numbers_of_any_dtype(dtype: str) -> None:
    ages = pd.Series(AGE).astype(dtype)
    assert torch.allclose(read(table(age=ages)).x, read(table()).x)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pd.date_range("2020-01-01", periods=6), "'when'.*datetime64.*--drop"),
        (pd.to_timedelta(np.arange(6), unit="D"), "'when'.*timedelta64.*--drop"),
        ([1.0, 2.0, float("inf"), 4.0, -float("inf"), 6.0], "'when', got 2 infinite values"),
        ([1.0, 2.0, 1e39, 4.0, 5.0, 6.0], "'when', got 1 infinite values or values beyond 3e\\+38"),
        ([[1], [2], [3], [1], [2], [3]], "'when'.*unhashable"),
    ],
    ids=["dates", "spans", "infinite", "too large for float32", "lists"],
)
def test_columns_that_are_no_features(values: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(table(when=values))


def test_dates_that_are_dropped_do_no_harm() -> None:
    frame = table(when=pd.date_range("2020-01-01", periods=6))
    assert "when" not in read(frame, drop=["when"]).feature_names


def test_texts_like_identifiers_are_refused() -> None:
    frame = pd.concat([table()] * 20, ignore_index=True)
    frame["name"] = [f"person {row}" for row in range(len(frame))]
    with pytest.raises(InputError, match="'name' has 120 different texts in 120 rows"):
        read(frame)
    frame["name"] = [f"person {row % 50}" for row in range(len(frame))]
    assert sum(name.startswith("name=") for name in read(frame).feature_names) == 50


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.concat([table(), table()[["age"]]], axis=1), r"\['age'\] more than once"),
        (table().rename(columns={"age": 7}), r"texts as column names, got \[7\]"),
        (table().iloc[:0], "a table with rows"),
        ({"age": AGE}, "a pandas DataFrame, got dict"),
        (table(**{"job=a": AGE}), r"feature names, but \['job=a'\] come up twice"),
    ],
    ids=["twice", "not text", "no rows", "no table", "one-hot name taken"],
)
def test_tables_that_cannot_be_read(frame: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(frame)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": "hird"}, "unknown column 'hird': did you mean 'hired'"),
        ({"sensitive": "sx"}, "unknown column 'sx': did you mean 'sex'"),
        ({"sensitive": ["sex", "jobb"]}, "did you mean 'job'"),
        ({"drop": ["agee"]}, "did you mean 'age'"),
        ({"flags": {"jub": "a"}}, "did you mean 'job'"),
        ({"sensitive": "hired"}, "other than the label"),
        ({"sensitive": []}, "at least one sensitive column"),
        ({"sensitive": ["sex", "sex"]}, "different sensitive columns"),
        ({"missing": "dorp"}, "did you mean 'drop'"),
        ({"drop": ["age", "job"], "include_sensitive": False}, "at least one feature column"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(table(), **options)


# --- label ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "positive", "y"),
    [
        ([0, 1, 1, 1, 0, 0], None, [0, 1, 1, 1, 0, 0]),
        ([0.0, 1.0, 1.0, 1.0, 0.0, 0.0], None, [0, 1, 1, 1, 0, 0]),
        ([False, True, True, True, False, False], None, [0, 1, 1, 1, 0, 0]),
        (pd.Categorical([0, 1, 1, 1, 0, 0]), None, [0, 1, 1, 1, 0, 0]),
        (["0", "1", "1", "1", "0", "0"], None, [0, 1, 1, 1, 0, 0]),
        ([0, 1, 1, 1, 0, 0], 0, [1, 0, 0, 0, 1, 1]),
        (["no", "yes", "yes", "maybe", "no", "no"], "yes", [0, 1, 1, 0, 0, 0]),
        ([1, 2, 1, 2, 2, 2], 2, [0, 1, 0, 1, 1, 1]),
        ([1, 2, 1, 2, 2, 2], 2.0, [0, 1, 0, 1, 1, 1]),
        ([1, 2, 1, 2, 2, 2], "2", [0, 1, 0, 1, 1, 1]),
    ],
)
def test_labels(values: Any, positive: Any, y: list[int]) -> None:
    data = read(table(hired=values), positive=positive)
    assert data.y.tolist() == y
    assert data.y.dtype == torch.int64


@pytest.mark.parametrize(
    ("values", "positive", "words"),
    [
        ([1] * 6, None, "two classes, but 'hired' is '1' in every row"),
        (["yes"] * 6, "yes", "two classes"),
        ([1, 2] * 3, None, "say which one is positive"),
        (["yes", "no"] * 3, None, "'no', 'yes': say which one is positive"),
        (["yes", "no"] * 3, "Yes", "unknown value of the label 'hired' 'Yes': did you mean 'yes'"),
        ([None] * 6, None, "'hired' or 'sex' is missing everywhere"),
    ],
)
def test_labels_that_cannot_be_used(values: Any, positive: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(table(hired=values), positive=positive)


def test_regression_keeps_the_numbers() -> None:
    data = read(table(hired=[0.5, 1.5, 2.0, -1.0, 0.0, 9.0]), regression=True)
    assert data.y.tolist() == [0.5, 1.5, 2.0, -1.0, 0.0, 9.0]
    for options in ({}, {"privileged": None}):
        with pytest.raises(InputError, match="expected numbers in the label 'hired'"):
            read(table(hired=list("abcdef")), regression=True, **options)


# --- groups -----------------------------------------------------------------------------------


def test_the_privileged_group_comes_last() -> None:
    assert read(table(), privileged="M").group_names == ("F", "M")
    data = read(table(), privileged="F")
    assert data.group_names == ("M", "F")
    assert data.group.tolist() == [1, 0, 1, 0, 1, 0]
    assert column(data, "sex") == [1, 0, 1, 0, 1, 0]


def test_many_groups_numbers_and_their_order() -> None:
    data = read(table(sex=[10, 2, 1, 10, 2, 1]), privileged=2)
    assert data.group_names == ("1", "10", "2")
    assert data.group.tolist() == [1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("values", [[0, 1] * 3, [False, True] * 3, [0.0, 1.0] * 3, ["0", "1"] * 3])
def test_a_0_1_column_has_1_privileged_without_a_warning(values: Any) -> None:
    # every positive label is in group 0, so that 1 is not the favoured one
    data = read(table(sex=values, hired=[1, 0, 1, 0, 0, 0]), privileged=None)
    assert data.group_names == ("0", "1")
    assert data.group.tolist() == [0, 1, 0, 1, 0, 1]


def test_without_a_privileged_value_the_favoured_one_is_taken_and_said() -> None:
    with pytest.warns(RetrofairWarning, match="took 'F' as the privileged group") as caught:
        data = read(table(hired=[1, 0, 1, 1, 0, 0]), privileged=None)
    assert data.group_names == ("M", "F")
    assert len(caught) == 1
    assert data.notes == (str(caught[0].message),)


def test_intersections() -> None:
    frame = table(race=["x", "y", "y", "x", "x", "y"])
    data = read(frame, sensitive=["sex", "race"], privileged=["M", "x"])
    assert data.group_names == ("F & x", "F & y", "M & y", "M & x")
    assert data.group.tolist() == [0, 2, 1, 3, 0, 2]
    assert data.feature_names[-2:] == ("sex", "race")
    assert column(data, "race") == [1, 0, 0, 1, 1, 0]


def test_intersections_without_a_row_are_no_groups_but_the_privileged_one_is() -> None:
    frame = table(race=["x", "y", "x", "y", "x", "y"])
    data = read(frame, sensitive=["sex", "race"], privileged=["M", "x"])
    assert data.group_names == ("F & x", "M & y", "M & x")


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"sex": ["F"] * 6}, {"privileged": "F"}, "at least two groups.*'F' everywhere"),
        ({}, {"privileged": "m"}, "unknown value of the column 'sex' 'm'"),
        ({}, {"privileged": ["M", "x"]}, "one privileged value for each of"),
        ({"sex": AGE}, {"privileged": "7"}, "unknown value"),
        (
            {"s": ["a & b", "a"] * 3, "t": ["c", "b & c"] * 3},
            {"sensitive": ["s", "t"], "privileged": ["a", "b & c"]},
            "group names, but .* come up twice",
        ),
    ],
)
def test_groups_that_cannot_be_used(columns: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(table(**columns), **options)


def test_a_sensitive_column_of_measurements_is_refused() -> None:
    frame = pd.concat([table()] * 10, ignore_index=True)
    frame["sex"] = np.arange(60) / 7
    with pytest.raises(InputError, match=r"'sex' has 60: bin it first"):
        read(frame, privileged=0.0)


# --- missing values ---------------------------------------------------------------------------

HOLES = {"age": [20.0, NAN, 40.0, 50.0, 60.0, 70.0], "job": ["a", None, "a", None, "b", "b"]}


def test_missing_drop() -> None:
    with pytest.warns(RetrofairWarning) as caught:
        data = read(table(**HOLES))
    assert [str(w.message) for w in caught] == [
        "dropped 2 of 6 rows with missing values: age (1), job (2)"
    ]
    assert data.notes == (str(caught[0].message),)
    assert data.feature_names == ("age", "job=a", "job=b", "sex")
    assert column(data, "job=b") == [0, 0, 1, 1]
    assert data.y.tolist() == [0, 1, 0, 0]
    assert data.group.tolist() == [0, 0, 0, 1]


def test_missing_impute() -> None:
    with pytest.warns(RetrofairWarning, match=r"imputed values in 2 of 6 rows.*age \(1\), job \(2"):
        data = read(table(**HOLES), missing="impute", scale=False)
    assert data.feature_names == ("age", "job=a", "job=b", "job=(missing)", "sex")
    assert column(data, "age") == [20, 50, 40, 50, 60, 70]  # the median of the five known
    assert column(data, "job=(missing)") == [0, 1, 0, 1, 0, 0]


def test_imputed_texts_join_a_category_already_called_missing() -> None:
    with pytest.warns(RetrofairWarning, match="imputed"):
        data = read(table(job=["a", None, "(missing)", "a", "a", "a"]), missing="impute")
    assert column(data, "job=(missing)") == [0, 1, 1, 0, 0, 0]


def test_missing_raise() -> None:
    with pytest.raises(InputError, match=r"found 2 of 6 rows with missing values: age \(1\), job"):
        read(table(**HOLES), missing="raise")
    assert len(read(table(), missing="raise")) == 6


@pytest.mark.parametrize("missing", ["drop", "impute", "raise"])
@pytest.mark.parametrize("name", ["hired", "sex"])
def test_rows_without_label_or_group_are_always_dropped(missing: str, name: str) -> None:
    frame = table()
    frame[name] = frame[name].astype(object)
    frame.loc[2, name] = None
    with pytest.warns(RetrofairWarning, match=rf"dropped 1 of 6 rows.*{name} \(1\)"):
        data = read(frame, missing=missing)
    assert data.y.tolist() == [0, 1, 1, 0, 0]
    assert data.group.tolist() == [0, 1, 1, 0, 1]


def test_missing_values_in_a_dropped_column_do_not_matter() -> None:
    assert len(read(table(**HOLES), drop=["age", "job"])) == 6


@pytest.mark.parametrize("missing", ["drop", "impute"])
def test_a_column_without_any_number_is_refused(missing: str) -> None:
    with pytest.raises(InputError, match="'age' has no values at all"):
        read(table(age=[NAN] * 6), missing=missing)


def test_no_complete_row() -> None:
    with pytest.raises(InputError, match="at least one complete row"):
        read(table(age=[1, NAN] * 3, job=[None, "a"] * 3))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float64"])
def test_missing_values_of_nullable_columns(dtype: str) -> None:
    frame = table(age=pd.array([1, None, 1, 0, None, 1], dtype=dtype))
    with pytest.warns(RetrofairWarning, match=r"age \(2\)"):
        assert len(read(frame)) == 4
    with pytest.warns(RetrofairWarning, match="imputed"):
        assert column(read(frame, missing="impute", scale=False), "age") == [1, 1, 1, 0, 1, 1]


# --- applying a preparation again ---------------------------------------------------------------


def test_like_uses_the_first_tables_scaling_categories_and_groups() -> None:
    first = read(table())
    second = read(
        table(age=[45.0] * 6, job=["c"] * 6, sex=["M"] * 6),
        like=first,
        privileged="F",
        drop=["age"],
    )
    assert second.feature_names == first.feature_names
    assert second.group_names == ("F", "M")
    assert column(second, "age") == [0] * 6
    assert column(second, "job=c") == [1] * 6
    assert second.group.tolist() == [1] * 6


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"job": ["a", "zz", "a", "zz", "y", "b"]}, r"'job'.*'y', 'zz' \(3 rows\)"),
        ({"sex": ["F", "X", "F", "M", "F", "M"]}, r"groups \['F', 'M'\], got also \['X'\] \(1 row"),
        ({"age": ["x"] * 6}, "expected numbers in column 'age'"),
        ({"age": [float("inf")] * 6}, "infinite values in age"),
    ],
)
def test_like_with_a_table_that_does_not_fit(columns: dict[str, Any], words: str) -> None:
    first = read(table())
    with pytest.raises(InputError, match=words):
        read(table(**columns), like=first)


def test_like_without_a_column_or_a_preparation() -> None:
    first = read(table())
    with pytest.raises(InputError, match="unknown column 'job'"):
        read(table().drop(columns="job"), like=first)
    bare = GroupedData(x=first.x, y=first.y, group=first.group, group_names=first.group_names)
    with pytest.raises(InputError, match="made by from_frame"):
        read(table(), like=bare)


def test_the_order_of_columns_and_the_index_do_not_matter() -> None:
    first = read(table())
    turned = table()[["hired", "sex", "job", "age"]].set_index(pd.Index([5, 5, 5, 0, 1, 2]))
    assert torch.equal(read(turned, like=first).x, first.x)


@pytest.mark.parametrize("missing", ["drop", "impute"])
def test_the_frame_passed_in_is_not_modified(missing: str) -> None:
    frame = table(**HOLES, member=[True, False] * 3)
    frame.loc[0, "hired"] = None
    before = frame.copy(deep=True)
    with pytest.warns(RetrofairWarning):
        read(frame, missing=missing)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("values", [{}, [1], {"columns": [{"kind": "x"}]}, {"columns": ["x"]}])
def test_from_dict_of_something_else(values: Any) -> None:
    with pytest.raises(InputError, match="a preparation written by Retrofair"):
        Preparation.from_dict(values)


def test_from_dict_with_an_unknown_field() -> None:
    data = read(table())
    assert data.preparation is not None
    with pytest.raises(InputError, match="more"):
        Preparation.from_dict({**data.preparation.to_dict(), "more": 1})


texts = st.sampled_from(["a", "b", "A", "ä", " ", "1", "x & y", "(missing)", "nan"])
numbers = st.just(NAN) | st.floats(-1e6, 1e6)


@st.composite
def frames(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    n = draw(st.integers(4, 12))
    rows = {"min_size": n - 4, "max_size": n - 4}
    # the first four rows make sure that both classes, two groups and some numbers are there
    first = {"u": [1.0, 2.0, 3.0, 4.0], "t": ["a", "b", "a", "b"], "k": [1, 2, 3, 1]}
    columns: dict[str, Any] = {
        "u": first["u"] + draw(st.lists(numbers, **rows)),
        "t": first["t"] + draw(st.lists(st.none() | texts, **rows)),
        "k": first["k"] + draw(st.lists(st.integers(-5, 5), **rows)),
        "flag": [True, False, True, True, *draw(st.lists(st.booleans(), **rows))],
        "g": ["p", "q", "p", "q", *draw(st.lists(st.sampled_from(["p", "q", "r"]), **rows))],
        "h": [0, 1, 1, 0, *draw(st.lists(st.integers(0, 1), **rows))],
        "label": [0, 1, 1, 0, *draw(st.lists(st.integers(0, 1), **rows))],
    }
    options = {
        "label": "label",
        "sensitive": draw(st.sampled_from(["g", "h", ["g", "h"]])),
        "missing": draw(st.sampled_from(["drop", "impute"])),
        "include_sensitive": draw(st.booleans()),
        "scale": draw(st.booleans()),
        "regression": draw(st.booleans()),
    }
    return pd.DataFrame(columns), options


@settings(max_examples=60, deadline=None)
@given(frames())
def test_a_preparation_survives_json(case: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    frame, options = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrofairWarning)
        data = GroupedData.from_frame(frame, **options)
        assert data.preparation is not None
        text = json.dumps(data.preparation.to_dict(), allow_nan=False)
        again = Preparation.from_dict(json.loads(text))
        assert again == data.preparation
        other = GroupedData.prepared(again, frame)
        backwards = GroupedData.prepared(again, frame.iloc[::-1])
    assert torch.equal(other.x, data.x)
    assert torch.equal(other.y, data.y)
    assert torch.equal(other.group, data.group)
    assert other.notes == data.notes
    assert torch.equal(backwards.x.flip(0), data.x)
    assert bool(torch.isfinite(data.x).all())
    # one-hot columns of each text column add up to one in every row
    hot = [i for i, name in enumerate(data.feature_names) if name.startswith("t=")]
    assert data.x[:, hot].sum(dim=1).tolist() == [1.0] * len(data)
