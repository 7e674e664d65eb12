"""Training that treats similar people alike: the loss against the worst similar person."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.certifiers.distances import Distance, check_distance, check_epsilon
from retrofair.certifiers.domain import Domain
from retrofair.certifiers.extract import extract
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.individual.certified import CertifiedBound
from retrofair.individual.checkpoint import Checkpoint
from retrofair.individual.neighbours import Neighbours
from retrofair.networks.randomness import generator_of, seeded
from retrofair.networks.threads import fitting_threads
from retrofair.progress import track

Table = GroupedData | tuple[Tensor, Tensor]
WARM_UP = 0.3  # of the epochs, until a proved bound counts in full
EVERY = 4  # steps from one look at the proved bound to the next: it costs as much as many of them
CLIPPED = 5.0  # norm of a step's gradient: proved bounds have steep ones


@dataclass(frozen=True)
class Settings:
    """How to train; see `train_individually_fair`.

    Args:
        group: weight of the largest difference between two groups' mean outputs (a smooth spd),
            beside the rest; 0 for none.
    """

    lam: float = 0.5
    bound: float = 0.5
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    steps: int = 3
    patience: int = 10
    group: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lam", "bound"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise InputError(f"expected {name} in [0, 1], got {value!r}")
        if min(self.epochs, self.batch_size, self.patience) < 1 or self.steps < 0:
            raise InputError(
                "expected epochs, batch_size and patience of at least 1 and steps >= 0, got "
                f"{self.epochs}, {self.batch_size}, {self.patience} and {self.steps}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"expected learning_rate > 0, got {self.learning_rate}")
        if not 0 <= self.group < math.inf:
            raise InputError(f"expected group >= 0, got {self.group}")


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


@dataclass(frozen=True, eq=False)
class IndividuallyFair:
    """A trained network, in eval mode, and how it came about."""

    network: nn.Module
    history: tuple[Epoch, ...]

    @property
    def frontier(self) -> tuple[Epoch, ...]:
        """The epochs that no other beats in both loss and difference (proved, where it is)."""

        def far(e: Epoch) -> float:
            return e.apart if math.isnan(e.bound) else e.bound

        return tuple(
            e
            for e in self.history
            if not any(
                o.loss <= e.loss and far(o) <= far(e) and (o.loss, far(o)) != (e.loss, far(e))
                for o in self.history
            )
        )


def train_individually_fair(
    network: nn.Module,
    data: Table,
    domain: Domain,
    distance: Distance,
    epsilon: float,
    lam: float = 0.5,
    *,
    valid: Table | None = None,
    bound: float = 0.5,
    pairs: Tensor | None = None,
    epochs: int = 30,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    steps: int = 3,
    patience: int = 10,
    seed: int = 0,
    outputs: Outputs | None = None,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """A copy of the network trained on lam * loss + (1 - lam) * |f(x) - f(x*)|.

    x* is the person similar to x whom the network treats most differently, searched anew in every
    step; f is the probability, or the value where values are compared. From scratch where the
    network is untrained, otherwise fine-tuning. BatchNorm keeps its statistics and dropout is off:
    what is certified is the network in eval mode.

    Args:
        network: (n, d) -> (n,), (n, 1) or (n, K). It is not changed.
        data: GroupedData, or a pair (x, y) of tensors (n, d) and (n,).
        domain, distance, epsilon, outputs: as for `certify`.
        lam: 1 ignores similar people, 0 ignores the labels. (The paper's text has it the other
            way round than its formula.)
        valid: rows by which the best epoch is chosen; without it the training rows.
        bound: share of the second term that a proved upper bound over the whole domain takes
            (difference-CROWN, warmed up): with it certificates become tight. For ReLU networks.
        pairs: (k, 2, d) pairs, as the network takes them, whose difference is trained down too.
        steps: of the search for x*.
        patience: epochs without a better objective after which to stop.
        checkpoint: a folder; training that was stopped goes on from there.

    Returns:
        The network of the epoch with the least objective on `valid`, in eval mode.

    Raises:
        InputError: an option out of range, rows that do not fit the domain, labels that do not
            fit the outputs, a checkpoint of another training, or as for `certify`.

    Reference:
        Liu and Hu (2023), An implementation of fairness guarantee framework for neural networks,
        Problem 2; Benussi et al. (2022), Individual fairness guarantees for neural networks.

    Example:
        >>> import math, retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=1, max_epochs=3)
        >>> people, similar = rf.Domain.from_data(splits.train), rf.WeightedLp(math.inf)
        >>> fair = train_individually_fair(net, splits.train, people, similar, 0.1, epochs=2)
        >>> before, after = (
        ...     rf.certify(n, people, similar, 0.1, method="bounds").upper for n in (net, fair)
        ... )
        >>> after < before
        True
    """
    settings = Settings(lam, bound, epochs, batch_size, learning_rate, steps, patience)
    return fit_individually_fair(
        network,
        data,
        domain,
        distance,
        epsilon,
        settings,
        valid=valid,
        pairs=pairs,
        seed=seed,
        outputs=outputs,
        checkpoint=checkpoint,
    ).network


def fit_individually_fair(
    network: nn.Module,
    data: Table,
    domain: Domain,
    distance: Distance,
    epsilon: float,
    settings: Settings,
    *,
    valid: Table | None = None,
    pairs: Tensor | None = None,
    seed: int = 0,
    outputs: Outputs | None = None,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> IndividuallyFair:
    """`train_individually_fair` from settings, with its history."""
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(network).__name__}")
    epsilon = check_epsilon(epsilon)
    model = copy.deepcopy(network).cpu().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with fitting_threads(model), seeded(generator_of(seed)):
        question = Question.of(model, domain.d, outputs, None)
        similar = Pairs.of(domain, check_distance(distance), epsilon)
        train = _rows(data, domain, question, settings)
        looked = train if valid is None else _rows(valid, domain, question, settings)
        work = _Work(model, question, similar, settings, outputs, _pairs(pairs, domain), seed)
        kept = (
            None
            if checkpoint is None
            else Checkpoint(Path(checkpoint), _key(settings, epsilon, seed, train, looked, model))
        )
        history = work.run(train, looked, kept, on_epoch)
    return IndividuallyFair(model.eval(), history)


class Rows(NamedTuple):
    """(n, d) and (n,) in double precision, and (n,) group codes where groups are asked about."""

    x: Tensor
    y: Tensor
    group: Tensor | None


class _Work:
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
    ) -> tuple[Epoch, ...]:
        settings, model = self.settings, self.model
        history = [self._look(0, *valid)]
        best = copy.deepcopy(model.state_dict())
        if kept is not None and (found := kept.read(model, self.optimiser)) is not None:
            best, rows = found
            history = [Epoch(**row) for row in rows]
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
            if history[-1].objective < least.objective:
                best = copy.deepcopy(model.state_dict())
            if on_epoch is not None:
                on_epoch(history[-1])
            if kept is not None:
                kept.write(model, self.optimiser, best, [asdict(each) for each in history])
        model.load_state_dict(best)
        return tuple(history)

    def _train(self, epoch: int, x: Tensor, y: Tensor, group: Tensor | None) -> None:
        settings = self.settings
        share = settings.bound * min(1.0, epoch / self.warm_up)
        share = 0.0 if self.bound is None else share
        for step, rows in enumerate(torch.randperm(len(x)).split(settings.batch_size)):
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
            total.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIPPED)
            self.optimiser.step()

    def _apart_from_worst(self, x: Tensor) -> Tensor:
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
            return F.mse_loss(out[:, 0].double(), y)
        if question.kind == "softmax" or question.two:
            logs = torch.log_softmax(out, 1) if question.shown else out.clamp(min=1e-12).log()
            logs = out if not question.shown and bool((out < 0).any()) else logs
            return F.nll_loss(logs.double(), y.long())
        if question.shown:
            return F.binary_cross_entropy_with_logits(out[:, 0].double(), y)
        return F.binary_cross_entropy(out[:, 0].double().clamp(1e-12, 1 - 1e-12), y)

    def _look(self, epoch: int, x: Tensor, y: Tensor, group: Tensor | None) -> Epoch:
        settings = self.settings
        self.neighbours.generator = np.random.default_rng(0)  # the same look at every epoch
        worst = self.neighbours.worst(x, self._apart, settings.steps)
        self.optimiser.zero_grad()
        with torch.no_grad():
            loss = float(self._loss(x, y))
            apart = float(self._apart(x, worst).mean())
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


def _rows(data: Table, domain: Domain, question: Question, settings: Settings) -> Rows:
    x, y = (data.x, data.y) if isinstance(data, GroupedData) else data
    if x.ndim != 2 or x.shape[1] != domain.d or not len(x) or y.shape != x.shape[:1]:
        raise InputError(
            f"expected rows x (n, {domain.d}) as the domain has columns, and y (n,), got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    x, y = x.double(), y.double()
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError("expected finite numbers in x and y")
    if question.measured == "probabilities":
        most = 1 if question.kind == "sigmoid" else question.network.outputs - 1
        if not bool(((y >= 0) & (y <= most) & (y == y.round())).all()):
            raise InputError(
                f"expected labels from 0 to {most} for probabilities, got values from "
                f"{float(y.min()):g} to {float(y.max()):g}: say outputs='values' for regression"
            )
    elif question.kind == "sigmoid":
        tail = extract(question.original, domain.d).split_sigmoid()
        assert tail is not None
        ends = torch.stack([tail[2], tail[1] + tail[2]])
        low, high = float(ends.min()), float(ends.max())
        if bool(((y < low) | (y > high)).any()):
            raise InputError(
                f"expected targets within [{low:g}, {high:g}], which is all the network can say, "
                f"got {float(y.min()):g} to {float(y.max()):g}"
            )
    if not settings.group:
        return Rows(x, y, None)
    if not isinstance(data, GroupedData) or len(data.group.unique()) < 2:
        raise InputError("expected GroupedData of at least two groups for group > 0")
    return Rows(x, y, data.group)


def _pairs(pairs: Tensor | None, domain: Domain) -> Tensor | None:
    if pairs is None or not len(pairs):
        return None
    if pairs.ndim != 3 or tuple(pairs.shape[1:]) != (2, domain.d):
        raise InputError(f"expected pairs (k, 2, {domain.d}), got {tuple(pairs.shape)}")
    return pairs.double()


def _key(
    settings: Settings,
    epsilon: float,
    seed: int,
    train: Rows,
    valid: Rows,
    model: nn.Module,
) -> dict[str, Any]:
    """What a training is of: another one does not go on from its checkpoint."""
    start = sum(float(value.double().sum()) for value in model.state_dict().values())
    sums = [float(t.sum()) for part in (train, valid) for t in part if t is not None]
    given = replace(settings, epochs=1)  # more epochs may be asked for later
    return {**asdict(given), "epsilon": epsilon, "seed": seed, "start": start, "data": sums}
