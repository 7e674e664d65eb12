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
from retrofair.networks.memory import part_of, ran_out, rows_of
from retrofair.networks.outputs import evaluating, forward, log_chances, probability

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
        """From one pass; None where nothing is gained by it: before the layer nothing runs, what
        would be kept is over 2 GiB, memory runs out, or other passes are not the same."""
        target = model.get_submodule(layer)
        x, _, _ = next(iter(data))
        some = part_of(x, slice(LOOKS))
        with evaluating(model):
            parts, said = _finished(model, target, some)
            needed, blank = _needed(model, some, parts, said) if parts else ([], False)
            if not needed:
                return None
            try:
                found = _recorded(model, target, data, list(parts), needed, blank)
            except (RuntimeError, MemoryError) as error:
                if ran_out(error):
                    return None
                raise
        if found is None:
            return None
        batches, given, inputs, outputs = found
        made = cls(model, data, batches, given if blank else None, inputs.clone())
        return made if _alike(made.logits, outputs) else None

    def logits(self) -> Tensor:
        """As `outputs.logits`, with the layer's weights as they are now."""
        given = (x for x, _, _ in self.data) if self.given is None else iter(self.given)
        found = []
        with evaluating(self.model):
            for x, said in zip(given, self.batches, strict=True):
                with _saying(said):
                    found.append(forward(self.model, x).float().cpu())
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


def _alike(run: Callable[[], Tensor], wanted: Tensor) -> bool:
    try:
        return torch.equal(run(), wanted)
    except Exception:  # the network's own code, on what it has never seen
        return False


def _finished(model: nn.Module, target: nn.Module, x: Any) -> tuple[Said, Tensor]:
    """What the outermost modules that end before the layer starts say, and what the network does.

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
        out = forward(model, x)
    if calls[target] != 1:
        return {}, out
    inner = {part for module in said for part in module.modules() if part is not module}
    own = {id(parameter) for parameter in target.parameters()}
    parts = {
        module: value
        for module, value in said.items()
        if calls[module] == 1
        and module not in inner
        and not any(id(parameter) in own for parameter in module.parameters())
    }
    return parts, out


def _needed(model: nn.Module, x: Any, parts: Said, out: Tensor) -> tuple[list[nn.Module], bool]:
    """Of which modules the numbers matter for what comes after, and whether those of x do not.

    None where it would not be the same with what all of them said.
    """

    def same(needed: Sequence[nn.Module], given: Any) -> bool:
        with _saying({m: v if m in needed else tree_map(_blanked, v) for m, v in parts.items()}):
            return _alike(lambda: forward(model, given), out)

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
    parts: Sequence[nn.Module],
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
            outputs.append(forward(model, x).float().cpu())
            inputs.append(seen["input"].cpu())
            batches.append(now)
            given.append(tree_map(_blanked, x) if blank else None)
            leaves = [v for v in tree_leaves(list(now.values())) if isinstance(v, Tensor)]
            size += sum(v.numel() * v.element_size() for v in leaves if not _is_blank(v))
            rows += rows_of(x)
            if size / rows * len(data) > LIMIT:
                return None
    return batches, given, torch.cat(inputs), torch.cat(outputs)
