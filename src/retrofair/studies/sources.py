"""Where a study's data come from, and what tells them from other data of the same name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from retrofair import datasets
from retrofair.data import Splits, read_table, split_frame
from retrofair.data.tables import TABLES
from retrofair.datasets import fetch
from retrofair.errors import InputError


@dataclass(frozen=True)
class Source:
    """A data set or a table, its groups, and the seed of its 60/20/20 split.

    Args:
        data: a data set's name, or a .csv or .parquet file.
        sensitive: the protected columns.
        split: seed of the split.
        include_sensitive: keep the protected columns among the features.
        rows: of a data set by name, a sample of so many rows, the same for every split.
        others: of a data set by name, everybody not privileged as one group of each column.
        target: of a data set by name that has several, which label.
        label, positive, privileged: for a file, as in `GroupedData.from_frame`.
    """

    data: str
    sensitive: tuple[str, ...]
    split: int = 0
    include_sensitive: bool = True
    label: str | None = None
    positive: str | None = None
    privileged: tuple[str, ...] | None = None
    rows: int | None = None
    others: bool = False
    target: str | None = None

    def __post_init__(self) -> None:
        if not self.is_file:
            data_set = datasets.get(self.data)
            data_set.attributes(self.sensitive)
            if self.target is not None and "target" not in data_set.options:
                raise InputError(f"expected no target for {self.data}, got {self.target!r}")
            if self.rows is not None and data_set.images is not None:
                raise InputError(f"expected all rows of the images of {self.data}, got rows")
        elif self.label is None:
            raise InputError(f"expected label = COLUMN for the file {self.data}, got none")
        elif self.rows is not None or self.others or self.target is not None:
            raise InputError(
                f"expected a data set's name with rows, others or target, got {self.data}"
            )
        if self.rows is not None and self.rows < 1:
            raise InputError(f"expected at least one row, got {self.rows} (rows)")

    @property
    def is_file(self) -> bool:
        """A table of the user's, rather than a data set by name."""
        return Path(self.data).suffix.lower() in TABLES

    @property
    def groups(self) -> str:
        """The protected columns as one word."""
        return "+".join(self.sensitive)

    def to_dict(self) -> dict[str, Any]:
        """What decides the rows, apart from the files' content; a file by its name alone."""
        about = {**asdict(self), "data": Path(self.data).name if self.is_file else self.data}
        for option in ("rows", "others", "target"):
            # unused, they are not there: stores keep their keys
            if not about[option]:
                del about[option]
        return about

    def load(self, root: str | None = None) -> Splits:
        """Training, validation and test data; the last few are kept in memory.

        Raises:
            InputError: a file is missing, broken or changed meanwhile, or a column unknown.
        """
        checksum = self.checksum(root)
        splits = _load(self, root, checksum)
        if self.checksum(root) != checksum:
            _load.cache_clear()
            raise InputError(
                f"expected the files of {self.data} to stay as they are while they are read, but "
                "they changed: run again when they are complete"
            )
        return splits

    def checksum(self, root: str | None = None) -> str:
        """SHA-256 of the files' bytes; "" for data that are generated.

        Raises:
            InputError: a file is missing.
        """
        places = list(self._places(root))
        return _digest(tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in places))

    def _places(self, root: str | None) -> Iterator[Path]:
        if not self.is_file:
            yield from (fetch.find(file, root)[0] for file in datasets.get(self.data).files)
            return
        if not Path(self.data).is_file():
            raise InputError(f"expected a table at {self.data}, found no such file")
        yield Path(self.data)


@lru_cache(maxsize=4)
def _load(source: Source, root: str | None, _checksum: str) -> Splits:
    if source.is_file:
        assert source.label is not None
        return split_frame(
            read_table(source.data),
            seed=source.split,
            label=source.label,
            positive=source.positive,
            sensitive=list(source.sensitive),
            privileged=None if source.privileged is None else list(source.privileged),
            include_sensitive=source.include_sensitive,
        )
    own = datasets.get(source.data).options
    options: dict[str, Any] = {}
    if source.target is not None:
        options["target"] = source.target
    if source.others and "others" in own:
        options["others"] = True
    elif source.rows is not None or source.others:
        return _reduced(source, root)
    return datasets.load(
        source.data,
        sensitive=list(source.sensitive),
        root=root,
        seed=source.split,
        include_sensitive=source.include_sensitive,
        **options,
    )


def _reduced(source: Source, root: str | None) -> Splits:
    """As `datasets.load`, of fewer rows or groups."""
    data_set = datasets.get(source.data)
    table = data_set.frame(source.sensitive, root)
    if source.rows is not None:
        if source.rows > len(table):
            raise InputError(f"expected at most {len(table):,} rows, got {source.rows:,} (rows)")
        table = table.sample(source.rows, random_state=0).reset_index(drop=True)
    privileged = [data_set.protected[column].privileged for column in source.sensitive]
    if source.others:
        for column, name in zip(source.sensitive, privileged, strict=True):
            table[column] = table[column].where(table[column] == name, f"non-{name}")
    return datasets.split(
        data_set,
        table,
        source.sensitive,
        root,
        seed=source.split,
        include_sensitive=source.include_sensitive,
        privileged=privileged,
    )


@lru_cache(maxsize=64)
def _digest(places: tuple[tuple[str, int, int], ...]) -> str:
    if not places:
        return ""
    digest = hashlib.sha256()
    for place, _, _ in places:
        with Path(place).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
