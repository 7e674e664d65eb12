"""A data set's table becomes three parts: of features in memory, or of images as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from retrofair.data import Splits, StreamedData, images_of, split_frame, split_rows
from retrofair.data.encoders import Array
from retrofair.data.split import SHARES, with_favourable
from retrofair.datasets import fetch
from retrofair.datasets.base import DataSet
from retrofair.errors import InputError

SPLIT_OPTIONS = ("parts", "privileged")
TABLE_OPTIONS = ("drop", "scale")
IMAGE_OPTIONS = (
    *("size", "mean", "std", "fit", "channels", "keep", "on_error", "batch_rows", "workers"),
)


def split_options(data_set: DataSet) -> tuple[str, ...]:
    """The options of `split` that a data set can have."""
    if data_set.file is None:
        return (*SPLIT_OPTIONS, *TABLE_OPTIONS)
    tables = TABLE_OPTIONS if data_set.images is None else ()
    return (*SPLIT_OPTIONS, "images", *IMAGE_OPTIONS, *tables)


def split(
    data_set: DataSet,
    table: pd.DataFrame,
    sensitive: Sequence[str],
    root: str | Path | None = None,
    *,
    seed: int = 0,
    include_sensitive: bool = True,
    regression: bool = False,
    images: str | Path | None = None,
    **options: Any,
) -> Splits[Any]:
    """Training, validation and test data of a table that `DataSet.frame` gave.

    The parts know which label is good for a person, but for a label of numbers.
    Images come as `StreamedData` whose parts share what was decoded, features as `GroupedData`.
    The official split is taken where there is one and no `parts` are asked for.

    Args:
        images: a folder or a zip, other than the data set's own file.
        options: of the split, and of the table (`GroupedData.from_frame`) or the images
            (`images_of`).

    Raises:
        InputError: an option of the other kind of data, or as the functions for each.
    """
    made = _split(
        data_set,
        table,
        sensitive,
        root,
        seed=seed,
        include_sensitive=include_sensitive,
        regression=regression,
        images=images,
        **options,
    )
    return made if regression else with_favourable(made, data_set.favourable)


def _split(
    data_set: DataSet,
    table: pd.DataFrame,
    sensitive: Sequence[str],
    root: str | Path | None,
    *,
    seed: int,
    include_sensitive: bool,
    regression: bool,
    images: str | Path | None,
    **options: Any,
) -> Splits[Any]:
    if data_set.images is not None and images is None:
        files = {file.path: file for file in data_set.files}
        images, _ = fetch.find(files[data_set.images], root)
    streamed = images is not None
    wrong = [name for name in (TABLE_OPTIONS if streamed else IMAGE_OPTIONS) if name in options]
    if wrong:
        of = "a table, not of images" if streamed else "images: name them with images=..."
        raise InputError(f"{wrong[0]}= is an option of {of}")
    options = {
        "privileged": [data_set.protected[column].privileged for column in sensitive],
        **options,
    }
    official = None
    if data_set.part is not None and "parts" not in options:
        official = table[data_set.part].to_numpy()
    asked: dict[str, Any] = {
        "label": data_set.label,
        "positive": None if regression else data_set.positive,
        "sensitive": list(sensitive),
        "regression": regression,
    }
    if images is not None:
        parts = options.pop("parts", SHARES)
        data = images_of(images, table, file=data_set.file, unlabelled=False, **asked, **options)
        if official is not None:
            official = _of_rows(data, table[data_set.file], official)
        return split_rows(data, seed, parts, official)
    return split_frame(
        table.drop(columns=[c for c in (data_set.file, data_set.part) if c is not None]),
        seed=seed,
        official=official,
        include_sensitive=include_sensitive,
        flags=data_set.flags(table),
        **asked,
        **options,
    )


def _of_rows(data: StreamedData, names: pd.Series, official: Array) -> Array:
    """The official part of the rows that are there: images may have been left out."""
    part = dict(zip((PurePosixPath(name).name for name in names), official, strict=True))
    files = (data.rows.files[row] for row in data.index.tolist())
    return np.array([part[PurePosixPath(file).name] for file in files], dtype=np.int64)
