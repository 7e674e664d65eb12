"""Tiny images on disk, of one colour each, for tests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8), kind: str = "PNG"):
    """The bytes of an image of one colour; size is (width, height)."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def of_array(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG with these pixels, (height, width, 3) uint8."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def put(root: Path, files: dict[str, bytes], packed: bool) -> Path:
    """A folder, or a zip, with these files."""
    if packed:
        place = root / "images.zip"
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return place
    for name, content in files.items():
        place = root / "images" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return root / "images"
