"""What every debiaser promises, run over `debiasers.ALL`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair import debiasers, metrics
from retrofair.errors import InputError
from retrofair.metrics import count

NAMES = [known.name for known in debiasers.ALL]
CHANGING = [known.name for known in debiasers.ALL if known.changes_weights]
OBJECTIVE = rf.Constrained("spd", epsilon=0.05)


class Image(nn.Module):
    """A small convolutional network, (n, 1, 3, 3) -> (n, 1), with layers in odd order."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.body = nn.Conv2d(1, 4, 2)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.body(x))).mean(dim=(2, 3)))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def as_images(data: rf.GroupedData) -> rf.GroupedData:
    return dataclasses.replace(data, x=data.x.reshape(-1, 1, 3, 3), feature_names=())


@pytest.mark.parametrize("name", NAMES)
def test_the_input_and_the_global_state_stay_as_they_were(name, quick, splits, trained):
    trained.train()
    trained.hidden[0].eval()
    before, modes = weights(trained), [m.training for m in trained.modules()]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()
    result = rf.debias(trained, splits.valid, OBJECTIVE, quick[name])
    assert same(before, weights(trained))
    assert modes == [m.training for m in trained.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert (numpy_state == np.random.get_state()[1]).all()
    assert result.model is not trained
    assert not result.model.training
    own = {value.data_ptr() for value in trained.state_dict().values()}
    assert not own & {value.data_ptr() for value in result.model.state_dict().values()}
    trained.eval()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_result_and_another_seed_another(name, quick, splits, trained):
    one, two = (rf.debias(trained, splits.valid, OBJECTIVE, quick[name], seed=3) for _ in "12")
    assert same(weights(one.model), weights(two.model))
    assert one.rule == two.rule
    assert one.history == two.history
    if name in CHANGING:
        other = rf.debias(trained, splits.valid, OBJECTIVE, quick[name], seed=4)
        assert one.history != other.history


@pytest.mark.parametrize("measure", ["spd", "eod", "aod", "equalized_odds_difference"])
@pytest.mark.parametrize("name", CHANGING)
def test_changed_weights_are_never_worse_than_the_best_threshold(
    name, measure, quick, splits, trained
):
    for objective in (rf.Constrained(measure, epsilon=0.03), rf.Weighted(measure, lam=0.75)):
        base = rf.debias(trained, splits.valid, objective, "threshold")
        result = rf.debias(trained, splits.valid, objective, quick[name])
        ranks = [objective.rank(r.after.array) for r in (base, result)]
        assert ranks[1] >= ranks[0]


@pytest.mark.parametrize("name", CHANGING)
def test_changed_weights_can_be_better(name, quick, splits, trained):
    longer = {
        "adversarial": debiasers.Adversarial(epochs=8, critic_steps=50, actor_steps=100),
        "zhang": debiasers.Zhang(epochs=8, critic_steps=50, actor_steps=100),
    }
    method = longer.get(name, quick[name])
    base = rf.debias(trained, splits.valid, OBJECTIVE, "threshold")
    result = rf.debias(trained, splits.valid, OBJECTIVE, method, seed=1)
    assert result.after.objective > base.after.objective
    assert not same(weights(trained), weights(result.model))


@pytest.mark.parametrize("name", NAMES)
def test_reported_scores_are_those_of_the_predictions(name, quick, splits, trained):
    data = splits.valid
    result = rf.debias(trained, data, OBJECTIVE, quick[name])
    group = data.group if result.needs_group else None
    decided = result.predict(data.x, group=group)
    assert decided.shape == (len(data),)
    assert set(decided.tolist()) <= {0, 1}
    counts = count(data.y.numpy(), decided.numpy(), data.group.numpy(), 2)
    if result.about["cross_fitted"]:  # then the account is of rows that were not seen
        assert abs(counts - result.after.array).sum() < 0.2 * len(data)
    else:
        assert (counts == result.after.array).all()
        assert result.after.bias == pytest.approx(float(OBJECTIVE.bias_measure(counts)))
    at_half = (torch.sigmoid(trained(data.x).double()) > 0.5).long().numpy()
    assert (count(data.y.numpy(), at_half, data.group.numpy(), 2) == result.before.array).all()
    if result.status is rf.Status.MET:
        assert abs(result.after.bias) < 0.05
    assert result.about["method"] == name
    assert result.history_frame()["objective"].notna().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_result_survives_saving(name, quick, splits, trained, tmp_path: Path):
    result = rf.debias(trained, splits.valid, OBJECTIVE, quick[name])
    again = rf.load_result(result.save(tmp_path / "out"), trained)
    assert torch.equal(
        again.predict(splits.test.x, splits.test.group),
        result.predict(splits.test.x, splits.test.group),
    )
    assert again.status is result.status
    assert again.threshold == result.threshold
    assert again.after == result.after
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["model.safetensors", "preparation.json", "result.json"]
    alone = rf.load_result(tmp_path / "out")  # the structure of our own networks is stored
    assert torch.equal(
        alone.predict(splits.test.x, splits.test.group),
        result.predict(splits.test.x, splits.test.group),
    )
    assert alone.preparation == splits.valid.preparation


@pytest.mark.parametrize("name", NAMES)
def test_many_groups(name, quick):
    parts = rf.datasets.load("synthetic", sensitive=["sex", "region"], n=3000, seed=1)
    net = rf.networks.train_mlp(parts.train, parts.valid, depth=1, width=8, max_epochs=5)
    result = rf.debias(net, parts.valid, rf.Constrained("spd", epsilon=0.1), quick[name])
    assert len(result.group_names) == 6
    assert rf.audit(result, parts.test)["spd"].value >= 0


@pytest.mark.parametrize("name", NAMES)
def test_any_module_such_as_a_convolutional_one(name, quick, splits):
    torch.manual_seed(0)
    data = as_images(splits.valid)
    result = rf.debias(Image(), data, rf.Constrained("aod", epsilon=0.1), quick[name])
    assert result.predict(data.x, group=data.group).shape == (len(data),)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_taken_as_such(name, quick, splits, trained):
    net = nn.Sequential(trained, nn.Sigmoid())
    with pytest.warns(rf.RetrofairWarning, match="taken as probabilities"):
        result = rf.debias(net, splits.valid, OBJECTIVE, quick[name])
    assert result.about["outputs"] == "probabilities"
    assert (
        np.abs(
            result.before.array
            - rf.debias(trained, splits.valid, OBJECTIVE, "threshold").before.array
        ).sum()
        <= 2
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_callable_measure(name, quick, splits, trained):
    def selection_gap(y, prediction, group):
        return prediction[group == 0].mean() - prediction[group == 1].mean()

    data = splits.valid[:300]
    objective = rf.Constrained(selection_gap, epsilon=0.1)
    result = rf.debias(trained, data, objective, quick[name])
    built_in = rf.audit_predictions(
        data.y, result.predict(data.x, data.group), data.group, measures=[selection_gap]
    )
    assert built_in["selection_gap"].value == pytest.approx(built_in["spd"].value)
    rows_seen = 0.05 if result.about["cross_fitted"] else 1e-9
    assert result.after.bias == pytest.approx(built_in["spd"].value, abs=rows_seen)


@pytest.mark.parametrize("known", debiasers.ALL, ids=NAMES)
def test_options_are_checked_and_cannot_be_changed(known):
    method = known()
    for field in dataclasses.fields(method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, None)
    with pytest.raises(TypeError):
        known(no_such_option=1)


BAD_OPTIONS = [
    (debiasers.Random, {"trials": 0}),
    (debiasers.Random, {"scale": 0.0}),
    (debiasers.Layerwise, {"evaluations": 0}),
    (debiasers.Layerwise, {"space": "layers"}),
    (debiasers.Layerwise, {"optimizer": "grbt"}),
    (debiasers.Layerwise, {"layers": 0}),
    (debiasers.Adversarial, {"epochs": 0}),
    (debiasers.Adversarial, {"batch_size": 1}),
    (debiasers.Adversarial, {"loss": "product2"}),
    (debiasers.Adversarial, {"critic": "pool"}),
    (debiasers.Adversarial, {"reads": "everything"}),
    (debiasers.Adversarial, {"lam": 1.5}),
    (debiasers.Zhang, {"alpha": -1.0}),
    (debiasers.Zhang, {"early": 2.0}),
    (debiasers.Zhang, {"learning_rate": 0.0}),
]


@pytest.mark.parametrize(("known", "options"), BAD_OPTIONS)
def test_a_bad_option_is_one_clear_error(known, options):
    with pytest.raises(InputError, match=r"expected|unknown"):
        known(**options)


@pytest.mark.parametrize("groups", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_every_result_says_what_it_did_to_each_group(name, groups, quick, splits, trained):
    data = splits.valid
    if groups > 2:
        code = torch.arange(len(data)) % 4
        group = torch.where(data.group == 0, code, 4)
        data = dataclasses.replace(data, group=group, group_names=tuple("abcde"))
    result = rf.debias(trained, data, OBJECTIVE, quick[name])
    effects = result.effects
    assert effects is not None
    assert effects.measure == "spd"
    assert len(effects.sentences()) <= 8
    after, before = result.after.array, result.before.array
    rates = {rate.name: rate for rate in metrics.rates.ALL}
    assert len(effects.rates) == groups * 5
    for each in effects.rates:
        position = data.group_names.index(each.group)
        was, now = (rates[each.rate](counts)[position] for counts in (before, after))
        assert (each.before, each.after) == pytest.approx((was, now), nan_ok=True)
    assert effects.bias.after == pytest.approx(float(metrics.SPD(after)))
    assert effects.rows_seen == (not result.about["cross_fitted"])
    assert (effects.tells("inner_estimate") is not None) == (name == "fair_head")
    assert effects.needs_group == result.needs_group
