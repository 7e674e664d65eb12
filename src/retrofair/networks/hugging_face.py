"""A classifier in Hugging Face's form: config.json and safetensors, from a folder or the hub."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from retrofair.errors import InputError, UnsafeFileError
from retrofair.hub import is_hub_name, local_folder, pickles_of
from retrofair.networks.hugging_face_network import (
    MANY,
    TASKS,
    HuggingFaceNetwork,
    class_names,
)

CONFIG, ADAPTERS = "config.json", "adapter_config.json"


def load_hugging_face(name: str, output: str | int | None = None) -> nn.Module:
    """Read a classifier of text or images.

    Args:
        name: a folder with config.json and safetensors, or a name on the hub, owner/model.
        output: as of `HuggingFaceNetwork`.

    Raises:
        MissingFileError: there is no such folder, though the one it would be in is there.
        InputError: transformers is missing, or this is no classifier, or is damaged or incomplete,
            or tells several labels at once without `output`, or there is no such name on the hub.
        UnsafeFileError: the weights are pickles only.
    """
    folder = local_folder(name)
    architecture = _checked(folder, name)
    try:
        import transformers
    except ImportError:
        raise InputError(
            f"expected the package transformers to read {name}: install retrofair[transformers]"
        ) from None
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    try:
        with quietly(transformers):
            kind = getattr(transformers, _task(architecture, name))
            model, about = kind.from_pretrained(folder, output_loading_info=True, **options)
    except InputError:
        raise
    except Exception as error:  # transformers raises many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"expected a classifier in Hugging Face's form, but {name} cannot be read: {reason} "
            "(--network)"
        ) from error
    absent = sorted(about["missing_keys"]) + [str(each[0]) for each in about["mismatched_keys"]]
    if absent:
        raise InputError(
            f"expected all weights of {architecture} in {name}, but {', '.join(absent[:4])} "
            f"{'is' if len(absent) == 1 else 'are'} missing or of another shape: fine-tune it as a "
            "classifier and save it whole"
        )
    return HuggingFaceNetwork(model, output=output).eval()


def names_of_several(folder: Path) -> tuple[str, ...]:
    """What a folder's classifier calls the labels that it tells at once; () where it tells one."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()  # said where the network is read
    if not isinstance(values, dict) or values.get("problem_type") != MANY:
        return ()
    return class_names(SimpleNamespace(config=SimpleNamespace(**values)))


def _checked(folder: Path, name: str) -> str:
    """The architecture of a folder, fetched or given by name, whose files can be read safely."""
    config = folder / CONFIG
    if (folder / ADAPTERS).is_file():
        raise InputError(
            f"expected a whole network in {name}, but it holds adapters ({ADAPTERS}): merge them "
            "into the network they belong to, peft.AutoPeftModelForSequenceClassification"
            f".from_pretrained({name!r}, num_labels=...).merge_and_unload().save_pretrained(folder)"
            ", or take that file away where they are merged already (--network)"
        )
    if not config.is_file():
        raise InputError(
            f"expected a folder with {CONFIG} and safetensors, but {config} is not there "
            "(--network); a folder written by debias --out is named with --result"
        )
    if not list(folder.glob("*.safetensors")):
        raise _without_safetensors(folder, name)
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"expected JSON in {config}, but it is damaged: {error}") from None
    names = values.get("architectures") if isinstance(values, dict) else None
    return _architecture(names, str(folder))


def _without_safetensors(folder: Path, name: str) -> InputError:
    """What to say of a folder, or a name on the hub, that holds no safetensors."""
    pickles: list[str] | None = sorted(each.name for each in folder.glob("*.bin"))
    fetched = not pickles and is_hub_name(name)
    if fetched:
        pickles = pickles_of(name)
    if pickles:
        there, source = (name, repr(name)) if fetched else (folder, "folder")
        return UnsafeFileError(
            f"{there} holds its weights as a pickle only ({pickles[0]}), and loading a pickle "
            "can run code hidden in it: expected model.safetensors. Convert it once, where you "
            f"trust it: {_auto_class(folder / CONFIG)}.from_pretrained({source})"
            ".save_pretrained(folder)"
        )
    if pickles is None:
        return InputError(
            f"expected model.safetensors among the files fetched of {name}, but none is in "
            f"{folder}, and the hub cannot be asked what {name} holds: try again with a "
            "connection, or name a folder with model.safetensors (--network)"
        )
    return InputError(
        f"expected model.safetensors in {name if fetched else folder}, which is not there "
        "(--network)"
    )


def _auto_class(config: Path) -> str:
    """The class that converts a folder, as far as its config tells."""
    try:
        names = json.loads(config.read_text(encoding="utf-8"))["architectures"]
        return next(kind for end, kind in TASKS.items() if str(names[0]).endswith(end))
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration):
        return " or ".join(TASKS.values())


def _architecture(names: Any, name: str) -> str:
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(f"expected the config of {name} to name its architecture, got {names!r}")
    _task(names[0], name)
    return names[0]


def _task(architecture: str, name: str) -> str:
    for ending, kind in TASKS.items():
        if architecture.endswith(ending):
            return kind
    raise InputError(
        f"expected a classifier of sequences or images in {name}, got {architecture}: its name "
        f"ends in none of {', '.join(TASKS)} (--network)"
    )


@contextmanager
def quietly(transformers: Any) -> Iterator[None]:
    """Without its progress bars and remarks, and with the random state as it was."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    level = logging.root.manager.disable
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
