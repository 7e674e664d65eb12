"""What the bar and the dry run say about time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrofair.debiasers import Random, Threshold
from retrofair.networks import Training
from retrofair.objective import Constrained
from retrofair.studies import Source, Store
from retrofair.studies.cells import DebiasCell, NetworkCell
from retrofair.studies.durations import TYPICAL, Durations, like_of

NETWORK = NetworkCell(Source("synthetic", ("sex",)), 0)
CELL = DebiasCell(NETWORK, Random(), Constrained("spd"), 0)


def record(like: tuple[str, ...], wall: float, seconds: float | None) -> dict[str, Any]:
    times = {"wall_seconds": wall, "seconds": seconds}
    return {"status": "done", "like": like, **times}


def test_without_a_store_typical_times_are_said(tmp_path: Path) -> None:
    known = Durations(Store(tmp_path))
    assert known.guess(NETWORK) == TYPICAL["network"]
    assert known.guess(CELL) == TYPICAL["random"]
    version = DebiasCell(NETWORK, Random(), Constrained("spd"), 0, "random, other budget")
    assert known.total([CELL, version], jobs=2) == TYPICAL["random"]


def test_the_likest_cells_count_and_of_these_the_median(tmp_path: Path) -> None:
    known = Durations(Store(tmp_path))
    kind, label, size, data = like_of(CELL)
    known.add(record((kind, label, size, "other"), 50.0, 50.0))
    assert known.guess(CELL) == 50.0
    for seconds in (1.0, 2.0, 30.0):
        known.add(record((kind, label, size, data), seconds, seconds))
    assert known.guess(CELL) == 2.0
    other = DebiasCell(NETWORK, Threshold(), Constrained("spd"), 0)
    assert known.guess(other) == TYPICAL["threshold"]  # another method says nothing about it


def test_a_network_from_the_cache_counts_as_if_trained(tmp_path: Path) -> None:
    known = Durations(Store(tmp_path))
    known.add(record(like_of(NETWORK), 0.3, 55.0))
    assert known.guess(NETWORK) == 55.0
    known.add(record(like_of(NETWORK), 0.3, None))
    deeper = NetworkCell(NETWORK.source, 0, Training(depth=20))
    assert like_of(deeper) != like_of(NETWORK)
