"""Guesses about columns: by name in several languages, by value, and what is suspect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from retrofair.data.guesses import guess_columns
from retrofair.data.words import PROTECTED, called, words_of


def table(**columns: object) -> pd.DataFrame:
    random = np.random.default_rng(0)
    n = 200
    usual = {"x": random.normal(size=n), "y": random.integers(2, size=n)}
    return pd.DataFrame({**columns, **usual})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Gender", "sex"), ("applicantSex", "sex"), ("GESCHLECHT", "sex"), ("género", "sex"),
        ("sexe_du_client", "sex"), ("性别", "sex"), ("пол", "sex"),
        ("race/ethnicity", "race or ethnic origin"),
        ("is_african_american", "race or ethnic origin"),
        ("AgeGroup", "age"), ("Âge", "age"), ("date-of-birth", "age"), ("edad", "age"),
        ("native-country", "nationality"), ("Staatsangehörigkeit", "nationality"),
        ("estado_civil", "marital status"), ("Marital.Status", "marital status"),
        ("religião", "religion"), ("disabled", "disability"),
        ("wage", None), ("package", None), ("sextant", None), ("country", None), ("x1", None),
        ("message", None), ("average", None), ("", None),
    ],
)  # fmt: skip
def test_protected_names(name: str, kind: str | None) -> None:
    found = [each for each, words in PROTECTED.items() if called(name, words)]
    assert found[:1] == ([] if kind is None else [kind])


def test_all_words_are_as_names_are_read() -> None:
    """Or they could never be found."""
    for words in PROTECTED.values():
        for word in words:
            assert " ".join(words_of(word)) == word
        assert len(set(words)) == len(words)


def test_sex_comes_before_race_and_what_has_too_many_values_is_named_only() -> None:
    n = 200
    found = guess_columns(
        table(age=range(n), ethnicity=["a", "b"] * (n // 2), gender=["f", "m"] * (n // 2))
    )
    assert found.sensitive.value == ["gender"]
    assert list(found.protected) == ["age", "ethnicity", "gender"]
    assert "200 values: bin them" in found.protected["age"]


@pytest.mark.parametrize(
    ("values", "positive", "sure"),
    [
        ((0, 1), "1", True),
        (("no", "yes"), "yes", True),
        (("<=50K", ">50K"), ">50K", True),
        ((True, False), "1", True),
        (("denied", "other"), "other", True),
        ((2, 1), "1", True),
        (("rare", "usual", "usual"), "rare", False),
    ],
)
def test_the_positive_value(values, positive: str, sure: bool) -> None:
    frame = pd.DataFrame({"sex": ["f", "m", "m"] * 20, "outcome": (list(values) * 60)[:60]})
    found = guess_columns(frame)
    assert found.label.value == "outcome"
    assert (found.positive.value, found.positive.sure) == (positive, sure)


def test_the_label_by_name_or_place() -> None:
    two = ["a", "b"] * 100
    assert guess_columns(table(approved=two, z=two)).label.value == "y"  # a label's usual name
    found = guess_columns(pd.DataFrame({"approved": two, "sex": two, "z": two})).label
    assert (found.value, found.sure) == ("approved", True)
    found = guess_columns(pd.DataFrame({"v": two, "sex": two, "z": two})).label
    assert (found.value, found.sure) == ("z", False)
    assert guess_columns(pd.DataFrame({"sex": two, "z": range(200)})).label is None
    assert guess_columns(table(z=two), label="z").label.why == "given"


def test_the_privileged_value_has_the_largest_share_and_some_rows() -> None:
    region = ["north"] * 99 + ["south"] * 98 + ["unknown"] * 3
    hired = [1] * 60 + [0] * 39 + [1] * 10 + [0] * 88 + [1] * 3
    frame = pd.DataFrame({"ethnicity": region, "hired": hired, "x": range(200)})
    found = guess_columns(frame)
    assert found.privileged.value == ["north"]
    assert "61% of its rows are '1', of the others 13%" in found.privileged.why


def test_what_is_no_feature() -> None:
    n = 200
    found = guess_columns(
        table(
            id=np.random.default_rng(0).permutation(n),
            row=range(n),
            email=[f"{k}@x" for k in range(n)],
            note=[f"text {k % 150}" for k in range(n)],
            constant=["a"] * n,
            empty=[None] * n,
            when=pd.date_range("2020-01-01", periods=n),
            prediction=[0, 1] * (n // 2),
            amount=np.random.default_rng(1).normal(size=n),
            size=np.random.default_rng(2).permutation(n),
        )
    )
    assert set(found.drop) == {
        "id", "row", "email", "note", "constant", "empty", "when", "prediction"
    }  # fmt: skip
    assert found.prediction.value == "prediction"
    assert set(found.numbers) == {"amount", "size", "x"}


def test_missing_values_are_imputed_where_dropping_costs_rows() -> None:
    few, many = [None, *[1.0] * 199], [None, 1.0] * 100
    assert guess_columns(table(a=few)).missing.value == "drop"
    found = guess_columns(table(a=few, b=many)).missing
    assert found.value == "impute"
    assert found.why == "100 rows (50.0%) have missing values: b (100), a (1)"


def test_a_column_that_tells_the_label_is_suspect() -> None:
    frame = table()
    frame["later"] = np.where(frame["y"] == 1, "late", None)
    frame["late_date"] = [str(k) if y else None for k, y in enumerate(frame["y"])]
    frame["noise"] = np.random.default_rng(3).integers(3, size=len(frame))
    found = guess_columns(frame.assign(late_date=frame["late_date"].astype(object)))
    assert "later" in found.telling
    assert "100.0% of the rows" in found.telling["later"]
    assert "noise" not in found.telling
    assert "x" not in found.telling


def test_the_leaks_of_compas_are_found(data_root) -> None:
    """Columns about the second offence tell whether there was one."""
    frame = pd.read_csv(data_root / "compas" / "compas-scores-two-years.csv")
    found = guess_columns(frame)
    assert found.label.value == "two_year_recid"
    assert {"is_recid", "r_charge_degree", "r_offense_date"} <= set(found.telling)
    assert {"id", "name", "dob"} <= set(found.drop)
    assert set(found.protected) == {"sex", "dob", "age", "age_cat", "race"}
