"""Fine-tuning a regression network until every group's loss is bounded."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.data import Rows, in_order
from retrofair.debiasers.base import clone
from retrofair.debiasers.result import Status
from retrofair.debiasers.tuning import Tuning
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks.layers import weight_layers
from retrofair.networks.outputs import as_module, forward
from retrofair.networks.randomness import generator_of, seeded
from retrofair.networks.threads import fitting_threads
from retrofair.progress import track
from retrofair.regression.audited import group_counts, of_predictions
from retrofair.regression.losses import check_rows, labels, of_errors, predictions
from retrofair.regression.objective import BoundedGroupLoss, Rank
from retrofair.regression.result import BoundedLoss, snapshot

HELD_OUT = 3  # one row of so many judges, and at least one of every group
MOST = 50.0  # that a multiplier can rise to
STEP = 0.3  # of a multiplier, per epoch and per relative excess over the bound
STILL = 0.01  # outputs that vary less than this, relative to y, hardly vary
SLOWEST = 0.05  # the last epoch's share of the learning rate


@dataclass(frozen=True)
class _Options:
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    layers: int | None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("layers", 1)):
            value = getattr(self, name)
            if name == "layers" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"expected {name} as a whole number >= {least}, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"expected learning_rate > 0, got {self.learning_rate!r}")


def bound_group_loss(
    net: nn.Module,
    data: Rows,
    objective: BoundedGroupLoss,
    *,
    valid: Rows | None = None,
    epochs: int = 200,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    layers: int | None = None,
) -> BoundedLoss:
    """Fine-tune a copy of a regression network until every group's mean loss is at most the bound.

    Each row's loss weighs 1 plus its group's multiplier over the group's share. Weights descend by
    Adam on the gradient rows; after each epoch a multiplier rises with its group's excess over the
    bound on the judged rows, and falls below it (projected ascent; two data sets as in Cotter et
    al., or a network that overfits would never feel the bound). The best epoch on the judged rows
    by the objective is returned, the original network included. The paper reduces to many weighted
    regressions and returns a random mixture; here is one network, which needs no group to predict.

    Args:
        net: (n, ...) -> (n,) or (n, 1) values, as y is; it is left as it is.
        data: rows for the gradient; y any finite numbers.
        valid: rows to judge by. Without it a third of `data`, the same share of every group: a
            network can learn the rows of its gradient by heart, and would keep any bound there.
            A result without `valid` is never worse than `net` on all of `data` either.
        epochs, learning_rate, batch_size: of Adam; the rate falls to a twentieth.
        seed: of the split, the order of the rows and dropout.
        layers: how many of the last layers with a weight to change; None changes all. The rest
            then stays in eval mode.

    Returns:
        The new network, and what it does on the judged rows. A bound that was not reached is a
        status and a note; the weights are then those of the least worst group.

    Raises:
        InputError: the network does not fit the data or gives several numbers a row, y is not
            finite, `valid` has other groups, or an option is out of range.

    Example:
        >>> from retrofair.data import GroupedData
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
        >>> group = (torch.arange(600) % 6 == 0).long()
        >>> data = GroupedData(x=x, y=x[:, group].diagonal(), group=group, group_names=("a", "b"))
        >>> net = torch.nn.Linear(2, 1)
        >>> result = bound_group_loss(net, data, BoundedGroupLoss(0.9), learning_rate=0.05)
        >>> result.status.value
        'met'

    Reference:
        Agarwal, Dudik and Wu (2019), Fair regression; Cotter et al. (2019), Training
        well-generalizing classifiers for fairness metrics and other data-dependent constraints.
    """
    if not isinstance(objective, BoundedGroupLoss):
        raise InputError(f"expected an objective such as BoundedGroupLoss(4.0), got {objective!r}")
    options = _Options(epochs, learning_rate, batch_size, seed, layers)
    generator = generator_of(seed)
    check_rows(data)
    net = as_module(net)
    predictions(net, data)
    model = clone(net)
    if valid is None:
        fit, judge = _split(data, generator)
        whole: Rows | None = data
    else:
        check_rows(valid, "valid")
        if tuple(valid.group_names) != tuple(data.group_names):
            raise InputError(
                f"expected valid with the groups {list(data.group_names)}, "
                f"got {list(valid.group_names)}"
            )
        fit, judge, whole = data, valid, None
    best = _Best(model, objective, judge, whole)
    before = best.said
    started = time.perf_counter()
    with fitting_threads(model):
        history, notes = _descend(best, fit, options, generator)
    seconds = time.perf_counter() - started
    y, group, names = labels(judge), judge.group.numpy(), judge.group_names
    constant = objective.constant(y, group, len(names))
    audits = [
        of_predictions(said, y, group, names, objective.loss, constant)
        for said in (before, best.said)
    ]
    result = BoundedLoss(
        model=model.eval(),
        objective=objective,
        status=_status(objective, best, constant),
        before=audits[0],
        after=audits[1],
        history=tuple(history),
        notes=(),
        about={
            **objective.to_dict(),
            **dataclasses.asdict(options),
            "rows": len(fit),
            "judged_rows": len(judge),
            "held_out": valid is None,
            "seconds": round(seconds, 3),
            "torch": torch.__version__,
        },
    )
    notes += _notes(result, fit, best.least_worst)
    return dataclasses.replace(result, notes=tuple(notes))


def _split(data: Rows, generator: torch.Generator) -> tuple[Rows, Rows]:
    """Rows for the gradient and rows that judge, of every group."""
    judges = torch.zeros(len(data), dtype=torch.bool)
    for code in range(len(data.group_names)):
        rows = torch.nonzero(data.group == code).flatten()
        order = torch.randperm(len(rows), generator=generator)
        judges[rows[order[: max(len(rows) // HELD_OUT, 1)]]] = True
    if judges.all():
        raise InputError(
            f"expected rows for the gradient beside those that judge, got {len(data)} rows: give "
            "more, or valid="
        )
    return data[~judges], data[judges]


class _Best:
    """The best weights seen so far, by the objective on the judged rows."""

    def __init__(
        self,
        model: nn.Module,
        objective: BoundedGroupLoss,
        judge: Rows,
        whole: Rows | None,
    ) -> None:
        self.model, self.objective, self.judge, self.whole = model, objective, judge, whole
        self.said = predictions(model, judge)
        self.losses, self.mean = self._losses(self.said, judge)
        self.rank = objective.rank(self.losses, self.mean)
        self.floor = self._rank_of_whole()
        self.least_worst = float(np.nanmax(self.losses))
        self.state = snapshot(model)

    def look(self) -> tuple[Array, float]:
        """Judge the model as it is now, keep its weights if they are the best; its losses."""
        said = predictions(self.model, self.judge)
        losses, mean = self._losses(said, self.judge)
        rank = self.objective.rank(losses, mean)
        self.least_worst = min(self.least_worst, float(np.nanmax(losses)))
        if rank > self.rank and self._rank_of_whole() >= self.floor:
            self.rank, self.said, self.state = rank, said, snapshot(self.model)
        return losses, mean

    def _rank_of_whole(self) -> Rank:
        if self.whole is None:
            return False, 0.0
        return self.objective.rank(*self._losses(predictions(self.model, self.whole), self.whole))

    def _losses(self, said: Array, data: Rows) -> tuple[Array, float]:
        return self.objective.of(said - labels(data), data.group.numpy(), len(data.group_names))


def _descend(
    best: _Best, data: Rows, options: _Options, generator: torch.Generator
) -> tuple[list[dict[str, Any]], list[str]]:
    """Fine-tune the model of `best`, which ends with its best weights; history and notes."""
    model, objective = best.model, best.objective
    tuned = _tuned(model, data, options.layers)
    parameters = [p for module in tuned for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("expected a network with weights to change, got none")
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate)
    tuning = Tuning(model, data, trained=tuned, option="batch_size")
    share = group_counts(data) / len(data)
    multiplier, losses = np.zeros(len(share)), best.losses
    history = [_record(0, best.mean, losses, multiplier, data)]
    notes: list[str] = []
    for epoch in track(range(1, options.epochs + 1), "bounding group losses"):
        for each in optimiser.param_groups:
            done = (epoch - 1) / options.epochs
            each["lr"] = options.learning_rate * max(1 - done, SLOWEST)
        # a group that is not judged has no excess: its multiplier stays 0
        excess = np.nan_to_num(losses / objective.bound - 1)
        multiplier = np.clip(multiplier + STEP * np.clip(excess, -1, 3), 0, MOST)
        weight = 1 + np.divide(multiplier, share, out=np.zeros_like(share), where=share > 0)
        scale = objective.bound * (1 + float(multiplier.sum()))
        tuning.train()
        _epoch(
            tuning, data, objective, torch.from_numpy(weight / scale), options, optimiser, generator
        )
        model.eval()
        try:
            losses, mean = best.look()
        except InputError:
            notes.append(
                f"Fine-tuning diverged in epoch {epoch} of {options.epochs}: lower the learning "
                f"rate of {options.learning_rate:g}."
            )
            break
        history.append(_record(epoch, mean, losses, multiplier, data))
    model.load_state_dict(best.state)
    return history, notes


def _tuned(model: nn.Module, data: Rows, layers: int | None) -> list[nn.Module]:
    """The modules whose weights change."""
    if layers is None:
        return [model]
    x, _, _ = data.batch(torch.arange(min(2, len(data))))
    names = weight_layers(model, x)
    if layers > len(names):
        raise InputError(f"expected layers from 1 to {len(names)}, got {layers}")
    return [model.get_submodule(name) for name in names[-layers:]]


def _epoch(
    tuning: Tuning,
    data: Rows,
    objective: BoundedGroupLoss,
    weight: Tensor,
    options: _Options,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    def step(x: Any, y: Tensor, group: Tensor) -> None:
        (said,) = tuning.in_parts(x, lambda some: (forward(tuning.model, some),))
        loss = of_errors(said - y.to(said), objective.loss)
        optimiser.zero_grad()
        (loss * weight[group].to(loss)).mean().backward()
        optimiser.step()

    with seeded(generator):
        order = torch.randperm(len(data), generator=generator)
        for x, y, group in in_order(data, order, options.batch_size):
            if len(y) < 2 <= len(data):  # BatchNorm cannot be trained on a single row
                continue
            tuning.step(partial(step, x, y, group), len(y), generator)


def _record(
    epoch: int, mean: float, losses: Array, multiplier: Array, data: Rows
) -> dict[str, Any]:
    record: dict[str, Any] = {"epoch": epoch, "mean_loss": mean}
    for code, name in enumerate(data.group_names):
        record[f"loss[{name}]"] = float(losses[code])
        record[f"multiplier[{name}]"] = float(multiplier[code])
    return record


def _status(objective: BoundedGroupLoss, best: _Best, constant: float) -> Status:
    judge = best.judge
    y, group = labels(judge), judge.group.numpy()
    if best.said.std() <= STILL * y.std():
        return Status.DEGENERATE
    if not best.rank[0]:
        return Status.NOT_MET
    of_constant = objective.rank(*objective.of(constant - y, group, len(judge.group_names)))
    return Status.DEGENERATE if best.rank <= of_constant else Status.MET


def _notes(result: BoundedLoss, fit: Rows, least_worst: float) -> Iterator[str]:
    bound, after, before = result.objective.bound, result.after, result.before
    worst = max(each.constant_loss for each in after.groups if each.rows)
    if after.worst_loss.value > bound:
        yield (
            f"The bound of {bound:g} was not reached: group {after.worst!r} is at "
            f"{after.worst_loss.value:.4g} (the worst group before: {before.worst_loss.value:.4g}; "
            f"of the best constant: {worst:.4g}). The lowest that was seen on the judged rows is "
            f"{least_worst:.4g}: raise the bound, or give the network more to tell rows apart by."
        )
    elif result.status is Status.DEGENERATE:
        yield (
            f"A constant keeps the bound of {bound:g} as well (its worst group is at {worst:.4g}): "
            "the network is of no more use than it."
        )
    yield from after.flags
    missing = group_counts(fit)
    for code, name in enumerate(fit.group_names):
        if not missing[code] and after.groups[code].rows:
            yield f"Group {name!r} has no rows for the gradient: only the judging sees it."
