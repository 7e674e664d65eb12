"""Each data set against the published counts, AIF360, and figures taken from the raw files."""

from __future__ import annotations

import csv
import importlib
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from retrofair import datasets
from retrofair.data import GroupedData, Splits
from retrofair.errors import InputError

COUNTS = {
    "adult": (45_222, 98),
    "bank": (30_488, 57),
    "compas": (6_167, 401),
    "german": (1_000, 58),
    "boston": (506, 13),
    "communities": (1_993, 100),
    "acs_income": (332_900, 77),
    "synthetic": (20_000, 9),
    "celeba": (134_173, 40),
}
IMAGES = {"utkface"}  # see test_image_datasets.py
DEFAULTS = {
    "adult": "sex",
    "compas": "race",
    "bank": "age",
    "german": "sex",
    "boston": "B",
    "communities": "race",
    "acs_income": "sex",
    "synthetic": "sex",
    "utkface": "race",
    "celeba": "skin",
}
SMALL = [name for name in COUNTS if name not in ("acs_income", "celeba")]


def _parts(splits: Splits) -> tuple[GroupedData, GroupedData, GroupedData]:
    return splits.train, splits.valid, splits.test


def _all(name: str, root: Path, sensitive: Any = None, **options: Any) -> GroupedData:
    """The whole data set, in the units of the file."""
    return datasets.load(name, sensitive, root, parts=(0, 0, 1), scale=False, **options).test


def test_all_lists_every_data_set() -> None:
    assert {data_set.name for data_set in datasets.ALL} == set(COUNTS) | IMAGES
    assert {d.name: d.default_sensitive for d in datasets.ALL} == DEFAULTS
    assert len(datasets.ALL) == len(COUNTS) + len(IMAGES)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_shares(data_root: Path, name: str) -> None:
    splits = datasets.load(name, root=data_root)
    rows, columns = COUNTS[name]
    sizes = [len(part) for part in _parts(splits)]
    assert sum(sizes) == rows
    if datasets.get(name).part is None:
        assert sizes == [round(0.6 * rows), round(0.8 * rows) - round(0.6 * rows), sizes[2]]
    for part in _parts(splits):
        assert part.x.shape[1] == len(part.feature_names) == columns
        assert set(part.y.tolist()) == {0, 1}
        assert part.notes == ()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("adult", "AdultDataset"),
        ("bank", "BankDataset"),
        ("compas", "CompasDataset"),
        ("german", "GermanDataset"),
    ],
)
@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_same_rows_as_aif360(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    pytest.importorskip("aif360.datasets")
    theirs_module = importlib.import_module(f"aif360.datasets.{name}_dataset")

    def read_csv(place: str, **options: Any) -> pd.DataFrame:
        return pd.read_csv(data_root / name / Path(place).name, **options)

    # AIF360 reads from its own folder, and knows no other texts than objects.
    shim = types.SimpleNamespace(read_csv=read_csv, concat=pd.concat)
    monkeypatch.setattr(theirs_module, "pd", shim)
    options: dict[str, Any] = {}
    if name == "bank":  # the documented departure: no upper end
        options["privileged_classes"] = [lambda age: age >= 25]
    with pd.option_context("future.infer_string", False):
        theirs = getattr(theirs_module, module)(**options)
    labels = theirs.labels.ravel() == 1
    for attribute in theirs.protected_attribute_names:
        ours = _all(name, data_root, attribute)
        assert set(ours.feature_names) == set(theirs.feature_names)
        order = [theirs.feature_names.index(column) for column in ours.feature_names]
        group = theirs.protected_attributes[:, theirs.protected_attribute_names.index(attribute)]
        expected = np.column_stack([theirs.features[:, order], labels, group])
        found = np.column_stack([ours.x.numpy(), ours.y.numpy(), ours.group.numpy()])
        assert np.array_equal(_sorted(found), _sorted(expected))


def _sorted(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows[np.lexsort(rows.T)]


def test_adult_rates_counted_by_hand(data_root: Path) -> None:
    rows: Counter[tuple[str, str]] = Counter()
    positive: Counter[tuple[str, str]] = Counter()
    for part in ("adult.data", "adult.test"):
        with (data_root / "adult" / part).open() as file:
            for row in csv.reader(file, skipinitialspace=True):
                if len(row) == 15 and "?" not in row:
                    key = (row[9], "White" if row[8] == "White" else "non-White")
                    rows[key] += 1
                    positive[key] += row[14].startswith(">")
    data = _all("adult", data_root, ["sex", "race"])
    assert data.group_names[-1] == "Male & White"
    assert len(data.group_names) == 4
    for code, group in enumerate(data.group_names):
        chosen = data.y[data.group == code]
        key = tuple(group.split(" & "))
        assert (len(chosen), int(chosen.sum())) == (rows[key], positive[key])


def test_communities_groups_counted_by_hand(data_root: Path) -> None:
    names = ("Black", "White", "Asian", "Hispanic")
    expected: Counter[str] = Counter()
    with (data_root / "communities/communities.data").open() as file:
        for row in csv.reader(file):
            if row[30] != "?":
                shares = [float(row[column]) for column in (7, 8, 9, 10)]
                expected[names[shares.index(max(shares))]] += 1
    data = _all("communities", data_root)
    found = {name: int((data.group == code).sum()) for code, name in enumerate(data.group_names)}
    assert found == dict(expected)
    assert data.group_names[-1] == "White"
    assert sum(found.values()) == 1_993
    blind = _all("communities", data_root, include_sensitive=False)
    assert not any("race" in column.lower() for column in blind.feature_names)


def test_acs_codes_counted_by_hand(data_root: Path) -> None:
    raw = pd.read_parquet(data_root / "acs/ACSIncome.parquet")
    data = _all("acs_income", data_root, "age")
    column = data.feature_names.index
    assert data.group_names == ("under 40", "40 and over")
    assert int(data.group.sum()) == int((raw["AGEP"] >= 40).sum())
    # The edges of the ranges: first and last codes of a few groups in the Census' dictionary.
    for name, low, high in (
        ("occupation=management", 10, 440),
        ("occupation=computer and mathematics", 1005, 1240),
        ("occupation=healthcare support", 3601, 3655),
        ("occupation=military", 9800, 9830),
    ):
        assert int(data.x[:, column(name)].sum()) == int(raw["OCCP"].between(low, high).sum())
    born = raw["POBP"]
    # Armenia, Azerbaijan and Georgia count as Asia; Mexico (303) as Latin America.
    asia = born.between(200, 299) | born.isin([158, 159, 161])
    assert int(data.x[:, column("birthplace=Asia")].sum()) == int(asia.sum())
    latin = born.between(310, 399) | (born == 303)
    assert int(data.x[:, column("birthplace=Latin America")].sum()) == int(latin.sum())
    assert int(data.x[:, column("birthplace=US state")].sum()) == int((born < 60).sum())
    assert int(data.x[:, column("sex")].sum()) == int((raw["SEX"] == 1).sum())
    assert int(data.y.sum()) == int(raw["PINCP"].sum())
    race = _all("acs_income", data_root, "race")
    rates = {
        name: round(float(race.y[race.group == code].float().mean()), 6)
        for code, name in enumerate(race.group_names)
    }
    by_code = raw.groupby("RAC1P")["PINCP"].mean().round(6)
    assert rates["White"] == pytest.approx(by_code[0], abs=2e-6)
    assert rates["Asian"] == pytest.approx(by_code[5], abs=2e-6)
    assert len(rates) == 9


def test_compas_positive_is_a_new_charge(data_root: Path) -> None:
    with (data_root / "compas/compas-scores-two-years.csv").open() as file:
        rows = list(csv.reader(file))
    column = {name: rows[0].index(name) for name in rows[0]}
    kept = [
        row
        for row in rows[1:]
        if row[column["days_b_screening_arrest"]]
        and abs(int(row[column["days_b_screening_arrest"]])) <= 30
        and row[column["c_charge_desc"]]
    ]
    data = _all("compas", data_root, "race")
    assert len(kept) == len(data)
    for code, white in enumerate((False, True)):
        group = [row for row in kept if (row[column["race"]] == "Caucasian") == white]
        assert len(group) == int((data.group == code).sum())
        assert sum(int(row[-1]) for row in group) == int(data.y[data.group == code].sum())


def test_the_parts_know_the_label_that_is_good_for_a_person(data_root: Path) -> None:
    assert {d.name for d in datasets.ALL if d.favourable == 0} == {"compas", "communities"}
    for name, favourable in {"compas": 0, "communities": 0, "german": 1}.items():
        splits = datasets.load(name, root=data_root)
        parts = (splits.train, splits.valid, splits.test[:5])
        assert [part.favourable for part in parts] == [favourable] * 3
    assert datasets.load("communities", root=data_root, target="regression").test.favourable == 1


@pytest.mark.parametrize("attribute", ["B", "LSTAT"])
def test_boston_cuts_are_the_medians(data_root: Path, attribute: str) -> None:
    raw = pd.read_csv(data_root / "boston/boston.csv")
    data = _all("boston", data_root, attribute)
    high = raw[attribute] >= raw[attribute].median()
    privileged = high if attribute == "B" else ~high
    assert int(data.group.sum()) == int(privileged.sum())
    assert 0.45 < privileged.mean() < 0.55
    assert int(data.y.sum()) == int((raw["MEDV"] > raw["MEDV"].median()).sum())
    assert "PTRATIO" in data.feature_names
    other = "LSTAT" if attribute == "B" else "B"
    assert data.x[:, data.feature_names.index(other)].unique().numel() > 100


@pytest.mark.parametrize("attribute", ["B", "LSTAT"])
def test_boston_keeps_a_sensitive_number_if_asked(data_root: Path, attribute: str) -> None:
    raw = pd.read_csv(data_root / "boston/boston.csv")
    table = datasets.get("boston").frame(attribute, data_root, target="regression", cut=False)
    for name in (attribute, "MEDV"):
        assert table[name].tolist() == raw[name].tolist()
    cut = datasets.get("boston").frame(attribute, data_root, target="regression")
    assert cut[attribute].nunique() == 2


def test_boston_reads_the_right_spelling_too(data_root: Path, tmp_path: Path, cache: Path) -> None:
    text = (data_root / "boston/boston.csv").read_text()
    place = tmp_path / "boston/boston.csv"
    place.parent.mkdir()
    place.write_text(text.replace("PIRATIO", "PTRATIO"))
    with pytest.warns(UserWarning, match="not the published file"):
        data = _all("boston", tmp_path)
    assert torch.equal(data.x, _all("boston", data_root).x)


@pytest.mark.parametrize("name", ["boston", "communities"])
def test_regression_target(data_root: Path, name: str) -> None:
    data, binary = (_all(name, data_root, target=target) for target in ("regression", "binary"))
    assert data.y.dtype == torch.float32
    assert data.y.unique().numel() > 50
    threshold = datasets.get(name).threshold
    assert threshold == pytest.approx(float(np.median(data.y.numpy())))
    assert torch.equal((data.y > threshold).long(), binary.y)
    assert torch.equal(data.x, binary.x)


@pytest.mark.parametrize("name", SMALL)
def test_include_sensitive_false_drops_exactly_the_chosen(data_root: Path, name: str) -> None:
    for attribute in datasets.get(name).protected:
        full = _all(name, data_root, attribute)
        blind = _all(name, data_root, attribute, include_sensitive=False)
        kept = [
            i for i, column in enumerate(full.feature_names) if column.split("=")[0] != attribute
        ]
        assert 0 < len(kept) < len(full.feature_names)
        assert blind.feature_names == tuple(full.feature_names[i] for i in kept)
        assert torch.equal(blind.x, full.x[:, kept])
        assert torch.equal(blind.group, full.group)


@pytest.mark.parametrize("name", SMALL)
def test_two_groups_are_one_column_that_equals_the_group(data_root: Path, name: str) -> None:
    for attribute, protected in datasets.get(name).protected.items():
        data = _all(name, data_root, attribute)
        assert data.group_names[-1] == protected.privileged
        if len(data.group_names) == 2:
            column = data.x[:, data.feature_names.index(attribute)]
            assert torch.equal(column.long(), data.group)


def test_intersections(data_root: Path) -> None:
    data = _all("german", data_root, ["sex", "age"])
    sex, age = (_all("german", data_root, name) for name in ("sex", "age"))
    assert data.group_names[-1] == "Male & over 25"
    assert torch.equal(data.x, sex.x)
    for code, name in enumerate(data.group_names):
        one, two = (part in ("Male", "over 25") for part in name.split(" & "))
        assert torch.equal(data.group == code, (sex.group == one) & (age.group == two))
    blind = _all("german", data_root, ("sex", "age"), include_sensitive=False)
    assert len(blind.feature_names) == 56


def test_scaled_on_the_training_part_only(data_root: Path) -> None:
    splits = datasets.load("german", root=data_root)
    raw = datasets.load("german", root=data_root, scale=False)
    i = splits.train.feature_names.index("credit_amount")
    train = raw.train.x[:, i].double()
    expected = (raw.test.x[:, i].double() - train.mean()) / train.std(unbiased=False)
    assert torch.allclose(splits.test.x[:, i].double(), expected, atol=1e-5)
    assert abs(float(splits.train.x[:, i].mean())) < 1e-5
    assert abs(float(splits.test.x[:, i].mean())) > 1e-3
    assert set(splits.train.x[:, splits.train.feature_names.index("sex")].tolist()) == {0, 1}


def test_seed_decides_the_split_and_parts_are_disjoint() -> None:
    one, same, other = (datasets.load("synthetic", n=500, seed=s) for s in (3, 3, 4))
    for mine, twin in zip(_parts(one), _parts(same), strict=True):
        assert torch.equal(mine.x, twin.x)
        assert torch.equal(mine.y, twin.y)
    assert not torch.equal(one.train.x, other.train.x)
    rows = torch.cat([part.x for part in _parts(one)])
    assert len(torch.unique(rows, dim=0)) == 500


def test_split_of_a_file_depends_on_the_seed_only(data_root: Path) -> None:
    one, same, other = (datasets.load("german", root=data_root, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.test.x, same.test.x)
    assert not torch.equal(one.test.x, other.test.x)
    whole = _sorted(_all("german", data_root).x.numpy())
    raw = datasets.load("german", root=data_root, scale=False)
    together = torch.cat([part.x for part in _parts(raw)]).numpy()
    assert np.array_equal(_sorted(together), whole)


def test_privileged_can_be_chosen(data_root: Path) -> None:
    data = _all("compas", data_root, "sex", privileged="Male")
    assert data.group_names == ("Female", "Male")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adlut"}, "unknown data set 'adlut': did you mean 'adult'"),
        (
            {"name": "adult", "sensitive": "sexx"},
            "unknown sensitive attribute of adult 'sexx': did you mean 'sex'",
        ),
        ({"name": "adult", "sensitive": []}, "one or more different sensitive attributes, got"),
        ({"name": "adult", "sensitive": ["sex", "sex"]}, "different sensitive attributes"),
        ({"name": "adult", "target": "regression"}, "unknown option of adult 'target'"),
        ({"name": "adult", "size": 64}, "unknown option of adult 'size'"),
        ({"name": "utkface", "scale": False}, "unknown option of utkface 'scale'"),
        ({"name": "synthetic", "rows": 3}, "unknown option of synthetic 'rows'"),
        ({"name": "boston", "target": "multi"}, "unknown target 'multi'"),
        ({"name": "synthetic", "n": 5}, "at least 100, got 5"),
        ({"name": "synthetic", "n": 1e3}, "at least 100, got 1000.0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        datasets.load(**arguments)
