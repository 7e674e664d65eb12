"""Distances against their formulas, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from certifier_cases import INF, discrete, embedded, lp, network, people, quadratic
from torch import nn

from retrofair.certifiers import Embedding, Mahalanobis, WeightedLp
from retrofair.certifiers.distances import Columns, check_distance, check_epsilon
from retrofair.errors import InputError

DOMAIN = discrete(mean=True)
X = DOMAIN.to_inputs(people(DOMAIN))
ONE, TWO = X[::3], np.roll(X, 7, axis=0)[::3]
COLUMNS = Columns.of(DOMAIN)
PER_COLUMN = [0.5, 2, 0.3, 0.3, 0, 7.0]


def between(distance: Any, columns: Columns = COLUMNS) -> np.ndarray:
    norm = distance.resolve(columns)
    found = norm.between(ONE, TWO)
    assert norm.size(norm.coordinates(TWO) - norm.coordinates(ONE)) == pytest.approx(found)
    assert norm.between(TWO, ONE) == pytest.approx(found)
    return found


@pytest.mark.parametrize("p", [1, 2, INF])
def test_weighted_lp_is_its_formula(p: float) -> None:
    for given, columns in [
        (1.0, [1.0] * 6),
        (3, [3.0] * 6),
        (PER_COLUMN, PER_COLUMN),
        (tuple(PER_COLUMN), PER_COLUMN),
        (np.array(PER_COLUMN), PER_COLUMN),
        (torch.tensor(PER_COLUMN, dtype=torch.float64), PER_COLUMN),
        ([0.5, 2, 0.25, 7], [0.5, 2, 0.25, 0.25, 0.25, 7]),
        ({"a": 0.5, "c": 4}, [0.5, 1, 4, 4, 4, 1]),
        ({"c=y": 0}, [1, 1, 1, 0, 1, 1]),
        ({}, [1.0] * 6),
    ]:
        assert between(WeightedLp(p, given)) == pytest.approx(lp(p, columns, DOMAIN)(ONE, TWO))


@pytest.mark.parametrize("p", [1, 2, INF])
def test_sensitive_and_weightless_columns_are_free(p: float) -> None:
    moved = ONE.copy()
    moved[:, [4, 5]] += 3
    norm = WeightedLp(p, PER_COLUMN).resolve(COLUMNS)
    assert (norm.between(ONE, moved) == 0).all()
    moved[:, 3] += 1e-3
    assert (norm.between(ONE, moved) > 0).all()


@pytest.mark.parametrize("p", [0, 3, -1, 1.5, math.nan, "2", True, None])
def test_another_p(p: Any) -> None:
    with pytest.raises(InputError, match="expected p = 1, 2"):
        WeightedLp(p)


@pytest.mark.parametrize(
    "weights",
    [
        -1,
        [1, -1],
        {"a": -0.1},
        math.nan,
        INF,
        [1, math.nan],
        "heavy",
        [[1, 2], [3, 4]],
        None,
        ["a"],
    ],
)
def test_weights_that_cannot_be(weights: Any) -> None:
    with pytest.raises(InputError) as caught:
        WeightedLp(2, weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [[1.0], [1, 2, 3], [1.0] * 7, [], {"height": 1}])
def test_weights_that_do_not_fit(weights: Any) -> None:
    with pytest.raises(InputError):
        WeightedLp(1, weights).resolve(COLUMNS)


def test_mahalanobis_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    for rank in (1, 3, 6):
        a = rng.normal(size=(rank, 6))
        s = a.T @ a
        assert between(Mahalanobis(s)) == pytest.approx(quadratic(s, DOMAIN)(ONE, TWO), abs=1e-7)
        assert between(Mahalanobis(torch.from_numpy(s))) == pytest.approx(between(Mahalanobis(s)))
        assert between(Mahalanobis(s.tolist())) == pytest.approx(between(Mahalanobis(s)))


def test_the_null_space_is_free() -> None:
    plain = Columns.plain(3)
    norm = Mahalanobis([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0]]).resolve(plain)
    base = np.zeros((1, 3))
    assert norm.between(base, np.array([[5.0, 5, 9]]))[0] == pytest.approx(0, abs=1e-7)
    assert norm.between(base, np.array([[5.0, 4, 9]]))[0] == pytest.approx(1)
    nothing = Mahalanobis(np.zeros((3, 3))).resolve(plain)
    assert nothing.between(base, np.array([[5.0, -5, 9]]))[0] == 0


@pytest.mark.parametrize("ratio", [1e-6, 1e-12, 1e-16, 1e-24])
def test_no_direction_is_lost_whatever_the_units(ratio: float) -> None:
    root = math.sqrt(ratio)
    s = np.array([[ratio, 0.5 * root], [0.5 * root, 1.0]])
    norm = Mahalanobis(s).resolve(Columns.plain(2))
    d = np.array([[0.7 / root, 0.0]])
    assert norm.between(np.zeros((1, 2)), d)[0] == pytest.approx(0.7, rel=1e-6)


@pytest.mark.parametrize(
    ("s", "message"),
    [
        ([[1.0, 2.0]], "square"),
        ([1.0, 2.0], "square"),
        (3.0, "square"),
        ([[1.0, 0.5], [0.4, 1.0]], "symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "semi-definite"),
        ([[-1e-3]], "semi-definite"),
        ([[math.nan]], "finite"),
        ([[INF]], "finite"),
        ("eye", "numbers"),
    ],
)
def test_a_matrix_that_is_no_distance(s: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Mahalanobis(s)
    assert "\n" not in str(caught.value)


def test_a_matrix_of_another_size() -> None:
    with pytest.raises(InputError, match="6 x 6"):
        Mahalanobis(np.eye(5)).resolve(COLUMNS)


def test_a_linear_embedding_is_a_mahalanobis_distance() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.Dropout(), nn.Linear(4, 3)).eval()
    a = (module[2].weight @ module[0].weight).detach().double().numpy()
    found = between(Embedding(module, WeightedLp(2)))
    assert found == pytest.approx(between(Mahalanobis(a.T @ a)), rel=1e-5, abs=1e-6)
    inner = np.diag([1.0, 2.0, 0.5]) + 0.1
    whole = Mahalanobis(a.T @ inner @ a)
    found = between(Embedding(module, Mahalanobis(inner)))
    assert found == pytest.approx(between(whole), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("p", [1, 2, INF])
def test_a_network_embedding_is_its_formula(p: float) -> None:
    for module in (network(6, 4, outputs=3, activation=nn.Tanh()), network(6, outputs=2)):
        wanted = embedded(module, p, DOMAIN)(ONE, TWO)
        assert between(Embedding(module, WeightedLp(p))) == pytest.approx(wanted, rel=1e-5)


def test_signs_of_a_linear_embedding_do_not_matter() -> None:
    module = nn.Linear(6, 6, bias=False)
    with torch.no_grad():
        module.weight.copy_(-torch.eye(6))
    for p in (1, 2, INF):
        norm = Embedding(module, WeightedLp(p)).resolve(COLUMNS)
        assert norm.between(ONE, TWO) == pytest.approx(lp(p, 1.0, DOMAIN)(ONE, TWO))


def test_an_embedding_that_cannot_be() -> None:
    with pytest.raises(InputError, match="WeightedLp or Mahalanobis"):
        Embedding(nn.Linear(6, 2), 2)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        Embedding(nn.Linear(5, 2), WeightedLp(2)).resolve(COLUMNS)
    with pytest.raises(InputError, match="softmax"):
        Embedding(nn.Sequential(nn.Linear(6, 2), nn.Softmax(1)), WeightedLp(2)).resolve(COLUMNS)


@pytest.mark.parametrize("epsilon", [-1e-9, INF, math.nan, "a", None, [1, 2]])
def test_epsilon_is_a_finite_number(epsilon: Any) -> None:
    with pytest.raises(InputError, match="epsilon"):
        check_epsilon(epsilon)


def test_only_distances_are_distances() -> None:
    near = WeightedLp(2)
    assert check_distance(near) is near
    for other in (2, "l2", WeightedLp, None):
        with pytest.raises(InputError, match="distance"):
            check_distance(other)
