"""Images as rows: pixels against Pillow and a formula, memory, worker processes, broken files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import of_array, picture, put

from retrofair.data import ImageRows, StreamedData, image_files
from retrofair.data.images import MEAN, STD
from retrofair.errors import InputError, MissingFileError

COLOURS = [(255, 0, 0), (0, 128, 0), (10, 20, 30), (200, 100, 50), (1, 2, 3)]
NAMES = tuple(f"a/{k}.png" for k in range(len(COLOURS)))


def source(tmp_path: Path, packed: bool = False) -> Path:
    return put(tmp_path, {n: picture(c) for n, c in zip(NAMES, COLOURS, strict=True)}, packed)


def rows(place: Path, **options) -> ImageRows:
    n = len(COLOURS)
    given = {"files": NAMES, "y": torch.arange(n) % 2, "group": torch.arange(n) // 3, "size": 8}
    return ImageRows(source=place, **{**given, **options})


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_a_batch_is_the_formula(tmp_path: Path, packed: bool, keep: bool) -> None:
    made = rows(source(tmp_path, packed), keep=keep)
    for index in ([3, 0, 3], [1, 2, 4, 0]):
        for _ in range(2):  # from the file, and where kept, from memory
            x, y, group = made.batch(torch.tensor(index))
            assert x.shape == (len(index), 3, 8, 8)
            assert x.dtype == torch.float32
            for row, k in enumerate(index):
                for c in range(3):
                    expected = (COLOURS[k][c] / 255 - MEAN[c]) / STD[c]
                    assert torch.allclose(x[row, c], torch.tensor(expected))
            assert y.tolist() == [k % 2 for k in index]
            assert group.tolist() == [k // 3 for k in index]


def test_mean_and_std_are_options(tmp_path: Path) -> None:
    x, _, _ = rows(source(tmp_path), mean=(0, 0, 0), std=(1, 1, 0.5)).batch(torch.tensor([2]))
    assert np.allclose(x[0, :, 0, 0].numpy(), [10 / 255, 20 / 255, 60 / 255])


@pytest.mark.parametrize("size", [None, 4])
def test_grey_images_are_the_luma_of_the_colours(tmp_path: Path, size: int | None) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    shade = values[..., 0]
    place = put(tmp_path, {"a.png": of_array(values), "b.png": of_array(shade)}, False)
    given = {"source": place, "files": ("a.png", "b.png"), "size": size}
    given |= {"y": torch.zeros(2), "group": torch.zeros(2)}
    made = ImageRows(**given, channels=1, mean=(0.5,), std=(0.25,))
    x, _, _ = pickle.loads(pickle.dumps(made)).batch(torch.arange(2))
    assert x.shape == (2, 1, 4, 4)
    pixels = (x[:, 0] * 0.25 + 0.5) * 255
    luma = torch.from_numpy(values @ np.array([0.299, 0.587, 0.114])).float()
    assert (pixels[0] - luma).abs().max() < 0.51
    assert torch.allclose(pixels[1], torch.from_numpy(shade).float(), atol=1e-3)  # as it was
    usual = ImageRows(**given, channels=1)
    assert usual.mean == pytest.approx((sum(MEAN) / 3,))
    assert usual.std == pytest.approx((sum(STD) / 3,))
    assert usual.identity() != ImageRows(**given).identity()


def test_one_row_is_a_row_of_a_batch(tmp_path: Path) -> None:
    made = rows(source(tmp_path))
    x, y, group = made[3]
    assert torch.equal(x, made.batch(torch.tensor([3]))[0][0])
    assert (int(y), int(group)) == (1, 1)
    assert torch.equal(made[-1][0], made[4][0])
    with pytest.raises(IndexError):
        made[5]


def test_the_shorter_side_is_resized_and_the_centre_cut_out(tmp_path: Path) -> None:
    # 40 wide, 20 high: red, then 20 columns of green, then blue; at half the size the green stays
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10, 0], pixels[:, 10:30, 1], pixels[:, 30:, 2] = 255, 255, 255
    place = put(tmp_path, {"wide.png": of_array(pixels)}, False)
    one = {"y": torch.zeros(1), "group": torch.zeros(1), "files": ("wide.png",)}
    made = rows(place, **one, size=10)
    (found,) = made.pixels(np.array([0]))
    assert found.shape == (3, 10, 10)
    assert (found[1, :, 2:-2] == 255).all()
    assert (found[0, :, 2:] < 20).all()
    assert (found[2, :, :-2] < 20).all()


def test_an_image_of_the_right_size_is_not_touched(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    place = put(tmp_path, {"noise.png": of_array(pixels)}, False)
    made = rows(place, files=("noise.png",), y=torch.zeros(1), group=torch.zeros(1))
    assert np.array_equal(made.pixels(np.array([0]))[0].transpose(1, 2, 0), pixels)
    odd = rows(place, files=("noise.png",), y=torch.zeros(1), group=torch.zeros(1), size=7)
    assert odd.pixels(np.array([0])).shape == (1, 3, 7, 7)


def test_without_a_size_images_are_as_they_are_and_of_one_shape(tmp_path: Path) -> None:
    files = {"one.png": picture((9, 9, 9), (6, 4)), "two.png": picture((9, 9, 9), (5, 4))}
    place = put(tmp_path, files, True)
    two = {"y": torch.zeros(2), "group": torch.zeros(2), "files": tuple(files), "size": None}
    made = rows(place, **two)
    assert made.batch(torch.tensor([0]))[0].shape == (1, 3, 4, 6)
    with pytest.raises(InputError, match=r"two\.png.*height and width \[4, 5\].*size="):
        made.batch(torch.tensor([1]))


def test_kept_images_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    true = image_files.ImageFiles.read

    def counted(self: image_files.ImageFiles, name: str) -> bytes:
        read.append(name)
        return true(self, name)

    monkeypatch.setattr(image_files.ImageFiles, "read", counted)
    made = rows(source(tmp_path))
    assert "kept" in repr(made)
    for _ in range(3):
        made.batch(torch.arange(5))
    assert sorted(read) == sorted(NAMES)
    loose = rows(source(tmp_path), keep=False)
    for _ in range(3):
        loose.batch(torch.tensor([0, 0, 1]))
    assert len(read) == 5 + 3 * 2


def test_images_are_kept_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrofair.data.images.KEPT_BYTES", 5 * 3 * 8 * 8)
    assert "each pass" in repr(rows(source(tmp_path)))
    assert "kept" in repr(rows(source(tmp_path), size=7))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_worker_processes_read_the_same(tmp_path: Path, packed: bool, keep: bool) -> None:
    made = rows(source(tmp_path, packed), keep=keep)
    made.batch(torch.tensor([0]))  # a handle is open before the workers start
    data = StreamedData.of(made, ("f", "m"), batch_rows=2, workers=2)
    alone = StreamedData.of(rows(made.source), ("f", "m"))
    for _ in range(2):
        assert torch.equal(data.x, alone.x)
    if keep:  # what the workers decoded is there for all
        assert made._kept is not None
        assert made._kept.there.all()


def test_it_pickles_without_what_it_decoded(tmp_path: Path) -> None:
    made = rows(source(tmp_path, True))
    before = len(pickle.dumps(made))
    x, _, _ = made.batch(torch.arange(5))
    packed = pickle.dumps(made)
    assert len(packed) == before
    assert torch.equal(pickle.loads(packed).batch(torch.arange(5))[0], x)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["empty", "text", "cut", "absent"])
def test_a_broken_image_is_named(tmp_path: Path, packed: bool, kind: str) -> None:
    noise = of_array(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    content = {"empty": b"", "text": b"<html>no</html>", "cut": noise[:600]}
    files = {"good.png": noise} | ({} if kind == "absent" else {"bad.png": content[kind]})
    place = put(tmp_path, files, packed)
    two = {"y": torch.zeros(2), "group": torch.zeros(2), "files": ("good.png", "bad.png")}
    made = rows(place, **two)
    assert made.batch(torch.tensor([0]))[0].shape == (1, 3, 8, 8)
    with pytest.raises(InputError, match=r"expected an image in 'bad\.png' of .*on_error") as error:
        made.batch(torch.tensor([0, 1]))
    assert "\n" not in str(error.value)
    assert " object at 0x" not in str(error.value)
    assert list(made.unreadable()) == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size to be a whole number of pixels or None, got 0"),
        ({"size": 8.0}, "size to be a whole number of pixels"),
        ({"mean": (0.5,)}, "three colours"),
        ({"channels": 2}, r"channels=3 \(RGB\), 1 \(grey\) or 'bgr', got 2"),
        ({"channels": 1, "mean": (0.5, 0.4, 0.3)}, "one channel"),
        ({"channels": 1, "std": (0.5, 0.4, 0.3)}, "one channel"),
        ({"std": (1, 1, 0)}, "std positive"),
        ({"y": torch.zeros(3)}, "of one length, got 5, 3 and 5"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows(source(tmp_path), **options)


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no .*nowhere"):
        rows(tmp_path / "nowhere")
    (tmp_path / "page.zip").write_bytes(b"<html>")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        rows(tmp_path / "page.zip")


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = rows(source(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(InputError, match=r"retrofair\[images\]"):
        made.batch(torch.tensor([0]))
