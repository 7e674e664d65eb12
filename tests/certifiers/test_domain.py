"""Domains: declared, from data, and those that cannot be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import retrofair as rf
from retrofair.certifiers import Continuous, Domain, Integer, OneHot
from retrofair.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:took:retrofair.errors.RetrofairWarning")

FRAME = pd.DataFrame(
    {
        "age": [18, 25, 40, 61, 90, 33, 44, 52] * 5,
        "rate": [0.1, 0.25, 0.7, 0.31, 0.99, 0.5, 0.123, 0.4] * 5,
        "job": ["a", "b", "c", "a", "b", "c", "a", "b"] * 5,
        "member": ["yes", "no", "yes", "yes", "no", "no", "yes", "no"] * 5,
        "sex": ["F", "M", "F", "M", "F", "M", "M", "F"] * 5,
        "race": ["x", "y", "z", "x", "y", "z", "x", "x"] * 5,
        "paid": [0, 1, 0, 1, 1, 0, 1, 0] * 5,
    }
)


def data(sensitive: Any = "sex", include: bool = True, **options: Any) -> rf.GroupedData:
    return rf.GroupedData.from_frame(
        FRAME, label="paid", sensitive=sensitive, include_sensitive=include, **options
    )


def test_a_declared_domain() -> None:
    domain = Domain(
        [Continuous("a", -1, 2.5), Integer("b", 0.5, 3.9), OneHot("c", ["x", "y"], sensitive=True)]
    )
    assert (domain.d, domain.columns) == (4, ("a", "b", "c=x", "c=y"))
    assert domain.integer.tolist() == [False, True, False, False]
    assert domain.sensitive.tolist() == [False, False, True, True]
    assert (domain.features[1].low, domain.features[1].high) == (1, 3)  # type: ignore[union-attr]
    rows = np.array(
        [
            [-1.0, 1, 1, 0],
            [2.5, 3, 0, 1],
            [2.6, 3, 0, 1],
            [0, 1.5, 1, 0],
            [0, 4, 1, 0],
            [0, 1, 1, 1],
            [0, 1, 0, 0],
            [0, 1, 0.5, 0.5],
            [math.nan, 1, 1, 0],
        ]
    )
    assert domain.contains(rows).tolist() == [True, True] + [False] * 7


def test_inputs_and_raw_values_go_both_ways() -> None:
    domain = Domain([Continuous("a", 0, 20_000), Integer("b", 0, 9)], [5000, 4.5], [1234.5, 2.9])
    raw = np.random.default_rng(0).uniform(domain.low, domain.high, (100, 2))
    assert domain.to_raw(domain.to_inputs(raw)) == pytest.approx(raw, rel=1e-12, abs=1e-9)
    assert domain.to_inputs(raw)[:, 0] == pytest.approx((raw[:, 0] - 5000) / 1234.5)


def test_relaxed_and_own_units() -> None:
    domain = Domain(
        [Integer("a", 0, 9), Integer("sex", 0, 1, sensitive=True), OneHot("c", 2)],
        [4, 0, 0, 0],
        [2.5, 1, 1, 1],
    )
    loose = domain.relaxed()
    assert loose.integer.tolist() == [False, True, False, False]
    assert (loose.low == domain.low).all()
    assert (loose.spread == domain.spread).all()
    assert loose.contains(np.array([[0.5, 1, 1, 0]])).all()
    assert domain.in_own_units({"a": 0.5, "c": 2}) == {"a": 1.25, "c": 2}
    with pytest.raises(InputError, match="height"):
        domain.in_own_units({"height": 1})


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("sensitive", ["sex", ["sex", "race"]])
def test_the_box_around_data_holds_every_row(sensitive: Any, include: bool) -> None:
    found = data(sensitive, include)
    domain = Domain.from_data(found)
    assert domain.d == found.x.shape[1]
    raw = domain.to_raw(found.x.double().numpy())
    assert (raw >= domain.low - 1e-4).all()
    assert (raw <= domain.high + 1e-4).all()
    assert domain.to_inputs(raw) == pytest.approx(found.x.double().numpy(), abs=1e-6)
    named = {feature.name: feature for feature in domain.features}
    age, rate, job = named["age"], named["rate"], named["job"]
    assert isinstance(age, Integer)
    assert (age.low, age.high) == (18, 90)
    assert isinstance(rate, Continuous)
    assert (rate.low, rate.high) == pytest.approx((0.1, 0.99), abs=1e-5)
    assert isinstance(job, OneHot)
    assert set(job.names) == {"a", "b", "c"}
    chosen = {sensitive} if isinstance(sensitive, str) else set(sensitive)
    if include:
        assert {f.name for f in domain.features if f.sensitive} == chosen
        assert domain.sensitive.any()
    else:
        assert not domain.sensitive.any()
        assert "does not read" in domain.notes[0]
    # the values of the data themselves, column by column
    at = domain.columns.index("age")
    assert raw[:, at] == pytest.approx(FRAME["age"].to_numpy(), abs=1e-4)


def test_choices_of_the_user() -> None:
    found = Domain.from_data(data(), sensitive=["job", "age"], ranges={"age": (10, 100.5)})
    assert {f.name for f in found.features if f.sensitive} == {"job", "age"}
    age = next(f for f in found.features if f.name == "age")
    assert (age.low, age.high) == (10, 100)  # type: ignore[union-attr]
    for wrong in ({"height": (0, 1)}, {"job": (0, 1)}, {"age": (5, 1)}, {"rate": (0, math.inf)}):
        with pytest.raises(InputError) as caught:
            Domain.from_data(data(), ranges=wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="height"):
        Domain.from_data(data(), sensitive="height")


def test_bare_tensors() -> None:
    x = torch.tensor([[0.5, 1.0, 7.0], [1.5, 0.0, 7.0], [2.5, 1.0, 7.0]])
    bare = rf.GroupedData(
        x=x, y=torch.tensor([0, 1, 0]), group=torch.tensor([0, 1, 0]), group_names=("a", "b")
    )
    domain = Domain.from_data(bare)
    assert [type(f) for f in domain.features] == [Continuous, Integer, Integer]
    assert domain.low.tolist() == pytest.approx([0.5, 0, 7], abs=1e-6)
    assert domain.high.tolist() == pytest.approx([2.5, 1, 7], abs=1e-6)
    with pytest.raises(InputError, match="rows"):
        Domain.from_data(bare[:0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Continuous("a", 0, math.inf), "'a'"),
        (lambda: Continuous("a", -math.inf, 0), "'a'"),
        (lambda: Continuous("a", math.nan, 1), "'a'"),
        (lambda: Continuous("a", 2, 1), "'a'"),
        (lambda: Continuous("a", "low", 1), "'a'"),  # type: ignore[arg-type]
        (lambda: Continuous("a", None, 1), "'a'"),  # type: ignore[arg-type]
        (lambda: Integer("a", 0.1, 0.9), "whole number"),
        (lambda: Integer("a", 0, 2**25), "2\\^24"),
        (lambda: Integer("a", 0, math.inf), "'a'"),
        (lambda: OneHot("a", 0), "category"),
        (lambda: OneHot("a", ["x", "x"]), "different"),
        (lambda: OneHot("a", "xyz"), "categories"),
        (lambda: OneHot("a", 2.0), "categories"),  # type: ignore[arg-type]
        (lambda: OneHot("a", True), "categories"),
        (lambda: Domain([]), "at least one"),
        (lambda: Domain([Continuous("a", 0, 1), Integer("a", 0, 1)]), "'a'"),
        (lambda: Domain(["a"]), "'a'"),  # type: ignore[list-item]
        (lambda: Domain([Continuous("a", 0, 1)], mean=[0, 0]), "mean"),
        (lambda: Domain([Continuous("a", 0, 1)], spread=[1, 1]), "spread"),
        (lambda: Domain([Continuous("a", 0, 1)], spread=[0]), "spread"),
        (lambda: Domain([Continuous("a", 0, 1)], spread=[-1]), "spread"),
        (lambda: Domain([Continuous("a", 0, 1)], mean=[math.nan]), "mean"),
        (lambda: Domain([OneHot("a", 2)], mean=[0.5, 0.5]), "one-hot"),
    ],
)
def test_domains_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
