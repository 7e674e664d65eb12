"""Fine-tuning down a smooth bias: it is the measure's, and its price does what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import retrofair as rf
from retrofair import metrics
from retrofair.debiasers import BiasGradient, Lagrangian
from retrofair.debiasers.smooth import soft_bias, soft_bias_of_classes, soft_counts
from retrofair.errors import InputError


@pytest.mark.parametrize("measure", [known.name for known in metrics.ALL])
@pytest.mark.parametrize("groups", [2, 4])
def test_the_smooth_bias_of_hard_decisions_is_the_bias(measure: str, groups: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        y, group = rng.integers(2, size=200), rng.integers(groups, size=200)
        decided = (rng.random(200) < 0.4).astype(int)
        expected = metrics.get(measure).bias(metrics.count(y, decided, group, groups))
        given = [torch.from_numpy(values) for values in (decided, y, group)]
        counts = soft_counts(given[0].float(), given[1], given[2], groups)
        assert (counts.numpy() == metrics.count(y, decided, group, groups)).all()
        assert float(soft_bias(metrics.get(measure), counts)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("measure", [known.name for known in metrics.ALL])
def test_the_smooth_bias_of_hard_classes_is_that_of_the_worst(measure: str) -> None:
    rng = np.random.default_rng(0)
    y, decided, group = (rng.integers(k, size=300) for k in (4, 4, 3))
    counts = metrics.count_classes(y, decided, group, 3, 4)
    worst = metrics.of_classes(metrics.get(measure))
    hard = torch.eye(4)[torch.from_numpy(decided)]
    found = soft_bias_of_classes(worst, hard, torch.from_numpy(y), torch.from_numpy(group), 3)
    assert float(found) == pytest.approx(float(worst.bias(counts)), abs=1e-6)


@pytest.mark.parametrize("measure", [known.name for known in metrics.ALL])
def test_its_slope_is_that_of_differences(measure: str) -> None:
    torch.manual_seed(0)
    y, group = torch.randint(2, (60,)), torch.randint(3, (60,))
    decided = torch.rand(60, dtype=torch.float64).requires_grad_()

    def bias(h: torch.Tensor) -> torch.Tensor:
        return soft_bias(metrics.get(measure), soft_counts(h.float(), y, group, 3))

    (slope,) = torch.autograd.grad(bias(decided), decided)
    step = 0.05 * slope / slope.norm()
    assert float(bias((decided - step).detach())) < float(bias(decided.detach()))


def test_groups_without_rows_count_for_nothing() -> None:
    counts = torch.zeros(3, 2, 2)
    counts[0] = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    for known in metrics.ALL:
        assert float(soft_bias(known, counts)) == 0.0
    counts[1] = torch.tensor([[1.0, 1.0], [0.0, 4.0]])
    spread = metrics.get("demographic_parity_difference")
    assert float(soft_bias(spread, counts)) == pytest.approx(5 / 6 - 3 / 8)


def test_it_meets_a_bound_that_a_threshold_meets_only_near_the_constant(
    splits: rf.Splits, trained: torch.nn.Module
) -> None:
    objective = rf.Constrained("spd", epsilon=0.05)
    threshold = rf.debias(trained, splits.valid, objective, "threshold")
    found = rf.debias(trained, splits.valid, objective, Lagrangian(epochs=6, steps=60), seed=0)
    assert found.status is rf.Status.MET
    assert found.after.performance > threshold.after.performance + 0.02
    assert not found.needs_group


def test_the_price_rises_while_the_bound_is_broken_and_stays_for_a_weighted_objective(
    splits: rf.Splits, trained: torch.nn.Module
) -> None:
    short = Lagrangian(epochs=2, steps=20)
    found = rf.debias(trained, splits.valid, rf.Constrained("spd", epsilon=0.01), short)
    assert found.history[1]["price"] > 1
    weighted = rf.debias(trained, splits.valid, rf.Weighted("spd", lam=0.75), short)
    assert [each["price"] for each in weighted.history[1:]] == [pytest.approx(3.0)] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs and steps >= 1"),
        ({"batch_size": 1}, "batch_size >= 2"),
        ({"price_rate": 0.0}, "positive"),
        ({"early": 2.0}, "early in"),
    ],
)
def test_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Lagrangian(**options)  # type: ignore[arg-type]


def test_the_bias_gradient_alone_lowers_the_bias(
    splits: rf.Splits, trained: torch.nn.Module
) -> None:
    objective = rf.Constrained("spd", epsilon=0.05)
    threshold = rf.debias(trained, splits.valid, objective, "threshold")
    found = rf.debias(trained, splits.valid, objective, "bias_gradient", seed=0)
    assert found.status is rf.Status.MET
    assert found.after.performance > threshold.after.performance + 0.02
    biases = [abs(each["bias"]) for each in found.history]
    assert len(biases) == 41
    with pytest.raises(InputError, match="looks and steps"):
        BiasGradient(looks=0)
    with pytest.raises(InputError, match="positive"):
        BiasGradient(sharpness=0.0)
    with pytest.raises(InputError, match="early in"):
        BiasGradient(early=2.0)


@pytest.mark.parametrize("method", ["lagrangian", "bias_gradient"])
def test_a_network_without_weights(splits: rf.Splits, method: str) -> None:
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.linspace(-1, 1, splits.valid.x.shape[1]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    objective = rf.Constrained("spd", epsilon=0.05)
    with pytest.raises(InputError, match="expected a network with weights to change, got none"):
        rf.debias(Fixed(), splits.valid, objective, method, outputs="logits")


def test_the_bias_gradient_of_a_large_network_has_a_smaller_rate(
    splits: rf.Splits, trained: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, slow = rf.Constrained("spd", epsilon=0.05), BiasGradient(looks=3, large_rate=1e-5)
    plain = rf.debias(trained, splits.valid, objective, slow)
    monkeypatch.setattr("retrofair.debiasers.bias_gradient.SMALL", 10)
    large = rf.debias(trained, splits.valid, objective, slow)
    monkeypatch.undo()
    same = BiasGradient(looks=3, learning_rate=1e-5)
    assert large.history == rf.debias(trained, splits.valid, objective, same).history
    assert large.history != plain.history
