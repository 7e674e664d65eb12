"""The cells of `fairnn` field by field against a plain recomputation; what a method's parts do."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from test_fairnn import SMALL, SOURCE, saw

from retrofair.certifiers import Certificate, certify
from retrofair.data import GroupedData, Splits
from retrofair.preprocessing import resampling_weights
from retrofair.studies.fairnn.cells import (
    DescentCell,
    FairCell,
    LandscapeCell,
    Room,
    StartsCell,
    SweepCell,
)
from retrofair.studies.fairnn.descent import best_of, descend, differences
from retrofair.studies.fairnn.housing import Rows, everyone
from retrofair.studies.fairnn.methods import Draws, Framework, Restarts, Trained
from retrofair.studies.fairnn.model import Shape, released_sigmoid

Floats = npt.NDArray[np.float64]
Squash = Callable[[float], float]
WHOLE = dataclasses.replace(SOURCE, fold=None, rows=100)
CLOSE: dict[str, float] = {"rel": 1e-5, "abs": 1e-5}


# --- plain twins ----------------------------------------------------------------------------------


def logistic(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


TWINS: dict[str, Squash] = {"sigmoid": logistic, "released": saw}


def outputs(theta: Any, data: GroupedData, squash: Squash = logistic) -> Floats:
    """Of one layer with outputs from 0 to 1."""
    theta = np.asarray(theta, dtype=float)
    z = data.x.double().numpy() @ theta[:-1] + theta[-1]
    return np.array([squash(float(v)) for v in z])


def similar(data: GroupedData, epsilon: float = SMALL.epsilon) -> list[tuple[int, int]]:
    skill = data.x[:, data.feature_names.index("skill")].double().tolist()
    every = itertools.combinations(range(len(skill)), 2)
    return [(i, j) for i, j in every if abs(skill[i] - skill[j]) <= epsilon]


def delta(
    theta: Any, data: GroupedData, pairs: list[tuple[int, int]], squash: Squash = logistic
) -> float:
    out = outputs(theta, data, squash)
    return float(max(abs(out[i] - out[j]) for i, j in pairs))


def mse(theta: Any, data: GroupedData) -> float:
    return float(np.mean((outputs(theta, data) - data.y.double().numpy()) ** 2))


def drawn(n: int, features: int, rng: np.random.Generator) -> list[Floats]:
    return [rng.standard_normal(features + 1) for _ in range(n)]


def proved(theta: Any, splits: Splits, epsilon: float = SMALL.epsilon) -> Certificate:
    network = Shape(splits.train.x.shape[1], (), SMALL.low, SMALL.high).network(
        torch.as_tensor(theta)
    )
    people = everyone(splits, ("sex",))
    return certify(network, people, SMALL.distance, epsilon, seconds=2.0, outputs="values")


def assert_proved(
    found: dict[str, Any], theta: Any, splits: Splits, epsilon: float = SMALL.epsilon
) -> None:
    """A stored interval and a fresh one hold the same optimum."""
    fresh = proved(theta, splits, epsilon)
    assert found["lower"] <= fresh.upper + 1e-5
    assert fresh.lower <= found["upper"] + 1e-5
    assert found["upper"] - found["lower"] < 0.02


# --- cells ----------------------------------------------------------------------------------------


def test_a_method_on_a_fold() -> None:
    source = dataclasses.replace(SOURCE, fold=1)
    splits = source.load()
    answer = FairCell(source, SMALL, (), Draws(3), 2, 2.0, starts=4).run(splits)
    features = splits.train.x.shape[1]
    pairs = {part: similar(getattr(splits, part)) for part in ("train", "valid", "test")}
    draws = drawn(4, features, np.random.default_rng([2, 1]))
    theta = min(draws[:3], key=lambda w: delta(w, splits.train, pairs["train"]))
    assert answer.tensors["theta"].numpy() == pytest.approx(theta)
    values = dict(answer.values)
    assert_proved(values.pop("certificate"), theta, splits)
    expected = {
        "draws_train": np.mean([delta(w, splits.train, pairs["train"]) for w in draws]),
        "draws_test": np.mean([delta(w, splits.test, pairs["test"]) for w in draws]),
        "constant_mse": np.mean(
            (splits.test.y.numpy() - splits.train.y.double().mean().item()) ** 2
        ),
        "pairs_train": len(pairs["train"]),
        "pairs_test": len(pairs["test"]),
    }
    for part, near in pairs.items():
        expected[f"delta_{part}"] = delta(theta, getattr(splits, part), near)
        expected[f"mse_{part}"] = mse(theta, getattr(splits, part))
    assert values == pytest.approx(expected, **CLOSE)


def test_random_draws() -> None:
    splits = WHOLE.load()
    data, pairs = splits.train, similar(splits.train)
    answer = StartsCell(WHOLE, SMALL, 3, 3, 2.0).run(splits)
    draws = drawn(3, data.x.shape[1], np.random.default_rng(3))
    values = dict(answer.values)
    for found, theta in zip(values.pop("certificates"), draws, strict=True):
        assert_proved(found, theta, splits)
    assert values.pop("columns") == list(data.feature_names)
    for name, twin in TWINS.items():
        expected = [delta(w, data, pairs, twin) for w in draws]
        assert values.pop(name) == pytest.approx(expected, **CLOSE)
    assert values.pop("mse") == pytest.approx([mse(w, data) for w in draws])
    assert values == {"pairs": len(pairs), "constant_mse": pytest.approx(np.var(data.y.numpy()))}
    assert answer.tensors["draws"].numpy() == pytest.approx(np.array(draws))


def test_delta_by_epsilon() -> None:
    splits = WHOLE.load()
    data, sizes = splits.train, (0.02, 0.05, 0.3)
    cell = SweepCell(WHOLE, SMALL, 1, 2.0, epsilons=sizes, certified=(0.05, 0.3))
    values = dict(cell.run(splits).values)
    (theta,) = drawn(1, data.x.shape[1], np.random.default_rng(1))
    near = [similar(data, epsilon) for epsilon in sizes]
    assert values.pop("pairs") == [len(pairs) for pairs in near]
    assert len({len(pairs) for pairs in near}) == 3
    for name, twin in TWINS.items():
        expected = [delta(theta, data, pairs, twin) for pairs in near]
        assert values.pop(name) == pytest.approx(expected, **CLOSE)
    for epsilon, found in zip((0.05, 0.3), values.pop("certificates"), strict=True):
        assert_proved(found, theta, splits, epsilon)
    assert values == {
        "mse": pytest.approx(mse(theta, data)),
        "constant_mse": pytest.approx(np.var(data.y.numpy())),
    }


def walked(start: Floats, score: Callable[[Any], float], epochs: int) -> list[Floats]:
    """The simulated gradient, a weight at a time."""
    steps = [start]
    for _ in range(epochs):
        theta, h = steps[-1], 1e-4
        slope = [
            (score(theta + h * e) - score(theta - h * e)) / (2 * h) for e in np.eye(len(theta))
        ]
        steps.append(theta - 0.01 * np.array(slope))
    return steps


def test_simulated_gradients() -> None:
    splits = WHOLE.load()
    data, pairs, rng = splits.train, similar(splits.train), np.random.default_rng(1)
    cell = DescentCell(WHOLE, SMALL, 1, 3, 2, 2.0)
    values: dict[str, Any] = dict(cell.run(splits).values)
    draws, n = drawn(3, data.x.shape[1], rng), len(data)
    sex = data.x[:, data.feature_names.index("sex")]
    weights = resampling_weights(sex, data.y)
    resampled = set(rng.choice(n, size=n, p=weights / weights.sum()).tolist())
    bootstrap = set(rng.choice(n, size=n, p=np.ones(n) / n).tolist())
    assert resampled != bootstrap
    used = {
        "all": pairs,
        "resampled": [(i, j) for i, j in pairs if {i, j} <= resampled],
        "bootstrap": [(i, j) for i, j in pairs if {i, j} <= bootstrap],
    }
    assert values.pop("pairs") == {place: len(near) for place, near in used.items()}
    assert values.pop("constant_mse") == pytest.approx(np.var(data.y.numpy()))
    certificates = values.pop("certificates")
    for name, twin in TWINS.items():
        found = values.pop(name)
        scores = [delta(w, data, pairs, twin) for w in draws]
        assert found.pop("draws") == pytest.approx(np.mean(scores), **CLOSE)
        start = draws[int(np.argmin(scores))]
        for place, near in used.items():
            trace = found.pop(place)

            def score(theta: Any, near: Any = near, twin: Any = twin) -> float:
                return delta(theta, data, near, twin)

            steps = walked(start, score, 2)
            assert trace.pop("seen") == pytest.approx([score(w) for w in steps], **CLOSE)
            true = [delta(w, data, pairs) for w in steps]
            assert trace.pop("true") == pytest.approx(true, **CLOSE)
            assert trace.pop("mse") == pytest.approx([mse(w, data) for w in steps], **CLOSE)
            lengths = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(steps)]
            assert trace == {"lengths": pytest.approx(lengths, **CLOSE)}
            if (name, place) == ("sigmoid", "all"):
                assert_proved(certificates.pop("start"), start, splits)
                best = steps[int(np.argmin([score(w) for w in steps]))]
                assert_proved(certificates.pop("best"), best, splits)
                assert proved(best, splits).upper < proved(start, splits).lower
        assert not found
    assert not certificates
    assert not values


def test_the_landscape() -> None:
    splits = WHOLE.load()
    data, pairs = splits.train, similar(splits.train)
    answer = LandscapeCell(WHOLE, SMALL, 2, 3, points=3).run(splits)
    draws = drawn(3, data.x.shape[1], np.random.default_rng(2))
    best = min(draws, key=lambda w: delta(w, data, pairs))
    assert answer.values == {
        "bias": pytest.approx(best[-1]),
        "score": pytest.approx(delta(best, data, pairs), **CLOSE),
    }
    tensors = answer.tensors
    assert tensors["factors"].tolist() == [0, 1, 2]
    assert tensors["biases"].tolist() == [-8, 0, 8]
    for i, factor in enumerate((0, 1, 2)):
        for j, bias in enumerate((-8, 0, 8)):
            theta = np.append(factor * best[:-1], bias)
            for name, twin in TWINS.items():
                expected = delta(theta, data, pairs, twin)
                assert float(tensors[name][i, j]) == pytest.approx(expected, **CLOSE)
            assert float(tensors["mse"][i, j]) == pytest.approx(mse(theta, data), **CLOSE)


# --- what the parts of a method do ----------------------------------------------------------------


@pytest.fixture
def room() -> Room:
    return Room.of(SOURCE.load(), SOURCE, SMALL, ())


def test_the_released_codes_sigmoid_chooses_scores_and_leads(room: Room) -> None:
    one, other = (
        Framework(released=released, starts=6, epochs=3).walk(room.case, np.random.default_rng(1))
        for released in (False, True)
    )
    rng, score = np.random.default_rng(1), room.case.delta(released_sigmoid)
    draws = [room.shape.draw(rng) for _ in range(6)]
    assert torch.equal(other.steps[0], best_of(draws, score))
    assert not torch.equal(one.steps[0], other.steps[0])
    assert other.history == tuple(score(theta) for theta in other.steps)
    down = other.steps[0] - 0.01 * differences(score)(other.steps[0])
    assert other.steps[1].tolist() == pytest.approx(down.tolist(), abs=1e-9)


def test_many_weights_follow_the_released_codes_slope() -> None:
    room = Room.of(SOURCE.load(), SOURCE, SMALL, (20,))
    assert room.shape.size > 100
    walk = Framework(released=True, starts=2, epochs=1).walk(room.case, np.random.default_rng(0))
    slopes = [
        differences(room.case.delta(squash), 1e-6)(walk.steps[0])
        for squash in (released_sigmoid, torch.sigmoid)
    ]
    step = ((walk.steps[0] - walk.steps[1]) / 0.01).tolist()
    assert step == pytest.approx(slopes[0].tolist(), abs=1e-5)
    assert step != pytest.approx(slopes[1].tolist(), abs=1e-2)


def test_resampling_changes_the_search(room: Room) -> None:
    one, other = (
        Framework(resampling=resampling, starts=6, epochs=3).walk(
            room.case, np.random.default_rng(2)
        )
        for resampling in (False, True)
    )
    rng = np.random.default_rng(2)
    for _ in range(6):
        room.shape.draw(rng)
    score = room.case.delta(rows=room.case.resampled(rng))
    assert torch.equal(one.steps[0], other.steps[0])
    assert other.history == tuple(score(theta) for theta in other.steps)
    assert other.history != tuple(room.case.delta()(theta) for theta in other.steps)
    assert not torch.equal(one.best, other.best)


def test_restarts_go_on_from_the_best_draws(room: Room) -> None:
    score, rng = room.case.delta(), np.random.default_rng(0)
    draws = [room.shape.draw(rng) for _ in range(8)]
    best = sorted(draws, key=score)
    assert {id(d) for d in best[:3]} != {id(d) for d in draws[:3]}
    paths = [descend(d, score, differences(score), epochs=2) for d in best[:3]]
    expected = min(paths, key=lambda path: path.score).best
    found = Restarts(starts=8, times=3, epochs=2)(room.case, np.random.default_rng(0))
    assert torch.equal(found, expected)
    unsorted = [descend(d, score, differences(score), epochs=2).score for d in draws[:3]]
    assert score(found) < min(unsorted)


def test_training_keeps_the_step_that_is_best_on_validation_rows(room: Room) -> None:
    rows = room.case.valid
    other = dataclasses.replace(room.case, valid=dataclasses.replace(rows, y=1 - rows.y))
    method = Trained(0.9, steps=200)

    def loss(theta: Any, judged: Rows) -> float:
        return 0.9 * float(room.case.mse(theta, judged)) + 0.1 * room.case.delta()(theta)

    one, two = (method(case, np.random.default_rng(0)) for case in (room.case, other))
    assert loss(one, rows) < loss(two, rows)
    assert loss(two, other.valid) < loss(one, other.valid)
