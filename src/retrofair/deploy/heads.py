"""A fair head that gives the same answers where rounding differs.

A head bends the network's logit at knots, and what it adds may jump there. Knots lie between the
rows that it was fitted to, but other rows may be at them, and in another runtime, whose last bits
differ, on the other side. Each such knot is moved to the middle of the gap between rows, and the
weights are changed to make up for it: the answers on these rows stay the same, and none is near a
jump.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrofair.debiasers.head import HeadedNetwork, between
from retrofair.deploy.form import Form, at_once
from retrofair.metrics import Array
from retrofair.networks.memory import split_rows
from retrofair.networks.outputs import evaluating


def steady(head: HeadedNetwork, x: Any) -> HeadedNetwork:
    """A copy whose knots of the network's outputs lie between the rows of x.

    Above a knot k, w * (z - k) + s is w * (z - k') + s + w * (k' - k): with the right height of the
    step, moving the knot changes nothing but the answers between k and k', where no row is.
    """
    made = copy.deepcopy(head)
    own = _own(made, x)
    parts = Form.of(x).parts(x)
    outputs = own.shape[1] - sum(part.shape[1] for part in parts if made.features.inputs)
    column, knot = made.features.column, made.features.knot
    knots, count = len(knot), own.shape[1]
    for position in range(knots):
        if int(column[position]) >= outputs:
            continue  # inputs are the same bits everywhere
        old = float(knot[position])
        new = _between(own[:, int(column[position])].numpy(), old)
        for weight in (made.group_weight, made.label_weight):
            bend = weight[..., count + position]
            weight[..., count + knots + position] += bend * (new - old)
        knot[position] = new
    return made


def _between(values: Array, knot: float) -> float:
    """The middle of the gap that holds the knot; where there is none, the knot."""
    distinct = np.unique(values)
    inside = distinct[0] <= knot < distinct[-1]
    return float(between(distinct, np.array([knot]))[0]) if inside else knot


def _own(head: HeadedNetwork, x: Any) -> Tensor:
    rows = at_once(Form.of(x).parts(x))
    with evaluating(head):
        parts = [head.features.plain(each)[0].cpu() for each in split_rows(x, rows)]
    return torch.cat(parts).clone()
