"""What training for individuals reads: rows, and pairs to bring nearer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from retrofair.certifiers.domain import Domain
from retrofair.certifiers.extract import extract
from retrofair.certifiers.question import Question
from retrofair.data import GroupedData
from retrofair.errors import InputError

ROUNDED = 1e-5  # how far pairs in single precision may lie outside
Table = GroupedData | tuple[Tensor, Tensor]


class Rows(NamedTuple):
    """(n, d) and (n,) in double precision, and (n,) group codes where groups are asked about."""

    x: Tensor
    y: Tensor
    group: Tensor | None


def rows_of(data: Table, domain: Domain, question: Question, groups: bool) -> Rows:
    """A table's rows, checked against the domain and what the network can say."""
    if isinstance(data, GroupedData):
        x, y = data.x, data.y
    elif isinstance(data, tuple) and len(data) == 2 and all(isinstance(t, Tensor) for t in data):
        x, y = data
    else:
        raise InputError(
            f"expected GroupedData or a pair (x, y) of tensors as the rows, got "
            f"{type(data).__name__}"
        )
    if question.network.outputs > 1 and question.kind != "softmax":
        raise InputError(
            f"expected one output, or classes with a softmax, got {question.network.outputs} "
            f"outputs as {question.measured}: there is one label per row"
        )
    if x.ndim != 2 or x.shape[1] != domain.d or not len(x) or y.shape != x.shape[:1]:
        raise InputError(
            f"expected rows x (n, {domain.d}) as the domain has columns, and y (n,), got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    x, y = x.double(), y.double()
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError("expected finite numbers in x and y")
    if question.measured == "probabilities":
        most = 1 if question.kind == "sigmoid" else question.network.outputs - 1
        if not bool(((y >= 0) & (y <= most) & (y == y.round())).all()):
            raise InputError(
                f"expected labels from 0 to {most} for probabilities, got values from "
                f"{float(y.min()):g} to {float(y.max()):g}: say outputs='values' for regression"
            )
    elif question.kind == "sigmoid":
        tail = extract(question.original, domain.d).split_sigmoid()
        assert tail is not None
        ends = torch.stack([tail[2], tail[1] + tail[2]])
        low, high = float(ends.min()), float(ends.max())
        if bool(((y < low) | (y > high)).any()):
            raise InputError(
                f"expected targets within [{low:g}, {high:g}], which is all the network can say, "
                f"got {float(y.min()):g} to {float(y.max()):g}"
            )
    if not groups:
        return Rows(x, y, None)
    if question.network.outputs > 2:
        raise InputError(
            f"expected one output or two classes for group > 0, got {question.network.outputs}"
        )
    if not isinstance(data, GroupedData) or len(data.group.unique()) < 2:
        raise InputError("expected GroupedData of at least two groups for group > 0")
    return Rows(x, y, data.group)


def pairs_of(pairs: Tensor | None, domain: Domain) -> Tensor | None:
    """(k, 2, d) in double precision; None for none."""
    if pairs is None or not len(pairs):
        return None
    if pairs.ndim != 3 or tuple(pairs.shape[1:]) != (2, domain.d):
        raise InputError(f"expected pairs (k, 2, {domain.d}), got {tuple(pairs.shape)}")
    low, high = (domain.to_inputs(end) for end in (domain.low, domain.high))
    room = ROUNDED * (1 + high - low)
    people = pairs.double().numpy()
    if not ((people >= low - room) & (people <= high + room)).all():
        raise InputError("expected pairs of people in the domain, as the network takes them")
    return pairs.double()
