"""Repairs on disk: a finished one to load again, and the rounds of one that is under way."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from retrofair.certifiers import Certificate, Domain, Step, Verdict
from retrofair.certifiers.distances import NetworkNorm
from retrofair.certifiers.pairs import Pairs
from retrofair.errors import InputError
from retrofair.files import json_text, replacing, save_tensors, write_json
from retrofair.individual.judged import Performance
from retrofair.individual.repaired import Repair, RepairStatus, Round

FORMAT = 2
WEIGHTS, ABOUT = "network.safetensors", "history.json"
QUESTION = "question.json"


@dataclass(frozen=True, eq=False)
class Finished:
    """A round with its network and certificate."""

    round: Round
    network: nn.Module
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class KeptRounds:
    """Finished rounds of one question in a folder; nothing is kept without one.

    Args:
        key: of the question: it changes with everything that changes a round.
    """

    folder: Path | None
    key: str
    network: nn.Module
    domain: Domain

    def read(self) -> list[Finished]:
        """The rounds that are there, in order.

        Raises:
            InputError: the folder is a file, is damaged, or belongs to another question.
        """
        if self.folder is None:
            return []
        _no_file(self.folder)
        about = self.folder / QUESTION
        if not about.exists():
            write_json(about, {"format": FORMAT, "key": self.key})
            return []
        if _values(about).get("key") != self.key:
            raise InputError(
                f"expected rounds of this question in {self.folder}, got those of another (other "
                "data, network, domain, distance or option): name another folder (--checkpoint)"
            )
        found: list[Finished] = []
        while (path := self._path(len(found))).exists():
            found.append(self._finished(path))
        return found

    def add(self, done: Finished) -> None:
        """Keep one more finished round."""
        if self.folder is None:
            return
        path = self._path(done.round.number)
        # the text comes last: a round is there once its text is
        save_weights(done.network, path.with_suffix(".safetensors"))
        values = {"round": done.round.to_dict(), "certificate": done.certificate.to_dict()}
        write_json(path, values)

    def tight(self, number: int) -> Certificate | None:
        """A round's certificate without a question, where it was kept."""
        if self.folder is None or not (path := self._path(number, "tight")).exists():
            return None
        try:
            return _certificate(_values(path), self.domain, self.network)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise _damaged(path) from None

    def add_tight(self, number: int, found: Certificate) -> None:
        """Keep a round's certificate without a question, beside the round: later ones stay."""
        if self.folder is not None:
            write_json(self._path(number, "tight"), found.to_dict())

    def _path(self, number: int, what: str = "round") -> Path:
        assert self.folder is not None
        return self.folder / f"{what}-{number}.json"

    def _finished(self, path: Path) -> Finished:
        values = _values(path)
        try:
            return Finished(
                _round(values["round"]),
                with_weights(self.network, path.with_suffix(".safetensors")),
                _certificate(values["certificate"], self.domain, self.network),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise _damaged(path) from None


def save_repair(repair: Repair, folder: Path) -> Path:
    """Write a repair's weights and everything else."""
    _no_file(folder)
    about = {"format": FORMAT, **repair.to_dict()}
    # both are written before either takes its place: no new weights with an old history
    with replacing(folder / ABOUT) as text, replacing(folder / WEIGHTS) as weights:
        text.write_text(json_text(about) + "\n", encoding="utf-8")
        save_tensors(weights, repair.network.state_dict())
    return folder


def load_repair(folder: str | Path, network: nn.Module, domain: Domain) -> Repair:
    """Read a saved repair.

    Args:
        network: of the architecture that was repaired; it is copied, not changed.
        domain: the one it was repaired for.

    Raises:
        InputError: the folder holds no repair, or one that does not fit the network or domain.
    """
    folder = Path(folder)
    values = _values(folder / ABOUT)
    if values.get("format") != FORMAT:
        raise InputError(
            f"expected a repair of format {FORMAT} in {folder}, got {values.get('format')!r}"
        )
    try:
        return Repair(
            network=with_weights(network, folder / WEIGHTS),
            status=RepairStatus(values["status"]),
            certificate=_certificate(values["certificate"], domain, network),
            best=int(values["best"]),
            history=tuple(_round(each) for each in values["history"]),
            constant=_performance(values["constant"]),
            delta=float(values["delta"]),
            floor=values["floor"],
            rows=int(values["rows"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(folder / ABOUT) from None


def identity(pairs: Pairs) -> list[object]:
    """What `digest` is to know of who is similar to whom."""
    domain, norm = pairs.domain, pairs.norm
    parts: list[object] = [domain.features, torch.from_numpy(domain.mean)]
    parts += [torch.from_numpy(domain.spread), pairs.epsilon]
    if isinstance(norm, NetworkNorm):
        layers = norm.network
        parts += [*layers.weights, *layers.biases, layers.activations]
        norm = norm.inner
    return [*parts, norm.p, torch.from_numpy(np.ascontiguousarray(norm.matrix))]


def save_weights(network: nn.Module, path: Path) -> None:
    """A network's weights as safetensors; a file of that name is replaced whole or not at all."""
    with replacing(path) as temporary:
        save_tensors(temporary, network.state_dict())


def with_weights(network: nn.Module, path: Path) -> nn.Module:
    """A copy of a network with the weights of a file, in eval mode.

    Raises:
        InputError: there is no such file, or it does not fit.
    """
    made = copy.deepcopy(network).eval()
    try:
        made.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"expected weights in {path}, but the file is not there") from None
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the weights in {path} do not fit this network: {reason}") from None
    return made


def _values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"expected {path.name} in {path.parent}, but it is not there") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _damaged(path) from None
    if not isinstance(values, dict):
        raise _damaged(path)
    return values


def _no_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder, but {folder} is a file")


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged: remove the folder, or name another one")


# --- JSON knows neither nan nor infinity: both are null there -------------------------------------


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _nans(value: Any) -> Any:
    """A figure, or its two limits; words as they are."""
    if isinstance(value, list):
        return tuple(_nan(each) for each in value)
    return value if isinstance(value, str) else _nan(value)


def _inf(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _performance(values: dict[str, Any]) -> Performance:
    read: dict[str, Any] = {name: _nans(value) for name, value in values.items()}
    read |= {"degenerate": str(values["degenerate"]), "rows": int(values["rows"])}
    return Performance(**read)


def _round(values: dict[str, Any]) -> Round:
    return Round(
        **{
            **values,
            "upper": _inf(values["upper"]),
            "verdict": Verdict(values["verdict"]),
            "performance": _performance(values["performance"]),
        }
    )


def _certificate(values: dict[str, Any], domain: Domain, network: nn.Module) -> Certificate:
    left = dict(values)
    left.pop("gap")
    pair, history = left.pop("witness"), left.pop("history")
    witness = scores = distance = None
    if pair is not None:
        if pair["columns"] != list(domain.columns):
            raise InputError(
                f"expected the domain of the repair, of {len(pair['columns'])} columns such as "
                f"{pair['columns'][0]}, got one of {domain.d} such as {domain.columns[0]}"
            )
        dtype = next((p.dtype for p in network.parameters()), torch.float32)
        people = [pair["person_a"], pair["person_b"]]
        witness, distance = torch.tensor(people, dtype=torch.float64).to(dtype), pair["distance"]
        both = [torch.tensor(pair[f"score_{who}"], dtype=torch.float64) for who in "ab"]
        scores = both[0], both[1]
    for name in ("upper", "upper_logit"):
        left[name] = _inf(left[name])
    return Certificate(
        **{
            **left,
            "verdict": Verdict(left["verdict"]),
            "margin": None,
            "notes": tuple(left["notes"]),
            "witness": witness,
            "scores": scores,
            "distance": distance,
            "domain": domain,
            "history": tuple(Step(*map(_inf, step)) for step in history),
        }
    )
