"""Training that treats similar people alike: the loss against the worst similar person."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from retrofair.certifiers.distances import Distance, check_distance, check_epsilon
from retrofair.certifiers.domain import Domain
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.errors import InputError
from retrofair.individual.checkpoint import Checkpoint
from retrofair.individual.descent import Descent, Epoch, Settings, Weights
from retrofair.individual.kept import identity
from retrofair.individual.rows import Table, pairs_of, rows_of
from retrofair.networks.digest import digest
from retrofair.networks.randomness import generator_of, seeded
from retrofair.networks.threads import fitting_threads


@dataclass(frozen=True, eq=False)
class IndividuallyFair:
    """A trained network, in eval mode, and how it came about.

    Args:
        network: of the epoch with the least objective.
        weights: by epoch, of that one and of those on the frontier.
    """

    network: nn.Module
    history: tuple[Epoch, ...]
    weights: Weights = field(repr=False)

    @property
    def frontier(self) -> tuple[Epoch, ...]:
        """The epochs that no other beats in both loss and difference (proved, where it is)."""
        return tuple(e for e in self.history if not any(o.beats(e) for o in self.history))

    def at(self, epoch: int) -> nn.Module:
        """The network of another epoch of the frontier.

        Raises:
            InputError: its weights were not kept.
        """
        if epoch not in self.weights:
            raise InputError(
                f"expected an epoch of the frontier, one of {sorted(self.weights)}, got {epoch}"
            )
        made = copy.deepcopy(self.network)
        made.load_state_dict(self.weights[epoch])
        return made


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
    sparsity: float = 0.0,
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
        network: (n, d) -> (n,) or (n, 1); (n, K) for classes. It is not changed; all of the
            copy's parameters are trained, frozen ones too.
        data: GroupedData, or a pair (x, y) of tensors (n, d) and (n,).
        domain, distance, epsilon, outputs: as for `certify`. A row outside the domain is compared
            with others as the person at its edge.
        lam: 1 ignores similar people, 0 ignores the labels. (The paper's text has it the other
            way round than its formula.)
        valid: rows by which the best epoch is chosen; without it the training rows.
        bound: share of the second term that a proved upper bound over the whole domain takes
            (difference-CROWN, warmed up): with it certificates become tight. For ReLU networks,
            and distances that are not an embedding by a network.
        sparsity: how far each weight moves towards 0 after a step, in learning rates; in [0, 1).
            At 0.2 most weights of a table's network become 0 at little loss, and certificates
            that stay open without it close in seconds.
        pairs: (k, 2, d) pairs, as the network takes them, whose difference is trained down too:
            they count for half of the term with x*, so for nothing at bound=1.
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
    settings = Settings(
        lam, bound, epochs, batch_size, learning_rate, steps, patience, sparsity=sparsity
    )
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
    if not any(True for _ in network.parameters()):
        raise InputError("expected a network with parameters to train, got none")
    epsilon = check_epsilon(epsilon)
    model = copy.deepcopy(network).cpu().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with fitting_threads(model), seeded(generator_of(seed)):
        question = Question.of(model, domain.d, outputs, None)
        similar = Pairs.of(domain, check_distance(distance), epsilon)
        groups = settings.group > 0
        train = rows_of(data, domain, question, groups)
        looked = train if valid is None else rows_of(valid, domain, question, groups)
        work = Descent(model, question, similar, settings, outputs, pairs_of(pairs, domain), seed)
        kept = None
        if checkpoint is not None:
            extra = pairs_of(pairs, domain)
            key = digest(model, settings, seed, outputs, *train, *looked, extra, *identity(similar))
            kept = Checkpoint(Path(checkpoint), key)
        history, weights = work.run(train, looked, kept, on_epoch)
    return IndividuallyFair(model.eval(), history, weights)
