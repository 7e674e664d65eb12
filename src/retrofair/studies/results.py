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
TABLE = ["data", "sensitive", "columns", "network", "measure"]  # what tells tables apart
ABOUT = ("data", "sensitive", "columns", "network", "measure", "split", "seed", "method")
STATE = ("state", "error", "status", "needs_group", "seconds", "rows_valid", "rows_test", "groups")
PARTS = ("valid", "test")
SCORES = (
    *(f"{part}_{what}" for part in PARTS for what in ("objective", "bias", "performance")),
    *(f"test_{what}_{end}" for what in ("bias", "performance") for end in ("low", "high")),
    *("test_unfair", "test_feasible", "test_beats_constant"),
    *("test_accuracy", "test_balanced_accuracy"),
)


def frame(grid: Grid, plan: Plan) -> pd.DataFrame:
    """One row per table, seed and method, the constant classifier and the original among them.

    `state` is done, failed or missing. `_bias` is the measure's own value, signed where it is;
    `test_unfair` is its distance from fair, and `test_feasible` whether the objective's bound
    holds. `_low` and `_high` are 95 % intervals of the one test set. `groups` has the test rows by
    group, the privileged one last.
    """
    rows = []
    for setting, training in grid.settings():
        objective = setting.objective
        seen = set()
        for seed in grid.seeds:
            about = {**_about(setting), "split": grid.split(seed), "seed": seed}
            network = plan.record(grid.network(setting.source, training, seed))
            constant = np.nan
            if network is not None and network["status"] == "done":
                original = {part: np.array(network["answer"][part]) for part in PARTS}
                fixed = {CONSTANT: _constant(objective, original), ORIGINAL: original}
                constant = float(objective.score(fixed[CONSTANT]["test"]))
                about["groups"] = _groups(network["answer"])
                for name, counts in fixed.items():
                    if about["split"] in seen:
                        continue  # another trial on the same network: nothing new about these
                    state = {"state": "done", "status": "", "method": name}
                    rows.append({**about, **state, **_scores(objective, counts, constant)})
            seen.add(about["split"])
            for method in grid.methods_for(setting.measure):
                record = plan.record(grid.cell(setting, training, method, seed))
                found = _found(objective, record, constant)
                rows.append({**about, "method": method.name, **found})
    return pd.DataFrame(rows, columns=[*ABOUT, *STATE, *SCORES])


def _groups(answer: dict[str, Any]) -> str:
    sizes = np.array(answer["test"]).sum(axis=(1, 2))
    return ", ".join(f"{name} {n:,}" for name, n in zip(answer["groups"], sizes, strict=True))


def _about(setting: Setting) -> dict[str, Any]:
    return {
        "data": setting.source.to_dict()["data"],
        "sensitive": setting.source.groups,
        "columns": "in" if setting.source.include_sensitive else "blind",
        "network": setting.training,
        "measure": setting.measure,
    }


def _found(objective: Objective, record: dict[str, Any] | None, constant: float) -> dict[str, Any]:
    if record is None:
        return {"state": "missing"}
    if record["status"] != "done":
        return {"state": "failed", "error": record.get("error", "")}
    answer = record["answer"]
    counts = {part: np.array(answer[part]) for part in PARTS}
    return {
        "state": "done",
        "status": answer["status"],
        "needs_group": answer["needs_group"],
        "seconds": record["seconds"],
        **_scores(objective, counts, constant),
    }


def _constant(objective: Objective, counts: dict[str, Array]) -> dict[str, Array]:
    """The better constant classifier, chosen on the validation data."""

    def decide(part: Array, positive: int) -> Array:
        decided = np.zeros_like(part)
        decided[..., positive] = part.sum(axis=-1)
        return decided

    better = max((0, 1), key=lambda p: float(objective.rank(decide(counts["valid"], p))))
    return {part: decide(values, better) for part, values in counts.items()}


def _scores(
    objective: Objective, counts: dict[str, Array], constant: float = np.nan
) -> dict[str, Any]:
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
    values["test_unfair"] = float(measure.bias(test))
    values["test_feasible"] = bool(objective.feasible(test))
    sign = 1 if objective.maximise else -1
    values["test_beats_constant"] = sign * (values["test_objective"] - constant) > 1e-12
    for name in ("accuracy", "balanced_accuracy"):
        values[f"test_{name}"] = float(metrics.get_performance(name)(test))
    return values
