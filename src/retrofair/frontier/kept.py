"""Finished runs in a folder, so that an interrupted frontier goes on where it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from retrofair.data import Rows
from retrofair.debiasers import Debiased, Debiaser, load_result
from retrofair.errors import InputError
from retrofair.files import write_json
from retrofair.metrics import CallableMeasure
from retrofair.networks.digest import digest
from retrofair.networks.kept import identity
from retrofair.networks.logits import as_logits
from retrofair.networks.outputs import Outputs, probabilities
from retrofair.objective import Constrained
from retrofair.version import __version__

RUN = "run.json"
ANSWERS = 512  # of a network, that are part of the question


@dataclass(frozen=True, eq=False)
class KeptRuns:
    """Results by what they depend on; nothing is kept without a folder.

    Args:
        network: the one that is debiased.
        question: a digest of the network, how its outputs are read, and the fitting part.
    """

    folder: Path | None
    network: nn.Module
    question: str

    @classmethod
    def of(
        cls,
        folder: str | Path | None,
        network: nn.Module,
        data: Rows,
        outputs: Outputs,
        head_only: bool = False,
    ) -> KeptRuns:
        """Runs on these data.

        Raises:
            InputError: the folder is a file.
        """
        if folder is None:
            return cls(None, network, "")
        if not isinstance(folder, str | Path):
            raise InputError(f"expected a folder to keep runs in, got {folder!r} (store)")
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"expected a folder to keep runs in, but {folder} is a file (store)")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"expected a folder to keep runs in, cannot make {folder}: {error} (store)"
            ) from None
        # what it answers too: a network may depend on more than its weights
        answers = probabilities(as_logits(network, data, outputs), data[:ANSWERS])
        question = digest(
            network,
            outputs,
            *identity(data),
            answers.tolist(),
            *([head_only] * head_only),
            *(["favourable", 0] if data.favourable == 0 else []),  # which a result's effects know
        )
        return cls(folder, network, question)

    def read(
        self, debiaser: Debiaser, objective: Constrained, seed: int
    ) -> tuple[Debiased, float] | None:
        """A finished run's result and seconds; None where there is none, or a damaged one."""
        if self.folder is None:
            return None
        place = self._place(self.folder, debiaser, objective, seed)
        try:
            seconds = float(json.loads((place / RUN).read_text(encoding="utf-8"))["seconds"])
            return load_result(place, self.network), seconds
        except (OSError, ValueError, KeyError, TypeError):  # of which InputError is a ValueError
            return None

    def add(
        self,
        debiaser: Debiaser,
        objective: Constrained,
        seed: int,
        result: Debiased,
        seconds: float,
    ) -> None:
        """Keep a finished run."""
        if self.folder is None:
            return
        place = self._place(self.folder, debiaser, objective, seed)
        result.save(place)
        write_json(place / RUN, {"seconds": seconds})  # last: a run is there once this is

    def _place(self, folder: Path, debiaser: Debiaser, objective: Constrained, seed: int) -> Path:
        kind = type(debiaser)
        # the text of a dataclass shows all options; that of another object its address, by which
        # it is never found again
        parts = (self.question, kind.__module__, kind.__qualname__, debiaser, _code(objective))
        name = digest(__version__, *parts, objective.to_dict(), seed)[:20]
        return folder / (f"{debiaser.name}-{name}" if debiaser.name.isidentifier() else name)


def _code(objective: Constrained) -> Any:
    """What tells one callable measure from another of its name."""
    measure = objective.bias_measure
    if not isinstance(measure, CallableMeasure):
        return None
    function = measure.function
    code = getattr(function, "__code__", None)
    if code is None:
        return function
    closed = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    given = (getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None))
    return (code.co_code, code.co_consts, code.co_names, closed, given)
