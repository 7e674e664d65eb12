"""Training of the base network, with early stopping and a cache by configuration."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.files import replacing, save_tensors
from retrofair.networks.mlp import MLP
from retrofair.networks.randomness import generator_of, seeded
from retrofair.networks.threads import fitting_threads
from retrofair.progress import track
from retrofair.version import __version__


@dataclass(frozen=True)
class Training:
    """Settings of the network and its training; the papers' where they state one."""

    width: int = 32
    depth: int = 10
    dropout: float = 0.2
    batch_size: int = 256
    learning_rate: float = 1e-3
    patience: int = 100
    max_epochs: int = 1000

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 0 or not 0 <= self.dropout < 1:
            raise InputError(
                "expected width >= 1, depth >= 0 and dropout in [0, 1), got "
                f"{self.width}, {self.depth} and {self.dropout}"
            )
        if self.batch_size < 2 or not 0 < self.learning_rate < math.inf:
            raise InputError(
                "expected batch_size >= 2 and learning_rate > 0, got "
                f"{self.batch_size} and {self.learning_rate}"
            )
        if self.patience < 1 or self.max_epochs < 1:
            raise InputError(
                "expected patience and max_epochs of at least 1, got "
                f"{self.patience} and {self.max_epochs}"
            )


def train_mlp(
    train: GroupedData,
    valid: GroupedData,
    *,
    seed: int = 0,
    width: int = 32,
    depth: int = 10,
    dropout: float = 0.2,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    patience: int = 100,
    max_epochs: int = 1000,
    cache: str | Path | None = None,
    weights: Tensor | None = None,
) -> nn.Module:
    """Train the papers' network: Adam, binary cross-entropy, early stopping, best weights kept.

    Training stops when the validation loss has not fallen for `patience` epochs, and the weights
    of its lowest value are returned, in eval mode.

    Args:
        seed: of the initial weights, the dropout and the order of the rows.
        cache: a folder. A network of the same data, settings and seed is read from there instead
            of trained again, and written there when trained.
        weights: (n,) at least 0, one per training row, as of `preprocessing.reweighing`: what
            each row's loss is multiplied by. They are scaled to a mean of 1. The validation loss
            has none: rows are what they are.

    Raises:
        InputError: a label that is not 0/1 or has one class, features that are not float32 of
            shape (n, d), weights that do not fit the rows, or a setting out of range.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> net = train_mlp(splits.train, splits.valid, depth=2, max_epochs=2)
        >>> net(splits.test.x).shape
        torch.Size([120])
    """
    settings = Training(width, depth, dropout, batch_size, learning_rate, patience, max_epochs)
    return fitted(train, valid, settings, seed=seed, cache=cache, weights=weights).network


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, in eval mode.

    Args:
        seconds: that training took, also where the network came from the cache.
        epochs: until it stopped.
        fresh: trained now, rather than read from the cache.
    """

    network: nn.Module
    seconds: float
    epochs: int
    fresh: bool


def fitted(
    train: GroupedData,
    valid: GroupedData,
    settings: Training,
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    weights: Tensor | None = None,
) -> Trained:
    """`train_mlp` from settings, with what is known about the training."""
    for name, data in (("training", train), ("validation", valid)):
        classes = set(data.y.unique().tolist())
        if classes != {0, 1}:
            shown = sorted(classes)[:5]
            raise InputError(f"expected both classes, 0 and 1, in the {name} labels, got {shown}")
        shape, dtype = tuple(data.x.shape), str(data.x.dtype).removeprefix("torch.")
        if len(shape) != 2 or shape[1:] != train.x.shape[1:] or dtype != "float32":
            raise InputError(
                f"expected the same columns in both parts, (n, d) float32, got {shape} {dtype} as "
                f"the {name} features"
            )
    weights = None if weights is None else _checked(weights, len(train))
    generator = generator_of(seed)
    with seeded(generator):
        network = MLP(
            train.x.shape[1], width=settings.width, depth=settings.depth, dropout=settings.dropout
        )
        path = (
            None
            if cache is None
            else Path(cache) / f"{_key(train, valid, settings, seed, weights)}"
        )
        file = None if path is None else path.with_suffix(".safetensors")
        if file is not None and file.exists():
            try:
                network.load_state_dict(load_file(file))
                with safe_open(file, framework="pt") as opened:
                    about = opened.metadata() or {}
                seconds, epochs = float(about.get("seconds", "nan")), int(about.get("epochs", 0))
                return Trained(network.eval(), seconds, epochs, fresh=False)
            except SafetensorError:
                pass  # damaged: trained again, and replaced
        started = time.perf_counter()
        with fitting_threads(network):
            epochs = _fit(network, train, valid, settings, weights)
        seconds = time.perf_counter() - started
    if file is not None:
        with replacing(file) as temporary:
            about = {"seconds": f"{seconds:.3f}", "epochs": str(epochs)}
            save_tensors(temporary, network.state_dict(), about)
    return Trained(network.eval(), seconds, epochs, fresh=True)


def _checked(weights: Tensor, rows: int) -> Tensor:
    """(n,) float32 of mean 1."""
    try:
        known = torch.as_tensor(weights).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"expected weights as a tensor of numbers, got {type(weights).__name__}"
        ) from None
    if known.shape != (rows,):
        raise InputError(
            f"expected {rows:,} weights, one per training row, got shape {tuple(known.shape)}"
        )
    mean = float(known.mean())
    if not 0 < mean < math.inf or float(known.min()) < 0:
        raise InputError("expected finite weights of at least 0, not all 0, got others")
    return (known / mean).float()


def _fit(
    network: nn.Module,
    train: GroupedData,
    valid: GroupedData,
    settings: Training,
    weights: Tensor | None = None,
) -> int:
    """Runs inside a seeded block, whose state gives the order of rows; returns the epochs run."""
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    x, y = train.x, train.y.float()
    best, best_loss, waited = copy.deepcopy(network.state_dict()), float("inf"), 0
    epochs = 0
    for _ in track(range(settings.max_epochs), "training the network"):
        epochs += 1
        network.train()
        order = torch.randperm(len(x))
        for rows in order.split(settings.batch_size):
            if len(rows) < 2:  # BatchNorm cannot be trained on a single row
                continue
            optimiser.zero_grad()
            weight = None if weights is None else weights[rows]
            loss = F.binary_cross_entropy_with_logits(network(x[rows]), y[rows], weight)
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            now = float(F.binary_cross_entropy_with_logits(network(valid.x), valid.y.float()))
        waited += 1
        if now < best_loss:
            best, best_loss, waited = copy.deepcopy(network.state_dict()), now, 0
        if waited >= settings.patience:
            break
    network.load_state_dict(best)
    return epochs


def cache_folder() -> Path:
    """Where trained base networks are kept: in the user's own cache."""
    return Path(platformdirs.user_cache_dir("retrofair")) / "networks"


def _key(
    train: GroupedData,
    valid: GroupedData,
    settings: Training,
    seed: int,
    weights: Tensor | None = None,
) -> str:
    """A name that changes with anything that changes the network."""
    digest = hashlib.sha256()
    for data in (train, valid):
        for values in (data.x, data.y):
            digest.update(values.contiguous().numpy().tobytes())
    if weights is not None:
        digest.update(weights.numpy().tobytes())
    version = f"{torch.__version__} python {sys.version_info[:2]} retrofair {__version__}"
    about = {**asdict(settings), "seed": seed, "torch": version, "shape": list(train.x.shape)}
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()[:24]
