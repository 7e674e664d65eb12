"""The result of debiasing: a network with its decision rule, and what it was measured to do."""

from __future__ import annotations

import copy
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.debiasers import rules
from retrofair.debiasers.effects import Effects
from retrofair.debiasers.head import Given, GivenHead, HeadedNetwork, headed
from retrofair.errors import InputError
from retrofair.files import json_text, replacing
from retrofair.metrics import Array
from retrofair.networks.outputs import (
    LogitOf,
    as_input,
    checked,
    evaluating,
    log_chances,
    probability,
    rows_of,
    settable,
)

FORMAT = 1
WEIGHTS = "model.safetensors"
ABOUT = "result.json"


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
class Debiased:
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
            the same decisions as `before` and `after`; None in results of earlier versions, and of
            three classes or more. On new data `retrofair.compare` tells.
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
        parts = [self._decide(x, group) for x, _, group in data]
        chances, decisions = zip(*parts, strict=True)
        return np.concatenate(chances), np.concatenate(decisions)

    def _decide(self, x: Any, group: Tensor | Array | None) -> tuple[Array, Array]:
        classes, model = rules.classes_of(self.rule), self.model
        code = self._codes(group, rows_of(x)) if self.needs_group else None
        if isinstance(model, GivenHead) and code is not None:
            model = Given(model, torch.from_numpy(code)).eval()
        with evaluating(model):
            out = checked(model, x, rows_of(x), classes).float().cpu()
            chance = probability(out) if classes == 2 else log_chances(out)
        if classes > 2:
            return np.exp(chance), self.rule(chance)
        coin = None if self.rule.seed is None else rules.coins(x, self.rule.seed)
        return chance, self.rule(chance, code, coin)

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

    def save(self, folder: str | Path) -> Path:
        """Write weights (safetensors) and everything else (JSON) into a folder."""
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"expected a folder to save to, but {folder} is a file")
        state = {
            name: value.detach().cpu().clone().contiguous()
            for name, value in self.model.state_dict().items()
        }
        about = {
            "format": FORMAT,
            "rule": rules.to_dict(self.rule),
            "status": self.status.value,
            "before": vars(self.before),
            "after": vars(self.after),
            "constant": vars(self.constant),
            "group_names": self.group_names,
            "head": self.model.structure() if isinstance(self.model, HeadedNetwork) else None,
            "about": self.about,
            "history": self.history,
            "effects": None if self.effects is None else self.effects.to_dict(),
        }
        # both are written before either takes its place: no new weights with an old rule
        with replacing(folder / ABOUT) as text, replacing(folder / WEIGHTS) as weights:
            text.write_text(json_text(about) + "\n", encoding="utf-8")
            save_file(state, weights)
        return folder


def load_result(folder: str | Path, net: nn.Module) -> Debiased:
    """Read a saved result.

    Args:
        net: a network of the architecture that was debiased; it is copied, not changed.

    Raises:
        InputError: the folder holds no result, or one that does not fit the network.
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(net).__name__}")
    folder = Path(folder)
    for name in (ABOUT, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"expected a saved result in {folder}, but {name} is not there")
    try:
        values = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(
            f"expected a saved result in {folder}, but it is damaged: {error}"
        ) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise InputError(
            f"expected a result of format {FORMAT} in {folder}, got {found!r}: "
            "it was written by another version"
        )
    try:
        return _read(values, state, net)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the weights in {folder} do not fit this network: {reason}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"expected a saved result in {folder}, but {ABOUT} is damaged: {error!r}"
        ) from None


def _read(values: dict[str, Any], state: dict[str, Tensor], net: nn.Module) -> Debiased:
    model = copy.deepcopy(settable(net)).eval()
    if values["about"].get("outputs") == "probabilities":
        model = LogitOf(model).eval()
    if values.get("head") is not None:
        model = headed(model, values["head"])
    model.load_state_dict(state)
    effects = values.get("effects")
    return Debiased(
        model=model,
        rule=rules.from_dict(values["rule"]),
        status=Status(values["status"]),
        before=_scores(values["before"]),
        after=_scores(values["after"]),
        constant=_scores(values["constant"]),
        group_names=tuple(values["group_names"]),
        history=tuple(values["history"]),
        about=values["about"],
        effects=None if effects is None else Effects.from_dict(effects),
    )


def _scores(values: dict[str, Any]) -> Scores:
    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    counts: Any = tuple(tuple(tuple(row) for row in group) for group in values["counts"])
    return Scores(
        number(values["objective"]), number(values["bias"]), number(values["performance"]), counts
    )
