"""Networks by their name on the Hugging Face hub, as folders on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from retrofair.errors import InputError, MissingFileError

NAME = r"[\w-][\w.-]*/[\w-][\w.-]*"
# settings, weights and vocabularies of the network itself; no pickle and no code is fetched
FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model")
BELOW = ("*/*",)
PICKLE = re.compile(r"[^/]+\.(bin|pt|pth|ckpt)")


def is_hub_name(network: str) -> bool:
    """Whether this can be a name on the hub, owner/model, and is no path that is there."""
    return re.fullmatch(NAME, network) is not None and not Path(network).exists()


def local_folder(network: str | Path) -> Path:
    """The folder of a network: itself, or of owner/model the copy in the hub's own cache.

    What is not in the cache is fetched, as huggingface_hub does by its own settings (HF_HOME,
    HF_TOKEN, HF_HUB_OFFLINE).

    Raises:
        MissingFileError: there is no such folder, though the one it would be in is there.
        InputError: huggingface_hub is missing, or there is no such name, or no connection.
    """
    folder = Path(network)
    if folder.is_dir():
        return folder
    if folder.parent.is_dir() or not is_hub_name(str(network)):  # a slip in a path
        raise MissingFileError(
            f"expected the folder of a network, but there is no {network} (--network)"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InputError(
            f"expected the package huggingface_hub to find {network}: install "
            "retrofair[transformers]"
        ) from None
    try:
        name, fetched, below = str(network), list(FETCHED), list(BELOW)
        return Path(snapshot_download(name, allow_patterns=fetched, ignore_patterns=below))
    except Exception as error:  # the hub raises many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"expected a folder, or a network on the hub, as {network}, which cannot be fetched: "
            f"{reason} (--network)"
        ) from error


def pickles_of(name: str) -> list[str] | None:
    """The pickled weights that owner/model holds on the hub; None where it cannot be asked."""
    try:
        from huggingface_hub import HfApi

        return sorted(each for each in HfApi().list_repo_files(name) if PICKLE.fullmatch(each))
    except Exception:  # no connection, or any of the hub's own errors
        return None
