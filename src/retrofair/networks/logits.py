"""Whether a network answers with logits or with probabilities: looked at, said, made logits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from retrofair.data import Batches
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.class_order import ordered
from retrofair.networks.hugging_face_network import HuggingFaceNetwork
from retrofair.networks.memory import rows_of
from retrofair.networks.mlp import MLP
from retrofair.networks.outputs import (
    LogitOf,
    Outputs,
    as_module,
    checked,
    forward,
    refuse_lazy,
)
from retrofair.networks.recording import Record, recorded, remember

SUM = 1e-3  # how far from 1 the probabilities of a row may add up


def as_logits(
    model: nn.Module,
    data: Batches,
    outputs: Outputs | None = None,
    classes: int = 2,
    layers: Sequence[str] = (),
) -> nn.Module:
    """Check a network on the data and return one that answers with logits.

    A network whose outputs all lie in [0, 1] (and, of three classes or more, add up to 1) is taken
    to answer with probabilities, unless they are all alike and no sigmoid comes last; either is
    said in a warning, and `outputs` decides it. Nothing is guessed where a linear layer is seen to
    come last, in networks of `train_mlp`, of transformers and in an nn.Sequential: its outputs are
    logits. Those of a classifier of transformers are put into the order of the data's labels, where
    both say what they are called (`label_names`, `id2label`).

    Args:
        classes: of the labels: one logit a row for two, otherwise one for each class.
        layers: names of layers whose inputs will be asked for: inside `recording` the one pass over
            the data notes them too.

    Raises:
        InputError: the network fails on the data, or its output has another shape than (n,) or
            (n, 1), with more than two classes than (n, classes), or is not finite; or it is one of
            transformers that tells several labels at once, or names other classes than the data;
            or it has lazy layers that never ran.
    """
    if outputs not in (None, "logits", "probabilities"):
        raise InputError(f"expected outputs='logits' or 'probabilities', got {outputs!r}")
    if not isinstance(model, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(model).__name__}")
    refuse_lazy(model)
    if not len(data):
        raise InputError("expected data with rows, got none")
    model = ordered(as_module(model), data)

    def look(network: nn.Module, x: Any) -> Tensor:
        try:
            return checked(network, x, rows_of(x), classes, forward)
        except InputError as error:
            if isinstance(x, Tensor) and x.ndim == 4 and "channel" in str(error):
                raise InputError(
                    f"{error}; images have {x.shape[1]} channels here: images_of(..., channels=1) "
                    "makes grey ones, channels=3 RGB (--channels)"
                ) from error
            raise

    # all rows are looked at: one NaN in the last batch would spoil every later threshold
    record = recorded(model, data, layers, look)
    out = record.outputs
    low, high = float(out.min()), float(out.max())
    sums = classes == 2 or bool(((out.sum(1) - 1).abs() < SUM).all())
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
    if outputs != "probabilities":
        return model
    made = LogitOf(model)
    inputs = {f"network.{name}": each for name, each in record.inputs.items()}
    remember(made, data, Record(made.of(out), inputs))
    return made


def _surely_logits(model: nn.Module) -> bool:
    """Whether the structure shows that a linear layer comes last, whatever its outputs are."""
    if isinstance(model, nn.Sequential):
        shaping = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)
        kept = [layer for layer in model if not isinstance(layer, shaping)]
        return bool(kept) and _surely_logits(kept[-1])
    if type_before_parametrizations(model) is nn.Linear:  # under weight_norm, say
        return True
    # exact types: what a subclass does is not known
    return type(model) in (MLP, nn.Linear, LogitOf, HuggingFaceNetwork)


def kind_of(model: nn.Module, net: nn.Module) -> Outputs:
    """What a network answers with, of which `as_logits` made the model."""
    return "probabilities" if isinstance(model, LogitOf) and model is not net else "logits"
