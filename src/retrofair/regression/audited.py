"""Audit a regression network: each group's loss and signed error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from retrofair.data import Rows
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.metrics.intervals import FEW_ROWS
from retrofair.regression.found import ALL_ROWS, GroupLoss, RegressionAudit
from retrofair.regression.losses import (
    Loss,
    check_loss,
    check_rows,
    constant_of,
    labels,
    mean_of,
    of_errors,
    predictions,
)


def audit_regression(
    net: nn.Module,
    data: Rows,
    loss: Loss = "squared",
    *,
    constant: float | None = None,
) -> RegressionAudit:
    """The mean loss and the mean error of each group, with 95 % intervals (see `mean_of`).

    Args:
        net: (n, ...) -> (n,) or (n, 1) values, as y is; of a result, its `model`.
        data: rows that were used neither for training nor for fine-tuning; y any finite numbers.
        loss: "squared" or "absolute".
        constant: to compare with. Without it the best of these very rows, which is harder to beat
            than one of earlier rows: their mean, or for the absolute loss their median.

    Returns:
        A group without rows has nan in its place.

    Raises:
        InputError: the network does not fit the data or gives several numbers a row, y is not
            finite, there are no rows, or an unknown loss.

    Example:
        >>> import torch
        >>> from retrofair.data import GroupedData
        >>> data = GroupedData(x=torch.arange(4.0)[:, None], y=torch.tensor([0.0, 1, 2, 7]),
        ...                    group=torch.tensor([0, 0, 1, 1]), group_names=("a", "b"))
        >>> found = audit_regression(torch.nn.Identity(), data)
        >>> found.worst, found["b"].loss.value, found["b"].error.value
        ('b', 8.0, -2.0)
    """
    check_loss(loss)
    check_rows(data)
    said = predictions(net, data)
    y, group = labels(data), data.group.numpy()
    if constant is None:
        constant = constant_of(y, loss)
    elif not isinstance(constant, int | float) or not math.isfinite(constant):
        raise InputError(f"expected a finite number as the constant, got {constant!r}")
    return of_predictions(said, y, group, data.group_names, loss, float(constant))


def of_predictions(
    said: Array, y: Array, group: Array, names: tuple[str, ...], loss: Loss, constant: float
) -> RegressionAudit:
    """The audit of predictions (n,) of labels (n,)."""

    def of_rows(name: str, rows: Any) -> GroupLoss:
        error = said[rows] - y[rows]
        missed = of_errors(constant - y[rows], loss)
        return GroupLoss(
            name,
            len(error),
            mean_of(of_errors(error, loss), least=0.0),
            mean_of(error),
            float(missed.mean()) if len(missed) else math.nan,
        )

    groups = tuple(of_rows(name, group == code) for code, name in enumerate(names))
    overall = of_rows(ALL_ROWS, slice(None))
    filled = [code for code, each in enumerate(groups) if each.rows]
    worst = max(filled, key=lambda code: groups[code].loss.value)
    losses = of_errors((said - y)[group == worst], loss)
    return RegressionAudit(
        loss=loss,
        groups=groups,
        overall=overall,
        worst=names[worst],
        worst_loss=mean_of(losses, least=0.0, comparisons=len(filled)),
        constant=constant,
        flags=tuple(_flags(groups, overall)),
    )


def _flags(groups: tuple[GroupLoss, ...], overall: GroupLoss) -> Iterator[str]:
    for each in groups:
        if not each.rows:
            yield f"Group {each.name!r} has no rows: nothing is known of its loss."
        elif each.rows == 1:
            yield f"Group {each.name!r} has one row: its loss may be anywhere."
        elif each.rows < FEW_ROWS:
            yield (
                f"Group {each.name!r} has only {each.rows} rows: its loss may be anywhere in "
                f"[{each.loss.low:.4g}, {each.loss.high:.4g}]."
            )
        if each.rows and each.loss.value >= each.constant_loss:
            yield f"On group {each.name!r} the network is no better than a constant."
    if overall.loss.value >= overall.constant_loss:
        yield "Over all rows the network is no better than a constant."


def group_counts(data: Rows) -> Array:
    """(G,) rows."""
    return np.bincount(data.group.numpy(), minlength=len(data.group_names))
