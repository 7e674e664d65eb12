"""Resampling of a table: rows drawn again with replacement, by weights."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from retrofair.data import GroupedData
from retrofair.data.split import check_seed
from retrofair.errors import InputError

Floats = npt.NDArray[np.float64]


def resampling_weights(
    attribute: Any,
    output: Any,
    *,
    attribute_offset: float = 1.0,
    output_offset: float = 1.0,
) -> Floats:
    """Weights that favour rows far out in a sensitive attribute, and near the middle in the output.

    With s and o the attribute and the output in standard deviations from their means, and
    v = |s| + attribute_offset, the middle is m = sum(o v) / sum(v), and a row's weight is
    v / (|o - m| + output_offset).

    Args:
        attribute: (n,) numbers: a column, or a 0/1 group. (Categories: one 0/1 column of them, or
            `reweighing`.)
        output: (n,) numbers: the label, or what a network predicts.
        attribute_offset: at least 0. The larger, the less the attribute counts; with 0 a row at
            its mean is never drawn.
        output_offset: above 0. The larger, the less the output counts.

    Returns:
        (n,) weights, as the formula gives them: they do not add up to 1.

    Raises:
        InputError: lengths differ, a value is no finite number (text that spells one is none), all
            values are alike, or an offset is no number, out of range, or too large to compute with.

    Example:
        >>> resampling_weights([0, 0, 2, 2], [1, 2, 1, 2]).tolist()
        [1.0, 1.0, 1.0, 1.0]
        >>> resampling_weights([0, 1, 2], [1, 2, 3]).round(3).tolist()
        [1.0, 1.0, 1.0]

    Reference: Liu and Hu (2023), An implementation of fairness guarantee framework for neural
    networks, Algorithm 2.
    """
    s, o = _standard(attribute, "attribute"), _standard(output, "output")
    if len(s) != len(o):
        raise InputError(
            f"expected an attribute and an output of one length, got {len(s):,} and {len(o):,} rows"
        )
    offsets = f"{attribute_offset!r} and {output_offset!r}"
    real = all(_is_number(value) for value in (attribute_offset, output_offset))
    # written so that NaN fails, too
    if not real or not 0 <= attribute_offset < np.inf or not 0 < output_offset < np.inf:
        raise InputError(
            f"expected attribute_offset >= 0 and output_offset > 0, both finite, got {offsets}"
        )
    pull = np.abs(s) + attribute_offset
    share = _scaled(pull)
    middle = (o * share).sum() / share.sum()
    with np.errstate(over="ignore"):
        weights = np.asarray(pull / (np.abs(o - middle) + output_offset))
    if not np.isfinite(weights).all():
        raise InputError(f"expected offsets with which the weights are finite, got {offsets}")
    return weights


def resample(data: GroupedData, weights: Any, *, seed: int = 0, rows: int = 0) -> GroupedData:
    """Rows drawn with replacement, each with a probability proportional to its weight.

    Args:
        weights: (n,) at least 0, not all 0: those of `resampling_weights`, of `reweighing`, or any.
        rows: how many to draw; 0: as many as there are.

    Raises:
        InputError: no rows to draw from; weights of another length, negative, not finite or all
            0; rows that are no whole number or negative; a seed that is none.

    Example:
        >>> data = GroupedData(x=torch.arange(3.0)[:, None], y=torch.tensor([0, 1, 1]),
        ...                    group=torch.tensor([0, 1, 1]), group_names=("a", "b"))
        >>> resample(data, [0, 0, 1]).x.flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    if not len(data):
        raise InputError("expected data with rows to draw from, got none")
    known = _numbers(weights, "weights")
    if len(known) != len(data):
        raise InputError(f"expected {len(data):,} weights, one per row, got {len(known):,}")
    if (known < 0).any() or not known.any():
        raise InputError(
            f"expected weights of at least 0, not all 0, got {known.min():g} to {known.max():g}"
        )
    whole = isinstance(rows, numbers.Integral) and not isinstance(rows, bool)
    if not whole or rows < 0:
        raise InputError(
            f"expected a whole number of rows, at least 0 (0: as many as there are), got {rows!r}"
        )
    rng = np.random.default_rng(check_seed(seed))
    known = _scaled(known)
    chosen = rng.choice(len(data), size=int(rows) or len(data), p=known / known.sum())
    return data[torch.from_numpy(chosen)]


def _standard(values: Any, what: str) -> Floats:
    """In standard deviations from the mean."""
    found = _numbers(values, what)
    if not len(found):
        raise InputError(f"expected an {what} with rows, got none")
    scaled = _scaled(found)
    spread = scaled.std()
    # the spread of equal numbers is rounding error, not always 0
    if spread <= 1e-12 * np.abs(scaled).max():
        raise InputError(
            f"expected an {what} that varies, got {found[0]:g} in every row: choose another {what}"
        )
    return np.asarray((scaled - scaled.mean()) / spread)


def _scaled(values: Floats) -> Floats:
    """Divided by a power of 2: to at most 1, so that no sum or square overflows; exactly."""
    _, exponent = np.frexp(np.abs(values).max())
    return np.asarray(np.ldexp(values, -int(exponent)))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.bool_)


def _numbers(values: Any, what: str) -> Floats:
    given = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    try:
        found = np.asarray(given)
        # numpy would parse the text "1" as a number; in columns of objects, too
        if found.dtype.kind not in "biufO" or (
            found.dtype.kind == "O" and not all(map(_is_number, found.flat))
        ):
            raise TypeError
        found = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"expected numbers as {what}, got {type(values).__name__} of something else: make a "
            "0/1 column of it"
        ) from None
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError(
            f"expected finite numbers of shape (n,) as {what}, got shape {found.shape}"
            + ("" if np.isfinite(found).all() else " with NaN or infinite ones")
        )
    return found
