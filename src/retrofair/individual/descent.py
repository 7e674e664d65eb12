"""The steps of training for individuals: what they descend, and what they reach."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.errors import InputError
from retrofair.individual.certified import CertifiedBound
from retrofair.individual.checkpoint import Checkpoint
from retrofair.individual.neighbours import Neighbours
from retrofair.individual.rows import Rows
from retrofair.networks.randomness import seeded
from retrofair.progress import track

WARM_UP = 0.3  # of the epochs, until a proved bound counts in full
EVERY = 4  # steps from one look at the proved bound to the next: it costs as much as many of them
CLIPPED = 5.0  # norm of a step's gradient: proved bounds have steep ones


@dataclass(frozen=True)
class Settings:
    """How to train; see `train_individually_fair`.

    Args:
        group: weight of the largest difference between two groups' mean outputs (a smooth spd),
            beside the rest; 0 for none.
        sparsity: how far each weight moves towards 0 after a step, in learning rates, at most to
            0. Weights that the objective does not hold up become 0, which makes certificates
            faster by far (Xiao et al. 2019, Training for faster adversarial robustness
            verification via inducing ReLU stability).
    """

    lam: float = 0.5
    bound: float = 0.5
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    steps: int = 3
    patience: int = 10
    group: float = 0.0
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lam", "bound"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 <= float(value) <= 1):
                raise InputError(f"expected {name} in [0, 1], got {value!r}")
        for name in ("learning_rate", "group", "sparsity"):
            if not isinstance(getattr(self, name), Real):
                raise InputError(f"expected {name} as a number, got {getattr(self, name)!r}")
        counts = {n: getattr(self, n) for n in ("epochs", "batch_size", "patience", "steps")}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"expected {name} as a whole number, got {value!r}")
        if min(self.epochs, self.batch_size, self.patience) < 1 or self.steps < 0:
            raise InputError(
                "expected epochs, batch_size and patience of at least 1 and steps >= 0, got "
                f"{self.epochs}, {self.batch_size}, {self.patience} and {self.steps}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"expected learning_rate > 0, got {self.learning_rate}")
        if not 0 <= self.group < math.inf:
            raise InputError(f"expected group >= 0, got {self.group}")
        if not 0 <= self.sparsity < 1:  # an Adam step is at most about one learning rate
            raise InputError(f"expected sparsity in [0, 1), got {self.sparsity}")


@dataclass(frozen=True)
class Epoch:
    """What the network was after an epoch (0: before the first), on the validation rows.

    Args:
        loss: cross-entropy or squared error.
        apart: mean |f(x) - f(x*)|.
        bound: proved for all pairs of the domain by lines; nan where it was not asked for.
        objective: lam * loss + (1 - lam) * (apart and bound by their shares) + group * groups.
        groups: the largest difference between two groups' mean outputs; nan without groups.
    """

    epoch: int
    loss: float
    apart: float
    bound: float
    objective: float
    groups: float = math.nan

    @property
    def far(self) -> float:
        """How far apart similar people are: as is proved, where that was asked for."""
        return self.apart if math.isnan(self.bound) else self.bound

    def beats(self, other: Epoch) -> bool:
        """Whether it is better in loss or difference and in neither worse."""
        return (
            self.loss <= other.loss
            and self.far <= other.far
            and (self.loss, self.far) != (other.loss, other.far)
        )


Weights = dict[int, dict[str, Tensor]]


class Descent:
    """One training: the model, its optimiser, and what it descends."""

    def __init__(
        self,
        model: nn.Module,
        question: Question,
        pairs: Pairs,
        settings: Settings,
        outputs: Outputs | None,
        extra: Tensor | None,
        seed: int,
    ) -> None:
        self.model, self.question, self.settings, self.extra = model, question, settings, extra
        self.neighbours = Neighbours(question, pairs, np.random.default_rng(seed))
        self.bound = None
        if settings.bound > 0 and settings.lam < 1:
            self.bound = CertifiedBound(model, question, pairs, outputs)
        self.dtype, self.seed = next(model.parameters()).dtype, seed
        self.warm_up = max(1, round(WARM_UP * settings.epochs))
        self.optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)

    def run(
        self,
        train: Rows,
        valid: Rows,
        kept: Checkpoint | None,
        on_epoch: Callable[[Epoch], None] | None,
    ) -> tuple[tuple[Epoch, ...], Weights]:
        """The history, and the weights of the best epoch and of those that no other beats.

        The model has the best weights then: those with the least objective.
        """
        settings, model = self.settings, self.model
        found = None if kept is None else kept.read(model, self.optimiser)
        if found is None:
            history, weights = [self._look(0, *valid)], {0: copy.deepcopy(model.state_dict())}
        else:
            history, weights = [Epoch(**row) for row in found[1]], found[0]
        for epoch in track(range(len(history), settings.epochs + 1), "training for individuals"):
            least = min(history, key=lambda e: e.objective)
            # what is descended changes until the bound counts in full
            since = max(least.epoch, self.warm_up if self.bound is not None else 0)
            if len(history) - 1 - since >= settings.patience:
                break
            # the generator of an epoch is its own, so that a resumed run goes the same way
            with seeded(_of_epoch(self.seed, epoch)):
                self.neighbours.generator = np.random.default_rng([self.seed, epoch])
                self._train(epoch, *train)
            history.append(self._look(epoch, *valid))
            weights = self._kept(history, weights)
            if on_epoch is not None:
                on_epoch(history[-1])
            if kept is not None:
                kept.write(model, self.optimiser, weights, [asdict(each) for each in history])
        model.load_state_dict(weights[min(history, key=lambda e: e.objective).epoch])
        return tuple(history), weights

    def _kept(self, history: list[Epoch], weights: Weights) -> Weights:
        """The weights to keep after the last epoch of the history."""
        new = history[-1]
        best = min(history, key=lambda e: e.objective).epoch
        left = {e: w for e, w in weights.items() if e == best or not new.beats(history[e])}
        if new.epoch == best or not any(history[e].beats(new) for e in left):
            left[new.epoch] = copy.deepcopy(self.model.state_dict())
        return left

    def _train(self, epoch: int, x: Tensor, y: Tensor, group: Tensor | None) -> None:
        settings = self.settings
        share = settings.bound * min(1.0, epoch / self.warm_up)
        share = 0.0 if self.bound is None else share
        batches = torch.randperm(len(x)).split(settings.batch_size)
        # steps are counted over epochs, so that few batches do not give the bound more weight
        for step, rows in enumerate(batches, (epoch - 1) * len(batches)):
            self.optimiser.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            if settings.lam > 0:
                total = total + settings.lam * self._loss(x[rows], y[rows])
            if settings.lam < 1:
                apart = self._apart_from_worst(x[rows]) if share < 1 else total.new_zeros(())
                apart = (1 - share) * apart
                if self.bound is not None and share > 0 and step % EVERY == 0:
                    apart = apart + EVERY * share * self.bound(self.model)[1]
                total = total + (1 - settings.lam) * apart
            if group is not None:
                total = total + settings.group * self._groups_apart(x[rows], group[rows])
            if not total.requires_grad:  # nothing but the bound counts, and not in this step
                continue
            total.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIPPED)
            self.optimiser.step()
            self._shrink()

    def _shrink(self) -> None:
        by = self.settings.sparsity * self.settings.learning_rate
        if not by:
            return
        with torch.no_grad():
            for weight in self.model.parameters():
                if weight.ndim > 1:
                    weight.copy_(weight.sign() * (weight.abs() - by).clamp(min=0))

    def _within(self, x: Tensor) -> Tensor:
        """Rows as people of the domain: at its edge where they lie outside."""
        return x.clamp(self.neighbours.low, self.neighbours.high)

    def _apart_from_worst(self, x: Tensor) -> Tensor:
        x = self._within(x)
        worst = self.neighbours.worst(x, self._apart, self.settings.steps)
        self.optimiser.zero_grad()
        apart = self._apart(x, worst).mean()
        if self.extra is not None:
            apart = (apart + self._apart(self.extra[:, 0], self.extra[:, 1]).mean()) / 2
        return apart

    def _groups_apart(self, x: Tensor, group: Tensor) -> Tensor:
        """The largest difference between two groups' mean outputs."""
        shown = self.question.on_scale(self._out(x))[:, -1].double()
        means = torch.stack([shown[group == g].mean() for g in group.unique()])
        return means.amax() - means.amin()

    def _out(self, x: Tensor) -> Tensor:
        """(n, K) what the model says, in its own precision."""
        out: Tensor = self.model(x.to(self.dtype))
        return out.reshape(len(x), -1)

    def _apart(self, one: Tensor, two: Tensor) -> Tensor:
        """(n,) the difference asked for, of rows and rows."""
        shown = [self.question.on_scale(self._out(x)) for x in (one, two)]
        return (shown[1] - shown[0]).abs().amax(1).double()

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        out, question = self._out(x), self.question
        if question.kind == "values" or (question.measured == "values" and not question.shown):
            return functional.mse_loss(out[:, 0].double(), y)
        if question.kind == "softmax" or question.two:
            logs = torch.log_softmax(out, 1) if question.shown else out.clamp(min=1e-12).log()
            logs = out if not question.shown and bool((out < 0).any()) else logs
            return functional.nll_loss(logs.double(), y.long())
        if question.shown:
            return functional.binary_cross_entropy_with_logits(out[:, 0].double(), y)
        return functional.binary_cross_entropy(out[:, 0].double().clamp(1e-12, 1 - 1e-12), y)

    def _look(self, epoch: int, x: Tensor, y: Tensor, group: Tensor | None) -> Epoch:
        settings = self.settings
        self.neighbours.generator = np.random.default_rng(0)  # the same look at every epoch
        people = self._within(x)
        worst = self.neighbours.worst(people, self._apart, settings.steps)
        self.optimiser.zero_grad()
        with torch.no_grad():
            loss = float(self._loss(x, y))
            apart = float(self._apart(people, worst).mean())
            bound = math.nan if self.bound is None else float(self.bound(self.model)[0])
            groups = math.nan if group is None else float(self._groups_apart(x, group))
        share = 0.0 if self.bound is None else settings.bound
        second = apart if not share else (1 - share) * apart + share * bound
        objective = settings.lam * loss + (1 - settings.lam) * second
        objective += 0.0 if group is None else settings.group * groups
        if not math.isfinite(objective):
            raise InputError(
                "expected a loss that stays finite, got "
                f"{objective} after epoch {epoch}: lower learning_rate"
            )
        return Epoch(epoch, loss, apart, bound, objective, groups)


def _of_epoch(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
