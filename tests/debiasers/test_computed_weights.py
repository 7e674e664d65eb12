"""The methods on networks whose weights are computed (torch.nn.utils.parametrizations)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import retrofair as rf
from retrofair import debiasers
from retrofair.debiasers import Lagrangian, Layerwise, Pruning, Random
from retrofair.debiasers.perturbed import Flat, InPlace
from retrofair.debiasers.tuning import Tuning
from retrofair.errors import InputError
from retrofair.networks.logits import as_logits
from retrofair.networks.outputs import probabilities

GOAL = rf.Constrained("spd", epsilon=0.05)
KINDS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "rotation": lambda layer: parametrizations.orthogonal(layer, orthogonal_map="matrix_exp"),
}
PLACES = {"first": (0,), "middle": (2,), "last": (5,), "all": (0, 2, 5)}
QUICK = {
    "random": Random(trials=3),
    "layerwise": Layerwise(evaluations=2),
    "lagrangian": Lagrangian(epochs=1, steps=3, layers=1),
    "adversarial": debiasers.Adversarial(epochs=1, critic_steps=3, actor_steps=3),
    "zhang": debiasers.Zhang(epochs=1, critic_steps=3, actor_steps=3),
    "bias_gradient": debiasers.BiasGradient(looks=2, steps=2),
    "pruning": Pruning(rounds=3),
}
METHODS = [QUICK.get(known.name, known()) for known in debiasers.ALL]
REFUSED = {  # by kind and method, where all weights are computed
    ("weight_norm", "layerwise"): "space='directions'.*space='weights', or.*remove_param",
    ("spectral_norm", "layerwise"): "space='directions'.*space='weights', or.*remove_param",
    ("orthogonal", "layerwise"): "space='directions'.*space='weights', or.*remove_param",
    ("orthogonal", "pruning"): "the weight of 2, 5 is computed.*another method, or.*remove_param",
}


def network(inputs: int, kind: str, places: Any) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU()]
    layers.append(nn.Linear(6, 1))
    return nn.Sequential(
        *(KINDS[kind](each) if k in places else each for k, each in enumerate(layers))
    )


def fitted(few: rf.Splits, kind: str) -> nn.Sequential:
    """A network with computed weights alone that tells the label."""
    net = network(few.train.x.shape[1], kind, (0, 2, 5)).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits
        loss(net(few.train.x)[:, 0], few.train.y.float()).backward()
        optimiser.step()
    net.zero_grad()
    return net.eval()


@pytest.fixture(scope="module")
def few() -> rf.Splits:
    return rf.datasets.load("synthetic", n=700, seed=0)


class Guard:
    """Holds a network to what it was: weights, buffers, modes, gradients, bit for bit."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.state = net, copy.deepcopy(net.state_dict())
        self.modes = [m.training for m in net.modules()]

    def check(self) -> None:
        now = self.net.state_dict()
        changed = [n for n, v in self.state.items() if not torch.equal(v, now[n])]
        assert not changed
        assert now.keys() == self.state.keys()
        assert [m.training for m in self.net.modules()] == self.modes
        assert all(p.requires_grad and p.grad is None for p in self.net.parameters())
        assert not any(value.is_inference() for value in now.values())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_every_method_works_and_leaves_the_network(
    kind: str, place: str, few: rf.Splits, tmp_path: Path
) -> None:
    net = network(few.valid.x.shape[1], kind, PLACES[place]).train()
    net[3].eval()
    guard = Guard(net)
    before = rf.audit(net, few.test, outputs="logits")
    guard.check()
    for method in METHODS:
        message = REFUSED.get((kind, method.name)) if place == "all" else None
        if message is not None:
            with pytest.raises(InputError, match=message):
                rf.debias(net, few.valid, GOAL, method, outputs="logits")
            guard.check()
            continue
        found = rf.debias(net, few.valid, GOAL, method, outputs="logits")
        guard.check()
        given = (few.test.group,) if found.needs_group else ()
        decided = found.predict(few.test.x, *given)
        assert set(np.unique(np.asarray(decided))) <= {0, 1}
        found.save(tmp_path / method.name, base=net)
        again = rf.load_result(tmp_path / method.name, net)
        assert (np.asarray(again.predict(few.test.x, *given)) == np.asarray(decided)).all()
        guard.check()
    rf.audit(found, few.test)
    guard.check()
    assert rf.audit(net, few.test, outputs="logits")["spd"] == before["spd"]


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_the_last_layers_that_are_trained_are_told_by_name(kind: str, few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], kind, (0, 2, 5))
    tuning = Tuning(net, few.valid, layers=1)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in net.named_parameters() if n.startswith("5.")}
    tuning.train()
    assert [net[k].training for k in (0, 2, 3, 5)] == [False, False, False, True]
    assert {m.training for k in (0, 2) for m in net[k].modules()} == {False}
    assert {m.training for m in net[5].modules()} == {True}


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_only_what_layers_names_changes(kind: str, few: rf.Splits) -> None:
    net = fitted(few, kind)
    method = Lagrangian(epochs=5, steps=20, layers=1, learning_rate=0.05)
    found = rf.debias(net, few.valid, GOAL, method, outputs="logits")
    own, made = net.state_dict(), found.model.state_dict()
    changed = {name.split(".")[0] for name in own if not torch.equal(own[name], made[name])}
    assert changed == {"5"}


def test_minibatches_in_parts_give_the_same_gradients(few: rf.Splits) -> None:
    # parts are computed twice: with a power iteration in each, of two different weights
    x, gradients = few.valid.x[:64], []
    for rows in (None, 16):
        net = network(x.shape[1], "spectral_norm", (0, 2, 5))
        tuning = Tuning(net, few.valid, rows=rows)
        tuning.train()
        for layer in (0, 2, 5):
            net[layer].parametrizations.eval()  # as it is in parts, so that the two compare
        net[3].eval()
        state = copy.deepcopy(net.state_dict())
        if rows is not None:
            net.train()
            tuning.train()
        tuning.forward(x)[0].square().sum().backward()
        assert all(torch.equal(v, state[n]) for n, v in net.state_dict().items())
        gradients.append([p.grad for p in net.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "rotation"])
def test_many_trials_at_once_say_what_one_says(kind: str, few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], kind, (0, 2, 5)).eval()
    flat = Flat(copy.deepcopy(net))
    trials = [[1 + 0.1 * torch.randn(len(flat))] for _ in range(3)]
    found = flat.chances_of(trials, few.valid)
    in_place = InPlace(net, copy.deepcopy(net))
    for factors, row in zip(trials, found, strict=True):
        flat.scale_by(factors)
        alone = probabilities(flat.model, few.valid)
        assert torch.allclose(row, torch.from_numpy(alone), atol=1e-5)
        in_place.scale_by(factors[0].split(in_place.sizes))
    assert not np.allclose(alone, probabilities(net, few.valid))


def test_random_draws_keep_the_signs_of_an_orthogonal_weight(few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], "orthogonal", (2,))
    for method in (Random(trials=20, scale=0.3), Layerwise(evaluations=3, space="weights")):
        found = rf.debias(net, few.valid, GOAL, method, outputs="logits")
        assert any("orthogonal weight of 2 stayed" in note for note in found.about["notes"])
        weight = found.model[2].weight.detach()
        assert torch.allclose(weight @ weight.T, torch.eye(6), atol=1e-5)
        assert not torch.equal(found.model[5].weight, net[5].weight) or found.threshold != 0.5
    net = network(few.valid.x.shape[1], "orthogonal", (0, 2, 5))
    with pytest.raises(InputError, match="space='weights', got none: use another method"):
        rf.debias(net, few.valid, GOAL, Layerwise(space="weights"), outputs="logits")


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_weights_are_searched_by_what_they_are_computed_of(kind: str, few: rf.Splits) -> None:
    net = fitted(few, kind)
    method = Layerwise(evaluations=30, space="weights", layers=2)
    found = rf.debias(net, few.valid, GOAL, method, outputs="logits")
    assert not all(torch.equal(found.model[k].weight, net[k].weight) for k in (2, 5))


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_pruning_stops_before_a_normalised_layer_is_no_number(kind: str, few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], kind, (0, 2, 5))
    found = rf.debias(net, few.valid, GOAL, Pruning(rounds=50, share=1.0), outputs="logits")
    assert all(np.isfinite(row["bias"]) for row in found.history)
    assert torch.isfinite(found.model[5].weight).all()


def test_pruning_says_which_layers_stay(few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], "orthogonal", (2,))
    found = rf.debias(net, few.valid, GOAL, Pruning(rounds=3), outputs="logits")
    assert any(note.startswith("No units that 2 reads were") for note in found.about["notes"])
    assert torch.equal(found.model[2].weight, net.eval()[2].weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_alone_says_why_not(kind: str, few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], kind, (5,))
    with pytest.raises(InputError, match=r"that of 5 is computed.*leave head_only out.*remove_par"):
        rf.debias(net, few.valid, GOAL, Random(trials=2), head_only=True, outputs="logits")
    plain = copy.deepcopy(net)  # the way out
    nn.utils.parametrize.remove_parametrizations(plain[5], "weight")
    rf.debias(plain, few.valid, GOAL, Random(trials=2), head_only=True, outputs="logits")
    before = network(few.valid.x.shape[1], kind, (0, 2))
    rf.debias(before, few.valid, GOAL, Random(trials=2), head_only=True, outputs="logits")


@pytest.mark.filterwarnings("error")
def test_a_computed_last_layer_gives_logits(few: rf.Splits) -> None:
    net = network(few.valid.x.shape[1], "weight_norm", (5,)).eval()
    with torch.no_grad():
        net[5].parametrizations.weight.original0.fill_(0.01)
        net[5].bias.fill_(0.5)
    assert as_logits(net, few.valid) is net
