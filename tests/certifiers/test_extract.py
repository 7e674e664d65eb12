"""Networks of many forms taken apart, and those that cannot be."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from retrofair.certifiers.extract import extract
from retrofair.certifiers.question import Question
from retrofair.errors import InputError
from retrofair.networks import MLP

D = 4


class Runs(nn.Module):
    """Two linear layers, a buffer and a constant, put together by a function."""

    def __init__(self, function: Callable[..., Any], inside: int = D, out: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(inside, 5), nn.Linear(5, out)
        self.wide = nn.Linear(10, 1)
        self.register_buffer("mean", torch.tensor([1.0, -2, 0.5, 3]))
        self.register_buffer("spread", torch.tensor([2.0, 1, 0.5, 4]), persistent=False)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def normalised(out: int = 5) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(out)
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
        norm.running_var.uniform_(0.5, 3)  # type: ignore[union-attr, operator]
        norm.weight.uniform_(-2, 2)
        norm.bias.uniform_(-1, 1)
    return norm


def plain(*middle: nn.Module, out: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(D, 5), *middle, nn.Linear(5, out))


SUPPORTED: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: plain(nn.ReLU()),
    "in place": lambda: plain(nn.ReLU(inplace=True)),
    "leaky": lambda: plain(nn.LeakyReLU(0.3)),
    "leaky, rising": lambda: plain(nn.LeakyReLU(-0.3)),
    "tanh, several": lambda: plain(nn.Tanh(), out=3),
    "flattened": lambda: nn.Sequential(*plain(nn.ReLU()), nn.Flatten(0)),
    "linear": lambda: nn.Linear(D, 1),
    "two linear": lambda: plain(),
    "norm after": lambda: plain(nn.ReLU(), normalised()),
    "norm before": lambda: plain(normalised(), nn.ReLU()),
    "norm without weights": lambda: plain(nn.BatchNorm1d(5, affine=False), nn.ReLU()),
    "norm of inputs": lambda: nn.Sequential(normalised(D), nn.Linear(D, 1)),
    "dropout": lambda: plain(nn.Dropout(0.5), nn.ReLU(), nn.AlphaDropout(0.2)),
    "identity, nested": lambda: nn.Sequential(nn.Identity(), nn.Sequential(plain(nn.Sigmoid()))),
    "mlp": lambda: MLP(D, width=6, depth=3),
    "sigmoid at the end": lambda: nn.Sequential(*plain(nn.ReLU()), nn.Sigmoid()),
    "softmax": lambda: nn.Sequential(*plain(nn.ReLU(), out=3), nn.Softmax(dim=-1)),
    "log softmax": lambda: nn.Sequential(*plain(nn.ReLU(), out=3), nn.LogSoftmax(dim=1)),
    "squeezed": lambda: Runs(lambda s, x: s.b(F.relu(s.a(x))).squeeze(-1)),
    "first column": lambda: Runs(lambda s, x: s.b(torch.tanh(s.a(x)))[:, 0]),
    "standardised": lambda: Runs(lambda s, x: s.b(F.relu(s.a((x - s.mean) / s.spread)))),
    "scaled": lambda: Runs(lambda s, x: 2 * s.b(F.leaky_relu(s.a(x / 50.0), 0.2)) - 3),
    "negated": lambda: Runs(lambda s, x: -s.b(F.relu(-s.a(x)))),
    "columns joined": lambda: Runs(
        lambda s, x: s.b(F.relu(s.a(torch.cat([x[:, 2:], x[:, :2]], 1))))
    ),
    "joined after one layer": lambda: Runs(
        lambda s, x: s.wide(F.relu(torch.cat([s.a(x), -s.a(x)], dim=-1)))
    ),
    "added before": lambda: Runs(lambda s, x: s.b(F.relu(s.a(x) + 2 * s.a(x) - 0.5))),
    "mean at the end": lambda: Runs(lambda s, x: F.relu(s.a(x)).mean(1)),
    "clamped": lambda: Runs(lambda s, x: s.b(s.a(x).clamp(min=0))),
    "price": lambda: Runs(lambda s, x: 5 + 45 * torch.sigmoid(s.b(F.relu(s.a(x))))),
    "double": lambda: plain(nn.ReLU()).double(),
    "matrix": lambda: Runs(lambda s, x: torch.relu(x @ s.a.weight.T + s.a.bias) @ s.b.weight.T),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_layers_answer_as_the_network_does(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = SUPPORTED[name]().train()
    state = copy.deepcopy(module.state_dict())
    rng, level = torch.get_rng_state(), logging.root.manager.disable
    layered = extract(module, D)
    assert module.training
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert logging.root.manager.disable == level
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    x = 10 * torch.randn(200, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = copy.deepcopy(module).double().eval()(x).reshape(200, -1)
    found = layered.forward(x)
    if layered.softmax:
        found = torch.softmax(found, 1)
        wanted = wanted.exp() if name == "log softmax" else wanted
    assert found.dtype == torch.float64
    assert found.allclose(wanted, rtol=1e-9, atol=1e-9)


def attention(s: Any, x: Tensor) -> Tensor:
    h = s.a(x)
    return s.b(torch.softmax(h @ h.T, -1) @ h)


UNSUPPORTED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "gelu": (lambda: plain(nn.GELU()), "gelu"),
    "elu": (lambda: plain(nn.ELU()), "elu"),
    "silu": (lambda: plain(nn.SiLU()), "silu"),
    "layer norm": (lambda: plain(nn.LayerNorm(5)), "layer_norm"),
    "relu6": (lambda: plain(nn.ReLU6()), "hardtanh|relu6|clamp"),
    "prelu": (lambda: plain(nn.PReLU()), "prelu"),
    "skip": (lambda: Runs(lambda s, x: s.b(F.relu(s.a(x)) + s.a(x))), "add"),
    "skip by joining": (
        lambda: Runs(lambda s, x: s.wide(torch.cat([F.relu(s.a(x)), s.a(x)], 1))),
        "cat",
    ),
    "attention": (lambda: Runs(attention), "permute|matmul|mm|transpose|numpy_T|t"),
    "product": (lambda: Runs(lambda s, x: s.b(s.a(x) * s.a(x))), "mul"),
    "square": (lambda: Runs(lambda s, x: s.b(s.a(x) ** 2)), "pow"),
    "flow": (lambda: Runs(lambda s, x: s.b(s.a(x)) if x.sum() > 0 else s.b(-s.a(x))), "fails"),
    "mean over people": (lambda: Runs(lambda s, x: s.b(F.relu(s.a(x - x.mean(0))))), "mean|sub"),
    "largest of people": (lambda: Runs(lambda s, x: s.b(s.a(x - x.amax(0)))), "amax"),
    "sorted people": (lambda: Runs(lambda s, x: s.b(s.a(x.flip(0)))), "flip"),
    "norm of the batch": (
        lambda: plain(nn.BatchNorm1d(5, track_running_stats=False)),
        "batch|Batch",
    ),
    "softmax inside": (lambda: plain(nn.Softmax(1)), "softmax"),
    "whole numbers": (lambda: Runs(lambda s, x: s.b(s.a(x.int().float() * 1e-5))), ""),
    "rounded": (lambda: Runs(lambda s, x: s.b(s.a(x.round() * 1e-5))), "round"),
    "compared": (lambda: Runs(lambda s, x: s.b(s.a((x > 0.5).float()))), "gt"),
    "noise": (lambda: Runs(lambda s, x: s.b(s.a(x + torch.randn_like(x)))), "rand"),
    "three rows": (lambda: Runs(lambda s, x: s.b(s.a(x.reshape(3, 4)))), ""),
    "one number": (lambda: Runs(lambda s, x: s.b(s.a(x)).mean()), "outputs"),
    "two results": (lambda: Runs(lambda s, x: (s.b(s.a(x)), x)), "outputs"),
    "constant": (lambda: Runs(lambda s, x: torch.zeros(len(x), 1)), ""),
    "other inputs": (lambda: nn.Linear(7, 1), ""),
    "image": (lambda: nn.Conv2d(1, 1, 3), ""),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_named(name: str) -> None:
    make, message = UNSUPPORTED[name]
    with pytest.raises(InputError, match=message or None) as caught:
        extract(make(), D)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_batches_are_not_mistaken_for_features(d: int) -> None:
    # for d = 3 the example batch is square
    for function in (
        lambda s, x: s.a(x.T.reshape(x.shape)),
        lambda s, x: s.a(x - x.sum(0)),
        lambda s, x: s.a(x * x.mean(0, keepdim=True)),
        lambda s, x: s.a(torch.cat([x[1:], x[:1]])),
    ):
        if d == 1 and function.__code__.co_names[0] == "a" and "T" in function.__code__.co_names:
            continue  # one column: turning it changes nothing
        with pytest.raises(InputError):
            extract(Runs(function, inside=d), d)


def test_weights_that_are_no_numbers() -> None:
    module = plain(nn.ReLU())
    with torch.no_grad():
        module[0].weight[0, 0] = torch.nan
    with pytest.raises(InputError):
        extract(module, D)
    with pytest.raises(InputError, match="Module"):
        extract(lambda x: x, D)  # type: ignore[arg-type]


def test_what_outputs_stand_for() -> None:
    bare, ended = plain(nn.ReLU()), nn.Sequential(*plain(nn.ReLU()), nn.Sigmoid())
    several = plain(nn.ReLU(), out=3)
    assert Question.of(bare, D, None, None).kind == "sigmoid"
    assert Question.of(bare, D, "values", None).kind == "values"
    assert Question.of(ended, D, None, None).measured == "probabilities"
    assert Question.of(several, D, None, None).kind == "softmax"
    assert len(Question.of(several, D, None, None).heads) == 3
    price = Runs(lambda s, x: 5 + 45 * torch.sigmoid(s.b(F.relu(s.a(x)))))
    asked = Question.of(price, D, "values", None)
    assert (asked.kind, asked.measured, float(asked.scale)) == ("sigmoid", "values", 45)
    for module, outputs in ((ended, "logits"), (bare, "probabilities"), (bare, "classes")):
        with pytest.raises(InputError, match="outputs"):
            Question.of(module, D, outputs, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one output"):
        Question.of(several, D, None, 0.5)
