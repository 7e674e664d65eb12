"""Training of any network on any data, which need not fit in memory, with checkpoints."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import Batch, Batches, Rows, in_order
from retrofair.errors import InputError, unknown
from retrofair.networks.checkpoints import Checkpoint, Progress
from retrofair.networks.class_order import ordered
from retrofair.networks.memory import averages_of, part_of, until_it_fits, warn
from retrofair.networks.outputs import (
    answers,
    as_module,
    checked,
    columns,
    device_of,
    evaluating,
    forward,
)
from retrofair.networks.precision import lower_precision
from retrofair.networks.randomness import draw_seed, generator_of, seeded
from retrofair.networks.threads import fitting_threads
from retrofair.networks.train import Trained
from retrofair.progress import track

Augment = Literal["flip"]
SQUASHING = (nn.Sigmoid, nn.Softmax, nn.LogSoftmax, nn.LogSigmoid)


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Settings of `train_network`.

    Args:
        epochs: at most.
        batch_size: rows per step of the optimiser.
        weight_decay: AdamW's; 0 is Adam.
        patience: epochs without a lower validation loss after which training stops.
        accumulate: parts that a batch is taken in, one after the other, for want of memory; more
            of them, with a warning, where it runs out. The gradient stays the whole batch's, but
            BatchNorm takes the statistics of each part.
        mixed: bfloat16 where it is safe, on a GPU or a CPU with instructions for it; on others it
            changes nothing.
        augment: "flip" mirrors every other image, at random.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    patience: int = 5
    accumulate: int = 1
    mixed: bool = False
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.accumulate) < 1:
            raise InputError(
                "expected epochs, patience and accumulate of at least 1, got "
                f"{self.epochs}, {self.patience} and {self.accumulate}"
            )
        if self.batch_size < 2 * self.accumulate:
            raise InputError(
                "expected batch_size of at least two rows for each of its parts (accumulate), got "
                f"{self.batch_size} rows in {self.accumulate} parts"
            )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise InputError(
                "expected learning_rate > 0 and weight_decay >= 0, got "
                f"{self.learning_rate} and {self.weight_decay}"
            )
        if self.augment not in (None, "flip"):
            raise unknown("augment", str(self.augment), ("flip",))


def train_network(
    network: nn.Module,
    train: Rows,
    valid: Rows,
    *,
    epochs: int = 30,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    patience: int = 5,
    seed: int = 0,
    accumulate: int = 1,
    mixed: bool = False,
    augment: Augment | None = None,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """Train any network on labels 0/1 or classes 0 to K - 1: AdamW, early stopping.

    Every epoch takes each row once, in an order drawn from the seed. Training stops when the
    validation loss, cross-entropy, has not fallen for `patience` epochs; the weights of its lowest
    value are returned. It runs where the network's weights are: `network.to("cuda")` before.

    Args:
        network: logits (n,) or (n, 1) for labels 0/1, (n, K) for classes; it is left as it is.
        train, valid: `GroupedData`, or `StreamedData` that are read as they are needed. The groups
            play no part.
        epochs, batch_size, learning_rate, weight_decay, patience, accumulate, mixed, augment: see
            `Fitting`.
        seed: of the order of the rows, dropout and augmentation. The network brings its weights.
        checkpoint: a folder for the state after every epoch. Called again after an interruption,
            with the same network, data and settings, training goes on from there, and ends as it
            would have without one (on a GPU as far as its kernels repeat themselves). Once
            finished, the trained network is read from it. `epochs` may be raised to go on.

    Returns:
        A new network, in eval mode, on the same device. Of a classifier of transformers, one that
        holds a copy of it and answers with logits (`networks.HuggingFaceNetwork`).

    Raises:
        InputError: labels, outputs or a setting that do not fit, a network that answers with
            probabilities, a loss that is not finite, or a checkpoint of another training or of
            more epochs.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> start = torch.nn.Linear(splits.train.x.shape[1], 1)
        >>> network = train_network(start, splits.train, splits.valid, epochs=2)
        >>> network is start
        False
    """
    settings = Fitting(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        patience=patience,
        accumulate=accumulate,
        mixed=mixed,
        augment=augment,
    )
    return train_with(network, train, valid, settings, seed=seed, checkpoint=checkpoint).network


def train_with(
    network: nn.Module,
    train: Rows,
    valid: Rows,
    settings: Fitting,
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> Trained:
    """`train_network` from settings, with what is known about the training."""
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a torch.nn.Module, got {type(network).__name__}")
    generator = generator_of(seed)
    network = ordered(as_module(network), train)
    classes = _check(network, train, valid)
    model = copy.deepcopy(network)
    kept = None
    if checkpoint is not None:
        kept = Checkpoint(Path(checkpoint), network, train, valid, settings, seed)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    progress = Progress.start(model) if kept is None else kept.restore(model, optimiser)
    found = progress.epoch
    if found > settings.epochs:
        raise InputError(
            f"expected epochs of at least {found}, as {checkpoint} has that many done, got "
            f"{settings.epochs}: take another folder for a shorter training (checkpoint)"
        )
    started = time.perf_counter()
    parts = _Parts(settings.accumulate)
    with fitting_threads(model):
        for epoch in track(range(1, settings.epochs + 1), "training the network"):
            # one seed an epoch: those before a checkpoint are drawn too, and its state is known
            epoch_seed = draw_seed(generator)
            if epoch <= found:
                continue
            if progress.waited >= settings.patience:
                break
            _epoch(model, train, optimiser, settings, parts, epoch_seed)
            loss = _loss_on(model, valid, classes)
            if not math.isfinite(loss):
                raise InputError(
                    f"expected a finite validation loss, got {loss} after epoch {epoch}: lower "
                    "the learning_rate, and check the scale of x"
                )
            seconds = time.perf_counter() - started
            started = time.perf_counter()
            progress = progress.after(model, loss, seconds)
            if kept is not None:
                kept.save(model, optimiser, progress)
    model.load_state_dict(progress.best)
    for parameter in model.parameters():
        parameter.grad = None
    return Trained(model.eval(), progress.seconds, progress.epoch, fresh=progress.epoch > found)


def _check(network: nn.Module, train: Rows, valid: Rows) -> int:
    """The classes that the network tells apart, after checking that all parts fit."""
    for name, data in (("training", train), ("validation", valid)):
        if not isinstance(data, Rows):
            raise InputError(
                f"expected GroupedData or StreamedData as the {name} data, got "
                f"{type(data).__name__}"
            )
        if len(data) < 2:
            raise InputError(f"expected {name} data with rows, got {len(data)}")
    last = [module for module in network.modules() if not list(module.children())][-1]
    if isinstance(last, SQUASHING):
        raise InputError(
            f"expected a network that answers with logits, got one that ends in "
            f"{type(last).__name__}: leave that layer out"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError("expected a network with weights to train, got none (requires_grad)")
    classes = max(2, columns(network, train))
    for name, data in (("training", train), ("validation", valid)):
        found = data.y.unique()
        whole = bool((found == found.round()).all())
        if not whole or not 0 <= float(found.min()) <= float(found.max()) < classes:
            raise InputError(
                f"expected {name} labels from 0 to {classes - 1}, as the network has "
                f"{'one logit' if classes == 2 else f'{classes} logits'} a row, got "
                f"{sorted(found.tolist())[:5]}"
            )
    if len(train.y.unique()) < 2:
        raise InputError("expected training labels of at least two classes, got one")
    x, y, _ = next(iter(valid))
    with evaluating(network):
        checked(network, x, len(y), classes)
    return classes


@dataclass
class _Parts:
    """How many a batch is taken in."""

    count: int

    def double(self, rows: int) -> None:
        """Twice as many, as memory ran out with a batch of so many rows."""
        most = max(1, rows // 2)  # BatchNorm has nothing to compare a single row with
        now = min(self.count, most)
        if now == most:
            raise InputError(
                f"expected memory to train this network on {math.ceil(rows / now)} rows, but it "
                "runs out: use a smaller network, rows of a smaller size, or another device"
            )
        self.count = min(2 * now, most)
        warn(
            f"out of memory with {math.ceil(rows / now):,} rows at once: going on with "
            f"{math.ceil(rows / self.count):,} in each part of a minibatch; fewer from the start "
            "with accumulate="
        )


def _epoch(
    model: nn.Module,
    train: Rows,
    optimiser: torch.optim.Optimizer,
    settings: Fitting,
    parts: _Parts,
    seed: int,
) -> None:
    """Every row once, in an order that the seed decides."""
    generator = generator_of(seed)
    order = torch.randperm(len(train), generator=generator)
    device = device_of(model)
    model.train()
    averages = averages_of(model)

    def step(whole: Batch) -> None:
        optimiser.zero_grad()
        for x, y, share in _pieces(whole, parts.count):
            x = _flipped(x, generator) if settings.augment == "flip" else x
            with lower_precision(settings.mixed, device):
                out = forward(model, x)
            (_loss(out.float(), y) * share).backward()
        optimiser.step()

    with seeded(generator):
        for whole in in_order(train, order, settings.batch_size):
            smaller = partial(parts.double, len(whole[1]))
            until_it_fits(partial(step, whole), smaller, generator, averages)


def _pieces(whole: Batch, parts: int) -> Iterator[tuple[Any, Tensor, float]]:
    """x and y of the parts of a batch, each with its share of the rows.

    A single row at the end of an epoch is left out: BatchNorm has nothing to compare it with.
    """
    x, y, _ = whole
    if len(y) < 2:
        return
    done = 0
    for part in y.tensor_split(min(parts, len(y) // 2)):
        yield part_of(x, slice(done, done + len(part))), part, len(part) / len(y)
        done += len(part)


def _flipped(x: Any, generator: torch.Generator) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 4:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"expected images (n, c, h, w) for augment='flip', got {shape}")
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen.to(x.device)[:, None, None, None], x.flip(-1), x)


def _loss(out: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    if out.ndim == 1:
        return F.binary_cross_entropy_with_logits(out, y.to(out), reduction=reduction)
    return F.cross_entropy(out, y.to(out.device).long(), reduction=reduction)


def _loss_on(model: nn.Module, data: Batches, classes: int) -> float:
    total = 0.0
    with evaluating(model):
        for x, y, _ in data:
            total += float(_loss(answers(model, x).float(), y, "sum"))
    return total / len(data)
