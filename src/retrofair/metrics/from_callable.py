"""A user's own function of labels, predictions and groups as a measure."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrofair.errors import InputError
from retrofair.metrics.counts import Array
from retrofair.metrics.intervals import LEVEL

DRAWS = 200


@dataclass(frozen=True)
class CallableMeasure:
    """Wraps `function(y, prediction, group) -> number`, three (n,) integer arrays.

    Of K classes, labels and predictions are their codes from 0 to K - 1. The rows it sees are put
    together from counts, so their order carries no meaning. Its interval
    is a bootstrap of the counts, 200 replicates: the rows by group and label are drawn (at least
    one wherever the data have any, since many functions need it), then their predictions.
    Replicates without a finite value are left out, and the value itself is always inside.
    """

    function: Callable[[Array, Array, Array], float]
    ideal: float = 0.0
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def meaning(self) -> str:
        text = (self.function.__doc__ or "").strip()
        return text.splitlines()[0] if text else "the caller's own measure"

    def __call__(self, counts: Array) -> Array:
        stack = counts.reshape(-1, *counts.shape[-3:])
        values = [self._one(cells) for cells in stack]
        return np.asarray(values).reshape(counts.shape[:-3])

    def bias(self, counts: Array) -> Array:
        return np.abs(self(counts))

    def interval(self, counts: Array, level: float = LEVEL) -> tuple[float, float]:
        rows = counts.sum(axis=-1)
        if not rows.any():
            return math.nan, math.nan
        value = float(self(counts))
        random = np.random.default_rng(0)
        drawn = random.multinomial(rows.sum(), (rows / rows.sum()).ravel(), size=DRAWS)
        drawn = np.maximum(drawn.reshape(DRAWS, *rows.shape), rows > 0)
        share = counts / np.maximum(rows, 1)[..., None]
        if counts.shape[-1] == 2:
            positive = random.binomial(drawn, share[..., 1])
            draws = np.stack([drawn - positive, positive], axis=-1)
        else:
            share[rows == 0, 0] = 1.0  # of no rows
            draws = random.multinomial(drawn, share)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = np.array([self._replicate(draw) for draw in draws])
        values = values[np.isfinite(values)]
        if not len(values):
            return math.nan, math.nan
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return min(float(low), value), max(float(high), value)

    def _replicate(self, counts: Array) -> float:
        try:
            return float(self.function(*_rows(counts)))
        except Exception:  # it had a value for the rows themselves
            return math.nan

    def _one(self, counts: Array) -> float:
        try:
            result = self.function(*_rows(counts))
        except Exception as error:  # the caller's own code may raise anything
            raise self._raised(error, counts) from error
        try:
            if isinstance(result, str | bytes):  # which float would read
                raise TypeError
            value = float(result)
        except (TypeError, ValueError):
            shown = " ".join(repr(result).split())[:80]
            raise InputError(
                f"expected the measure {self.name!r} to return a number, got "
                f"{type(result).__name__} ({shown}); return a float"
            ) from None
        if not math.isfinite(value):
            raise InputError(
                f"expected the measure {self.name!r} to return a finite number, got {value} for "
                f"{int(counts.sum()):,} rows; return 0 where it has no meaning"
            )
        return value

    def _raised(self, error: Exception, counts: Array) -> InputError:
        """What to say of an error in the function: that it takes other arguments, or its own."""
        takes = _arguments(self.function)
        if takes is not None:
            return InputError(
                f"expected the measure {self.name!r} to take (y, prediction, group), got a "
                f"function of {takes}; give it these three arguments"
            )
        return InputError(
            f"expected the measure {self.name!r} to return a number, got "
            f"{type(error).__name__}: {error} for {int(counts.sum()):,} rows; mend it, or return 0 "
            "where it has no meaning"
        )


def _arguments(function: Callable[..., object]) -> str | None:
    """The arguments of a function that cannot be called with three; None where it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not say
        return None
    try:
        signature.bind(*"abc")
    except TypeError:
        return str(signature)
    return None


def _rows(counts: Array) -> tuple[Array, Array, Array]:
    """Labels, predictions and groups of rows with these counts."""
    whole = np.rint(counts).astype(np.int64).ravel()  # threshold searches count in floats
    group, y, prediction = (np.repeat(axis.ravel(), whole) for axis in np.indices(counts.shape))
    return y, prediction, group
