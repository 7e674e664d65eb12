"""Where images lie, a folder or a zip, and how one becomes pixels."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np

from retrofair.data.encoders import Array
from retrofair.errors import InputError, MissingFileError, unknown

KINDS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# what Pillow and zipfile raise over a broken file
BROKEN = (OSError, ValueError, SyntaxError, KeyError, EOFError, RuntimeError, zlib.error)


Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


@dataclass(frozen=True)
class Fit:
    """How an image becomes a square.

    Args:
        short: what the shorter side is resized to before the centre is cut out; None: the side of
            the square, so that nothing but the ends of the longer side is lost.
        stretch: resize both sides to that instead, whatever the image's shape.
        resample: how pixels are interpolated, by Pillow's names.

    Raises:
        InputError: another name, or a side that is no positive number of pixels.
    """

    short: int | None = None
    stretch: bool = False
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        if self.resample not in get_args(Resample):
            raise unknown("resampling", self.resample, get_args(Resample))
        if self.short is not None and self.short < 1:
            raise InputError(f"expected short >= 1 pixels or None, got {self.short}")

    def square(self, image: Any, size: int) -> Any:
        """A Pillow image as one of this size; one that has it already stays as it is."""
        short = max(size, self.short or size)
        sides = (short, short)
        if not self.stretch:
            least = min(image.size)
            width, height = (side * short // least for side in image.size)  # as torchvision
            sides = (width, height)
        if image.size != sides:
            image = image.resize(sides, pillow().Resampling[self.resample.upper()])
        if sides == (size, size):
            return image
        left, top = ((side - size) // 2 for side in sides)
        return image.crop((left, top, left + size, top + size))


class BrokenImageError(Exception):
    """An image that cannot be read; the message says why. For use inside this package."""


class ImageFiles:
    """The bytes of images by name, from a folder (names below it) or a zip (its members).

    A zip is opened once in every process that reads from it: a handle that two processes share
    has one position.

    Raises:
        MissingFileError: there is no such folder or file.
        InputError: it is a file, but no zip.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = Path(source).expanduser()
        if not self.source.exists():
            raise MissingFileError(
                f"expected a folder or a zip with images, but there is no {self.source} (--images)"
            )
        self.folder = self.source.is_dir()
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        if not self.folder:
            self._opened()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}

    def names(self) -> set[str]:
        """All images there, by the ends of their names."""
        if self.folder:
            found = (
                Path(where, name).relative_to(self.source).as_posix()
                for where, _, names in os.walk(self.source)
                for name in names
            )
        else:
            found = (n for n in self._opened().namelist() if not n.startswith("__MACOSX/"))
        return {name for name in found if PurePosixPath(name).suffix.lower() in KINDS}

    def read(self, name: str) -> bytes:
        """The bytes of one."""
        if self.folder:
            return (self.source / name).read_bytes()
        return self._opened().read(name)

    def pixels(self, name: str, size: int | None, fit: Fit = Fit()) -> Array:
        """One image as (3, height, width) uint8, RGB: as it is, or a square of a `size`.

        Raises:
            BrokenImageError: it is absent, truncated or no image.
        """
        image_type = pillow()
        try:
            with image_type.open(io.BytesIO(self.read(name))) as image:
                if size is not None:
                    # a JPEG may be decoded at a half, a quarter or an eighth: never below twice
                    # the size that is wanted, so that the resizing still decides
                    twice = 2 * max(size, fit.short or size)
                    image.draft("RGB", (twice, twice))
                rgb = image.convert("RGB")
                if size is not None:
                    rgb = fit.square(rgb, size)
                return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
        except (*BROKEN, zipfile.BadZipFile, image_type.DecompressionBombError) as error:
            raise BrokenImageError(f"{type(error).__name__}: {error}") from None

    def _opened(self) -> zipfile.ZipFile:
        here = os.getpid()
        if self._archive is None or self._archive[0] != here:
            try:
                self._archive = here, zipfile.ZipFile(self.source)
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise InputError(
                    f"expected a folder or a zip with images, but {self.source} cannot be read as "
                    f"a zip ({error}) (--images)"
                ) from None
        return self._archive[1]


def pillow() -> ModuleType:
    """Pillow's `Image`.

    Raises:
        InputError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(
            "expected Pillow, which reads images: install it with pip install 'retrofair[images]'"
        ) from None
    return Image
