"""What a network says of each row: logits and probabilities, checked."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from retrofair.data import Batches
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks.class_order import ordered
from retrofair.networks.hugging_face_network import (
    HuggingFaceNetwork,
    is_classifier,
    refuse_adapters,
)
from retrofair.networks.memory import halved, part_of, ran_out

Outputs = Literal["logits", "probabilities"]
Run = Callable[[nn.Module, Any], Tensor]
EDGE = 1e-7
HALVES = (torch.float16, torch.bfloat16)
# networks that leave their input alone, in eval and in train mode
_gentle: tuple[weakref.WeakSet[nn.Module], ...] = (weakref.WeakSet(), weakref.WeakSet())


class LogitOf(nn.Module):
    """A network that answers with probabilities, turned into one that answers with logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *x: Any, **named: Any) -> Tensor:
        return self.of(applied(self.network, named or (x[0] if len(x) == 1 else x)))

    @staticmethod
    def of(chance: Tensor) -> Tensor:
        """Logits (n,) of probabilities (n,), or (n, K) of (n, K)."""
        if chance.ndim == 2:
            return chance.clamp(min=EDGE).log()
        return chance.clamp(EDGE, 1 - EDGE).logit()


class ExportedNetwork(nn.Module):
    """An exported program as an ordinary module: `eval` and `train` do nothing to it."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        out: Tensor = self.program(*x, **named)
        return out

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Exported programs refuse to change mode; what was exported is what runs."""
        self.training = mode
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedNetwork:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch's own, when it is copied
            return ExportedNetwork(copy.deepcopy(self.program, memo))


def as_module(model: nn.Module) -> nn.Module:
    """The network in a form that can be run: one whose mode can be set, which that of
    `torch.export` cannot, and that answers with a tensor, which those of transformers do not.

    Raises:
        InputError: a classifier of transformers that tells several labels at once, or one with
            adapters beside its weights.
    """
    refuse_adapters(model)
    if is_classifier(model):
        return HuggingFaceNetwork(model)
    if isinstance(model, torch.fx.GraphModule):
        try:
            model.train(model.training)
        except NotImplementedError:
            return ExportedNetwork(model)
    return model


def refuse_lazy(model: nn.Module) -> None:
    """Refuse weights that the first pass would make, in the user's own network, at random."""
    if not isinstance(model, nn.Module):
        return
    both = (*model.named_parameters(), *model.named_buffers())
    names = [name for name, value in both if is_lazy(value)]
    if names:
        raise InputError(
            f"expected a network whose weights are all there, got lazy ones without values, "
            f"{', '.join(names[:5])}: load its weights, or run it once on a batch, net(x)"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every submodule gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        # not inference_mode, whose tensors a network may keep (masks, positions): it could not be
        # trained with them any more
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def device_of(model: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def answers(model: nn.Module, x: Any) -> Tensor:
    """As `forward`, outside training: in smaller batches where memory runs out."""
    # a network may turn gradients on by itself
    found = halved(model, x, lambda part: detached(forward(model, part)))
    return found[0] if len(found) == 1 else torch.cat(found)


def detached(out: Any) -> Any:
    """What a network answers without the way to it; what is no tensor stays as it is."""
    return out.detach() if isinstance(out, Tensor) else out


def forward(model: nn.Module, x: Any) -> Tensor:
    """One output per row, (n,), or one per class, (n, K), of a batch's x: a tensor, a tuple or a
    dict of tensors, which stays as it is whatever the network does to its input."""
    known = _gentle[bool(model.training)]
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined,no-untyped-call]
    if traced or model in known:
        return applied(model, x)
    parts = list(x.values()) if isinstance(x, dict) else [x] if isinstance(x, Tensor) else list(x)
    with torch.inference_mode(False):  # a caller's, whose tensors count no writes
        copies = [part.clone() for part in parts]
    before = [each._version for each in copies]
    given: Any = tuple(copies) if isinstance(x, tuple | list) else copies[0]
    out = applied(model, dict(zip(x, copies, strict=True)) if isinstance(x, dict) else given)
    if before == [each._version for each in copies]:
        known.add(model)
    return out


def applied(model: nn.Module, x: Any) -> Tensor:
    """As `forward`, where a network runs inside another."""
    weight = next(model.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    kind = None if weight is None else _read_as(model, weight.dtype)

    def placed(value: Tensor) -> Tensor:
        return value.to(device, kind if value.is_floating_point() else None)

    if isinstance(x, dict):
        out = model(**{name: placed(value) for name, value in x.items()})
    elif isinstance(x, tuple | list):
        out = model(*map(placed, x))
    else:
        out = model(placed(x))
    return out[:, 0] if isinstance(out, Tensor) and out.ndim == 2 and out.shape[1] == 1 else out


def _read_as(model: nn.Module, first: torch.dtype) -> torch.dtype | None:
    """In which precision a network reads numbers, by its first weight's: None for as they are."""
    if first in HALVES or first == torch.float32:
        return first
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return first if first == torch.float64 and all(each == first for each in floats) else None


def logits(model: nn.Module, data: Batches) -> Tensor:
    """The network's output for every row, (n,) or (n, K) float32 on the CPU, in eval mode."""
    model = ordered(as_module(model), data, quiet=True)
    with evaluating(model):
        parts = [answers(model, x).float().cpu() for x, _, _ in data]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def probability(logit: Tensor) -> Array:
    """Sigmoid in double precision, so that confident rows stay apart: (n,) float64."""
    # numpy is on one thread and beats torch's sigmoid in double precision on these sizes
    values: Array = logit.detach().numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-values)))


def probabilities(model: nn.Module, data: Batches) -> Array:
    """The probability of the positive class for every row, (n,) float64."""
    return probability(logits(model, data))


def log_chances(logit: Tensor) -> Array:
    """Log-softmax in double precision: (n, K) float64."""
    return np.asarray(torch.log_softmax(logit.detach().double(), 1).numpy())


def chances(model: nn.Module, data: Batches) -> Array:
    """What decisions are made from: probabilities (n,), or with K classes their logs (n, K)."""
    found = logits(model, data)
    return probability(found) if found.ndim == 1 else log_chances(found)


def columns(model: nn.Module, data: Batches) -> int:
    """How many numbers a network gives for a row, from two rows; 1 where it fails on them."""
    model = as_module(model)
    x, _, _ = next(iter(data))
    try:
        with evaluating(model):
            out = answers(model, part_of(x, slice(2)))
    except Exception:  # what is wrong is said where all rows are read
        return 1
    return int(out.shape[1]) if isinstance(out, Tensor) and out.ndim == 2 else 1


def as_input(x: Any, model: nn.Module) -> Any:
    """What a user hands to `predict` as a network's input: arrays become tensors of its dtype.

    A tuple of arrays or tensors, and a list of tensors, are several inputs; other lists and tuples
    are one, as numpy takes them.

    Raises:
        InputError: it is no tensor, array, dict or tuple of them.
    """
    if isinstance(x, Mapping):
        return {name: as_input(value, model) for name, value in x.items()}
    if _are_inputs(x):
        return tuple(as_input(value, model) for value in x)
    if isinstance(x, Batches):
        raise InputError("expected x, got data: use predict_data(data), or predict(data.x)")
    try:
        values = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x)
    except (TypeError, ValueError):
        raise InputError(
            f"expected a tensor or an array of numbers as x, got {type(x).__name__}"
        ) from None
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return values.to(dtype) if values.is_floating_point() and values.dtype != dtype else values


def _are_inputs(x: Any) -> bool:
    """Whether x is several inputs, and not the rows of one."""
    if isinstance(x, tuple):
        return any(isinstance(part, Tensor | np.ndarray) for part in x)
    return isinstance(x, list) and bool(x) and isinstance(x[0], Tensor)


def checked(
    model: nn.Module, x: Any, rows: int, classes: int = 2, run: Run | None = None
) -> Tensor:
    """The network's outputs for a batch, (rows,), or (rows, classes) with three classes or more,
    with one clear error where there are none.

    Args:
        run: `answers` by default; `forward` leaves it to the caller what to do without memory.
    """
    try:
        out = (run or answers)(model, x)
    except Exception as error:  # a user's own network may raise anything
        if isinstance(error, InputError) or ran_out(error):
            raise
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"expected a network that takes x of shape {shape}, but it fails: {reason}"
        ) from error
    wanted = (rows,) if classes == 2 else (rows, classes)
    if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
        raise _misshapen(out, rows, classes)
    if not bool(torch.isfinite(out).all()):
        bad = int((~torch.isfinite(out)).sum())
        raise InputError(
            f"expected finite scores, got {bad:,} NaN or infinite ones of {out.numel():,}; check "
            "the weights and the scale of the features"
        )
    return out


def _misshapen(out: Any, rows: int, classes: int) -> InputError:
    shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if classes > 2:
        return InputError(
            f"expected one logit per class, shape ({rows}, {classes}), as the labels are 0 to "
            f"{classes - 1}, got {shape}"
        )
    if not isinstance(out, Tensor):
        held = out is not None and (hasattr(out, "logits") or "logits" in out)
        way = "return its .logits" if held else "return them as a tensor"
        return InputError(
            f"expected a network that returns one logit per row, shape ({rows},), got {shape}: "
            f"{way}, for two classes the difference out[:, 1] - out[:, 0] (--network)"
        )
    many = out.ndim == 2 and out.shape[1] > 2
    return InputError(
        f"expected one logit per row, shape ({rows},) or ({rows}, 1), got {shape}; "
        + (
            f"labels of {out.shape[1]} classes are 0 to {out.shape[1] - 1}, but here are only 0 "
            "and 1"
            if many
            else "for two classes return the difference of their logits, out[:, 1] - out[:, 0]"
        )
    )
