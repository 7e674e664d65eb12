"""Bad input to `debias`: one clear error each."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair.errors import InputError

SPD = rf.Constrained("spd", epsilon=0.05)


def fails(message, net, data, objective=SPD, method="threshold", **options):
    with pytest.raises(InputError, match=message) as caught:
        rf.debias(net, data, objective, method, **options)
    assert "\n" not in str(caught.value)


def test_unknown_names_come_with_the_nearest(splits, trained):
    fails(r"unknown method 'randon': did you mean 'random'\?", trained, splits.valid, SPD, "randon")
    with pytest.raises(InputError, match=r"did you mean 'spd'\?"):
        rf.Constrained("sdp")
    with pytest.raises(InputError, match=r"did you mean 'balanced_accuracy'\?"):
        rf.Constrained("spd", performance="balanced_acuracy")


@pytest.mark.parametrize("epsilon", [0, -0.1, 1.5, float("nan")])
def test_epsilon_out_of_range(epsilon):
    with pytest.raises(InputError, match=r"expected epsilon in \(0, 1\]"):
        rf.Constrained("spd", epsilon=epsilon)


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_lambda_out_of_range(lam):
    with pytest.raises(InputError, match=r"expected lam in \[0, 1\]"):
        rf.Weighted("spd", lam=lam)


def test_one_class(splits, trained):
    ones = splits.valid[splits.valid.y == 1]
    fails("both classes.*got only 1", trained, ones)


def test_one_group(splits, trained):
    fails("at least two groups", trained, splits.valid[splits.valid.group == 1])


def test_a_group_without_positives_where_the_measure_needs_them(splits, trained):
    data = splits.valid[(splits.valid.group == 1) | (splits.valid.y == 0)]
    fails("with positives", trained, data, rf.Constrained("eod"))
    assert rf.debias(trained, data, SPD, "threshold").status


def test_labels_that_are_not_classes(splits, trained):
    data = dataclasses.replace(splits.valid, y=torch.rand(len(splits.valid)))
    fails("0/1 labels", trained, data)


def test_a_network_that_does_not_fit(splits, trained):
    fails("takes x of shape", nn.Linear(4, 1), splits.valid)
    fails(r"one logit per row.*got \(\d+, 2\)", nn.Linear(9, 2), splits.valid)
    fails("expected a torch.nn.Module", object(), splits.valid)
    broken = nn.Linear(9, 1)
    nn.init.constant_(broken.weight, float("nan"))
    fails("finite scores", broken, splits.valid)


def test_lazy_layers_that_never_ran_are_refused_and_left_as_they_are(splits):
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
    words, state = "lazy ones without values, 1.weight, 1.bias: .* net", torch.get_rng_state()
    fails(words, net, splits.valid)
    fails(words, net, splits.valid, method="random", head_only=True)
    for ask in (rf.audit, rf.frontier, rf.audit_regression):
        with pytest.raises(InputError, match=words):
            ask(net, splits.valid)
    assert nn.parameter.is_lazy(net[1].weight)
    assert torch.equal(torch.get_rng_state(), state)
    net(splits.valid.x[:2])
    assert len(rf.debias(net, splits.valid, SPD, "threshold").predict(splits.test.x[:5])) == 5


def test_what_is_not_data_or_an_objective(splits, trained):
    fails("expected GroupedData", trained, [1, 2, 3])
    fails("expected an objective", trained, splits.valid, "spd")
    fails("method's name or a debiaser", trained, splits.valid, SPD, 3)
    fails("method's name or a debiaser", trained, splits.valid, SPD, rf.debiasers.Random)
    for seed in (-1, None, 1.5, 2**70):
        fails("expected a seed", trained, splits.valid, seed=seed)


def test_probabilities_are_detected_and_said(splits):
    class Squashed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(9, 1)

        def forward(self, x):
            return torch.sigmoid(self.layer(x))

    net = Squashed()
    with pytest.warns(
        rf.RetrofairWarning, match="taken as probabilities; decide it with outputs='logits'"
    ):
        result = rf.debias(net, splits.valid, SPD, "threshold")
    assert result.about["outputs"] == "probabilities"
    assert (
        rf.debias(net, splits.valid, SPD, "threshold", outputs="logits").about["outputs"]
        == "logits"
    )
    fails("expected probabilities", nn.Linear(9, 1), splits.valid, outputs="probabilities")


def test_a_degenerate_result_is_called_so(splits):
    """Scores that only know the group: the bound leaves nothing but a constant."""
    data = splits.valid
    leak = dataclasses.replace(data, x=data.group[:, None].float(), feature_names=())
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.bias.fill_(-1.0)
    result = rf.debias(net, leak, SPD, "threshold")
    assert result.status is rf.Status.DEGENERATE
    assert result.after.performance == pytest.approx(0.5)


def test_the_papers_weighted_objective_rewards_refusing_everybody(splits):
    """With rare positives the constant classifier beats the network: flagged, not celebrated."""
    torch.manual_seed(0)
    n = 4000
    group = torch.arange(n) % 2
    y = (torch.rand(n) < 0.05).long()
    x = torch.randn(n, 1) + y[:, None] + 2.0 * group[:, None]
    data = rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        net.bias.fill_(-3.0)
    result = rf.debias(net, data, rf.Weighted("spd", lam=0.75), "threshold")
    assert result.status is rf.Status.DEGENERATE
    assert result.constant.objective == pytest.approx(0.25 * float(y.float().mean()))


def test_predict_takes_what_people_have_and_says_what_is_wrong(splits, trained):
    result = rf.debias(trained, splits.valid, SPD, "threshold")
    x = splits.test.x[:50]
    expected = result.predict(x)
    assert torch.equal(result.predict(x.numpy()), expected)
    assert torch.equal(result.predict(x.double()), expected)
    broken = x.clone()
    broken[3, 0] = float("nan")
    for bad, message in (
        (broken, "finite scores"),
        (x[:, :4], "takes x of shape"),
        (splits.test, r"predict_data\(data\)"),
        (object(), "tensor or an array"),
    ):
        with pytest.raises(InputError, match=message):
            result.predict(bad)


class Frozen(nn.Module):
    """A network that somebody froze, in double precision, with a single layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(9, 1).double().requires_grad_(False)

    def forward(self, x):
        return self.layer(input=x.double())


@pytest.mark.parametrize("name", [known.name for known in rf.debiasers.ALL])
def test_frozen_double_single_layer_networks(name, quick, splits):
    torch.manual_seed(0)
    net = Frozen()
    result = rf.debias(net, splits.valid, SPD, quick[name])
    assert result.predict(splits.test.x, splits.test.group).shape == (len(splits.test),)
    assert not net.layer.weight.requires_grad


def test_a_favoured_third_group_is_bias_too():
    """Ratios look at both sides: the objective must not call this fair."""
    import numpy as np

    counts = np.array([[[80, 20], [0, 0]], [[0, 100], [0, 0]], [[80, 20], [0, 0]]])
    measure = rf.metrics.get("disparate_impact")
    assert float(measure(counts)) == pytest.approx(1.0)
    assert float(measure.bias(counts)) == pytest.approx(0.8)
    assert not rf.Constrained("disparate_impact", epsilon=0.5).feasible(counts)
