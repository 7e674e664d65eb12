"""The study of Boston housing: folds, the paper's algorithms against plain twins, bad input."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import retrofair as rf
from retrofair.certifiers import Continuous, Domain, WeightedLp
from retrofair.data import GroupedData, Splits
from retrofair.preprocessing import resampling_weights
from retrofair.studies import get
from retrofair.studies.fairnn import findings, methods
from retrofair.studies.fairnn.cells import RELEASED, FairCell, Room
from retrofair.studies.fairnn.descent import (
    adam,
    anneal,
    backprop,
    best_of,
    descend,
    differences,
)
from retrofair.studies.fairnn.housing import WEIGHTS, Fold, Problem, Rows
from retrofair.studies.fairnn.methods import METHODS, Case, Draws, Framework, Individually, Trained
from retrofair.studies.fairnn.model import Shape, released_sigmoid

# with weight 0 on all but one column, some of a hundred rows are similar
FREE = ("sex", "region", "neighbourhood", "hours", "noise_1", "noise_2")
SMALL = Problem(weights=tuple((name, 0.0) for name in FREE), epsilon=0.05, low=0.0, high=1.0)
SOURCE = Fold("synthetic", ("sex",), rows=150, fold=0)


@pytest.fixture
def room() -> Room:
    return Room.of(SOURCE.load(), SOURCE, SMALL, ())


def draw(shape: Shape, seed: int = 0) -> Tensor:
    return shape.draw(np.random.default_rng(seed))


# --- rows -----------------------------------------------------------------------------------------


def rows_in(data: GroupedData) -> set[tuple[float, ...]]:
    """Rows by their own values, before standardisation."""
    assert data.preparation is not None
    scaled: dict[str, Any] = {c.name: c for c in data.preparation.columns if hasattr(c, "mean")}
    values = {
        name: data.x[:, data.feature_names.index(name)].double() * c.spread + c.mean
        for name, c in scaled.items()
    }
    return set(zip(*(v.numpy().round(2).tolist() for v in values.values()), strict=True))


def test_every_row_is_tested_once_and_never_trained_on_then() -> None:
    folds = [dataclasses.replace(SOURCE, fold=k).load() for k in range(5)]
    tested = [rows_in(splits.test) for splits in folds]
    assert sum(map(len, tested)) == len(set().union(*tested)) == 150
    for k, splits in enumerate(folds):
        parts = [rows_in(part) for part in (splits.train, splits.valid, splits.test)]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 150
        assert parts[1] == tested[(k + 1) % 5]
        column = splits.train.feature_names.index("skill")
        assert float(splits.train.x[:, column].mean()) == pytest.approx(0, abs=1e-6)


def test_a_split_shuffles_the_folds_anew() -> None:
    one, other = (dataclasses.replace(SOURCE, split=k).load() for k in (0, 1))
    assert not torch.equal(one.test.x, other.test.x)


def test_all_rows_are_in_each_part_without_a_fold() -> None:
    splits = dataclasses.replace(SOURCE, fold=None).load()
    assert len(splits.train) == 150
    assert torch.equal(splits.train.x, splits.test.x)


def test_pairs_and_delta_are_those_of_all_pairs_looked_at_one_by_one(room: Room) -> None:
    rows, x = room.case.train, room.splits.train.x.double()
    column = room.splits.train.feature_names.index("skill")
    near = [
        (i, j)
        for i, j in itertools.combinations(range(len(x)), 2)
        if abs(float(x[i, column] - x[j, column])) <= SMALL.epsilon
    ]
    assert list(zip(rows.first.tolist(), rows.second.tolist(), strict=True)) == near
    assert len(near) > 10
    out = room.shape.outputs(draw(room.shape), x)
    worst = max(abs(float(out[i] - out[j])) for i, j in near)
    assert float(rows.delta(out)) == pytest.approx(worst, abs=1e-12)


def test_delta_is_that_of_the_library(room: Room) -> None:
    theta = draw(room.shape)
    network = room.shape.network(theta)
    theirs = rf.empirical_delta(
        network, room.splits.train, SMALL.distance, SMALL.epsilon, domain=room.domain
    )
    assert room.measured(theta)["delta_train"] == pytest.approx(theirs, abs=1e-6)
    assert room.case.delta()(theta) == pytest.approx(theirs, abs=1e-5)


def test_delta_over_rows_is_below_the_certificate(room: Room) -> None:
    theta = draw(room.shape)
    found = room.certificate(theta, 1.0)
    measured = room.measured(theta)
    for part in ("train", "valid", "test"):
        assert not measured[f"delta_{part}"] > found.upper + 1e-6


def test_the_papers_weights_are_a_series_that_adds_up_to_one() -> None:
    values = [value for _, value in WEIGHTS]
    assert len(WEIGHTS) == 13
    assert sum(values) == pytest.approx(1)
    assert dict(WEIGHTS)["RM"] == pytest.approx(0.144444444)
    assert dict(WEIGHTS)["CHAS"] == pytest.approx(0.022222222)
    assert dict(WEIGHTS)["B"] == 0
    assert np.diff(values[:-1]) == pytest.approx(-1 / 90)


# --- the model ------------------------------------------------------------------------------------


def test_the_papers_model_is_its_formula() -> None:
    shape = Shape(3)
    theta, x = draw(shape), torch.randn(7, 3, dtype=torch.double)
    for row, out in zip(x.tolist(), shape.outputs(theta, x).tolist(), strict=True):
        z = sum(w * v for w, v in zip(theta[:3].tolist(), row, strict=True)) + float(theta[3])
        assert out == pytest.approx(5 + 45 / (1 + math.exp(-z)))


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4)])
def test_the_network_is_the_model(hidden: tuple[int, ...]) -> None:
    shape = Shape(3, hidden)
    theta, x = draw(shape), torch.randn(20, 3, dtype=torch.double)
    network = shape.network(theta)
    assert torch.allclose(shape.weights(network), theta, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(network(x.float()).double(), shape.outputs(theta, x), atol=1e-4)


def test_the_constant_model_says_its_value() -> None:
    shape = Shape(3, (4,))
    out = shape.outputs(shape.constant(22.5), torch.randn(9, 3, dtype=torch.double))
    assert out.tolist() == pytest.approx([22.5] * 9)


def saw(z: float) -> float:
    """The released code's sigmoid, one number at a time."""
    if z >= 5:
        return 1.0
    edges = np.linspace(-5, 5, 17)
    for low, high in itertools.pairwise(edges.tolist()):
        if low <= z < high:
            s = 1 / (1 + math.exp(-(low + high) / 2))
            return s * (1 - s) * (z - low)
    return 0.0


def test_the_released_codes_sigmoid_is_a_saw() -> None:
    z = torch.linspace(-6, 6, 997, dtype=torch.double) + 1e-4  # off the pieces' ends
    assert released_sigmoid(z).tolist() == pytest.approx([saw(v) for v in z.tolist()], abs=1e-9)
    inside = released_sigmoid(z[z < 5])
    assert 0.148 < float(inside.max()) < 0.153
    assert float(released_sigmoid(torch.tensor([4.999], dtype=torch.double))) < 0.01


def test_what_the_paper_shows_is_the_saw(data_root: Path) -> None:
    """Figure 5 starts around 6.6: the saw's delta of the released weights, not the sigmoid's."""
    source = Fold("boston", ("B",))
    splits = source.load(str(data_root))
    room = Room.of(splits, source, Problem(), ())
    theta = torch.tensor(RELEASED, dtype=torch.double)
    assert room.case.delta(released_sigmoid)(theta) == pytest.approx(6.6, abs=0.1)
    assert room.case.delta()(theta) > 25
    b = pd.read_csv(data_root / "boston/boston.csv")["B"].to_numpy()
    expected = (b - b.mean()) / b.std()
    assert room.case.attribute.numpy() == pytest.approx(expected, abs=1e-5)


# --- searches -------------------------------------------------------------------------------------


def bowl(theta: Tensor) -> float:
    return float(theta.square().sum())


def test_differences_and_backpropagation_agree_with_the_formula(room: Room) -> None:
    case, theta = room.case, draw(room.shape, 3)
    rows = case.train
    out = case.shape.outputs(theta, rows.x)
    worst = int((out[rows.first] - out[rows.second]).abs().argmax())
    i, j = int(rows.first[worst]), int(rows.second[worst])
    if out[i] < out[j]:
        i, j = j, i
    expected = torch.zeros(case.shape.size, dtype=torch.double)
    for row, sign in ((i, 1.0), (j, -1.0)):
        s = torch.sigmoid(rows.x[row] @ theta[:-1] + theta[-1])
        inputs = torch.cat([rows.x[row], torch.ones(1, dtype=torch.double)])
        expected += sign * s * (1 - s) * inputs  # the range is 1
    assert torch.allclose(case.exact_slope(rows)(theta), expected)
    assert torch.allclose(differences(case.delta(), 1e-6)(theta), expected, atol=1e-5)


def test_many_weights_are_differentiated_by_backpropagation_alike() -> None:
    room = Room.of(SOURCE.load(), SOURCE, SMALL, (10,))
    assert room.shape.size > methods.MANY // 2
    theta, score = draw(room.shape), room.case.delta()
    exact = room.case.exact_slope(room.case.train)(theta)
    assert torch.allclose(differences(score, 1e-6)(theta), exact, atol=1e-5)
    small, large = Shape(3), Shape(3, (100,))
    for shape, calls in ((small, 2 * small.size), (large, 0)):
        counted = itertools.count()
        rows = Rows(
            torch.randn(4, 3).double(), torch.zeros(4), *torch.tensor([[0, 2], [1, 3]]), 0.3
        )

        def score_of(theta: Tensor, counted: Any = counted) -> float:
            next(counted)
            return 0.0

        people = Domain([Continuous(name, 0, 1) for name in "abc"])
        case = Case(shape, rows, rows, torch.zeros(4), people, WeightedLp(2))
        case.slope(score_of, rows)(draw(shape))
        assert next(counted) == calls


def test_a_slope_of_a_maximum_is_that_of_one_pair() -> None:
    theta = torch.tensor([1.0, -1.0], dtype=torch.double)
    slope = backprop(lambda t: t.abs().max())(theta)
    assert sorted(slope.abs().tolist()) in ([0.0, 1.0], [0.5, 0.5])


def test_descent_is_the_update_written_out() -> None:
    start = torch.tensor([1.0, -2.0], dtype=torch.double)
    walk = descend(start, bowl, differences(bowl), epochs=5, rate=0.1)
    theta = start.clone()
    for k in range(1, 6):
        theta = theta - 0.1 * 2 * theta
        assert walk.steps[k].tolist() == pytest.approx(theta.tolist(), abs=1e-6)
    assert len(walk.history) == 6
    assert walk.score == walk.history[-1] == min(walk.history)
    assert start.tolist() == [1.0, -2.0]


def scripted(values: list[float]) -> Any:
    """A score by the number of steps taken, for a slope of -1."""
    return lambda theta: values[round(float(theta[0]))]


def test_descent_keeps_the_smallest_and_stops_at_a_jump() -> None:
    values = [6.6, 6.4, 6.5, 6.2, 6.3, 44.75, 1.0]
    start, up = torch.zeros(1), lambda theta: -torch.ones(1)
    walk = descend(start, scripted(values), up, epochs=6, rate=1.0)
    assert walk.jumped == 5
    assert walk.score == 6.2
    assert float(walk.best) == 3
    assert walk.history == (6.6, 6.4, 6.5, 6.2, 6.3, 44.75)
    through = descend(start, scripted(values), up, epochs=6, rate=1.0, jump=math.inf)
    assert (through.jumped, through.score) == (None, 1.0)
    short = descend(start, scripted(values), up, epochs=2, rate=1.0)
    assert len(short.history) == 3
    assert (findings.jump_of(values), findings.kept(values)) == (5, 3)
    assert (findings.jump_of(values[:5]), findings.kept(values[:5])) == (None, 3)


def test_algorithm_1_starts_from_the_smallest_draw_and_never_ends_above_it(room: Room) -> None:
    rng, score = np.random.default_rng(5), room.case.delta()
    draws = [room.shape.draw(rng) for _ in range(8)]
    walk = Framework(starts=8, epochs=3).walk(room.case, np.random.default_rng(5))
    assert walk.history[0] == min(map(score, draws)) < max(map(score, draws))
    assert walk.score <= walk.history[0]
    assert torch.equal(walk.steps[0], best_of(draws, score))


def test_annealing_takes_the_best_and_only_improvements_when_cold() -> None:
    start = torch.full((3,), 2.0, dtype=torch.double)
    walk = anneal(start, bowl, np.random.default_rng(0), steps=300)
    assert walk.score == min(walk.history) < bowl(start) / 5
    assert bowl(walk.best) == walk.score
    cold = anneal(start, bowl, np.random.default_rng(0), steps=50, heat=1e-12)
    least = list(itertools.accumulate(cold.history, min))
    # every move starts from the best so far: 0.2 in each weight cannot leave it far behind
    for now, best in zip(cold.steps[1:], least, strict=False):
        assert float(now.norm()) < best**0.5 + 6 * 0.2 * 3**0.5


def test_adam_returns_what_the_judge_likes_best() -> None:
    start = torch.tensor([3.0], dtype=torch.double)

    def loss(theta: Tensor) -> Tensor:
        return theta.square().sum()

    def judge(theta: Tensor) -> float:
        return abs(float(theta) - 2)

    assert float(adam(start, loss, judge, steps=600)) == pytest.approx(2, abs=0.1)
    assert float(adam(start, loss, bowl, steps=600)) == pytest.approx(0, abs=0.1)


def test_budgets_are_equal(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"score": 0, "gradient": 0}
    inner = Rows.delta

    def counting(rows: Rows, outputs: Tensor) -> Tensor:
        counts["gradient" if outputs.requires_grad else "score"] += 1
        return inner(rows, outputs)

    monkeypatch.setattr(Rows, "delta", counting)
    case = dataclasses.replace(room.case)
    used = {}
    for method in METHODS:
        if method.name in ("Algorithm 1", "Algorithm 1, resampling") or "budget" in method.name:
            counts.update(score=0, gradient=0)
            endless = (
                dataclasses.replace(method, jump=math.inf)
                if isinstance(method, Framework)
                else method
            )
            endless(case, np.random.default_rng(0))
            # the value comes with a gradient, so that descend's own score is not counted again
            extra = (methods.BACKPROP - 1) * counts["gradient"]
            used[method.name] = counts["score"] + extra
    size = room.shape.size
    algorithm = 20 + 1 + 20 * (2 * size + 1)
    assert used["Algorithm 1"] == used["Algorithm 1, resampling"] == algorithm
    # the others' budgets are those of the paper's 14 weights
    paper = 20 + 1 + 20 * (2 * 14 + 1)
    assert paper == 601 == used["random search, equal budget"]
    assert used["annealing, equal budget"] == paper
    assert 0.95 * paper < used["plain gradient, equal budget"] <= paper + 20
    assert 20 < used["restarts, equal budget"] <= 20 + 4 * (1 + 5 * (2 * size + 1))
    assert abs(20 + 4 * (1 + 5 * (2 * 14 + 1)) - paper) <= 3


# --- training and resampling ----------------------------------------------------------------------


def test_lambda_1_ignores_delta_and_lambda_0_ignores_accuracy(room: Room) -> None:
    case = room.case
    other_pairs = dataclasses.replace(case.train, first=torch.tensor([0]), second=torch.tensor([1]))
    other_labels = {
        part: dataclasses.replace(rows, y=1 - rows.y)
        for part, rows in (("train", case.train), ("valid", case.valid))
    }

    def chosen(lam: float, **changes: Any) -> list[float]:
        method = Trained(lam, steps=30)
        made: Tensor = method(dataclasses.replace(case, **changes), np.random.default_rng(0))
        return made.tolist()

    assert chosen(1.0) == pytest.approx(chosen(1.0, train=other_pairs))
    assert chosen(1.0) != pytest.approx(chosen(1.0, **other_labels))
    assert chosen(0.0) == pytest.approx(chosen(0.0, **other_labels))
    assert chosen(0.0) != pytest.approx(chosen(0.0, train=other_pairs))


def test_training_against_everybody_lowers_what_is_certified(room: Room) -> None:
    uppers, errors = [], []
    for lam in (1.0, 0.1):
        method = Individually(lam, epochs=60, sparsity=0.0)
        theta = method(room.case, np.random.default_rng(0))
        found = room.certificate(theta, 2.0)
        assert found.upper <= 1.001 * found.lower + 1e-6
        uppers.append(found.upper)
        errors.append(float(room.case.mse(theta, room.case.train)))
    assert uppers[1] < 0.7 * uppers[0]
    assert errors[0] < errors[1] < float(room.case.train.y.var())


def test_training_trades_error_for_delta(room: Room) -> None:
    accurate, fair = (
        Trained(lam, steps=500)(room.case, np.random.default_rng(0)) for lam in (1.0, 0.1)
    )
    rows = room.case.train
    assert room.case.delta()(fair) < room.case.delta()(accurate) / 2
    assert float(room.case.mse(accurate, rows)) < float(room.case.mse(fair, rows))
    assert float(room.case.mse(accurate, rows)) < float(rows.y.var())


def test_resampled_pairs_are_pairs_of_the_rows_and_follow_the_weights(room: Room) -> None:
    case = room.case
    rng = np.random.default_rng(0)
    every = set(zip(case.train.first.tolist(), case.train.second.tolist(), strict=True))
    kept = np.zeros(len(every))
    times = 400
    for _ in range(times):
        rows = case.resampled(rng)
        pairs = set(zip(rows.first.tolist(), rows.second.tolist(), strict=True))
        assert pairs < every
        kept += [pair in pairs for pair in sorted(every)]
    weights = resampling_weights(case.attribute, case.train.y)
    share, n = weights / weights.sum(), len(case.train.x)
    # both are drawn at least once, by inclusion and exclusion
    expected = [
        1 - (1 - share[i]) ** n - (1 - share[j]) ** n + (1 - share[i] - share[j]) ** n
        for i, j in sorted(every)
    ]
    assert kept / times == pytest.approx(expected, abs=4 * 0.5 / times**0.5)
    assert np.corrcoef(kept, expected)[0, 1] > 0.3


# --- cells ----------------------------------------------------------------------------------------


def test_test_rows_choose_nothing() -> None:
    splits = SOURCE.load()
    other = Splits(splits.train, splits.valid, splits.test[:10])
    other = dataclasses.replace(
        other, test=dataclasses.replace(other.test, y=1 - other.test.y, x=other.test.x / 2)
    )
    quick = Individually(0.5, epochs=2)
    for method in (Draws(3), Framework(starts=3, epochs=2), Trained(0.5, steps=20), quick):
        cell = FairCell(SOURCE, SMALL, (), method, 0, 0.2, starts=2)
        one, two = (cell.run(given) for given in (splits, other))
        assert torch.equal(one.tensors["theta"], two.tensors["theta"])
        assert one.values["mse_test"] != two.values["mse_test"]


def test_every_setting_is_part_of_the_configuration() -> None:
    cell = FairCell(SOURCE, SMALL, (), Framework(), 0, 1.0)
    changed = [
        dataclasses.replace(cell, **change)
        for change in (
            {"source": dataclasses.replace(SOURCE, fold=1)},
            {"problem": dataclasses.replace(SMALL, epsilon=0.5)},
            {"hidden": (3,)},
            {"method": Framework(rate=0.1)},
            {"method": Framework(resampling=True)},
            {"seed": 1},
            {"seconds": 2.0},
            {"starts": 3},
        )
    ]
    configs = [str(each.config()) for each in (cell, *changed)]
    assert len(set(configs)) == len(configs)


def test_names_of_methods_are_their_own() -> None:
    for group in (METHODS, methods.DEEP_METHODS):
        names = [method.name for method in group]
        assert len(names) == len(set(names))
    assert {methods.CONSTANT, methods.ONE, "Algorithm 1", "best of 20 draws"} <= {
        method.name for method in METHODS
    }
    assert get("fairnn").name == "fairnn"
