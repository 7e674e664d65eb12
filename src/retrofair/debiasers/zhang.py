"""Adversarial debiasing of Zhang et al. as an intra-processing method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import Batches
from retrofair.debiasers.base import Best, Fit, clone, record
from retrofair.debiasers.critics import layer_rates, mlp_critic, set_trainable
from retrofair.debiasers.held_out import drawn_from
from retrofair.debiasers.rules import Cut
from retrofair.debiasers.tuning import Tuning
from retrofair.errors import InputError
from retrofair.metrics import Measure, Several
from retrofair.networks.layers import last_layer, reading
from retrofair.networks.outputs import forward, probability
from retrofair.networks.randomness import seeded
from retrofair.networks.recording import Record, passed, recorded
from retrofair.objective import Objective
from retrofair.progress import track


@dataclass(frozen=True)
class Zhang:
    """Fine-tunes the network so that a critic cannot tell the group of a row.

    The critic reads a row's penultimate representation (and its label, for measures that compare
    groups given the label) and predicts the group. The network follows the gradient of its own
    loss, less its projection onto the critic's gradient, less alpha times the critic's gradient:

        g_task - (g_task . u) u - alpha * g_critic,   u = g_critic / |g_critic|

    The published intra-processing code forgets to divide by the norm and takes the projection
    tensor by tensor; here it is the projection of the whole gradient, as in the original paper.
    Early layers learn more slowly, as the intra-processing paper asks. The published settings
    (rate 1e-4, alpha 0.8) barely move the papers' network; the defaults here were chosen on
    validation data. After every epoch the best
    threshold is chosen, and the best epoch wins, the original network included.

    Args:
        epochs: rounds of critic and network updates.
        critic_steps: per epoch.
        actor_steps: updates of the network per epoch.
        batch_size: rows per minibatch.
        learning_rate: of the network's last layer.
        early: the first tensor's share of that rate, in [0, 1].
        critic_rate: learning rate of the critic.
        alpha: weight of the critic's gradient.
        layer: name of the layer that reads the representation; None: the last one to run.

    Reference:
        Zhang, Lemoine and Mitchell (2018), Mitigating unwanted biases with adversarial learning.
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, Section 4.
    """

    epochs: int = 24
    critic_steps: int = 201
    actor_steps: int = 201
    batch_size: int = 64
    learning_rate: float = 1e-3
    early: float = 0.1
    critic_rate: float = 1e-3
    alpha: float = 4.0
    layer: str | None = None
    name: ClassVar[str] = "zhang"
    changes_weights: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.epochs, self.critic_steps, self.actor_steps) < 1 or self.batch_size < 2:
            raise InputError(
                "expected epochs, critic_steps and actor_steps >= 1 and batch_size >= 2, got "
                f"{self.epochs}, {self.critic_steps}, {self.actor_steps} and {self.batch_size}"
            )
        if min(self.learning_rate, self.critic_rate) <= 0 or self.alpha < 0:
            raise InputError("expected positive learning rates and alpha >= 0")
        if not 0 <= self.early <= 1:
            raise InputError(f"expected early in [0, 1], got {self.early}")

    def layers_read(self, model: nn.Module, x: object) -> list[str]:
        """The name of the layer whose input the critic reads."""
        chosen = last_layer(model, x, self.layer)
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
        layer = last_layer(model, x, self.layer)
        tuning = Tuning(model, data, option="batch_size")
        drawn = drawn_from(data)
        now = recorded(model, drawn, [layer])
        best = Best.start(model, data, objective)
        history = [record(objective, best.choice, epoch=0)]
        with_label = _given_label(objective.bias_measure)
        width = now.inputs[layer].shape[1] + with_label
        critic = mlp_critic(width, len(data.group_names), generator)
        critic_optimiser = torch.optim.Adam(critic.parameters(), lr=self.critic_rate, fused=True)
        actor_optimiser = torch.optim.Adam(
            layer_rates(model, self.learning_rate, self.early), fused=True
        )
        for epoch in track(range(1, self.epochs + 1), "adversarial debiasing (Zhang)"):
            with seeded(generator):
                error = self._train_critic(
                    critic, critic_optimiser, now, layer, drawn, with_label, generator
                )
                self._train_actor(
                    tuning, actor_optimiser, critic, layer, data, with_label, generator
                )
            model.eval()
            now = passed(model, drawn, [layer])  # for the critic's next epoch, and for the choice
            choice = best.judge(probability(now.outputs)) if drawn is data else best.look()
            history.append(record(objective, choice, epoch=epoch, critic_error=error))
        best.restore()
        return Fit(model, Cut(best.choice.threshold), tuple(history))

    def _train_critic(
        self,
        critic: nn.Module,
        optimiser: torch.optim.Optimizer,
        now: Record,
        layer: str,
        data: Batches,
        with_label: bool,
        generator: torch.Generator,
    ) -> float:
        hidden = _inputs(now.inputs[layer], data.y, with_label)
        set_trainable(critic, True)
        critic.train()
        total = 0.0
        for _ in range(self.critic_steps):
            rows = torch.randint(len(hidden), (self.batch_size,), generator=generator)
            optimiser.zero_grad()
            loss = F.cross_entropy(critic(hidden[rows]), data.group[rows])
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        critic.eval()
        set_trainable(critic, False)
        return total / self.critic_steps

    def _train_actor(
        self,
        tuning: Tuning,
        optimiser: torch.optim.Optimizer,
        critic: nn.Module,
        layer: str,
        data: Batches,
        with_label: bool,
        generator: torch.Generator,
    ) -> None:
        parameters = [p for p in tuning.model.parameters() if p.requires_grad]
        tuning.train()
        with reading(tuning.model, layer) as seen:

            def run(x: Any) -> tuple[Tensor, Tensor]:
                return forward(tuning.model, x), seen["input"]

            def step() -> None:
                x, y, group = data.sample(self.batch_size, generator)
                logit, hidden = tuning.in_parts(x, run)
                task = F.binary_cross_entropy_with_logits(logit, y.to(logit))
                guess = critic(_inputs(hidden.cpu(), y, with_label))
                adversary = F.cross_entropy(guess, group)
                project(parameters, task, adversary, self.alpha)
                optimiser.step()

            for _ in range(self.actor_steps):
                tuning.step(step, self.batch_size, generator)


def project(parameters: Sequence[Tensor], task: Tensor, critic: Tensor, alpha: float) -> None:
    """Set the parameters' gradients to Zhang's update, from the two losses."""
    g_task = torch.autograd.grad(task, parameters, retain_graph=True, allow_unused=True)
    g_critic = torch.autograd.grad(critic, parameters, allow_unused=True)
    a, b = _flat(g_task, parameters), _flat(g_critic, parameters)
    square = float(b @ b)
    along = float(a @ b) / square if square > 0 else 0.0
    update = torch.add(a, b, alpha=-(along + alpha))
    parts = update.split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """All gradients as one vector; zeros where a loss does not depend on a parameter."""
    return torch.cat(
        [
            (torch.zeros_like(p) if gradient is None else gradient).reshape(-1)
            for gradient, p in zip(gradients, parameters, strict=True)
        ]
    )


def _given_label(measure: Measure) -> bool:
    """Whether the measure compares groups given the label; of several, whether all do."""
    if isinstance(measure, Several):
        return all(map(_given_label, measure.measures))
    conditions = {rate.condition for rate in getattr(measure, "rates", ())}
    return bool(conditions & {"positives", "negatives"})


def _inputs(hidden: Tensor, y: Tensor, with_label: bool) -> Tensor:
    return torch.cat([hidden, y[:, None].to(hidden)], dim=1) if with_label else hidden
