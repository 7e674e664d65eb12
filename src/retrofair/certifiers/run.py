"""`certify`: from a user's network, domain and distance to a certificate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import nn

from retrofair.certifiers.attack import hunt
from retrofair.certifiers.board import Board, interruptible
from retrofair.certifiers.bounds import Certifier, look
from retrofair.certifiers.certificate import Certificate, Step, Verdict
from retrofair.certifiers.distances import Distance, check_distance, check_epsilon
from retrofair.certifiers.domain import Domain, Floats
from retrofair.certifiers.pairs import EVERYONE, Pairs
from retrofair.certifiers.question import Outputs, Question
from retrofair.certifiers.witness import Witness
from retrofair.data import GroupedData
from retrofair.errors import InputError, unknown
from retrofair.networks.threads import fitting_threads


def certify(
    network: nn.Module,
    domain: Domain,
    distance: Distance,
    epsilon: float,
    *,
    method: str | Certifier = "milp",
    seconds: float = 60.0,
    gap: float = 1e-3,
    absolute_gap: float = 0.0,
    delta: float | None = None,
    threshold: float | None = None,
    outputs: Outputs | None = None,
    data: GroupedData | None = None,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> Certificate:
    """How far two similar people can be treated apart: a sound interval and the worst pair found.

    The largest |f(x') - f(x'')| over all x', x'' of the domain with distance at most epsilon lies
    in [lower, upper]. It stops when the relative gap is small enough, the question is decided, or
    the time is up, and can be interrupted: what is proved until then is returned.

    Args:
        network: (n, d) -> (n,), (n, 1) or (n, K); fully connected. It is not changed.
        domain: who there can be. Its columns are the network's inputs.
        distance: WeightedLp, Mahalanobis or Embedding, on the columns as the network takes them.
        epsilon: the largest distance at which two people are similar; with 0 only sensitive
            features (and those of weight 0) may differ.
        method: "bounds" (milliseconds), "milp", "bab" (ReLU networks), "portfolio" (both), "pwl",
            or a certifier with its options.
        seconds: time for the search.
        gap: the relative gap at which to stop.
        absolute_gap: upper - lower at which to stop, whatever the relative gap.
        delta: ask whether the network is epsilon-delta fair: the verdict.
        threshold: ask instead whether two similar people can get different decisions (a
            probability above the threshold is positive; for "values" a value). `lower` and
            `upper` then speak of pairs with different decisions only.
        outputs: "logits" (one: a sigmoid follows; several: a softmax), "probabilities" (the
            network ends in one), or "values" to compare the outputs as they are (regression).
            Without it: probabilities if a sigmoid or softmax comes last, otherwise logits.
        data: rows from which the search for a pair starts as well.
        on_step: called with every narrower interval.

    Raises:
        InputError: an unsupported operator; a domain, distance, epsilon or option that does not
            fit.

    Example:
        >>> import torch
        >>> from retrofair.certifiers import Continuous, Integer, WeightedLp
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
        >>> with torch.no_grad():
        ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 2.0]])), net[0].bias.zero_()
        >>> people = Domain([Continuous("skill", 0, 1), Integer("sex", 0, 1, sensitive=True)])
        >>> found = certify(net, people, WeightedLp(math.inf), epsilon=0.1, outputs="values")
        >>> round(found.upper, 3), found.witness.shape
        (2.1, torch.Size([2, 2]))
    """
    certifier = chosen(method)
    epsilon = check_epsilon(epsilon)
    check_options(network, domain, seconds, gap, delta, threshold, absolute_gap)
    delta = None if delta is None else float(delta)
    threshold = None if threshold is None else float(threshold)
    with fitting_threads(network):
        question = Question.of(network, domain.d, outputs, threshold)
        pairs = Pairs.of(domain, check_distance(distance), epsilon)
        options = delta, threshold, on_step, float(absolute_gap)
        board = Board(question, float(seconds), float(gap), *options)
        generator = np.random.default_rng(seed)
        if pairs.everyone:
            board.notes.append(EVERYONE)
        with interruptible(board):
            certifier(question, pairs, board, generator=generator, rows=rows_of(data, domain))
    return certificate(board, domain, epsilon, certifier.name)


def attack(
    network: nn.Module,
    domain: Domain,
    distance: Distance,
    epsilon: float,
    *,
    seconds: float = 10.0,
    outputs: Outputs | None = None,
    data: GroupedData | None = None,
    seed: int = 0,
) -> Witness | None:
    """The worst pair of similar people that a search finds: a lower bound, no certificate.

    Args and errors as for `certify`; it stops when the time is up or its rounds are done.

    Returns:
        The pair, legal and run through the network itself; None where rounding to the network's
        precision leaves no pair within epsilon.
    """
    check_options(network, domain, seconds, 0.0, None, None)
    epsilon = check_epsilon(epsilon)
    with fitting_threads(network):
        question = Question.of(network, domain.d, outputs, None)
        pairs = Pairs.of(domain, check_distance(distance), epsilon)
        board = Board(question, float(seconds), 0.0)
        look(question, pairs, board)
        hunt(question, pairs, board, seconds, np.random.default_rng(seed), rows_of(data, domain))
    return board.witness


def chosen(method: str | Certifier) -> Certifier:
    """The certifier by name, or the one that was given."""
    from retrofair.certifiers import ALL  # the list of certifiers imports this module

    if isinstance(method, str):
        known = {each.name: each for each in ALL}
        if method not in known:
            raise unknown("method", method, known)
        return known[method]()
    if not callable(method) or isinstance(method, type):
        raise InputError(f"expected a method's name or a certifier, got {method!r}")
    return method


def check_options(
    network: object,
    domain: object,
    seconds: float,
    gap: float,
    delta: float | None,
    threshold: float | None,
    absolute_gap: float = 0.0,
) -> None:
    """One clear error for what cannot be meant."""
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(network).__name__}")
    if not isinstance(domain, Domain):
        raise InputError(f"expected a Domain, got {type(domain).__name__}: see Domain.from_data")
    numbers = {"seconds": seconds, "gap": gap, "delta": delta, "threshold": threshold}
    numbers["absolute_gap"] = absolute_gap
    for name, value in numbers.items():
        if value is None:
            continue
        low = -math.inf if name == "threshold" else 0.0
        try:
            good = math.isfinite(float(value)) and float(value) >= low
        except (TypeError, ValueError):
            good = False
        if not good:
            option = name.replace("_", "-")
            raise InputError(f"expected a finite {name} >= 0, got {value!r} (--{option})")
    if delta is not None and threshold is not None:
        raise InputError("expected delta or threshold, got both: they are two questions")


def rows_of(data: GroupedData | None, domain: Domain) -> Floats | None:
    """The rows from which the attack starts, (n, d)."""
    if data is None:
        return None
    if data.x.ndim != 2 or data.x.shape[1] != domain.d:
        raise InputError(
            f"expected data with {domain.d} columns as the domain has, got {tuple(data.x.shape)}"
        )
    return np.asarray(data.x.double().numpy())


def certificate(board: Board, domain: Domain, epsilon: float, method: str) -> Certificate:
    """What the board shows, as a value."""
    witness, question = board.witness, board.question
    deciding = question.cut is not None
    notes = [*domain.notes, *board.notes]
    if board.verdict is Verdict.UNKNOWN and (deciding or board.delta is not None):
        notes.append("not decided: more seconds (--seconds) or another method may decide it")
    return Certificate(
        epsilon=epsilon,
        lower=board.lower,
        upper=board.upper,
        lower_logit=board.lower_logit,
        upper_logit=board.upper_logit,
        verdict=board.verdict,
        tier=board.tier,
        witness=None if witness is None else witness.raw,
        scores=None if witness is None else (witness.outputs[0], witness.outputs[1]),
        distance=None if witness is None else witness.distance,
        domain=domain,
        outputs=question.measured,
        method=method,
        seconds=board.elapsed,
        stopped=board.done() or "finished",
        slack=board.slack,
        delta=board.delta,
        threshold=board.threshold,
        margin=board.margin if deciding else None,
        history=tuple(board.history),
        notes=tuple(notes),
    )
