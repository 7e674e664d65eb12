"""Which data, as the command line says it, and what kind of label it has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pandas as pd

from retrofair import datasets
from retrofair.cli.media import Media
from retrofair.data import Missing, Splits, StreamedData, read_table, split_frame, split_rows
from retrofair.data.grouped import check_favourable
from retrofair.data.label_names import same_in
from retrofair.data.split import with_favourable, with_label_names
from retrofair.data.tables import TABLES
from retrofair.errors import InputError, MissingFileError, unknown
from retrofair.metrics.one_vs_rest import MOST_CLASSES

Target = Literal["two", "classes", "number"]
FEW_NUMBERS = 20  # different whole numbers up to which a label of them stands for classes
USUAL = (0.6, 0.2, 0.2)  # training, validation and test share


@dataclass(frozen=True)
class TableChoice:
    """Which data, as the command line says it."""

    data: str
    label: str | None = None
    positive: str | None = None
    sensitive: str | None = None
    privileged: str | None = None
    blind: bool = False
    missing: str = "drop"
    drop: str | None = None
    no_scale: bool = False
    root: Path | None = None
    seed: int = 0
    target: Target = "two"
    class_names: tuple[str, ...] = ()
    media: Media | None = None
    favourable: int | None = None  # None: as the data set says

    @classmethod
    def of(cls, *options: Any, regression: bool = False, media: Media | None = None) -> TableChoice:
        """What the options say, with what kind of label it is.

        With `regression` it is a number. Otherwise one of a file with three values or more, of
        which none is said to be positive, stands for as many classes: any texts, or at most 20
        whole numbers.

        Raises:
            InputError: --positive or a data set without numbers as labels, with --regression.
        """
        choice = cls(*options).with_media(media)
        if regression:
            if choice.positive is not None:
                raise InputError("expected no --positive with --regression: its label is a number")
            if not choice.is_file and datasets.get(choice.data).number_target is None:
                able = [known.name for known in datasets.ALL if known.number_target is not None]
                raise InputError(
                    f"expected data with a number as label for --regression, got {choice.data!r}: "
                    f"choose from {', '.join(able)}, or a file"
                )
            return replace(choice, target="number")
        values = choice.label_values()
        return replace(choice, target="classes", class_names=values) if values else choice

    def with_media(self, media: Media | None) -> TableChoice:
        """The same, of images or texts."""
        return replace(self, media=media)

    @property
    def is_file(self) -> bool:
        """A file, rather than the name of a data set."""
        if self.data in {known.name for known in datasets.ALL}:
            return False
        return Path(self.data).suffix.lower() in TABLES or Path(self.data).is_file()

    def check_columns(self, network: str | None = None) -> None:
        """Refuse a data set of images for a command that is for tables, or without a network.

        Raises:
            InputError: naming the option that takes another network, or other data.
        """
        if self.data not in {known.name for known in datasets.ALL if known.images is not None}:
            return
        if network is None:
            raise InputError(
                f"expected --network FOLDER or MODULE:FACTORY for the images of {self.data}, got "
                "none: base networks are for tables"
            )
        if self.media is None:
            raise InputError(
                f"expected a table, got the images of {self.data}: those are for audit, debias "
                "and frontier (--data)"
            )

    def with_favourable(self, favourable: int | None) -> TableChoice:
        """The same, with the label that is good for a person, where it is given.

        Raises:
            InputError: it is neither 0 nor 1, or the label has three classes or more.
        """
        if favourable is None:
            return self
        if self.target != "two":
            raise InputError(
                f"expected no --favourable with {len(self.class_names)} classes: it is for labels "
                "of two values (--positive)"
            )
        return replace(self, favourable=check_favourable(favourable))

    @property
    def setting(self) -> str:
        """Whether the network sees the protected columns, for titles; of a table only."""
        if self.media is not None:
            return ""
        return ", blind" if self.blind else ", columns in"

    @property
    def name(self) -> str:
        """The data set's, or the file's without its folders."""
        return Path(self.data).name if self.is_file else self.data

    @property
    def is_data(self) -> bool:
        """A table's file or a data set's name, whether it is there or not."""
        names = {known.name for known in datasets.ALL}
        return self.data in names or Path(self.data).suffix.lower() in TABLES

    @property
    def columns(self) -> list[str] | None:
        return commas(self.sensitive)

    def label_values(self) -> tuple[str, ...]:
        """The classes of a file's label, where there are three or more."""
        if not self.is_file or self.positive is not None or self.label is None:
            return ()
        frame = read_table(self.data)
        if self.label not in frame.columns:  # which is said where the table is prepared
            return ()
        column = frame[self.label].dropna()
        values = sorted(set(column.tolist()), key=lambda v: (isinstance(v, str), v))
        most, whole = MOST_CLASSES, False
        if pd.api.types.is_numeric_dtype(column):
            whole = bool((column % 1 == 0).all())  # floats, where one is missing
            most = FEW_NUMBERS if whole else 0
        return tuple(str(int(v) if whole else v) for v in values) if 2 < len(values) <= most else ()

    def splits(self, parts: tuple[float, float, float] = USUAL) -> Splits[Any]:
        """Training, validation and test data.

        Raises:
            InputError: an option is missing or wrong for this kind of data.
        """
        made = self._splits(parts)
        if self.class_names:
            made = with_label_names(made, self.class_names)
        return made if self.favourable is None else with_favourable(made, self.favourable)

    def _splits(self, parts: tuple[float, float, float]) -> Splits[Any]:
        if self.is_file and self.media is not None:
            return split_rows(self.streamed(), self.seed, parts)
        if self.is_file:
            label, columns = self.needed()
            frame = self._coded(read_table(self.data), label)
            return split_frame(
                frame,
                regression=self.target != "two",
                seed=self.seed,
                parts=parts,
                label=label,
                positive=self.positive,
                sensitive=columns,
                privileged=commas(self.privileged),
                include_sensitive=not self.blind,
                missing=cast(Missing, self.missing),
                drop=commas(self.drop) or (),
                scale=not self.no_scale,
            )
        for option, value in (("--label", self.label), ("--positive", self.positive)):
            if value is not None:
                raise InputError(
                    f"{option} is for files, but {self.data!r} is taken as a data set's name "
                    f"(choose from: {', '.join(known.name for known in datasets.ALL)})"
                )
        if self.missing not in get_args(Missing):
            raise unknown("choice for --missing", self.missing, get_args(Missing))
        privileged = commas(self.privileged)
        regression = self.target == "number"
        return datasets.load(
            self.data,
            **({"target": datasets.get(self.data).number_target} if regression else {}),
            sensitive=self.columns,
            root=self.root,
            seed=self.seed,
            include_sensitive=not self.blind,
            **({} if privileged is None else {"privileged": privileged}),
            **({"scale": False} if self.no_scale else {}),
            **({} if self.drop is None else {"drop": commas(self.drop)}),
            **({} if self.media is None else self.media.load_options()),
        )

    def streamed(self) -> StreamedData:
        """All rows of a file, of images or texts.

        Raises:
            InputError: an option is missing, or a label of many values is of no kind.
        """
        assert self.media is not None
        label, columns = self.needed()
        frame = self._coded(read_table(self.data), label)
        if self.target == "two" and self.positive is None and label in frame.columns:
            values = frame[label].nunique()
            if values > 2:
                raise InputError(
                    f"expected a label of two values, or of at most {FEW_NUMBERS} whole numbers, "
                    f"got {values:,} in {label!r}: say which is positive with --positive"
                )
        rows = self.media.rows(
            frame,
            label=label,
            sensitive=columns,
            positive=self.positive,
            privileged=commas(self.privileged),
            regression=self.target != "two",
        )
        return replace(rows, label_names=self.class_names) if self.class_names else rows

    def _coded(self, frame: pd.DataFrame, label: str) -> pd.DataFrame:
        """With codes for a label of classes."""
        if self.target != "classes" or label not in frame.columns:
            return frame
        names = self.class_names
        read = same_in(names)
        codes = {read(name): code for code, name in enumerate(names)}
        said = frame[label].map(lambda value: read(str(value)), na_action="ignore")
        new = frame[label][said.notna() & ~said.isin(codes)]
        if len(new):
            raise InputError(
                f"expected {label!r} to be {', '.join(names)}, as in the data that the result was "
                f"fitted to, got {str(new.iloc[0])!r} in {len(new):,} of {len(frame):,} rows: "
                "leave out rows with other values"
            )
        return frame.assign(**{label: said.map(codes)})

    def needed(self) -> tuple[str, list[str]]:
        """The label and the protected columns, which a file cannot do without."""
        if self.label is None:
            raise InputError(f"expected --label COLUMN for the file {self.data}, got none")
        if self.columns is None:
            raise InputError(f"expected --sensitive COLUMN for the file {self.data}, got none")
        return self.label, self.columns


def one_source(file: str | None, data: str | None, default: str | None = None) -> str:
    """The data named by the first argument or by --data."""
    if file is not None and data is not None and file != data:
        raise InputError(f"expected one data set, got {file!r} and --data {data}")
    chosen = file or data or default
    if chosen is None:
        raise InputError(
            "expected data: a file, or --data with one of "
            + ", ".join(known.name for known in datasets.ALL)
        )
    check_there(chosen)
    return chosen


def check_there(data: str) -> None:
    """Refuse what looks like a path, and is neither a file nor a data set's name.

    Raises:
        InputError: naming the kinds of files that are read.
    """
    path, kinds = Path(data), ", ".join(TABLES)
    known = data in {each.name for each in datasets.ALL} or path.suffix.lower() in TABLES
    if known:  # what is wrong with such a path is said where it is read
        return
    if path.is_file():
        raise InputError(f"expected a table ({kinds}), got {data} (--data)")
    if path.is_dir():
        raise InputError(f"expected a table ({kinds}), got the folder {data} (--data)")
    if path.name != data or path.suffix:
        raise MissingFileError(f"expected a table ({kinds}), but there is no file {data} (--data)")


def commas(text: str | None) -> list[str] | None:
    r"""The parts of a list separated by commas; `\,` is a comma inside a part.

    >>> commas(r"age, sex\, as born")
    ['age', 'sex, as born']
    """
    if text is None:
        return None
    parts = (part.replace("\\,", ",").strip() for part in re.split(r"(?<!\\),", text))
    return [part for part in parts if part]
