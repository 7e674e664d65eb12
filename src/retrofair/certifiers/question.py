"""What is compared between two people: values, probabilities or decisions.

Every question comes down to differences of logits D = c'(z'' - z') for a few rows c ("heads"),
which the certifiers bound, and to a way from bounds on D to a bound on the difference asked for.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.certifiers.domain import Floats
from retrofair.certifiers.extract import extract
from retrofair.certifiers.layered import Layered
from retrofair.certifiers.propagate import LayerBounds
from retrofair.certifiers.slabs import Slab
from retrofair.errors import InputError

ROUNDING = 1e-12  # of a difference of sigmoids
Outputs = Literal["logits", "probabilities", "values"]


@dataclass(frozen=True, eq=False)
class Question:
    """A network with what is asked of it.

    Args:
        original: the user's network, in eval mode: a witness is run through it.
        network: its layers up to the logits.
        kind: "values" compares the logits themselves, "sigmoid" and "softmax" probabilities.
        scale: (K,) what multiplies each sigmoid.
        shown: whether the original shows the logits, rather than what follows them.
        two: the original has two classes, whose logits' difference is the network's one.
        cut: the logit above which a decision is positive, where decisions are asked about.
    """

    original: nn.Module
    network: Layered
    kind: Literal["values", "sigmoid", "softmax"]
    scale: Tensor
    shown: bool
    cut: float | None = None
    two: bool = False

    @classmethod
    def of(
        cls, network: nn.Module, d: int, outputs: Outputs | None, threshold: float | None
    ) -> Question:
        """Take a network apart and see what its outputs are.

        Raises:
            InputError: an unsupported operator, or outputs that do not fit what is asked.
        """
        if outputs not in (None, "logits", "probabilities", "values"):
            raise InputError(
                f"expected outputs='logits', 'probabilities' or 'values', got {outputs!r}"
            )
        whole = extract(network, d)
        network = copy.deepcopy(network).cpu().eval()  # the user's own is not touched
        made, unit = cls.of_layers(network, whole, outputs)
        return made if threshold is None else made._deciding(threshold, unit or whole.softmax)

    @classmethod
    def of_layers(
        cls, network: nn.Module, whole: Layered, outputs: Outputs | None
    ) -> tuple[Question, bool]:
        """The same from a network's layers, and whether a plain sigmoid comes last."""
        tail = whole.split_sigmoid()
        ones = torch.ones(whole.outputs, dtype=torch.float64)
        unit = tail is not None and bool((tail[1] == 1).all() and (tail[2] == 0).all())
        if outputs == "logits" and (whole.softmax or unit):
            raise InputError(
                "expected a network that ends in logits, got one that ends in a sigmoid or "
                "softmax: say outputs='probabilities' (--outputs probabilities)"
            )
        if outputs == "probabilities" and not (whole.softmax or unit):
            raise InputError(
                "expected a network that ends in a sigmoid or softmax, got one that does not: say "
                "outputs='logits', or 'values' to compare its outputs as they are (--outputs)"
            )
        if whole.outputs == 1 and whole.softmax:
            raise InputError("expected a softmax over several classes, got one over a single class")
        if whole.softmax:
            if outputs == "values":
                raise InputError("expected outputs='probabilities' of a network with a softmax")
            made = cls(network, whole, "softmax", ones, shown=False)
        elif tail is not None and (outputs != "logits"):
            made = cls(network, tail[0], "sigmoid", tail[1].abs(), shown=False)
        elif outputs == "values":
            made = cls(network, whole, "values", ones, shown=True)
        else:
            made = cls(
                network, whole, "softmax" if whole.outputs > 1 else "sigmoid", ones, shown=True
            )
        return made._of_two(), unit

    def _of_two(self) -> Question:
        """A softmax over two classes as what it is: one sigmoid of the difference."""
        network = self.network
        if self.kind != "softmax" or network.outputs != 2:
            return self
        weight, bias = network.weights[-1], network.biases[-1]
        one = Layered(
            (*network.weights[:-1], weight[1:] - weight[:1]),
            (*network.biases[:-1], bias[1:] - bias[:1]),
            network.activations,
        )
        scale = torch.ones(1, dtype=torch.float64)
        return dataclasses.replace(self, network=one, kind="sigmoid", scale=scale, two=True)

    def seen(self, out: Tensor) -> Tensor:
        """The original's outputs (n, K) as logits, where it shows them; else as they are."""
        return out[:, 1:] - out[:, :1] if self.two and self.shown else out

    def _deciding(self, threshold: float, unit: bool) -> Question:
        if self.network.outputs != 1:
            raise InputError(
                f"expected one output for threshold=, got {self.network.outputs}: only networks "
                "with one output decide by a threshold (--threshold)"
            )
        if self.kind == "values":
            cut = float(threshold)
        elif not (self.shown or unit):
            raise InputError("expected a network that ends in a logit or sigmoid for threshold=")
        elif not 0 < threshold < 1:
            raise InputError(f"expected a threshold in (0, 1), got {threshold} (--threshold)")
        else:
            cut = math.log(threshold) - math.log1p(-threshold)
        if not math.isfinite(cut):
            raise InputError(f"expected a finite threshold, got {threshold} (--threshold)")
        return dataclasses.replace(self, cut=cut)

    @property
    def measured(self) -> str:
        """What lower and upper are differences of."""
        if self.kind == "values" or not bool((self.scale == 1).all()):
            return "values"
        return "probabilities"

    @property
    def heads(self) -> Tensor:
        """(m, K) the rows c of the differences of logits to bound."""
        eye = torch.eye(self.network.outputs, dtype=torch.float64)
        if self.kind != "softmax":
            return eye
        pairs = itertools.combinations(range(self.network.outputs), 2)
        return torch.stack([eye[k] - eye[j] for k, j in pairs])

    def logit(self, first: Tensor, second: Tensor) -> Tensor:
        """(n,) the largest difference over the heads, for logits (n, K)."""
        return _size((second - first) @ self.heads.T).amax(1)

    def delta(self, first: Tensor, second: Tensor) -> Tensor:
        """(n,) the difference asked for, for logits (n, K)."""
        if self.kind == "values":
            return _size(second - first).amax(1)
        if self.kind == "softmax":
            return _size(torch.softmax(second, 1) - torch.softmax(first, 1)).amax(1)
        # sigmoid(a) - sigmoid(b) in a form without cancellation
        rising = second >= first
        larger, smaller = torch.where(rising, second, first), torch.where(rising, first, second)
        risen = torch.sigmoid(larger) * torch.sigmoid(-smaller) * -torch.expm1(smaller - larger)
        return (risen * self.scale).amax(1)

    def margin(self, first: Tensor, second: Tensor) -> Tensor:
        """(n,) how far the two logits lie on both sides of the cut; negative on one side."""
        assert self.cut is not None
        low, high = torch.minimum(first, second)[:, 0], torch.maximum(first, second)[:, 0]
        return torch.minimum(high - self.cut, self.cut - low)

    def flips(self, logits: Tensor) -> bool:
        """Whether exactly one of two people (2, 1) is decided positively."""
        assert self.cut is not None
        return bool((logits[0, 0] > self.cut) != (logits[1, 0] > self.cut))

    def on_scale(self, out: Tensor) -> Tensor:
        """The original's outputs (n, ...) on the scale of what is compared."""
        if not self.shown:
            classes = self.kind == "softmax" or self.two
            return out.exp() if classes and bool((out < 0).any()) else out  # of a log softmax
        if self.kind == "values":
            return out
        seen = self.seen(out)
        return torch.softmax(seen, 1) if self.kind == "softmax" else torch.sigmoid(seen)

    def flips_shown(self, out: Tensor) -> bool:
        """The same for the original's probabilities (2, K), which are compared as they are."""
        if self.cut is None:
            return False
        above = self.on_scale(out)[:, -1] > 1 / (1 + math.exp(-self.cut))
        return bool(above[0] != above[1])

    def answers(self, inputs: Floats) -> tuple[Tensor, Tensor]:
        """Logits (2, K) of a pair (2, d) in double precision, and the original's outputs.

        The original gets the inputs in its own precision.
        """
        x = torch.from_numpy(np.ascontiguousarray(inputs))
        dtype = next((p.dtype for p in self.original.parameters()), torch.float32)
        with torch.no_grad():
            exact = self.network.forward(x)
            out = self.original(x.to(dtype)).double().reshape(2, -1)
        return exact, out

    def upper(self, reach: Tensor, layer: LayerBounds) -> float:
        """A bound on the difference asked for, from bounds on the heads (m,) and the logits."""
        if self.kind == "values":
            return float(reach.max())
        if self.kind == "softmax":
            # logit p_k = -log sum_j exp(z_j - z_k) moves by at most the largest D_kj
            k = self.network.outputs
            most = torch.zeros(k, dtype=torch.float64)
            for (i, j), d in zip(itertools.combinations(range(k), 2), reach, strict=True):
                most[i], most[j] = torch.maximum(most[i], d), torch.maximum(most[j], d)
            return float(torch.tanh(most / 4).max())
        slabs = [
            Slab(low, high, ((0.0, top),), (low, high)).worth * scale
            for low, high, top, scale in zip(
                layer.low.tolist(),
                layer.high.tolist(),
                reach.tolist(),
                self.scale.tolist(),
                strict=True,
            )
        ]
        return float(max(slabs)) * (1 + ROUNDING)


def _size(difference: Tensor) -> Tensor:
    """The absolute value, with a slope at 0: from two equal people there must be a way up."""
    return torch.where(difference >= 0, difference, -difference)
