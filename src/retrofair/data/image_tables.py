"""Images and a table of their labels and groups become data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from retrofair.data.encoders import as_text
from retrofair.data.image_files import Channels, Fit, ImageFiles
from retrofair.data.images import MEAN, SHOWN, SIZE, STD, ImageRows
from retrofair.data.preparation import Preparation, check_columns, prepare
from retrofair.data.streamed import ROWS, StreamedData
from retrofair.data.tables import read_table
from retrofair.errors import InputError, RetrofairWarning, unknown

OnError = Literal["raise", "skip"]
ROW = "(row)"  # a column of positions that stands for the images where a table is prepared


def images_of(
    source: str | Path,
    labels: pd.DataFrame | str | Path,
    *,
    label: str,
    sensitive: str | Sequence[str],
    positive: object = None,
    privileged: object = None,
    regression: bool = False,
    file: str | None = None,
    size: int | None = SIZE,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    keep: bool | None = None,
    on_error: OnError = "raise",
    batch_rows: int = ROWS,
    workers: int = 0,
    unlabelled: bool = True,
    fit: Fit = Fit(),  # noqa: B008 - frozen
    channels: Channels = 3,
) -> StreamedData:
    """Data of images in a folder or zip, and a table with a row for each.

    Labels and groups follow the rules of `GroupedData.from_frame`. Rows without label or group
    are dropped, rows that say the same of an image again merged, and images without a row
    ignored, with a note and a warning.

    Args:
        source: a folder (images anywhere below it) or a zip.
        labels: a table, or the CSV or Parquet file of one.
        label: the column to predict: two values, of which `positive` counts as 1 (not needed for
            0/1), or three or more, which become the classes 0 to K - 1 in the order of their
            names where no `positive` is given.
        sensitive: the protected column, or several: their intersections are the groups.
        privileged: the privileged value, one per sensitive column; its group comes last.
        regression: keep the label's numbers as they are.
        file: the column with the images' names: their place below the folder or in the zip, more
            than that (an absolute path, the folder's own name first) or less (the last part alone).
            The longest end of a name that an image's has decides, with "/" or "\\". None: the
            column most of whose values are such names.
        size, mean, std, keep, fit: see `ImageRows`.
        channels: 3 for RGB, "bgr" for a network that takes blue first, 1 for one that takes grey
            images.
        on_error: "raise" the first time an image is absent or cannot be read, or "skip": read all
            once, leave those rows out, and say so.
        batch_rows, workers: see `StreamedData`.
        unlabelled: note images without a row.

    Raises:
        MissingFileError: there is no such folder, zip or table.
        InputError: a column is unknown, images are absent, a name fits several images, rows that
            name one image contradict each other, a label of one class, or as above.
    """
    if on_error not in ("raise", "skip"):
        raise unknown("choice for on_error=", on_error, ("raise", "skip"))
    frame = labels if isinstance(labels, pd.DataFrame) else read_table(labels)
    columns = [sensitive] if isinstance(sensitive, str) else list(sensitive)
    check_columns(frame, [label, *columns, *([] if file is None else [file])])
    places = _Places(ImageFiles(source).names())
    names = _names(frame, places, file, source)
    found = pd.Series([places.of(name) for name in names], dtype=object)
    notes = _absent(frame, names, found, source, on_error, places)
    notes += _elsewhere(names, found, places)
    here, again = _once(frame, list(dict.fromkeys([label, *columns])), found)
    notes += again
    if unlabelled:
        notes += _without_row(places, set(found.dropna()))
    y, group, chosen, group_names, label_names, said = labels_of(
        frame.loc[here], label, columns, positive, privileged, regression
    )
    rows = ImageRows(
        source=source,
        files=tuple(found[here].iloc[chosen]),
        y=y,
        group=group,
        size=size,
        mean=mean,
        std=std,
        keep=keep,
        fit=fit,
        channels=channels,
    )
    index = torch.arange(len(rows))
    if on_error == "skip":
        index, more = _readable(rows)
        notes += more
    for note in notes:
        warnings.warn(note, RetrofairWarning, stacklevel=2)
    return StreamedData(
        rows=rows,
        y=y[index],
        group=group[index],
        group_names=group_names,
        index=index,
        batch_rows=batch_rows,
        workers=workers,
        notes=(*said, *notes),
        label_names=label_names,
    )


class _Places:
    """Images by their whole name, or by the longest end of it that only one has."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.ends: dict[tuple[str, ...], list[str]] = {}  # two names at most
        for name in sorted(names):
            parts = _parts(name)
            for start in range(len(parts)):
                known = self.ends.setdefault(parts[start:], [])
                if start == 0:  # a whole name comes before the end of another
                    known[:] = [name]
                elif len(known) < 2 and (not known or _parts(known[0]) != parts[start:]):
                    known.append(name)

    def of(self, name: object) -> str | None:
        """The one image that a name stands for, if there is one."""
        found = self.candidates(name)
        return found[0] if len(found) == 1 else None

    def candidates(self, name: object) -> list[str]:
        """The images with the longest end of a name, two of them at most."""
        if not isinstance(name, str):
            return []
        if name in self.names:
            return [name]
        parts = _parts(name)
        return next((self.ends[p] for k in range(len(parts)) if (p := parts[k:]) in self.ends), [])


def _parts(name: str) -> tuple[str, ...]:
    """Of a path as any system writes it."""
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _elsewhere(names: list[str | None], found: pd.Series, places: _Places) -> list[str]:
    """The note on images that lie in another folder than the table says."""
    moved = []
    for name, place in zip(names, found, strict=True):
        if name is None or place is None or name == place:
            continue
        one, other = _parts(name), _parts(place)
        shared = min(len(one), len(other))
        if one[-shared:] != other[-shared:]:
            moved.append(f"{name} as {place}")
    if not moved:
        return []
    return [
        f"found {len(moved):,} images by the end of their names alone, in another folder than the "
        f"table says: {', '.join(moved[:SHOWN])}{', ...' if len(moved) > SHOWN else ''}"
    ]


def _once(
    frame: pd.DataFrame, columns: list[str], found: pd.Series
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Which rows have an image that no row before them has, and a note on the others.

    Copies of one image in two parts of a split would make a test of what was seen.
    """
    here = found.notna().to_numpy()
    told = pd.DataFrame({k: as_text(frame[name]).to_numpy() for k, name in enumerate(columns)})
    usable = here & frame[columns].notna().all(axis=1).to_numpy()  # the others are dropped later
    told = told.assign(image=found.to_numpy())[usable]
    again = told.duplicated("image").to_numpy()
    if not again.any():
        return here, []
    different = told.drop_duplicates()
    against = list(dict.fromkeys(different["image"][different.duplicated("image")]))
    if against:
        more = ", ..." if len(against) > SHOWN else ""
        raise InputError(
            "expected one label and group for each image, but of "
            f"{len(against):,} {'image' if len(against) == 1 else 'images'} rows of the table say "
            f"different things in {', '.join(map(repr, columns))}: "
            f"{', '.join(against[:SHOWN])}{more}; leave one row for each"
        )
    kept = here.copy()
    kept[np.flatnonzero(usable)[again]] = False
    images = told["image"][again].unique()
    more = ", ..." if len(images) > SHOWN else ""
    return kept, [
        f"merged {int(again.sum()):,} of {len(frame):,} rows that say the same of an image again: "
        f"{', '.join(images[:SHOWN])}{more}"
    ]


def _names(
    frame: pd.DataFrame, places: _Places, file: str | None, source: str | Path
) -> list[str | None]:
    """What the table calls each image, None where it says nothing."""
    if not places.names:
        raise InputError(f"expected images in {source}, found none (--images)")
    if file is None:
        texts = [n for n in frame.columns if not pd.api.types.is_numeric_dtype(frame[n])]
        hits = {name: int(frame[name].map(places.of).notna().sum()) for name in texts}
        file = max(hits, key=lambda name: hits[name], default=None)
        if file is None or not hits[file]:
            raise InputError(
                f"expected a column with names of the images in {source}, such as "
                f"{min(places.names)!r}, found none among {', '.join(frame.columns)}: name it with "
                "file=... (--image-column)"
            )
    return [None if pd.isna(text) else str(text) for text in as_text(frame[file])]


def _absent(
    frame: pd.DataFrame,
    names: list[str | None],
    found: pd.Series,
    source: str | Path,
    on_error: OnError,
    places: _Places,
) -> list[str]:
    """The notes on rows whose image is not there or not known, or the error."""
    none = [name for name, place in zip(names, found, strict=True) if place is None]
    if not none:
        return []
    several = {name: places.candidates(name) for name in none if places.candidates(name)}
    unclear = [name for name in none if name in several]
    notes = []
    if unclear:
        first = unclear[0]
        what = (
            f"{len(unclear):,} of {len(frame):,} rows whose name fits several images, such as "
            f"{first} both {' and '.join(several[first])}"
        )
        if on_error == "raise" or len(none) == len(frame):
            raise InputError(
                f"expected names of one image each, got {what}; name the folder too, or leave "
                "these rows out with on_error='skip' (--on-error skip)"
            )
        notes = [f"left out {what}"]
    gone = [name for name in none if name not in several]
    if not gone:
        return notes
    first = ", ".join("(no name)" if name is None else name for name in gone[:SHOWN])
    more = ", ..." if len(gone) > SHOWN else ""
    if on_error == "skip" and len(none) < len(frame):
        return [
            *notes,
            f"left out {len(gone):,} of {len(frame):,} rows without an image in {source}: "
            f"{first}{more}",
        ]
    raise InputError(
        f"expected the images of {len(frame):,} rows in {source}, but {len(gone):,} are not there: "
        f"{first}{more}; put them there, or leave these rows out with on_error='skip' "
        "(--on-error skip)"
    )


def _without_row(places: _Places, used: set[str]) -> list[str]:
    extra = sorted(places.names - used)
    if not extra:
        return []
    more = ", ..." if len(extra) > SHOWN else ""
    return [f"ignored {len(extra):,} images without a label: {', '.join(extra[:SHOWN])}{more}"]


def labels_of(
    frame: pd.DataFrame,
    label: str,
    sensitive: list[str],
    positive: object,
    privileged: object,
    regression: bool,
) -> tuple[Any, Any, Any, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """y, group, the rows that are used, names of groups and labels, and notes, by the rules of a
    table."""
    frame = frame[list(dict.fromkeys([label, *sensitive]))].assign(**{ROW: np.arange(len(frame))})
    notes: tuple[str, ...] = ()
    classes = () if regression or positive is not None else _classes(frame[label])
    if classes:
        codes = {name: code for code, name in enumerate(classes)}
        frame = frame.assign(**{label: as_text(frame[label]).map(codes)})
        named = ", ".join(f"{code} = {name}" for name, code in codes.items())
        notes = (f"classes of {label!r}: {named}",) if list(classes) != _numbers(classes) else ()
    preparation = Preparation.fit(
        frame,
        label=label,
        sensitive=sensitive,
        positive=positive,
        privileged=privileged,
        include_sensitive=False,
        scale=False,
        regression=regression or bool(classes),
    )
    chosen, _ = preparation.kept(frame)
    _, y, group, said = prepare(preparation, frame)
    made = torch.from_numpy(y)
    return (
        made.long() if classes else made,
        torch.from_numpy(group),
        chosen,
        preparation.group_names,
        classes or preparation.label_names,
        (*notes, *said),
    )


def _classes(column: pd.Series) -> tuple[str, ...]:
    """Names of the classes in order, where there are three or more."""
    texts = set(as_text(column.dropna()))
    if len(texts) < 3:
        return ()
    if pd.api.types.is_numeric_dtype(column):
        return tuple(sorted(texts, key=float))
    return tuple(sorted(texts))


def _numbers(classes: tuple[str, ...]) -> list[str]:
    return [str(code) for code in range(len(classes))]


def _readable(rows: ImageRows) -> tuple[torch.Tensor, list[str]]:
    """Rows whose image can be read, and a note on the others."""
    bad = rows.unreadable()
    if not bad:
        return torch.arange(len(rows)), []
    if len(bad) == len(rows):
        first = next(iter(bad))
        raise InputError(
            f"expected images, but none of {len(bad):,} can be read, the first, "
            f"{rows.files[first]}, because of {bad[first]}"
        )
    index = torch.tensor([row for row in range(len(rows)) if row not in bad])
    names = ", ".join(rows.files[row] for row in list(bad)[:SHOWN])
    more = ", ..." if len(bad) > SHOWN else ""
    note = f"left out {len(bad):,} of {len(rows):,} rows whose image cannot be read: {names}{more}"
    return index, [note]
