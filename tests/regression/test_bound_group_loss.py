"""Fine-tuning to a bounded group loss: against the exact optimum of a linear model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import nn

import retrofair as rf
from retrofair.errors import InputError, RetrofairWarning
from retrofair.regression.losses import labels


def rows(n: int = 240, seed: int = 0) -> rf.GroupedData:
    """Two groups, a quarter in the second, whose best linear models disagree."""
    draw = np.random.default_rng(seed)
    group = (draw.random(n) < 0.25).astype(np.int64)
    x = draw.normal(size=(n, 3)).astype(np.float32)
    y = np.where(group == 1, 1 + x @ [-1, 1.0, 0], x @ [2, 1, 0.5]) + 0.5 * draw.normal(size=n)
    return rf.GroupedData(
        x=torch.from_numpy(x), y=torch.from_numpy(y), group=group, group_names=("a", "b")
    )


def linear(data: rf.GroupedData) -> nn.Module:
    """The linear model of least squares, which gives group b away."""
    x = np.c_[data.x.numpy(), np.ones(len(data))]
    weights = np.linalg.lstsq(x, labels(data), rcond=None)[0]
    net = nn.Linear(3, 1)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(weights[None, :3]))
        net.bias.copy_(torch.from_numpy(weights[3:]))
    return net


def optimum(data: rf.GroupedData, objective: rf.BoundedGroupLoss) -> float:
    """The least mean loss of a linear model whose groups keep the bound."""
    x, y = np.c_[data.x.numpy(), np.ones(len(data))], labels(data)
    groups = [data.group.numpy() == code for code in (0, 1)]
    n = len(y)
    if objective.loss == "squared":

        def over(w: np.ndarray, of: np.ndarray) -> float:
            return float(objective.bound - ((x[of] @ w - y[of]) ** 2).mean())

        found = minimize(
            lambda w: ((x @ w - y) ** 2).mean(),
            np.zeros(4),
            method="SLSQP",
            constraints=[{"type": "ineq", "fun": over, "args": (of,)} for of in groups],
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert found.success
        return float(found.fun)
    eye = np.eye(n)  # |error| <= slack, as a linear program
    limits = [np.r_[np.zeros(4), of / of.sum()] for of in groups]
    found = linprog(
        np.r_[np.zeros(4), np.full(n, 1 / n)],
        A_ub=np.r_[np.c_[x, -eye], np.c_[-x, -eye], limits],
        b_ub=np.r_[y, -y, objective.bound, objective.bound],
        bounds=[(None, None)] * 4 + [(0, None)] * n,
    )
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize(
    ("bound", "loss"), [(3.3, "squared"), (4.5, "squared"), (1.5, "absolute"), (20.0, "squared")]
)
def test_a_linear_model_gets_to_the_exact_optimum(bound: float, loss: str) -> None:
    data = rows()
    objective = rf.BoundedGroupLoss(bound, loss)
    # the same rows judge: the optimum is one of the rows that are given
    result = rf.bound_group_loss(
        linear(data), data, objective, valid=data, epochs=100, learning_rate=0.03
    )
    best = optimum(data, objective)
    found = rf.audit_regression(result.model, data, loss)
    assert result.status is rf.Status.MET
    assert max(each.loss.value for each in found.groups) <= bound
    assert best - 1e-6 <= found.overall.loss.value <= 1.005 * best
    assert bound == 20 or found.overall.loss.value > 1.05 * optimum(
        data, rf.BoundedGroupLoss(100.0, loss)
    )  # the bound costs something, or this would show nothing


def quick(net: nn.Module, data: rf.GroupedData, bound: float, **options: object) -> rf.BoundedLoss:
    settings = {"epochs": 20, "learning_rate": 0.03} | options
    return rf.bound_group_loss(net, data, rf.BoundedGroupLoss(bound), **settings)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1)
        )


@pytest.mark.parametrize("bound", [0.01, 3.0, 100.0])
def test_the_result_is_never_worse_on_the_data_it_was_given(bound: float) -> None:
    data, objective = rows(), rf.BoundedGroupLoss(bound)
    for net, rate in ((linear(data), 0.03), (network(), 0.01), (network(), 5.0)):
        result = quick(net, data, bound, learning_rate=rate)
        ranks = []
        for each in (net.eval(), result.model):
            found = rf.audit_regression(each, data)
            losses = np.array([group.loss.value for group in found.groups])
            ranks.append(objective.rank(losses, found.overall.loss.value))
        assert ranks[1] >= ranks[0]


def test_the_same_seed_gives_the_same_weights_and_the_input_stays() -> None:
    data, net = rows(), network().train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again = quick(net, data, 3.0, seed=1), quick(net, data, 3.0, seed=1)
    other = quick(net, data, 3.0, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert net.training
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in state.items())
    assert first.history == again.history
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    assert not torch.equal(first.model[0].weight, other.model[0].weight)


def test_a_third_of_every_group_judges_and_gives_no_gradient() -> None:
    data = rows()
    counts = torch.bincount(data.group).tolist()
    result = quick(linear(data), data, 3.0)
    assert [each.rows for each in result.after.groups] == [count // 3 for count in counts]
    assert result.about["rows"] + result.about["judged_rows"] == len(data)
    assert result.about["held_out"] is True


def test_rows_learnt_by_heart_do_not_meet_a_bound() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = rf.GroupedData(
        x=torch.randn(90, 20, generator=draw),
        y=torch.randn(90, generator=draw),
        group=torch.arange(90) % 2,
        group_names=("a", "b"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
    result = quick(net, noise, 0.3, epochs=60, learning_rate=0.01)
    assert result.status in (rf.Status.NOT_MET, rf.Status.DEGENERATE)
    assert "The bound of 0.3 was not reached" in result.notes[0]


def test_only_the_last_layers_change_when_asked() -> None:
    data, net = rows(), network()
    result = quick(net, data, 3.0, layers=1)
    assert torch.equal(net[0].weight, result.model[0].weight)
    assert torch.equal(net[1].running_mean, result.model[1].running_mean)
    assert not torch.equal(net[4].weight, result.model[4].weight)
    with pytest.raises(rf.InputError, match="expected layers from 1 to"):
        quick(net, data, 3.0, layers=9)


def test_a_constant_is_flagged_as_degenerate() -> None:
    data = rows()
    net = nn.Linear(3, 1)
    nn.init.zeros_(net.weight)
    result = quick(net, data, 100.0, learning_rate=1e-6)
    assert result.status is rf.Status.DEGENERATE
    assert any("A constant keeps the bound" in note for note in result.notes)


def test_a_result_survives_a_save_and_load(tmp_path: Path) -> None:
    data, net = rows(), network()
    result = quick(net, data, 3.0)
    read = rf.load_bounded_loss(result.save(tmp_path / "out"), net)
    assert torch.equal(read.predict(data.x), result.predict(data.x))
    assert (read.status, read.after, read.before) == (result.status, result.after, result.before)
    assert (read.history, read.notes, read.objective) == (
        result.history,
        result.notes,
        result.objective,
    )
    with pytest.raises(rf.InputError, match="do not fit this network"):
        rf.load_bounded_loss(tmp_path / "out", nn.Linear(3, 1))
    with pytest.raises(rf.InputError, match="is not there"):
        rf.load_bounded_loss(tmp_path, net)
    (tmp_path / "out" / "bounded_loss.json").write_text("{}")
    with pytest.raises(rf.InputError, match="damaged"):
        rf.load_bounded_loss(tmp_path / "out", net)


def test_small_and_empty_groups_are_noted() -> None:
    data = rows()
    few = torch.cat([torch.nonzero(data.group == 0)[:, 0], torch.nonzero(data.group == 1)[:9, 0]])
    result = quick(linear(data), data[few], 3.0)
    assert any("Group 'b' has only 3 rows" in note for note in result.notes)
    alone = quick(linear(data), data[data.group == 0], 3.0)
    assert alone.status is rf.Status.MET
    assert any("Group 'b' has no rows" in note for note in alone.notes)


def test_divergence_is_a_note_and_the_best_weights_are_kept() -> None:
    data = rows()
    net = linear(data)
    result = quick(net, data, 3.0, learning_rate=1e30)
    assert any("diverged" in note for note in result.notes)
    assert torch.isfinite(result.predict(data.x)).all()


def test_bad_input_is_refused() -> None:
    data, net = rows(), network()
    objective = rf.BoundedGroupLoss(3.0)
    for bound in (0, -1.0, float("inf"), float("nan"), "4", True):
        with pytest.raises(rf.InputError, match="expected a bound above 0"):
            rf.BoundedGroupLoss(bound)
    with pytest.raises(rf.InputError, match="did you mean 'squared'"):
        rf.BoundedGroupLoss(1.0, "square")
    with pytest.raises(rf.InputError, match="take one output at a time"):
        rf.bound_group_loss(nn.Linear(3, 2), data, objective)
    with pytest.raises(rf.InputError, match="expected an objective such as BoundedGroupLoss"):
        rf.bound_group_loss(net, data, rf.Constrained("spd"))
    with pytest.raises(rf.InputError, match="expected data with rows"):
        rf.bound_group_loss(net, data[:0], objective)
    other = rf.GroupedData(x=data.x, y=data.y, group=data.group, group_names=("c", "d"))
    with pytest.raises(rf.InputError, match=r"expected valid with the groups \['a', 'b'\]"):
        rf.bound_group_loss(net, data, objective, valid=other)
    for options in ({"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0}, {"layers": 0}):
        with pytest.raises(rf.InputError, match=f"expected {next(iter(options))}"):
            rf.bound_group_loss(net, data, objective, **options)
    spoilt = rows()
    spoilt.y[3] = float("nan")
    with pytest.raises(rf.InputError, match="expected finite numbers as y, got 1"):
        rf.bound_group_loss(net, spoilt, objective)


def test_a_classification_label_is_a_legal_number() -> None:
    data = rows()
    binary = rf.GroupedData(
        x=data.x, y=(data.y > 0).long(), group=data.group, group_names=data.group_names
    )
    result = quick(network(), binary, 0.25)
    assert result.after.overall.loss.value < 0.25


def test_debias_names_the_way_for_a_regression_target() -> None:
    with pytest.raises(rf.InputError, match="bound_group_loss"):
        rf.debias(network(), rows(), rf.Constrained("spd"))


def test_the_best_constant_is_at_least_as_good_as_any_of_a_grid() -> None:
    data = rows()
    y, group = labels(data) + 3 * data.group.numpy(), data.group.numpy()
    grid = np.linspace(y.min(), y.max(), 1_001)
    for loss, bounds in (("squared", (2.0, 7.0, 9.0, 50.0)), ("absolute", (0.5, 2.2, 2.6, 9.0))):
        for bound in bounds:
            objective = rf.BoundedGroupLoss(bound, loss)
            ranks = [objective.rank(*objective.of(c - y, group, 2)) for c in grid]
            constant = objective.constant(y, group, 2)
            found = objective.rank(*objective.of(constant - y, group, 2))
            best = max(ranks)
            assert found[0] == best[0]
            assert best[1] - 1e-6 <= found[1] <= best[1] + 0.1


def test_rows_that_are_read_as_they_are_needed() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=generator)
    group = (torch.arange(300) % 4 == 0).long()
    data = rf.GroupedData(x=x, y=x[:, group].diagonal(), group=group, group_names=("a", "b"))
    stream = rf.StreamedData.of(
        list(zip(data.x, data.y, data.group, strict=True)), data.group_names, batch_rows=50
    )
    net, objective = torch.nn.Linear(2, 1), rf.BoundedGroupLoss(0.9)
    one, other = (
        rf.bound_group_loss(net, rows, objective, learning_rate=0.05, epochs=20, layers=1)
        for rows in (data, stream)
    )
    assert other.after.worst_loss.value == pytest.approx(one.after.worst_loss.value)
    assert rf.audit_regression(net, stream).worst == rf.audit_regression(net, data).worst


class Short(nn.Module):
    """A linear model, with memory for gradients of `most` rows."""

    def __init__(self, data: rf.GroupedData, most: int) -> None:
        super().__init__()
        self.most, self.linear = most, linear(data)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        out: torch.Tensor = self.linear(x)
        return out


@pytest.mark.parametrize("layers", [None, 1])
def test_a_minibatch_in_parts_where_memory_runs_out(layers: int | None) -> None:
    data, objective = rows(), rf.BoundedGroupLoss(3.3)
    options = {"epochs": 3, "learning_rate": 0.03, "layers": layers}
    whole = rf.bound_group_loss(Short(data, 1000), data, objective, **options)
    with pytest.warns(RetrofairWarning, match="with 32 in each part of a minibatch; .*batch_size="):
        parts = rf.bound_group_loss(Short(data, 40), data, objective, **options)
    for one, other in zip(parts.history, whole.history, strict=True):
        assert one["mean_loss"] == pytest.approx(other["mean_loss"], rel=1e-4)
    with pytest.warns(RetrofairWarning), pytest.raises(InputError, match="this network on a row"):
        rf.bound_group_loss(Short(data, 0), data, objective, **options)
