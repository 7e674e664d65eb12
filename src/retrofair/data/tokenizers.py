"""The tokenizer that a network in Hugging Face's form brings in its folder."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

from retrofair.errors import InputError
from retrofair.hub import local_folder

# any of which says that there is a tokenizer
FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")


def load_tokenizer(folder: str | Path) -> Any:
    """Read the tokenizer of a folder or of a name on the hub: its own files alone, without code.

    Raises:
        MissingFileError: there is no such folder.
        InputError: it holds no tokenizer, or one that cannot be read, or transformers is missing.
    """
    place = local_folder(folder)
    if not any((place / name).is_file() for name in FILES):
        raise InputError(
            f"expected a tokenizer in {place} ({FILES[0]}), found none: save it beside the "
            "network, tokenizer.save_pretrained(folder) (--network)"
        )
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise InputError(
            f"expected the package transformers to read the tokenizer in {place}: install "
            "retrofair[transformers]"
        ) from None
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fast = (place / FILES[0]).is_file()
            return AutoTokenizer.from_pretrained(str(place), use_fast=fast, **options)
    except Exception as error:  # transformers raises many kinds
        raise InputError(
            f"expected a tokenizer in {place}, but it cannot be read: {shown(error)} (--network)"
        ) from error
    finally:
        logging.disable(level)


def longest(folder: str | Path) -> int | None:
    """The positions that the network in a folder has, where its config tells."""
    try:
        values = json.loads((local_folder(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = values.get("max_position_embeddings") if isinstance(values, dict) else None
    return known if isinstance(known, int) and known > 0 else None


def shown(error: Exception) -> str:
    """An error of another library in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
