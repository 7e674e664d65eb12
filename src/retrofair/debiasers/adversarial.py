"""Adversarial fine-tuning: a critic predicts the bias of a minibatch (Algorithm 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, later, record, trainable
from retrofair.debiasers.critics import (
    ConcatenatedCritic,
    PooledCritic,
    forget_gradients,
    set_trainable,
)
from retrofair.debiasers.held_out import drawn_from
from retrofair.debiasers.rules import Cut
from retrofair.debiasers.tuning import Rounds, Tuning, check_options
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array, CallableMeasure, Measure
from retrofair.networks.layers import last_layer, reading
from retrofair.networks.outputs import probability
from retrofair.networks.randomness import seeded
from retrofair.networks.recording import Record, passed, recorded
from retrofair.objective import Constrained, Objective
from retrofair.progress import track


@dataclass(frozen=True)
class Adversarial:
    """Fine-tunes the network against a critic that reads a whole minibatch and predicts its bias.

    Minibatches are drawn with replacement; the critic learns the bias of the network's
    probabilities in them, which makes the bias differentiable. In the papers it gets nothing but
    the rows' penultimate representations, one after the other. From a deep network's last layer,
    which hardly holds more than the logit, it cannot tell who belongs to which group, and learns
    next to nothing. By default it reads each row's representation with its label and group, and
    the rows in any order (the mean of a row network); `critic="concatenated"` with
    `reads="representation"` is the papers' critic. Neither is needed to predict.

    Two losses for the network, with the critic's prediction m:

    - "product", of the second paper: max(1, strength * (|m| - epsilon + margin) + 1) * BCE;
    - "sum", of the first: lam * |m| + (1 - lam) * BCE. Its listing has lam and 1 - lam the other
      way round than its own objective, and m without the absolute value, which would push the
      bias below zero: both mended here.

    "auto" takes "product" for `Constrained` and "sum" for `Weighted`. After every epoch the best
    threshold is chosen, and the best epoch wins (the papers take the last), the original network
    included.

    Args:
        epochs: rounds of critic and network updates.
        critic_steps: per epoch.
        actor_steps: updates of the network per epoch.
        batch_size: rows per minibatch.
        learning_rate: of the network.
        critic_rate: learning rate of the critic.
        loss: "auto", "product" or "sum".
        strength: how strict the constraint of the product loss is (lambda in the paper).
        margin: aimed below epsilon by this much (delta in the paper).
        lam: weight of the bias in the sum loss; None: the objective's.
        critic: "pooled" (any order of rows) or "concatenated" (the papers').
        reads: "minibatch" (representation, label and group) or "representation" (the papers').
        minibatches: drawn per step of the critic.
        layer: name of the layer that reads the representation; None: the last one to run. If
            nothing that is trained comes before it (`layers=1`, `head_only`), the critic reads the
            logit: what does not change cannot be made fairer.
        layers: train the last so many layers with weights; None: all.
        micro_rows: rows of a minibatch in memory at once; None: all of them. The gradients are
            those of the whole minibatch (BatchNorm's statistics then stay as they are).
        mixed: bfloat16 in forward passes, on a GPU or a CPU with instructions for it.
        checkpoint: a folder for the state after each epoch. Called again after an interruption,
            with the same network, data and options, training goes on from there.

    Reference:
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, and Post-hoc methods for debiasing neural networks, Algorithm 3 of each.
    """

    epochs: int = 32
    critic_steps: int = 201
    actor_steps: int = 301
    batch_size: int = 64
    learning_rate: float = 1e-4
    critic_rate: float = 1e-3
    loss: Literal["auto", "product", "sum"] = "auto"
    strength: float = 20.0
    margin: float = 0.02
    lam: float | None = None
    critic: Literal["pooled", "concatenated"] = "pooled"
    reads: Literal["minibatch", "representation"] = "minibatch"
    minibatches: int = 16
    layer: str | None = None
    layers: int | None = later(None)
    micro_rows: int | None = later(None)
    mixed: bool = later(False)
    checkpoint: str | None = later(None)
    name: ClassVar[str] = "adversarial"
    changes_weights: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.epochs, self.critic_steps, self.actor_steps) < 1 or self.batch_size < 2:
            raise InputError(
                "expected epochs, critic_steps and actor_steps >= 1 and batch_size >= 2, got "
                f"{self.epochs}, {self.critic_steps}, {self.actor_steps} and {self.batch_size}"
            )
        if min(self.learning_rate, self.critic_rate) <= 0 or self.strength < 0:
            raise InputError("expected positive learning rates and strength >= 0")
        if self.loss not in ("auto", "product", "sum"):
            raise unknown("loss", self.loss, ("auto", "product", "sum"))
        if self.critic not in ("pooled", "concatenated"):
            raise unknown("critic", self.critic, ("pooled", "concatenated"))
        if self.reads not in ("minibatch", "representation"):
            raise unknown("choice for reads", self.reads, ("minibatch", "representation"))
        if self.minibatches < 1:
            raise InputError(f"expected minibatches >= 1, got {self.minibatches}")
        if self.lam is not None and not 0 <= self.lam <= 1:
            raise InputError(f"expected lam in [0, 1], got {self.lam}")
        check_options(self.layers, self.micro_rows, self.checkpoint)

    def layers_read(self, model: nn.Module, x: object) -> list[str]:
        """The name of the layer whose input the critic reads."""
        chosen = last_layer(model, x, self.layer, self.layers)
        return [chosen] if chosen else []

    def __call__(
        self,
        model: nn.Module,
        data: Batches,
        objective: Objective,
        *,
        generator: torch.Generator,
    ) -> Fit:
        model = clone(model)
        x, _, _ = next(iter(data))
        layer = last_layer(model, x, self.layer, self.layers)
        tuning = Tuning(model, data, layers=self.layers, rows=self.micro_rows, mixed=self.mixed)
        drawn = drawn_from(data)
        now = recorded(model, drawn, [layer])
        best = Best.start(model, data, objective)
        width = now.inputs[layer].shape[1]
        if self.reads == "minibatch":
            width += 1 + len(data.group_names)
        critic: nn.Module = (
            PooledCritic(width, generator)
            if self.critic == "pooled"
            else ConcatenatedCritic(width, self.batch_size, generator)
        )
        actor_optimiser = torch.optim.Adam(model.parameters(), lr=self.learning_rate, fused=True)
        critic_optimiser = torch.optim.Adam(critic.parameters(), lr=self.critic_rate, fused=True)
        optimisers = {"actor": actor_optimiser, "critic": critic_optimiser}
        rounds = Rounds(
            self.checkpoint, self, best, objective, generator, {"critic": critic}, optimisers
        )
        done, history, _ = rounds.restore()
        now = passed(model, drawn, [layer]) if done else now
        history = history or [record(objective, best.choice, epoch=0)]
        for epoch in track(range(1, self.epochs + 1), "adversarial fine-tuning"):
            if epoch <= done:
                continue
            with seeded(generator):
                error = self._train_critic(
                    critic, critic_optimiser, now, layer, drawn, objective.bias_measure, generator
                )
                self._train_actor(
                    tuning, actor_optimiser, critic, layer, data, objective, generator
                )
            model.eval()
            now = passed(model, drawn, [layer])  # for the critic's next epoch, and for the choice
            choice = best.judge(probability(now.outputs)) if drawn is data else best.look()
            history.append(record(objective, choice, epoch=epoch, critic_error=error))
            rounds.save(epoch, history)
        best.restore()
        trainable(model)
        return Fit(model, Cut(best.choice.threshold), tuple(history))

    def _train_critic(
        self,
        critic: nn.Module,
        optimiser: torch.optim.Optimizer,
        now: Record,
        layer: str,
        data: Batches,
        measure: Measure,
        generator: torch.Generator,
    ) -> float:
        """The network stands still meanwhile, so one pass gave all representations.

        Returns the critic's mean squared error as a share of the variance it has to explain.
        """
        hidden, chance = now.inputs[layer], probability(now.outputs)
        drawn = self.critic_steps * self.minibatches
        index = torch.randint(len(hidden), (drawn, self.batch_size), generator=generator)
        target = minibatch_bias(
            measure,
            data.y[index].numpy(),
            chance[index.numpy()],
            data.group[index].numpy(),
            len(data.group_names),
        )
        targets = torch.from_numpy(target).float()
        groups = torch.eye(len(data.group_names))
        table = self.rows(hidden, data.y, groups[data.group])
        set_trainable(critic, True)
        critic.train()
        total = 0.0
        parameters = list(critic.parameters())
        for some, wanted in zip(
            index.split(self.minibatches), targets.split(self.minibatches), strict=True
        ):
            forget_gradients(parameters)
            # four times as fast as table[some]
            read = table.index_select(0, some.flatten()).unflatten(0, some.shape)
            loss = F.mse_loss(critic(read)[:, 0], wanted)
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        critic.eval()
        set_trainable(critic, False)
        return total / self.critic_steps / max(float(targets.var()), 1e-12)

    def _train_actor(
        self,
        tuning: Tuning,
        optimiser: torch.optim.Optimizer,
        critic: nn.Module,
        layer: str,
        data: Batches,
        objective: Objective,
        generator: torch.Generator,
    ) -> None:
        tuning.train()
        parameters = list(tuning.model.parameters())
        groups = torch.eye(len(data.group_names))
        with reading(tuning.model, layer) as seen:

            def step() -> None:
                x, y, group = data.sample(self.batch_size, generator)
                forget_gradients(parameters)
                logit, hidden = tuning.forward(x, seen)
                task = F.binary_cross_entropy_with_logits(logit, y.to(logit))
                rows = self.rows(hidden.cpu(), y, groups.index_select(0, group))
                predicted = critic(rows).abs()
                self.actor_loss(task, predicted.to(task.device), objective).backward()
                optimiser.step()

            for _ in range(self.actor_steps):
                tuning.step(step, self.batch_size, generator)

    def rows(self, hidden: Tensor, y: Tensor, group: Tensor) -> Tensor:
        """What the critic reads of each row: its representation (n, h), label (n,) and group, one
        of G columns (n, G)."""
        if self.reads == "representation":
            return hidden
        return torch.cat([hidden, y[:, None].to(hidden), group], dim=1)

    def actor_loss(self, task: Tensor, bias: Tensor, objective: Objective) -> Tensor:
        """The network's loss from its task loss and the critic's absolute prediction."""
        product = (
            isinstance(objective, Constrained) if self.loss == "auto" else self.loss == "product"
        )
        if product:
            epsilon = getattr(objective, "epsilon", 0.05)
            # in few operations: the step of a small network costs as much as their number
            start = 1 - self.strength * (epsilon - self.margin)
            return torch.clamp(self.strength * bias + start, min=1) * task
        lam = getattr(objective, "lam", 0.75) if self.lam is None else self.lam
        return lam * bias + (1 - lam) * task


def minibatch_bias(measure: Measure, y: Array, chance: Array, group: Array, n_groups: int) -> Array:
    """The bias of each of K minibatches, (K,), with probabilities instead of decisions.

    A minibatch in which the measure has no value (a group without a positive, say) counts as
    unbiased. A caller's own measure gets decisions at 0.5.

    Args:
        y, chance, group: (K, b).
    """
    if isinstance(measure, CallableMeasure):
        chance = (chance > 0.5).astype(np.float64)
    batches = len(y)
    code = (np.arange(batches)[:, None] * n_groups + group) * 2 + y.astype(np.int64)
    shape: Any = (batches, n_groups, 2)
    rows = np.bincount(code.ravel(), minlength=2 * batches * n_groups).reshape(shape)
    positive = np.bincount(
        code.ravel(), weights=chance.ravel(), minlength=2 * batches * n_groups
    ).reshape(shape)
    counts = np.stack([rows - positive, positive], axis=-1)
    if isinstance(measure, CallableMeasure):
        counts = counts.round().astype(np.int64)
    # where 1 is fair (ratios) the value would be pushed to 0, the worst
    bias = measure(counts) if measure.ideal == 0 else measure.bias(counts)
    return np.nan_to_num(bias, nan=0.0, posinf=0.0, neginf=0.0)
