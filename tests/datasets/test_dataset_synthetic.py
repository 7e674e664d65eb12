"""The generated data set: its exact probabilities and its exact fair optimum."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import linprog
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LinearRegression, LogisticRegression

from retrofair import datasets
from retrofair.datasets import bayes_frontier
from retrofair.datasets.synthetic import group_probability, probability
from retrofair.errors import InputError

ROWS = 200_000
NUMBERS = ["skill", "hours", "neighbourhood"]


@functools.cache
def _sample(seed: int = 0, n: int = ROWS) -> pd.DataFrame:
    return datasets.get("synthetic").frame(n=n, seed=seed)


def _agree(outcome: np.ndarray, chance: np.ndarray, bins: int = 20) -> None:
    """The share of outcomes is the mean chance, wherever the chance is low or high."""
    cells = pd.qcut(chance, bins, labels=False, duplicates="drop")
    for cell in np.unique(cells):
        inside = cells == cell
        error = np.sqrt((chance[inside] * (1 - chance[inside])).sum()) / inside.sum()
        # 5 standard errors: fails by chance once in 100,000 of such tests.
        assert abs(outcome[inside].mean() - chance[inside].mean()) < 5 * error


def test_labels_follow_the_exact_probability() -> None:
    frame = _sample()
    _agree(frame["hired"].to_numpy(), probability(frame))
    # Given x, neither sex nor region adds anything.
    for column in ("sex", "region"):
        for _, part in frame.groupby(column):
            _agree(part["hired"].to_numpy(), probability(part))


@pytest.mark.parametrize("attribute", ["sex", "region"])
def test_groups_follow_the_exact_probability(attribute: str) -> None:
    frame = _sample()
    chances = group_probability(frame, attribute)
    assert np.allclose(chances.sum(axis=1), 1)
    assert list(chances.columns) == list(
        datasets.load("synthetic", attribute, n=1000).train.group_names
    )
    for hired in (None, 0, 1):
        rows = np.ones(len(frame), bool) if hired is None else (frame["hired"] == hired).to_numpy()
        for name in chances:
            outcome = (frame[attribute] == name).to_numpy()
            _agree(outcome[rows], chances[name].to_numpy()[rows])


def test_columns_that_explain_nothing() -> None:
    frame = _sample()
    for noise in ("noise_1", "noise_2"):
        others = frame[["hired", *NUMBERS]].assign(male=frame["sex"] == "Male")
        # A correlation of independent columns has a standard error of 1 / sqrt(n).
        assert others.corrwith(frame[noise]).abs().max() < 5 / np.sqrt(ROWS)


def test_region_matters_too() -> None:
    rates = _sample().groupby("region")["hired"].mean()
    assert rates["Hills"] < rates["Plains"] - 0.05 < rates["Coast"] - 0.1


# --- the frontier -----------------------------------------------------------------------------
# An independent computation: given sex and region, the log-odds t of the label are normal, and all
# rates of "t above a threshold" are one-dimensional integrals.
REGION_SHARES = {-0.6: 0.2, 0.0: 0.3, 0.3: 0.5}
SPREAD = float(np.sqrt(1.4**2 + 1.2**2 + 0.6**2))
THRESHOLDS = np.linspace(-16, 16, 12_801)


@functools.cache
def _rates(sign: int) -> tuple[np.ndarray, np.ndarray, float]:
    """p(t > threshold | sex), p(t > threshold, hired | sex) and p(hired | sex)."""
    density = sum(
        share * norm.pdf(THRESHOLDS, -0.2 + (1.4 * 0.2 + 0.6 * 0.75) * sign + 1.2 * hours, SPREAD)
        for hours, share in REGION_SHARES.items()
    )
    above = cumulative_trapezoid(density[::-1], -THRESHOLDS[::-1], initial=0)[::-1]
    hits = cumulative_trapezoid((density * expit(THRESHOLDS))[::-1], -THRESHOLDS[::-1], initial=0)[
        ::-1
    ]
    return above, hits, float(hits[0])


def _rate(sign: int, measure: str) -> np.ndarray:
    """The rate whose difference is the measure, per threshold."""
    above, hits, base = _rates(sign)
    if measure == "spd":
        return above
    if measure == "eod":
        return hits / base
    return 0.5 * (hits / base + (above - hits) / (1 - base))


def _performance(female: ArrayLike, male: ArrayLike, performance: str) -> np.ndarray:
    """Of a threshold per sex."""
    base = 0.5 * (_rates(-1)[2] + _rates(1)[2])
    above, hits = (
        0.5
        * sum(np.interp(t, THRESHOLDS, _rates(sign)[i]) for sign, t in ((-1, female), (1, male)))
        for i in (0, 1)
    )
    false = above - hits
    if performance == "accuracy":
        return hits + (1 - base) - false
    return 0.5 * (hits / base + 1 - false / (1 - base))


@pytest.mark.parametrize("measure", ["spd", "eod", "aod"])
@pytest.mark.parametrize("performance", ["balanced_accuracy", "accuracy"])
def test_aware_optimum_is_the_best_pair_of_thresholds(measure: str, performance: str) -> None:
    """Brute force: for each threshold of one sex, the other's that meets the bias exactly."""
    rate = _rate(1, measure)
    for epsilon in (0.0, 0.02, 0.05, 0.1):
        goal = _rate(-1, measure) + epsilon
        male = np.interp(goal, rate[::-1], THRESHOLDS[::-1])
        best = _performance(THRESHOLDS, male, performance).max()
        (found,) = bayes_frontier([epsilon], measure=measure, performance=performance)
        assert found == pytest.approx(best, abs=1e-6)


def test_without_a_constraint_it_is_the_bayes_classifier() -> None:
    base = 0.5 * (_rates(-1)[2] + _rates(1)[2])
    threshold = float(np.log(base / (1 - base)))
    for sees in (True, False):
        for performance, at in (("balanced_accuracy", threshold), ("accuracy", 0.0)):
            (found,) = bayes_frontier([1.0], performance=performance, include_sensitive=sees)
            assert found == pytest.approx(float(_performance(at, at, performance)), abs=1e-5)


def _gain_and_bias(frame: pd.DataFrame, measure: str, sees: bool) -> tuple[np.ndarray, np.ndarray]:
    """Per row: what a positive decision adds to balanced accuracy, and to the bias."""
    eta = probability(frame)
    male = group_probability(frame)["Male"].to_numpy()
    if sees:
        male = (frame["sex"] == "Male").to_numpy().astype(float)

    def difference(condition: np.ndarray) -> np.ndarray:
        female_part, male_part = (1 - male) * condition, male * condition
        return female_part / female_part.mean() - male_part / male_part.mean()

    bias = {
        "spd": lambda: difference(np.ones(len(eta))),
        "eod": lambda: difference(eta),
        "aod": lambda: 0.5 * (difference(eta) + difference(1 - eta)),
    }[measure]()
    return 0.5 * (eta / eta.mean() - (1 - eta) / (1 - eta).mean()), bias


@pytest.mark.parametrize("measure", ["spd", "eod", "aod"])
@pytest.mark.parametrize("sees", [True, False])
def test_optimum_is_that_of_a_linear_program(measure: str, sees: bool) -> None:
    """The best randomised classifier of a sample, with no appeal to duality."""
    n = 20_000
    gain, bias = _gain_and_bias(_sample(seed=5, n=n), measure, sees)
    for epsilon in (0.0, 0.05):
        program = linprog(
            -gain / n,
            A_ub=np.stack([bias, -bias]) / n,
            b_ub=[epsilon, epsilon],
            bounds=(0, 1),
            method="highs",
        )
        decision = program.x
        assert abs((decision * bias).mean()) <= epsilon + 1e-6
        best = 0.5 + float((decision * gain).mean())
        # The optimum of a sample varies like the mean of what its rows contribute.
        multiplier = program.ineqlin.marginals[1] - program.ineqlin.marginals[0]
        error = float(np.maximum(gain - multiplier * bias, 0).std() / np.sqrt(n))
        assert error < 0.003
        (found,) = bayes_frontier([epsilon], measure=measure, include_sensitive=sees)
        assert abs(best - found) < 4 * error


@pytest.mark.parametrize("measure", ["spd", "eod", "aod"])
def test_blind_optimum_against_a_million_draws(measure: str) -> None:
    """The same dual, over draws of the columns themselves instead of a grid: ten times sharper."""
    gain, bias = _gain_and_bias(_sample(seed=6, n=1_000_000), measure, False)
    multipliers = np.linspace(-0.6, 0.0, 31)
    parts = np.array([np.maximum(gain - m * bias, 0).mean() for m in multipliers])
    for epsilon in (0.0, 0.05, 0.1):
        best = 0.5 + (parts - multipliers * epsilon).min()
        (found,) = bayes_frontier([epsilon], measure=measure, include_sensitive=False)
        # Standard error below 0.4 / 1,000; steps of 0.02 in the multiplier cost less than that.
        assert found == pytest.approx(best, abs=0.0015)


def test_shape_of_the_frontier() -> None:
    epsilons = np.linspace(0, 0.4, 21)
    for measure in ("spd", "eod", "aod"):
        aware, blind = (
            bayes_frontier(epsilons, measure=measure, include_sensitive=sees)
            for sees in (True, False)
        )
        for values in (aware, blind):
            # A best value under a constraint whose bound grows: never falling, concave, above 0.5.
            assert (np.diff(values) >= -1e-7).all()
            assert (np.diff(values, 2) <= 1e-6).all()
            assert values[0] > 0.7
            assert values[-1] > values[0] + 0.005
        assert (aware >= blind - 1e-5).all()
        assert aware[0] > blind[0] + 0.005
    assert bayes_frontier([0.05], include_sensitive=False)[0] < bayes_frontier([0.05])[0] - 0.02


def _measured(frame: pd.DataFrame, decision: np.ndarray) -> tuple[float, float]:
    male, hired = (frame["sex"] == "Male").to_numpy(), frame["hired"].to_numpy() == 1
    balanced = 0.5 * (decision[hired].mean() + 1 - decision[~hired].mean())
    return float(balanced), float(decision[~male].mean() - decision[male].mean())


@pytest.mark.parametrize("sees", [True, False])
def test_no_trained_classifier_is_above_the_frontier(sees: bool) -> None:
    train, test = _sample(seed=1, n=20_000), _sample(seed=2)
    scores = LogisticRegression().fit(train[NUMBERS], train["hired"]).decision_function
    male = (train["sex"] == "Male").to_numpy().astype(float)
    proxies = ["skill", "neighbourhood"]
    group = LinearRegression().fit(train[proxies], male).predict
    gaps = {}
    # A common repair: a handicap for what is known of the group, from none to full compensation.
    for handicap in np.linspace(0, 2, 9):
        seen = (test["sex"] == "Male").to_numpy() if sees else group(test[proxies])
        decision = scores(test[NUMBERS]) - handicap * (seen - 0.5) > -0.09
        performance, bias = _measured(test, decision.astype(float))
        (best,) = bayes_frontier([abs(bias)], include_sensitive=sees)
        gaps[handicap] = best - performance
        if handicap == 0:
            assert bias < -0.2
    # Balanced accuracy of 200,000 rows has a standard error of 0.001, and the bias of 0.002.
    assert min(gaps.values()) > -0.005
    # It is a tight bound, too: both the plain classifier and the mended ones come near it.
    assert max(gap for handicap, gap in gaps.items() if handicap <= 1) < 0.01
    assert sorted(gaps.values())[4] < 0.01


def test_an_unconstrained_classifier_is_clearly_unfair() -> None:
    frame = _sample()
    performance, bias = _measured(frame, (probability(frame) > 0.48).astype(float))
    assert 0.75 < performance < 0.8
    assert -0.3 < bias < -0.2


def test_frontier_refuses_what_it_does_not_know() -> None:
    for options, message in (
        ({"measure": "dpd"}, "unknown measure of bayes_frontier 'dpd'"),
        ({"performance": "f1"}, "unknown performance of bayes_frontier 'f1'"),
    ):
        with pytest.raises(InputError, match=message):
            bayes_frontier([0.1], **options)
    for epsilon in (-0.1, float("nan")):
        with pytest.raises(InputError, match="epsilons of at least 0"):
            bayes_frontier([epsilon])
    with pytest.raises(InputError, match="unknown sensitive attribute of synthetic 'age'"):
        group_probability(_sample(), "age")
