"""A grid's stored cells as one tidy table: a row per method, data, measure and seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from retrofair import metrics
from retrofair.metrics import Array
from retrofair.objective import Objective
from retrofair.studies.grid import Grid, Setting
from retrofair.studies.run import Plan

CONSTANT = "constant classifier"
ORIGINAL = "original, threshold 0.5"
YARDSTICKS = (CONSTANT, ORIGINAL)
ABOUT = ("data", "sensitive", "columns", "network", "measure", "seed", "method")
STATE = ("state", "error", "status", "needs_group", "seconds", "rows_valid", "rows_test")
SCORES = (
    *(
        f"{part}_{what}"
        for part in ("valid", "test")
        for what in ("objective", "bias", "performance")
    ),
    *(f"test_{what}_{end}" for what in ("bias", "performance") for end in ("low", "high")),
    *("test_accuracy", "test_balanced_accuracy"),
)


def frame(grid: Grid, plan: Plan) -> pd.DataFrame:
    """One row per table, seed and method, the constant classifier and the original among them.

    `state` is done, failed or missing. Biases are signed where the measure is; `_low` and `_high`
    are 95 % intervals of the one test set.
    """
    rows = []
    for setting, training in grid.settings():
        for seed in grid.seeds:
            about = {**_about(setting), "seed": seed}
            network = plan.record(grid.network(setting.source, training, seed))
            if network is not None and network["status"] == "done":
                test = {part: np.array(network["answer"][part]) for part in ("valid", "test")}
                fixed = {CONSTANT: _constant(setting.objective, test), ORIGINAL: test}
                for name, counts in fixed.items():
                    state = {"state": "done", "status": "", "method": name}
                    rows.append({**about, **state, **_scores(setting.objective, counts)})
            for method in grid.methods_for(setting.measure):
                record = plan.record(grid.cell(setting, training, method, seed))
                rows.append({**about, "method": method.name, **_found(setting.objective, record)})
    return pd.DataFrame(rows, columns=[*ABOUT, *STATE, *SCORES])


def _about(setting: Setting) -> dict[str, Any]:
    return {
        "data": setting.source.to_dict()["data"],
        "sensitive": setting.source.groups,
        "columns": "in" if setting.source.include_sensitive else "blind",
        "network": setting.training,
        "measure": setting.measure,
    }


def _found(objective: Objective, record: dict[str, Any] | None) -> dict[str, Any]:
    if record is None:
        return {"state": "missing"}
    if record["status"] != "done":
        return {"state": "failed", "error": record.get("error", "")}
    answer = record["answer"]
    counts = {part: np.array(answer[part]) for part in ("valid", "test")}
    return {
        "state": "done",
        "status": answer["status"],
        "needs_group": answer["needs_group"],
        "seconds": record["seconds"],
        **_scores(objective, counts),
    }


def _constant(objective: Objective, counts: dict[str, Array]) -> dict[str, Array]:
    """The better constant classifier, chosen on the validation data."""

    def decide(part: Array, positive: int) -> Array:
        decided = np.zeros_like(part)
        decided[..., positive] = part.sum(axis=-1)
        return decided

    better = max((0, 1), key=lambda p: float(objective.rank(decide(counts["valid"], p))))
    return {part: decide(values, better) for part, values in counts.items()}


def _scores(objective: Objective, counts: dict[str, Array]) -> dict[str, Any]:
    measure, good = objective.bias_measure, objective.performance_measure
    values: dict[str, Any] = {}
    for part, cells in counts.items():
        values |= {
            f"rows_{part}": int(cells.sum()),
            f"{part}_objective": float(objective.score(cells)),
            f"{part}_bias": float(measure(cells)),
            f"{part}_performance": float(good(cells)),
        }
    test = counts["test"]
    values["test_bias_low"], values["test_bias_high"] = measure.interval(test)
    values["test_performance_low"], values["test_performance_high"] = good.interval(test)
    for name in ("accuracy", "balanced_accuracy"):
        values[f"test_{name}"] = float(metrics.get_performance(name)(test))
    return values
