"""How a network's folder wants its images, beside what transformers' own processors make."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import retrofair as rf
from retrofair.data import Fit, ImageRows
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.image_processor import processor_of

transformers = pytest.importorskip("transformers")
pil = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")


def folder_of(values: Any, root: Path, name: str = "preprocessor_config.json") -> Path:
    (root / name).write_text(values if isinstance(values, str) else json.dumps(values))
    return root


def ours(options: dict[str, Any], image: Image.Image, root: Path) -> torch.Tensor:
    content = io.BytesIO()
    image.save(content, "PNG")
    (root / "one.png").write_bytes(content.getvalue())
    rows = ImageRows(
        source=root, files=("one.png",), y=torch.zeros(1), group=torch.zeros(1), **options
    )
    return rows[0][0]


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


CROPPED = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}


TWENTY = {"size": {"shortest_edge": 20}}


def own(kind: str, values: dict[str, Any], root: Path) -> Any:
    """A folder with transformers' processor of this kind, and it."""
    found = getattr(transformers, f"{kind}ImageProcessorPil", None)
    if found is None:
        pytest.skip("this transformers has no processors that go without torchvision")
    theirs = found(**values)
    theirs.save_pretrained(root)
    return theirs


def pixels_of(processor: Any, image: Image.Image) -> torch.Tensor:
    return torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"]))[0]


@pytest.mark.parametrize("shape", [(40, 30), (16, 16), (30, 40), (20, 20)])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("ViT", {"size": {"height": 16, "width": 16}, "resample": 2}),
        ("ViT", {"size": {"height": 16, "width": 16}, "resample": 3, "do_rescale": False}),
        ("ViT", {"size": {"height": 16, "width": 16}, "do_normalize": False}),
        ("CLIP", {**CROPPED, "resample": 3}),
        ("ConvNext", {"size": {"shortest_edge": 16}, "crop_pct": 0.8, "resample": 2}),
        ("ConvNext", {"size": {"shortest_edge": 384}, "crop_pct": 0.8, "resample": 2}),
        ("PoolFormer", {**TWENTY, "crop_size": {"height": 20, "width": 20}, "crop_pct": 0.9}),
        (
            "PoolFormer",
            {"size": {"height": 20, "width": 20}, "crop_size": {"height": 20, "width": 20}},
        ),
        ("Levit", {**TWENTY, "crop_size": {"height": 20, "width": 20}}),
        ("MobileViT", {**CROPPED}),
        ("MobileViT", {**CROPPED, "do_flip_channel_order": False, "do_normalize": True}),
        ("EfficientNet", {"size": {"height": 16, "width": 16}, "image_std": [0.5, 0.4, 0.3]}),
        ("EfficientNet", {"size": {"height": 16, "width": 16}, "rescale_offset": True}),
        ("EfficientNet", {"size": {"height": 16, "width": 16}, "include_top": False}),
        ("EfficientNet", {"size": {"height": 16, "width": 16}, "do_normalize": False}),
        ("Beit", {"size": {"height": 16, "width": 16}}),
        ("Bit", {**CROPPED}),
        ("DeiT", {"size": {"height": 20, "width": 20}, "crop_size": {"height": 16, "width": 16}}),
        ("MobileNetV2", {**CROPPED}),
        ("Pvt", {"size": {"height": 16, "width": 16}}),
        ("Segformer", {"size": {"height": 16, "width": 16}}),
        ("Siglip", {"size": {"height": 16, "width": 16}}),
    ],
)
def test_the_same_pixels_as_transformers(kind: str, values: Any, shape: Any, tmp_path: Path):
    theirs = own(kind, values, tmp_path)
    options = rf.networks.image_options(tmp_path)  # which warns where a picture comes out otherwise
    image = noise(*shape)
    found, wanted = ours(options, image, tmp_path), pixels_of(theirs, image)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted.float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "config"),
    [
        # as older folders have it, without what goes without saying for that kind
        ({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.9}, {}),
        ({"size": 224, "do_normalize": True}, {"model_type": "resnet"}),
        ({"size": 32, "image_processor_type": "ViTImageProcessor"}, {}),
        ({"size": 40, "crop_size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}, {}),
    ],
)
def test_what_a_kind_of_processor_means_without_saying(
    values: Any, config: Any, tmp_path: Path
) -> None:
    folder_of(config, tmp_path, "config.json")
    options = rf.networks.image_options(folder_of(values, tmp_path))
    theirs = processor_of(tmp_path)
    assert theirs is not None
    image = noise(300, 260)
    wanted = pixels_of(theirs, image).float()
    assert torch.allclose(ours(options, image, tmp_path), wanted, atol=1e-4, rtol=1e-5)


def test_ways_of_its_own_are_said(tmp_path: Path) -> None:
    theirs = own("Perceiver", {"size": {"height": 16, "width": 16}}, tmp_path)
    with pytest.warns(RetrofairWarning, match=r"PerceiverImage\w+ of preproc.*in a way of its own"):
        options = rf.networks.image_options(tmp_path)
    image = noise(40, 30)
    wanted = pixels_of(theirs, image).float()
    apart = (ours(options, image, tmp_path) - wanted).abs().mean() / wanted.std()
    assert 0.1 < apart < 0.8  # on noise; it cuts before it resizes, and these would be 1.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rf.networks.image_options(tmp_path, size=24)  # which it does not speak of


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("ViT", {"size": {"height": 16, "width": 16}, "do_resize": False}),
        ("ConvNext", {"size": {"shortest_edge": 16}, "do_resize": False}),
        ("CLIP", {"size": {"shortest_edge": 16}, "do_center_crop": False}),
        ("Bit", {"size": {"shortest_edge": 16}, "do_center_crop": False}),
        ("TextNet", {"size": {"shortest_edge": 64}}),
    ],
)
def test_what_is_left_oblong_is_compared_where_it_is_square(
    kind: str, values: Any, tmp_path: Path
) -> None:
    theirs = own(kind, values, tmp_path)
    options = rf.networks.image_options(tmp_path)
    image = noise(64, 64)
    wanted = pixels_of(theirs, image).float()
    assert torch.allclose(ours(options, image, tmp_path), wanted, atol=1e-4, rtol=1e-5)


def test_what_is_no_square_picture(tmp_path: Path) -> None:
    place = tmp_path / "tokens"
    own("ImageGPT", {"size": {"height": 8, "width": 8}, "clusters": [[0, 0, 0], [1, 1, 1]]}, place)
    with pytest.raises(InputError, match=r"ImageGPT.*makes no pixel_values.*StreamedData\.of"):
        rf.networks.image_options(place)


def test_a_processor_that_transformers_does_not_know(tmp_path: Path) -> None:
    values = {"image_processor_type": "OursImageProcessor", "size": 16, "image_mean": 0.5}
    found = rf.networks.image_options(folder_of(values, tmp_path))
    assert (found["size"], found["mean"]) == (16, (0.5, 0.5, 0.5))


def test_the_size_asked_for_comes_first(tmp_path: Path) -> None:
    found = rf.networks.image_options(folder_of(CROPPED | {"do_center_crop": True}, tmp_path))
    assert (found["size"], found["fit"]) == (16, Fit(short=20))
    found = rf.networks.image_options(tmp_path, size=8)
    assert (found["size"], found["fit"]) == (8, Fit())


def test_older_forms(tmp_path: Path) -> None:
    found = rf.networks.image_options(folder_of({"size": 24, "image_mean": 0.5}, tmp_path))
    assert (found["size"], found["fit"].stretch, found["mean"]) == (24, True, (0.5, 0.5, 0.5))
    values = {"size": 32, "crop_size": 24, "do_center_crop": True}
    found = rf.networks.image_options(folder_of(values, tmp_path))
    assert (found["size"], found["fit"]) == (24, Fit(short=32))
    found = rf.networks.image_options(folder_of({"do_resize": False}, tmp_path))
    assert found["size"] is None


def test_inside_the_file_of_a_processor(tmp_path: Path) -> None:
    values = {"image_processor": {"size": {"height": 24, "width": 24}}}
    folder_of(values, tmp_path, "processor_config.json")
    assert rf.networks.image_options(tmp_path)["size"] == 24


def test_without_the_file_imagenets_are_said(tmp_path: Path) -> None:
    with pytest.warns(RetrofairWarning, match=r"224 x 224 pixels.*ImageNet; --size"):
        found = rf.networks.image_options(tmp_path)
    assert found["mean"] == (0.485, 0.456, 0.406)
    folder_of({"image_size": 48}, tmp_path, "config.json")
    with pytest.warns(RetrofairWarning, match="48 x 48"):
        assert rf.networks.image_options(tmp_path)["size"] == 48
    with pytest.warns(RetrofairWarning, match="64 x 64"):
        assert rf.networks.image_options(None, usual=64)["size"] == 64


GREY = {"size": 9, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}


@pytest.mark.parametrize(
    ("config", "values", "asked", "channels"),
    [
        ({"num_channels": 1}, GREY, None, 1),
        ({"vision_config": {"num_channels": 1}}, GREY, None, 1),
        ({}, GREY | {"image_mean": [0.5], "image_std": [0.25]}, None, 1),
        ({"num_channels": 1}, {"size": 9, "image_mean": 0.5, "image_std": 0.25}, None, 1),
        ({"num_channels": 1}, GREY, 3, 3),
        ({"num_channels": 3}, GREY, None, 3),
        ({"num_channels": 3}, GREY, 1, 1),
        ({}, GREY, None, 3),
    ],
)
def test_channels_are_those_of_the_network(
    config: Any, values: Any, asked: int | None, channels: int, tmp_path: Path
) -> None:
    folder_of(config, tmp_path, "config.json")
    found = rf.networks.image_options(folder_of(values, tmp_path), channels=asked)
    assert found["channels"] == channels
    assert found["mean"] == (0.5,) * channels
    assert found["std"] == (0.25,) * channels
    assert ours(found, noise(9, 12), tmp_path).shape == (channels, 9, 9)


def test_grey_without_the_file(tmp_path: Path) -> None:
    folder_of({"image_size": 8, "num_channels": 1}, tmp_path, "config.json")
    with pytest.warns(RetrofairWarning, match="8 x 8"):
        found = rf.networks.image_options(tmp_path)
    assert (found["channels"], found["mean"], found["std"]) == (1, (0.449,), (0.226,))
    assert ours(found, noise(9, 12), tmp_path).shape == (1, 8, 8)
    folder_of({"size": 8, "image_mean": [0.5, 0.4, 0.3]}, tmp_path)
    with pytest.raises(InputError, match="image_mean of one channel"):
        rf.networks.image_options(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "is damaged"),
        ("[]", "a JSON object"),
        ({"size": {"height": 8, "width": 9}}, r"square size in .*--size"),
        ({"size": {"longest_edge": 9}}, r"square size in .*--size"),
        ({"size": 9, "image_std": [1, 2]}, "image_std of three colours"),
        ({"size": 9, "image_mean": "x"}, "image_mean of three colours"),
    ],
)
def test_files_that_say_nothing_usable(values: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        rf.networks.image_options(folder_of(values, tmp_path))


def test_fits_that_are_none() -> None:
    with pytest.raises(InputError, match="resampling"):
        Fit(resample="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="short >= 1"):
        Fit(short=0)
