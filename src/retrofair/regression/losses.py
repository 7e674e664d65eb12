"""Losses of single rows, and means of rows with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import stdtrit
from torch import Tensor, nn

from retrofair.data import Rows
from retrofair.errors import InputError, unknown
from retrofair.metrics import LEVEL, Array
from retrofair.networks.outputs import as_module, checked, columns, evaluating, refuse_lazy

Loss = Literal["squared", "absolute"]


def check_loss(loss: object) -> None:
    """
    Raises:
        InputError: it is none of the known losses.
    """
    if loss not in get_args(Loss):
        raise unknown("loss", loss, get_args(Loss))


def of_errors(error: Any, loss: Loss) -> Any:
    """The loss of each row, of a tensor or an array of prediction minus label."""
    return error * error if loss == "squared" else abs(error)


def constant_of(y: Array, loss: Loss) -> float:
    """The number that predicts y best without looking at x: its mean, or its median."""
    return float(np.mean(y) if loss == "squared" else np.median(y))


def check_rows(data: object, what: str = "data") -> None:
    """
    Raises:
        InputError: it is not grouped data, has no rows, or a label is not finite.
    """
    if not isinstance(data, Rows):
        raise InputError(
            f"expected GroupedData or StreamedData as the {what}, got {type(data).__name__}"
        )
    if not len(data):
        raise InputError(f"expected {what} with rows, got none")
    bad = int((~np.isfinite(labels(data))).sum())
    if bad:  # GroupedData checks this too, but y can be changed in place
        raise InputError(f"expected finite numbers as y, got {bad:,} NaN or infinite ones")


def labels(data: Rows) -> Array:
    """(n,) in double precision."""
    return data.y.double().numpy()


def predictions(net: nn.Module, data: Rows) -> Array:
    """What the network says of each row, (n,) in double precision, in eval mode.

    Raises:
        InputError: it fails on the data, gives several numbers a row, or numbers not finite.
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(net).__name__}")
    net = as_module(net)
    refuse_lazy(net)
    if (many := columns(net, data)) > 1:
        raise InputError(
            f"expected one value per row, shape (n,) or (n, 1), got (n, {many}): take one output "
            "at a time, with a module that returns out[:, i]"
        )
    with evaluating(net):
        parts: list[Tensor] = [checked(net, x, len(y)).double().cpu() for x, y, _ in data]
    return np.concatenate([part.numpy() for part in parts])


@dataclass(frozen=True)
class Mean:
    """A mean over rows with its 95 % interval; nan where there are too few rows for one."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_of(values: Array, *, least: float = -math.inf, comparisons: int = 1) -> Mean:
    """The mean of independent rows, with Hall's interval: Student's, corrected for skewness.

    Losses are skewed to the right, and Student's interval covers in 91 % where it says 95 (30
    squared normal errors). Hall's transformation takes the skewness out of the studentised mean: it
    covers as a bootstrap-t does (95 % there, 92 % for squared errors of a t with 5 degrees of
    freedom, where Student's has 82), in closed form.

    Args:
        values: (n,).
        least: that a mean can be: 0 for losses.
        comparisons: means of which the interval is to hold for all at once (Bonferroni).

    Reference:
        Hall (1992), On the removal of skewness by transformation.
    """
    n = len(values)
    if not n:
        return Mean(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if n < 2:
        return Mean(mean, math.nan, math.nan)
    away = values - mean
    spread = math.sqrt(float(away @ away) / (n - 1))
    # what is left of equal values is rounding, and has a skewness of its own
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return Mean(mean, mean, mean)
    skew = n / ((n - 1) * max(n - 2, 1)) * float(((away / spread) ** 3).sum())
    point = float(stdtrit(n - 1, 1 - (1 - LEVEL) / 2 / max(comparisons, 1)))
    high = mean - spread * _untransformed(-point, skew, n)
    low = mean - spread * _untransformed(point, skew, n)
    return Mean(mean, max(low, least), high)


def _untransformed(point: float, skew: float, n: int) -> float:
    """Where Hall's monotone cubic takes a value to `point`, over sqrt(n)."""
    x = point / math.sqrt(n)
    if abs(skew) < 1e-6:  # the limit; the quotient below would be 0 / 0
        return x
    return float((np.cbrt(1 + skew * (x - skew / (6 * n))) - 1) / (skew / 3))
