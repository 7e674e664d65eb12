"""Protected attributes as other libraries hand them over: any values, one column or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from retrofair.data.encoders import as_text, text_of
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array

MOST_GROUPS = 1_000


@dataclass(frozen=True)
class Groups:
    """The groups that some rows named; the last is the privileged one.

    Args:
        names: one per code; of several columns the values joined by " & ".
        columns: how many columns they come from.
    """

    names: tuple[str, ...]
    columns: int = 1

    @classmethod
    def of(cls, sensitive_features: Any, y: Array, privileged: object = None) -> Groups:
        """The groups among these rows, in the order of their names, the privileged one last.

        Args:
            y: (n,) numbers; without `privileged`, the group of the largest mean is the privileged
                one, or 1 where the values are 0 and 1.
            privileged: the privileged value, or one for each column.

        Raises:
            InputError: missing values, another number of rows than y has, fewer than two groups,
                or a privileged value that no row has.
        """
        columns = texts_of(sensitive_features, len(y))
        parts = len(columns.columns)
        texts = joined(columns)
        names = sorted(set(texts))
        if len(names) < 2:
            raise InputError(
                f"expected at least two groups in sensitive_features, got {names[0]!r} in every row"
            )
        if len(names) > MOST_GROUPS:
            raise InputError(
                f"expected at most {MOST_GROUPS:,} groups in sensitive_features, got "
                f"{len(names):,}: bin them first, for example with pandas.cut"
            )
        if privileged is None:
            means = pd.Series(y, dtype=float).groupby(texts).mean()
            last = "1" if names == ["0", "1"] else str(means.idxmax())
        else:
            last = _privileged(privileged, parts)
            if last not in names:
                raise unknown("privileged group", last, names)
        return cls((*(name for name in names if name != last), last), parts)

    def codes(self, sensitive_features: Any, n: int) -> Array:
        """(n,) int64 codes of rows into the names.

        Raises:
            InputError: as `of`, or a group that was not there before.
        """
        columns = texts_of(sensitive_features, n)
        if len(columns.columns) != self.columns:
            raise InputError(
                f"expected {self.columns} columns of sensitive_features as before, got "
                f"{len(columns.columns)}"
            )
        texts = joined(columns)
        found = pd.Index(self.names).get_indexer(pd.Index(texts))
        if (found < 0).any():
            raise InputError(
                f"expected the groups {list(self.names)} in sensitive_features, got also "
                f"{sorted(set(texts[found < 0]))[:5]} ({int((found < 0).sum()):,} rows)"
            )
        return found.astype(np.int64)


def texts_of(sensitive_features: Any, n: int) -> pd.DataFrame:
    """The columns as texts, one row for each of n.

    Raises:
        InputError: missing values, or another shape than (n,) or (n, columns).
    """
    if isinstance(sensitive_features, Tensor):
        sensitive_features = sensitive_features.detach().cpu().numpy()
    if isinstance(sensitive_features, dict | pd.DataFrame):
        frame = pd.DataFrame(sensitive_features).reset_index(drop=True)
    elif isinstance(sensitive_features, pd.Series):
        frame = sensitive_features.reset_index(drop=True).to_frame()
    else:
        values = np.asarray(sensitive_features)
        if values.ndim not in (1, 2):
            raise InputError(
                f"expected sensitive_features of shape ({n},) or ({n}, columns), got {values.shape}"
            )
        frame = pd.DataFrame(values)
    if len(frame) != n or not len(frame.columns):
        raise InputError(
            f"expected a value in sensitive_features for each of {n:,} rows, got shape "
            f"{frame.shape}"
        )
    # by position: two columns may have one name
    columns = {k: as_text(frame.iloc[:, k].infer_objects()) for k in range(frame.shape[1])}
    texts = pd.DataFrame(columns)
    empty = texts.isna().any(axis=1)
    if empty.any():
        raise InputError(
            f"expected no missing values in sensitive_features, got {int(empty.sum()):,}: leave "
            "these rows out, or give them a value of their own"
        )
    return texts


def joined(texts: pd.DataFrame) -> Array:
    """(n,) names of groups."""
    first, *others = (texts[name] for name in texts.columns)
    for each in others:
        first = first + " & " + each
    return first.to_numpy(dtype=object)


def _privileged(value: object, columns: int) -> str:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if several else [value]  # type: ignore[call-overload]
    if len(values) != columns:
        raise InputError(
            f"expected one privileged value for each of {columns} columns of sensitive_features, "
            f"got {values} (privileged)"
        )
    return " & ".join(map(text_of, values))
