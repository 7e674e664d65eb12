"""Scores of fairness for model selection, against counts by hand and the objective itself."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import retrofair as rf
from retrofair.errors import InputError


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    sex = random.choice(["f", "m"], 400)
    X = random.normal(size=(400, 2)) + (sex == "m")[:, None]
    y = np.where(X[:, 0] + random.normal(size=400) > 0.5, "yes", "no")
    return X, y, sex


def test_a_measures_score_is_minus_its_bias(people) -> None:
    X, y, sex = people
    model = LogisticRegression().fit(X, y)
    decided = model.predict(X) == "yes"
    gap = decided[sex == "f"].mean() - decided[sex == "m"].mean()
    score = rf.make_fairness_scorer("spd")
    assert score(model, X, y, sensitive_features=sex) == pytest.approx(-abs(gap))
    assert abs(gap) > 0.1


@pytest.mark.parametrize("epsilon", [0.05, 0.9])
def test_a_bounds_score_is_the_performance_or_minus_the_bias(people, epsilon) -> None:
    X, y, sex = people
    model = LogisticRegression().fit(X, y)
    found = rf.audit_decisions(y, model.predict(X), sensitive_features=sex, positive="yes")
    score = rf.make_fairness_scorer(rf.Constrained("spd", epsilon, performance="accuracy"))
    bias = abs(found["spd"].value)
    expected = found["accuracy"].value if bias < epsilon else -bias
    assert score(model, X, y, sensitive_features=sex) == pytest.approx(expected)


def test_of_three_classes_the_worst_counts(people) -> None:
    X, _, sex = people
    y = np.digitize(X[:, 0], [0, 1])
    model = LogisticRegression().fit(X, y)
    decided = model.predict(X)
    gaps = [(decided[sex == "f"] == k).mean() - (decided[sex == "m"] == k).mean() for k in range(3)]
    score = rf.make_fairness_scorer("spd")
    found = score(model, X, y, sensitive_features=sex)
    assert found == pytest.approx(-np.abs(gaps).max())


def test_it_is_routed_to_any_classifier(people) -> None:
    X, y, sex = people
    score = rf.make_fairness_scorer("demographic_parity_difference")
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(LogisticRegression())
        found = cross_val_score(
            pipe, X, y, scoring=score, cv=3, params={"sensitive_features": sex},
            error_score="raise",
        )  # fmt: skip
    assert (found < 0).all()


def test_bad_input(people) -> None:
    X, y, sex = people
    model = LogisticRegression().fit(X, y)
    score = rf.make_fairness_scorer("spd")
    with pytest.raises(InputError, match="enable_metadata_routing"):
        score(model, X, y)
    with pytest.raises(InputError, match="expected labels among the classes"):
        score(model, X, np.where(y == "yes", "Yes", "no"), sensitive_features=sex)
    with pytest.raises(InputError, match="did you mean 'spd'"):
        rf.make_fairness_scorer("sdp")
    with pytest.raises(InputError, match="eod compares groups"):
        rf.make_fairness_scorer("eod")(
            model, X, np.where(sex == "f", "no", y), sensitive_features=sex
        )
