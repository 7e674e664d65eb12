"""`repair`: certify, fine-tune with the worst pairs found, certify again."""

from __future__ import annotations

import copy
import math
import numbers
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.certifiers import Certificate, Certifier, Distance, Domain, Verdict, certify
from retrofair.certifiers.distances import NetworkNorm, check_distance, check_epsilon
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.certifiers.run import check_options, chosen
from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.individual.fair_training import train_individually_fair
from retrofair.individual.judged import Judge, Rows, grouped
from retrofair.individual.kept import Finished, KeptRounds, digest
from retrofair.individual.repaired import Repair, RepairStatus, Round
from retrofair.progress import Interval

BOUND = 0.5  # share of the difference that the training takes from a proved bound
EPOCHS, BATCH, STEPS = 30, 128, 150  # of a fine-tuning; few rows need more epochs to get anywhere
FALL = 0.5  # lam from one fine-tuning to the next: halved, the difference weighs ever more


def repair(
    network: nn.Module,
    data: Rows,
    domain: Domain,
    distance: Distance,
    epsilon: float,
    delta: float,
    *,
    valid: Rows | None = None,
    floor: float | None = None,
    rounds: int = 8,
    seconds: float = 30.0,
    lam: float = 0.5,
    seed: int = 0,
    outputs: Outputs | None = None,
    method: str | Certifier = "milp",
    checkpoint: str | Path | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> Repair:
    """Fine-tune a network until no two similar people differ by more than delta, as is proved.

    The network is certified; while delta is not proved, it is fine-tuned further by
    `train_individually_fair` with all the worst pairs found so far, lam halved each time, and
    certified again. It ends when the target is met, the rounds are used, the performance is below
    the floor, or at Ctrl-C, and returns the best of what there is. A network that has become a
    constant counts as below every floor.

    Args:
        network: (n, d) -> (n,), (n, 1) or (n, 2); fully connected. It is not changed.
        data: the training rows: grouped data with labels 0/1 (or numbers, with
            outputs="values"), or tensors (x, y) of shapes (n, d) and (n,) for regression.
        domain, distance, epsilon, outputs, method: as for `certify`.
        delta: the target, above 0: the largest difference allowed between two similar people.
        valid: rows to judge the performance by and to stop the training early; without them the
            training rows, which flatters.
        floor: the lowest balanced accuracy allowed, in (0, 1); for regression the largest mean
            squared error, above 0.
        rounds: fine-tunings at most.
        seconds: for each certificate; training takes its own time.
        lam: the weight of the loss in the first fine-tuning, in [0, 1]; 1 - lam weighs the
            difference between similar people.
        checkpoint: a folder in which finished rounds are kept: a second call with the same
            question goes on after them, also with more rounds.
        on_round: called with every round as it is finished.

    Raises:
        InputError: an option is out of range, the data do not fit the domain or the network, the
            checkpoint belongs to another question.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=1, width=4, max_epochs=9)
        >>> people, similar = rf.Domain.from_data(splits.train), rf.WeightedLp(math.inf)
        >>> found = repair(net, splits.train, people, similar, 0.1, 0.2, valid=splits.valid)
        >>> found.status.value, found.certificate.upper <= 0.2
        ('met', True)
        >>> history = found.table()
    """
    check_wishes(delta, floor, rounds, lam)
    epsilon, delta = check_epsilon(epsilon), float(delta)
    check_options(network, domain, seconds, 0.0, delta, None)
    chosen(method)
    training = grouped(data, domain)
    judge = Judge.of(data if valid is None else valid, network, domain, outputs)
    check_wishes(delta, floor, rounds, lam, judge.regression)
    work = _Work(
        network=network,
        data=data,
        valid=valid,
        training=training,
        judge=judge,
        domain=domain,
        distance=check_distance(distance),
        epsilon=epsilon,
        delta=delta,
        floor=floor,
        seconds=float(seconds),
        lam=float(lam),
        seed=seed,
        method=method,
        folder=None if checkpoint is None else Path(checkpoint),
    )
    kept = KeptRounds(work.folder, work.key(), network, domain)
    done = kept.read()[: rounds + 1]
    status: RepairStatus | None = None
    try:
        while (status := _ended(done, rounds)) is None:
            done.append(work.next(done))
            if done[-1].certificate.stopped == "interrupted":
                status = _ended(done, len(done))
                break
            kept.add(done[-1])
            if on_round is not None:
                on_round(done[-1].round)
    except KeyboardInterrupt:
        if not done:
            raise
        status = _ended(done, rounds)
    return work.answer(done, status or RepairStatus.INTERRUPTED)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Work:
    """Everything that a round depends on."""

    network: nn.Module
    data: Rows
    valid: Rows | None
    training: GroupedData
    judge: Judge
    domain: Domain
    distance: Distance
    epsilon: float
    delta: float
    floor: float | None
    seconds: float
    lam: float
    seed: int
    method: str | Certifier
    folder: Path | None

    def next(self, done: Sequence[Finished]) -> Finished:
        """The round after these: fine-tuned further (the first one is the original), certified."""
        number, started = len(done), time.monotonic()
        lam = self.lam * FALL ** (number - 1) if number else None
        if lam is None:
            network = copy.deepcopy(self.network).eval()
        else:
            network = train_individually_fair(
                done[-1].network,
                self.data,
                self.domain,
                self.distance,
                self.epsilon,
                lam,
                valid=self.valid,
                bound=self._bound(),
                pairs=self._worst(done),
                epochs=max(EPOCHS, STEPS // math.ceil(len(self.training) / BATCH)),
                batch_size=BATCH,
                seed=self.seed,
                outputs=self.judge.outputs,
                checkpoint=None if self.folder is None else self.folder / f"training-{number}",
            )
        performance = self.judge(network)
        certificate = self._certified(network, number)
        return Finished(
            Round(
                number,
                lam,
                certificate.lower,
                certificate.upper,
                certificate.verdict,
                certificate.tier,
                performance,
                time.monotonic() - started,
                performance.falls_below(self.floor),
            ),
            network,
            certificate,
        )

    def _certified(self, network: nn.Module, number: int) -> Certificate:
        with Interval(f"round {number}: certifying" if number else "certifying") as line:
            return certify(
                network,
                self.domain,
                self.distance,
                self.epsilon,
                method=self.method,
                seconds=self.seconds,
                delta=self.delta,
                outputs=self.judge.outputs,
                data=self.training,
                seed=self.seed,
                on_step=lambda step: line.show(step.lower, step.upper),
            )

    def _worst(self, done: Sequence[Finished]) -> Tensor | None:
        """(k, 2, d) the worst pairs of all rounds, as the network takes them."""
        dtype = next((p.dtype for p in self.network.parameters()), torch.float32)
        found = [
            torch.from_numpy(self.domain.to_inputs(each.certificate.witness.double().numpy()))
            for each in done
            if each.certificate.witness is not None
        ]
        return torch.stack(found).to(dtype) if found else None

    def _bound(self) -> float:
        """The share of a proved bound in the training; lines bound only piecewise activations."""
        layers = Question.of(self.network, self.domain.d, self.judge.outputs, None).network
        return BOUND if all(each.piecewise for each in layers.activations) else 0.0

    def key(self) -> str:
        """A name that changes with everything a round depends on."""
        norm = Pairs.of(self.domain, self.distance, self.epsilon).norm
        parts: list[object] = [self.network, self.training.x, self.training.y]
        parts += [self.judge.rows.x, self.judge.rows.y, self.valid is None, self.judge.outputs]
        parts += [
            self.domain.features,
            *map(torch.from_numpy, (self.domain.mean, self.domain.spread)),
        ]
        if isinstance(norm, NetworkNorm):
            parts += [*norm.network.weights, *norm.network.biases, norm.network.activations]
            norm = norm.inner
        parts += [norm.p, torch.from_numpy(np.ascontiguousarray(norm.matrix))]
        method = self.method if isinstance(self.method, str) else (self.method.name, self.method)
        parts += [self.epsilon, self.delta, self.floor, self.seconds, self.lam, self.seed, method]
        return digest(*parts)

    def answer(self, done: Sequence[Finished], status: RepairStatus) -> Repair:
        """The best of the rounds, and all of them."""
        allowed = [each for each in done if not each.round.below] or done[:1]
        fair = [each for each in allowed if each.round.verdict is Verdict.FAIR]
        best = fair[0] if fair else min(allowed, key=lambda each: each.round.upper)
        return Repair(
            network=best.network,
            status=status,
            certificate=best.certificate,
            best=best.round.number,
            history=tuple(each.round for each in done),
            constant=self.judge.constant(),
            delta=self.delta,
            floor=self.floor,
            rows=len(self.judge.rows),
        )


def _ended(done: Sequence[Finished], rounds: int) -> RepairStatus | None:
    """Why it is over after these rounds, if it is."""
    if not done:
        return None
    last = done[-1].round
    if last.below:
        return RepairStatus.FLOOR
    if last.verdict is Verdict.FAIR:
        return RepairStatus.MET
    return RepairStatus.BUDGET if len(done) > rounds else None


def check_wishes(
    delta: float, floor: float | None, rounds: int, lam: float, regression: bool | None = None
) -> None:
    """One clear error for what cannot be meant.

    Args:
        regression: whether the floor is a mean squared error; None where that is not known yet.
    """
    if not _number(delta) or not 0 < delta < math.inf:
        raise InputError(
            f"expected a target above 0, got {delta!r} (--delta): only a constant has difference 0"
        )
    top = 1 if regression is False else math.inf
    if floor is not None and not (_number(floor) and 0 < floor < top):
        raise InputError(
            "expected as the floor a balanced accuracy in (0, 1), or for regression a mean "
            f"squared error above 0, got {floor!r} (--floor)"
        )
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"expected at least one round, got {rounds!r} (--rounds)")
    if not _number(lam) or not 0 <= lam <= 1:
        raise InputError(f"expected lam in [0, 1], got {lam!r} (--lam)")


def _number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
