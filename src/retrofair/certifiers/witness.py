"""A pair of similar people that anybody can check: legal, and run through the original network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrofair.certifiers.domain import Floats
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question

SHRINK = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)


@dataclass(frozen=True, eq=False)
class Witness:
    """A legal pair of similar people, with what the network makes of it.

    Args:
        raw: (2, d) in the user's units, in the network's precision.
        outputs: (2, K) of the original network.
        delta, logit: the smaller of double precision's and the original network's difference.
        margin: of the decisions, where they are asked about, otherwise nan.
        flips: the two are decided differently; a logit at the threshold itself is negative.
    """

    raw: Tensor
    outputs: Tensor
    distance: float
    delta: float
    logit: float
    margin: float
    flips: bool = False


def legalised(question: Question, pairs: Pairs, first: Floats, second: Floats) -> Witness | None:
    """The nearest legal pair to a pair (d,) and (d,), through the original network.

    Numbers are rounded to the network's precision, integers and categories to themselves; where
    rounding makes the two too different, what differs shrinks a little. None where that fails.
    """
    domain = pairs.domain
    dtype = next((p.dtype for p in question.original.parameters()), torch.float32)
    raw = _rounded(pairs, np.stack([first, second]))
    fixed = domain.integer.copy()
    for _, where in domain.groups:
        fixed[where] = True
    middle = raw.mean(0)
    for shrink in SHRINK:
        near = np.where(fixed, raw, middle + (raw - middle) * (1 - shrink))
        near = _in_precision(near, domain.low, domain.high, dtype)
        if pairs.legal(near[:1], near[1:])[0]:
            return _witness(question, pairs, near, dtype)
    return None


def _rounded(pairs: Pairs, inputs: Floats) -> Floats:
    """In the user's units, with whole integers and categories, inside the ranges."""
    domain = pairs.domain
    raw = np.clip(domain.to_raw(inputs), domain.low, domain.high)
    raw[:, domain.integer] = np.rint(raw[:, domain.integer])
    for _, where in domain.groups:
        raw[:, where] = np.eye(where.stop - where.start)[raw[:, where].argmax(1)]
    raw[1, pairs.shared] = raw[0, pairs.shared]
    return raw


def _in_precision(values: Floats, low: Floats, high: Floats, dtype: torch.dtype) -> Floats:
    """Values that the precision can hold, not beyond the ends of their ranges."""
    if dtype == torch.float64:
        return values
    held = values.astype(np.float32)
    held = np.where(held > high, np.nextafter(held, np.float32(-np.inf)), held)
    held = np.where(held < low, np.nextafter(held, np.float32(np.inf)), held)
    return held.astype(np.float64)


def _witness(question: Question, pairs: Pairs, raw: Floats, dtype: torch.dtype) -> Witness | None:
    inputs = pairs.domain.to_inputs(raw)
    exact, out = question.answers(inputs)
    delta = float(question.delta(exact[:1], exact[1:])[0])
    logit = float(question.logit(exact[:1], exact[1:])[0])
    margin, flips = float("nan"), False
    if question.cut is not None:
        margin = float(question.margin(exact[:1], exact[1:])[0])
        flips = question.flips(exact)
    if question.shown:
        seen = question.seen(out)
        delta = min(delta, float(question.delta(seen[:1], seen[1:])[0]))
        logit = min(logit, float(question.logit(seen[:1], seen[1:])[0]))
        if question.cut is not None:
            margin = min(margin, float(question.margin(seen[:1], seen[1:])[0]))
            flips = flips and question.flips(seen)
    else:
        shown = question.on_scale(out)
        delta = min(delta, float((shown[1] - shown[0]).abs().max()))
        flips = flips and question.flips_shown(out)
    if question.cut is not None and not flips:
        margin = min(margin, 0.0)  # what rounding hides is no flip
    distance = float(pairs.norm.between(inputs[:1], inputs[1:])[0])
    return Witness(torch.from_numpy(raw).to(dtype), out, distance, delta, logit, margin, flips)
