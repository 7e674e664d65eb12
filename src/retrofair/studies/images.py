"""The base network of a study of images: a ResNet trained from scratch."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from retrofair.data import Splits
from retrofair.files import replacing, save_tensors
from retrofair.networks import Fitting, resnet, train_with
from retrofair.networks.digest import digest
from retrofair.networks.outputs import probabilities
from retrofair.networks.train import Trained, cache_folder
from retrofair.studies.cells import Answer, decided
from retrofair.studies.devices import current
from retrofair.studies.sources import Source
from retrofair.version import __version__


@dataclass(frozen=True)
class ImageTraining:
    """A ResNet and how it is trained.

    Args:
        depth, width: of `resnet`.
        fitting: of `train_network`.
    """

    depth: int = 18
    width: float = 1.0
    fitting: Fitting = field(default_factory=lambda: Fitting(augment="flip"))


@dataclass(frozen=True)
class ImageNetworkCell:
    """Trains a ResNet on images and looks at its decisions at threshold 0.5.

    It computes on the current device, and answers with weights on the CPU. Killed while training,
    it goes on from its last whole epoch.
    """

    source: Source
    seed: int
    training: ImageTraining
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
        place = cache_folder() / "images" / self._name(splits)
        start = self._network()
        trained = _cached(place, start)
        if trained is None:
            trained = self._trained(start, splits, place)
        model = trained.network.to(current())
        chance = {part: probabilities(model, getattr(splits, part)) for part in ("valid", "test")}
        values = decided(splits, {part: chance[part] > 0.5 for part in chance}, chance["test"])
        values |= {"epochs": trained.epochs, "trained": trained.fresh}
        tensors = {name: value.cpu() for name, value in model.state_dict().items()}
        return Answer(values, tensors, trained.seconds)

    def build(self, splits: Splits, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The network that `run` trained, on the CPU."""
        network = self._network()
        network.load_state_dict(dict(tensors))
        return network.eval()

    def _network(self) -> nn.Module:
        network = resnet(self.training.depth, seed=self.seed, width=self.training.width)
        if current().type == "cpu":
            # 1.5 ms for an image of 64 x 64 on two cores, against 2.1 ms with channels first.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def _name(self, splits: Splits) -> str:
        """Changes with anything that changes the network."""
        where = f"{current().type} torch {torch.__version__} retrofair {__version__}"
        parts = (splits.train.y.double(), splits.valid.y.double())
        about = (self.source.data, self.source.target, self.source.split, self.seed, self.training)
        return digest(*parts, about, where)[:24]

    def _trained(self, start: nn.Module, splits: Splits, place: Path) -> Trained:
        trained = train_with(
            start.to(current()),
            splits.train,
            splits.valid,
            self.training.fitting,
            seed=self.seed,
            checkpoint=place,
        )
        with replacing(_file(place)) as temporary:
            about = {"seconds": f"{trained.seconds:.3f}", "epochs": str(trained.epochs)}
            save_tensors(temporary, trained.network.state_dict(), about)
        shutil.rmtree(place, ignore_errors=True)  # the checkpoint has done its work
        return dataclasses.replace(trained, fresh=True)


def _file(place: Path) -> Path:
    return place.with_name(f"{place.name}.safetensors")


def _cached(place: Path, start: nn.Module) -> Trained | None:
    """A network of the same training that another cell has left there."""
    file = _file(place)
    if not file.exists():
        return None
    try:
        start.load_state_dict(load_file(file))
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata() or {}
    except (SafetensorError, RuntimeError):
        return None  # damaged: trained again, and replaced
    seconds, epochs = float(about.get("seconds", "nan")), int(about.get("epochs", 0))
    return Trained(start.eval(), seconds, epochs, fresh=False)
