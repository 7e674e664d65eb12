"""Reading a user's table: CSV or Parquet."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import pandas as pd

from retrofair.data.csv_texts import with_numbers
from retrofair.errors import InputError, MissingFileError

TABLES = (".csv", ".tsv", ".parquet", ".pq")
DELIMITERS = ",;\t|"


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV (delimiter , ; tab or |, with a header) or Parquet file.

    Of a CSV file an empty field is missing, and so are NA, nan, null, None, ? and - in columns
    whose other values are numbers (or true and false), with a warning; elsewhere they are texts.
    Where ; or a tab separates the fields, numbers may have decimal commas, also with a warning.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is empty, truncated or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"expected a table, but there is no file {path} (--data)")
    if path.suffix.lower() not in TABLES:
        raise InputError(f"expected a .csv or .parquet file, got {path} (--data)")
    if path.stat().st_size == 0:
        raise InputError(f"expected a table, but {path} is empty")
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected a Parquet file, but {path} cannot be read: {error}"
            ) from None
    return _read_csv(path)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next((line for line in file if line.strip()), "")
        delimiter = max(DELIMITERS, key=lambda mark: len(_fields(header, mark)))
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=delimiter,
                skipinitialspace=True,
                encoding="utf-8-sig",
                low_memory=False,
                index_col=False,
                keep_default_na=False,
                na_values=[""],
            )
    except UnicodeDecodeError as error:
        raise InputError(f"expected a CSV file in UTF-8, but {path} is not: {error}") from None
    except pd.errors.ParserWarning:
        raise InputError(
            f"expected as many fields as column names, but the rows of {path} have more fields"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(
            f"expected a CSV file, but {path} cannot be read (damaged or cut off?): "
            f"{str(error).strip()}"
        ) from None
    if not len(frame):
        raise InputError(f"expected a table with rows, but {path} has only a header")
    if frame.iloc[-1].isna().any():
        fields = len(_fields(_last_record(path), delimiter))
        if fields < len(frame.columns):
            raise InputError(
                f"{path} looks cut off: its last line has {fields} of {len(frame.columns)} "
                "fields; fetch it again or delete that line"
            )
    return with_numbers(frame, commas=delimiter in ";\t")


def _fields(text: str, delimiter: str) -> list[str]:
    """The fields of the last record of a text."""
    source = io.StringIO(text, newline="")
    try:
        rows = list(csv.reader(source, delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # a field beyond csv's limit
        return text.split(delimiter)
    return rows[-1] if rows else []


def _last_record(path: Path) -> str:
    """The last record with something in it; enough is read from the end to hold it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for reach in (65_536, size):
            file.seek(max(0, size - reach))
            lines = [line for line in file.read().splitlines() if line.strip()]
            start = len(lines) - 1
            odd = lines[start].count(b'"') % 2
            while odd and start:  # inside quotes: the record began on an earlier line
                start -= 1
                odd = (odd + lines[start].count(b'"')) % 2
            if start:
                break
    return b"\n".join(lines[start:]).decode("utf-8", errors="replace")
