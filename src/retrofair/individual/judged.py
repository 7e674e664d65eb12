"""How well a network still does its work, and whether it has become a constant."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.certifiers import Domain
from retrofair.certifiers.curve import Measured
from retrofair.certifiers.question import Outputs, Question
from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.metrics.counts import count
from retrofair.metrics.intervals import LEVEL, quantile
from retrofair.metrics.performance import ACCURACY, BALANCED_ACCURACY

Rows = GroupedData | tuple[Tensor, Tensor]
ALIKE = 1e-6  # a spread of answers below which the network is constant, relative above 1
NAN = math.nan
Limits = tuple[float, float]
NONE: Limits = (NAN, NAN)


@dataclass(frozen=True)
class Performance:
    """What a network's answers to some rows are worth; nan where a figure has no meaning.

    Args:
        balanced_accuracy, accuracy: in [0, 1], of decisions at probability 0.5; for 0/1 labels.
        mse: mean squared error, in the label's unit squared; for regression.
        spread: the largest answer minus the smallest.
        degenerate: what is wrong with a network whose small difference says nothing: it answers
            or decides alike for all rows, or does no better than a constant. Empty otherwise.
        rows: how many there were.
        balanced_accuracy_interval, accuracy_interval, mse_interval: 95 % intervals, as if the
            rows had been drawn at random. They hold for one network: that this one was chosen
            among several by the same rows flatters it a little.
    """

    balanced_accuracy: float
    accuracy: float
    mse: float
    spread: float
    degenerate: str = ""
    rows: int = 0
    balanced_accuracy_interval: Limits = NONE
    accuracy_interval: Limits = NONE
    mse_interval: Limits = NONE

    @property
    def regression(self) -> bool:
        """Whether it is judged by its error."""
        return not math.isnan(self.mse)

    @property
    def worth(self) -> float:
        """More is better: balanced accuracy, or minus the mean squared error."""
        return -self.mse if self.regression else self.balanced_accuracy

    def falls_below(self, floor: float | None) -> bool:
        """Whether it is not good enough: a degenerate network is below every floor."""
        if self.degenerate:
            return True
        if floor is None:
            return False
        return self.mse > floor if self.regression else self.balanced_accuracy < floor

    def figures(self) -> dict[str, float]:
        """What is shown of it, by name, each with its limits (`_low`, `_high`), and the spread."""
        found: dict[str, float] = {}
        for name in ("mse",) if self.regression else ("balanced_accuracy", "accuracy"):
            low, high = getattr(self, f"{name}_interval")
            found |= {name: getattr(self, name), f"{name}_low": low, f"{name}_high": high}
        return {**found, "spread": self.spread}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


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
    def of(
        cls,
        rows: Rows,
        network: nn.Module,
        domain: Domain,
        outputs: Outputs | None,
        what: str = "validation",
    ) -> Judge:
        """Rows that a network can be judged by.

        Args:
            what: the rows are, for messages.

        Raises:
            InputError: they have other columns than the domain, labels that do not fit what the
                network answers, or too few rows: two at least, and both classes.
        """
        known = grouped(rows, domain)
        if len(known) < 2:
            raise InputError(
                f"expected at least two {what} rows to judge a network by, got {len(known)}"
            )
        question = Question.of(network, domain.d, outputs, None)
        regression = question.measured == "values"
        _one_figure(question)
        labels = sorted(known.y.unique().tolist())
        if not regression and not {0, 1}.issuperset(labels):
            raise InputError(
                f"expected labels 0 and 1 for probabilities, got {labels[:5]}: for "
                "regression say outputs='values' (--outputs values)"
            )
        if not regression and len(labels) < 2:
            raise InputError(
                f"expected {what} rows of both classes, got only label {labels[0]:g} in "
                f"{len(known):,} rows: balanced accuracy has no value there"
            )
        return cls(known, regression, outputs)

    def __call__(self, network: nn.Module) -> Performance:
        """What a network is worth on the rows."""
        x = self.rows.x
        question = Question.of(network, x.shape[1], self.outputs, None)
        _one_figure(question)
        dtype = next((p.dtype for p in network.parameters()), torch.float32)
        with torch.no_grad():
            out = Measured(question).eval()(x.to(dtype)).double().reshape(len(x), -1)
        return self._judged(out[:, -1])

    def constant(self) -> Performance:
        """The best constant: the more frequent class, or the mean."""
        y = self.rows.y.double()
        best = y.mean() if self.regression else (y.mean() > 0.5).double()
        found = self._judged(best.expand(len(y)))
        half = found.balanced_accuracy  # whatever the rows are
        return replace(found, degenerate="", balanced_accuracy_interval=(half, half))

    def _judged(self, answers: Tensor) -> Performance:
        y = self.rows.y.double()
        spread = float(answers.max() - answers.min())
        constant = spread <= ALIKE * max(1.0, float(answers.abs().max()))
        why = "it gives every row the same answer" if constant else ""
        if self.regression:
            errors = (answers - y) ** 2
            mse = float(errors.mean())
            if not why and mse >= float(((y - y.mean()) ** 2).mean()):
                why = "its error is no smaller than that of the mean"
            limits = limits_of_mean(errors)
            return Performance(NAN, NAN, mse, spread, why, len(y), mse_interval=limits)
        decided = (answers > 0.5).long().numpy()
        table = count(y.long().numpy(), decided, self.rows.group.numpy(), self._groups)
        balanced, right = float(BALANCED_ACCURACY(table)), float(ACCURACY(table))
        if not why and decided.min() == decided.max():
            why = f"it predicts {decided[0]} for every row"
        if not why and balanced <= 0.5:
            why = "its balanced accuracy is no better than that of a constant"
        both = BALANCED_ACCURACY.interval(table), ACCURACY.interval(table)
        return Performance(balanced, right, NAN, spread, why, len(y), *both)

    @property
    def _groups(self) -> int:
        return len(self.rows.group_names)


def limits_of_mean(values: Tensor) -> Limits:
    """A 95 % interval of the mean of values (n,) >= 0: normal for its logarithm.

    Squared errors have a long tail to the right, and so has the interval.
    """
    mean = float(values.mean())
    if len(values) < 2 or mean <= 0:
        return (mean, mean) if mean == 0 else NONE
    error = float(values.std()) / math.sqrt(len(values)) / mean
    factor = math.exp(quantile(LEVEL) * error)
    return mean / factor, mean * factor


def _one_figure(question: Question) -> None:
    """Refuse answers whose performance has more than one figure."""
    if question.network.outputs == 1:
        return
    several = {"sigmoid": "sigmoids", "softmax": "classes", "values": "values"}[question.kind]
    raise InputError(
        f"expected a network with one output (or a softmax over two classes), got "
        f"{question.network.outputs} {several}: its performance has one figure"
    )


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
