"""A network that is run again and again from a late layer on, over what its early parts said once.

A network of any kind cannot be cut in two. But modules that have finished when the layer starts can
be made to say what they said before, and the rest of the network's own code then runs as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from retrofair.data import Batches
from retrofair.metrics import Array
from retrofair.networks.layers import reading
from retrofair.networks.memory import part_of, rows_of
from retrofair.networks.outputs import (
    detached,
    evaluating,
    forward,
    log_chances,
    logits,
    probability,
)

LIMIT = 2**31  # bytes of what is kept
LOOKS = 16  # rows by which is found out what must be kept

Said = dict[nn.Module, Any]  # what modules gave for a batch


class Replay:
    """Passes of a network over the same data in which only what one layer can change is computed.

    `Replay.of` makes it, where it is the same as ordinary passes, bit for bit.

    Args:
        model: whose weights may change in that layer alone.
        batches: for each batch, what modules before the layer said.
        given: for each batch, x where no other module reads it: a stand-in without its numbers;
            None to read the data again.
        inputs: (n, h) float32 of what the layer reads, as `layers.representation` gives it.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Batches,
        batches: Sequence[Said],
        given: Sequence[Any] | None,
        inputs: Tensor,
    ) -> None:
        self.model, self.data = model, data
        self.batches, self.given, self.inputs = batches, given, inputs

    @classmethod
    def of(cls, model: nn.Module, data: Batches, layer: str) -> Replay | None:
        """From two passes; None where nothing is gained by it: before the layer nothing runs, what
        would be kept is over 2 GiB, memory runs out, or other passes are not the same.

        That they are the same is tried on all rows with the layer's weights as they are and with
        others.
        """
        try:
            return cls._of(model, data, model.get_submodule(layer))
        except Exception:  # what is wrong, ordinary passes say better, and they may do
            return None

    @classmethod
    def _of(cls, model: nn.Module, data: Batches, target: nn.Module) -> Replay | None:
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            return None  # they may count on what the modules read, which are stand-ins
        x, _, _ = next(iter(data))
        some = part_of(x, slice(LOOKS))
        with evaluating(model):
            parts = _finished(model, target, some)
            needed, blank = _needed(model, target, some, parts) if parts else ([], False)
            found = _recorded(model, target, data, parts, needed, blank) if needed else None
        if found is None:
            return None
        batches, given, inputs, outputs = found
        made = cls(model, data, batches, given if blank else None, inputs.clone())
        if not torch.equal(made._replayed(), outputs):
            return None
        with torch.no_grad(), _other_weights(target):
            return made if torch.equal(made._replayed(), logits(model, data)) else None

    def logits(self) -> Tensor:
        """As `outputs.logits`, with the layer's weights as they are now."""
        found = self._replayed()
        # with other weights than those it was looked at with, what was left out may be read
        return found if bool(torch.isfinite(found).all()) else logits(self.model, self.data)

    def _replayed(self) -> Tensor:
        given = (x for x, _, _ in self.data) if self.given is None else iter(self.given)
        found = []
        with evaluating(self.model):
            for x, said in zip(given, self.batches, strict=True):
                with _saying(said):
                    found.append(detached(forward(self.model, x)).float().cpu())
        return torch.cat(found)

    def chances(self) -> Array:
        """As `outputs.chances`."""
        found = self.logits()
        return probability(found) if found.ndim == 1 else log_chances(found)


@contextmanager
def _saying(said: Mapping[nn.Module, Any]) -> Iterator[None]:
    """While open these modules say this, whatever they are given."""
    before = {module: vars(module).get("forward") for module in said}
    try:
        for module, value in said.items():
            vars(module)["forward"] = _says(value)
        yield
    finally:
        for module, own in before.items():
            vars(module).pop("forward", None)
            if own is not None:
                vars(module)["forward"] = own


def _says(value: Any) -> Callable[..., Any]:
    # a copy, as what comes next may write to it
    return lambda *_given, **_named: tree_map(_copied, value)


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) and not _is_blank(leaf) else leaf


def _blanked(leaf: Any) -> Any:
    """A stand-in of the same shape, of one number: nan, which comes through all that reads it."""
    if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim:
        return leaf.new_full((1,) * leaf.ndim, torch.nan).expand(leaf.shape)
    return leaf


def _is_blank(value: Tensor) -> bool:
    return value.numel() > 1 and not any(value.stride()) and value.is_floating_point()


@contextmanager
def _other_weights(layer: nn.Module) -> Iterator[None]:
    """While open the layer has others, far from its own."""
    generator = torch.Generator().manual_seed(0)
    own = [(parameter, parameter.detach().clone()) for parameter in layer.parameters()]
    try:
        for parameter, value in own:
            noise = torch.randn(value.shape, generator=generator).to(value)
            parameter.copy_(value + (value.std(correction=0) + 0.1) * noise)
        yield
    finally:
        for parameter, value in own:
            parameter.copy_(value)


def _finished(model: nn.Module, target: nn.Module, x: Any) -> Said:
    """What the outermost modules that end before the layer starts say.

    Without those that run several times, or share a weight with the layer.
    """
    calls: Counter[nn.Module] = Counter()
    said: Said = {}

    def starts(module: nn.Module, _given: Any) -> None:
        calls[module] += 1

    def ends(module: nn.Module, _given: Any, out: Any) -> None:
        if not calls[target]:
            said[module] = tree_map(_copied, out)

    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(starts).remove)
            stack.callback(module.register_forward_hook(ends).remove)
        forward(model, x)
    if calls[target] != 1:
        return {}
    inner = {part for module in said for part in module.modules() if part is not module}
    own = {id(parameter) for parameter in target.parameters()}
    return {
        module: value
        for module, value in said.items()
        if calls[module] == 1
        and module not in inner
        and not any(id(parameter) in own for parameter in module.parameters())
    }


def _needed(
    model: nn.Module, target: nn.Module, x: Any, parts: Said
) -> tuple[list[nn.Module], bool]:
    """Of which modules the numbers matter for what comes after, and whether those of x do not.

    None where it would not be the same with what all of them said, with the layer's weights as
    they are or with others: then what they said depends on these, in whatever way.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]  # which might note a nan

    def run(given: Any) -> list[Tensor]:
        # what the layer reads, too: not all of that need show in what the network says
        with reading(model, target) as seen:
            own = forward(model, given)
            own_input = seen["input"]
            with _other_weights(target):
                return [own, own_input, forward(model, given), seen["input"]]

    wanted = run(x)

    def same(needed: Sequence[nn.Module], given: Any) -> bool:
        said = {m: v if m in needed else tree_map(_blanked, v) for m, v in parts.items()}
        try:
            with _saying(said):
                return all(map(torch.equal, run(given), wanted))
        except Exception:  # the network's own code, on what it has never seen
            return False
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)

    needed = list(parts)[-1:]  # in a chain, the last
    if not same(needed, x):
        needed = list(parts)
        if not same(needed, x):
            return [], False
        for module in parts:
            fewer = [each for each in needed if each is not module]
            needed = fewer if same(fewer, x) else needed
    numbers = all(isinstance(v, Tensor) and v.is_floating_point() for v in tree_leaves(x))
    return needed, numbers and same(needed, tree_map(_blanked, x))


def _recorded(
    model: nn.Module,
    target: nn.Module,
    data: Batches,
    parts: Said,
    needed: Sequence[nn.Module],
    blank: bool,
) -> tuple[list[Said], list[Any], Tensor, Tensor] | None:
    """All batches: what the modules said, x's stand-ins, what the layer read, what the network
    said; None where that is too much."""
    now: Said = {}

    def keep(module: nn.Module, _given: Any, out: Any) -> None:
        now[module] = tree_map(_copied if module in needed else _blanked, out)

    batches, given, inputs, outputs = [], [], [], []
    size = rows = 0
    with ExitStack() as stack:
        seen = stack.enter_context(reading(model, target))
        for module in parts:
            stack.callback(module.register_forward_hook(keep).remove)
        for x, _, _ in data:
            now = {}
            outputs.append(detached(forward(model, x)).float().cpu())
            inputs.append(seen["input"].detach().cpu())
            batches.append(now)
            given.append(tree_map(_blanked, x) if blank else None)
            leaves = [v for v in tree_leaves(list(now.values())) if isinstance(v, Tensor)]
            size += sum(v.numel() * v.element_size() for v in leaves if not _is_blank(v))
            rows += rows_of(x)
            if size / rows * len(data) > LIMIT:
                return None
    return batches, given, torch.cat(inputs), torch.cat(outputs)
