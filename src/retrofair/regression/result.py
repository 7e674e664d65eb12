"""The result of bounding group losses, written to a folder and read back."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from retrofair.debiasers.result import Status
from retrofair.errors import InputError
from retrofair.files import json_text, replacing, save_tensors
from retrofair.networks.memory import rows_of
from retrofair.networks.outputs import as_input, as_module, checked, evaluating
from retrofair.regression.found import RegressionAudit
from retrofair.regression.objective import BoundedGroupLoss

FORMAT = 1
WEIGHTS = "model.safetensors"
ABOUT = "bounded_loss.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundedLoss:
    """A fine-tuned regression network.

    Args:
        model: the new network, (n, ...) -> (n,) values, in eval mode.
        status: on the judged rows. MET: every group's loss is at most the bound. NOT_MET: not.
            DEGENERATE: the best constant does as well by the objective, or the outputs hardly vary.
        before: the original network on the judged rows, beside the best constant there.
        after: this one on the same rows. They chose the weights: on new rows it is a little worse,
            and `audit_regression` tells.
        history: one record per epoch: mean and group losses and multipliers.
        notes: what limits the result, in whole sentences.
        about: objective, options, seed, rows and time, ready for JSON.
    """

    model: nn.Module
    objective: BoundedGroupLoss
    status: Status
    before: RegressionAudit
    after: RegressionAudit
    history: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    about: dict[str, Any]

    def predict(self, x: Any) -> Tensor:
        """(n,) values for the rows of x; no group is needed.

        Raises:
            InputError: x does not fit the network, or gives values that are not finite.
        """
        given = as_input(x, self.model)
        with evaluating(self.model):
            return checked(self.model, given, rows_of(given)).cpu()

    def history_frame(self) -> pd.DataFrame:
        """The history as a table."""
        return pd.DataFrame(list(self.history))

    def save(self, folder: str | Path) -> Path:
        """Write weights (safetensors) and everything else (JSON) into a folder."""
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"expected a folder to save to, but {folder} is a file")
        values = {
            "format": FORMAT,
            "objective": {"bound": float(self.objective.bound), "loss": self.objective.loss},
            "status": self.status.value,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "history": self.history,
            "notes": self.notes,
            "about": self.about,
        }
        # both are written before either takes its place: no new weights with old figures
        with replacing(folder / ABOUT) as text, replacing(folder / WEIGHTS) as weights:
            text.write_text(json_text(values) + "\n", encoding="utf-8")
            save_tensors(weights, self.model.state_dict())
        return folder


def load_bounded_loss(folder: str | Path, net: nn.Module) -> BoundedLoss:
    """Read a saved result.

    Args:
        net: a network of the architecture that was fine-tuned; it is copied, not changed.

    Raises:
        InputError: the folder holds no result, or one that does not fit the network.
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(net).__name__}")
    folder = Path(folder)
    for name in (ABOUT, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"expected a saved result in {folder}, but {name} is not there")
    model = copy.deepcopy(as_module(net)).eval()
    try:
        values = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise InputError(
                f"expected a result of format {FORMAT} in {folder}, got {values['format']!r}: it "
                "was written by another version"
            )
        model.load_state_dict(load_file(folder / WEIGHTS))
        return BoundedLoss(
            model=model,
            objective=BoundedGroupLoss(**values["objective"]),
            status=Status(values["status"]),
            before=RegressionAudit.from_dict(values["before"]),
            after=RegressionAudit.from_dict(values["after"]),
            history=tuple(values["history"]),
            notes=tuple(values["notes"]),
            about=values["about"],
        )
    except InputError:
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the weights in {folder} do not fit this network: {reason}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"expected a saved result in {folder}, but it is damaged: {error!r}"
        ) from None


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights."""
    return {name: torch.clone(value.detach()) for name, value in model.state_dict().items()}
