"""How well a network still does its work, and whether it has become a constant."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from retrofair.certifiers import Domain
from retrofair.certifiers.curve import Measured
from retrofair.certifiers.question import Outputs, Question
from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.metrics.counts import count
from retrofair.metrics.performance import ACCURACY, BALANCED_ACCURACY

Rows = GroupedData | tuple[Tensor, Tensor]
ALIKE = 1e-6  # a spread of answers below which the network is constant, relative above 1
NAN = math.nan


@dataclass(frozen=True)
class Performance:
    """What a network's answers to some rows are worth; nan where a figure has no meaning.

    Args:
        balanced_accuracy, accuracy: in [0, 1], of decisions at probability 0.5; for 0/1 labels.
        mse: mean squared error, in the label's unit squared; for regression.
        spread: the largest answer minus the smallest.
        degenerate: what is wrong with a network whose small difference says nothing: it answers
            or decides alike for all rows, or does no better than a constant. Empty otherwise.
    """

    balanced_accuracy: float
    accuracy: float
    mse: float
    spread: float
    degenerate: str = ""

    def falls_below(self, floor: float | None) -> bool:
        """Whether it is not good enough: a degenerate network is below every floor."""
        if self.degenerate:
            return True
        if floor is None:
            return False
        return self.balanced_accuracy < floor if math.isnan(self.mse) else self.mse > floor


@dataclass(frozen=True, eq=False)
class Judge:
    """Rows by which networks are judged.

    Args:
        rows: as grouped data; a pair (x, y) is one group.
        regression: the labels are numbers, rather than 0/1.
        outputs: what the networks answer, as for `certify`.
    """

    rows: GroupedData
    regression: bool
    outputs: Outputs | None

    @classmethod
    def of(cls, rows: Rows, network: nn.Module, domain: Domain, outputs: Outputs | None) -> Judge:
        """Rows that a network can be judged by.

        Raises:
            InputError: they have other columns than the domain, or labels that do not fit what
                the network answers.
        """
        known = grouped(rows, domain)
        if not isinstance(rows, GroupedData):
            return cls(known, True, outputs or "values")
        regression = Question.of(network, domain.d, outputs, None).measured == "values"
        labels = set(known.y.unique().tolist())
        if not regression and not labels <= {0, 1}:
            raise InputError(
                f"expected labels 0 and 1 for probabilities, got {sorted(labels)[:5]}: for "
                "regression say outputs='values' (--outputs values)"
            )
        return cls(known, regression, outputs)

    def __call__(self, network: nn.Module) -> Performance:
        """What a network is worth on the rows."""
        x = self.rows.x
        measured = Measured(Question.of(network, x.shape[1], self.outputs, None)).eval()
        dtype = next((p.dtype for p in network.parameters()), torch.float32)
        with torch.no_grad():
            out = measured(x.to(dtype)).double().reshape(len(x), -1)
        if out.shape[1] > (1 if self.regression else 2):
            raise InputError(
                f"expected a network with one output (or two classes), got {out.shape[1]}: its "
                "performance has one figure"
            )
        return self._judged(out[:, -1])

    def constant(self) -> Performance:
        """The best constant: the more frequent class, or the mean."""
        y = self.rows.y.double()
        best = y.mean() if self.regression else (y.mean() > 0.5).double()
        return replace(self._judged(best.expand(len(y))), degenerate="")

    def _judged(self, answers: Tensor) -> Performance:
        y = self.rows.y.double()
        spread = float(answers.max() - answers.min())
        constant = spread <= ALIKE * max(1.0, float(answers.abs().max()))
        why = "it gives every row the same answer" if constant else ""
        if self.regression:
            mse = float(((answers - y) ** 2).mean())
            if not why and mse >= float(((y - y.mean()) ** 2).mean()):
                why = "its error is no smaller than that of the mean"
            return Performance(NAN, NAN, mse, spread, why)
        decided = (answers > 0.5).long().numpy()
        table = count(y.long().numpy(), decided, self.rows.group.numpy(), self._groups)
        balanced, right = float(BALANCED_ACCURACY(table)), float(ACCURACY(table))
        if not why and decided.min() == decided.max():
            why = f"it predicts {decided[0]} for every row"
        if not why and balanced <= 0.5:
            why = "its balanced accuracy is no better than that of a constant"
        return Performance(balanced, right, NAN, spread, why)

    @property
    def _groups(self) -> int:
        return len(self.rows.group_names)


def grouped(rows: Rows, domain: Domain) -> GroupedData:
    """Rows as grouped data, checked against the domain's columns.

    Raises:
        InputError: neither grouped data nor a pair (x, y); other columns than the domain; no rows.
    """
    known = rows
    if not isinstance(known, GroupedData):
        if not (isinstance(known, tuple) and len(known) == 2):
            raise InputError(
                f"expected GroupedData or a pair of tensors (x, y), got {type(rows).__name__}"
            )
        x, y = known
        none = torch.zeros(len(x), dtype=torch.long)
        known = GroupedData(x=x, y=y, group=none, group_names=("all",))
    if known.x.ndim != 2 or known.x.shape[1] != domain.d:
        raise InputError(
            f"expected data with {domain.d} columns as the domain has, got shape "
            f"{tuple(known.x.shape)}: make the domain of these data (Domain.from_data)"
        )
    if not len(known):
        raise InputError("expected data with rows, got none")
    return known
