"""A network as what comes before its last layer, and that layer: a head on representations."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from retrofair.data import Batches, GroupedData
from retrofair.errors import InputError
from retrofair.networks.hugging_face_network import HuggingFaceNetwork
from retrofair.networks.layers import reading, representation, weight_layers
from retrofair.networks.memory import halved, part_of, rows_of
from retrofair.networks.outputs import LogitOf, evaluating, forward
from retrofair.networks.parametrized import PLAIN
from retrofair.networks.recording import recorded

LOOKS = 32  # rows by which the last layer is known
SURE = 5.0  # logits up to which probabilities give them back exactly enough to compare
NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A network that ends in a linear layer.

    Args:
        network: it, answering with logits.
        name: of its last layer; "" where the network is that layer and nothing else.
        read: (rows, outputs) of -1, 0 and 1, what the network makes of that layer's outputs, such
            as their difference; None: it answers with them.
        looks: x of some rows, by which a copy with another head is checked.
    """

    network: nn.Module
    name: str
    read: Tensor | None
    looks: Any

    @classmethod
    def of(cls, network: nn.Module, data: Batches) -> LastLayer:
        """Find it, and check on some rows that nothing follows it.

        Raises:
            InputError: the network cannot be looked into, or does not end in a linear layer.
        """
        x, _, _ = next(iter(data))
        x = part_of(x, slice(LOOKS))
        name = weight_layers(network, part_of(x, slice(2)))[-1]
        layer = network.get_submodule(name)
        plain = type(layer) is nn.Linear and "weight" in layer._parameters  # not computed
        for read in _readings(network, layer) if plain else ():
            found = cls(network, name, read, x)
            if found._fits(x):
                return found
        kind = type_before_parametrizations(layer).__name__
        if type_before_parametrizations(layer) is nn.Linear and not plain:
            raise InputError(
                "expected a network that ends in a linear layer with a weight of its own, for "
                f"head_only=True, but that of {name or 'it'} is computed (parametrizations): leave "
                f"head_only out (--head-only), or {PLAIN} on a copy first"
            )
        found_there = (
            f"after {name} ({kind}), the last to run, more follows"
            if name
            else f"it is a single layer ({kind})"
        )
        raise InputError(
            "expected a network that ends in a linear layer whose input is a row of numbers, for "
            f"head_only=True, but {found_there}: leave head_only out (--head-only)"
        )

    def head(self) -> nn.Sequential:
        """The last layer as a network of its own: (n, h) -> (n,) or (n, K) logits."""
        return nn.Sequential(OrderedDict(head=_folded(self._layer(self.network), self.read)))

    def representations(self, data: Batches) -> GroupedData:
        """What the last layer reads of every row, (n, h), as data to fit a head to."""
        x = (
            recorded(self.network, data, [self.name]).inputs[self.name]
            if self.name
            else representation(self.network, data, self.network)  # "" would be its output
        )
        return GroupedData(x=x, y=data.y, group=data.group, group_names=data.group_names)

    def with_head(self, head: nn.Module) -> nn.Module:
        """A copy of the network with the weights of a head that `head` gave, as it is now.

        Raises:
            InputError: the copy does not answer as the head does, as its last layer has a part in
                what it reads itself (weights that are shared, a layer that runs twice).
        """
        model = copy.deepcopy(self.network).eval()
        new, old = head.get_submodule("head"), self._layer(model)
        assert isinstance(new, nn.Linear)
        with torch.no_grad():
            for now, then in ((new.weight, old.weight), (new.bias, old.bias)):
                if then is None:
                    continue
                if self.read is None:
                    then.copy_(now)
                    continue
                for signs, value in zip(self.read, now, strict=True):
                    then[signs < 0] = 0  # of a difference: then the other is the logit, exactly
                    place = int(signs.argmax()) if bool((signs > 0).any()) else int(signs.argmin())
                    then[place].copy_(signs[place] * value)
        with evaluating(model), evaluating(head):
            out, read = self._run(self.looks, model)
            out = out.float()
            told = forward(head, read.to(new.weight)).to(out)
        if not _alike(told, out, self._near):
            raise InputError(
                "expected a network whose last layer plays no other part in it for head_only=True, "
                f"but with other weights {self.name or 'it'} changes what it reads, or they are "
                "computed: "
                "leave head_only out (--head-only)"
            )
        return model

    @property
    def _near(self) -> float:
        """How near two ways to the same logits are: of half precision, less."""
        half = self._layer(self.network).weight.dtype in (torch.float16, torch.bfloat16)
        return 30 * NEAR if half else NEAR

    def _layer(self, network: nn.Module) -> nn.Linear:
        layer = network.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        return layer

    def _fits(self, x: object) -> bool:
        layer = self._layer(self.network)
        out, read = self._run(x, self.network)
        if read.shape != (rows_of(x), layer.in_features):
            return False
        head = _folded(layer, self.read).eval()
        with torch.no_grad():
            told = forward(head, read.to(head.weight)).to(out)
        if told.shape != out.shape:
            return False
        sure = out.abs() < SURE if isinstance(self.network, LogitOf) else out.abs() < torch.inf
        return bool(sure.any()) and _alike(told[sure].float(), out[sure].float(), self._near)

    def _run(self, x: Any, model: nn.Module) -> tuple[Tensor, Tensor]:
        """What a network says of x, itself or a copy, and what its own last layer reads of it."""
        with reading(self.network, self._layer(self.network)) as seen, evaluating(self.network):

            def run(part: Any) -> tuple[Tensor, Tensor]:
                out = forward(self.network, part)
                return out if model is self.network else forward(model, part), seen["input"]

            out, read = (torch.cat(e) for e in zip(*halved(self.network, x, run), strict=True))
        return out, read


def _readings(network: nn.Module, layer: nn.Module) -> list[Tensor | None]:
    """What a network may make of its last layer's outputs; which of these it is, rows tell."""
    found: list[Tensor | None] = [None]
    outputs = int(layer.out_features) if isinstance(layer, nn.Linear) else 0
    below = network.network if isinstance(network, LogitOf) else network
    if isinstance(below, HuggingFaceNetwork):
        read = below.read(torch.eye(outputs))
        found.append(read[None] if read.ndim == 1 else read.T)
    elif outputs == 2:
        found.append(torch.tensor([[-1.0, 1.0]]))
    return found


def _folded(layer: nn.Linear, read: Tensor | None) -> nn.Linear:
    if read is None:
        return copy.deepcopy(layer).float().requires_grad_(True)
    bias = layer.bias is not None
    with torch.random.fork_rng(devices=[]):  # it draws weights, of which none stays
        made = nn.Linear(layer.in_features, len(read), bias=bias).to(layer.weight.device)
    plus, minus = ((read * sign).clamp(min=0).to(layer.weight.device) for sign in (1, -1))
    with torch.no_grad():
        for then, now in ((made.weight, layer.weight), (made.bias, layer.bias)):
            if now is not None:
                then.copy_(plus @ now.float() - minus @ now.float())
    return made


def _alike(told: Tensor, out: Tensor, near: float) -> bool:
    return bool(((told - out).abs() <= near * (1 + out.abs())).all())
