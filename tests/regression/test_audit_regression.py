"""The audit of a regression network: by hand, against scikit-learn, and its intervals by draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from torch import nn

import retrofair as rf
from retrofair.regression.losses import mean_of


def rows(n: int = 200) -> rf.GroupedData:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, generator=draw)
    group = (torch.arange(n) % 4 == 0).long()
    y = x[:, 0] + (1 + group) * torch.randn(n, generator=draw)
    return rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_losses_are_those_of_scikit_learn(loss: str) -> None:
    data = rows()
    found = rf.audit_regression(nn.Identity(), data, loss)
    twin = mean_squared_error if loss == "squared" else mean_absolute_error
    y, said, group = data.y.double(), data.x[:, 0].double(), data.group
    constant = y.mean() if loss == "squared" else np.median(y)
    for code, each in enumerate(found.groups):
        of = group == code
        assert each.rows == int(of.sum())
        assert each.loss.value == pytest.approx(twin(y[of], said[of]))
        assert each.error.value == pytest.approx(float((said - y)[of].mean()))
        assert each.constant_loss == pytest.approx(twin(y[of], np.full(int(of.sum()), constant)))
    assert found.overall.loss.value == pytest.approx(twin(y, said))
    assert found.worst == "b"
    assert found.worst_loss.value == found["b"].loss.value
    assert found.worst_loss.low < found["b"].loss.low
    assert found.worst_loss.high > found["b"].loss.high


def test_the_table_has_every_group_and_all_rows() -> None:
    found = rf.audit_regression(nn.Identity(), rows())
    frame = found.to_frame()
    assert list(frame["group"]) == ["a", "b", "(all)"]
    assert frame["rows"].tolist() == [150, 50, 200]
    assert (frame["loss_low"] < frame["loss"]).all()
    assert "worst group: b" in str(found)
    with pytest.raises(rf.InputError, match="unknown group"):
        found["c"]


def test_small_and_empty_groups_and_useless_networks_are_flagged() -> None:
    data = rows()
    a_only = data[data.group == 0]
    found = rf.audit_regression(nn.Identity(), a_only)
    assert math.isnan(found["b"].loss.value)
    assert found.worst == "a"
    assert "Group 'b' has no rows" in found.flags[0]
    found = rf.audit_regression(nn.Identity(), data[:40])
    assert any("Group 'b' has only 10 rows" in flag for flag in found.flags)
    one = torch.cat([torch.nonzero(data.group == 0)[:, 0], torch.nonzero(data.group == 1)[:1, 0]])
    flags = rf.audit_regression(nn.Identity(), data[one]).flags
    assert any("Group 'b' has one row: its loss may be anywhere." in flag for flag in flags)
    assert not any("nan" in flag for flag in flags)
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, -5.0)
    assert rf.audit_regression(net, data).flags[-1].startswith("Over all rows")


def test_a_constant_of_other_rows_can_be_given() -> None:
    data = rows()
    found = rf.audit_regression(nn.Identity(), data, constant=2.0)
    assert found.overall.constant_loss == pytest.approx(float(((data.y - 2) ** 2).mean()))
    for wrong in (float("nan"), "2"):
        with pytest.raises(rf.InputError, match="expected a finite number as the constant"):
            rf.audit_regression(nn.Identity(), data, constant=wrong)


def test_networks_that_give_no_single_number_are_refused() -> None:
    data = rows()
    with pytest.raises(rf.InputError, match="take one output at a time"):
        rf.audit_regression(nn.Linear(1, 3), data)
    with pytest.raises(rf.InputError, match="but it fails"):
        rf.audit_regression(nn.Linear(2, 1), data)
    with pytest.raises(rf.InputError, match="unknown loss"):
        rf.audit_regression(nn.Identity(), data, "huber")
    with pytest.raises(rf.InputError, match="expected GroupedData"):
        rf.audit_regression(nn.Identity(), data.x)


def coverage(draws: np.ndarray, mean: float) -> float:
    found = [mean_of(each, least=0.0) for each in draws]
    return float(np.mean([each.low <= mean <= each.high for each in found]))


@pytest.mark.parametrize(("n", "least"), [(10, 0.915), (30, 0.93), (200, 0.935)])
def test_intervals_of_squared_normal_errors_cover(n: int, least: float) -> None:
    draws = np.random.default_rng(0).normal(size=(2000, n)) ** 2
    assert least <= coverage(draws, 1.0) <= 0.965


def test_intervals_of_absolute_errors_cover() -> None:
    draws = np.abs(np.random.default_rng(0).normal(size=(2000, 30)))
    assert 0.94 <= coverage(draws, math.sqrt(2 / math.pi)) <= 0.97


def test_an_interval_without_skewness_is_students() -> None:
    found = mean_of(np.array([-1.0, 0.0, 1.0, -2.0, 2.0]))
    half = 2.7764451 * math.sqrt(2.5 / 5)  # Student's quantile with 4 degrees of freedom
    assert (found.low, found.high) == pytest.approx((-half, half))


def test_intervals_of_very_few_rows() -> None:
    assert math.isnan(mean_of(np.array([])).value)
    one = mean_of(np.array([2.0]))
    assert one.value == 2.0
    assert math.isnan(one.low)
    alike = mean_of(np.full(5, 0.1))
    assert alike.low == alike.value == alike.high
    two = mean_of(np.array([1.0, 2.0]), least=0.0)
    assert 0 == two.low < two.value < two.high
