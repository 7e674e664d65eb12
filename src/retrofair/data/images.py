"""Images as rows of a data set: decoded when they are needed, kept in memory where they fit."""

from __future__ import annotations

import dataclasses
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrofair.data.encoders import Array
from retrofair.data.grouped import Batch
from retrofair.data.image_files import BrokenImageError, Channels, Fit, ImageFiles
from retrofair.errors import InputError
from retrofair.progress import track

# of the images that most pretrained networks saw
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.449,), (0.226,)  # the average of the colours
KEPT_BYTES = 2**30  # of decoded images that are kept without being asked
SIZE = 64
SHOWN = 5  # names in a message


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ImageRows:
    """A dataset of images for `StreamedData`: rows[i] = (x, y, group).

    x is float32, (c, size, size): (value / 255 - mean) / std, of three colours or grey. It pickles
    without what it has decoded, so that worker processes of any kind can read it.

    Args:
        source: a folder or a zip.
        files: the image of every row, by its name in there.
        y, group: (n,) label and group code of every row.
        size: side in pixels; unless `fit` says otherwise the shorter side is resized to it and the
            centre cut out. None: the images as they are, all of one height and width.
        fit: how they become squares.
        channels: 3: RGB; "bgr": the same, blue first; 1: grey, the luma of the colours (ITU-R
            601-2).
        mean, std: of each channel, on the scale from 0 to 1; by default those of ImageNet, of one
            channel their average.
        keep: keep decoded images (one byte per number) from the first time they are read. None:
            where all of them take less than 1 GiB. Forked workers keep them in memory that they
            share with the process they come from.

    Raises:
        MissingFileError: there is no such folder or zip.
        InputError: lengths differ, a size or std that is not positive, other channels than 1 and 3,
            or not a mean and std for each; on reading, an image that
            is absent or broken, by its name.
    """

    source: str | Path
    files: tuple[str, ...]
    y: Tensor
    group: Tensor
    size: int | None = SIZE
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    keep: bool | None = None
    fit: Fit = field(default=Fit())
    channels: Channels = 3
    _files: ImageFiles = field(init=False)
    _shape: tuple[int, ...] = field(init=False)
    _kept: _Kept | None = field(init=False)

    def identity(self) -> list[Any]:
        """What tells these images from others: files, and how they are prepared."""
        how = (self.size, self.mean, self.std, self.fit)
        # nothing for RGB, as names were without it
        colours = {1: ["grey"], "bgr": ["bgr"]}.get(self.channels, [])
        return [self.files, how, *colours, *self._files.identity(self.files)]

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "files", tuple(self.files))
        if not len(self.files) == len(self.y) == len(self.group):
            raise InputError(
                "expected files, y and group of one length, got "
                f"{len(self.files):,}, {len(self.y):,} and {len(self.group):,}"
            )
        if self.channels == 1:
            put(self, "mean", GREY_MEAN if tuple(self.mean) == MEAN else self.mean)
            put(self, "std", GREY_STD if tuple(self.std) == STD else self.std)
        _check_options(self.size, self.mean, self.std, self.channels)
        put(self, "_files", ImageFiles(self.source))
        side, deep = self.size, len(self.mean)
        put(self, "_shape", (deep, side, side) if side is not None else self._first_shape())
        bytes_all = len(self.files) * int(np.prod(self._shape))
        keep = bytes_all < KEPT_BYTES if self.keep is None else self.keep
        put(self, "_kept", _Kept(len(self.files), self._shape) if keep and bytes_all else None)

    def __getstate__(self) -> dict[str, Any]:
        fields = [f.name for f in dataclasses.fields(self) if f.init]
        return {name: getattr(self, name) for name in fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __repr__(self) -> str:
        kept = "kept in memory" if self._kept is not None else "decoded on each pass"
        return f"ImageRows({len(self.files):,} images of {self._shape}, {kept})"

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        x, y, group = self.batch(torch.tensor([range(len(self))[row]]))
        return x[0], y[0], group[0]

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index tensor: x (b, channels, height, width), y (b,), group (b,)."""
        x = torch.from_numpy(self.pixels(index.numpy())).to(torch.float32)
        mean, std = (torch.tensor(each).reshape(-1, 1, 1) for each in (self.mean, self.std))
        return x.div_(255).sub_(mean).div_(std), self.y[index], self.group[index]

    def pixels(self, index: Array) -> Array:
        """Images as they are decoded, (b, channels, height, width) uint8."""
        if self._kept is None:
            different, back = np.unique(index, return_inverse=True)  # draws may repeat a row
            return np.stack([self._decoded(int(row)) for row in different])[back]
        for row in np.unique(index[~self._kept.there[index]]).tolist():
            self._kept.put(row, self._decoded(row))
        found: Array = self._kept.pixels[index]
        return found

    def unreadable(self) -> dict[int, str]:
        """Rows whose image cannot be read, with the reason: one pass over all of them."""
        bad = {}
        for row in track(range(len(self)), "checking images"):
            try:
                pixels = self._read(row)
            except BrokenImageError as error:
                bad[row] = str(error)
            else:
                if self._kept is not None:
                    self._kept.put(row, pixels)
        return bad

    def _first_shape(self) -> tuple[int, ...]:
        """Of the first image that can be read."""
        for name in self.files:
            try:
                return tuple(self._files.pixels(name, None, channels=self.channels).shape)
            except BrokenImageError:
                continue
        return (len(self.mean), 0, 0)

    def _read(self, row: int) -> Array:
        pixels = self._files.pixels(self.files[row], self.size, self.fit, self.channels)
        if pixels.shape != self._shape:
            (_, *one), (_, *other) = self._shape, pixels.shape
            raise BrokenImageError(
                f"height and width {other}, where others have {one}: resize all with size=..."
            )
        return pixels

    def _decoded(self, row: int) -> Array:
        try:
            return self._read(row)
        except BrokenImageError as error:
            raise InputError(
                f"expected an image in {self.files[row]!r} of {self._files.source}, got one that "
                f"cannot be read ({error}); put a good copy there, or leave out such rows with "
                "images_of(..., on_error='skip') (--on-error skip)"
            ) from None


class _Kept:
    """Decoded images, in memory that forked processes share: what one decodes, all have."""

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        numbers = int(np.prod(shape))
        # pages are taken from the system when they are first written to
        pixels, there = mmap.mmap(-1, rows * numbers), mmap.mmap(-1, rows)
        self.pixels: Array = np.frombuffer(pixels, np.uint8).reshape(rows, *shape)
        self.there: Array = np.frombuffer(there, np.bool_)

    def put(self, row: int, pixels: Array) -> None:
        self.pixels[row] = pixels
        self.there[row] = True  # last: another process may look at it


def _check_options(
    size: int | None, mean: tuple[float, ...], std: tuple[float, ...], channels: Channels
) -> None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"expected size to be a whole number of pixels or None, got {size!r}")
    if isinstance(channels, bool) or channels not in (1, 3, "bgr"):
        raise InputError(
            f"expected channels=3 (RGB), 1 (grey) or 'bgr', got {channels!r} (--channels)"
        )
    deep = 1 if channels == 1 else 3
    if not len(mean) == len(std) == deep or not all(each > 0 for each in std):
        of = "three colours" if deep == 3 else "one channel"
        raise InputError(f"expected mean and std of {of}, std positive, got {mean} and {std}")
