"""A folder or zip of images and a table: which rows, labels and groups come out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from picture_files import picture, put

import retrofair as rf
from retrofair.data import GroupedData, images_of, split_rows
from retrofair.errors import InputError, MissingFileError, RetrofairWarning

LABELS = pd.DataFrame(
    {
        "name": [f"{k}.png" for k in range(6)],
        "smiles": ["yes", "no", "yes", "no", "yes", "no"],
        "sex": ["F", "F", "F", "M", "M", "M"],
        "old": [0, 1, 0, 0, 1, 1],
        "mood": ["sad", "glad", "calm", "sad", "glad", "calm"],
    }
)


def images(tmp_path: Path, packed: bool = False, n: int = 6, below: str = "") -> Path:
    files = {f"{below}{k}.png": picture((40 * k, 0, 0), (4, 4)) for k in range(n)}
    return put(tmp_path, {**files, f"{below}about.txt": b"no image"}, packed)


def shade(data: rf.StreamedData) -> list[int]:
    """Which image each row is."""
    x, _, _ = data.rows.batch(data.index)
    return [round(v) for v in ((x[:, 0, 0, 0] * 0.229 + 0.485) * 255 / 40).tolist()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "faces/all/"])
def test_labels_groups_and_images_belong_together(tmp_path: Path, packed: bool, below: str) -> None:
    data = images_of(
        images(tmp_path, packed, below=below),
        LABELS.iloc[::-1],
        label="smiles",
        positive="yes",
        sensitive="sex",
        privileged="F",
        size=4,
    )
    assert shade(data) == [5, 4, 3, 2, 1, 0]
    assert data.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.group_names == ("M", "F")
    assert data.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.notes == ()


def test_a_csv_and_intersections(tmp_path: Path) -> None:
    LABELS.to_csv(tmp_path / "labels.csv", index=False)
    data = images_of(
        images(tmp_path),
        tmp_path / "labels.csv",
        label="smiles",
        positive="yes",
        sensitive=["sex", "old"],
        privileged=["M", 0],
        file="name",
        size=None,
        batch_rows=4,
    )
    assert data.group_names == ("F & 0", "F & 1", "M & 1", "M & 0")
    assert data.group.tolist() == [0, 1, 0, 3, 2, 2]
    assert [len(y) for _, y, _ in data] == [4, 2]


def test_three_values_are_classes(tmp_path: Path) -> None:
    with pytest.warns(RetrofairWarning, match="privileged group"):
        data = images_of(images(tmp_path), LABELS, label="mood", sensitive="sex", size=4)
    assert data.y.tolist() == [2, 1, 0, 2, 1, 0]
    assert data.y.dtype == torch.int64
    assert data.notes[0] == "classes of 'mood': 0 = calm, 1 = glad, 2 = sad"
    one = images_of(images(tmp_path), LABELS, label="mood", positive="sad", sensitive="old", size=4)
    assert one.y.tolist() == [1, 0, 0, 1, 0, 0]


def test_a_number_as_label(tmp_path: Path) -> None:
    table = LABELS.assign(age=[1.5, 2, 3, 4, 5, 6])
    data = images_of(images(tmp_path), table, label="age", sensitive="old", regression=True, size=4)
    assert data.y.tolist() == table["age"].tolist()
    assert data.y.dtype == torch.float32


def test_the_rules_are_those_of_a_table(tmp_path: Path) -> None:
    table = LABELS.assign(smiles=[None, "no", "yes", "no", "yes", "no"])
    table.loc[4, "sex"] = None
    with pytest.warns(RetrofairWarning) as ours:
        data = images_of(
            images(tmp_path), table, label="smiles", positive="yes", sensitive="sex", size=4
        )
    with pytest.warns(RetrofairWarning) as theirs:
        same = GroupedData.from_frame(
            table.drop(columns="name"), label="smiles", positive="yes", sensitive="sex"
        )
    assert shade(data) == [1, 2, 3, 5]
    assert data.y.tolist() == same.y.tolist()
    assert data.group.tolist() == same.group.tolist()
    assert data.group_names == same.group_names
    assert data.notes == same.notes
    assert [str(w.message) for w in ours] == [str(w.message) for w in theirs]


def test_absent_images_are_one_error_or_a_note(tmp_path: Path) -> None:
    place = images(tmp_path, n=4)
    given = {"label": "smiles", "positive": "yes", "sensitive": "old", "size": 4}
    with pytest.raises(InputError, match=r"of 6 rows .*but 2 are not there: 4\.png, 5\.png; put"):
        images_of(place, LABELS, **given)
    with pytest.warns(RetrofairWarning, match=r"left out 2 of 6 rows without an image"):
        data = images_of(place, LABELS, **given, on_error="skip")
    assert shade(data) == [0, 1, 2, 3]
    assert data.y.tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match="but 2 are not there"):
        images_of(place, LABELS[4:], **given, file="name", on_error="skip")


def test_images_without_a_row_are_noted(tmp_path: Path) -> None:
    given = {"label": "smiles", "positive": "yes", "sensitive": "old", "size": 4}
    with pytest.warns(RetrofairWarning, match=r"ignored 1 images without a label: 5\.png$"):
        data = images_of(images(tmp_path), LABELS[:5], **given)
    assert len(data) == 5
    assert data.notes == ("ignored 1 images without a label: 5.png",)


@pytest.mark.parametrize("keep", [False, True])
def test_broken_images_are_skipped_and_said(tmp_path: Path, keep: bool) -> None:
    place = images(tmp_path)
    (place / "2.png").write_bytes(b"")
    given = {"label": "smiles", "positive": "yes", "sensitive": "sex", "privileged": "M", "size": 4}
    with pytest.warns(RetrofairWarning, match=r"left out 1 of 6 rows .*cannot be read: 2\.png"):
        data = images_of(place, LABELS, **given, on_error="skip", keep=keep)
    assert shade(data) == [0, 1, 3, 4, 5]
    assert data.y.tolist() == [1, 0, 0, 1, 0]
    assert data.group.tolist() == [0, 0, 1, 1, 1]
    for x, y, group in data:
        assert len(x) == len(y) == len(group) == 5
        assert torch.equal(y, data.y)
    with pytest.raises(InputError, match=r"2\.png"):
        list(images_of(place, LABELS, **given))
    for k in range(6):
        (place / f"{k}.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of 6 can be read"):
        images_of(place, LABELS, **given, on_error="skip")


def test_the_column_of_names_is_found_or_asked_for(tmp_path: Path) -> None:
    table = LABELS.drop(columns="name").assign(other="x.png")
    with pytest.raises(InputError, match=r"column with names of the images.*'0\.png'.*file="):
        images_of(images(tmp_path), table, label="old", sensitive="sex")
    with pytest.raises(InputError, match="unknown column 'nam'"):
        images_of(images(tmp_path), LABELS, label="old", sensitive="sex", file="nam")


def test_two_images_of_one_name_need_their_folder(tmp_path: Path) -> None:
    files = {f"{below}/1.png": picture((0, 0, 0), (4, 4)) for below in "ab"}
    place = put(tmp_path, files, True)
    table = pd.DataFrame({"name": ["a/1.png", "b/1.png"], "y": [0, 1], "g": ["f", "m"]})
    data = images_of(place, table, label="y", sensitive="g", privileged="m", size=4)
    assert data.rows.files == ("a/1.png", "b/1.png")
    short = table.assign(name="1.png")
    with pytest.raises(InputError, match=r"2 of 2 rows whose name fits.*1\.png both a/1.* and b/1"):
        images_of(place, short, label="y", sensitive="g", file="name", size=4)


def test_other_wrong_input(tmp_path: Path) -> None:
    place = images(tmp_path)
    with pytest.raises(InputError, match="on_error"):
        images_of(place, LABELS, label="old", sensitive="sex", on_error="ignore")
    with pytest.raises(MissingFileError, match=r"no file .*labels\.csv"):
        images_of(place, tmp_path / "labels.csv", label="old", sensitive="sex")
    with pytest.raises(InputError, match="0/1 label"):
        images_of(place, LABELS, label="smiles", sensitive="sex")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        images_of(tmp_path / "empty", LABELS, label="old", sensitive="sex")


# --- splitting ------------------------------------------------------------------------------------


def rows(n: int = 100, rare: int = 0) -> GroupedData:
    group = torch.arange(n) % 2
    group[:rare] = 2
    names = ("f", "m") + (("x",) if rare else ())
    return GroupedData(
        x=torch.arange(n)[:, None].float(),
        y=torch.arange(n) // 2 % 2,
        group=group,
        group_names=names,
    )


def test_parts_are_a_partition_by_the_seed() -> None:
    data = rows()
    one, same, other = (split_rows(data, seed) for seed in (3, 3, 4))
    assert [len(part) for part in (one.train, one.valid, one.test)] == [60, 20, 20]
    together = torch.cat([part.x[:, 0] for part in (one.train, one.valid, one.test)])
    assert sorted(together.tolist()) == list(range(100))
    assert torch.equal(one.test.x, same.test.x)
    assert not torch.equal(one.test.x, other.test.x)
    half = split_rows(data, 0, (0.5, 0.5, 0))
    assert (len(half.train), len(half.valid), len(half.test)) == (50, 50, 0)
    with pytest.raises(InputError, match="three shares"):
        split_rows(data, 0, (0.5, 0.5, 0.5))


def test_streamed_rows_split_like_others(tmp_path: Path) -> None:
    data = images_of(
        images(tmp_path), LABELS, label="smiles", positive="yes", sensitive="old", size=4
    )
    with pytest.warns(RetrofairWarning):
        parts = split_rows(data, 1, (0.5, 0.25, 0.25))
    assert sorted(shade(parts.train) + shade(parts.valid) + shade(parts.test)) == list(range(6))
    assert parts.train.rows is parts.test.rows  # decoded once for all


def test_groups_that_only_the_test_part_has_are_said() -> None:
    data = rows(400, rare=1)
    assert not data.y[0]
    seed = next(s for s in range(50) if 0 in split_where(data, s))
    with pytest.warns(RetrofairWarning) as caught:
        split_rows(data, seed)
    said = [str(w.message) for w in caught]
    assert len(said) == 2
    assert said[0].startswith("x: rows in the test part, and none in the training part")
    assert said[1].startswith("x: rows in the test part, and none in the validation part")


def test_a_groups_label_that_only_the_test_part_has_is_said() -> None:
    data = rows(rare=20)
    data.y[:20] = 0
    data.y[0] = 1
    seed = next(s for s in range(50) if 0 in split_where(data, s))
    with pytest.warns(RetrofairWarning, match="x with label 1: rows in the test part"):
        split_rows(data, seed)


def split_where(data: GroupedData, seed: int) -> list[float]:
    """The rows of the test part, whatever is warned about."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return split_rows(data, seed).test.x[:, 0].tolist()


GIVEN: dict = {"label": "smiles", "positive": "yes", "sensitive": "old", "size": 4}


@pytest.mark.parametrize("below", ["", "set/one/"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "before", ["/data/images/{}", "images/{}", "./{}", "x\\images\\{}", "C:\\me\\{}", ".\\{}"]
)
def test_names_as_people_have_them(tmp_path: Path, before: str, packed: bool, below: str) -> None:
    place = images(tmp_path, packed, below=below)
    inner = below.replace("/", "\\") if "\\" in before else below
    table = LABELS.assign(name=[before.format(f"{inner}{name}") for name in LABELS["name"]])
    data = images_of(place, table.iloc[::-1], **GIVEN)
    assert shade(data) == [5, 4, 3, 2, 1, 0]
    assert data.notes == ()


def test_the_longest_end_decides_and_a_whole_name_comes_first(tmp_path: Path) -> None:
    shades = {"1.png": 0, "a/1.png": 1, "b/a/1.png": 2, "c/2.png": 3}
    files = {name: picture((40 * k, 0, 0), (4, 4)) for name, k in shades.items()}
    table = LABELS.iloc[:5].assign(
        name=["1.png", "/x/a/1.png", "/x/b/a/1.png", "./c/2.png", "/gone/b/a/1.png"]
    )
    data = images_of(put(tmp_path, files, False), table.iloc[:4], **GIVEN)
    assert shade(data) == [0, 1, 2, 3]
    assert data.notes == ()
    files["d/2.png"] = files["c/2.png"]
    table = LABELS.iloc[:4].assign(name=["1.png", "a/1.png", "/x/e/2.png", "b/a/1.png"])
    place = put(tmp_path, files, False)
    with pytest.raises(InputError, match=r"1 of 4 rows whose.*/x/e/2\.png both c/2\.png and d/2"):
        images_of(place, table, **GIVEN)
    with pytest.warns(RetrofairWarning, match="left out 1 of 4 rows whose name fits several"):
        data = images_of(place, table, **GIVEN, on_error="skip", unlabelled=False)
    assert shade(data) == [0, 1, 2]


def test_another_folder_than_the_table_says_is_said(tmp_path: Path) -> None:
    table = LABELS.assign(name="train/" + LABELS["name"])
    place = images(tmp_path, below="test/")
    with pytest.warns(RetrofairWarning, match=r"found 6 images by the end.*train/0\.png as test/0"):
        data = images_of(place, table, **GIVEN)
    assert shade(data) == [0, 1, 2, 3, 4, 5]


def test_rows_that_say_the_same_of_an_image_are_merged(tmp_path: Path) -> None:
    # the same image under two names, and the column that nobody asked for may differ
    table = pd.concat([LABELS, LABELS.iloc[1:3].assign(name=["./1.png", "2.png"], sex="M")])
    with pytest.warns(RetrofairWarning, match=r"merged 2 of 8 rows .* again: 1\.png, 2\.png"):
        data = images_of(images(tmp_path), table, **GIVEN)
    assert shade(data) == [0, 1, 2, 3, 4, 5]
    assert len(data.notes) == 1


@pytest.mark.parametrize(("column", "value"), [("smiles", "yes"), ("old", 0)])
def test_rows_that_contradict_each_other_are_refused(
    tmp_path: Path, column: str, value: object
) -> None:
    table = pd.concat([LABELS, LABELS.iloc[1:2].assign(**{column: value})])
    for on_error in ("raise", "skip"):
        with pytest.raises(InputError, match=r"of 1 image rows .* 'smiles', 'old': 1\.png; leave"):
            images_of(images(tmp_path), table, **GIVEN, on_error=on_error)
    table.iloc[6, table.columns.get_loc(column)] = None  # dropped, as any row without a value
    with pytest.warns(RetrofairWarning, match="left out 1|dropped 1|1 of 7|1 row"):
        data = images_of(images(tmp_path), table, **GIVEN)
    assert shade(data) == [0, 1, 2, 3, 4, 5]
