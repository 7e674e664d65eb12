"""What large networks need of the methods: the head alone, some layers, parts, resuming."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import retrofair as rf
from convnets import ConvNet, pictures, streamed, trained
from retrofair.debiasers import Adversarial, BiasGradient, Lagrangian, Pruning, Random, Zhang
from retrofair.debiasers.perturbed import Draws, Flat, InPlace, perturbed
from retrofair.debiasers.tuning import Tuning
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.last import LastLayer
from retrofair.networks.outputs import evaluating, logits, probabilities

GOAL = rf.Constrained("spd", epsilon=0.05)
QUICK_LAGRANGIAN = Lagrangian(epochs=3, steps=6, batch_size=64)
QUICK_ADVERSARIAL = Adversarial(epochs=3, critic_steps=5, actor_steps=6, minibatches=4)


@pytest.fixture(scope="module")
def net() -> ConvNet:
    return trained()


@pytest.fixture(scope="module")
def data() -> rf.GroupedData:
    return pictures()


def alike(one: nn.Module, other: nn.Module, names: Any = None) -> bool:
    own, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(own[n], theirs[n]) for n in names or own)


# --- the last layer alone -------------------------------------------------------------------------


def test_the_last_layer_is_the_network_on_what_it_reads(net: ConvNet, data: Any) -> None:
    last = LastLayer.of(net, data)
    assert last.name == "fc"
    assert last.read is not None
    assert last.read.tolist() == [[-1, 1]]  # the difference of its outputs
    rows = last.representations(data)
    head = last.head().eval()
    assert rows.x.shape == (400, 12)
    assert torch.allclose(logits(head, rows), logits(net, data), atol=1e-5)
    with torch.no_grad():
        head[0].weight.mul_(-2)
        head[0].bias.add_(0.3)
    changed = last.with_head(head)
    assert torch.allclose(logits(changed, data), logits(head, rows), atol=1e-5)
    assert alike(net, trained())


@pytest.mark.parametrize("method", [m.name for m in rf.debiasers.ALL if m.changes_weights])
@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_a_method_on_the_head_changes_the_last_layer_alone(
    method: str, kind: str, net: ConvNet, data: Any, quick: Any
) -> None:
    rows = data if kind == "memory" else streamed(data)
    result = rf.debias(net, rows, GOAL, quick[method], head_only=True)
    body = [name for name in net.state_dict() if not name.startswith("fc.")]
    assert alike(net, result.model, body)
    assert alike(net, trained())
    assert result.about["head_only"] is True
    # what it says of itself is what the whole network does
    audit = rf.audit(result, data)
    assert audit["spd"].value == pytest.approx(result.after.bias, abs=1e-9)
    start = rf.debias(net, rows, GOAL, "threshold")
    assert result.after.objective >= start.after.objective - 1e-9


def test_methods_that_change_no_weights_are_as_ever(net: ConvNet, data: Any) -> None:
    for method in ("fair_head", "group_thresholds"):
        one = rf.debias(net, data, GOAL, method, head_only=True)
        assert one.after == rf.debias(net, data, GOAL, method).after


def test_a_head_of_several_classes(data: Any) -> None:
    y = (data.y + (data.x[:, 1].mean((1, 2)) > 0.2).long()).clamp(max=2)
    classes = dataclasses.replace(data, y=y)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()
    result = rf.debias(net, classes, GOAL, Random(trials=5), head_only=True)
    assert result.model(data.x).shape == (400, 3)
    assert torch.equal(result.model[0].weight, net[0].weight)


def test_networks_without_a_linear_end(data: Any) -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3), nn.AdaptiveAvgPool2d(1))
    for tail in (nn.Flatten(0), nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.Softplus())):
        whole = nn.Sequential(pooled, tail).eval()
        with pytest.raises(InputError, match="ends in a linear layer"):
            rf.debias(whole, data, GOAL, "random", head_only=True, outputs="logits")


class Gated(ConvNet):
    """Its last layer also runs before, on something else."""

    def forward(self, x: Any) -> Any:
        hidden = self.pool(self.body(x)).flatten(1)
        gate = torch.sigmoid(self.fc(hidden)[:, :1])
        out = self.fc(hidden * gate)
        return out[:, 1] - out[:, 0]


def normed() -> nn.Module:
    net = trained()
    net.fc = torch.nn.utils.parametrizations.weight_norm(net.fc)
    return net.eval()


class Square(ConvNet):
    """Far from 0, where a sigmoid tells nothing."""

    def forward(self, x: Any) -> Any:
        return 6 + super().forward(x) ** 2


@pytest.mark.parametrize("make", [lambda: Gated().eval(), normed, lambda: Square().eval()])
def test_a_last_layer_that_is_more_than_that_is_refused(make: Any, data: Any) -> None:
    method = Random(trials=5, scale=0.8)
    with pytest.raises(InputError, match="head_only"):
        rf.debias(
            make(), data, rf.Weighted("spd", lam=0.5), method, head_only=True, outputs="logits"
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", ["zhang", "random", "lagrangian", "fair_head", "threshold"])
def test_other_precisions(method: str, dtype: torch.dtype, data: Any, quick: Any) -> None:
    net = trained().to(dtype)
    rows = dataclasses.replace(data, x=data.x.double()) if dtype == torch.float64 else data
    result = rf.debias(net, rows, GOAL, quick[method], head_only=True)
    assert next(result.model.parameters()).dtype in (dtype, torch.float32)
    audit = rf.audit(result, rows)
    if method != "fair_head":
        assert audit["spd"].value == pytest.approx(result.after.bias, abs=0.02)


# --- which layers are trained, in which parts -----------------------------------------------------


@pytest.mark.parametrize("method", [QUICK_LAGRANGIAN, QUICK_ADVERSARIAL])
def test_layers_before_the_chosen_ones_stay(method: Any, net: ConvNet, data: Any) -> None:
    before = copy.deepcopy(net.state_dict())
    tuning = Tuning(copy.deepcopy(net), data, layers=1)
    tuning.train()
    assert [n for n, p in tuning.model.named_parameters() if p.requires_grad] == [
        "fc.weight",
        "fc.bias",
    ]
    assert not tuning.model.body.training
    assert tuning.model.fc.training
    for layers, free in ((1, ("fc.",)), (2, ("fc.", "body.3"))):
        some = dataclasses.replace(method, layers=layers)
        goal = rf.Weighted("spd", lam=0.5)  # any change for the better is kept
        result = rf.debias(net, data, goal, some)
        moved = [n for n, v in result.model.state_dict().items() if not torch.equal(v, before[n])]
        assert all(name.startswith(free) for name in moved)
    assert alike(net, trained())


def test_layers_are_the_last_to_run_wherever_they_are_defined(data: Any) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 1)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(432, 4), nn.BatchNorm1d(4))

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x))[:, 0]

    for layers, free in ((1, {"head"}), (2, {"head", "body"})):
        tuning = Tuning(Backwards(), data, layers=layers)
        named = tuning.model.named_parameters()
        assert {n.split(".")[0] for n, p in named if p.requires_grad} == free


def test_a_minibatch_in_parts_has_the_gradients_of_the_whole(net: ConvNet, data: Any) -> None:
    """As dropout draws other numbers in parts, without it."""
    plain = copy.deepcopy(net)
    plain.drop.p = 0.0
    plain.requires_grad_(True)
    gradients = []
    for rows in (None, 64, 23):
        model = copy.deepcopy(plain)
        tuning = Tuning(model, data, rows=rows)
        tuning.train()
        if rows is None:
            model.body[1].eval()  # whose statistics stay in parts
        logit, _ = tuning.forward(data.x[:100])
        share = torch.sigmoid(logit).mean()  # no sum over rows: the parts are not apart
        (share - share**2).backward()
        gradients.append([p.grad for p in model.parameters()])
    for parts in gradients[1:]:
        for whole, part in zip(gradients[0], parts, strict=True):
            assert torch.allclose(whole, part, atol=1e-6)


def test_dropout_is_the_same_on_the_way_back() -> None:
    """A part is computed twice; with other zeros the second time its gradient would be wrong."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(40, 1, bias=False), nn.Flatten(0))
    data = rf.GroupedData(
        x=torch.ones(8, 40), y=[0, 1] * 4, group=[0, 1] * 4, group_names=("a", "b")
    )
    tuning = Tuning(model, data, rows=4)
    tuning.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out, _ = tuning.forward(data.x)
        out.sum().backward()
    # the gradient of a weight is the sum of its inputs: what the output was made of
    weight = model[1].weight
    assert weight.grad is not None
    assert float((weight.detach() * weight.grad).sum()) == pytest.approx(
        float(out.detach().sum()), abs=1e-4
    )


def test_the_critic_of_the_last_layer_reads_what_it_changes(net: ConvNet, data: Any) -> None:
    """The representation before it stays as it is, and with it what the critic says of it."""
    method = dataclasses.replace(QUICK_ADVERSARIAL, layers=1, loss="sum", lam=1.0)  # bias alone
    one = rf.debias(net, data, GOAL, method)
    assert len({each["critic_error"] for each in one.history[1:]}) == 3
    biases = {each["threshold"] for each in one.history}
    assert len(biases) > 1  # the network moved, by the critic alone


@pytest.mark.parametrize("method", [QUICK_LAGRANGIAN, QUICK_ADVERSARIAL])
def test_training_in_parts(method: Any, net: ConvNet, data: Any) -> None:
    result = rf.debias(net, data, GOAL, dataclasses.replace(method, micro_rows=16))
    assert len(result.history) == 4
    assert alike(net, trained())


def test_parts_get_smaller_where_memory_runs_out(data: Any) -> None:
    net = trained()
    net.most = 40
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = rf.debias(net, data, GOAL, QUICK_LAGRANGIAN)
    assert any("32 in each part of a minibatch" in str(each.message) for each in caught)
    assert len(result.history) == 4


TRAINS = {
    "zhang": Zhang(epochs=2, critic_steps=3, actor_steps=3),
    "bias_gradient": BiasGradient(looks=2, steps=2, batch_size=64),
    "pruning": Pruning(rounds=2, rows=64),
}


class Short(ConvNet):
    """One that has memory for gradients of `few` rows, and for any number without."""

    few = 40

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and len(x) > self.few:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        return super().forward(x)


def short() -> Short:
    """The trained network, so."""
    net = Short()
    net.load_state_dict(trained().state_dict())
    return net.eval()


@pytest.mark.parametrize("name", TRAINS)
def test_other_methods_go_on_in_parts_as_well(name: str, data: Any) -> None:
    with pytest.warns(RetrofairWarning, match="64 rows at once: going on with 32 in each part"):
        parts = rf.debias(short(), data, GOAL, TRAINS[name])
    whole = rf.debias(trained(), data, GOAL, TRAINS[name])
    assert len(parts.history) == len(whole.history) == 3


def test_a_gradient_in_parts_is_that_of_the_whole(data: Any) -> None:
    """Steps down the bias are in eval mode, where nothing but rounding tells the two apart."""
    with pytest.warns(RetrofairWarning, match="batch_size="):
        parts = rf.debias(short(), data, GOAL, TRAINS["bias_gradient"])
    whole = rf.debias(trained(), data, GOAL, TRAINS["bias_gradient"])
    for one, other in zip(parts.history, whole.history, strict=True):
        assert one["bias"] == pytest.approx(other["bias"], abs=0.02)
    pairs = zip(parts.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


@pytest.mark.parametrize("name", TRAINS)
def test_no_memory_for_a_single_row_is_said(name: str, data: Any) -> None:
    net = short()
    net.few = 0
    with (
        pytest.warns(RetrofairWarning),
        pytest.raises(InputError, match="memory to train this network on a row"),
    ):
        rf.debias(net, data, GOAL, TRAINS[name])


def test_a_pass_that_failed_leaves_no_trace_in_averages(data: Any) -> None:
    net = trained()
    tuning = Tuning(net, data)
    tuning.train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    tries = []

    def work() -> None:
        tries.append(len(tries))
        tuning.forward(data.x[:32])
        if len(tries) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")

    with pytest.warns(RetrofairWarning, match="in each part"):
        tuning.step(work, 32, torch.Generator())
    assert (len(tries), tuning.rows) == (3, 8)  # in parts, in which the averages stay
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


@pytest.mark.parametrize("options", [{"layers": 0}, {"micro_rows": 0}, {"checkpoint": 3}])
@pytest.mark.parametrize("method", [Lagrangian, Adversarial])
def test_options_out_of_range(method: Any, options: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        method(**options)


# --- an interrupted training goes on --------------------------------------------------------------


class StoppedError(Exception):
    """What an interruption is in these tests."""


@pytest.mark.parametrize("method", [QUICK_LAGRANGIAN, QUICK_ADVERSARIAL])
@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_resumed_it_ends_as_it_would_have(
    method: Any,
    after: int,
    layout: torch.memory_format,
    net: ConvNet,
    data: Any,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    net = copy.deepcopy(net).to(memory_format=layout)
    whole = rf.debias(net, data, GOAL, method, seed=5)
    kept = dataclasses.replace(method, checkpoint=str(tmp_path))
    from retrofair.debiasers.tuning import Rounds

    save = Rounds.save

    def failing(self: Rounds, number: int, *args: Any, **more: Any) -> None:
        save(self, number, *args, **more)
        if number == after:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(Rounds, "save", failing)
        with pytest.raises(StoppedError):
            rf.debias(net, data, GOAL, kept, seed=5)
    resumed = rf.debias(net, data, GOAL, kept, seed=5)
    assert resumed.history == whole.history
    assert resumed.after == whole.after
    assert alike(resumed.model, whole.model)


def test_a_checkpoint_of_another_training_is_refused(
    net: ConvNet, data: Any, tmp_path: Path
) -> None:
    method = dataclasses.replace(QUICK_LAGRANGIAN, checkpoint=str(tmp_path))
    rf.debias(net, data, GOAL, method)
    for other, words in (
        ({"objective": rf.Constrained("eod", epsilon=0.05)}, "another objective"),
        ({"method": dataclasses.replace(method, steps=7)}, "another steps"),
        ({"seed": 1}, "another seed"),
        ({"data": pictures(seed=2)}, "another data"),
    ):
        given = {"net": net, "data": data, "objective": GOAL, "method": method, **other}
        with pytest.raises(InputError, match=words):
            rf.debias(**given)
    (tmp_path / "training.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        rf.debias(net, data, GOAL, method)


# --- random perturbation --------------------------------------------------------------------------


def test_a_large_network_is_perturbed_without_another_copy(
    net: ConvNet, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winner, drawn again from the generator's state, is what a plain loop finds."""
    monkeypatch.setattr("retrofair.debiasers.perturbed.SMALL", 1)
    model = copy.deepcopy(net)
    assert isinstance(perturbed(net, model), InPlace)
    result = rf.debias(net, data, GOAL, Random(trials=12, scale=0.6), seed=2)
    generator, found = torch.Generator().manual_seed(2), []
    from retrofair.debiasers.base import search

    threshold = search(data, GOAL)
    for _ in range(12):
        trial = copy.deepcopy(net)
        with torch.no_grad():
            for module in trial.modules():
                for parameter in module.parameters(recurse=False):
                    noise = torch.empty(parameter.numel()).normal_(1, 0.6, generator=generator)
                    parameter.mul_(noise.view_as(parameter))
        found.append((threshold.best(probabilities(trial, data)).rank, trial))
    best = max(found, key=lambda each: each[0])
    assert [h["objective"] for h in result.history[1:]] == pytest.approx([r for r, _ in found])
    assert best[0] > result.history[0]["objective"]  # or the original would have won
    assert alike(result.model, best[1])
    assert alike(net, trained())


def test_many_trials_at_once_are_the_same_as_one_after_another(net: ConvNet, data: Any) -> None:
    model = copy.deepcopy(net)
    weights = Flat(model)
    random = Random(scale=0.2)
    generator = torch.Generator().manual_seed(0)
    (draws,) = Draws(weights, random.noise, generator, ahead=False).batches(5, 8)
    together = weights.chances_of([factors for _, factors in draws], data)
    for (_, factors), chance in zip(draws, together, strict=True):
        weights.scale_by(factors)
        assert probabilities(model, data) == pytest.approx(chance, abs=1e-5)
    weights.reset()
    assert alike(model, net)


def test_factors_drawn_ahead_are_the_same(net: ConvNet) -> None:
    weights, random = Flat(copy.deepcopy(net)), Random()
    for trials in (0, 1, 4):
        one, other = (torch.Generator().manual_seed(3) for _ in range(2))
        plain = Draws(weights, random.noise, one, ahead=False).take(trials)
        first = [(state, list(factors)) for state, factors in plain]
        early = Draws(weights, random.noise, other, ahead=True).take(trials)
        ahead = [(state, list(factors)) for state, factors in early]
        assert len(first) == len(ahead) == trials
        for (state, a), (theirs, b) in zip(first, ahead, strict=True):
            assert torch.equal(state, theirs)
            assert torch.equal(a[0], b[0])
        if trials:
            draws = Draws(weights, random.noise, torch.Generator(), ahead=False)
            assert torch.equal(next(iter(draws.again(first[-1][0]))), first[-1][1][0])


# --- results as differences -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "head_only", "most"),
    [("random", True, 2), ("fair_head", False, 60), ("threshold", False, 0), ("random", False, 99)],
)
def test_a_result_stored_as_a_difference(
    method: str, head_only: bool, most: int, net: ConvNet, data: Any, tmp_path: Path, quick: Any
) -> None:
    from safetensors.torch import load_file

    result = rf.debias(net, data, GOAL, quick[method], head_only=head_only)
    result.save(tmp_path / "whole")
    result.save(tmp_path / "difference", base=net)
    stored = load_file(tmp_path / "difference" / "model.safetensors")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert len(stored) <= most
    assert not any(name.endswith("body.0.weight") for name in stored) or method == "random"
    assert len(stored) <= len(whole)
    again = rf.load_result(tmp_path / "difference", net)
    assert torch.equal(again.predict(data.x), result.predict(data.x))
    assert alike(again.model, result.model)
    other = ConvNet(seed=8).eval()
    with pytest.raises(InputError, match="stored as a difference to"):
        rf.load_result(tmp_path / "difference", other)


def test_a_difference_to_another_structure(net: ConvNet, data: Any, tmp_path: Path) -> None:
    result = rf.debias(net, data, GOAL, "threshold")
    with pytest.raises(InputError, match="another structure"):
        result.save(tmp_path, base=nn.Linear(3, 1))
    wider = copy.deepcopy(net)
    wider.fc = nn.Linear(net.fc.in_features, net.fc.out_features + 1)
    with pytest.raises(InputError, match="another structure"):  # though names are the same
        result.save(tmp_path, base=wider)
    assert not (tmp_path / "result.json").exists()


def test_probabilities_and_states_are_left(net: ConvNet, data: Any) -> None:
    with evaluating(net):
        before = net(data.x[:5])
    rf.debias(net, streamed(data), GOAL, QUICK_LAGRANGIAN)
    with evaluating(net):
        assert torch.equal(before, net(data.x[:5]))
    assert all(p.requires_grad for p in net.parameters())
    assert not net.training


# --- rows held out from training ------------------------------------------------------------------

TRAINERS = ("lagrangian", "adversarial", "zhang", "bias_gradient")


@pytest.mark.parametrize("method", TRAINERS)
@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_a_method_never_trains_on_rows_held_out(
    method: str, kind: str, net: ConvNet, data: Any, quick: Any, monkeypatch: Any
) -> None:
    """No row of a minibatch is one of those that are judged, and `after` is of the latter."""
    from retrofair.debiasers import held_out

    seen: list[Any] = []
    sample = held_out.HeldOut.sample

    def noting(self: Any, rows: int, generator: torch.Generator) -> Any:
        seen.append((self, sample(self, rows, generator)))
        return seen[-1][1]

    monkeypatch.setattr(held_out.HeldOut, "sample", noting)
    rows = data if kind == "memory" else streamed(data)
    result = rf.debias(net, rows, GOAL, quick[method], held_out=0.25)
    assert result.about["rows"] == 100
    assert result.about["rows_trained"] == 300
    judged = {each.numpy().tobytes() for x, _, _ in seen[0][0].judged for each in x}
    trained_on = {each.numpy().tobytes() for _, (x, _, _) in seen for each in x}
    assert len(judged) == 100
    assert len(trained_on) > 50
    assert not judged & trained_on
    counts = result.after.array
    assert counts.sum() == 100
    # what the result says of itself is what it does on the judged rows
    parts = seen[0][0].judged
    assert rf.audit(result, parts)["spd"].value == pytest.approx(result.after.bias)


def test_when_rows_are_held_out(net: ConvNet, data: Any, quick: Any, monkeypatch: Any) -> None:
    def rows(method: str, **options: Any) -> int:
        return int(rf.debias(net, data, GOAL, quick[method], **options).about["rows"])

    assert rows("lagrangian") == 400  # a small network
    monkeypatch.setattr("retrofair.debiasers.held_out.SMALL", 1)
    assert rows("lagrangian") == 120
    assert rows("lagrangian", held_out=0) == 400
    assert rows("lagrangian", head_only=True) == 400
    assert rows("random") == rows("fair_head") == rows("random", held_out=0.5) == 400


@pytest.mark.parametrize("share", [-0.1, 1, "half"])
def test_a_share_that_is_none(share: Any, net: ConvNet, data: Any) -> None:
    with pytest.raises(InputError, match=r"held_out in \[0, 1\)"):
        rf.debias(net, data, GOAL, "lagrangian", held_out=share)


def test_two_rows_cannot_be_parted(net: ConvNet, data: Any) -> None:
    with pytest.raises(InputError, match="held"):
        rf.debias(net, data[:8], GOAL, "lagrangian", held_out=0.01)


# --- a network that is one layer ------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("method", ["random", "layerwise", "lagrangian", "zhang"])
@pytest.mark.parametrize("head_only", [False, True])
def test_a_single_layer(method: str, head_only: bool, streams: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    group = torch.arange(200) % 2
    y = (x[:, 0] + 0.5 * group > 0.2).long()
    rows = rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))
    net = nn.Linear(5, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, 0.3, 0, 0, 0]]))
        net.bias.zero_()
    result = rf.debias(
        net,
        streamed(rows) if streams else rows,
        GOAL,
        method,
        outputs="logits",
        head_only=head_only,
    )
    assert type(result.model) is nn.Linear
    assert result.after.objective >= result.before.objective
    decided = result.predict_data(rows)
    assert len(decided) == 200


def test_a_single_layer_of_another_kind_has_no_head(data: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 12), nn.Flatten(0))
    with pytest.raises(InputError, match=r"after 0 \(Conv2d\), the last to run, more follows"):
        LastLayer.of(net, data)
    with pytest.raises(InputError, match=r"it is a single layer \(Flat12\): leave head_only out"):
        LastLayer.of(Flat12(), data)


class Flat12(nn.Linear):
    """A layer that is no plain linear one."""

    def __init__(self) -> None:
        super().__init__(3 * 12 * 12, 1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.flatten(1))
