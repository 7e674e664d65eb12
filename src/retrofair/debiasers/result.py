"""The result of debiasing: a network with its decision rule, and what it was measured to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from retrofair.data import Batches, Preparation
from retrofair.debiasers import rules
from retrofair.debiasers.effects import Effects
from retrofair.debiasers.head import Given, GivenHead, HeadedNetwork
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks.memory import rows_of
from retrofair.networks.outputs import (
    as_input,
    checked,
    evaluating,
    forward,
    log_chances,
    probability,
)
from retrofair.networks.recording import recorded, remembering
from retrofair.reported import Reported


class Status(enum.Enum):
    """Did the result reach its goal on the data it was fitted to?

    MET: it did. NOT_MET: it did not. DEGENERATE: it decides alike for (almost) everybody, or the
    better constant classifier scores as well.
    """

    MET = "met"
    NOT_MET = "not_met"
    DEGENERATE = "degenerate"


@dataclass(frozen=True)
class Scores:
    """One row of a comparison: what some decisions are worth on some data.

    Args:
        objective: the objective's score.
        bias: the measure's value, signed where it is.
        counts: by group, label and prediction.
    """

    objective: float
    bias: float
    performance: float
    counts: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def array(self) -> Array:
        """The counts as an array (G, K, K), K = 2 for labels 0/1."""
        return np.array(self.counts, dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Debiased(Reported):
    """A debiased network.

    Args:
        model: the new network, (n, ...) -> (n,) logits, in eval mode; (n, K) for K > 2 classes.
        rule: how its probabilities become decisions; for K > 2 classes `Argmax`, by offsets.
        status: met, not met or degenerate, on the data it was fitted to.
        before: the original network at threshold 0.5 on these data; for K > 2 classes its most
            probable class.
        after: this result on the same data; what it does on new data, an audit tells. Of a method
            that cross-fits (`about["cross_fitted"]`), decisions on rows not seen.
        constant: the better constant classifier on the same data.
        history: one record per trial or epoch.
        about: method, options, objective, seed, rows and time, ready for JSON.
        effects: whose rates got worse, which other measures moved, and what tells the group, on
            the same decisions as `before` and `after`; None in results of earlier versions. On new
            data `retrofair.compare` tells.
        preparation: how a table became the data it was fitted to, if one did. New tables are
            prepared with it: `GroupedData.prepared(result.preparation, frame)`.
    """

    model: nn.Module
    rule: rules.Rule
    status: Status
    before: Scores
    after: Scores
    constant: Scores
    group_names: tuple[str, ...]
    history: tuple[dict[str, Any], ...]
    about: dict[str, Any]
    effects: Effects | None = None
    preparation: Preparation | None = None

    @property
    def threshold(self) -> float:
        """The threshold on the probability; positive means strictly above.

        Raises:
            InputError: the result is one of three classes or more, which has none.
        """
        return float(self.rule.threshold)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before it is used: groups too small for their rates, bounds out of reach."""
        return tuple(self.about.get("notes", ()))

    @property
    def needs_group(self) -> bool:
        """Whether `predict` needs the group of each row."""
        return self.rule.needs_group

    def predict(self, x: Any, group: Tensor | Array | None = None) -> Tensor:
        """Decisions for the rows of x: (n,) int64 of 0/1, or of class codes from 0 to K - 1.

        Args:
            x: what the network takes, as tensors or arrays; a tuple of them are several inputs.
            group: (n,) group codes, used only where `needs_group`.

        Raises:
            InputError: the group is needed and missing, or of another length; x does not fit the
                network, or gives scores that are not finite.
        """
        return torch.from_numpy(self._decide(as_input(x, self.model), group)[1])

    def predict_data(self, data: Batches) -> Array:
        """Decisions for every row of the data: (n,) int64 of 0/1, or of class codes."""
        return self.score_data(data)[1]

    def score_data(self, data: Batches) -> tuple[Array, Array]:
        """Probabilities (n,) float64 and decisions (n,) int64 of 0/1 for every row of the data;
        with K > 2 classes (n, K) and class codes."""
        if not len(data):
            classes = rules.classes_of(self.rule)
            none = np.zeros(0 if classes == 2 else (0, classes))
            return none, np.zeros(0, dtype=np.int64)
        if remembering() and self.rule.seed is None:
            return self._remembered(data)
        parts = [self._decide(x, group) for x, _, group in data]
        chances, decisions = zip(*parts, strict=True)
        return np.concatenate(chances), np.concatenate(decisions)

    def _decide(self, x: Any, group: Tensor | Array | None) -> tuple[Array, Array]:
        code = self._codes(group, rows_of(x)) if self.needs_group else None
        return decide(self.model, self.rule, x, code)

    def _remembered(self, data: Batches) -> tuple[Array, Array]:
        """As `score_data`, from a pass over the data that others share."""
        code = self._codes(data.group, len(data)) if self.needs_group else None
        classes, model = rules.classes_of(self.rule), self.model

        def call(network: nn.Module, x: Any) -> Tensor:
            return checked(network, x, rows_of(x), classes, forward)

        if isinstance(model, HeadedNetwork):
            told = code is not None and isinstance(model, GivenHead)
            group = torch.from_numpy(code) if told else None
            with evaluating(model):
                out = model.recorded(data, group, call).cpu()
        else:
            out = recorded(model, data, (), call).outputs
        return _decided(out, self.rule, None, code)

    def _codes(self, group: Tensor | Array | None, n: int) -> Array:
        if group is None:
            return rules.codes(None)
        group = group.cpu() if isinstance(group, Tensor) else group
        given = np.asarray(group).reshape(-1)
        if len(given) != n:
            raise InputError(f"expected {n:,} group codes, got {len(given):,}")
        if given.dtype.kind not in "iufb":
            raise InputError(f"expected integer group codes, got {given.dtype}")
        if n and not 0 <= given.min() <= given.max() < len(self.group_names):
            raise InputError(
                f"expected group codes from 0 to {len(self.group_names) - 1}, "
                f"got {given.min()} to {given.max()}"
            )
        code = rules.codes(given)
        if (code != given).any():
            raise InputError("expected integer group codes, got fractions")
        return code

    def history_frame(self) -> pd.DataFrame:
        """The history as a table."""
        return pd.DataFrame(list(self.history))

    def save(self, folder: str | Path, base: nn.Module | None = None) -> Path:
        """Write weights (safetensors), the preparation and everything else (JSON) into a folder.

        `load_result` reads it, a base network of ours without being told its structure.

        Args:
            base: the network that was debiased: only the weights that differ from its own are
                stored, and `load_result` needs the same network. Of a large one whose last layer
                changed that is a file of some kilobytes.

        Raises:
            InputError: the folder is a file, or the base has another structure.
        """
        from retrofair.debiasers.stored import write_result  # it reads this file's class

        return write_result(self, Path(folder), base)


def decide(
    model: nn.Module, rule: rules.Rule, x: Any, code: Array | None = None
) -> tuple[Array, Array]:
    """Probabilities and decisions of a network and a rule for a batch's x (see `score_data`).

    Args:
        code: (n,) group codes, where the rule needs them.
    """
    classes = rules.classes_of(rule)
    if isinstance(model, GivenHead) and code is not None:
        model = Given(model, torch.from_numpy(code)).eval()
    with evaluating(model):
        out = checked(model, x, rows_of(x), classes).float().cpu()
    return _decided(out, rule, x, code)


def _decided(out: Tensor, rule: rules.Rule, x: Any, code: Array | None) -> tuple[Array, Array]:
    """Probabilities and decisions from a network's outputs."""
    chance = probability(out) if out.ndim == 1 else log_chances(out)
    if out.ndim > 1:
        return np.exp(chance), rule(chance)
    return chance, rule(chance, code, None if rule.seed is None else rules.coins(x, rule.seed))
