"""What every debiaser promises for three classes and more; the others say that they cannot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import retrofair as rf
from classes_cases import three_classes, trained_on
from retrofair import debiasers
from retrofair.debiasers.offsets import objective_of_classes
from retrofair.errors import InputError
from retrofair.metrics import count_classes

ANY = [d.name for d in debiasers.ALL if getattr(d, "classes", "two") == "any"]
TWO = [d.name for d in debiasers.ALL if d.name not in ANY]
CHANGING = [d.name for d in debiasers.ALL if d.name in ANY and d.changes_weights]
OBJECTIVE = rf.Constrained("spd", epsilon=0.05)


@pytest.fixture(scope="module")
def data() -> rf.GroupedData:
    return three_classes(1500, 1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_on(three_classes(2000, 0))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_methods_for_any_classes():
    assert {"fair_head", "random", "lagrangian", "threshold"} <= set(ANY)
    assert len(TWO) > 5


@pytest.mark.parametrize("name", TWO)
def test_a_method_for_two_classes_says_so(name, quick, data, net):
    with pytest.raises(InputError, match=f"0/1 for {name}, got 3 classes: choose from fair_head, "):
        rf.debias(net, data, OBJECTIVE, quick[name])


@pytest.mark.parametrize("name", ANY)
def test_the_input_and_the_global_state_stay_as_they_were(name, quick, data, net):
    before, state = weights(net), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    result = rf.debias(net, data, OBJECTIVE, quick[name])
    assert same(before, weights(net))
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
    assert not result.model.training
    assert not result.needs_group
    assert result.model(data.x).shape == (len(data), 3)


@pytest.mark.parametrize("name", ANY)
def test_the_same_seed_gives_the_same_result(name, quick, data, net):
    one, two = (rf.debias(net, data, OBJECTIVE, quick[name], seed=3) for _ in "12")
    assert same(weights(one.model), weights(two.model))
    assert one.rule == two.rule
    assert one.history == two.history
    if name in CHANGING:
        other = rf.debias(net, data, OBJECTIVE, quick[name], seed=4)
        assert one.history != other.history


@pytest.mark.parametrize("measure", ["eod", "equalized_odds_difference"])
@pytest.mark.parametrize("name", CHANGING)
def test_changed_weights_are_never_worse_than_the_best_offsets(name, measure, quick, data, net):
    for objective in (rf.Constrained(measure, epsilon=0.05), rf.Weighted(measure, lam=0.75)):
        rank = objective_of_classes(objective).rank
        base = rf.debias(net, data, objective, "threshold")
        result = rf.debias(net, data, objective, quick[name])
        assert rank(result.after.array) >= rank(base.after.array) >= rank(base.before.array)


@pytest.mark.parametrize("name", ANY)
def test_reported_scores_are_those_of_the_predictions(name, quick, data, net):
    result = rf.debias(net, data, OBJECTIVE, quick[name])
    decided = result.predict(data.x)
    assert decided.shape == (len(data),)
    assert decided.dtype == torch.int64
    assert set(decided.tolist()) <= {0, 1, 2}
    y, group = data.y.numpy(), data.group.numpy()
    counts = count_classes(y, decided.numpy(), group, 2, 3)
    if result.about["cross_fitted"]:
        assert abs(counts - result.after.array).sum() < 0.2 * len(data)
    else:
        assert (counts == result.after.array).all()
    first = net(data.x).argmax(1).numpy()
    assert (count_classes(y, first, group, 2, 3) == result.before.array).all()
    assert result.constant.performance == pytest.approx(1 / 3)
    assert result.status is rf.Status.MET
    assert result.after.bias < 0.05 < result.before.bias
    assert result.after.performance > 0.4
    chance, again = result.score_data(data)
    assert chance.shape == (len(data), 3)
    assert (again == decided.numpy()).all()
    assert chance.sum(1) == pytest.approx(1.0)
    with pytest.raises(InputError, match=r"decides by rule\.offsets"):
        _ = result.threshold


@pytest.mark.parametrize("name", ANY)
def test_a_result_survives_saving(name, quick, data, net, tmp_path: Path):
    result = rf.debias(net, data, OBJECTIVE, quick[name])
    again = rf.load_result(result.save(tmp_path / "out"), net)
    assert torch.equal(again.predict(data.x), result.predict(data.x))
    assert again.rule == result.rule
    assert again.after == result.after
    assert (again.after.array == result.after.array).all()


@pytest.mark.parametrize("name", ANY)
def test_many_groups_and_classes(name, quick):
    data = three_classes(3000, 2, groups=4)
    extra = (data.y == 2) & (data.x[:, 0] > 1.2)
    data = rf.GroupedData(
        x=data.x, y=data.y + extra.long(), group=data.group, group_names=data.group_names
    )
    result = rf.debias(
        trained_on(data, epochs=5), data, rf.Constrained("spd", epsilon=0.15), quick[name]
    )
    audit = rf.audit(result, data)
    assert len(audit.class_names) == 4
    assert audit["spd"].value >= 0


@pytest.mark.parametrize("name", ANY)
def test_any_module_such_as_a_convolutional_one(name, quick, data):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    )
    images = dataclasses.replace(data[:400], x=data.x[:400].reshape(-1, 1, 2, 2))
    result = rf.debias(net, images, rf.Constrained("aod", epsilon=0.1), quick[name])
    assert result.predict(images.x).shape == (400,)


@pytest.mark.parametrize("name", ANY)
def test_a_callable_measure_sees_the_classes(name, quick, data, net):
    def high_gap(y, prediction, group):
        return (prediction[group == 0] == 2).mean() - (prediction[group == 1] == 2).mean()

    rows = data[:300]
    result = rf.debias(net, rows, rf.Constrained(high_gap, epsilon=0.1), quick[name])
    found = rf.audit(result, rows, measures=[high_gap])["high_gap"].value
    seen = 0.08 if result.about["cross_fitted"] else 1e-9
    assert result.after.bias == pytest.approx(found, abs=seen)


@pytest.mark.parametrize("name", ANY)
def test_probabilities_are_taken_as_such(name, quick, data, net, tmp_path: Path):
    squashed = nn.Sequential(net, nn.Softmax(1))
    with pytest.warns(rf.RetrofairWarning, match="taken as probabilities"):
        result = rf.debias(squashed, data, OBJECTIVE, quick[name])
    assert result.about["outputs"] == "probabilities"
    plain = rf.debias(net, data, OBJECTIVE, quick[name])
    assert abs(plain.before.array - result.before.array).sum() <= 2
    again = rf.load_result(result.save(tmp_path / "out"), squashed)
    assert torch.equal(again.predict(data.x), result.predict(data.x))
