"""The estimator: what scikit-learn asks of one, and that it does what `debias` does."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

import retrofair as rf
from retrofair.errors import InputError, RetrofairWarning
from retrofair.interop.deciding import FARTHEST, log_odds
from retrofair.networks import Training

SMALL = Training(width=8, depth=1, patience=20, max_epochs=200)
CHECKS = list(estimator_checks_generator(rf.RetrofairClassifier(SMALL)))


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def rows(splits: rf.Splits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and groups as scikit-learn's users have them."""
    data = splits.valid
    return data.x.numpy(), data.y.numpy(), np.array(data.group_names)[data.group.numpy()]


def fitted(network: Any, rows: Any, **options: Any) -> rf.RetrofairClassifier:
    X, y, sex = rows
    options = {"privileged": "Male", "random_state": 0, "epsilon": 0.1} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrofairWarning)  # a goal not reached
        return rf.RetrofairClassifier(network, **options).fit(X, y, sensitive_features=sex)


class Turned(nn.Module):
    """The other class of another network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.network(x)


@pytest.mark.parametrize("debiased", [True, False])
def test_labels_the_other_way_round_are_told(debiased, rows, trained) -> None:
    X, y, sex = rows
    words = r"ROC curve is 0\.\d+ on these rows, below one half"
    groups = {"sensitive_features": sex} if debiased else {}
    for network, turned in ((trained, False), (Turned(trained), True)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rf.RetrofairClassifier(network, epsilon=0.1, random_state=0).fit(X, y, **groups)
        assert any(re.search(words, str(each.message)) for each in told) == turned


# --- scikit-learn's own checks --------------------------------------------------------------------


@pytest.mark.parametrize(
    "check", [each[1] for each in CHECKS], ids=[each[1].func.__name__ for each in CHECKS]
)
@pytest.mark.filterwarnings("ignore:no sensitive_features given", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks_pass(check: Any) -> None:
    """All of them: none is expected to fail. They fit without groups, with a warning."""
    check(rf.RetrofairClassifier(SMALL))


@pytest.mark.filterwarnings("ignore:no sensitive_features given")
def test_deep_networks_give_the_same_alone_and_in_a_batch() -> None:
    """To the digits of their numbers, which is why scores are of single precision."""
    from sklearn.utils.estimator_checks import check_methods_subset_invariance

    network = Training(patience=3, max_epochs=10)
    check_methods_subset_invariance("deep", rf.RetrofairClassifier(network))


# --- the same as debias ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [known.name for known in rf.debiasers.ALL])
def test_every_method_decides_as_debias(name, quick, splits, trained, rows) -> None:
    X, _, sex = rows
    goal = rf.Constrained("spd", epsilon=0.1)
    result = rf.debias(trained, splits.valid, goal, quick[name], seed=0)
    found = fitted(trained, rows, method=quick[name])
    assert found.status_ == result.status.value
    assert found.needs_group_ == result.needs_group
    assert found.group_names_ == ("Female", "Male")
    group = splits.valid.group
    expected = result.predict(splits.valid.x, group=group if result.needs_group else None)
    decided = found.predict(X, sensitive_features=sex)
    assert decided.tolist() == expected.tolist()
    if result.rule.kind in ("flip", "mix"):
        with pytest.raises(InputError, match="decides with a coin"):
            found.predict_proba(X, sensitive_features=sex)
        return
    margin = found.decision_function(X, sensitive_features=sex)
    chance = found.predict_proba(X, sensitive_features=sex)
    assert ((margin > 0) == decided).all()
    assert (chance.argmax(1) == decided).all()
    np.testing.assert_allclose(chance.sum(1), 1, rtol=1e-6)
    assert found.score(X, rows[1], sensitive_features=sex) == (decided == rows[1]).mean()


@pytest.mark.parametrize("name", ["group_thresholds", "reject_option", "equalized_odds"])
def test_methods_that_look_at_the_group_say_so(name, trained, rows) -> None:
    found = fitted(trained, rows, method=name)
    assert found.needs_group_
    with pytest.raises(InputError, match=rf"expected sensitive_features: method '{name}'"):
        found.predict(rows[0])
    with pytest.raises(InputError, match="got also"):
        found.predict(rows[0][:1], sensitive_features=["Other"])


def test_the_given_network_is_left_as_it_is(trained, rows) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    found = fitted(trained, rows, method=rf.debiasers.Random(trials=5))
    assert found.network is trained
    assert all(torch.equal(before[n], v) for n, v in trained.state_dict().items())
    assert any(
        not torch.equal(a, b)
        for a, b in zip(found.result_.model.state_dict().values(), before.values(), strict=True)
    )


def test_margins_are_distances_from_the_threshold(trained, rows, splits) -> None:
    found = fitted(trained, rows, method="threshold")
    cut = found.result_.threshold
    chance = 1 / (1 + np.exp(-rf.networks.logits(trained, splits.valid).double().numpy()))
    expected = np.log(chance / (1 - chance)) - np.log(cut / (1 - cut))
    np.testing.assert_allclose(found.decision_function(rows[0]), expected, rtol=1e-4, atol=1e-5)


def test_log_odds_of_no_chance_are_finite() -> None:
    np.testing.assert_allclose(
        log_odds(np.array([-0.5, 0, 0.5, 0.9, 1, 2])),
        [-FARTHEST, -FARTHEST, 0, np.log(9), FARTHEST, FARTHEST],
    )


# --- labels, groups and tables --------------------------------------------------------------------


def test_labels_of_any_two_values(trained, rows) -> None:
    X, y, sex = rows
    numbers = fitted(trained, rows)
    texts = fitted(trained, (X, np.where(y == 1, "yes", "no"), sex))
    assert texts.classes_.tolist() == ["no", "yes"]
    assert ((texts.predict(X) == "yes") == numbers.predict(X)).all()


def test_a_table_gives_feature_names_and_doubles_give_the_same(trained, rows) -> None:
    X, y, sex = rows
    table = pd.DataFrame(X.astype(np.float64)).add_prefix("column ")
    named = fitted(trained, (table, pd.Series(y), pd.Series(sex)))
    assert named.feature_names_in_.tolist() == list(table.columns)
    assert named.n_features_in_ == X.shape[1]
    assert (named.predict(table) == fitted(trained, rows).predict(X)).all()
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict(table.rename(columns={"column 0": "other"}))


class Interchanged:
    """A column that is an array to numpy and nothing else, as of other table libraries."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values.astype(dtype or self.values.dtype)

    def __len__(self) -> int:
        return len(self.values)


def test_tables_of_other_libraries(trained, rows) -> None:
    X, y, sex = rows
    found = fitted(trained, (Interchanged(X), Interchanged(y), Interchanged(sex)))
    assert (found.predict(Interchanged(X)) == fitted(trained, rows).predict(X)).all()


def test_several_columns_make_intersections(trained, rows) -> None:
    X, y, sex = rows
    old = np.where(np.arange(len(y)) % 3 == 0, "old", "young")
    table = pd.DataFrame({"sex": sex, "age": old})
    found = fitted(trained, (X, y, table), method="threshold", privileged=["Male", "old"])
    assert set(found.group_names_) == {
        "Female & old", "Female & young", "Male & young", "Male & old"
    }  # fmt: skip
    assert found.group_names_[-1] == "Male & old"
    with pytest.raises(InputError, match="one privileged value for each of 2 columns"):
        fitted(trained, (X, y, table), privileged="Male")


def test_three_classes(rows) -> None:
    X, y, sex = rows
    y = y + (X.sum(axis=1) > 1)
    X = X[:, -3:]
    torch.manual_seed(0)
    network = nn.Linear(3, 3)
    names = np.array(["high", "low", "middle"])  # sorted: codes 0, 1, 2
    found = fitted(network, (X, names[y], sex), method="threshold", epsilon=0.5)
    data = rf.GroupedData(
        x=torch.from_numpy(X.copy()), y=y, group=(sex == "Male").astype(int),
        group_names=("Female", "Male"),
    )  # fmt: skip
    result = rf.debias(network, data, rf.Constrained("spd", epsilon=0.5), "threshold", seed=0)
    decided = found.predict(X)
    assert (decided == names[result.predict(data.x).numpy()]).all()
    assert found.predict_proba(X).shape == found.decision_function(X).shape == (len(y), 3)
    assert (names[found.predict_proba(X).argmax(1)] == decided).all()
    assert (names[found.decision_function(X).argmax(1)] == decided).all()


@pytest.mark.filterwarnings("ignore:no sensitive_features given")
def test_without_groups_the_network_is_as_it_was(trained, rows) -> None:
    X, y, _ = rows
    with pytest.warns(RetrofairWarning, match="nothing was debiased"):
        found = rf.RetrofairClassifier(trained).fit(X, y)
    assert (found.status_, found.result_, found.group_names_) == ("not_debiased", None, ())
    logit = trained(torch.from_numpy(X)).detach().numpy()
    assert (found.predict(X) == (logit > 0)).all()
    np.testing.assert_allclose(
        found.predict_proba(X)[:, 1], 1 / (1 + np.exp(-logit)), rtol=1e-5, atol=1e-6
    )
    three = rf.RetrofairClassifier(nn.Linear(X.shape[1], 3)).fit(X, y + (X.sum(axis=1) > 1))
    expected = three.network_(torch.from_numpy(X)).argmax(1)
    assert (three.predict(X) == expected.numpy()).all()


def test_images_are_taken_as_they_are() -> None:
    random = np.random.default_rng(0)
    group = random.integers(2, size=200)
    X = random.normal(size=(200, 1, 4, 4)) + group[:, None, None, None]
    y = (X.mean(axis=(1, 2, 3)) + 0.3 * random.normal(size=200) > 0.5).astype(int)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    found = fitted(network, (X, y, group), privileged=1, method="threshold")
    assert found.predict(X).shape == (200,)


def test_a_double_network_stays_double(rows) -> None:
    network = nn.Linear(rows[0].shape[1], 1).double()
    found = fitted(network, rows, method="threshold")
    assert found.decision_function(rows[0]).dtype == np.float64


def test_a_network_of_the_papers_is_trained_where_none_is_given(rows) -> None:
    found = fitted(SMALL, rows, valid_size=0.5)
    X, y, _ = rows
    assert found.result_.about["rows"] == pytest.approx(len(y) / 2, abs=1)
    assert (found.predict(X) == y).mean() > 0.6
    again = fitted(SMALL, rows, valid_size=0.5)
    assert (again.decision_function(X) == found.decision_function(X)).all()
    assert (fitted(SMALL, rows, random_state=1).network_.out.weight.shape) == (1, 8)


# --- within scikit-learn --------------------------------------------------------------------------


def test_it_survives_a_clone_and_a_file(trained, rows) -> None:
    X, _, _ = rows
    found = fitted(trained, rows)
    copy = clone(found)
    assert not hasattr(copy, "result_")
    assert copy.get_params()["method"] == "fair_head"
    assert copy.network is not trained
    file = io.BytesIO()
    joblib.dump(found, file)
    file.seek(0)
    read = joblib.load(file)
    assert (read.decision_function(X) == found.decision_function(X)).all()
    assert copy.set_params(epsilon=0.2).epsilon == 0.2
    assert "fair_head" not in repr(found)  # only what is not the default


def test_groups_reach_it_through_a_pipeline(routing, trained, rows) -> None:
    X, y, sex = rows
    pipe = make_pipeline(
        StandardScaler(with_mean=False, with_std=False),
        rf.RetrofairClassifier(trained, "group_thresholds", epsilon=0.1, random_state=0),
    )
    pipe.fit(X, y, sensitive_features=sex)
    alone = fitted(trained, rows, method="group_thresholds")
    decided = pipe.predict(X, sensitive_features=sex)
    assert (decided == alone.predict(X, sensitive_features=sex)).all()
    with pytest.raises(InputError, match="expected sensitive_features"):
        pipe.predict(X)


def test_without_routing_a_pipeline_takes_groups_by_the_steps_name(trained, rows) -> None:
    X, y, sex = rows
    pipe = make_pipeline("passthrough", rf.RetrofairClassifier(trained, epsilon=0.1))
    pipe.fit(X, y, retrofairclassifier__sensitive_features=sex)
    assert pipe[-1].status_ == "met"


@pytest.mark.filterwarnings("ignore:the goal was not reached")
def test_a_grid_is_searched_by_fairness(routing, trained, rows) -> None:
    X, y, sex = rows
    grid = {"method": ["threshold", "group_thresholds"], "epsilon": [0.05, 0.3]}
    goal = rf.Constrained("spd", epsilon=0.2)
    search = GridSearchCV(
        rf.RetrofairClassifier(trained, random_state=0),
        grid,
        scoring={"goal": rf.make_fairness_scorer(goal), "bias": rf.make_fairness_scorer("spd")},
        refit="goal",
        cv=2,
        error_score="raise",
    )
    search.fit(X, y, sensitive_features=sex)
    found = search.cv_results_
    assert np.isfinite(found["mean_test_goal"]).all()
    assert (found["mean_test_bias"] <= 0).all()
    assert search.best_score_ == found["mean_test_goal"].max()
    loose = [p["epsilon"] == 0.3 for p in found["params"]]
    bias = -found["mean_test_bias"]
    assert bias[np.array(loose)].mean() > bias[~np.array(loose)].mean()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "net.pt"}, r"expected network to be a torch.nn.Module.* got str"),
        ({"network": nn.Linear}, "got Linear"),
        ({"method": "fairhead"}, "did you mean 'fair_head'"),
        ({"measure": "sdp"}, "did you mean 'spd'"),
        ({"epsilon": 0}, r"expected epsilon in \(0, 1\]"),
        ({"lam": 2.0}, r"expected lam in \[0, 1\]"),
        ({"privileged": "male"}, "did you mean 'Male'"),
        ({"network": SMALL, "valid_size": 1.0}, r"expected valid_size in \(0, 1\)"),
        ({"random_state": -1}, "expected a seed"),
        ({"network": nn.Linear(3, 1)}, "expected a network that takes x of shape"),
    ],
)
def test_bad_options_are_refused_in_fit(options, message, trained, rows) -> None:
    with pytest.raises(InputError, match=message):
        fitted(**({"network": trained, "rows": rows} | options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sex: sex[:-1], "for each of 600 rows, got shape"),
        (lambda sex: np.full(len(sex), "all"), "at least two groups"),
        (lambda sex: np.where(sex == "Male", None, sex), "no missing values"),
        (lambda sex: np.zeros((len(sex), 1, 1)), "of shape"),
        (lambda sex: np.arange(len(sex) * 2)[: len(sex)] * 0.5, "privileged group"),
    ],
)
def test_bad_groups_are_refused(change, message, trained, rows) -> None:
    X, y, sex = rows
    with pytest.raises(InputError, match=message):
        fitted(trained, (X, y, change(sex)))


def test_three_classes_need_a_network_of_ones_own(rows) -> None:
    X, y, sex = rows
    with pytest.raises(InputError, match="Only binary classification is supported"):
        fitted(SMALL, (X, y + (X.sum(axis=1) > 1), sex))


def test_a_goal_out_of_reach_is_said(rows) -> None:
    X, y, sex = rows
    network = nn.Linear(X.shape[1], 1)
    with pytest.warns(RetrofairWarning, match="the goal was not reached"):
        found = rf.RetrofairClassifier(network, "threshold", epsilon=1e-9).fit(
            X, y, sensitive_features=sex
        )
    assert found.status_ in ("not_met", "degenerate")
