"""What a network says of each row: logits and probabilities, checked."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.errors import InputError, RetrofairWarning
from retrofair.metrics import Array
from retrofair.networks.mlp import MLP

Outputs = Literal["logits", "probabilities"]
EDGE = 1e-7
SUM = 1e-3  # how far from 1 the probabilities of a row may add up


class LogitOf(nn.Module):
    """A network that answers with probabilities, turned into one that answers with logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *x: Any, **named: Any) -> Tensor:
        given = named or (x[0] if len(x) == 1 else x)
        out = forward(self.network, given)
        return out.clamp(min=EDGE).log() if out.ndim == 2 else out.clamp(EDGE, 1 - EDGE).logit()


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


def settable(model: nn.Module) -> nn.Module:
    """The network as a module whose mode can be set, which that of `torch.export` cannot."""
    if isinstance(model, torch.fx.GraphModule):
        try:
            model.train(model.training)
        except NotImplementedError:
            return ExportedNetwork(model)
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every submodule gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def device_of(model: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def forward(model: nn.Module, x: Any) -> Tensor:
    """One output per row, (n,), or one per class, (n, K), of a batch's x: a tensor, a tuple or a
    dict of tensors."""
    device = device_of(model)
    if isinstance(x, dict):
        out = model(**{name: value.to(device) for name, value in x.items()})
    elif isinstance(x, tuple | list):
        out = model(*(value.to(device) for value in x))
    else:
        out = model(x.to(device))
    return out[:, 0] if isinstance(out, Tensor) and out.ndim == 2 and out.shape[1] == 1 else out


def logits(model: nn.Module, data: Batches) -> Tensor:
    """The network's output for every row, (n,) or (n, K) float32 on the CPU, in eval mode."""
    with evaluating(model):
        parts = [forward(model, x).float().cpu() for x, _, _ in data]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def probability(logit: Tensor) -> Array:
    """Sigmoid in double precision, so that confident rows stay apart: (n,) float64."""
    # numpy is on one thread and beats torch's sigmoid in double precision on these sizes
    values: Array = logit.numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-values)))


def probabilities(model: nn.Module, data: Batches) -> Array:
    """The probability of the positive class for every row, (n,) float64."""
    return probability(logits(model, data))


def log_chances(logit: Tensor) -> Array:
    """Log-softmax in double precision: (n, K) float64."""
    return np.asarray(torch.log_softmax(logit.double(), 1).numpy())


def chances(model: nn.Module, data: Batches) -> Array:
    """What decisions are made from: probabilities (n,), or with K classes their logs (n, K)."""
    found = logits(model, data)
    return probability(found) if found.ndim == 1 else log_chances(found)


def columns(model: nn.Module, data: Batches) -> int:
    """How many numbers a network gives for a row, from two rows; 1 where it fails on them."""
    x, _, _ = next(iter(data))
    two = {k: v[:2] for k, v in x.items()} if isinstance(x, dict) else x[:2]
    two = tuple(each[:2] for each in x) if isinstance(x, tuple | list) else two
    try:
        with evaluating(model):
            out = forward(model, two)
    except Exception:  # what is wrong is said where all rows are read
        return 1
    return int(out.shape[1]) if isinstance(out, Tensor) and out.ndim == 2 else 1


def as_logits(
    model: nn.Module, data: Batches, outputs: Outputs | None = None, classes: int = 2
) -> nn.Module:
    """Check a network on the data and return one that answers with logits.

    A network whose outputs all lie in [0, 1] (and, of three classes or more, add up to 1) is taken
    to answer with probabilities, unless they are all alike and no sigmoid comes last; either is
    said in a warning, and `outputs` decides it. Nothing is guessed where a linear layer is seen to
    come last, in networks of `train_mlp` and in an nn.Sequential: its outputs are logits.

    Args:
        classes: of the labels: one logit a row for two, otherwise one for each class.

    Raises:
        InputError: the network fails on the data, or its output has another shape than (n,) or
            (n, 1), with more than two classes than (n, classes), or is not finite.
    """
    if outputs not in (None, "logits", "probabilities"):
        raise InputError(f"expected outputs='logits' or 'probabilities', got {outputs!r}")
    if not isinstance(model, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(model).__name__}")
    model = settable(model)
    if not len(data):
        raise InputError("expected data with rows, got none")
    # all rows are looked at: one NaN in the last batch would spoil every later threshold
    low, high, sums = np.inf, -np.inf, True
    with evaluating(model):
        for x, y, _ in data:
            out = checked(model, x, len(y), classes)
            low, high = min(low, float(out.min())), max(high, float(out.max()))
            if classes > 2:
                sums &= bool(((out.sum(1) - 1).abs() < SUM).all())
    if outputs is None:
        outputs = "logits"
        if 0 <= low <= high <= 1 and sums and not _surely_logits(model):
            last = [m for m in model.modules() if not list(m.children())][-1]
            squashed = low < high or isinstance(last, nn.Sigmoid)
            outputs = "probabilities" if squashed else "logits"
            warnings.warn(
                f"the network's outputs lie between {low:.3g} and {high:.3g}: taken as {outputs}; "
                "decide it with outputs='logits' or 'probabilities' (--outputs)",
                RetrofairWarning,
                stacklevel=3,
            )
    elif outputs == "probabilities" and not (0 <= low <= high <= 1 and sums):
        adding = "" if sums else " that add up to 1"
        raise InputError(
            f"expected probabilities in [0, 1]{adding}, got outputs from {low:.3g} to {high:.3g}; "
            "say outputs='logits' (--outputs logits)"
        )
    return LogitOf(model) if outputs == "probabilities" else model


def _surely_logits(model: nn.Module) -> bool:
    """Whether the structure shows that a linear layer comes last, whatever its outputs are."""
    if isinstance(model, nn.Sequential):
        shaping = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)
        kept = [layer for layer in model if not isinstance(layer, shaping)]
        return bool(kept) and _surely_logits(kept[-1])
    # exact types: what a subclass does is not known
    return type(model) in (MLP, nn.Linear, LogitOf)


def kind_of(model: nn.Module, net: nn.Module) -> Outputs:
    """What a network answers with, of which `as_logits` made the model."""
    return "probabilities" if isinstance(model, LogitOf) and model is not net else "logits"


def rows_of(x: Any) -> int:
    """The rows of a batch's x."""
    first = next(iter(x.values())) if isinstance(x, dict) else x[0] if isinstance(x, tuple) else x
    return len(first)


def as_input(x: Any, model: nn.Module) -> Any:
    """What a user hands to `predict` as a network's input: arrays become tensors of its dtype.

    Raises:
        InputError: it is no tensor, array, dict or tuple of them.
    """
    if isinstance(x, dict):
        return {name: as_input(value, model) for name, value in x.items()}
    if isinstance(x, tuple | list) and x and isinstance(x[0], Tensor):
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


def checked(model: nn.Module, x: Any, rows: int, classes: int = 2) -> Tensor:
    """The network's outputs for a batch, (rows,), or (rows, classes) with three classes or more,
    with one clear error where there are none."""
    try:
        out = forward(model, x)
    except Exception as error:  # a user's own network may raise anything
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
    many = isinstance(out, Tensor) and out.ndim == 2 and out.shape[1] > 2
    return InputError(
        f"expected one logit per row, shape ({rows},) or ({rows}, 1), got {shape}; "
        + (
            f"labels of {out.shape[1]} classes are 0 to {out.shape[1] - 1}, but here are only 0 "
            "and 1"
            if many
            else "for two classes return the difference of their logits, out[:, 1] - out[:, 0]"
        )
    )
