"""What the values of a label are called, where data know it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from retrofair.errors import InputError

NAMES = "label_names"
TRUTH = {"true": "1", "false": "0"}


def label_names_of(data: Any) -> tuple[str, ...]:
    """Names of the labels 0 to K - 1, the positive one of two last; () where nobody said them.

    Data say it themselves (`label_names`), or else the table's preparation does.
    """
    for name in ("judged", "data"):  # rows held out, and those that stay on a GPU
        data = getattr(data, name, data)
    known = (data, getattr(data, "preparation", None))
    return next((tuple(names) for each in known if (names := getattr(each, NAMES, ()))), ())


def checked_label_names(names: Sequence[str], y: Tensor) -> tuple[str, ...]:
    """A name for each label, or none.

    Raises:
        InputError: one name, names twice, or labels without one.
    """
    if isinstance(names, str):
        raise InputError(f"expected a list of names of the labels, got {names!r} (label_names)")
    named = tuple(str(name) for name in names)
    if not named:
        return ()
    if len(named) < 2 or len(set(named)) < len(named):
        raise InputError(f"expected different names of two labels or more, got {list(named)}")
    if len(y) and not 0 <= float(y.min()) <= float(y.max()) < len(named):
        raise InputError(
            f"expected labels from 0 to {len(named) - 1}, one per name of label_names, got "
            f"{float(y.min()):g} to {float(y.max()):g}"
        )
    return named


def plain(name: str) -> str:
    """A name as it is compared: without spaces around it, in small letters, True as 1.

    >>> plain(" Smiling"), plain("False"), plain("1.0")
    ('smiling', '0', '1')
    """
    text = name.strip().casefold()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", TRUTH.get(text, text))


def same_in(*namings: Sequence[str]) -> Callable[[str], str]:
    """How names of these are compared: `plain`, or exactly where two of one naming would be one."""
    told = all(len({plain(name) for name in names}) == len(names) for names in namings)
    return plain if told else str
