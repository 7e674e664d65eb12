"""Cells for tests of the runner, in a module that worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from retrofair.data import Splits
from retrofair.debiasers import Random, Threshold
from retrofair.networks import Training
from retrofair.objective import Constrained
from retrofair.studies.cells import Answer, Cell, DebiasCell, NetworkCell
from retrofair.studies.run import Plan, run
from retrofair.studies.sources import Source
from retrofair.studies.store import Store

SOURCE = Source("synthetic", ("sex",))
TINY = Training(width=8, depth=2, max_epochs=2)


@dataclass(frozen=True)
class Toy:
    """Draws two numbers from the global random state, as a cell may that uses other libraries.

    Args:
        act: "raise" or "die"; only a cell that does neither finishes.
        seconds: between the draws, so that those of another thread would fall in there.
        marks: a folder in which it leaves a file each time it starts.
    """

    number: int
    act: str = ""
    seconds: float = 0.0
    marks: str = ""
    source: Source = SOURCE
    needs: NetworkCell | None = None
    kind: ClassVar[str] = "toy"

    @property
    def label(self) -> str:
        return "toy"

    def config(self) -> dict[str, Any]:
        return {"number": self.number, "act": self.act, "source": self.source.to_dict()}

    def run(self, splits: Splits, network: nn.Module | None) -> Answer:
        if self.marks:
            Path(self.marks, f"{self.number} {time.time_ns()}").touch()
        if self.act == "raise":
            raise ZeroDivisionError("by design")
        if self.act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        torch.manual_seed(self.number)
        first = float(torch.rand(()))
        time.sleep(self.seconds)
        drawn = [first, float(torch.rand(()))]
        values = {"drawn": drawn, "threads": torch.get_num_threads(), "process": os.getpid()}
        return Answer(values, seconds=0.5)


def toys(*numbers: int, **options: Any) -> list[Cell]:
    return [Toy(number, **options) for number in numbers]


def real(seeds: int = 2) -> list[Cell]:
    """Two methods on a network per seed, in a second or so."""
    cells: list[Cell] = []
    for seed in range(seeds):
        network = NetworkCell(Source("synthetic", ("sex",), split=seed), seed, TINY)
        for debiaser in (Threshold(), Random(trials=3)):
            cells.append(DebiasCell(network, debiaser, Constrained("spd", epsilon=0.05), seed))
    return cells


def study(folder: str | Path, cells: list[Cell], **options: Any) -> Plan:
    """Run the cells, and say on standard output what is stored."""

    def say(cell: Cell, record: dict[str, Any]) -> None:
        print(getattr(cell, "number", cell.label), record["status"], flush=True)

    plan = Plan.of(cells, Store(folder))
    run(plan, **{"each": say, **options})
    return plan


def answers(plan: Plan) -> dict[str, Any]:
    """What each cell found, by key; without what may differ from run to run."""
    found = {}
    for key, cell in zip(plan.keys, plan.cells, strict=True):
        record = Store(plan.store.folder).get(key)
        assert record is not None
        assert record["status"] == "done", (cell, record)
        varying = ("process", "threads", "trained")
        found[key] = {n: v for n, v in record["answer"].items() if n not in varying}
    return found
