"""A network as what comes before its last layer, and that layer: a head on representations."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from retrofair.data import Batches, GroupedData
from retrofair.errors import InputError
from retrofair.networks.layers import reading, weight_layers
from retrofair.networks.memory import part_of, rows_of
from retrofair.networks.outputs import evaluating, forward
from retrofair.networks.recording import recorded

LOOKS = 64  # rows by which the last layer is known
SURE = 5.0  # logits up to which probabilities give them back exactly enough to compare
NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A network that ends in a linear layer.

    Args:
        network: it, answering with logits.
        name: of its last layer.
        difference: it has two outputs, of which the network answers with the difference.
    """

    network: nn.Module
    name: str
    difference: bool

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
        for difference in (False, True):
            found = cls(network, name, difference)
            if isinstance(layer, nn.Linear) and found._fits(layer, x):
                return found
        raise InputError(
            "expected a network that ends in a linear layer whose input is a row of numbers, for "
            f"head_only=True, but after {name} ({type(layer).__name__}), the last to run, more "
            "follows: leave head_only out (--head-only)"
        )

    def head(self) -> nn.Sequential:
        """The last layer as a network of its own: (n, h) -> (n,) or (n, K) logits."""
        return nn.Sequential(OrderedDict(head=_folded(self._layer(self.network), self.difference)))

    def representations(self, data: Batches) -> GroupedData:
        """What the last layer reads of every row, (n, h), as data to fit a head to."""
        x = recorded(self.network, data, [self.name]).inputs[self.name]
        return GroupedData(x=x, y=data.y, group=data.group, group_names=data.group_names)

    def with_head(self, head: nn.Module) -> nn.Module:
        """A copy of the network with the weights of a head that `head` gave, as it is now."""
        model = copy.deepcopy(self.network).eval()
        new, old = head.get_submodule("head"), self._layer(model)
        assert isinstance(new, nn.Linear)
        with torch.no_grad():
            for now, then in ((new.weight, old.weight), (new.bias, old.bias)):
                if then is None:
                    continue
                if self.difference:  # the first output 0: then the second is the logit, exactly
                    then[0].zero_()
                    then[1].copy_(now[0])
                else:
                    then.copy_(now)
        return model

    def _layer(self, network: nn.Module) -> nn.Linear:
        layer = network.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        return layer

    def _fits(self, layer: nn.Linear, x: object) -> bool:
        if self.difference and layer.out_features != 2:
            return False
        with reading(self.network, self.name) as seen, evaluating(self.network):
            out = forward(self.network, x)
            if seen["input"].shape != (rows_of(x), layer.in_features):
                return False
            head = _folded(layer, self.difference).eval()
            told = forward(head, seen["input"].to(layer.weight))
        return told.shape == out.shape and _alike(told, out)


def _folded(layer: nn.Linear, difference: bool) -> nn.Linear:
    if not difference:
        return copy.deepcopy(layer).requires_grad_(True)
    bias = layer.bias is not None
    with torch.random.fork_rng(devices=[]):  # it draws weights, of which none stays
        made = nn.Linear(layer.in_features, 1, bias=bias).to(layer.weight)
    with torch.no_grad():
        made.weight.copy_(layer.weight[1:] - layer.weight[:1])
        if bias:
            made.bias.copy_(layer.bias[1:] - layer.bias[:1])
    return made


def _alike(told: Tensor, out: Tensor) -> bool:
    sure = out.abs() < SURE
    return bool(((told - out).abs()[sure] <= NEAR * (1 + out.abs()[sure])).all())
