"""A preparation as a file that says which version wrote it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrofair.data.encoders import Flag, Number
from retrofair.data.preparation import Preparation
from retrofair.data.raw import codes
from retrofair.errors import InputError, MissingFileError
from retrofair.files import write_json
from retrofair.version import __version__

FORMAT = 1
FILE = "preparation.json"


def as_values(preparation: Preparation) -> dict[str, Any]:
    """What the file holds. The tables of codes follow from the rest and are for other programs."""
    return {
        "format": FORMAT,
        "retrofair": __version__,
        "preparation": preparation.to_dict(),
        "codes": codes(preparation),
    }


def write_preparation(preparation: Preparation, path: Path) -> Path:
    """Write the file whole, or leave what was there."""
    write_json(path, as_values(preparation))
    return path


def read_preparation(path: Path) -> Preparation:
    """Read what `write_preparation` wrote.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, or of another version.
    """
    if not path.is_file():
        raise MissingFileError(f"expected a saved preparation, but there is no file {path}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"expected a saved preparation, but {path} is damaged: {error}") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        writer = values.get("retrofair") if isinstance(values, dict) else None
        by = f" (Retrofair {writer})" if isinstance(writer, str) else ""
        raise InputError(
            f"expected a preparation of format {FORMAT} in {path}, got {found!r}: it was written "
            f"by another version{by}, or is no preparation; save it again with this version"
        )
    made = Preparation.from_dict(_mapping(values.get("preparation"), path))
    for column in made.columns:
        if not _sound(column):
            raise InputError(f"expected a saved preparation, but {path} is damaged: {column}")
    return made


def _mapping(values: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise InputError(f"expected a saved preparation, but {path} is damaged: it holds none")
    return values


def _sound(column: Any) -> bool:
    if not isinstance(column.name, str):
        return False
    if isinstance(column, Number):
        numbers = (column.fill, column.mean, column.spread)
        plain = all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
        return plain and column.spread > 0
    if isinstance(column, Flag):
        return isinstance(column.value, str) and isinstance(column.other, str | None)
    values = column.values
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)
