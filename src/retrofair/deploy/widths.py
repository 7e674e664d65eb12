"""Texts of other lengths than those an export is tried on: which a network takes, its file must."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retrofair.deploy.form import Form
from retrofair.deploy.formats import Run
from retrofair.deploy.parity import answers

MASK = "attention_mask"


def widths_taken(original: Run, form: Form, features: Sequence[Tensor]) -> list[int]:
    """Some numbers of tokens below the data's own that the network takes; none: it needs those.

    Args:
        original: the network and its rule, of x's tensors and the group.
        features: those of all rows.
    """
    width = form.width(features[:-1])
    if width is None or width < 3:
        return []
    # odd and even ones: a network may work in blocks of tokens
    tried = {2, width // 2, width // 2 + 1, width - 1} - {1}
    return [each for each in sorted(tried) if _takes(original, form, features, each)]


def narrowed(form: Form, features: Sequence[Tensor], width: int) -> tuple[Tensor, list[Tensor]]:
    """Rows with so many tokens, as their positions and tensors: what the tokenizer makes of the
    short texts; where none is so short, the beginning of all.

    Args:
        features: x's tensors and, last, one of one number a row.
    """
    *parts, group = features
    rows = torch.arange(len(group))
    kept = slice(width)
    if MASK in form.names:
        mask = parts[form.names.index(MASK)]
        short = (mask.sum(1) <= width).nonzero()[:, 0]
        rows = short if len(short) else rows
        if mask[:, 0].sum() < mask[:, -1].sum():  # padded on the left
            kept = slice(-width, None)
    return rows, [*(each[rows, kept] for each in parts), group[rows]]


def _takes(original: Run, form: Form, features: Sequence[Tensor], width: int) -> bool:
    try:
        chance, _ = answers(original, narrowed(form, features, width)[1])
    except Exception:  # a network of the user's own may raise anything
        return False
    return bool(np.isfinite(chance).all())
