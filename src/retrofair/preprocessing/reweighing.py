"""Reweighing: weights that make group and label independent."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from retrofair.data import Batches
from retrofair.errors import InputError, RetrofairWarning

MOST_CLASSES = 50


def reweighing(data: Batches) -> Tensor:
    """A weight per row, P(group) P(label) / P(group, label), with which the two are independent.

    Groups and classes may be many. Where every group has every label, the weights of a group add
    up to its rows, as do those of a label; so they average 1, and a weighted mean needs no further
    factor. Where one has not, its weights add up to less, and it is warned of. Use them in
    `networks.train_mlp(weights=...)`, in any other training that takes weights per row, or draw
    by them with `resample`.

    Returns:
        (n,) float32 weights above 0.

    Raises:
        InputError: no rows, or labels that are no classes.

    Warns:
        RetrofairWarning: a group lacks a label.

    Example:
        >>> from retrofair.data import GroupedData
        >>> data = GroupedData(x=torch.zeros(4, 1), y=torch.tensor([0, 0, 1, 1]),
        ...                    group=torch.tensor([0, 0, 0, 1]), group_names=("a", "b"))
        >>> with warnings.catch_warnings(action="ignore"):  # nobody of b has label 0
        ...     reweighing(data).tolist()
        [0.75, 0.75, 1.5, 0.5]

    Reference: Kamiran and Calders (2012), Data preprocessing techniques for classification
    without discrimination.
    """
    n = len(data)
    if not n:
        raise InputError("expected data with rows, got none")
    classes, label = data.y.unique(return_inverse=True)
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"expected labels of at most {MOST_CLASSES} classes, got {len(classes):,} different "
            "ones: cut a number into classes first, or use resampling_weights"
        )
    groups = len(data.group_names)
    cell = data.group * len(classes) + label
    counts = torch.bincount(cell, minlength=groups * len(classes)).reshape(groups, -1).double()
    of_group, of_label = counts.sum(1, keepdim=True), counts.sum(0, keepdim=True)
    for g, k in torch.nonzero((counts == 0) & (of_group > 0)).tolist():
        warnings.warn(
            f"nobody of group {data.group_names[g]!r} has label {classes[k].item():g}: no weights "
            "make group and label independent",
            RetrofairWarning,
            stacklevel=2,
        )
    weights = of_group * of_label / (n * counts)
    return weights.reshape(-1)[cell].float()
