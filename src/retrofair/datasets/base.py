"""What a data set is: its files, its label, its protected columns, and how to read it."""

from __future__ import annotations

import inspect
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from retrofair.datasets import fetch
from retrofair.datasets.fetch import DataFile
from retrofair.errors import InputError, RetrofairWarning, unknown

TARGETS = ("binary", "regression")
# What parsers raise over a broken file; pyarrow's and pandas' own errors derive from ValueError.
BROKEN = (
    *(ValueError, KeyError, IndexError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Cut:
    """Two groups of a column of numbers: below `at`, and `at` or more."""

    at: float
    below: str
    above: str

    def __call__(self, column: pd.Series) -> pd.Series:
        return (column >= self.at).map({False: self.below, True: self.above})


@dataclass(frozen=True)
class Protected:
    """A protected column: its privileged value, and how numbers become groups.

    With a `cut` the column is split when it is the sensitive one and stays a number otherwise.
    """

    privileged: str
    cut: Cut | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSet:
    """One public data set.

    Args:
        name: what `load` calls it.
        files: what it is read from; none for a data set that is generated.
        label: the column to predict, and `positive` its value that counts as 1.
        favourable: the label that is good for a person: 0 where to be positive is bad for them.
        protected: the protected columns; the first is the default.
        read: from the place of each file (by its path below the root) to a table of features and
            label; its keyword-only arguments are options of the data set, but for `sensitive`,
            the chosen protected columns.
        threshold: for a label of numbers, above which it counts as 1. Such a data set has the
            option `target`, "binary" or "regression".
        number_target: the choice of the option `target` with a number as label, if there is one.
        file: the table's column with the image of every row; None for a table of features.
        images: which of `files` has the images; without it the user names them (`images=`), or
            the table's other columns are the features.
        part: the table's column with the official part of every row: 0 training, 1 validation,
            2 test.
        reference: author (year), title.
    """

    name: str
    label: str
    protected: Mapping[str, Protected]
    read: Callable[..., pd.DataFrame]
    positive: str = "1"
    favourable: int = 1
    files: tuple[DataFile, ...] = ()
    threshold: float | None = None
    number_target: str | None = None
    file: str | None = None
    images: str | None = None
    part: str | None = None
    reference: str = ""
    options: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(name for name in self._arguments if name != "sensitive")
        extra = ("target",) if self.threshold is not None else ()
        object.__setattr__(self, "options", names + extra)
        if self.threshold is not None:
            object.__setattr__(self, "number_target", "regression")

    @property
    def _arguments(self) -> tuple[str, ...]:
        own = inspect.signature(self.read).parameters.values()
        return tuple(p.name for p in own if p.kind is p.KEYWORD_ONLY)

    @property
    def default_sensitive(self) -> str:
        return next(iter(self.protected))

    def attributes(self, sensitive: str | Sequence[str] | None) -> tuple[str, ...]:
        """The chosen protected columns, checked.

        Raises:
            InputError: none, one twice, or one that this data set does not have.
        """
        if sensitive is None:
            sensitive = self.default_sensitive
        chosen = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
        for name in chosen:
            if name not in self.protected:
                raise unknown(f"sensitive attribute of {self.name}", name, self.protected)
        if not chosen or len(set(chosen)) < len(chosen):
            raise InputError(
                f"expected one or more different sensitive attributes, got {list(chosen)} "
                f"({self.name} has: {', '.join(self.protected)})"
            )
        return chosen

    def frame(
        self,
        sensitive: str | Sequence[str] | None = None,
        root: str | Path | None = None,
        *,
        target: str | None = None,
        cut: bool = True,
        **options: Any,
    ) -> pd.DataFrame:
        """The table that `load` splits: chosen attributes in groups, label binary if asked.

        Args:
            cut: False leaves chosen attributes that are numbers as they are.

        Raises:
            InputError: an option or attribute is unknown, a file is missing or broken.
        """
        attributes = self.attributes(sensitive)
        if "target" in self._arguments and target is not None:
            options["target"] = target
        elif target not in (None, *TARGETS):
            raise unknown("target", target, TARGETS)
        if "sensitive" in self._arguments:
            options["sensitive"] = attributes
        table = self._read(root, options)
        for name in attributes:
            parts = self.protected[name].cut
            if cut and parts is not None:
                table[name] = parts(table[name])
        if self.threshold is not None and target != "regression":
            table[self.label] = (table[self.label] > self.threshold).astype(int)
        return table

    def flags(self, table: pd.DataFrame) -> dict[str, str]:
        """The protected columns of two values: one 0/1 column each, sensitive or not."""
        return {
            name: protected.privileged
            for name, protected in self.protected.items()
            if name in table.columns
            and not pd.api.types.is_numeric_dtype(table[name])
            and table[name].nunique() == 2
        }

    def _read(self, root: str | Path | None, options: Mapping[str, Any]) -> pd.DataFrame:
        places = _Places(self.files, root)
        for file in self.files:
            if file.needed:
                places.find(file.path)
        try:
            table = self.read(places, **options)
        except InputError:
            raise
        except BROKEN as error:
            names = " or ".join(str(place) for place, _ in places.found.values())
            raise broken(names, f"{type(error).__name__}: {error}") from None
        for path, (place, genuine) in places.found.items():
            if not genuine:
                warnings.warn(
                    f"{place} is not the published file {path} (its SHA-256 differs); "
                    "its rows are used as they are",
                    RetrofairWarning,
                    stacklevel=4,
                )
        return table


class _Places(Mapping[str, Path]):
    """Where each file is, by its path below the root, looked for once when it is asked for."""

    def __init__(self, files: tuple[DataFile, ...], root: str | Path | None) -> None:
        self.files = {file.path: file for file in files}
        self.root, self.found = root, dict[str, tuple[Path, bool]]()

    def __getitem__(self, path: str) -> Path:
        return self.find(path)

    def find(self, path: str) -> Path:
        """The place of one, remembered with whether it is the published file."""
        if path not in self.found:
            self.found[path] = fetch.find(self.files[path], self.root)
        return self.found[path][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def broken(place: object, reason: str) -> InputError:
    """The error for a file that cannot be read as what it should be."""
    return InputError(
        f"expected a complete data file, but {place} is empty, truncated or of another kind "
        f"({' '.join(reason.split())}); remove it to have it downloaded, or put a good copy there"
    )


def read_csv(
    place: Path, *, labels: Collection[str] = (), columns: Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """A delimited file whose last column is the label, refused where rows are incomplete.

    Args:
        labels: the texts that the last column may hold; any if empty.
        columns: those that the header must have.

    Raises:
        InputError: naming the file: no rows, a column is absent, a row that ends early.
    """
    try:
        table: pd.DataFrame = pd.read_csv(place, keep_default_na=False, **options)
    except BROKEN as error:
        raise broken(place, f"{type(error).__name__}: {error}") from None
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise broken(place, f"no column {', '.join(absent)}")
    if not len(table):
        raise broken(place, "no rows")
    last = table.iloc[:, -1]
    short = last.isna()
    if short.any():
        # A row that ends early leaves its last fields empty: this is how truncation shows.
        raise broken(place, f"data row {int(short.to_numpy().argmax()) + 1:,} ends early")
    found = set(last.astype(str)) - set(labels)
    if labels and found:
        raise broken(place, f"label {min(found)!r} instead of {' or '.join(labels)}")
    return table


def numbers(table: pd.DataFrame, place: Path, names: Sequence[str]) -> None:
    """Refuse a table in which one of these columns is not all numbers."""
    for name in names:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise broken(place, f"column {name} holds texts")


def named(column: pd.Series, names: Mapping[int, str], place: Path) -> pd.Series:
    """Codes replaced by their names."""
    texts = column.map(names)
    if texts.isna().any():
        odd = column[texts.isna()].iloc[0]
        raise broken(place, f"code {odd} in column {column.name}")
    return texts


def two_groups(where: pd.Series, yes: str, no: str) -> pd.Series:
    """Truth values as two texts."""
    return where.map({True: yes, False: no})
