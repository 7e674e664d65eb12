import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from retrofair.certifiers import (
    Continuous,
    Domain,
    Embedding,
    Integer,
    Mahalanobis,
    OneHot,
    Pwl,
    WeightedLp,
    attack,
    certify,
    pwl,
)
from retrofair.certifiers.activations import Activation
from retrofair.certifiers.board import Board
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.pwl import proved
from retrofair.certifiers.question import Question
from retrofair.errors import InputError

BOX = Domain([Continuous("a", 0, 1), Continuous("b", -1, 1)])
MIXED = Domain(
    [
        Continuous("age", 20, 60),
        Integer("children", 0, 2),
        OneHot("job", 3),
        Integer("sex", 0, 1, sensitive=True),
    ],
    mean=[40, 1, 0, 0, 0, 0],
    spread=[20, 2, 1, 1, 1, 1],
)


def network(d, widths, activation=nn.ReLU, seed=0, scale=2.0, last=()):
    torch.manual_seed(seed)
    layers = []
    for before, after in itertools.pairwise((d, *widths, 1)):
        linear = nn.Linear(before, after)
        linear.weight.data *= scale
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1], *last)


def brute(net, domain, distance, epsilon, steps=5):
    """The largest difference of probabilities over a grid of legal pairs."""
    axes = []
    for feature in domain.features:
        if isinstance(feature, OneHot):
            axes.append(np.eye(len(feature.names)))
        elif isinstance(feature, Integer):
            axes.append(np.arange(feature.low, feature.high + 1)[:, None])
        else:
            axes.append(np.linspace(feature.low, feature.high, steps)[:, None])
    inputs = np.array([np.concatenate(each) for each in itertools.product(*axes)])
    x = domain.to_inputs(inputs)
    with torch.no_grad():
        y = torch.sigmoid(net.double()(torch.from_numpy(x)))[:, 0].numpy()
    net.float()
    pairs, best = Pairs.of(domain, distance, epsilon), 0.0
    for i in range(len(x)):
        near = pairs.similar(np.broadcast_to(x[i], x.shape), x)
        best = max(best, float(np.abs(y - y[i])[near].max()))
    return best


@pytest.mark.parametrize(
    ("widths", "activation"),
    [((4,), nn.ReLU), ((4, 4), nn.ReLU), ((4,), nn.LeakyReLU), ((2,), nn.Tanh), ((), nn.ReLU)],
)
def test_it_contains_the_exact_optimum_and_is_little_looser(widths, activation):
    net = network(2, widths, activation)
    found = certify(net, BOX, WeightedLp(math.inf), 0.1, method="pwl", gap=0)
    exact = certify(net, BOX, WeightedLp(math.inf), 0.1, method="milp", gap=1e-2)
    assert exact.lower - 1e-6 <= found.upper <= 1.05 * exact.upper + 1e-6
    assert found.lower <= exact.upper + 1e-6
    assert found.lower >= 0.9 * exact.lower
    assert found.notes == ()


@pytest.mark.parametrize(
    "distance",
    [
        WeightedLp(1),
        WeightedLp(2, {"job": 0.02}),
        WeightedLp(math.inf, {"job": 0.1, "age": 0.5}),
        Mahalanobis(np.diag([2.0, 1, 0, 0, 0, 0]) + 0.1),
    ],
    ids=["l1", "l2", "inf", "mahalanobis"],
)
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_it_contains_every_pair_of_a_grid_of_mixed_features(distance, epsilon):
    net = network(6, (4,), seed=1)
    found = certify(net, MIXED, distance, epsilon, method="pwl", gap=0)
    best = brute(net, MIXED, distance, epsilon)
    assert best > 0  # sex is free
    assert found.upper >= best - 1e-6
    assert found.lower >= 0.9 * best
    assert found.upper <= 1.1 * max(found.lower, best) + 1e-3
    assert found.table().role[3] == "free"


def test_values_need_no_pieces_at_the_end():
    net = network(2, (4,))
    found = certify(net, BOX, WeightedLp(1), 0.2, method=Pwl(pieces=1), outputs="values", gap=0)
    exact = certify(net, BOX, WeightedLp(1), 0.2, method="milp", outputs="values", gap=1e-5)
    assert found.upper == pytest.approx(exact.upper, rel=1e-4)
    assert found.tier == "solver"
    assert found.upper_logit == found.upper


def test_a_last_sigmoid_with_a_scale():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = network(2, (3,), last=[nn.Sigmoid()]), nn.Linear(1, 1)
            self.last.weight.data.fill_(45.0)
            self.last.bias.data.fill_(5.0)

        def forward(self, x):
            return self.last(self.inner(x))

    net = nn.Sequential(*(made := Scaled()).inner, made.last)
    found = certify(net, BOX, WeightedLp(math.inf), 0.1, method="pwl", outputs="values", gap=0)
    unit = certify(made.inner, BOX, WeightedLp(math.inf), 0.1, method="pwl", gap=0)
    assert found.upper == pytest.approx(45 * unit.upper, rel=1e-3)
    assert found.lower == pytest.approx(45 * unit.lower, rel=1e-2)


def test_more_pieces_are_tighter():
    net = network(2, (4,), scale=3.0)
    uppers = [
        certify(net, BOX, WeightedLp(math.inf), 0.1, method=Pwl(pieces=n), gap=0).upper
        for n in (2, 4, 16)
    ]
    assert uppers[0] >= uppers[1] - 1e-6 >= uppers[2] - 2e-6
    assert uppers[2] < uppers[0]


@pytest.mark.parametrize("seconds", [0.05, 0.6, 1.5])
def test_what_is_proved_when_the_time_is_up_holds(seconds):
    domain = Domain([Continuous(f"x{i}", 0, 1) for i in range(8)])
    net = network(8, (12, 12), seed=3, scale=1.5)
    best = attack(net, domain, WeightedLp(math.inf), 0.2, seconds=3.0)
    found = certify(net, domain, WeightedLp(math.inf), 0.2, method="pwl", seconds=seconds, gap=0)
    assert found.upper >= best.delta - 1e-9
    assert found.lower <= found.upper
    assert found.stopped == "time"


def test_a_bound_below_a_pair_is_not_believed(monkeypatch):
    monkeypatch.setattr(pwl, "proved", lambda log, allowed: 0.0)
    net = network(2, (4,))
    found = certify(net, BOX, WeightedLp(math.inf), 0.1, method="pwl")
    assert found.upper > found.lower > 0.01
    assert found.tier == "float64"


def test_an_unreadable_log_leaves_the_quick_bounds(monkeypatch):
    monkeypatch.setattr(pwl, "proved", lambda log, allowed: None)
    net = network(2, (4,))
    found = certify(net, BOX, WeightedLp(math.inf), 0.1, method="pwl")
    quick = certify(net, BOX, WeightedLp(math.inf), 0.1, method="bounds")
    assert found.upper == quick.upper
    assert "no bound from CBC" in found.notes[0]


def test_ctrl_c_ends_cbc(monkeypatch):
    started, popen = [], subprocess.Popen

    def start(*args, **options):
        started.append(popen(*args, **options))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return started[-1]

    monkeypatch.setattr(pwl.subprocess, "Popen", start)
    domain = Domain([Continuous(f"x{i}", 0, 1) for i in range(10)])
    net = network(10, (24, 24))
    begun = time.monotonic()
    found = certify(net, domain, WeightedLp(math.inf), 0.2, method="pwl", seconds=60)
    assert found.stopped == "interrupted"
    assert math.isfinite(found.upper)
    assert time.monotonic() - begun < 30
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_process_that_does_not_stop_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(pwl, "GRACE", 0.1)
    board = Board(Question.of(network(2, (2,)), 2, None, None), 0.1, 0.0)
    with (tmp_path / "log").open("w") as out:
        sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
        assert pwl._watched(sleeper, out, board) is None


def test_pulp_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pulp", None)
    with pytest.raises(InputError, match=r"needs PuLP: pip install 'retrofair\[pwl\]'"):
        certify(network(2, (2,)), BOX, WeightedLp(), 0.1, method="pwl")


def test_what_it_cannot_answer_it_says():
    several = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3))
    embedding = Embedding(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), WeightedLp())
    for net, distance, options in (
        (several, WeightedLp(), {}),
        (several, WeightedLp(), {"outputs": "values"}),
        (network(2, (2,)), WeightedLp(), {"threshold": 0.5}),
        (network(2, (2,)), embedding, {}),
    ):
        with pytest.raises(InputError, match="use method='milp'"):
            certify(net, BOX, distance, 0.1, method="pwl", **options)
    for pieces in (0, 1.5, True):
        with pytest.raises(InputError, match="whole number of pieces"):
            Pwl(pieces=pieces)


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("low", "high"), [(-3, 2), (0.5, 4), (-500, 800), (-1e-3, 1e-3)])
def test_the_curve_lies_between_the_lines_of_every_piece(kind, low, high):
    activation = Activation(kind)
    ends = np.array(activation.pieces(low, high, 16))
    assert len(ends) == 17
    assert ends[0] == low
    assert ends[-1] == high
    assert (np.diff(ends) > 0).all()
    assert 0.0 in ends or not low < 0 < high
    pair = torch.from_numpy(ends[:-1].copy()), torch.from_numpy(ends[1:].copy())
    below, under, above, over = activation.lines(*pair)
    for t in torch.linspace(0, 1, 21, dtype=torch.float64):
        y = pair[0] + t * (pair[1] - pair[0])
        assert (below * y + under <= activation(y) + 1e-12).all()
        assert (above * y + over >= activation(y) - 1e-12).all()
        assert ((above - below) * y + over - under).max() < 0.03


# Logs of CBC 2.10.3, with fewer and shorter lines.
OPTIMAL = """\
Continuous objective value is -0.356138 - 0.00 seconds
Cbc0010I After 0 nodes, 1 on tree, -0.14606271 best solution, best possible -0.25478729
Cbc0012I Integer solution of -0.14809124 found by DiveCoefficient
Cbc0001I Search completed - best objective -0.1480912449390513, took 7474
Cuts at root node changed objective from -0.356138 to -0.254787

Result - Optimal solution found

Objective value:                -0.14809124
Enumerated nodes:               52
"""
WITHIN_GAP = """\
Cbc0012I Integer solution of -0.14606271 found by feasibility pump
Cbc0011I Exiting as integer gap of 0.089161316 less than 1e-10 or 50%
Cbc0001I Search completed - best objective -0.1460627114473703, took 4727

Result - Optimal solution found (within gap tolerance)

Objective value:                -0.14606271
Lower bound:                    -0.235
Gap:                            0.38
"""
STOPPED = """\
Cbc0012I Integer solution of -0.14606271 found by feasibility pump
Cbc0013I At root node, 40 cuts changed objective from -0.35613845 to -0.23631741 in 88 passes
Cbc0020I Exiting on maximum time
Cbc0005I Partial search - best objective -0.14606271 (best possible -0.23631741), took 4095

Result - Stopped on time limit

Objective value:                -0.14606271
Lower bound:                    -0.236
Gap:                            0.38
"""
NOTHING_FOUND = """\
Cbc0010I After 1000 nodes, 34 on tree, 1e+50 best solution, best possible -0.97871852 (5.43 seconds)
Cbc0020I Exiting on maximum time
Cbc0005I Partial search - best objective 1e+50 (best possible -0.97871852), took 50577

Result - Stopped on time limit

No feasible solution found
Lower bound:                    -0.979
"""
RESTARTED = """\
Cbc0010I After 0 nodes, 1 on tree, 1e+50 best solution, best possible -0.81652459 (1.94 seconds)
Cbc0044I Reduced cost fixing - 257 rows, 235 columns - restarting search
Cbc0010I After 0 nodes, 1 on tree, -0.79628924 best solution, best possible -0.79701513
Cbc0001I Search completed - best objective -0.7965418426914408, took 5032
Cbc0012I Integer solution of -0.79654184 found by Reduced search
Cbc0001I Search completed - best objective -0.7965418426914409, took 12433

Result - Optimal solution found

Objective value:                -0.79654184
"""
LINEAR = """\
Optimal - objective value -0.11436472
After Postsolve, objective -0.11436472, infeasibilities - dual 0 (0), primal 0 (0)
Optimal objective -0.1143647194 - 5 iterations time 0.002, Presolve 0.00
"""


def test_the_bound_of_a_completed_search_is_what_it_found_and_was_allowed_to_miss():
    assert proved(OPTIMAL, 1e-6) == 0.1480912449390513 + 1e-6
    assert proved(RESTARTED, 0.0) == 0.7965418426914409
    assert proved(LINEAR, 0.0) == 0.1143647194


def test_the_bound_of_a_stopped_search_is_what_is_possible_not_what_was_found():
    assert proved(STOPPED, 1e-6) == 0.23631741  # the summary says 0.236: less
    assert proved(NOTHING_FOUND, 0.0) == 0.97871852


@pytest.mark.parametrize(
    "log",
    [
        "",
        WITHIN_GAP,  # the gap is not the one that was asked for
        STOPPED.replace("-0.236\n", "-0.2\n"),
        STOPPED.replace("Lower bound", "Upper bound"),
        STOPPED.replace("-0.23631741", "-1.79769e+308").replace("-0.236\n", "-1.79769e+308\n"),
        STOPPED.split("Result")[0],
        STOPPED.replace("Stopped on time limit", "Optimal solution found"),
        OPTIMAL.replace("Optimal solution found", "Problem proven infeasible"),
        OPTIMAL.replace("-0.14809124\n", "-0.25\n"),
        OPTIMAL + OPTIMAL,
        LINEAR + STOPPED.split("Result")[0],
        "Stopped on iterations - objective value -0.09259676\n",
    ],
)
def test_a_log_that_is_not_as_expected_proves_nothing(log):
    assert proved(log, 1e-6) is None
