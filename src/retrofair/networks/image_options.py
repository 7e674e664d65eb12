"""How a network in Hugging Face's form wants its images: preprocessor_config.json, read as JSON."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from retrofair.data.image_files import Fit, Resample
from retrofair.data.images import GREY_MEAN, GREY_STD, MEAN, STD
from retrofair.errors import InputError, RetrofairWarning
from retrofair.hub import local_folder
from retrofair.networks.image_processor import compare, kind_of, processor_of, values_of

FILE, INSIDE = "preprocessor_config.json", "processor_config.json"
USUAL = 224  # pixels, of most networks trained on ImageNet
SAMPLING: Any = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers
BYTE = 1 / 255
FIXED = 384  # from which side on ConvNeXt's images are not cut
LEVIT = 256 / 224  # times the size, to which LeViT's shorter side is resized


def image_options(
    folder: str | Path | None,
    size: int | None = None,
    *,
    usual: int = USUAL,
    channels: int | None = None,
) -> dict[str, Any]:
    """The options of `images_of` that a network's folder asks for: size, mean, std, fit, channels.

    Where it says nothing they are those of networks trained on ImageNet, at the size that the
    network's config.json names, else `usual` pixels, and a warning says so. Where transformers
    knows the processor, defaults are its own, and both prepare a picture: a warning says where
    they are not alike.

    Args:
        folder: of the network, or its name on the hub; None: it has none.
        size: side in pixels, instead of the folder's.
        channels: 3 for RGB, 1 for grey; None: 1 where config.json names one (`num_channels`) or the
            preprocessor's mean is of one, else 3.

    Raises:
        MissingFileError: there is no such folder.
        InputError: the file is damaged, or asks for images that are not square, or for means of
            three colours where there is one channel; or its processor makes no pictures.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     values = {"size": {"height": 32, "width": 32}, "image_mean": 0.5, "image_std": 0.25}
        ...     _ = Path(folder, FILE).write_text(json.dumps(values))
        ...     image_options(folder)["size"], image_options(folder)["std"]
        (32, (0.25, 0.25, 0.25))
    """
    place = None if folder is None else local_folder(folder)
    values, name = (None, None) if place is None else _values(place)
    if channels is None:
        channels = 1 if _is_grey(place, values) else 3
    if values is None or name is None:
        return _usual(place, size, usual, channels)
    processor = processor_of(name.parent)
    values = values if processor is None else values_of(processor)
    own, fit = _square(values, name)
    if size is not None and size != own:
        fit = Fit(stretch=fit.stretch, resample=fit.resample)  # a cut is of the own size
    mean, std = _scale(values, name, channels)
    flipped = channels == 3 and bool(values.get("do_flip_channel_order"))
    found = {
        "size": own if size is None else size,
        "mean": mean,
        "std": std,
        "fit": fit,
        "channels": "bgr" if flipped else channels,
    }
    if processor is not None and channels == 3 and found["size"] == own:
        compare(processor, found, name.name)
    return found


def _is_grey(folder: Path | None, values: dict[str, Any] | None) -> bool:
    """Whether a network's files say that its images have one channel."""
    config = None if folder is None else folder / "config.json"
    found = _json(config) if config is not None and config.is_file() else {}
    parts = [found, found.get("vision_config")]
    if any(isinstance(part, dict) and part.get("num_channels") == 1 for part in parts):
        return True
    mean = (values or {}).get("image_mean")
    return isinstance(mean, list) and len(mean) == 1


def _values(folder: Path) -> tuple[dict[str, Any] | None, Path]:
    for name in (FILE, INSIDE):
        place = folder / name
        if place.is_file():
            values = _json(place)
            values = values.get("image_processor") if name == INSIDE else values
            if isinstance(values, dict):
                return values, place
    return None, folder / FILE


def _json(place: Path) -> Any:
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"expected JSON in {place}, but it is damaged: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"expected a JSON object in {place}, got {type(values).__name__}")
    return values


def _usual(folder: Path | None, size: int | None, usual: int, channels: int) -> dict[str, Any]:
    found = size
    config = None if folder is None else folder / "config.json"
    if found is None and config is not None and config.is_file():
        found = _whole(_json(config).get("image_size"))
    chosen = found or usual
    warnings.warn(
        f"no {FILE} with the network: images of {chosen} x {chosen} pixels, with the mean and "
        "spread of ImageNet; --size names another size",
        RetrofairWarning,
        stacklevel=3,
    )
    mean, std = (GREY_MEAN, GREY_STD) if channels == 1 else (MEAN, STD)
    return {"size": chosen, "mean": mean, "std": std, "fit": Fit(), "channels": channels}


def _square(values: dict[str, Any], place: Any) -> tuple[int | None, Fit]:
    """The side, None for images as they are, and how it is reached."""
    number = values.get("resample")
    known = isinstance(number, int) and 0 <= number < len(SAMPLING)
    how: Resample = SAMPLING[number] if known else "bilinear"
    size, crop = values.get("size"), values.get("crop_size")
    cut = bool(values.get("do_center_crop", False)) and crop is not None
    if not values.get("do_resize", True) or size is None:
        return (_side(crop, place, "crop_size") if cut else None), Fit(resample=how)
    short = _whole(size.get("shortest_edge")) if isinstance(size, dict) else None
    share = values.get("crop_pct")
    kind = kind_of(values)
    if cut and kind.startswith("Perceiver"):  # cuts first; its `size` is the smaller one
        return _side(size, place, "size"), Fit(short=_side(crop, place, "crop_size"), resample=how)
    if short and kind.startswith("Levit"):
        short = int(short * LEVIT)
    if isinstance(share, int | float) and 0 < share <= 1 and kind.startswith("PoolFormer"):
        short = int((short or _side(size, place, "size")) / share)
    elif short and not cut and isinstance(share, int | float) and 0 < share <= 1:  # ConvNeXt's way
        if short >= FIXED:
            return short, Fit(stretch=True, resample=how)
        return short, Fit(short=int(short / share), resample=how)
    stretch = short is None and not (isinstance(size, int) and cut)
    whole = short or _side(size, place, "size")
    side = _side(crop, place, "crop_size") if cut else whole
    return side, Fit(short=whole, stretch=stretch, resample=how)


def _side(value: Any, place: Any, name: str) -> int:
    if isinstance(value, dict):
        sides = {_whole(value.get(side)) for side in ("height", "width")}
        value = sides.pop() if len(sides) == 1 else None
    found = _whole(value)
    if found is None:
        raise InputError(
            f"expected a square {name} in {place}, got another: name the side in pixels with "
            "--size (size=)"
        )
    return found


def _whole(value: Any) -> int | None:
    if isinstance(value, list | tuple) and len(set(value)) == 1:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _scale(
    values: dict[str, Any], place: Any, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std on the scale from 0 to 1: (value * factor - offset - mean) / std."""
    rescaled = bool(values.get("do_rescale", True))
    factor = float(values.get("rescale_factor", BYTE)) if rescaled else 1.0
    offset = 1.0 if rescaled and values.get("rescale_offset") else 0.0
    mean, std = [0.0] * channels, [1.0] * channels
    kind = kind_of(values)
    if values.get("do_normalize", True) and not kind.startswith("MobileViT"):  # which never does
        mean, std = (
            _colours(values.get(f"image_{name}"), name, place, channels) for name in ("mean", "std")
        )
    if kind.startswith("EfficientNet") and values.get("include_top"):  # divided once more
        again = _colours(values.get("image_std"), "std", place, channels)
        std = [one * other for one, other in zip(std, again, strict=True)]
    unit = factor / BYTE  # of the library's scale
    return (
        tuple((each + offset) / unit for each in mean),
        tuple(each / unit for each in std),
    )


def _colours(value: Any, name: str, place: Any, channels: int) -> list[float]:
    if value is None and channels == 1:
        return list(GREY_MEAN if name == "mean" else GREY_STD)
    if value is None:
        return list(MEAN if name == "mean" else STD)
    numbers = [value] * channels if isinstance(value, int | float) else value
    if channels == 1 and isinstance(numbers, list) and len(numbers) == 3 and len(set(numbers)) == 1:
        numbers = numbers[:1]  # as processors write that know nothing of channels
    if not isinstance(numbers, list) or len(numbers) != channels:
        of = "three colours" if channels == 3 else "one channel"
        way = "" if channels == 3 else "; channels=3 (--channels 3) makes RGB images"
        raise InputError(f"expected image_{name} of {of} in {place}, got {value!r}{way}")
    return [float(each) for each in numbers]
