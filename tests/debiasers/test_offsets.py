"""Offsets of classes, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import retrofair as rf
from retrofair.debiasers import rules
from retrofair.debiasers.offsets import OffsetSearch, objective_of_classes
from retrofair.debiasers.rules import Argmax
from retrofair.errors import InputError
from retrofair.metrics import count_classes

OBJECTIVES = [
    rf.Constrained("spd", epsilon=0.1, performance="accuracy"),
    rf.Constrained("equalized_odds_difference", epsilon=0.3),
    rf.Weighted("aod", lam=0.5, performance="balanced_accuracy"),
    rf.Weighted("demographic_parity_difference", lam=0.0),
]


def problem(n: int, seed: int, objective, classes: int = 3):
    random = np.random.default_rng(seed)
    y, group = random.integers(classes, size=n), random.integers(2, size=n)
    scores = random.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y]
    scores[:, 0] += 0.8 * group
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    return scores, OffsetSearch(y, group, 2, classes, objective_of_classes(objective))


def rank_at(search: OffsetSearch, scores, offsets) -> float:
    decided = (scores + offsets).argmax(1)
    counts = count_classes(search.y, decided, search.group, 2, search.n_classes)
    return float(search.objective.rank(counts))


def places(values):
    """One point in each gap between values, and beyond them."""
    values = np.unique(values)
    return np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])


def brute(search: OffsetSearch, scores) -> float:
    """The best rank of all offsets (0, b, c) of three classes.

    Decisions change on the lines where two classes tie for a row: b, c or c - b is constant. Every
    piece of the plane between them has a corner where two of them cross, so a step from each
    crossing to all sides meets every piece.
    """
    b, c, d = (scores[:, i] - scores[:, j] for i, j in ((0, 1), (0, 2), (1, 2)))
    crossings = [*itertools.product(b, c), *((x, x + z) for x, z in itertools.product(b, d))]
    crossings += [(x - z, x) for x, z in itertools.product(c, d)]
    # directions between those of the three kinds of line
    sides = [(2, 1), (1, 2), (-1, 1), (-2, -1), (-1, -2), (1, -1)]
    points = np.array(crossings)[:, None] + 1e-7 * np.array(sides)
    points = np.concatenate([np.zeros((points.size // 2, 1)), points.reshape(-1, 2)], axis=1)
    decided = (scores + points[:, None]).argmax(2)
    code = ((search.group * 3 + search.y) * 3 + decided) + 18 * np.arange(len(points))[:, None]
    counts = np.bincount(code.ravel(), minlength=18 * len(points)).reshape(-1, 2, 3, 3)
    return float(search.objective.rank(counts).max())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(4))
def test_one_offset_is_found_exactly(objective, seed: int):
    scores, search = problem(40, seed, objective, classes=4)
    scores = np.round(scores, 1) if seed % 2 else scores  # with ties
    offsets = np.random.default_rng(seed).normal(size=4)
    for k in range(4):
        found, rank = search.sweep(scores, offsets, k)
        others = np.delete(scores + offsets, k, axis=1).max(1) - scores[:, k]
        tried = [np.where(np.arange(4) == k, place, offsets) for place in places(others)]
        assert rank == pytest.approx(max(rank_at(search, scores, each) for each in tried))
        moved = np.where(np.arange(4) == k, found, offsets)
        assert rank_at(search, scores, moved) == pytest.approx(rank)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_sweep_in_blocks_is_the_sweep(objective, monkeypatch):
    scores, search = problem(300, 0, objective)
    whole = [search.sweep(scores, np.zeros(3), k) for k in range(3)]
    monkeypatch.setattr("retrofair.debiasers.offsets.TABLE", 18 * 7)
    assert [search.sweep(scores, np.zeros(3), k) for k in range(3)] == whole


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_offsets_are_near_the_best_there_are(objective):
    lost = []
    for seed in range(8):
        scores, search = problem(30, seed, objective)
        choice = search.best(scores)
        assert choice.rank == rank_at(search, scores, np.array(choice.offsets))
        lost.append(brute(search, scores) - choice.rank)
    assert min(lost) >= -1e-12
    assert np.mean(lost) < 0.01
    assert max(lost) < 0.06


def test_never_worse_than_a_constant_or_the_most_probable():
    for seed, objective in itertools.product(range(3), OBJECTIVES):
        scores, search = problem(200, seed, objective)
        best = search.best(scores)
        assert best.rank >= search.constant().rank
        assert best.rank >= search.at(scores, np.zeros(3)).rank
        assert search.near(scores, [0.0] * 3).rank >= search.at(scores, np.zeros(3)).rank


def test_constant_scores_leave_a_constant():
    _, search = problem(50, 0, OBJECTIVES[0])
    best = search.best(np.full((50, 3), -np.log(3)))
    assert best.rank == search.constant().rank
    assert (best.counts.sum(axis=(0, 1)) > 0).sum() == 1


def test_bad_scores():
    scores, search = problem(20, 0, OBJECTIVES[0])
    with pytest.raises(InputError, match=r"shape \(20, 3\), got \(20, 2\)"):
        search.best(scores[:, :2])
    with pytest.raises(InputError, match="finite"):
        search.best(np.where(scores == scores.max(), np.nan, scores))


def test_the_rule_of_offsets():
    rule = Argmax((0.0, 1.0, -2.0))
    assert rule(np.array([[0.5, 0.0, 0.0], [2.5, 1.0, 0.0], [0.0, 0.0, 4.0]])).tolist() == [1, 0, 2]
    assert rules.from_dict(rules.to_dict(rule)) == rule
    assert rules.classes_of(rule) == 3
    with pytest.raises(InputError, match=r"decides by rule\.offsets"):
        _ = rule.threshold
