"""The network an estimator was given: a module, a fitted skorch net, or settings to train one."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from retrofair import metrics
from retrofair.data import GroupedData
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks import Outputs, Training, as_logits, probabilities
from retrofair.networks.outputs import EDGE, as_module

# what the module of a skorch net answers, by the loss it was trained with; of NLLLoss skorch takes
# the logarithm itself, so that its module answers with probabilities
BY_LOSS: tuple[tuple[type[nn.Module], Outputs], ...] = (
    (nn.CrossEntropyLoss, "logits"),
    (nn.BCEWithLogitsLoss, "logits"),
    (nn.BCELoss, "probabilities"),
    (nn.NLLLoss, "probabilities"),
)


class TwoColumns(nn.Module):
    """A network with a number for each of two classes, as one with a logit for each row.

    Args:
        probabilities: whether the numbers are probabilities, rather than logits.
    """

    def __init__(self, network: nn.Module, probabilities: bool) -> None:
        super().__init__()
        self.network, self.probabilities = network, probabilities

    def forward(self, *x: Any, **named: Any) -> Tensor:
        out: Tensor = self.network(*x, **named)
        if out.ndim != 2 or out.shape[1] != 2:
            return out
        logit = out.clamp(min=EDGE).log() if self.probabilities else out
        return logit[:, 1] - logit[:, 0]


def network_of(
    given: Any, outputs: Outputs | None, x: Tensor, classes: int
) -> tuple[nn.Module, Outputs | None]:
    """A copy of the network to debias in eval mode, and how to read its outputs.

    Args:
        given: a module, or a fitted skorch net, also within scikit-learn's `FrozenEstimator`.
        x: rows of which the first shows how many numbers the network gives for a row.

    Raises:
        InputError: neither, or a skorch net that was not fitted.
    """
    if type(given).__name__ == "FrozenEstimator":
        given = given.estimator
    if isinstance(given, nn.Module):
        return copy.deepcopy(as_module(given)).eval(), outputs
    if not hasattr(given, "initialize_module"):
        raise InputError(
            "expected network to be a torch.nn.Module, a fitted skorch net, networks.Training or "
            f"None, got {_shown(given)}"
        )
    module = getattr(given, "module_", None)
    if module is None:
        raise InputError(
            "expected a fitted skorch net as network, got one that is not (a clone, as in "
            "GridSearchCV, forgets its fit): pass net.module_, or FrozenEstimator(net) of "
            "sklearn.frozen"
        )
    module = copy.deepcopy(module).eval()
    loss = getattr(given, "criterion_", None)
    known = [kind for cls, kind in BY_LOSS if isinstance(loss, cls)]
    found = outputs or (known[0] if known else None)
    if classes == 2 and _columns(module, x) == 2:
        return TwoColumns(module, found == "probabilities").eval(), "logits"
    return module, found


def settings_of(given: Any) -> Training | None:
    """How to train a network, where none was given."""
    return Training() if given is None else given if isinstance(given, Training) else None


def dtype_of(network: nn.Module) -> torch.dtype:
    """Of the numbers that a network takes."""
    kinds = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(kinds, torch.float32)


def _columns(module: nn.Module, x: Tensor) -> int:
    try:
        with torch.no_grad():
            out = module(x[:2].to(dtype_of(module)))
    except Exception:  # what is wrong is said where all rows are read
        return 1
    return int(out.shape[1]) if isinstance(out, Tensor) and out.ndim == 2 else 1


def _shown(given: Any) -> str:
    return given.__name__ if isinstance(given, type) else type(given).__name__


def told_of_turned_labels(network: nn.Module, data: GroupedData, outputs: Outputs | None) -> None:
    """Warn where the network's scores rank two classes the wrong way round, beyond chance.

    Which value is the positive one follows from the order of the values here, and in training may
    have followed from something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrofairWarning)  # `debias` says what it takes outputs for
        score = probabilities(as_logits(network, data, outputs), data)
    value, _, high = metrics.auc(score, data.y.numpy())
    if high < 0.5:
        warnings.warn(
            f"the network's area under the ROC curve is {value:.3f} on these rows, below one half: "
            "its labels were probably the other way round in training; the second of classes_ is "
            "taken as positive",
            RetrofairWarning,
            stacklevel=3,
        )
