"""`repair`: certify, fine-tune with the worst pairs found, certify again."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from retrofair.certifiers import Certificate, Certifier, Distance, Domain, Verdict, certify
from retrofair.certifiers.distances import NetworkNorm, check_distance, check_epsilon
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.certifiers.run import check_options, chosen
from retrofair.data import GroupedData
from retrofair.data.split import check_seed
from retrofair.individual.course import best_of, following, status_of
from retrofair.individual.fair_training import train_individually_fair
from retrofair.individual.judged import Judge, Rows, grouped
from retrofair.individual.kept import FORMAT, Finished, KeptRounds, identity
from retrofair.individual.repaired import Repair, RepairStatus, Round
from retrofair.individual.wishes import check_wishes, largest_difference
from retrofair.networks.digest import digest
from retrofair.progress import Interval

BOUND = 0.5  # share of the difference that the training takes from a proved bound
SPARSITY = 0.2  # of the weights, with which certificates of one hidden layer close in seconds
EPOCHS, BATCH, STEPS = 30, 128, 150  # of a fine-tuning; few rows need more epochs to get anywhere


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
    certified again. Where the target is met but not even half of it is found, or at a performance
    below the floor, the lam between the last that failed and the first that met is tried as well,
    from the network that failed. It ends when there is nothing more to win, the rounds are used,
    the performance is below the floor with the target still missed, or at Ctrl-C. A network that
    has become a constant counts as below every floor.

    Of the networks that meet the target and are not below the floor the one with the best
    performance on the validation rows is returned. Where none is, the one with the smallest proved
    bound is, certified once more without a target and within `seconds` of its own, so that the
    interval is no wider than it need be; after Ctrl-C it stays as it was.

    Args:
        network: (n, d) -> (n,), (n, 1) or (n, 2); fully connected. It is not changed.
        data: the training rows: grouped data or tensors (x, y) of shapes (n, d) and (n,). The
            labels are 0/1, or numbers for regression: where values are compared, with
            outputs="values" or a last sigmoid that was scaled to other ends than 0 and 1.
        domain, distance, epsilon, outputs, method: as for `certify`.
        delta: the target, above 0: the largest difference allowed between two similar people; for
            probabilities below 1, for a scaled sigmoid below its range.
        valid: rows to judge the performance by and to stop the training early, two at least and
            of both classes; without them the training rows, which flatters. So do rows that the
            network was trained on before.
        floor: the lowest balanced accuracy allowed, in (0, 1); for regression the largest mean
            squared error, above 0.
        rounds: fine-tunings at most.
        seconds: for each certificate; training takes its own time.
        seed: of the training and the search for pairs, from 0 to 2**63 - 1.
        lam: the weight of the loss in the first fine-tuning, in [0, 1]; 1 - lam weighs the
            difference between similar people.
        checkpoint: a folder in which finished rounds are kept: a second call with the same
            question goes on after them, also with more rounds.
        on_round: called with every round as it is finished.

    Raises:
        InputError: an option is out of range, the data do not fit the domain or the network, the
            validation rows are too few to judge by, the checkpoint belongs to another question.

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
    most = largest_difference(Question.of(network, domain.d, outputs, None))
    check_wishes(delta, None, rounds, lam, most=most)
    judge = Judge.of(data if valid is None else valid, network, domain, outputs)
    check_wishes(delta, floor, rounds, lam, regression=judge.regression)
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
        floor=None if floor is None else float(floor),
        seconds=float(seconds),
        lam=float(lam),
        seed=check_seed(seed),
        method=method,
        folder=None if checkpoint is None else Path(checkpoint),
    )
    kept = KeptRounds(work.folder, work.key(), network, domain)
    done = kept.read()[: rounds + 1]
    otherwise = RepairStatus.INTERRUPTED
    try:
        while not work.over(done, int(rounds)):
            done.append(work.next(done))
            if done[-1].certificate.stopped == "interrupted":
                raise KeyboardInterrupt  # the certifier returned what it had until then
            kept.add(done[-1])
            if on_round is not None:
                on_round(done[-1].round)
        otherwise = RepairStatus.BUDGET
        done = work.tightened(done, kept)
    except KeyboardInterrupt:
        if not done:
            raise
    return work.answer(done, otherwise)


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

    def over(self, done: Sequence[Finished], rounds: int) -> bool:
        """Whether nothing comes after these rounds."""
        if not done:
            return False
        return len(done) > rounds or following(_rounds(done), self.lam, self.delta) is None

    def next(self, done: Sequence[Finished]) -> Finished:
        """The round after these: fine-tuned (the first one is the original), certified."""
        number, started = len(done), time.monotonic()
        step = following(_rounds(done), self.lam, self.delta) if done else None
        if step is None:
            network = copy.deepcopy(self.network).eval()
        else:
            network = train_individually_fair(
                done[step.start].network,
                self.data,
                self.domain,
                self.distance,
                self.epsilon,
                step.lam,
                valid=self.valid,
                bound=self._bound(),
                sparsity=SPARSITY,
                pairs=self._worst(done),
                epochs=max(EPOCHS, STEPS // math.ceil(len(self.training) / BATCH)),
                batch_size=BATCH,
                seed=self.seed,
                outputs=self.judge.outputs,
                checkpoint=None if self.folder is None else self.folder / f"training-{number}",
            )
        performance = self.judge(network)
        name = f"round {number}: certifying" if number else "certifying"
        certificate = self._certified(network, name, self.delta)
        return Finished(
            Round(
                number,
                None if step is None else step.lam,
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

    def tightened(self, done: list[Finished], kept: KeptRounds) -> list[Finished]:
        """The rounds, with a tight certificate of the one to return where all miss the target.

        A certificate that was asked about delta stops once delta is known to be missed, and
        leaves an upper bound that can be far too large.
        """
        best = done[best_of(_rounds(done)).number]
        missed = status_of(_rounds(done), RepairStatus.BUDGET) is not RepairStatus.MET
        if not missed or best.certificate.stopped != "target":
            return done
        found = kept.tight(best.round.number)
        if found is None:
            found = self._certified(best.network, "the returned network: certifying", None)
            found = dataclasses.replace(found, delta=self.delta, verdict=self._verdict(found))
            if found.stopped != "interrupted":
                kept.add_tight(best.round.number, found)
        if found.upper - found.lower >= best.certificate.upper - best.certificate.lower:
            return done
        known = dataclasses.replace(
            best.round,
            lower=found.lower,
            upper=found.upper,
            verdict=found.verdict,
            tier=found.tier,
            seconds=best.round.seconds + found.seconds,
        )
        tight = Finished(known, best.network, found)
        return [tight if each is best else each for each in done]

    def _verdict(self, found: Certificate) -> Verdict:
        """What an interval says about delta."""
        if found.upper <= self.delta:
            return Verdict.FAIR
        return Verdict.UNFAIR if found.lower > self.delta else Verdict.UNKNOWN

    def _certified(self, network: nn.Module, name: str, delta: float | None) -> Certificate:
        with Interval(name) as line:
            return certify(
                network,
                self.domain,
                self.distance,
                self.epsilon,
                method=self.method,
                seconds=self.seconds,
                delta=delta,
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
        """The share of a proved bound in the training: none where lines prove nothing useful.

        They bound piecewise activations only, and know nothing of a distance by a network.
        """
        if isinstance(Pairs.of(self.domain, self.distance, self.epsilon).norm, NetworkNorm):
            return 0.0
        layers = Question.of(self.network, self.domain.d, self.judge.outputs, None).network
        return BOUND if all(each.piecewise for each in layers.activations) else 0.0

    def key(self) -> str:
        """A name that changes with everything a round depends on."""
        parts: list[object] = [self.network, self.training.x, self.training.y]
        parts += [self.judge.rows.x, self.judge.rows.y, self.valid is None, self.judge.outputs]
        parts += identity(Pairs.of(self.domain, self.distance, self.epsilon))
        method = self.method if isinstance(self.method, str) else (self.method.name, self.method)
        parts += [self.delta, self.floor, self.seconds, self.lam, self.seed, method]
        return digest(*parts, FORMAT, BOUND, SPARSITY)

    def answer(self, done: Sequence[Finished], otherwise: RepairStatus) -> Repair:
        """The best of the rounds, and all of them."""
        rounds = _rounds(done)
        best = done[best_of(rounds).number]
        return Repair(
            network=best.network,
            status=status_of(rounds, otherwise),
            certificate=best.certificate,
            best=best.round.number,
            history=rounds,
            constant=self.judge.constant(),
            delta=self.delta,
            floor=self.floor,
            rows=len(self.judge.rows),
        )


def _rounds(done: Sequence[Finished]) -> tuple[Round, ...]:
    return tuple(each.round for each in done)
