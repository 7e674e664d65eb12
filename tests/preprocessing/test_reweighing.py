"""Reweighing: against counting and AIF360, and what the weights do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from retrofair.data import GroupedData
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks import train_mlp
from retrofair.preprocessing import resample, reweighing


def people(seed: int, n: int = 200, groups: int = 2) -> GroupedData:
    rng = np.random.default_rng(seed)
    group = rng.integers(groups, size=n)
    y = (rng.random(n) < 0.2 + 0.5 * group / groups).astype(int)
    names = tuple("abcd"[:groups])
    x = rng.normal(size=(n, 3)) + group[:, None]
    return GroupedData(x=torch.tensor(x).float(), y=y, group=group, group_names=names)


def counted(data: GroupedData) -> list[float]:
    """P(g) P(y) / P(g, y), a row at a time."""
    rows = list(zip(data.group.tolist(), data.y.tolist(), strict=True))
    n = len(rows)
    return [
        (sum(a == g for a, _ in rows) / n)
        * (sum(b == k for _, b in rows) / n)
        / (rows.count((g, k)) / n)
        for g, k in rows
    ]


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_weights_are_those_of_counting(groups: int) -> None:
    data = people(groups, groups=groups)
    assert reweighing(data).tolist() == pytest.approx(counted(data), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_aif360(seed: int) -> None:
    pytest.importorskip("aif360.datasets")
    from aif360.algorithms.preprocessing import Reweighing
    from aif360.datasets import BinaryLabelDataset

    data = people(seed)
    table = BinaryLabelDataset(
        df=pd.DataFrame({"g": data.group.double().numpy(), "y": data.y.double().numpy()}),
        label_names=["y"],
        protected_attribute_names=["g"],
    )
    theirs = Reweighing([{"g": 0}], [{"g": 1}]).fit_transform(table).instance_weights
    assert reweighing(data).tolist() == pytest.approx(theirs.tolist(), rel=1e-6)


@pytest.mark.parametrize("groups", [2, 3])
def test_group_and_label_are_independent_under_the_weights(groups: int) -> None:
    data = people(7, groups=groups)
    weights = reweighing(data).double()
    rates = [
        float((weights * data.y)[data.group == g].sum() / weights[data.group == g].sum())
        for g in range(groups)
    ]
    assert rates == pytest.approx([float(data.y.double().mean())] * groups, abs=1e-6)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-6)


def test_drawing_by_the_weights_brings_the_rates_together() -> None:
    data = people(1, n=500)
    drawn = resample(data, reweighing(data), rows=40_000)
    before, after = (
        float(d.y[d.group == 1].double().mean() - d.y[d.group == 0].double().mean())
        for d in (data, drawn)
    )
    assert abs(before) > 0.15
    assert abs(after) < 4 * (0.25 / 20_000 * 2) ** 0.5  # four standard errors


def test_nobody_of_a_group_with_a_label_is_said() -> None:
    data = people(0)
    data.y[data.group == 0] = 1
    with pytest.warns(RetrofairWarning, match="nobody of group 'a' has label 0"):
        weights = reweighing(data)
    assert torch.isfinite(weights).all()


def test_an_absent_group_takes_no_part() -> None:
    data = people(0)
    wider = GroupedData(x=data.x, y=data.y, group=data.group, group_names=("a", "b", "none"))
    assert torch.equal(reweighing(wider), reweighing(data))


def test_what_cannot_be_reweighed() -> None:
    data = people(0)
    numbers = GroupedData(
        x=data.x, y=torch.randn(200), group=data.group, group_names=data.group_names
    )
    with pytest.raises(InputError, match="at most 50 classes, got 200 different"):
        reweighing(numbers)
    with pytest.raises(InputError, match="with rows, got none"):
        reweighing(data[:0])


def test_training_with_the_weights_narrows_the_gap() -> None:
    data, fresh = people(2, n=2000), people(3, n=2000)
    for part in (data, fresh):
        part.x[:, 0] = part.group  # the network sees the group
    gaps = []
    for weights in (None, reweighing(data)):
        net = train_mlp(
            data,
            fresh,
            depth=0,
            batch_size=2000,
            max_epochs=300,
            learning_rate=0.05,
            weights=weights,
        )
        with torch.no_grad():
            chance = torch.sigmoid(net(fresh.x))
        one, other = (float(chance[fresh.group == g].mean()) for g in (1, 0))
        gaps.append(one - other)
    assert gaps[0] > 0.15
    assert abs(gaps[1]) < gaps[0] / 2
