"""Lines, slopes and offsets of activations, over ranges of every size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrofair.certifiers.activations import Activation, sigmoid_difference

KNOWN = {
    "relu": Activation("relu"),
    "leaky": Activation("leaky_relu", 0.2),
    "rising": Activation("leaky_relu", -0.3),
    "steep": Activation("leaky_relu", 1.7),
    "sigmoid": Activation("sigmoid"),
    "tanh": Activation("tanh"),
}
centres = st.one_of(st.floats(-6, 6), st.floats(-700, 700), st.sampled_from([0.0, -700, 700, 1e-9]))
widths = st.one_of(st.floats(0, 8), st.sampled_from([0.0, 1e-300, 1e-13, 1e-9, 1400, 1e5]))
either = settings(max_examples=150, deadline=None, derandomize=True)


def inside(low: float, high: float) -> torch.Tensor:
    """Points of a range, its ends and 0 among them."""
    points = np.clip(np.linspace(low, high, 301), low, high)
    ends = [v for v in (low, high, 0.0, 1e-9, -1e-9) if low <= v <= high]
    return torch.tensor(sorted([*points, *ends]), dtype=torch.float64)


def rounding(*values: torch.Tensor) -> float:
    return 8 * 2.0**-52 * (1 + max(float(v.abs().max()) for v in values))


@pytest.mark.parametrize("name", KNOWN)
@given(low=centres, width=widths)
@example(low=-1.0, width=3.0)
@either
def test_lines_contain_the_function(name: str, low: float, width: float) -> None:
    activation, high = KNOWN[name], low + width
    y = inside(low, high)
    ends = torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64)
    below, under, above, over = activation.lines(*ends)
    f = activation(y)
    slack = rounding(below * y, above * y, f)
    assert bool((below * y + under <= f + slack).all())
    assert bool((f <= above * y + over + slack).all())
    assert bool(torch.isfinite(torch.cat([below, under, above, over])).all())


@pytest.mark.parametrize("name", KNOWN)
@given(low=centres, width=widths)
@either
def test_slopes_contain_every_chord(name: str, low: float, width: float) -> None:
    activation, high = KNOWN[name], low + width
    y = inside(low, high)
    ends = torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64)
    least, most = activation.slopes(*ends)
    assert float(least) <= float(most)
    f = activation(y)
    rise, run = f[None] - f[:, None], y[None] - y[:, None]
    slack = rounding(f, y)
    assert bool((rise <= torch.maximum(least * run, most * run) + slack).all())
    assert bool((rise >= torch.minimum(least * run, most * run) - slack).all())


@pytest.mark.parametrize("name", KNOWN)
@given(low=centres, width=widths, k=st.floats(-2, 2))
@either
def test_offsets_are_the_extremes(name: str, low: float, width: float, k: float) -> None:
    activation, high = KNOWN[name], low + width
    y = inside(low, high)
    given_ = [torch.tensor([v], dtype=torch.float64) for v in (k, low, high)]
    least, most = activation.offsets(*given_)
    values = activation(y) - k * y
    slack = rounding(values, k * y, y)
    assert float(least) <= float(values.min()) + slack
    assert float(most) >= float(values.max()) - slack
    # and not far off, where the points lie close together
    step = (high - low) / 300 * (2 + abs(k))
    assert float(least) >= float(values.min()) - step - slack
    assert float(most) <= float(values.max()) + step + slack


@pytest.mark.parametrize("slope", [0.2, -0.3, 1.7, 0.1])
def test_slopes_are_held_in_double_precision(slope: float) -> None:
    activation = Activation("leaky_relu", slope)
    ends = [torch.tensor([v], dtype=torch.float64) for v in (-2.0, -1.0)]
    assert [float(v) for v in activation.slopes(*ends)] == [slope, slope]
    assert float(activation.derivative(ends[0])) == slope
    assert float(activation.lines(*ends)[0]) == pytest.approx(slope, rel=1e-14)
    assert float(activation(ends[0])) == -2 * slope


@given(d=st.floats(0, 2000), m=st.floats(-2000, 2000))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_difference_of_sigmoids(d: float, m: float) -> None:
    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v)) if v > -700 else 0.0

    found = sigmoid_difference(d, m)
    assert found == pytest.approx(sigmoid(m + d / 2) - sigmoid(m - d / 2), abs=1e-14)
    assert 0 <= found <= math.tanh(d / 4) + 1e-15
    assert sigmoid_difference(d + 1, m) >= found
    assert sigmoid_difference(d, abs(m) + 1) <= found
