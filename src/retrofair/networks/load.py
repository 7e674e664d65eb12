"""A user's own network: a factory with safetensors weights. Nothing here unpickles a file."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from retrofair.errors import InputError, MissingFileError, UnsafeFileError
from retrofair.hub import is_hub_name
from retrofair.networks.hugging_face import load_hugging_face
from retrofair.networks.hugging_face_network import HuggingFaceNetwork, is_classifier
from retrofair.networks.outputs import ExportedNetwork

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")
PICKLED = (b"\x80", b"PK\x03\x04")


def load_network(
    network: str | Path,
    weights: str | Path | None = None,
    *,
    trust_network_file: bool = False,
    output: str | int | None = None,
) -> nn.Module:
    """Build a network and load its weights.

    Args:
        network: "package.module:factory", a callable without arguments that returns an nn.Module
            (the current folder is on the import path); or a classifier in Hugging Face's form, a
            folder with config.json and safetensors or a name on the hub, owner/model; or a .pt2
            file, only when trusted.
        weights: a .safetensors file.
        trust_network_file: allow a .pt2 file. Loading one can run code that it holds.
        output: the output to read of a classifier that tells several labels at once, by its name
            or place (`HuggingFaceNetwork`).

    Raises:
        InputError: there is no such factory, it fails, the weights do not fit, an ONNX file, a
            classifier that tells several labels at once without `output`, an `output` of another
            kind of network, or a network that is loaded already.
        UnsafeFileError: a pickle, or a .pt2 file without trust.
    """
    if isinstance(network, nn.Module):
        raise InputError(
            f"expected the name of a network, got a network, {type(network).__name__}: one that is "
            "loaded already is given as it is, as in rf.audit(network, data)"
        )
    network = str(network)
    if network.lower().endswith(".pt2"):
        model = _exported(Path(network), trust_network_file)
    elif network.lower().endswith(PICKLES):
        raise _pickle(Path(network))
    elif network.lower().endswith(".onnx"):
        raise _graph(Path(network))
    elif _is_hugging_face(network):
        if weights is not None:
            raise InputError(f"expected no weights with {network}: it brings its own (--weights)")
        model = load_hugging_face(network, output)
    else:
        model = _factory(network)
    if weights is not None:
        load_weights(model, weights)
    if output is not None:
        inner = model.network if isinstance(model, HuggingFaceNetwork) else model
        if not is_classifier(inner):
            raise InputError(
                f"expected a classifier in Hugging Face's form, of which one output is read, got "
                f"{network}: let the factory's network answer with that one logit (output, "
                "--label-output)"
            )
        model = HuggingFaceNetwork(inner, output=output)
    return model.eval()


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a safetensors file into a network, which it must fit exactly.

    Raises:
        InputError: the file is missing, damaged or of another network.
        UnsafeFileError: the file is a pickle.
    """
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the weights in {path} do not fit the network: {reason}") from None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"expected a weights file, but {path} is not there (--weights)")
    with path.open("rb") as file:
        head = file.read(9)
    # safetensors: eight bytes of length (whose first may be a pickle's), then JSON
    if path.suffix.lower() in PICKLES or (head[8:] != b"{" and head.startswith(PICKLED)):
        raise _pickle(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"expected a safetensors file, but {path} is damaged: {error}") from None


def _is_hugging_face(network: str) -> bool:
    if ":" in network or not network:
        return False
    return Path(network).is_dir() or is_hub_name(network)


def _graph(path: Path) -> InputError:
    return InputError(
        f"{path} is an ONNX file, which holds a graph for inference but no nn.Module that can be "
        "debiased, and no converter works with this torch: give the network it was exported from, "
        "--network module:factory with --weights .safetensors; or audit its decisions as a column "
        "of your table with --prediction"
    )


def _factory(network: str) -> nn.Module:
    module_name, _, name = network.partition(":")
    if not module_name or not name:
        raise InputError(
            f"expected a network as 'package.module:factory', got {network!r} (--network)"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise InputError(
            f"cannot import {module_name!r} for --network {network}: {error}; run from the folder "
            "that holds it, or install it"
        ) from None
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(f"expected a factory {name!r} in {module_name}, got {factory!r}")
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"expected a factory without arguments, but {network}() fails: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"expected {network}() to return an nn.Module, got {type(model).__name__}")
    return model


def _exported(path: Path, trusted: bool) -> nn.Module:
    if not trusted:
        raise UnsafeFileError(
            f"{path} is a torch.export file: loading it falls back to unpickling, which can run "
            "code hidden in it. If you made it yourself or trust its maker, say "
            "--trust-network-file; safer is --network module:factory with --weights .safetensors"
        )
    if not path.is_file():
        raise MissingFileError(f"expected a network file, but {path} is not there (--network)")
    try:
        logging.disable(logging.CRITICAL)  # torch.export logs a traceback before it raises
        return ExportedNetwork(torch.export.load(path).module())
    except Exception as error:  # torch.export raises many kinds, zipfile's among them
        raise InputError(
            f"expected a torch.export file, but {path} cannot be read: {error}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _pickle(path: Path) -> UnsafeFileError:
    return UnsafeFileError(
        f"{path} is a pickle, and loading a pickle can run code hidden in it: expected a "
        ".safetensors file. Convert it once, where you trust it: "
        "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
    )
