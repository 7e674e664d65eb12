"""Where images lie, a folder or a zip, and how one becomes pixels."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np

from retrofair.data.encoders import Array
from retrofair.errors import InputError, MissingFileError, unknown

KINDS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LARGEST = 2**28  # bytes of a zip's member, unpacked
DEEP = ("I", "I;16", "I;16L", "I;16B")  # sixteen bits a pixel, which Pillow would cut off at 255
# what Pillow and zipfile raise over a broken file
BROKEN = (OSError, ValueError, SyntaxError, KeyError, EOFError, RuntimeError, zlib.error)


Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Channels = Literal[1, 3, "bgr"]  # grey, RGB, and the colours the other way round


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


def _walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders with their files, those behind links too, each once."""
    seen = set()
    for where, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link back up: not around in circles
            below.clear()
            continue
        seen.add(real)
        yield where, names


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
                for where, names in _walked(self.source)
                for name in names
            )
        else:
            found = (n for n in self._opened().namelist() if not n.startswith("__MACOSX/"))
        return {name for name in found if PurePosixPath(name).suffix.lower() in KINDS}

    def read(self, name: str) -> bytes:
        """The bytes of one."""
        if self.folder:
            return (self.source / name).read_bytes()
        archive = self._opened()
        size = archive.getinfo(name).file_size
        if size > LARGEST:
            raise OSError(f"{size / 2**20:,.0f} MiB unpacked, more than {LARGEST / 2**20:,.0f}")
        return archive.read(name)

    def identity(self, names: Sequence[str]) -> list[Any]:
        """What changes when an image is replaced: sizes and times, or a zip's checksums."""
        if self.folder:
            try:
                found = [(self.source / name).stat() for name in names]
            except OSError as error:
                raise MissingFileError(
                    f"expected the images of these data where they were, but {error} (--images)"
                ) from None
            return [(each.st_size, each.st_mtime_ns) for each in found]
        archive = self._opened()
        return [archive.getinfo(name).CRC for name in names]

    def pixels(
        self, name: str, size: int | None, fit: Fit = Fit(), channels: Channels = 3
    ) -> Array:
        """One image as (c, height, width) uint8, RGB, BGR or, with one channel, grey: as it is, or
        a square of a `size`.

        Of sixteen bits a pixel the upper eight count. A camera's note on how to turn it is ignored,
        as most data sets of images that networks are trained on ignore it.

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
                if image.mode == "F":
                    raise ValueError("numbers with fractions, whose range nobody knows")
                if image.mode in DEEP:
                    deep = np.asarray(image).astype(np.int64).clip(0, 65_535)
                    image = image_type.fromarray((deep // 256).astype(np.uint8))
                made = image.convert("RGB")
                if channels == 1:
                    made = made.convert("L")  # the colours weighted as in television
                if size is not None:
                    made = fit.square(made, size)
                colours = np.atleast_3d(np.asarray(made)).transpose(2, 0, 1)
                return np.ascontiguousarray(colours[::-1] if channels == "bgr" else colours)
        except (*BROKEN, zipfile.BadZipFile, image_type.DecompressionBombError) as error:
            raise BrokenImageError(f"{type(error).__name__}: {_plain(error)}") from None

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


def _plain(error: Exception) -> str:
    """What an error says, without the address of the bytes that Pillow was given."""
    return re.sub(r"\s*<[^<>]* object at 0x[0-9a-fA-F]+>", "", str(error))


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
