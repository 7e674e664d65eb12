"""Where images lie, a folder or a zip, and how one becomes pixels."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np

from retrofair.data.encoders import Array
from retrofair.errors import InputError, MissingFileError

KINDS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# what Pillow and zipfile raise over a broken file
BROKEN = (OSError, ValueError, SyntaxError, KeyError, EOFError, RuntimeError, zlib.error)


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
                f"expected a folder or a zip with images, but there is no {self.source} (images)"
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

    def pixels(self, name: str, size: int | None) -> Array:
        """One image as (3, height, width) uint8, RGB.

        With a `size` the shorter side is resized to it (bilinear over the area, as Pillow does)
        and the centre is cut out; an image that already is that size stays as it is.

        Raises:
            BrokenImageError: it is absent, truncated or no image.
        """
        image_type = pillow()
        try:
            with image_type.open(io.BytesIO(self.read(name))) as image:
                if size is not None:
                    # a JPEG may be decoded at a half, a quarter or an eighth: never below twice
                    # the size that is wanted, so that the resizing still decides
                    image.draft("RGB", (2 * size, 2 * size))
                rgb = image.convert("RGB")
                if size is not None:
                    rgb = _square(rgb, size)
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
                    f"a zip ({error}) (images)"
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


def _square(image: Any, size: int) -> Any:
    """The centre of an image whose shorter side was brought to `size`."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    short = min(width, height)
    width, height = (max(size, round(side * size / short)) for side in (width, height))
    if (width, height) != image.size:
        image = image.resize((width, height), pillow().Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
