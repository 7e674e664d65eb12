"""The processor of images that transformers has for a network: what it says, and what it does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrofair.data.image_files import Fit, pillow
from retrofair.errors import InputError, RetrofairWarning
from retrofair.metrics import Array
from retrofair.networks.hugging_face import quietly

NAMES = ("image_processor_type", "feature_extractor_type")
PROBES = ((211, 300), (300, 211))  # pixels, of pictures that both ways prepare
SQUARE = (240, 240)  # where the network's own way leaves others oblong
ALIKE = 0.02  # of the spread of what the network's own gives: rounding, another library's bilinear


def kind_of(values: dict[str, Any]) -> str:
    """What a processor's values call it; "" where they do not."""
    return str(next((values[name] for name in NAMES if values.get(name)), ""))


def processor_of(folder: Path) -> Any | None:
    """The processor of a folder, which runs no code of it; None: there is no telling which, or it
    cannot prepare a picture with the values there."""
    try:
        import transformers
    except ImportError:
        return None
    new = int(transformers.__version__.split(".")[0]) >= 5
    by_pillow: dict[str, Any] = {"backend": "pil"} if new else {"use_fast": False}
    try:
        with quietly(transformers):
            kind: Any = transformers.AutoImageProcessor
            made = kind.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True, **by_pillow
            )
            made(_picture(PROBES[0]), return_tensors="np")
            return made
    except Exception:  # of many kinds: the file is read as it stands then
        return None


def values_of(processor: Any) -> dict[str, Any]:
    """All of its values, with the defaults of its kind."""
    values: dict[str, Any] = dict(processor.to_dict())
    listed = {name: list(each) for name, each in values.items() if isinstance(each, tuple)}
    return values | listed


def compare(processor: Any, options: dict[str, Any], name: str) -> None:
    """Warn where options of `images_of` give other numbers than the network's own processor.

    Args:
        processor: of `processor_of`.
        options: of `image_options`.
        name: of the file that both come from, for messages.

    Raises:
        InputError: its processor makes something else than square pictures.
    """
    apart = max(_apart(processor, options, shape, name) for shape in PROBES)
    if not apart < ALIKE:
        how = "their size is another"
        if apart < float("inf"):
            how = f"their numbers differ by {apart:.0%} of the spread on average"
        warnings.warn(
            f"the {type(processor).__name__} of {name} prepares images in a way of its own: here "
            f"{how}, and the network's answers may differ too. StreamedData.of takes images that "
            "it has prepared",
            RetrofairWarning,
            stacklevel=4,
        )


def _apart(processor: Any, options: dict[str, Any], shape: tuple[int, int], name: str) -> float:
    """The mean difference of both ways, of the spread of the processor's, on a noisy picture."""
    image = _picture(shape)
    theirs = _theirs(processor, image)
    if theirs is not None and theirs.ndim == 4 and theirs.shape[2] != theirs.shape[3]:
        image = _picture(SQUARE)
        theirs = _theirs(processor, image)
    if theirs is None or theirs.ndim != 4 or theirs.shape[2] != theirs.shape[3]:
        raise InputError(
            f"expected a network that takes square images, but the {type(processor).__name__} of "
            f"{name} makes {_said(theirs)}: StreamedData.of takes what it has prepared"
        )
    ours = _ours(options, image)
    if ours.shape != theirs.shape[1:]:
        return float("inf")
    return float(np.abs(ours - theirs[0]).mean() / max(float(theirs.std()), 1e-12))


def _picture(shape: tuple[int, int]) -> Any:
    height, width = shape
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return pillow().fromarray(coarse).resize((width, height))


def _theirs(processor: Any, image: Any) -> Array | None:
    found = processor(image, return_tensors="np").get("pixel_values")
    return None if found is None else np.asarray(found, np.float64)


def _ours(options: dict[str, Any], image: Any) -> Array:
    fit: Fit = options["fit"]
    made = image if options["size"] is None else fit.square(image, options["size"])
    x = torch.from_numpy(np.array(made).transpose(2, 0, 1)).double() / 255
    x = x.flip(0) if options["channels"] == "bgr" else x
    mean, std = (torch.tensor(options[each]).reshape(-1, 1, 1) for each in ("mean", "std"))
    return np.asarray(((x - mean) / std).numpy())


def _said(found: Array | None) -> str:
    return "no pixel_values" if found is None else f"pixel_values of {found.shape[1:]}"
