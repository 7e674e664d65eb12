"""Delta against epsilon: the empirical, the attacked and the certified curve side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from torch import Tensor, nn

from retrofair.certifiers.bounds import Certifier
from retrofair.certifiers.certificate import Certificate, Step
from retrofair.certifiers.distances import Distance, check_epsilon
from retrofair.certifiers.domain import Domain, Floats
from retrofair.certifiers.empirical import EmpiricalDelta, empirical_curve
from retrofair.certifiers.question import Outputs, Question
from retrofair.certifiers.run import certify
from retrofair.data import GroupedData
from retrofair.errors import InputError


@dataclass(frozen=True, eq=False)
class Curve:
    """Certificates at growing epsilon, and what the rows of a data set show.

    Attributes:
        lower, upper: (k,) the certificates' bounds, made monotone: a pair within a small epsilon
            is one within every larger, and what holds for a large epsilon holds for every smaller.
        empirical: one entry per epsilon, or none without data.
    """

    epsilons: Floats
    certificates: tuple[Certificate, ...]
    empirical: tuple[EmpiricalDelta, ...] = ()

    @property
    def lower(self) -> Floats:
        return np.maximum.accumulate([c.lower for c in self.certificates])

    @property
    def upper(self) -> Floats:
        found = np.array([c.upper for c in self.certificates])
        return np.asarray(np.minimum.accumulate(found[::-1])[::-1])

    def _tiers(self) -> list[str]:
        """What each upper bound rests on: the certificate that it was taken from."""
        upper = [c.upper for c in self.certificates]
        best = [i + int(np.argmin(upper[i:])) for i in range(len(upper))]
        return [self.certificates[i].tier for i in best]

    def to_frame(self) -> pd.DataFrame:
        """Columns: epsilon, empirical, lower, upper, tier, seconds."""
        return pd.DataFrame(
            {
                "epsilon": self.epsilons,
                "empirical": [e.delta for e in self.empirical] or math.nan,
                "lower": self.lower,
                "upper": self.upper,
                "tier": self._tiers(),
                "seconds": [c.seconds for c in self.certificates],
            }
        )


def certify_curve(
    network: nn.Module,
    domain: Domain,
    distance: Distance,
    epsilons: Sequence[float],
    *,
    data: GroupedData | None = None,
    method: str | Certifier = "milp",
    seconds: float = 60.0,
    gap: float = 1e-2,
    outputs: Outputs | None = None,
    seed: int = 0,
    on_step: Callable[[float, Step], None] | None = None,
) -> Curve:
    """Certify at several epsilons (see `certify`), and measure the rows of data beside them.

    Args:
        epsilons: at least one; they are sorted.
        data: rows in the network's units: the empirical curve, and starts for the attack.
        seconds: time for each epsilon.
        on_step: called with epsilon and every narrower interval.

    Raises:
        InputError: as `certify`, or no epsilon.
    """
    points = sorted({check_epsilon(epsilon) for epsilon in epsilons})
    if not points:
        raise InputError("expected at least one epsilon, got none (--curve)")
    found = []
    for epsilon in points:
        found.append(
            certify(
                network,
                domain,
                distance,
                epsilon,
                method=method,
                seconds=seconds,
                gap=gap,
                outputs=outputs,
                data=data,
                seed=seed,
                on_step=None if on_step is None else partial(on_step, epsilon),
            )
        )
        if found[-1].stopped == "interrupted":
            points = points[: len(found)]
            break
    rows: tuple[EmpiricalDelta, ...] = ()
    if data is not None:
        shown = Measured(Question.of(network, domain.d, outputs, None))
        rows = tuple(empirical_curve(shown, data, distance, points, domain=domain))
    return Curve(np.array(points), tuple(found), rows)


class Measured(nn.Module):
    """A network with its outputs on the scale of a certificate's lower and upper bound."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.network, self.question = question.original, question

    def forward(self, x: Tensor) -> Tensor:
        return self.question.on_scale(self.network(x))
