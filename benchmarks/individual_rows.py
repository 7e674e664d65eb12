"""The rows of individual.py's tables: what each kind of network came to, over its seeds.

The page is written from a small table that is kept with it (docs/results/individual.csv). A new
store need not have every cell: a row gives way to one of as many seeds or more.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from individual_cells import GAP, METHODS, SETS, SMALL, WIDTHS, Cell, cells, path_of

from retrofair.files import replacing

CONSTANT = "constant"
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """One row: means and standard deviations over seeds.

    Args:
        good: accuracy, or on boston the mean squared error.
        balanced: balanced accuracy; nan for boston.
        rows: delta over pairs of test rows, of the `rows_defined` seeds that have such pairs.
        lower, upper: delta over everybody: of the worst pair found, and proved.
        tight: how many certificates are.
        trained, certified: median seconds.
        load: the machine's median load average meanwhile.
    """

    data: str
    widths: str
    method: str
    seeds: int
    n: int
    good: float
    good_sd: float
    balanced: float
    balanced_sd: float
    rows: float = 0.0
    rows_sd: float = math.nan
    rows_defined: int = 0
    lower: float = 0.0
    lower_sd: float = math.nan
    upper: float = 0.0
    upper_sd: float = math.nan
    tight: int = 0
    trained: float = math.nan
    certified: float = math.nan
    load: float = math.nan

    @property
    def key(self) -> Key:
        return self.data, self.widths, self.method


def rows_of(store: Path) -> dict[Key, Row]:
    """The rows that the stored cells make."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for cell in cells():
        if path_of(store, cell).exists():
            result = json.loads(path_of(store, cell).read_text(encoding="utf-8"))
            found.setdefault(_key(cell), []).append(result)
    made = {key: _row(key, results) for key, results in found.items()}
    for data in SETS:
        for widths in map(_widths, WIDTHS):
            # every network has the constant's figure with it: those of the plain ones
            results = found.get((data, widths, "plain"), [])
            if results:
                key = (data, widths, CONSTANT)
                made[key] = _constant(key, results)
    return made


def merged(kept: dict[Key, Row], new: dict[Key, Row]) -> dict[Key, Row]:
    """The kept rows and the new ones, of which those of as many seeds or more go first."""
    better = {
        key: row for key, row in new.items() if key not in kept or row.seeds >= kept[key].seeds
    }
    both = kept | better
    order = [
        (data, _widths(widths), method)
        for data in SETS
        for widths in WIDTHS
        for method in (*METHODS, CONSTANT)
    ]
    return {key: both[key] for key in order if key in both}


def read_rows(path: Path) -> dict[Key, Row]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return {}
    frame = pd.read_csv(path, dtype={field.name: field.type for field in fields(Row)})
    rows = [Row(**values) for values in frame.to_dict("records")]  # type: ignore[misc]
    return {row.key: row for row in rows}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path) as temporary:
        frame = pd.DataFrame([asdict(row) for row in rows])
        frame.to_csv(temporary, index=False, float_format="%.6g")


def tight(result: dict[str, Any]) -> bool:
    return bool(result["gap"] <= GAP or result["upper"] - result["lower"] <= SMALL)


def _key(cell: Cell) -> Key:
    return cell.data, _widths(cell.widths), cell.method


def _widths(widths: tuple[int, ...]) -> str:
    return str(list(widths))


def _row(key: Key, results: list[dict[str, Any]]) -> Row:
    good = [r["mse" if key[0] == "boston" else "accuracy"] for r in results]
    balanced = [r.get("balanced", math.nan) for r in results]
    defined = [r["rows"] for r in results if r["rows"] is not None and not math.isnan(r["rows"])]
    return Row(
        *key,
        len(results),
        results[0]["n"],
        *_mean(good),
        *_mean(balanced),
        *_mean(defined),
        len(defined),
        *_mean([r["lower"] for r in results]),
        *_mean([r["upper"] for r in results]),
        sum(map(tight, results)),
        statistics.median(r["trained_in"] for r in results),
        statistics.median(r["certified_in"] for r in results),
        statistics.median(r["load"] for r in results),
    )


def _constant(key: Key, results: list[dict[str, Any]]) -> Row:
    balanced = math.nan if key[0] == "boston" else 0.5
    constant = _mean([r["constant"] for r in results])
    return Row(*key, len(results), results[0]["n"], *constant, balanced, math.nan)


def _mean(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation; nan where there are too few values for one."""
    if not values:
        return math.nan, math.nan
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
