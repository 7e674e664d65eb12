"""Whether an exported file answers as the network it was made from, on every row of some data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from retrofair.debiasers.rules import Argmax, Rule
from retrofair.deploy.decisions import cuts_of
from retrofair.deploy.form import at_once
from retrofair.deploy.formats import Run
from retrofair.metrics import Array

# In probability. Runtimes differ by about 1e-7 in each operation in single precision; the weights
# of a head that looks at a network of nearly constant scores multiply that by a hundred or more.
TOLERANCE = 1e-4
# how many rows are asked one by one, and how many at once besides: a recorded run may hold a number
# of rows, and a network may answer a row by those beside it
SINGLE, ODD = 50, 257


@dataclass(frozen=True)
class Parity:
    """How two versions of a network agree.

    Args:
        rows: compared.
        largest: largest |difference| of the probability.
        differing: decisions that differ.
        at_ties: those of them on rows whose probability lies within `largest` of the threshold,
            where rounding decides.
        refused: rows of the table that have no decision in either: those the preparation drops.
        tolerance: that `largest` must not exceed.
    """

    rows: int
    largest: float
    differing: int
    at_ties: int
    refused: int
    tolerance: float = TOLERANCE

    @property
    def holds(self) -> bool:
        """Probabilities agree within the tolerance, and all decisions away from ties."""
        return self.largest <= self.tolerance and self.differing == self.at_ties

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "holds": self.holds}

    @classmethod
    def of(
        cls,
        ours: tuple[Array, Array],
        theirs: tuple[Array, Array],
        margin: Array,
        kept: Array,
    ) -> Parity:
        """Compare probabilities and decisions.

        Args:
            ours: of the network, for the kept rows.
            theirs: of the exported file, for all rows.
            margin: (n,) how far each kept row is from where its decision changes.
            kept: positions of the rows that the preparation keeps.
        """
        chance, decision = (each[kept] for each in theirs)
        apart = np.abs(np.asarray(chance, dtype=np.float64) - ours[0])
        # a row that only one of them decides is as far apart as can be
        apart = np.where(np.isnan(apart), np.inf, apart)
        largest = float(apart.max(initial=0.0))
        differs = decision != ours[1]
        near = margin <= min(largest, TOLERANCE)
        return cls(
            rows=len(kept),
            largest=largest,
            differing=int(differs.sum()),
            at_ties=int((differs & near).sum()),
            refused=int((theirs[1] < 0).sum() - (decision < 0).sum()),
        )


def answers(run: Run, inputs: Sequence[Tensor]) -> tuple[Array, Array]:
    """What an exported file says of every row."""
    rows, some = len(inputs[0]), at_once(inputs)
    parts = [run([each[start : start + some] for each in inputs]) for start in range(0, rows, some)]
    chances, decisions = zip(*parts, strict=True)
    return np.concatenate(chances), np.concatenate(decisions)


def other_batches(
    run: Run, inputs: Sequence[Tensor], whole: tuple[Array, Array]
) -> Iterator[tuple[Array, Array]]:
    """The answers again, with some rows, spread over all, asked in batches of other sizes."""
    rows = len(inputs[0])
    singles = np.linspace(0, rows - 1, min(SINGLE, rows)).round().astype(np.int64)
    most = min(ODD, at_once(inputs) - 1)
    odd = np.linspace(0, rows - 1, min(most, rows - 1 + rows % 2)).round().astype(np.int64)
    for batches in ([singles[at : at + 1] for at in range(len(singles))], [odd]):
        chance, decision = (each.copy() for each in whole)
        for batch in batches:
            chance[batch], decision[batch] = run([each[batch] for each in inputs])
        yield chance, decision


def margins(rule: Rule, chance: Array, group: Array) -> Array:
    """How far each row's probability is from where the rule would decide otherwise, (n,)."""
    if isinstance(rule, Argmax):
        with np.errstate(divide="ignore"):
            scores = np.sort(np.log(chance) + np.array(rule.offsets), axis=1)
        return np.asarray(scores[:, -1] - scores[:, -2])
    cuts = np.array(cuts_of(rule, int(group.max(initial=0)) + 1))
    cut = cuts if len(cuts) == 1 else cuts[group]
    return np.asarray(np.abs(chance - cut))
