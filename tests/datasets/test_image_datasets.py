"""The data sets of faces against their raw files; images for CelebA are made here."""

from __future__ import annotations

import csv
import gzip
import io
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import retrofair as rf
from retrofair import datasets
from retrofair.data import GroupedData, StreamedData
from retrofair.errors import InputError, MissingFileError, RetrofairWarning

UTKFACE = "utkface/utkface_64x64.zip"
RACES = ("White", "Black", "Asian", "Indian", "Other")


def parts(splits: rf.Splits[Any]) -> list[Any]:
    return [splits.train, splits.valid, splits.test]


def names(data: StreamedData) -> list[str]:
    return [data.rows.files[row] for row in data.index.tolist()]


# --- UTKFace --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(data_root: Path) -> dict[str, tuple[int, int, int]]:
    """Age, gender and race of every face that is no copy, as its own name says."""
    with zipfile.ZipFile(data_root / UTKFACE) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"))))
    kept = [row["file"] for row in rows if not row["duplicate_of"]]
    told = [n.split("_") for n in kept]
    ages = [(int(age), int(gender), int(race)) for age, gender, race, *_ in told]
    return {f"img/{name}": three for name, three in zip(kept, ages, strict=True)}


def test_utkface_labels_and_groups_are_those_in_the_names(
    data_root: Path, faces: dict[str, tuple[int, int, int]]
) -> None:
    splits = datasets.load("utkface", root=data_root, seed=3)
    assert [len(part) for part in parts(splits)] == [13_988, 4_663, 4_663]
    assert sorted(name for part in parts(splits) for name in names(part)) == sorted(faces)
    for part in parts(splits):
        assert isinstance(part, StreamedData)
        assert part.notes == ()
        assert part.group_names == ("Asian", "Black", "Indian", "Other", "White")
        for name, y, group in zip(names(part), part.y.tolist(), part.group.tolist(), strict=True):
            age, _, race = faces[name]
            assert y == (age <= 30)
            assert part.group_names[group] == RACES[race]
    assert splits.train.rows is splits.test.rows


def test_utkface_has_no_copies(data_root: Path, faces: dict[str, tuple[int, int, int]]) -> None:
    with zipfile.ZipFile(data_root / UTKFACE) as archive:
        sizes = {i.filename: (i.file_size, i.CRC) for i in archive.infolist()}
    assert len({sizes[name] for name in faces}) == len(faces) == 23_314


def test_utkface_pixels(data_root: Path) -> None:
    data = datasets.load("utkface", root=data_root, mean=(0, 0, 0), std=(1, 1, 1)).test[:20]
    with zipfile.ZipFile(data_root / UTKFACE) as archive:
        for x, name in zip(data.x, names(data), strict=True):
            image = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            assert image.shape == (64, 64, 3)
            assert np.allclose(x.numpy().transpose(1, 2, 0) * 255, image, atol=1e-4)
    small = datasets.load("utkface", root=data_root, size=16, batch_rows=8).test[:20]
    assert [tuple(x.shape) for x, _, _ in small] == [(8, 3, 16, 16), (8, 3, 16, 16), (4, 3, 16, 16)]


def test_utkface_targets_and_groups(
    data_root: Path, faces: dict[str, tuple[int, int, int]]
) -> None:
    def load(*args: Any, **options: Any) -> StreamedData:
        return datasets.load("utkface", *args, root=data_root, parts=(0, 0, 1), **options).test

    told = np.array([faces[name] for name in names(load())])
    age, gender, race = told.T
    white = load("race", target="gender", others=True)
    assert white.group_names == ("non-White", "White")
    assert white.y.tolist() == (gender == 1).tolist()
    assert white.group.tolist() == (race == 0).astype(int).tolist()
    number = load("gender", target="age")
    assert number.y.tolist() == age.tolist()
    assert number.group_names == ("Female", "Male")
    assert number.group.tolist() == (gender == 0).astype(int).tolist()
    old = load("age", target="gender")
    assert old.group_names == ("40 and over", "under 40")
    assert old.group.tolist() == (age < 40).astype(int).tolist()
    both = load(["race", "gender"], threshold=50, others=True)
    assert both.group_names[-1] == "White & Male"
    assert len(both.group_names) == 4
    assert both.y.tolist() == (age <= 50).tolist()
    assert len(load(["race", "gender"]).group_names) == 10
    assert age.min() == 1


def test_utkface_takes_other_images(data_root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data_root / UTKFACE) as archive:
        chosen = archive.namelist()[1:2000:40]
        for name in chosen:
            (tmp_path / Path(name).name).write_bytes(archive.read(name))
    with pytest.warns(RetrofairWarning, match="left out .* of 23,314 rows without an image"):
        splits = datasets.load(
            "utkface", root=data_root, images=tmp_path, on_error="skip", others=True
        )
    assert 0 < sum(map(len, parts(splits))) <= 50
    with pytest.raises(InputError, match="are not there"):
        datasets.load("utkface", root=data_root, images=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "yuong"}, "unknown target 'yuong': did you mean 'young'"),
        ({"sensitive": "age"}, "sensitive attribute other than 'age', which target='young'"),
        ({"sensitive": ["race", "gender"], "target": "gender"}, "other than 'gender'"),
        ({"threshold": 0}, "threshold from 1 to 115 years, got 0"),
        ({"threshold": 116}, "threshold from 1 to 115 years, got 116"),
    ],
)
def test_utkface_wrong_options(data_root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        datasets.load("utkface", root=data_root, **options)


def test_absent_file_says_where_it_is_had_from(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(MissingFileError) as error:
        datasets.load("utkface", root=tmp_path)
    text = str(error.value)
    assert "from the authors of UTKFace; the zip holds img/NAME" in text
    assert " nor at " not in text
    assert f"put it at {UTKFACE} below a folder" in text


def test_a_network_of_images_is_audited_and_debiased(data_root: Path) -> None:
    splits = datasets.load("utkface", root=data_root, size=8, others=True)
    valid, test = splits.valid[:300], splits.test[:300]
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))
    result = rf.debias(net, valid, rf.Constrained("spd", epsilon=0.1), "threshold")
    streamed, held = rf.audit(result, test), rf.audit(result, test.read())
    assert streamed["spd"].value == pytest.approx(held["spd"].value)


# --- CelebA ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(data_root: Path) -> pd.DataFrame:
    """Attributes, part and scores of every image, read apart from the library."""
    with zipfile.ZipFile(data_root / "celeba/list_attr_celeba01.csv.zip") as archive:
        table = pd.read_csv(archive.open("list_attr_celeba01.csv"))
    with gzip.open(data_root / "celeba/list_eval_partition.csv.gz", "rt") as file:
        part = {row[0]: int(row[1]) for row in list(csv.reader(file))[1:]}
    return table.assign(
        part=table["image_id"].map(part),
        dark=np.load(data_root / "celebrace/fitz_dark.npy"),
        light=np.load(data_root / "celebrace/fitz_light.npy"),
    )


def test_celeba_skin_and_official_parts(data_root: Path, raw: pd.DataFrame) -> None:
    splits = datasets.load("celeba", root=data_root)
    sure = raw[(raw["dark"] > 0.7) ^ (raw["light"] > 0.7)]
    for code, part in enumerate(parts(splits)):
        expected = sure[sure["part"] == code]
        assert isinstance(part, GroupedData)
        assert part.group_names == ("Dark", "Light")
        assert part.group.tolist() == (expected["light"] > 0.7).astype(int).tolist()
        assert part.y.tolist() == expected["Smiling"].tolist()
        others = [c for c in raw.columns[1:41] if c != "Smiling"]
        assert part.feature_names == (*others, "skin")
        assert np.array_equal(part.x[:, :-1].numpy(), expected[others].to_numpy(np.float32))
        assert part.x[:, -1].tolist() == part.group.tolist()


def test_celeba_other_targets_and_groups(data_root: Path, raw: pd.DataFrame) -> None:
    splits = datasets.load("celeba", ["Male", "Chubby"], data_root, target="Young")
    assert [len(part) for part in parts(splits)] == [162_770, 19_867, 19_962]
    names = ("Female & Chubby", "Female & not Chubby", "Male & not Chubby", "Male & Chubby")
    test = raw[raw["part"] == 2]
    assert splits.test.group_names == names
    assert splits.test.y.tolist() == test["Young"].tolist()
    for code, name in enumerate(names):
        male, chubby = name.startswith("Male"), "not" not in name
        wanted = (test["Male"] == male) & (test["Chubby"] == chubby)
        assert int((splits.test.group == code).sum()) == int(wanted.sum())
    assert "skin" not in splits.test.feature_names
    blind = datasets.load("celeba", "Male", data_root, include_sensitive=False)
    assert len(blind.test.feature_names) == 38


def test_celeba_rows_and_parts(data_root: Path) -> None:
    def load(seed: int, **options: Any) -> rf.Splits[Any]:
        return datasets.load("celeba", "skin", data_root, seed=seed, **options)

    some = {"rows": (2000, None, 500)}
    one, same, other = load(1, **some), load(1, **some), load(2, **some)
    assert [len(part) for part in parts(one)] == [2000, 13_933, 500]
    assert torch.equal(one.train.x, same.train.x)
    assert not torch.equal(one.train.x, other.train.x)
    assert torch.equal(one.valid.x, other.valid.x)
    mixed = load(1, parts=(0.5, 0.5, 0))
    assert [len(part) for part in parts(mixed)] == [67_086, 67_087, 0]
    for rows, message in (((1, 2), "None for all"), ((10**6, 1, 1), "at most 107,520 rows")):
        with pytest.raises(InputError, match=message):
            load(0, rows=rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "Smilling"}, "unknown target 'Smilling': did you mean 'Smiling'"),
        ({"sensitive": "Smiling"}, "sensitive attribute other than 'Smiling'"),
        ({"size": 32}, "size= is an option of images: name them with images="),
        ({"images": ".", "scale": False}, "scale= is an option of a table"),
    ],
)
def test_celeba_wrong_options(data_root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        datasets.load("celeba", root=data_root, **options)


def test_celeba_scores_are_asked_for_only_with_skin(
    data_root: Path, tmp_path: Path, cache: Path
) -> None:
    shutil.copytree(data_root / "celeba", tmp_path / "celeba")
    assert len(datasets.load("celeba", "Male", tmp_path).test) == 19_962
    with pytest.raises(MissingFileError, match=r"celebrace/fitz_dark\.npy"):
        datasets.load("celeba", "skin", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_celeba_images_by_their_names(
    data_root: Path, raw: pd.DataFrame, tmp_path: Path, packed: bool
) -> None:
    sure = raw[(raw["dark"] > 0.7) ^ (raw["light"] > 0.7)]
    dark = sure["dark"] > 0.7
    some = [sure[(sure["part"] == p) & (dark == d)][:8] for p in range(3) for d in (False, True)]
    rows = pd.concat(some).set_index("image_id")
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    for number, name in enumerate(rows.index):  # as large as CelebA's own, one shade of grey each
        Image.new("RGB", (178, 218), (5 * number,) * 3).save(folder / name)
    place = tmp_path / "img_align_celeba.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for name in rows.index:
            archive.write(folder / name, f"img_align_celeba/{name}")
    with pytest.warns(RetrofairWarning):
        splits = datasets.load(
            "celeba",
            root=data_root,
            images=place if packed else folder,
            on_error="skip",
            size=32,
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
    seen: Counter[str] = Counter()
    for code, part in enumerate(parts(splits)):
        assert isinstance(part, StreamedData)
        shades = (part.x[:, 0, 16, 16] * 255 / 5).round().int().tolist()
        for shade, y, group in zip(shades, part.y.tolist(), part.group.tolist(), strict=True):
            row = rows.iloc[shade]
            assert row["part"] == code
            assert y == row["Smiling"]
            assert part.group_names[group] == ("Dark" if row["dark"] > 0.7 else "Light")
            seen[rows.index[shade]] += 1
    assert dict(seen) == dict.fromkeys(rows.index, 1)
