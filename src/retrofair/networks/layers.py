"""Finding layers inside any network, and what flows into them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.errors import InputError, unknown
from retrofair.networks.memory import halved, part_of, rows_of
from retrofair.networks.outputs import evaluating, forward
from retrofair.networks.parametrized import named_layers, weight_of

ONE_AT_A_TIME = threading.RLock()  # what a layer reads is noted by hooks on the network itself


def weight_layers(model: nn.Module, x: Any) -> list[str]:
    """Names of the layers with a weight matrix or kernel, in the order in which they run."""
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "expected a network whose layers can be looked into, got a TorchScript module: use "
            "method='random' or a post-processor, or the nn.Module it was made from"
        )
    order = list(dict.fromkeys(running_order(model, x, _has_weight)))
    if not order:
        raise InputError("expected a network with at least one linear or convolution layer")
    return order


def running_order(model: nn.Module, x: Any, chosen: Callable[[nn.Module], bool]) -> list[str]:
    """Names of the chosen modules as they run; one that runs twice is there twice."""
    order: list[str] = []

    def noter(name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any) -> None:
            order.append(name)

        return note

    hooks = [
        module.register_forward_pre_hook(noter(name))
        for name, module in named_layers(model)
        if chosen(module)
    ]

    def run(part: Any) -> None:
        order.clear()
        forward(model, part)

    try:
        with evaluating(model):
            halved(model, x, run)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def readable_layers(model: nn.Module, x: Any) -> tuple[list[str], int]:
    """Names of the layers after the first whose input `reading` gives as numbers, one row a row.

    Returns:
        The names in the order in which they run, none where the network cannot be looked into
        (TorchScript, an exported program, other weights than matrices and kernels); and how many
        layers ran.
    """
    if isinstance(model, torch.jit.ScriptModule) or not any(map(_has_weight, model.modules())):
        return [], 0
    x = part_of(x, slice(3))
    try:
        order = weight_layers(model, x)
    except InputError:  # none of them runs as a module
        return [], 0
    return [name for name in order[1:] if _is_read(model, name, x)], len(order)


def _is_read(model: nn.Module, name: str, x: Any) -> bool:
    try:
        with reading(model, name) as seen, evaluating(model):

            def run(part: Any) -> bool:
                forward(model, part)
                return seen["input"].ndim == 2 and len(seen["input"]) == rows_of(part)

            return all(halved(model, x, run))
    except Exception:  # a layer of the user's own may take anything
        return False


def last_layer(
    model: nn.Module, x: Any, name: str | None = None, trained: int | None = None
) -> str:
    """The name of the layer that reads the penultimate representation: given, or the last to run.

    The first layer to run reads nothing that depends on any weight, and the first that is trained
    nothing that training changes: then the name is "", which stands for the network's own output.

    Args:
        x: of a batch.
        trained: how many of the last layers with weights are trained; None: all.

    Raises:
        InputError: the network has no such layer.
    """
    if name is not None:
        choices = [known for known, module in named_layers(model) if _has_weight(module)]
        if name not in choices:
            raise unknown("layer", name, choices)
    order = weight_layers(model, part_of(x, slice(2)))
    chosen = order[-1] if name is None else name
    still = order[: 1 if trained is None else max(1, len(order) - trained + 1)]
    return "" if chosen in still else chosen


@contextmanager
def reading(model: nn.Module, layer: str | nn.Module) -> Iterator[dict[str, Tensor]]:
    """While open, each forward pass leaves the layer's input under "input", one row a row.

    Args:
        layer: its name, where "" stands for the network's own output; or the layer itself, which
            may be the whole network.
    """
    seen: dict[str, Tensor] = {}

    def keep_output(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen["input"] = as_rows(output).float()

    def keep(module: nn.Module, inputs: Any, named: Any) -> None:
        value: Tensor = inputs[0] if inputs else next(iter(named.values()))
        if value.ndim > 2:  # the mean over positions
            linear = isinstance(module, nn.Linear)  # its features come last, a convolution's second
            value = value.flatten(1, -2).mean(1) if linear else value.flatten(2).mean(-1)
        seen["input"] = value.float()

    if layer == "":
        hook = model.register_forward_hook(keep_output)
    else:
        module = model.get_submodule(layer) if isinstance(layer, str) else layer
        hook = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def representation(model: nn.Module, data: Batches, layer: str | nn.Module) -> Tensor:
    """The input of a layer for every row, (n, h) float32 on the CPU, in eval mode."""
    parts = []
    with reading(model, layer) as seen, evaluating(model):

        def run(x: Any) -> Tensor:
            forward(model, x)
            return seen["input"].cpu()

        for x, _, _ in data:
            parts += halved(model, x, run)
    return torch.cat(parts).clone()


def as_rows(values: Tensor) -> Tensor:
    """(n, ...) as (n, k), without the number of rows becoming a constant of an exported graph."""
    return values[:, None] if values.ndim == 1 else values.flatten(1)


def _has_weight(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding):
        return False
    weight = weight_of(module)
    return weight is not None and weight.ndim >= 2
