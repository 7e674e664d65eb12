"""All methods on Adult, COMPAS and Bank: the table of docs/results/debias.md.

    python benchmarks/debias_table.py --store FOLDER        run what is missing, then write the page

Every cell (data, measure, method, seed) is one file in the store, so that a run can be stopped at
any time and goes on where it was; other options or another version make it another cell. Split and
base network have the seed of the cell.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import time
from pathlib import Path

import joblib
import numpy as np
import torch

import retrofair as rf
from retrofair.debiasers import Adversarial, Layerwise, Random
from retrofair.debiasers.run import resolve
from retrofair.files import write_json

SETTINGS = (("adult", "sex"), ("compas", "race"), ("bank", "age"))
MEASURES = ("spd", "aod", "eod")
SEEDS = range(5)
EPSILON = 0.05
METHODS = {
    "threshold": "threshold",
    "random": "random",
    "random, budget of layerwise": Random(trials=220),
    "layerwise": "layerwise",
    "layerwise, random search": Layerwise(optimizer="random"),
    "layerwise, papers' space": Layerwise(space="weights", layers=5),
    "zhang": "zhang",
    "adversarial": "adversarial",
    "adversarial, papers' critic": Adversarial(critic="concatenated", reads="representation"),
    "reject_option": "reject_option",
    "equalized_odds": "equalized_odds",
    "calibrated_equalized_odds": "calibrated_equalized_odds",
}
SLOW = ("adversarial, papers' critic",)  # measured on spd only


def network(data: str, attribute: str, seed: int, store: Path) -> tuple[rf.Splits, torch.nn.Module]:
    splits = rf.datasets.load(data, sensitive=attribute, seed=seed)
    net = rf.networks.train_mlp(splits.train, splits.valid, seed=seed, cache=store / "networks")
    return splits, net


def cell_path(store: Path, data: str, measure: str, method: str, seed: int) -> Path:
    name = method.replace(" ", "_").replace(",", "").replace("'", "")
    debiaser = resolve(METHODS[method])
    options = json.dumps({"epsilon": EPSILON, **dataclasses.asdict(debiaser)}, sort_keys=True)
    changed = hashlib.sha256(f"{rf.__version__} {options}".encode()).hexdigest()[:8]
    return store / "cells" / f"{data}-{measure}-{name}-{seed}-{changed}.json"


def run_cell(store: Path, data: str, attribute: str, measure: str, method: str, seed: int) -> None:
    torch.set_num_threads(1)
    path = cell_path(store, data, measure, method, seed)
    if path.exists():
        return
    splits, net = network(data, attribute, seed, store)
    objective = rf.Constrained(measure, epsilon=EPSILON)
    started = time.perf_counter()
    result = rf.debias(net, splits.valid, objective, METHODS[method], seed=seed)
    seconds = time.perf_counter() - started
    tests = {"result": rf.audit(result, splits.test), "original": rf.audit(net, splits.test)}
    record = {
        "valid": {
            key: [scores.objective, scores.bias, scores.performance]
            for key, scores in (
                ("before", result.before),
                ("after", result.after),
                ("constant", result.constant),
            )
        },
        "status": result.status.value,
        "seconds": seconds,
        "options": result.about["options"],
        "rows": [len(splits.valid), len(splits.test)],
    }
    for key, audit in tests.items():
        bias, good = audit[measure], audit["balanced_accuracy"]
        record[key] = {
            "bias": [bias.value, bias.low, bias.high],
            "balanced_accuracy": [good.value, good.low, good.high],
            "accuracy": audit["accuracy"].value,
            "objective": good.value if abs(bias.value) < EPSILON else 0.0,
        }
    write_json(path, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--page", type=Path, default=Path("docs/results/debias.md"))
    parser.add_argument("--page-only", action="store_true")
    arguments = parser.parse_args()
    if not arguments.page_only:
        nets = [(d, a, s, arguments.store) for (d, a), s in itertools.product(SETTINGS, SEEDS)]
        joblib.Parallel(arguments.jobs, verbose=5)(joblib.delayed(_train)(*n) for n in nets)
        cells = [
            (arguments.store, d, a, measure, method, seed)
            for method, seed, measure, (d, a) in itertools.product(
                METHODS, SEEDS, MEASURES, SETTINGS
            )
            if measure == "spd" or method not in SLOW
        ]
        joblib.Parallel(arguments.jobs, verbose=5, batch_size=1)(
            joblib.delayed(run_cell)(*cell) for cell in cells
        )
    arguments.page.write_text(page(arguments.store), encoding="utf-8")


def _train(data: str, attribute: str, seed: int, store: Path) -> None:
    torch.set_num_threads(1)
    network(data, attribute, seed, store)


def page(store: Path) -> str:
    """The page: one table per data set and measure."""
    parts = [
        (Path(__file__).parent / "debias_table.md").read_text(encoding="utf-8").rstrip(),
    ]
    for (data, attribute), measure in itertools.product(SETTINGS, MEASURES):
        parts.append(table(store, data, attribute, measure))
    return "\n\n".join(parts) + "\n"


def table(store: Path, data: str, attribute: str, measure: str) -> str:
    found = {
        method: [
            json.loads(path.read_text())
            for seed in SEEDS
            if (path := cell_path(store, data, measure, method, seed)).exists()
        ]
        for method in METHODS
    }
    first = found["threshold"]
    rows_valid, rows_test = first[0]["rows"]
    lines = [
        f"## {data}, {attribute}: {measure}",
        "",
        f"{rows_valid:,} validation rows, {rows_test:,} test rows, {len(first)} seeds; one seed's "
        f"95 % interval of {measure} on test is about +-{half_width(first):.3f}.",
        "",
        f"| method | validation objective | test objective | test {measure} | test balanced "
        f"accuracy | bound held on test | status | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        line("constant classifier", [0.5] * len(first), [[0.0, 0.5, 0.5]] * len(first), "", ""),
        line(
            "original, threshold 0.5",
            [cell["valid"]["before"][0] for cell in first],
            [triple(cell["original"]) for cell in first],
            "",
            "",
        ),
    ]
    for method, cells in found.items():
        if not cells:
            continue
        met = sum(cell["status"] == "met" for cell in cells)
        degenerate = sum(cell["status"] == "degenerate" for cell in cells)
        status = f"met {met}/{len(cells)}" + (f", degenerate {degenerate}" if degenerate else "")
        seconds = f"{np.median([cell['seconds'] for cell in cells]):.1f}"
        lines.append(
            line(
                method,
                [cell["valid"]["after"][0] for cell in cells],
                [triple(cell["result"]) for cell in cells],
                status,
                seconds,
            )
        )
    return "\n".join(lines)


def triple(test: dict[str, object]) -> list[float]:
    return [test["bias"][0], test["balanced_accuracy"][0], test["objective"]]


def line(name: str, valid: list[float], tests: list[list[float]], status: str, seconds: str) -> str:
    bias, good, score = np.array(tests).T
    held = f"{int((np.abs(bias) < EPSILON).sum())}/{len(bias)}"
    return (
        f"| {name} | {spread(valid)} | {np.median(score):.3f} ({score.min():.3f} to "
        f"{score.max():.3f}) | {spread(bias)} | {spread(good)} | {held} | {status} | {seconds} |"
    )


def spread(values: object) -> str:
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.3f} +- {values.std(ddof=1) if len(values) > 1 else 0:.3f}"


def half_width(cells: list[dict[str, object]]) -> float:
    return float(
        np.median([(c["original"]["bias"][2] - c["original"]["bias"][1]) / 2 for c in cells])
    )


if __name__ == "__main__":
    main()
