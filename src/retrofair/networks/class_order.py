"""Which output of a network stands for which label, by the names that both have."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from retrofair.data import label_names_of
from retrofair.data.label_names import plain
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.hugging_face_network import HuggingFaceNetwork, generic

SHOWN = 6
NUMBER = re.compile(r"-?\d+(\.\d+)?")
YES, NO = ("1", "yes", "y"), ("0", "no", "n", "-1")  # and True and False, 1 and 0 here
Order = tuple[int, ...]


def ordered(model: nn.Module, data: Any, *, quiet: bool = False) -> nn.Module:
    """The network with its outputs in the order of the data's labels.

    A network without names, or of another kind than transformers', and one on data that do not
    know what their labels are called, is returned as it is.

    Args:
        quiet: no warning where the names do not match.

    Raises:
        InputError: three labels or more, in words, that are not among the network's names.
    """
    labels = label_names_of(data)
    if not isinstance(model, HuggingFaceNetwork) or not labels:
        return model
    order, note = order_of(model.names, labels)
    if order is None and model.output is not None:
        order = _order_of_truth(labels)
    if order is None:  # a result's network keeps the order it was made for
        if note and model.order is None and not quiet:
            warnings.warn(note, RetrofairWarning, stacklevel=4)
        return model
    now = model.order or tuple(range(len(order)))
    return model if order == now else model.arranged(order)


def order_of(outputs: Sequence[str], labels: Sequence[str]) -> tuple[Order | None, str]:
    """Which output stands for each label, and a note where the names do not tell.

    Names are compared without spaces around them and in small letters; True and 1 are alike.

    Args:
        outputs: the network's names of its outputs.
        labels: of two labels the positive one last; otherwise of classes 0 to K - 1.

    Returns:
        The order, of all outputs, those that no label is called after last; None where the names
        do not tell, and outputs are taken as they come. With a note only where they could have.

    Raises:
        InputError: three labels or more, in words, that are not all among the outputs' names.

    Example:
        >>> order_of(["Yes", "No"], ["no", "yes"])
        ((1, 0), '')
        >>> order_of(["young", "middle", "old"], ["middle", "old", "young"])
        ((1, 2, 0), '')
    """
    known, wanted = [plain(name) for name in outputs], [plain(name) for name in labels]
    alone = len(outputs) == 1 and len(labels) == 2
    if not alone and (len(outputs) < len(labels) or (len(labels) == 2 and len(outputs) > 2)):
        return None, ""  # other numbers of classes: said where the outputs are looked at
    told = len(set(known)) == len(known) and len(set(wanted)) == len(wanted)
    places = [known.index(name) if told and name in known else None for name in wanted]
    found = [place for place in places if place is not None]
    if len(found) == len(labels):
        return (*found, *(k for k in range(len(outputs)) if k not in found)), ""
    if generic(outputs):
        return None, ""
    if len(labels) == 2:
        if found and not NUMBER.fullmatch(known[found[0]]):  # a number alone is no name
            return _order_of_two(*places, alone=alone), ""
        return None, _note_of_two(outputs, labels)
    if all(NUMBER.fullmatch(name) for name in wanted):
        return None, (
            f"the network's outputs {_shown(outputs)} are taken, in this order, for the classes "
            f"{_shown(labels)}: write the label as the outputs are called where that is not so"
        )
    absent = [name for name, place in zip(labels, places, strict=True) if place is None]
    raise InputError(
        f"expected the label's values among the names of the network's outputs, {_shown(outputs)}, "
        f"got {_shown(absent)}: write the label as the outputs are called, or as their places, "
        f"0 to {len(outputs) - 1} (id2label in the network's config)"
    )


def _order_of_truth(labels: Sequence[str]) -> Order | None:
    """Of one output of several, for labels that say whether what it is called holds."""
    ends = labels[0], labels[-1]
    holds = [_holds(name) for name in ends]
    if None in holds:  # a number says nothing beside others: 1 and 2 may be anything
        holds = [
            None if NUMBER.fullmatch(plain(name)) else each
            for name, each in zip(ends, holds, strict=True)
        ]
    negative, positive = holds
    if negative == positive:
        return None
    holding = not negative if positive is None else positive
    return (0, 1) if holding else (1, 0)


def _holds(name: str) -> bool | None:
    """Whether a label says that something holds, or does not; None: neither."""
    text = plain(name)
    turned = text.startswith("not ")
    text = plain(text.removeprefix("not "))
    return (text in YES) != turned if text in (*YES, *NO) else None


def _order_of_two(negative: int | None, positive: int | None, *, alone: bool) -> Order:
    """Of outputs of which one is called as a label is; a single output is its chance."""
    if alone:
        return (0, 1) if positive is not None else (1, 0)
    place = positive if positive is not None else 1 - (negative or 0)
    return 1 - place, place


def _note_of_two(outputs: Sequence[str], labels: Sequence[str]) -> str:
    other = f": where {outputs[0]!r} stands for it" if len(outputs) == 2 else ": where it does not"
    return (
        f"the network's output {outputs[-1]!r} is taken for the label {labels[1]!r}, the positive "
        f"class, as none is called {labels[1]!r} or {labels[0]!r}{other}, make the label's other "
        "value the positive one with positive= (--positive), or write the label as the outputs "
        "are called"
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
