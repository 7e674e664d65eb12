"""Writing files so that an interruption leaves the old content or the new, never half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON; nan and infinity become null."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(values) + "\n", encoding="utf-8")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> None:
    """Write tensors, from any device, and what is said about them as safetensors.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    places: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        plain[name] = value.detach().cpu().contiguous()
        place = plain[name].untyped_storage().data_ptr()
        if place in places:  # safetensors refuses tensors that share memory, as tied weights do
            plain[name] = plain[name].clone()
        places.add(place)
    try:
        save_file(plain, path, None if about is None else dict(about))
    except SafetensorError as error:  # which is no OSError, whatever it was
        raise OSError(f"{path}: {error}") from None


def json_text(values: Any, indent: int | None = 2) -> str:
    """Strict JSON: nan and infinity become null."""
    return json.dumps(_plain(values), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
