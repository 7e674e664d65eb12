"""How long cells take: what the bar and `--dry-run` say about the time left."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from retrofair.studies.cells import Cell, is_network
from retrofair.studies.images import ImageTraining
from retrofair.studies.store import Store

# Seconds on one core of an ordinary server for data like Adult or Bank: for what no store has seen.
TYPICAL = {
    "network": 60.0,
    "classic": 5.0,
    "perturbation": 15.0,
    "fairnn": 5.0,
    "fairnn_starts": 50.0,
    "fairnn_sweep": 15.0,
    "fairnn_landscape": 10.0,
    "threshold": 0.5,
    "reject_option": 0.5,
    "equalized_odds": 0.5,
    "calibrated_equalized_odds": 0.5,
    "group_thresholds": 0.5,
    "random": 1.5,
    "fair_head": 10.0,
    "lagrangian": 10.0,
    "layerwise": 12.0,
    "zhang": 25.0,
    "adversarial": 30.0,
}
IMAGES = {"network": 1800.0, "debias": 300.0}  # of a ResNet, by kind, on a core of a CPU


def like_of(cell: Cell) -> tuple[str, ...]:
    """What decides the duration of a cell, most important first."""
    network: Any = cell if is_network(cell) else cell.needs
    size = "" if network is None else f"{network.training.depth} x {network.training.width}"
    return (cell.kind, cell.label, size, cell.source.to_dict()["data"])


class Durations:
    """Of cells alike, as far as the store knows any; otherwise what is typical."""

    def __init__(self, store: Store) -> None:
        self._seen: dict[tuple[str, ...], list[float]] = {}
        self._medians: dict[tuple[str, ...], float] = {}  # asked for again by every cell
        for record in store:
            if record["status"] == "done":
                self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """A finished cell. A network from the cache counts with the time that training took."""
        seconds = max(record["seconds"] or 0.0, record["wall_seconds"])
        like = tuple(record["like"])
        for length in range(2, len(like) + 1):
            self._seen.setdefault(like[:length], []).append(seconds)
            self._medians.pop(like[:length], None)

    def guess(self, cell: Cell) -> float:
        """The median of the cells most like it."""
        like = like_of(cell)
        for length in range(len(like), 1, -1):
            near = like[:length]
            if near in self._seen:
                if near not in self._medians:
                    self._medians[near] = statistics.median(self._seen[near])
                return self._medians[near]
        network: Any = cell if is_network(cell) else cell.needs
        if isinstance(getattr(network, "training", None), ImageTraining):
            return IMAGES.get(cell.kind, 300.0)
        method = cell.label.split(",")[0]
        return TYPICAL.get(method, TYPICAL.get(cell.kind, 10.0))

    def total(self, cells: Sequence[Cell], jobs: int) -> float:
        """Seconds for all of these with so many at a time."""
        return sum(map(self.guess, cells)) / max(jobs, 1)
