"""Results in folders: weights, preparation and everything else, with what tells that they are one.

`result.json` names the other files with their SHA-256: a folder in which a new file stands beside
an old one, after a crash between two renames, is refused rather than used.
"""

from __future__ import annotations

import copy
import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from retrofair.data import Preparation
from retrofair.data import stored as preparations
from retrofair.debiasers import rules
from retrofair.debiasers.effects import Effects
from retrofair.debiasers.head import HeadedNetwork, headed
from retrofair.debiasers.result import Debiased, Scores, Status
from retrofair.errors import InputError
from retrofair.files import json_text, replacing, save_tensors
from retrofair.networks.digest import digest
from retrofair.networks.hugging_face_network import HuggingFaceNetwork, is_classifier
from retrofair.networks.mlp import MLP
from retrofair.networks.outputs import LogitOf, as_module

FORMAT = 1
WEIGHTS = "model.safetensors"
ABOUT = "result.json"
PREPARATION = preparations.FILE
MLP_KIND = "mlp"
# before the names of a network's tensors in a result, which may read its outputs or have a head
PREFIXES = ("features.network.network.", "features.network.", "network.", "")


def write_result(result: Debiased, folder: Path, base: nn.Module | None = None) -> Path:
    """Write a result into a folder, as what differs from `base` where one is given.

    Raises:
        InputError: the folder is a file, or the base is no network of the structure that was
            debiased.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder to save to, but {folder} is a file")
    state = {name: value.detach().cpu() for name, value in result.model.state_dict().items()}
    if base is not None:
        arranged = _arrangement(result.model) or {}
        base = in_config_order(_reading(base, arranged.get("output")))
    alike: list[str] = [] if base is None else same_tensors(state, base)
    state = {name: value for name, value in state.items() if name not in alike}
    about = _about(result)
    if base is not None:
        about |= {"base": {"digest": digest(base), "tensors": alike}}
    # all are written before any takes its place: no new weights with an old rule
    with ExitStack() as stack:
        text = stack.enter_context(replacing(folder / ABOUT))
        weights = stack.enter_context(replacing(folder / WEIGHTS))
        save_tensors(weights, state)
        files = {WEIGHTS: _sha256(weights)}
        if result.preparation is not None:
            place = stack.enter_context(replacing(folder / PREPARATION))
            values = json_text(preparations.as_values(result.preparation))
            place.write_text(values + "\n", encoding="utf-8")
            files[PREPARATION] = _sha256(place)
        text.write_text(json_text(about | {"files": files}) + "\n", encoding="utf-8")
    return folder


def load_result(folder: str | Path, net: nn.Module | None = None) -> Debiased:
    """Read a saved result.

    Args:
        net: a network of the architecture that was debiased; it is copied, not changed. Results of
            `networks.train_mlp` know theirs and need none. The order in which a classifier of
            transformers gives its classes is the result's own, and so is the one output that is
            read of several labels.

    Raises:
        InputError: the folder holds no result, or a damaged or half-written one, or one that does
            not fit the network, or that needs one.
    """
    if net is not None and not isinstance(net, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(net).__name__}")
    folder = Path(folder)
    values, state = _files(folder)
    try:
        known = values.get("network")
        if net is None:
            net = _rebuilt(known, folder)
        net = in_config_order(_reading(net, _output(values)))
        return _read(values, state, net, _preparation(values, folder))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the weights in {folder} do not fit this network: {reason}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"expected a saved result in {folder}, but {ABOUT} is damaged: {error!r}"
        ) from None


def output_of(folder: Path) -> int | None:
    """Which output of a network of several labels at once a saved result reads.

    Raises:
        InputError: as of `load_result`, of the folder alone.
    """
    return _output(_files(folder)[0])


def _reading(net: nn.Module, output: int | None) -> nn.Module:
    """A network as a module of ours, of which a result reads this output."""
    if output is not None and is_classifier(net):
        return HuggingFaceNetwork(net, output=output)
    return as_module(net)


def _output(values: dict[str, Any]) -> int | None:
    arranged = values.get("arranged")
    return arranged.get("output") if isinstance(arranged, dict) else None


def same_tensors(state: dict[str, Tensor], base: nn.Module) -> list[str]:
    """Names of a result's tensors that are the base network's own.

    Raises:
        InputError: the result is not one of a network of this structure.
    """
    own = base.state_dict()
    for prefix in PREFIXES:
        theirs = [state.get(prefix + name) for name in own]
        if all(
            found is not None and found.shape == value.shape
            for found, value in zip(theirs, own.values(), strict=True)
        ):
            return [
                prefix + name
                for name, value in own.items()
                if torch.equal(state[prefix + name], value.detach().cpu())
            ]
    raise InputError(
        "expected the network that was debiased as base, got one of another structure: save "
        "without base="
    )


def _fill(model: nn.Module, state: dict[str, Tensor], base: Any, net: nn.Module) -> None:
    """Load the weights, those of a difference into a copy of its base."""
    if base is None:
        model.load_state_dict(state)
        return
    if digest(net) != base["digest"]:
        raise InputError(
            "expected the network that the result was stored as a difference to, got one with "
            "other weights or another structure (net, --network)"
        )
    own = model.state_dict()
    model.load_state_dict({name: own[name] for name in base["tensors"]} | state)


def _about(result: Debiased) -> dict[str, Any]:
    model = result.model
    return {
        "format": FORMAT,
        "rule": rules.to_dict(result.rule),
        "status": result.status.value,
        "before": vars(result.before),
        "after": vars(result.after),
        "constant": vars(result.constant),
        "group_names": result.group_names,
        "network": _structure(model),
        "arranged": _arrangement(model),
        "head": model.structure() if isinstance(model, HeadedNetwork) else None,
        "about": result.about,
        "history": result.history,
        "effects": None if result.effects is None else result.effects.to_dict(),
    }


def in_config_order(net: nn.Module) -> nn.Module:
    """A network whose outputs come as they are, where it had put them into another order."""
    return net.arranged(None) if isinstance(net, HuggingFaceNetwork) else net


def _below(model: nn.Module) -> nn.Module:
    """The network below a head and a reading of probabilities."""
    if isinstance(model, HeadedNetwork):
        model = model.features.network
    return model.network if isinstance(model, LogitOf) else model


def _arrangement(model: nn.Module) -> dict[str, Any] | None:
    """Which outputs of a classifier of transformers stand for the labels; None: as they come."""
    net = _below(model)
    if not isinstance(net, HuggingFaceNetwork) or (net.order is None and net.output is None):
        return None
    return {"output": net.output, "order": net.order}


def _arranged(net: nn.Module, known: dict[str, Any] | None) -> nn.Module:
    if known is None and not (isinstance(net, HuggingFaceNetwork) and net.output is not None):
        return net
    known = known or {"output": None, "order": None}
    if not isinstance(net, HuggingFaceNetwork):
        raise InputError(
            "expected the classifier of transformers that was debiased, whose outputs the result "
            f"puts into order, got {type(net).__name__} (net, --network)"
        )
    if net.output != known["output"]:
        read, got = ("all" if each is None else each for each in (known["output"], net.output))
        raise InputError(
            f"expected a network of which output {read} is read, as of the one that was debiased, "
            f"got {got}: networks.HuggingFaceNetwork(model, output=...) (net)"
        )
    return net.arranged(known["order"])


def _structure(model: nn.Module) -> dict[str, Any] | None:
    """What rebuilds the network below a head and a reading of probabilities; None for others'."""
    model = _below(model)
    return {"kind": MLP_KIND, **model.structure} if type(model) is MLP else None


def _rebuilt(structure: Any, folder: Path) -> nn.Module:
    if structure is None:
        raise InputError(
            f"the result in {folder} is of a network of your own, whose structure it does not "
            "hold: expected net=, a network of that architecture (--network)"
        )
    if not isinstance(structure, dict) or structure.get("kind") != MLP_KIND:
        raise InputError(
            f"expected the structure of a network in {folder}, got {structure!r}: it is damaged or "
            "was written by another version; give the network with net= (--network)"
        )
    return MLP(**{name: value for name, value in structure.items() if name != "kind"})


def _files(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The values of result.json and the weights, each checked by itself and against the other."""
    for name in (ABOUT, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"expected a saved result in {folder}, but {name} is not there")
    try:
        values = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(
            f"expected a saved result in {folder}, but it is damaged: {error}"
        ) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise InputError(
            f"expected a result of format {FORMAT} in {folder}, got {found!r}: "
            "it was written by another version"
        )
    files = values.get("files", {})  # older results have none
    for name in (WEIGHTS, PREPARATION):
        if not isinstance(files, dict) or name not in files:
            continue
        if not (folder / name).is_file() or _sha256(folder / name) != files[name]:
            raise InputError(
                f"expected the files of one save in {folder}, but {name} is another than the one "
                f"{ABOUT} names: it is half-written or was changed; save the result again"
            )
    return values, state


def _preparation(values: dict[str, Any], folder: Path) -> Preparation | None:
    if PREPARATION not in values.get("files", {}):
        return None
    return Preparation.load(folder / PREPARATION)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(
    values: dict[str, Any],
    state: dict[str, Tensor],
    net: nn.Module,
    preparation: Preparation | None,
) -> Debiased:
    model = copy.deepcopy(_arranged(net, values.get("arranged"))).eval()
    if values["about"].get("outputs") == "probabilities":
        model = LogitOf(model).eval()
    if values.get("head") is not None:
        model = headed(model, values["head"])
    _fill(model, state, values.get("base"), net)
    effects = values.get("effects")
    return Debiased(
        model=model,
        rule=rules.from_dict(values["rule"]),
        status=Status(values["status"]),
        before=_scores(values["before"]),
        after=_scores(values["after"]),
        constant=_scores(values["constant"]),
        group_names=tuple(values["group_names"]),
        history=tuple(values["history"]),
        about=values["about"],
        effects=None if effects is None else Effects.from_dict(effects),
        preparation=preparation,
    )


def _scores(values: dict[str, Any]) -> Scores:
    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    counts: Any = tuple(tuple(tuple(row) for row in group) for group in values["counts"])
    return Scores(
        number(values["objective"]), number(values["bias"]), number(values["performance"]), counts
    )
