"""The threshold search against trying every distinct threshold with measures in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrofair import thresholds
from retrofair.errors import InputError
from retrofair.objective import Constrained, Weighted
from retrofair.thresholds import ThresholdSearch

NAN = math.nan
Rows = list[tuple[int, int, int]]  # label, decision, group


# --- the plain twin ---------------------------------------------------------------------------


def rate(
    rows: Rows, group: int | None, label: int | None, hit: Callable[[int, int], bool]
) -> float:
    """The share of rows with a hit among those of a group and label; nan without any."""
    chosen = [(y, d) for y, d, g in rows if group in (None, g) and label in (None, y)]
    return sum(hit(y, d) for y, d in chosen) / len(chosen) if chosen else NAN


def selected(y: int, d: int) -> bool:
    return d == 1


def to_the_last(values: list[float]) -> float:
    gaps = [abs(v - values[-1]) for v in values[:-1] if not math.isnan(v - values[-1])]
    return max(gaps, default=NAN)


def spread(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return max(known) - min(known) if len(known) >= 2 else NAN


def impact(values: list[float]) -> float:
    if not values[-1] > 0:
        return NAN
    known = [v for v in values[:-1] if not math.isnan(v)]
    return max((1 - min(v, values[-1]) / max(v, values[-1]) for v in known), default=NAN)


def plain_bias(name: str, rows: Rows, n_groups: int) -> float:
    everyone = [rate(rows, g, None, selected) for g in range(n_groups)]
    tpr = [rate(rows, g, 1, selected) for g in range(n_groups)]
    fpr = [rate(rows, g, 0, selected) for g in range(n_groups)]
    if name == "spd":
        return to_the_last(everyone)
    if name == "eod":
        return to_the_last(tpr)
    if name == "aod":
        return to_the_last([(f + t) / 2 for f, t in zip(fpr, tpr, strict=True)])
    if name == "disparate_impact":
        return impact(everyone)
    if name == "demographic_parity_difference":
        return spread(everyone)
    assert name == "equalized_odds_difference"
    both = spread(tpr), spread(fpr)
    return NAN if any(map(math.isnan, both)) else max(both)


def plain_performance(name: str, rows: Rows) -> float:
    tpr, tnr = rate(rows, None, 1, selected), rate(rows, None, 0, lambda y, d: d == 0)
    taken = [y for y, d, _ in rows if d]
    value = {
        "balanced_accuracy": (tpr + tnr) / 2,
        "accuracy": rate(rows, None, None, lambda y, d: y == d),
        "precision": sum(taken) / len(taken) if taken else NAN,
        "recall": tpr,
    }[name]
    return 0.0 if math.isnan(value) else value


def plain_rank(objective: Any, rows: Rows, n_groups: int) -> float:
    bias = plain_bias(objective.measure, rows, n_groups)
    good = plain_performance(objective.performance, rows)
    if math.isnan(bias):
        return -math.inf
    if isinstance(objective, Constrained):
        return good if bias < objective.epsilon else -bias
    return -(objective.lam * bias + (1 - objective.lam) * (1 - good))


def decided(p: Any, y: Any, group: Any, threshold: float) -> Rows:
    return [(int(a), int(b > threshold), int(c)) for a, b, c in zip(y, p, group, strict=True)]


def tables(rows: Rows, n_groups: int) -> list[Any]:
    counts = np.zeros((n_groups, 2, 2), dtype=int)
    for y, d, g in rows:
        counts[g, y, d] += 1
    return counts.tolist()


def check(objective: Any, p: Any, y: Any, group: Any, n_groups: int) -> thresholds.Choice:
    """The search finds the best rank of all thresholds, and its threshold makes its counts."""
    choice = ThresholdSearch(y, group, n_groups, objective).best(p)
    every = [1.0, 0.0, *p.tolist()]
    best = max(plain_rank(objective, decided(p, y, group, t), n_groups) for t in every)
    mine = decided(p, y, group, choice.threshold)
    assert choice.rank == pytest.approx(best, abs=1e-12)
    assert choice.counts.tolist() == tables(mine, n_groups)
    assert plain_rank(objective, mine, n_groups) == pytest.approx(best, abs=1e-12)
    assert choice.counts.dtype == np.int64
    assert 0 <= choice.threshold <= 1
    return choice


# --- random scores, all measures and performances ---------------------------------------------

MEASURES = (
    "spd",
    "eod",
    "aod",
    "disparate_impact",
    "demographic_parity_difference",
    "equalized_odds_difference",
)
PERFORMANCES = ("balanced_accuracy", "accuracy", "precision", "recall")


def objectives(measure: str, good: str) -> list[Any]:
    return [
        Constrained(measure, epsilon=0.0712, performance=good),
        Constrained(measure, epsilon=0.313, performance=good),
        Weighted(measure, lam=0.75, performance=good),
    ]


@pytest.mark.parametrize("block", [7, 16_384])
@pytest.mark.parametrize("n_groups", [2, 4])
@pytest.mark.parametrize("good", PERFORMANCES)
@pytest.mark.parametrize("measure", MEASURES)
def test_every_objective_against_brute_force(
    measure: str, good: str, n_groups: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "BLOCK", block)
    random = np.random.default_rng(len(measure) + 7 * len(good) + n_groups)
    for n, levels in ((1, 0), (6, 0), (7, 0), (8, 3), (14, 0), (15, 2), (40, 0), (60, 5)):
        y, group = random.integers(2, size=n), random.integers(n_groups, size=n)
        p = random.random(n) if not levels else random.integers(levels + 1, size=n) / levels
        for objective in objectives(measure, good):
            check(objective, p, y, group, n_groups)


scores = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    st.sampled_from([0.0, 5e-324, 1e-300, 0.5, 0.5 + 2**-53, 1 - 2**-53, 1.0]),
    st.floats(0, 1),
)
people = st.lists(st.tuples(scores, st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
@given(
    people, st.sampled_from(MEASURES), st.sampled_from(PERFORMANCES), st.sampled_from([2, 7, 99])
)
@example([(0.5, 1, 0)] * 9, "spd", "accuracy", 7)
@example([(1.0, 1, 0), (1.0, 0, 1)], "spd", "recall", 2)
@example([(0.0, 1, 0), (0.0, 1, 1)], "spd", "recall", 2)
def test_any_scores_against_brute_force(
    rows: list[tuple[float, int, int]], measure: str, good: str, block: int
) -> None:
    p, y, group = (np.array(column) for column in zip(*rows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "BLOCK", block)
        for objective in objectives(measure, good):
            for n_groups in (2, 4):
                check(objective, p, y, group % n_groups, n_groups)


@settings(max_examples=50)
@given(st.lists(st.tuples(scores, st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_the_order_of_rows_and_the_size_of_blocks_do_not_matter(rows: Any) -> None:
    objective = Weighted("aod")
    p, y, group = (np.array(column) for column in zip(*rows, strict=True))
    first = ThresholdSearch(y, group, 2, objective).best(p)
    turned = ThresholdSearch(y[::-1], group[::-1], 2, objective).best(p[::-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "BLOCK", 3)
        small = ThresholdSearch(y, group, 2, objective).best(p)
    for other in (turned, small):
        assert other.threshold == first.threshold
        assert other.rank == first.rank


@pytest.mark.parametrize("n", [6, 7, 8, 13, 14, 15, 21])
def test_the_best_cut_on_either_side_of_a_blocks_edge(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "BLOCK", 7)
    p, group = np.linspace(0.99, 0.01, n), np.arange(n) % 2
    for cut in range(n + 1):  # the labels make this cut the only perfect one
        y = (np.arange(n) < cut).astype(int)
        choice = ThresholdSearch(y, group, 2, Weighted("spd", lam=0.0)).best(p)
        assert int((p > choice.threshold).sum()) == cut
        assert choice.rank == 0


@pytest.mark.parametrize("n_groups", [127, 128, 129, 300])  # codes of one byte and of more
def test_many_groups(n_groups: int) -> None:
    random = np.random.default_rng(n_groups)
    group = np.array([n_groups - 1, n_groups - 1, *random.integers(n_groups, size=8)])
    for objective in (Weighted("spd"), Constrained("demographic_parity_difference", epsilon=0.9)):
        check(objective, random.random(10), np.arange(10) % 2, group, n_groups)


# --- special thresholds -----------------------------------------------------------------------


def test_the_threshold_lies_halfway_between_its_neighbours() -> None:
    y, group = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    search = ThresholdSearch(y, group, 2, Constrained("spd", epsilon=0.05))
    assert search.best(np.array([0.1, 0.2, 0.6, 0.9])).threshold == pytest.approx(0.4)


def test_scores_of_exactly_0_and_1() -> None:
    y, group = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    objective = Constrained("spd", epsilon=0.05, performance="accuracy")
    choice = check(objective, np.array([0.0, 0.0, 1.0, 1.0]), y, group, 2)
    assert choice.rank == 1
    # all at 1: everybody positive needs a threshold below 1, nobody the threshold 1
    assert check(objective, np.ones(4), np.ones(4, int), group, 2).threshold < 1
    assert check(objective, np.ones(4), np.zeros(4, int), group, 2).threshold == 1
    # all at 0: no threshold in [0, 1] makes anybody positive
    assert check(objective, np.zeros(4), np.ones(4, int), group, 2).rank == 0


def test_equal_scores_leave_everybody_or_nobody() -> None:
    y, group = np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1])
    choice = check(Weighted("spd", lam=0.5), np.full(4, 0.3), y, group, 2)
    assert choice.counts.tolist() == [[[0, 1], [0, 1]], [[0, 0], [0, 2]]]


def test_neighbouring_doubles_are_told_apart() -> None:
    low = 0.3
    high = math.nextafter(low, 1)
    p = np.array([low, high, low, high])
    y, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    assert check(Constrained("spd"), p, y, group, 2).rank == 1


def test_nothing_feasible_takes_the_least_bias() -> None:
    # the last group is chosen only below 0.2, at half the first one's rate; above, no ratio
    p, y, group = np.array([0.9, 0.8, 0.2, 0.0]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    choice = check(Constrained("disparate_impact", epsilon=0.4), p, y, group, 2)
    assert choice.rank == pytest.approx(-0.5)
    assert choice.threshold == pytest.approx(0.1)


def test_no_rows() -> None:
    choice = ThresholdSearch(np.array([], int), np.array([], int), 2, Constrained("spd")).best(
        np.array([])
    )
    assert choice.counts.sum() == 0
    assert choice.rank == -math.inf


@pytest.mark.parametrize(
    "p",
    [
        [0.1, 0.2],
        [[0.1, 0.2, 0.3]],
        [0.1, 0.2, NAN],
        [NAN, NAN, NAN],
        [0.1, 0.2, 1.1],
        [-0.1, 0.2, 0.3],
        [0.1, math.inf, 0.3],
    ],
)
def test_what_are_no_probabilities(p: Any) -> None:
    search = ThresholdSearch(np.array([0, 1, 1]), np.array([0, 1, 1]), 2, Constrained("spd"))
    with pytest.raises(InputError, match="probabilities"):
        search.best(np.array(p))


# --- the other ways in ------------------------------------------------------------------------


@given(people, st.floats(0, 1))
def test_at_counts_what_lies_strictly_above(rows: Any, threshold: float) -> None:
    p, y, group = (np.array(column) for column in zip(*rows, strict=True))
    objective = Constrained("demographic_parity_difference")
    choice = ThresholdSearch(y, group, 4, objective).at(p, threshold)
    mine = decided(p, y, group, threshold)
    assert choice.counts.tolist() == tables(mine, 4)
    assert choice.rank == pytest.approx(plain_rank(objective, mine, 4), abs=1e-12)
    assert choice.threshold == threshold


def test_constant_is_the_better_of_everybody_and_nobody() -> None:
    group = np.array([0, 1, 0, 1, 0])
    accuracy = Weighted("spd", lam=0.5)
    most = ThresholdSearch(np.array([1, 1, 1, 1, 0]), group, 2, accuracy).constant()
    assert (most.threshold, most.rank) == (0.0, pytest.approx(-0.5 * 0.2))
    assert most.counts[..., 0].sum() == 0
    few = ThresholdSearch(np.array([0, 0, 0, 0, 1]), group, 2, accuracy).constant()
    assert (few.threshold, few.rank) == (1.0, pytest.approx(-0.5 * 0.2))
    assert few.counts[..., 1].sum() == 0


def share_gap(y: Any, prediction: Any, group: Any) -> float:
    """spd as a caller would write it."""
    return float(prediction[group == 0].mean() - prediction[group == 1].mean())


@pytest.mark.parametrize("n", [5, 60, 199])
def test_a_callable_measure_tries_all_of_up_to_200_cuts(n: int) -> None:
    random = np.random.default_rng(n)
    y, group, p = random.integers(2, size=n), np.arange(n) % 2, random.random(n)
    for named, called in (
        (Constrained("spd", epsilon=0.07), Constrained(share_gap, epsilon=0.07)),
        (Weighted("spd"), Weighted(share_gap)),
    ):
        fast = ThresholdSearch(y, group, 2, named).best(p)
        slow = ThresholdSearch(y, group, 2, called).best(p)
        assert slow.rank == pytest.approx(fast.rank, abs=1e-12)
        assert slow.counts.tolist() == tables(decided(p, y, group, slow.threshold), 2)


def test_a_callable_measure_is_not_tried_more_than_200_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thresholds, "BLOCK", 512)
    calls = []

    def counted(y: Any, prediction: Any, group: Any) -> float:
        calls.append(int(prediction.sum()))
        return share_gap(y, prediction, group)

    random = np.random.default_rng(0)
    y, group, p = random.integers(2, size=3000), np.arange(3000) % 2, random.random(3000)
    objective = Weighted(counted)
    choice = ThresholdSearch(y, group, 2, objective).best(p)
    assert len(calls) <= 201
    assert {0, 3000} <= set(calls)
    assert np.diff(sorted(set(calls))).max() <= 16
    fast = ThresholdSearch(y, group, 2, Weighted("spd")).best(p)
    assert choice.rank <= fast.rank + 1e-12
    assert choice.rank >= fast.rank - 0.02
    assert choice.counts.tolist() == tables(decided(p, y, group, choice.threshold), 2)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("measure", ["spd", "equalized_odds_difference"])
def test_among_a_few_cuts_is_the_best_of_these_and_all_of_them_where_they_are_few(
    measure: str, ties: bool
) -> None:
    rng = np.random.default_rng(0)
    n = 500
    y, group = rng.integers(2, size=n), rng.integers(3, size=n)
    score = np.clip(0.3 * y + 0.2 * group + 0.4 * rng.random(n), 0.1, 1)
    score = score.round(1) if ties else score
    objective = Constrained(measure, epsilon=0.2)
    search = ThresholdSearch(y, group, 3, objective)
    whole, best = search.among(score, n), search.best(score)
    assert (whole.threshold, whole.rank) == (best.threshold, best.rank)
    found = search.among(score, 20)
    assert (found.counts == search.at(score, found.threshold).counts).all()
    # every 25th place, moved to the start of its score
    ordered = np.sort(score)[::-1]
    places = {int(np.argmax(ordered == ordered[k])) for k in range(0, n, 25)} | {n}
    tried = [
        search.at(score, 1.0 if not k else 0.0 if k == n else (ordered[k - 1] + ordered[k]) / 2)
        for k in places
    ]
    assert found.rank == pytest.approx(max(each.rank for each in tried))
    assert found.rank <= search.best(score).rank
    nobody = ThresholdSearch(np.zeros(300, int), np.arange(300) % 2, 2, Constrained("spd"))
    assert nobody.among(np.zeros(300), 10).threshold in (0.0, 1.0)


def test_among_tries_all_cuts_of_a_callable_measure_as_best_does() -> None:
    def share(y: Any, prediction: Any, group: Any) -> float:
        return float(prediction[group == 0].mean() - prediction[group == 1].mean())

    rng = np.random.default_rng(0)
    y, group, score = rng.integers(2, size=90), rng.integers(2, size=90), rng.random(90)
    search = ThresholdSearch(y, group, 2, Constrained(share, epsilon=0.2))
    found, best = search.among(score, 10), search.best(score)
    assert (found.threshold, found.rank) == (best.threshold, best.rank)
