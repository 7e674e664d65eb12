"""Networks trained with skorch: read as skorch itself reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

import retrofair as rf
from retrofair.errors import InputError


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    sex = random.integers(2, size=300)
    X = (random.normal(size=(300, 3)) + sex[:, None]).astype(np.float32)
    y = (X[:, 0] + random.normal(size=300) > 0.5).astype(np.int64)
    return X, y, sex


NETS = {
    "one logit": (NeuralNetBinaryClassifier, lambda: nn.Linear(3, 1), {}),
    "one probability": (
        NeuralNetBinaryClassifier,
        lambda: nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), nn.Flatten(0)),
        {"criterion": nn.BCELoss},
    ),
    "two probabilities": (
        NeuralNetClassifier,
        lambda: nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1)),
        {},
    ),
    "two logits": (
        NeuralNetClassifier,
        lambda: nn.Linear(3, 2),
        {"criterion": nn.CrossEntropyLoss},
    ),
}


def fitted(name: str, people, classes: int = 2):
    X, y, _ = people
    kind, module, options = NETS[name]
    torch.manual_seed(0)
    net = kind(module(), max_epochs=5, lr=0.5, train_split=None, verbose=0, **options)
    return net.fit(X, y.astype(np.float32) if kind is NeuralNetBinaryClassifier else y)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:no sensitive_features given")
def test_probabilities_are_skorchs(name, people) -> None:
    X, y, _ = people
    net = fitted(name, people)
    found = rf.RetrofairClassifier(net).fit(X, y)
    np.testing.assert_allclose(found.predict_proba(X), net.predict_proba(X), atol=2e-6)
    assert (found.predict(X) == net.predict(X)).mean() > 0.99


@pytest.mark.parametrize("name", NETS)
def test_it_is_debiased(name, people) -> None:
    X, y, sex = people
    net = fitted(name, people)
    before = {key: value.clone() for key, value in net.module_.state_dict().items()}
    frozen = clone(rf.RetrofairClassifier(FrozenEstimator(net), "threshold", epsilon=0.3))
    found = frozen.fit(X, y, sensitive_features=sex)
    decided = found.predict(X)
    gap = decided[sex == 1].mean() - decided[sex == 0].mean()
    assert found.status_ == "met"
    assert abs(gap) < 0.3
    assert all(torch.equal(before[key], v) for key, v in net.module_.state_dict().items())


def test_a_net_without_its_fit_is_refused(people) -> None:
    X, y, sex = people
    net = clone(fitted("one logit", people))
    with pytest.raises(InputError, match="FrozenEstimator"):
        rf.RetrofairClassifier(net).fit(X, y, sensitive_features=sex)
