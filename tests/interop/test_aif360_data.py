"""Data sets handed to AIF360 and back: its metrics are ours, on random and published data."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import retrofair as rf
from retrofair.errors import InputError, RetrofairWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import BinaryLabelDatasetMetric, ClassificationMetric


def random_data(seed: int = 0, groups: int = 2, n: int = 300) -> rf.GroupedData:
    random = np.random.default_rng(seed)
    group = random.integers(groups, size=n)
    x = random.normal(size=(n, 2)) + group[:, None]
    y = (x[:, 0] + random.normal(size=n) > 0.5).astype(int)
    names = ("a", "b", "c", "d")[:groups]
    return rf.GroupedData(x=x, y=y, group=group, group_names=names)


def described(dataset, last: int) -> dict:
    name = dataset.protected_attribute_names[0]
    return {
        "unprivileged_groups": [{name: k} for k in range(last)],
        "privileged_groups": [{name: last}],
    }


def agree(data: rf.GroupedData, y_hat: np.ndarray) -> None:
    """Every measure of two groups, of the labels and of decisions."""
    truth, decided = rf.to_aif360(data), rf.to_aif360(data, y_hat)
    about = described(truth, 1)
    of_labels = rf.audit_predictions(data.y, data.y, data.group, group_names=data.group_names)
    theirs = BinaryLabelDatasetMetric(truth, **about)
    assert theirs.statistical_parity_difference() == pytest.approx(of_labels["spd"].value)
    assert theirs.disparate_impact() == pytest.approx(of_labels["disparate_impact"].value)
    found = rf.audit_predictions(data.y, y_hat, data.group, group_names=data.group_names)
    theirs = ClassificationMetric(truth, decided, **about)
    assert theirs.statistical_parity_difference() == pytest.approx(found["spd"].value)
    assert theirs.equal_opportunity_difference() == pytest.approx(found["eod"].value)
    assert theirs.average_odds_difference() == pytest.approx(found["aod"].value)
    assert theirs.accuracy() == pytest.approx(found["accuracy"].value)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_on_random_rows(seed: int) -> None:
    data = random_data(seed)
    agree(data, (data.x[:, 0] > 0.5).long().numpy())


@pytest.mark.parametrize(
    ("name", "sensitive"), [("adult", "sex"), ("compas", "race"), ("german", "age")]
)
@pytest.mark.parametrize("include_sensitive", [True, False])
def test_metrics_on_published_data(name, sensitive, include_sensitive, data_root) -> None:
    data = rf.datasets.load(
        name, sensitive=sensitive, root=data_root, include_sensitive=include_sensitive
    ).test
    agree(data, np.arange(len(data)) % 3 == 0)
    dataset = rf.to_aif360(data)
    columns = data.x.shape[1] + (not include_sensitive)
    assert dataset.features.shape == (len(data), columns)
    assert dataset.protected_attribute_names == [sensitive]
    back = rf.from_aif360(dataset, include_sensitive=include_sensitive)
    assert torch.equal(back.x, data.x)
    assert torch.equal(back.y, data.y)
    assert torch.equal(back.group, data.group)
    assert back.group_names == data.group_names
    assert back.feature_names == data.feature_names


def test_many_groups_are_there_and_back() -> None:
    data = random_data(groups=4)
    dataset = rf.to_aif360(data, scores=data.x[:, 0].sigmoid())
    assert dataset.privileged_protected_attributes[0].tolist() == [3.0]
    np.testing.assert_allclose(dataset.scores.ravel(), data.x[:, 0].double().sigmoid(), atol=1e-6)
    back = rf.from_aif360(dataset, include_sensitive=False)
    assert back.group_names == ("a", "b", "c", "d")
    assert torch.equal(back.group, data.group)
    assert torch.equal(back.x, data.x)
    rates = [float(data.y[data.group == k].double().mean()) for k in range(4)]
    theirs = BinaryLabelDatasetMetric(dataset, **described(dataset, 3))
    rest = float(data.y[data.group < 3].double().mean())
    assert theirs.statistical_parity_difference() == pytest.approx(rest - rates[3])


def test_columns_of_taken_names_get_others() -> None:
    data = random_data()
    data = rf.GroupedData(
        x=data.x, y=data.y, group=data.group, group_names=data.group_names,
        feature_names=("group", "label"),
    )  # fmt: skip
    dataset = rf.to_aif360(data)
    assert dataset.feature_names == ["group", "label", "group_"]
    assert dataset.label_names == ["label_"]
    assert dataset.protected_attributes.ravel().tolist() == data.group.tolist()


# --- data sets that AIF360's users have ----------------------------------------------------------


@pytest.fixture
def dataset() -> BinaryLabelDataset:
    """Two attributes, labels 1 (good) and 2 (bad) as in the German data, weights."""
    frame = pd.DataFrame(
        {
            "sex": [0.0, 0, 0, 1, 1, 1],
            "age": [0.0, 1, 2, 0, 1, 2],
            "credit": [1.0, 2, 1, 1, 2, 1],
            "amount": [5.0, 1, 2, 3, 4, 6],
            "weight": [1.0, 1, 1, 1, 1, 2],
        }
    )
    return BinaryLabelDataset(
        favorable_label=1,
        unfavorable_label=2,
        df=frame,
        label_names=["credit"],
        protected_attribute_names=["sex", "age"],
        instance_weights_name="weight",
        metadata={"protected_attribute_maps": [{1.0: "Male", 0.0: "Female"}]},
    )


def test_labels_groups_and_names(dataset) -> None:
    with pytest.warns(RetrofairWarning, match="dropped the instance weights, 1 to 2"):
        data = rf.from_aif360(dataset, "sex")
    assert data.y.tolist() == [1, 0, 1, 1, 0, 1]
    assert data.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.group_names == ("Female", "Male")
    assert data.feature_names == ("sex", "age", "amount")
    assert data.x[:, 2].tolist() == [5, 1, 2, 3, 4, 6]
    assert "instance weights" in data.notes[0]


@pytest.mark.filterwarnings("ignore:dropped the instance weights")
def test_intersections_and_described_groups(dataset) -> None:
    data = rf.from_aif360(dataset)
    assert data.group_names[-1] == "Male & 2"
    assert len(data.group_names) == 6
    with pytest.warns(RetrofairWarning, match="dropped 2 of 6 rows in neither group"):
        data = rf.from_aif360(
            dataset,
            unprivileged_groups=[{"sex": 0, "age": 0}, {"age": 1}],
            privileged_groups=[{"sex": 1, "age": 2}],
            include_sensitive=False,
        )
    assert data.group_names == ("unprivileged", "privileged")
    assert data.x[:, 0].tolist() == [5, 1, 4, 6]
    assert data.group.tolist() == [0, 0, 0, 1]


@pytest.mark.filterwarnings("ignore:dropped the instance weights")
def test_bad_input(dataset, monkeypatch) -> None:
    with pytest.raises(InputError, match="did you mean 'sex'"):
        rf.from_aif360(dataset, "sexe")
    with pytest.raises(InputError, match="got both"):
        rf.from_aif360(dataset, "sex", privileged_groups=[{"sex": 1}])
    with pytest.raises(InputError, match="got one of them"):
        rf.from_aif360(dataset, privileged_groups=[{"sex": 1}])
    with pytest.raises(InputError, match="without common rows"):
        rf.from_aif360(dataset, unprivileged_groups=[{"age": 1}], privileged_groups=[{"sex": 1}])
    with pytest.raises(InputError, match="expected rows in the groups"):
        rf.from_aif360(dataset, unprivileged_groups=[{"age": 9}], privileged_groups=[{"sex": 1}])
    dataset.privileged_protected_attributes[1] = np.array([1.0, 2.0])
    with pytest.raises(InputError, match="one privileged value of 'age'"):
        rf.from_aif360(dataset)
    with pytest.raises(InputError, match="expected an AIF360 BinaryLabelDataset, got DataFrame"):
        rf.from_aif360(pd.DataFrame())
    data = random_data()
    with pytest.raises(InputError, match="expected 300 numbers as y_hat"):
        rf.to_aif360(data, [0, 1])
    with pytest.raises(InputError, match="labels 0/1"):
        rf.to_aif360(data, data.y * 2)
    with pytest.raises(InputError, match="table of features"):
        rf.to_aif360(data.x)
    monkeypatch.setitem(sys.modules, "aif360.datasets", None)
    with pytest.raises(InputError, match="expected the package aif360"):
        rf.to_aif360(data)
