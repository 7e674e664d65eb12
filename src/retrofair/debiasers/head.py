"""A network with a head that weighs what it can tell of each group and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.debiasers.chances import Chances
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks.layers import ONE_AT_A_TIME, as_rows, reading
from retrofair.networks.outputs import device_of, evaluating, forward
from retrofair.networks.recording import Call, recorded

WEIGHTS = ("group_weight", "group_bias", "label_weight", "label_bias")
COLUMNS = 5_000  # of a table that a head reads, at most
CODES = 10  # values up to which a column is a code, not a number
KNOTS = 8  # per number
LOOKED_AT = 2_000  # rows by which a layer's directions are known
NOTICEABLE = 0.01  # of the widest
MOST = 15.0  # log-odds that are told apart: beyond, 1 less the chance is lost to rounding


class Features(nn.Module):
    """What a head reads of a frozen network: (n, k).

    Its logit and its own inputs, both also bent at some knots, as a sum of curves is far nearer to
    the truth than one of lines; and the inputs of some of its layers.

    Args:
        layers: names of the layers whose inputs are read.
        inputs: whether the network's inputs count too, where `readable` says they can.
        knots: of all columns together.
    """

    column: Tensor
    knot: Tensor

    def __init__(
        self, network: nn.Module, layers: Sequence[str], inputs: bool, knots: int = 0
    ) -> None:
        super().__init__()
        self.network, self.layers, self.inputs = network, tuple(layers), inputs
        self.directions = 0  # of what its layers read, known from `of` on
        self.register_buffer("column", torch.zeros(knots, dtype=torch.long))
        self.register_buffer("knot", torch.zeros(knots))

    @classmethod
    def of(
        cls, network: nn.Module, layers: Sequence[str], inputs: bool, data: Batches
    ) -> tuple[Features, Array]:
        """The features with knots from the data, and the data's own features (n, k)."""
        made = cls(network, layers, inputs)
        own, read = made.recorded(data)
        made.directions = directions_of(read)
        column, knot = knots_of(own)
        found = torch.cat([_bent(own, column, knot), read], 1).numpy().astype(np.float64)
        if not np.isfinite(found).all():
            raise InputError("expected finite numbers inside the network, got nan or infinity")
        made.column, made.knot = (each.to(device_of(network)) for each in (column, knot))
        return made, found

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        own, read = self.plain(named or (x[0] if len(x) == 1 else x))
        return torch.cat([self.bent(own), read], 1)

    def plain(self, x: Any) -> tuple[Tensor, Tensor]:
        """The logits and the inputs, (n, j), and what the layers read, (n, h)."""
        # what the layers read is noted on the network itself: one pass at a time
        with ONE_AT_A_TIME, ExitStack() as stack:
            seen = [stack.enter_context(reading(self.network, name)) for name in self.layers]
            out = forward(self.network, x)
            read = [as_rows(each["input"]) for each in seen]
        return self.joined([as_rows(out), *(_tables(x) if self.inputs else [])], read)

    def recorded(self, data: Batches, call: Call | None = None) -> tuple[Tensor, Tensor]:
        """As `plain`, of all rows, in one pass that is made once inside `recording`."""
        record = recorded(self.network, data, self.layers, call or forward)
        given = [_tables(x) for x, _, _ in data] if self.inputs else []
        tables = [torch.cat(each).cpu() for each in zip(*given, strict=True)]
        read = [as_rows(record.inputs[name]) for name in self.layers]
        return self.joined([as_rows(record.outputs), *tables], read)

    def joined(self, own: Sequence[Tensor], read: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Each kind of columns as one table."""
        own = [each.to(self.knot) for each in own]
        empty = own[0][:, :0]  # a size taken from here stays that of any batch when exported
        return torch.cat(own, 1), torch.cat([empty, *read], 1).to(self.knot)

    def bent(self, own: Tensor) -> Tensor:
        """Columns with, for each knot, how far they lie above it and whether."""
        return _bent(own, self.column, self.knot)


def _tables(x: Any) -> list[Tensor]:
    """The parts of a batch's x."""
    if isinstance(x, Tensor):
        return [x]
    return [x[k] for k in sorted(x)] if isinstance(x, dict) else list(x)


def _bent(own: Tensor, column: Tensor, knot: Tensor) -> Tensor:
    if not len(knot):  # onnx has no columns of none of them
        return own
    above = own[:, column] - knot
    return torch.cat([own, above.clamp(min=0), (above > 0).to(own)], 1)


def knots_of(own: Tensor) -> tuple[Tensor, Tensor]:
    """The columns (J,) that are numbers rather than codes, and their knots (J,).

    Knots are quantiles, of the distinct values where most rows share a few; each in the middle
    between two rows, as a row at a knot would jump with the last bit of its logit.
    """
    columns, knots = [], []
    shares = np.linspace(0, 1, KNOTS + 2)[1:-1]
    for j, values in enumerate(own.T.numpy()):
        distinct = np.unique(values)
        if len(distinct) <= CODES:
            continue
        chosen = between(distinct, np.quantile(values, shares))
        if len(chosen) < KNOTS:
            chosen = between(distinct, np.quantile(distinct, shares))
        columns += [j] * len(chosen)
        knots += chosen.tolist()
    return torch.tensor(columns, dtype=torch.long), torch.tensor(knots, dtype=torch.float32)


def between(distinct: Array, knots: Array) -> Array:
    """The middles of the gaps between sorted values (n,) that hold the knots, each once: float32.

    In a gap without numbers of single precision it is the lower value, which is not above itself.
    """
    place = np.searchsorted(distinct, knots, side="right").clip(1, len(distinct) - 1)
    low, high = (distinct[at].astype(np.float64) for at in (place - 1, place))
    middle = ((low + high) / 2).astype(np.float32)
    return np.unique(np.where(middle >= high.astype(np.float32), low.astype(np.float32), middle))


def directions_of(read: Tensor) -> int:
    """Directions along which rows (n, h) vary noticeably beside the widest one, that one too."""
    some = read[torch.linspace(0, len(read) - 1, min(len(read), LOOKED_AT)).long()].double()
    if not some.numel() or not bool(torch.isfinite(some).all()):
        return 0
    widths = torch.linalg.svdvals(some - some.mean(0))
    return int((widths > NOTICEABLE * widths.max()).sum())


class HeadedNetwork(nn.Module):
    """Weighs the chances of each group and label, which a softmax of each tells from the features.

    Its output is a score, (n,), whose sign is the decision; it needs no group. With K > 2 classes
    there is a score for each, (n, K), of which the largest decides.

    Args:
        chances: the regressions of group and label, whose weights it takes.
        value: (2G,) what a decision for a person of this group and label is worth; with K > 2
            classes (G * K, K), what each decision is.
        cut: the value from which on it is positive; with K > 2 classes (K,), taken off the scores.
    """

    group_weight: Tensor  # (G, k)
    group_bias: Tensor  # (G,)
    label_weight: Tensor  # (G, K, k)
    label_bias: Tensor  # (G, K)
    value: Tensor
    cut: Tensor

    def __init__(
        self, features: Features, chances: Chances, value: Array, cut: float | Array
    ) -> None:
        super().__init__()
        self.features = features
        given = {name: getattr(chances, name) for name in WEIGHTS} | {"value": value, "cut": cut}
        for name, values in given.items():
            buffer = torch.from_numpy(np.asarray(values)).float()
            self.register_buffer(name, buffer.to(device_of(features.network)))

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        return self.score(self.features(*x, **named))

    def score(self, z: Tensor) -> Tensor:
        """(n,) or (n, K), of features (n, k)."""
        return self.cells(z) @ self.value - self.cut

    def recorded(self, data: Batches, group: Tensor | None, call: Call) -> Tensor:
        """What it says of all rows of the data, from one pass of its network.

        Args:
            group: (n,) codes, for a head that is given them.
        """
        own, read = (each.to(self.cut.device) for each in self.features.recorded(data, call))
        z = torch.cat([self.features.bent(own), read], 1)
        return self.given(z, group) if group is not None else self.score(z)

    def given(self, z: Tensor, group: Tensor) -> Tensor:
        """(n,) scores of features (n, k) of rows of these groups, which play no part here."""
        return self.score(z)

    @classmethod
    def empty(
        cls,
        network: nn.Module,
        layers: Sequence[str],
        inputs: bool,
        knots: int,
        shape: Sequence[int],
    ) -> HeadedNetwork:
        """One of this structure, whose weights are still to be loaded."""
        n_groups, n_classes, _ = shape
        cells = n_groups * n_classes
        return cls(
            Features(network, layers, inputs, knots),
            Chances.empty(*shape),
            np.zeros(cells if n_classes == 2 else (cells, n_classes)),
            np.zeros(() if n_classes == 2 else n_classes),
        ).eval()

    def structure(self) -> dict[str, Any]:
        """What `empty` takes besides the network."""
        features = self.features
        return {
            "layers": list(features.layers),
            "inputs": features.inputs,
            "knots": len(features.knot),
            "shape": list(self.label_weight.shape),
        }

    @property
    def classes(self) -> int:
        """How many it decides among."""
        return self.label_weight.shape[1]

    def group_chances(self, data: Batches) -> Array:
        """(n, G) what the head thinks of every row's group."""
        parts = []
        with evaluating(self):
            for x, _, _ in data:
                own, read = self.features.plain(x)
                z = torch.cat([self.features.bent(own), read], 1)
                parts.append(self.groups(z).cpu())
        return np.asarray(torch.cat(parts).double().numpy())

    def groups(self, z: Tensor) -> Tensor:
        """(n, G) the chances of each group, of features (n, k)."""
        return torch.softmax(z.to(self.group_weight) @ self.group_weight.T + self.group_bias, 1)

    def cells(self, z: Tensor) -> Tensor:
        """(n, G * K) the chances of each group and label, of features (n, k)."""
        logits = torch.einsum("nk,gyk->ngy", z.to(self.label_weight), self.label_weight)
        labels = torch.softmax(logits + self.label_bias, 2)
        return (self.groups(z)[:, :, None] * labels).flatten(1)


class GivenHead(HeadedNetwork):
    """Tells the label's chance given the row's own group, whose log-odds it answers with.

    Called as a network, without groups, it answers with the log-odds over the groups that it
    infers; `given` is what a rule with a threshold for each group decides by. Of two classes.
    """

    def score(self, z: Tensor) -> Tensor:
        """(n,) log-odds of label 1 over the groups that it infers."""
        return log_odds(super().score(z))

    def given(self, z: Tensor, group: Tensor) -> Tensor:
        """(n,) log-odds of label 1 for rows of these groups, (n,) codes."""
        z = z.to(self.label_weight)
        group = group.to(z.device)
        weight = self.label_weight[:, 1] - self.label_weight[:, 0]  # (G, k)
        bias = self.label_bias[:, 1] - self.label_bias[:, 0]
        found = z @ weight.T + bias
        return found.gather(1, group[:, None])[:, 0].clamp(-MOST, MOST)

    def structure(self) -> dict[str, Any]:
        """What `empty` takes besides the network."""
        return {**super().structure(), "given": True}


class Given(nn.Module):
    """A `GivenHead` for rows of known groups, as a network."""

    def __init__(self, head: GivenHead, group: Tensor) -> None:
        super().__init__()
        self.head, self.group = head, group

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        return self.head.given(self.head.features(*x, **named), self.group)


def log_odds(chance: Tensor) -> Tensor:
    """Of a chance that may be 0 or 1 by rounding."""
    return (chance.log() - (1 - chance).log()).clamp(-MOST, MOST)


def headed(network: nn.Module, structure: Mapping[str, Any]) -> HeadedNetwork:
    """A head of a given structure on a network, whose weights are still to be loaded."""
    values = dict(structure)
    kind = GivenHead if values.pop("given", False) else HeadedNetwork
    return kind.empty(network, **values)


def readable(x: Any) -> bool:
    """Whether a batch's x is a table of numbers, in one or several parts, which a head can read."""
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, tuple | list) else [x]
    tables = [p for p in parts if p.ndim == 2 and p.is_floating_point()]
    return len(tables) == len(parts) and sum(p.shape[1] for p in tables) <= COLUMNS
