"""Rows that a method does not train on, to choose by: large networks know their rows by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data import Batch, Batches, Rows
from retrofair.data.split import alike_in_parts
from retrofair.debiasers.base import Debiaser
from retrofair.errors import InputError
from retrofair.networks.resident import resident
from retrofair.networks.threads import SMALL

USUAL = 0.3  # of the rows, where a method trains a large network


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Data that are the judged rows, whose minibatches are drawn from other rows.

    Args:
        judged: what is iterated over: thresholds and epochs are chosen by these rows.
        drawn: what `sample` draws from.
    """

    judged: Batches
    drawn: Batches

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.judged.group_names

    @property
    def y(self) -> Tensor:
        return self.judged.y

    @property
    def group(self) -> Tensor:
        return self.judged.group

    @property
    def preparation(self) -> Any:
        """How a table became the data, if one did."""
        return getattr(self.judged, "preparation", None)

    def __len__(self) -> int:
        return len(self.judged)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.judged

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement from those that are not judged."""
        return self.drawn.sample(rows, generator)


def drawn_from(data: Batches) -> Batches:
    """The rows that minibatches are drawn from, which critics may learn from too."""
    return data.drawn if isinstance(data, HeldOut) else data


def share_of(
    held_out: float | None, debiaser: Debiaser, net: nn.Module, data: Batches, head_only: bool
) -> float:
    """The share of rows to hold out: what was asked for, or 0.3 where a large network is trained.

    Raises:
        InputError: it is not in [0, 1), or the data are of a kind that cannot be split.
    """
    if held_out is not None:
        if not isinstance(held_out, Real) or not 0 <= float(held_out) < 1:
            raise InputError(f"expected held_out in [0, 1), got {held_out!r} (held_out)")
        if held_out and not isinstance(data, Rows):
            raise InputError(
                f"expected GroupedData or StreamedData to hold rows out, got {type(data).__name__}"
            )
    if not getattr(debiaser, "trains", False):
        return 0.0
    if held_out is not None:
        return float(held_out)
    large = isinstance(net, nn.Module) and sum(p.numel() for p in net.parameters()) >= SMALL
    return USUAL if large and not head_only and isinstance(data, Rows) else 0.0


def placed(data: Batches, share: float, net: nn.Module, seed: int) -> Batches:
    """The data where the network is, a share of them held out from training."""
    if not share or not isinstance(data, Rows):
        return resident(data, net)
    drawn, judged = alike_in_parts(data, share, seed)
    if not len(drawn) or not len(judged):
        raise InputError(
            f"expected rows in both parts, got {len(drawn):,} to train on and {len(judged):,} held "
            "out (held_out)"
        )
    return HeldOut(resident(judged, net), resident(drawn, net))
