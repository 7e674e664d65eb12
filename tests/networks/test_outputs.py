"""What a network answers: logits or probabilities, shapes, failures, and nothing left changed."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrofair.audit import audit
from retrofair.data import GroupedData, StreamedData, grouped
from retrofair.debiasers import Adversarial, Random, debias
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks import LogitOf, as_logits, logits, probabilities, probability
from retrofair.networks.mlp import MLP
from retrofair.networks.outputs import as_input, evaluating, forward
from retrofair.objective import Constrained


class Says(nn.Module):
    """A network that is any function of x."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Pair(nn.Module):
    """Takes two inputs, by place or by name."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left[:, 0] - 2 * right[:, 0]


class Stream:
    """Batches whose x is a tuple or a dict."""

    group_names = ("a", "b")

    def __init__(self, named: bool) -> None:
        self.named = named
        self.y, self.group = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
        self.left, self.right = torch.arange(4.0)[:, None], torch.ones(4, 1)

    def __len__(self) -> int:
        return 4

    def sample(self, rows: int, generator: torch.Generator) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Any:
        for rows in (slice(0, 3), slice(3, 4)):
            parts: Any = self.left[rows], self.right[rows]
            x = dict(zip(("left", "right"), parts, strict=True)) if self.named else parts
            yield x, self.y[rows], self.group[rows]


def data(n: int = 40) -> GroupedData:
    x = torch.linspace(-3, 3, 3 * n).reshape(n, 3)
    row = torch.arange(n)
    return GroupedData(x=x, y=row % 2, group=row // 2 % 2, group_names=("a", "b"))


def linear(*after: nn.Module) -> nn.Sequential:
    network = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.5, -0.2]]))
        network.bias.fill_(0.1)
    return nn.Sequential(network, *after)


# --- logits or probabilities --------------------------------------------------------------------


def test_logits_are_left_as_they_are() -> None:
    network = linear()
    assert as_logits(network, data()) is network


@pytest.mark.parametrize("end", [nn.Sigmoid(), Says(torch.sigmoid)], ids=["module", "function"])
def test_outputs_in_0_1_are_taken_as_probabilities_with_a_warning(end: nn.Module) -> None:
    network = linear(end)
    with pytest.warns(RetrofairWarning, match=r"outputs lie between .*: taken as probabilities"):
        found = as_logits(network, data())
    assert isinstance(found, LogitOf)
    assert torch.allclose(logits(found, data()), logits(linear(), data()), atol=1e-4)
    said = as_logits(network, data(), "probabilities")  # without a warning
    assert torch.equal(logits(said, data()), logits(found, data()))


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_one_same_output_of_a_sigmoid_is_a_probability(value: float) -> None:
    network = nn.Sequential(Says(lambda x: x[:, :1] * 0 + value), nn.Sigmoid())
    with pytest.warns(RetrofairWarning, match="taken as probabilities"):
        found = as_logits(network, data())
    expected = 1 / (1 + math.exp(-value))
    assert probabilities(found, data()) == pytest.approx([expected] * 40, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_one_same_output_in_0_1_for_everybody_is_taken_as_a_logit_with_a_warning(
    value: float,
) -> None:
    network = Says(lambda x: x[:, 0] * 0 + value)
    with pytest.warns(RetrofairWarning, match="taken as logits"):
        assert as_logits(network, data()) is network
    assert as_logits(network, data(), "logits") is network
    assert isinstance(as_logits(network, data(), "probabilities"), LogitOf)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_one_same_output_elsewhere_is_a_logit(value: float) -> None:
    network = Says(lambda x: x[:, 0] * 0 + value)
    assert as_logits(network, data()) is network


@pytest.mark.parametrize("kind", ["linear", "sequential", "nested", "mlp"])
def test_nothing_is_guessed_where_a_linear_layer_comes_last(kind: str) -> None:
    network: nn.Module = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.fill_(0.0)
        network.weight[0, 0], network.bias[0] = 0.01, 0.5
    if kind == "sequential":
        network = nn.Sequential(network, nn.Dropout(0.1), nn.Flatten(0))
    elif kind == "nested":
        network = nn.Sequential(nn.Identity(), nn.Sequential(network), nn.Flatten(0))
    elif kind == "mlp":
        inside, network = network, MLP(3, depth=0)
        network.out.load_state_dict(inside.state_dict())
    with torch.no_grad():
        outputs = network.eval()(data().x)
    assert 0 < float(outputs.min()) < float(outputs.max()) < 1
    assert as_logits(network, data()) is network  # a warning would be an error here
    assert isinstance(as_logits(network, data(), "probabilities"), LogitOf)


def test_a_sigmoid_inside_is_no_sigmoid_at_the_end() -> None:
    network = nn.Sequential(nn.Sigmoid(), linear())
    assert as_logits(network, data()) is network


def test_outputs_decides() -> None:
    network = linear(Says(torch.sigmoid))
    assert as_logits(network, data(), "logits") is network
    assert isinstance(as_logits(network, data(), "probabilities"), LogitOf)


def test_outputs_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"probabilities in \[0, 1\], got outputs from -.* to .*"):
        as_logits(linear(), data(), "probabilities")
    with pytest.raises(InputError, match="outputs='logits' or 'probabilities', got 'logit'"):
        as_logits(linear(), data(), "logit")  # type: ignore[arg-type]


def test_certain_probabilities_have_finite_logits() -> None:
    found = LogitOf(Says(lambda x: torch.tensor([0.0, 1.0, 0.5])))(torch.zeros(3, 1))
    assert found[:2].tolist() == pytest.approx([-16.118, 15.942], abs=1e-2)  # float32 near 1
    assert found[2] == 0


# --- shapes and failures ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["(n,)", "(n, 1)"])
@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid()])
def test_both_shapes_are_one(shape: str, end: nn.Module) -> None:
    network = linear(end, nn.Flatten(0)) if shape == "(n,)" else linear(end)
    out = logits(as_logits(network, data(), "logits"), data())
    assert out.shape == (40,)
    assert torch.equal(out, network(data().x).detach().reshape(-1))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x[:, :2], r"shape \(40,\) or \(40, 1\), got \(40, 2\); for two classes return"),
        (lambda x: x[:, :1, None], r"got \(40, 1, 1\)"),
        (lambda x: x[:5, 0], r"got \(5,\)"),
        (lambda x: x.sum(), r"got \(\)"),
        (lambda x: (x[:, 0],), "got tuple"),
        (lambda x: None, "got NoneType"),
        (lambda x: x[:, 0] * math.nan, "got 40 NaN or infinite ones of 40"),
        (lambda x: 1 / (x[:, 0] * 0), "NaN or infinite"),
        (lambda x: x[:, 9], "takes x of shape"),
        (lambda x: x @ torch.zeros(4, 1), r"takes x of shape \(40, 3\), but it fails: mat1"),
        (lambda x: x.nothing, "fails: .*nothing"),
        (lambda x: {}["key"], "fails: 'key'"),
    ],
)
def test_networks_that_do_not_fit(function: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_logits(Says(function), data())


def test_an_assertion_in_the_users_network_is_the_reason_given() -> None:
    def fails(x: Tensor) -> Tensor:
        assert x.shape[1] == 9, "nine features please"
        return x[:, 0]

    with pytest.raises(InputError, match="nine features please"):
        as_logits(Says(fails), data())


def test_doubles_and_singles_in_networks_and_in_data() -> None:
    doubles = dataclasses.replace(data(), x=data().x.double())
    right = logits(linear(), data())
    for network in (linear(), linear().double()):
        for rows in (data(), doubles):
            assert torch.allclose(logits(as_logits(network, rows), rows), right, atol=1e-6)
    assert doubles.x.dtype == torch.float64


class Warm(nn.Module):
    """Single precision, but for a number in front."""

    def __init__(self, front: Tensor) -> None:
        super().__init__()
        self.front, self.last = nn.Parameter(front, requires_grad=False), linear()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(x)
        return out


@pytest.mark.parametrize("kind", [torch.float64, torch.float8_e4m3fn])
def test_one_weight_of_another_precision_decides_nothing(kind: torch.dtype) -> None:
    found = forward(Warm(torch.ones(3).to(kind)), data().x)
    assert torch.equal(found, forward(linear(), data().x))


class Scales(nn.Module):
    """Normalises its input in place, as networks do that own their batches."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(0.5).div_(0.25)[:, 0]


class Clamps(nn.Module):
    """Writes to its input, in rows and modes in which that changes nothing too."""

    def __init__(self, *, gentle: bool = False) -> None:
        super().__init__()
        self.last, self.gentle = linear(), gentle

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone() if self.gentle else x
        x = x.clamp_(-0.5, 0.5) if self.training else x.clamp_(-1, 1)
        out: Tensor = self.last(x)
        return out


def test_a_network_that_writes_what_was_there_is_known_by_it() -> None:
    network, small, large = Clamps(), torch.zeros(3, 3), torch.full((3, 3), 7.0)
    for mode in (True, False):
        network.train(mode)
        for x in (small, large):
            before = x.clone()
            with torch.inference_mode():
                forward(network, x)
            forward(network, x)
            assert torch.equal(x, before)


@pytest.mark.parametrize("method", ["fair_head", "layerwise", "pruning", "adversarial", "random"])
def test_debiasing_a_network_that_writes_to_its_input(method: str) -> None:
    rows = dataclasses.replace(data(), x=data().x * 3)
    rows.x[:2] = 0
    before = rows.x.clone()
    quick = {
        "random": Random(trials=3),
        "adversarial": Adversarial(epochs=1, critic_steps=2, actor_steps=2),
    }
    result = debias(Clamps().eval(), rows, Constrained("spd"), quick.get(method, method))
    again = torch.as_tensor(result.predict_data(rows))
    assert torch.equal(rows.x, before)
    assert torch.equal(result.predict(before), again)
    twin = debias(Clamps(gentle=True).eval(), rows, Constrained("spd"), quick.get(method, method))
    assert torch.equal(again, torch.as_tensor(twin.predict_data(rows)))


def test_a_network_that_writes_to_its_input_does_not_reach_the_data() -> None:
    rows, network = data(), Scales()
    before = rows.x.clone()
    found = [logits(network, rows) for _ in range(3)]
    audit(as_logits(network, rows, "logits"), rows)
    assert torch.equal(rows.x, before)
    assert torch.equal(found[0], (before[:, 0] - 0.5) / 0.25)
    assert all(torch.equal(each, found[0]) for each in found)


def test_a_network_that_leaves_its_input_alone_gets_no_copy_after_the_first_call() -> None:
    seen: list[int] = []
    network, x = Says(lambda x: seen.append(x.data_ptr()) or x[:, 0]), data().x
    for _ in range(3):
        forward(network, x)
    assert [place == x.data_ptr() for place in seen] == [False, True, True]


@pytest.mark.parametrize("network", [lambda x: x, nn.Linear, None])
def test_what_is_no_network(network: Any) -> None:
    with pytest.raises(InputError, match=r"expected a torch\.nn\.Module"):
        as_logits(network, data())


def test_no_rows() -> None:
    with pytest.raises(InputError, match="data with rows"):
        as_logits(linear(), data()[:0])


def test_a_nan_in_the_last_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "BATCH_ROWS", 16)
    last = float(data().x[-1, 0])
    network = Says(lambda x: torch.where(x[:, 0] == last, math.nan, x[:, 0]))
    with pytest.raises(InputError, match="got 1 NaN or infinite ones of 8"):
        as_logits(network, data())


def test_a_logit_in_the_last_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "BATCH_ROWS", 16)
    last = float(data().x[-1, 0])
    network = Says(lambda x: torch.where(x[:, 0] == last, 3.0, torch.sigmoid(x[:, 0])))
    assert as_logits(network, data()) is network


# --- values -------------------------------------------------------------------------------------


def test_batches_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = logits(linear(), data())
    monkeypatch.setattr(grouped, "BATCH_ROWS", 7)
    assert torch.allclose(logits(linear(), data()), whole, atol=1e-6)
    assert len(probabilities(linear(), data())) == 40


@pytest.mark.parametrize("named", [False, True])
def test_x_of_several_parts(named: bool) -> None:
    assert logits(Pair(), Stream(named)).tolist() == [-2, -1, 0, 1]
    assert as_logits(Pair(), Stream(named)) is not None


def test_a_tuple_of_arrays_is_several_inputs_and_a_list_is_one() -> None:
    ones, codes = np.ones((4, 2)), np.arange(4)
    for given in ((ones, ones), (ones, torch.ones(4, 2)), (torch.ones(4, 2), ones), (ones, codes)):
        found = as_input(given, linear())
        assert isinstance(found, tuple)
        assert [tuple(part.shape) for part in found] == [part.shape for part in given]
        assert found[0].dtype == torch.float32
    for given in ([[1.0, 2.0], [3.0, 4.0]], ((1.0, 2.0), (3.0, 4.0)), [ones[0], ones[1]]):
        assert as_input(given, linear()).shape == (2, 2)


def test_predictions_of_a_network_of_two_inputs() -> None:
    class Summed(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left[:, 0] - right.sum(1)

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(40, n, generator=generator) for n in (3, 2))
    rows = [((a, b), i % 2, i // 2 % 2) for i, (a, b) in enumerate(zip(left, right, strict=True))]
    stream = StreamedData.of(rows, ("a", "b"))
    result = debias(Summed(), stream, Constrained("spd", 0.5), "threshold", outputs="logits")
    for second in (right, right[:, :1].expand(40, 3)):  # of one shape, too
        told = result.predict((left, second))
        assert torch.equal(result.predict((left.numpy(), second.numpy())), told)


def test_probabilities_are_the_sigmoid_in_double_precision() -> None:
    logit = torch.tensor([-200.0, -20.0, 0.0, 1.0, 20.0, 40.0, 200.0])
    found = probability(logit)
    assert found.dtype == np.float64
    expected = [1 / (1 + math.exp(-float(v))) for v in logit]
    assert found.tolist() == pytest.approx(expected, rel=1e-15)
    assert probability(torch.tensor([-1000.0, 1000.0])).tolist() == [0, 1]
    # in single precision these two would both be 1
    assert found[4] < probability(torch.tensor([21.0]))[0] < 1


# --- nothing is left changed --------------------------------------------------------------------


def mixed() -> nn.Module:
    """Submodules in different modes, with dropout and batch norm."""
    network = nn.Sequential(
        nn.Linear(3, 4),
        nn.BatchNorm1d(4),
        nn.Sequential(nn.Dropout(0.5), nn.ReLU()),
        nn.Linear(4, 1),
    )
    network.train()
    network[1].eval()
    network[2][1].eval()
    return network


@pytest.mark.parametrize(
    "use",
    [
        lambda m: as_logits(m, data(), "logits"),
        lambda m: logits(m, data()),
        lambda m: probabilities(m, data()),
    ],
)
def test_modes_weights_and_random_state_stay(use: Any) -> None:
    network = mixed()
    modes = [module.training for module in network.modules()]
    state = copy.deepcopy(network.state_dict())
    random = torch.random.get_rng_state()
    use(network)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_modes_come_back_after_a_failure() -> None:
    network = nn.Sequential(nn.Dropout(), Says(lambda x: x.nothing))
    with pytest.raises(InputError):
        as_logits(network, data())
    assert all(module.training for module in network.modules())


def test_outputs_are_those_of_eval_mode() -> None:
    network = mixed()
    torch.manual_seed(0)
    once, again = logits(network, data()), logits(network, data())
    assert torch.equal(once, again)
    with evaluating(network):
        assert not any(module.training for module in network.modules())
        assert torch.equal(forward(network, data().x), once)


class Positions(nn.Module):
    """Makes what it needs on its first call, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.place: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.place is None:
            self.place = torch.linspace(0, 1, x.shape[1])
        return self.line(x * self.place)


@pytest.mark.parametrize("use", ["audit", "threshold", "fair_head", "layerwise", "zhang"])
def test_a_network_can_be_trained_after_it_was_looked_at(use: str) -> None:
    model, rows = Positions(), data()
    if use == "audit":
        audit(model, rows, outputs="logits")
    else:
        debias(model, rows, Constrained("spd", 0.3), use, outputs="logits")
    model(rows.x.clone().requires_grad_()).sum().backward()
    assert model.line.weight.grad is not None


class TurnsGradientsOn(nn.Module):
    """As networks do that need gradients for their answer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize(
    "use",
    [
        *("audit", "random", "layerwise", "threshold", "fair_head", "pruning", "bias_gradient"),
        *("lagrangian", "zhang", "adversarial"),
    ],
)
def test_a_network_that_turns_gradients_on(use: str) -> None:
    model, rows = TurnsGradientsOn(), data()
    found = audit(model, rows, outputs="logits")
    if use != "audit":
        result = debias(model, rows, Constrained("spd", 0.3), use, outputs="logits")
        assert result.before.performance == pytest.approx(found["balanced_accuracy"].value, abs=0.5)
        audit(result, rows)
