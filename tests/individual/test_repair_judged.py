"""What a repaired network is worth on rows: figures, their intervals, and rows that do not do."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair.individual import repair
from retrofair.individual.judged import Judge, limits_of_mean

PEOPLE = rf.Domain([rf.Continuous("skill", -2, 2), rf.Integer("sex", 0, 1, sensitive=True)])


def people(n: int = 120) -> rf.GroupedData:
    g = torch.Generator().manual_seed(0)
    x = torch.stack([torch.rand(n, generator=g) * 4 - 2, torch.arange(n) % 2.0], 1)
    y = (x[:, 0] + torch.randn(n, generator=g) > 0).long()
    return rf.GroupedData(x=x, y=y, group=x[:, 1].long(), group_names=("F", "M"))


def net(outputs: int = 1, *tail: nn.Module) -> nn.Sequential:
    first = nn.Linear(2, outputs)
    with torch.no_grad():
        first.weight.zero_()
        first.weight[-1].copy_(torch.tensor([2.0, 1.0]))
        first.bias.fill_(0.1)
        first.bias[:-1] = 0.0
    return nn.Sequential(first, *tail)


def judged(network: nn.Module, rows, outputs=None):
    return Judge.of(rows, network, PEOPLE, outputs)(network)


def test_intervals_are_those_of_an_audit():
    data = people()
    seen = judged(net(), data)
    audit = rf.audit(net(), data)
    for name in ("balanced_accuracy", "accuracy"):
        low, high = getattr(seen, f"{name}_interval")
        assert getattr(seen, name) == audit[name].value
        assert (low, high) == pytest.approx((audit[name].low, audit[name].high))
        assert low < audit[name].value < high
    assert seen.rows == 120
    assert all(math.isnan(each) for each in seen.mse_interval)


def test_the_interval_of_an_error_is_near_that_of_a_bootstrap():
    g = np.random.default_rng(0)
    values = g.exponential(2.0, 400)
    low, high = limits_of_mean(torch.from_numpy(values))
    means = g.choice(values, (4000, 400)).mean(1)
    assert low == pytest.approx(np.quantile(means, 0.025), rel=0.03)
    assert high == pytest.approx(np.quantile(means, 0.975), rel=0.03)
    assert limits_of_mean(torch.zeros(5)) == (0.0, 0.0)
    assert math.isnan(limits_of_mean(torch.ones(1))[0])


def test_a_pair_of_tensors_is_judged_as_grouped_data_are():
    data = people()
    pair = data.x, data.y.float()
    assert judged(net(), pair) == judged(net(), data)
    with pytest.raises(rf.InputError, match="outputs='values'"):
        judged(net(), (data.x, torch.linspace(0, 5, 120)))
    seen = judged(net(), (data.x, torch.linspace(0, 5, 120)), "values")
    assert seen.regression
    assert math.isnan(seen.balanced_accuracy)
    assert seen.mse_interval[0] < seen.mse < seen.mse_interval[1]


def test_a_repair_with_a_pair_to_validate_stays_a_classification():
    data = people()
    found = repair(
        net(), data, PEOPLE, rf.WeightedLp(math.inf), 0.1, 0.9, valid=(data.x, data.y), seconds=5
    )
    assert not found.regression
    assert found.certificate.outputs == "probabilities"
    assert found.history[0].performance == judged(net(), data)


def test_the_best_constant_has_half_the_balanced_accuracy_for_sure():
    seen = Judge.of(people(), net(), PEOPLE, None).constant()
    assert seen.balanced_accuracy_interval == (0.5, 0.5)
    assert not seen.degenerate


def test_rows_that_nothing_can_be_judged_by_are_refused():
    data = people()
    with pytest.raises(rf.InputError, match="validation rows of both classes, got only label 1"):
        judged(net(), data[torch.where(data.y == 1)[0]])
    with pytest.raises(rf.InputError, match=r"at least two validation rows.*got 1"):
        judged(net(), data[:1])
    with pytest.raises(rf.InputError, match=r"at least two validation rows.*got 1"):
        judged(net(), (data.x[:1], torch.ones(1)), "values")
    numbers = dataclasses.replace(data, y=torch.linspace(0, 5, 120))
    with pytest.raises(rf.InputError, match=r"labels 0 and 1.*outputs='values'"):
        judged(net(), numbers)


@pytest.mark.parametrize(
    ("network", "outputs", "what"),
    [
        (net(3), None, "3 classes"),
        (net(2, nn.Sigmoid()), None, "2 sigmoids"),
        (net(2), "values", "2 values"),
    ],
    ids=["classes", "sigmoids", "values"],
)
def test_networks_whose_performance_has_several_figures_are_refused(network, outputs, what):
    with pytest.raises(rf.InputError, match=rf"one output .*got {what}"):
        judged(network, people(), outputs)


def test_two_classes_are_judged_by_the_second():
    data, expected = people(), judged(net(), people())
    for tail in ((), (nn.Softmax(1),), (nn.LogSoftmax(1),)):
        network = net(2, *tail)
        for each in (network, copy.deepcopy(network).double()):
            seen = judged(each, data)
            assert seen.balanced_accuracy == expected.balanced_accuracy
            assert seen.spread == pytest.approx(expected.spread, abs=1e-6)


def test_a_network_that_is_none_is_refused():
    with pytest.raises(rf.InputError, match="Module"):
        repair("net", people(), PEOPLE, rf.WeightedLp(math.inf), 0.1, 0.1)
