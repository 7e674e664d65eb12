"""The question that `retrofair certify` asks, and the effort it spends on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast, get_args

import torch
from torch import nn

from retrofair.certifiers import Certificate, Distance, Domain, Step
from retrofair.certifiers import certify as certify_network
from retrofair.certifiers.question import Outputs
from retrofair.certifiers.run import chosen
from retrofair.cli.cases import Case
from retrofair.cli.similarity import Similarity
from retrofair.data import GroupedData
from retrofair.errors import InputError, unknown


@dataclass(frozen=True)
class Asked:
    """The question and the effort, as the options say."""

    method: str
    seconds: float
    gap: float
    delta: float | None
    threshold: float | None
    outputs: Outputs | None
    seed: int
    absolute_gap: float = 0.0

    @classmethod
    def of(
        cls,
        method: str,
        seconds: float,
        gap: float,
        delta: float | None,
        threshold: float | None,
        outputs: str | None,
        seed: int,
        absolute_gap: float = 0.0,
    ) -> Asked:
        """The options, checked as far as they can be without a network.

        Raises:
            InputError: an unknown name, a number out of range, two questions at once.
        """
        chosen(method)
        if delta is not None and threshold is not None:
            raise InputError("expected --delta or --threshold, got both: they are two questions")
        known = get_args(Outputs)
        if outputs is not None and outputs not in known:
            raise unknown("choice for --outputs", outputs, known)
        numbers = {"seconds": seconds, "gap": gap, "absolute-gap": absolute_gap}
        for name, value in {**numbers, "delta": delta or 0.0}.items():
            if not math.isfinite(value) or value < 0:
                raise InputError(f"expected a finite {name} >= 0, got {value:g} (--{name})")
        if threshold is not None and outputs != "values" and not 0 < threshold < 1:
            raise InputError(f"expected a threshold in (0, 1), got {threshold:g} (--threshold)")
        asked = cast(Outputs | None, outputs)
        return cls(method, seconds, gap, delta, threshold, asked, seed, absolute_gap)

    def reading_logits(self) -> Asked:
        """The same, with outputs that are logits unless something else was said."""
        return replace(self, outputs=self.outputs or "logits")

    @property
    def decides(self) -> bool:
        return self.delta is not None or self.threshold is not None

    def put(
        self,
        case: Case,
        metric: Distance,
        epsilon: float,
        seconds: float,
        on_step: Callable[[Step], None] | None = None,
        *,
        curve: bool = False,
    ) -> Certificate:
        """A certificate; for a point of the curve no question is asked."""
        return certify_network(
            case.network,
            case.domain,
            metric,
            epsilon,
            method=self.method,
            seconds=seconds,
            gap=self.gap,
            absolute_gap=self.absolute_gap,
            delta=None if curve else self.delta,
            threshold=None if curve else self.threshold,
            outputs=self.outputs,
            data=case.rows,
            seed=self.seed,
            on_step=on_step,
        )


def rehearse(similarity: Similarity, question: Asked, rows: GroupedData, own: bool) -> None:
    """Certify a tiny network: what is wrong with the options shows before a training run.

    Args:
        own: the network is the user's, which may end in probabilities; a base network does not.
    """
    domain = Domain.from_data(rows)
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(nn.Linear(domain.d, 1), nn.Flatten(0))
        if own and question.outputs == "probabilities":
            network.append(nn.Sigmoid())
        tiny = Case(network, domain, "", "")
    question.put(tiny, similarity.distance(domain, rows), similarity.epsilon, 0.0)
