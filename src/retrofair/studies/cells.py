"""The units of a study: each is computed alone, stored when done, and never computed twice.

Adding a kind of cell = a frozen dataclass with these members. What a cell answers are counts by
group, label and prediction: every measure and its interval follow from them when a page is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeGuard

import joblib
import numpy as np
import sklearn
import torch
from torch import Tensor, nn

from retrofair import metrics
from retrofair.data import GroupedData, Splits
from retrofair.debiasers import Debiased, Debiaser, debias
from retrofair.debiasers.base import options_of
from retrofair.errors import InputError, RetrofairWarning
from retrofair.metrics import Array
from retrofair.networks import MLP, Training, fitted
from retrofair.networks.outputs import probabilities
from retrofair.networks.threads import fitting_threads
from retrofair.networks.train import cache_folder
from retrofair.objective import Objective
from retrofair.progress import silent
from retrofair.studies.devices import computing_on, current, name_of_current
from retrofair.studies.samples import sample_of
from retrofair.studies.sources import Source
from retrofair.version import __version__

Tensors = Mapping[str, Tensor]
PAPERS = Training()  # the papers' network


@dataclass(frozen=True)
class Answer:
    """What a cell found: plain values for the record, and tensors kept beside it.

    Args:
        seconds: of the part that is worth timing; None: of the whole cell.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    seconds: float | None = None


class Cell(Protocol):
    """One unit: its configuration decides its answer.

    `needs` is the network cell whose tensors it starts from, if any.
    """

    kind: ClassVar[str]

    @property
    def source(self) -> Source: ...
    @property
    def needs(self) -> BaseNetwork | None: ...
    @property
    def label(self) -> str: ...
    def config(self) -> dict[str, Any]: ...
    def run(self, splits: Splits, network: nn.Module | None) -> Answer: ...


class BaseNetwork(Cell, Protocol):
    """A cell that trains a network from which others start. Its kind is "network"."""

    @property
    def seed(self) -> int: ...
    @property
    def training(self) -> Any:
        """Its settings, which have a `depth` and a `width`."""

    def build(self, splits: Splits, tensors: Tensors) -> nn.Module:
        """The network that `run` trained, from its tensors."""


def is_network(cell: Cell) -> TypeGuard[BaseNetwork]:
    """Whether others start from this cell."""
    return cell.kind == "network"


def versions() -> dict[str, str]:
    """The versions that numbers depend on: a cell of other versions is another cell."""
    return {
        "retrofair": __version__,
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def key_of(cell: Cell, checksum: str) -> str:
    """The cell's name in the store: changes with its configuration, versions and data."""
    about = {"kind": cell.kind, "config": cell.config(), "versions": versions(), "data": checksum}
    text = json.dumps(_alike(about), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _alike(value: Any) -> Any:
    """Numbers as floats, so that 0 and 0.0 are one configuration."""
    if isinstance(value, dict):
        return {key: _alike(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_alike(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


@dataclass(frozen=True)
class NetworkCell:
    """Trains the papers' network and looks at its decisions at threshold 0.5."""

    source: Source
    seed: int
    training: Training = PAPERS
    kind: ClassVar[str] = "network"

    @property
    def needs(self) -> None:
        return None

    @property
    def label(self) -> str:
        return "network"

    def config(self) -> dict[str, Any]:
        return {
            "source": self.source.to_dict(),
            "seed": self.seed,
            "training": dataclasses.asdict(self.training),
        }

    def run(self, splits: Splits, network: nn.Module | None = None) -> Answer:
        # The groups play no part in training: settings of other groups find the same network.
        trained = fitted(
            splits.train, splits.valid, self.training, seed=self.seed, cache=cache_folder()
        )
        model = trained.network
        chance = {part: probabilities(model, getattr(splits, part)) for part in ("valid", "test")}
        values = decided(splits, {part: chance[part] > 0.5 for part in chance}, chance["test"])
        values |= {"epochs": trained.epochs, "trained": trained.fresh}
        return Answer(values, dict(model.state_dict()), trained.seconds)

    def build(self, splits: Splits, tensors: Tensors) -> nn.Module:
        """The network that `run` trained."""
        t = self.training
        network = MLP(splits.train.x.shape[1], width=t.width, depth=t.depth, dropout=t.dropout)
        network.load_state_dict(dict(tensors))
        return network.eval()


@dataclass(frozen=True)
class DebiasCell:
    """Debiases a network on the validation data, and looks at its decisions on test data.

    Args:
        name: what tables call the method; the debiaser's own name without it. It plays no part
            in the result.
        place: its place among the cells of a study that says in which order they run; no part in
            the result either.
        rows: how many of the validation rows the method sees, a sample of each group and label in
            its share, drawn from the seed; None: all. What it chose, the threshold too, stays as
            it is: the other validation rows are only counted.
    """

    network: BaseNetwork
    debiaser: Debiaser
    objective: Objective
    seed: int
    name: str = ""
    place: int = 0
    rows: int | None = None
    kind: ClassVar[str] = "debias"

    def __post_init__(self) -> None:
        measure: Any = getattr(self.objective, "measure", None)
        if not isinstance(measure, str):
            # its name would say too little: two functions of one name would share a cell
            raise InputError(f"expected a measure's name in a study, got {measure!r}")

    @property
    def source(self) -> Source:
        return self.network.source

    @property
    def needs(self) -> BaseNetwork:
        return self.network

    @property
    def label(self) -> str:
        return self.name or self.debiaser.name

    def config(self) -> dict[str, Any]:
        about = {
            "network": self.network.config(),
            "method": self.debiaser.name,
            "options": options_of(self.debiaser),
            "objective": self.objective.to_dict(),
            "seed": self.seed,
        }
        # without a sample it is not there: stores keep their keys
        return about if self.rows is None else about | {"rows": self.rows}

    def run(self, splits: Splits, network: nn.Module | None) -> Answer:
        result = self.debiased(splits, network)
        chosen = {
            part: result.predict_data(getattr(splits, part)).astype(bool)
            for part in ("valid", "test")
        }
        values = decided(splits, chosen)
        values |= {"status": result.status.value, "needs_group": result.needs_group}
        return Answer(values, {}, float(result.about["seconds"]))

    def debiased(self, splits: Splits, network: nn.Module | None) -> Debiased:
        """The result itself, on the current device."""
        assert network is not None
        valid: Any = splits.valid
        if self.rows is not None:
            valid = sample_of(valid, self.rows, self.seed)
        network = network.to(current())
        return debias(network, valid, self.objective, self.debiaser, seed=self.seed)


def decided(
    splits: Splits, positive: Mapping[str, Array], chance: Array | None = None
) -> dict[str, Any]:
    """Counts of the decisions on each part, and the area under the curve on test data."""
    values: dict[str, Any] = {"groups": list(splits.test.group_names)}
    for part, chosen in positive.items():
        data: GroupedData = getattr(splits, part)
        counts = metrics.count(
            data.y.numpy(), chosen, data.group.numpy(), len(data.group_names)
        ).astype(np.int64)
        values[part] = counts.tolist()
    if chance is not None:
        values["roc_auc"] = list(metrics.auc(chance, splits.test.y.numpy()))
    return values


def execute(
    cell: Cell,
    tensors: Tensors | None,
    root: str | None,
    threads: int,
    expected: tuple[dict[str, str], str],
    device: str = "cpu",
) -> dict[str, Any]:
    """Run one cell, here or on another machine; its record with its tensors, or its error.

    Args:
        tensors: of the network that the cell starts from.
        threads: for torch in this process.
        expected: versions and data checksum of the process that asks: others' numbers would be
            mixed with its own.
        device: where it computes: "cpu", "cuda" or "auto", of the process that runs it.
    """
    started = time.perf_counter()
    outcome: dict[str, Any] = {"status": "done"}
    on = ""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RetrofairWarning)
        try:
            _same(cell, root, expected)
            splits = cell.source.load(root)
            network = None
            if cell.needs is not None:
                assert tensors is not None
                network = cell.needs.build(splits, tensors)
            with silent(), fitting_threads(network or nn.Identity()), computing_on(device):
                answer = cell.run(splits, network)
                on = name_of_current()
            outcome |= {"answer": answer.values, "tensors": answer.tensors}
            if answer.seconds is not None:
                outcome["seconds"] = answer.seconds
        except Exception as error:  # recorded with the cell; the rest of the study goes on
            first = next(iter(str(error).splitlines()), "")
            outcome = {
                "status": "failed",
                "error": f"{type(error).__name__}: {first}",
                "traceback": traceback.format_exc(limit=-5),
            }
        finally:
            torch.set_num_threads(before)
    outcome["wall_seconds"] = time.perf_counter() - started
    outcome.setdefault("seconds", outcome["wall_seconds"])
    cores = joblib.cpu_count()
    outcome["machine"] = f"{platform.system()} {platform.machine()}, {cores} cores"
    outcome["machine"] += f", {on}" if on else ""
    outcome["notes"] = sorted({str(warning.message) for warning in caught})
    return outcome


def _same(cell: Cell, root: str | None, expected: tuple[dict[str, str], str]) -> None:
    theirs, checksum = expected
    if versions() != theirs:
        raise InputError(
            f"expected a worker with the versions {theirs}, got {versions()}: install the same"
        )
    if cell.source.checksum(root) != checksum:
        raise InputError(
            f"expected a worker with the same files of {cell.source.data}, got other content: copy "
            "them to its RETROFAIR_DATA"
        )
