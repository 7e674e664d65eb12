"""Fine-tuning against a smooth version of the measure, whose price is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import Batches
from retrofair.debiasers import cells
from retrofair.debiasers.base import Best, Fit, clone, later, record, rule_of, trainable
from retrofair.debiasers.critics import layer_rates
from retrofair.debiasers.fair_head_classes import worth_of_classes
from retrofair.debiasers.offsets import OffsetChoice
from retrofair.debiasers.smooth import logit_of, sampled
from retrofair.debiasers.tuning import Rounds, Tuning, check_options, read_choice, write_choice
from retrofair.errors import InputError
from retrofair.metrics import class_count
from retrofair.networks.randomness import seeded
from retrofair.objective import Constrained, Objective, Weighted
from retrofair.progress import track
from retrofair.thresholds import Choice

AIM = 0.8  # of epsilon: minibatches are noisy, and a bound met exactly breaks on new rows
MOST = 50.0  # that a price can rise to
FARTHEST = 7.0  # that the offset of a class is from the middle, where decisions are made smooth


@dataclass(frozen=True)
class Lagrangian:
    """Fine-tunes on the loss plus a price times how far a smooth version of the bias is too large.

    Decisions are sigmoids around the threshold that was best after the last epoch, and the measure
    is taken of their sums by group and label, so it can be any difference or ratio of rates. The
    price rises while the bias of a minibatch is above the bound and falls below; for a weighted
    objective it stays lam / (1 - lam). The loss is cross-entropy with each label's rows weighted as
    the performance weighs them. After every epoch the exact best threshold is chosen, and the best
    epoch wins, the original network included.

    With more than two classes decisions are softmaxes around the best offsets, and the smooth bias
    is that of the worst class.

    A callable measure has no smooth version: selection rates stand in for it, and the choice of
    threshold and epoch sees the measure itself.

    Args:
        epochs, steps: rounds, and minibatches in each.
        batch_size: rows per minibatch; the smooth bias needs many of each group.
        learning_rate: of the network's last layer.
        early: the first tensor's share of that rate, in [0, 1].
        price_rate: how fast the price is learned.
        sharpness: of the sigmoids, per unit of the logit.
        layers: train the last so many layers with weights; None: all.
        micro_rows: rows of a minibatch in memory at once; None: all of them. The gradients are
            those of the whole minibatch (BatchNorm's statistics then stay as they are).
        mixed: bfloat16 in forward passes, on a GPU or a CPU with instructions for it.
        checkpoint: a folder for the state after each epoch. Called again after an interruption,
            with the same network, data and options, training goes on from there.

    Reference:
        Cotter et al. (2019), Optimization with non-differentiable constraints with applications to
        fairness, recall, churn, and other goals; Padala and Gujar (2020), FNNC.
    """

    epochs: int = 20
    steps: int = 100
    batch_size: int = 512
    learning_rate: float = 1e-3
    early: float = 0.1
    price_rate: float = 0.1
    sharpness: float = 2.0
    layers: int | None = later(None)
    micro_rows: int | None = later(None)
    mixed: bool = later(False)
    checkpoint: str | None = later(None)
    name: ClassVar[str] = "lagrangian"
    changes_weights: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    classes: ClassVar[Literal["two", "any"]] = "any"

    def __post_init__(self) -> None:
        if min(self.epochs, self.steps) < 1 or self.batch_size < 2:
            raise InputError(
                "expected epochs and steps >= 1 and batch_size >= 2, got "
                f"{self.epochs}, {self.steps} and {self.batch_size}"
            )
        if min(self.learning_rate, self.price_rate, self.sharpness) <= 0:
            raise InputError("expected positive learning_rate, price_rate and sharpness")
        if not 0 <= self.early <= 1:
            raise InputError(f"expected early in [0, 1], got {self.early}")
        check_options(self.layers, self.micro_rows, self.checkpoint)

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        model = clone(model)
        tuning = Tuning(model, data, layers=self.layers, rows=self.micro_rows, mixed=self.mixed)
        best = Best.start(model, data, objective)
        optimiser = torch.optim.Adam(layer_rates(model, self.learning_rate, self.early), fused=True)
        run = _Run(self, tuning, data, objective, optimiser, _row_weights(data, objective))
        rounds = Rounds(
            self.checkpoint, self, best, objective, generator, {}, {"optimiser": optimiser}
        )
        done, history, more = rounds.restore()
        choice = read_choice(more["choice"]) if more else best.choice
        run.price = more.get("price", run.price)
        history = history or [record(objective, choice, epoch=0)]
        for epoch in track(range(1, self.epochs + 1), "constrained fine-tuning"):
            if epoch <= done:
                continue
            run.epoch(_middle(choice), generator)
            choice = best.look()
            history.append(record(objective, choice, epoch=epoch, price=run.price))
            rounds.save(epoch, history, choice=write_choice(choice), price=run.price)
        best.restore()
        trainable(model)
        return Fit(model, rule_of(best.choice), tuple(history))


@dataclass
class _Run:
    """One training: what it needs in every epoch, and its price, which it learns."""

    method: Lagrangian
    tuning: Tuning
    data: Batches
    objective: Objective
    optimiser: torch.optim.Optimizer
    weight: Tensor
    price: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.objective, Weighted):
            self.price = min(self.objective.lam / max(1 - self.objective.lam, 1e-9), MOST)

    def epoch(self, middle: float | Tensor, generator: torch.Generator) -> None:
        """Steps around one threshold, or the offsets of one choice."""
        self.tuning.train()
        with seeded(generator):
            for _ in range(self.method.steps):
                self.tuning.step(
                    lambda: self._step(middle, generator), self.method.batch_size, generator
                )
        self.tuning.model.eval()

    def _step(self, middle: float | Tensor, generator: torch.Generator) -> None:
        bound = AIM * self.objective.epsilon if isinstance(self.objective, Constrained) else 0.0
        bias, logit, y = sampled(
            self.tuning.model,
            self.data,
            self.objective.bias_measure,
            self.method.batch_size,
            generator,
            middle=middle,
            sharpness=self.method.sharpness,
            run=lambda x: self.tuning.forward(x)[0],
        )
        loss = _loss(logit, y.long(), self.weight)
        over = bias - bound
        self.optimiser.zero_grad()
        (loss + self.price * over.clamp(min=0)).backward()
        self.optimiser.step()
        if isinstance(self.objective, Constrained):
            price = self.price + self.method.price_rate * float(over.detach())
            self.price = min(max(price, 0.0), MOST)


def _middle(choice: Choice) -> float | Tensor:
    """Where decisions are made smooth: the logit of the threshold, or less the offsets (K,)."""
    if not isinstance(choice, OffsetChoice):
        return logit_of(choice.threshold)
    offsets = torch.tensor(choice.offsets)
    return -(offsets - offsets.mean()).clamp(-FARTHEST, FARTHEST)


def _loss(logit: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    if logit.ndim == 2:
        return (F.cross_entropy(logit, y, reduction="none") * weight[y]).mean()
    return F.binary_cross_entropy_with_logits(logit, y.to(logit), weight=weight[y])


def _row_weights(data: Batches, objective: Objective) -> Tensor:
    """(K,) what a row of each label weighs in the loss, 1 on average."""
    classes = class_count(data.y.numpy())
    if classes > 2:
        shares = np.bincount(data.y.numpy().astype(np.int64), minlength=classes) / len(data)
        worth = worth_of_classes(objective.performance_measure, shares)
    else:
        share = float(data.y.double().mean())
        shares = np.array([1 - share, share])
        worth = np.abs(cells.of_performance(objective.performance_measure, shares))
    mean = float(worth @ shares)
    return torch.from_numpy(worth / mean if mean > 0 else np.ones(classes)).float()
