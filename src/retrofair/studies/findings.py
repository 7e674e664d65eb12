"""What a grid's numbers say, in sentences and a table that are computed from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd

from retrofair.debiasers import Layerwise, Random, RejectOption
from retrofair.objective import Constrained
from retrofair.studies import pages
from retrofair.studies.grid import Grid, Method
from retrofair.studies.results import CONSTANT, TABLE, YARDSTICKS

# Runs on one data set and split share its network or its rows: they are not independent.
CLUSTER = ["data", "split"]


def findings(grid: Grid, done: pd.DataFrame) -> Iterator[str]:
    """The parts of a page between the figure and the tables."""
    methods = done[~done["method"].isin(YARDSTICKS)]
    if methods.empty:
        return
    lines = [_held(methods)] if isinstance(grid.objective, Constrained) else []
    lines.append(_useless(methods))
    yield "## What it shows\n\n" + "\n".join(f"- {line}" for line in lines)
    yield "### Over all tables\n\n" + _overview(grid, done)
    compared = list(_comparisons(grid, methods))
    if compared:
        header = ["method", "against", "because", "on validation data", "on test data"]
        header += ["better / worse on test", "runs"]
        yield (
            "### Side by side\n\nGain in the objective over another method on the same network, "
            "split and measure: mean +- standard error over independent parts (data set and split; "
            "runs that share these are averaged first).\n\n" + pages.table(header, compared)
        )


def _held(methods: pd.DataFrame) -> str:
    met = methods[methods["status"] == "met"]
    if met.empty:
        return f"The bound was met on validation data in none of {len(methods):,} runs."
    kept = int(met["test_feasible"].sum())
    return (
        f"The bound was met on validation data in {len(met):,} of {len(methods):,} runs; in "
        f"{kept:,} of these ({kept / len(met):.0%}) it held on test data too."
    )


def _useless(methods: pd.DataFrame) -> str:
    flagged = methods[methods["status"] == "degenerate"]
    worse = methods[~methods["test_beats_constant"].astype(bool)]
    text = (
        f"{len(flagged):,} of {len(methods):,} runs are *degenerate* by validation data (they "
        "decide alike for almost everybody, or a constant classifier scores as well)"
        + (f": {_by_method(flagged)}" if len(flagged) else "")
        + f". On test data {len(worse):,} score no better than the constant classifier"
        + (f": {_by_method(worse)}" if len(worse) else "")
    )
    return text + "."


def _by_method(runs: pd.DataFrame) -> str:
    return ", ".join(f"{name} {n}" for name, n in runs.groupby("method", sort=False).size().items())


def _overview(grid: Grid, done: pd.DataFrame) -> str:
    """One row per method, over whatever tables and seeds it ran in."""
    constrained = isinstance(grid.objective, Constrained)
    header = ["method", "tables", "runs", "validation objective", "test objective"]
    header += [*(["held on test"] if constrained else []), "beats the constant", "mean |bias|"]
    lines = []
    for method, part in done.groupby("method", sort=False):
        n = len(part)
        line = [str(method), str(part.groupby(TABLE).ngroups), str(n)]
        line += [f"{part['valid_objective'].mean():.3f}", f"{part['test_objective'].mean():.3f}"]
        line += [f"{int(part['test_feasible'].sum())}/{n}"] if constrained else []
        beats = f"{int(part['test_beats_constant'].sum())}/{n}"
        line += ["" if method == CONSTANT else beats, f"{part['test_unfair'].mean():.3f}"]
        lines.append(line)
    return (
        "Means over all tables and seeds that a method ran in; methods that ran for some measures "
        "only cannot be compared with the others here.\n\n" + pages.table(header, lines)
    )


def _comparisons(grid: Grid, methods: pd.DataFrame) -> Iterator[list[str]]:
    sign = 1 if grid.objective.maximise else -1
    index = [*TABLE, "split", "seed"]
    wide = {
        part: methods.pivot_table(index=index, columns="method", values=f"{part}_objective")
        for part in ("valid", "test")
    }
    for method, other, why in pairs(grid):
        if method not in wide["test"] or other not in wide["test"]:
            continue
        gains = {
            part: (sign * (values[method] - values[other])).dropna()
            for part, values in wide.items()
        }
        if gains["test"].empty:
            continue
        better, worse = int((gains["test"] > 1e-12).sum()), int((gains["test"] < -1e-12).sum())
        yield [
            method,
            other,
            why,
            _clustered(gains["valid"]),
            _clustered(gains["test"]),
            f"{better} / {worse}",
            str(len(gains["test"])),
        ]


def _clustered(gains: pd.Series) -> str:
    """Mean and its standard error over independent parts."""
    means = gains.groupby(level=CLUSTER).mean()
    if len(means) < 2:
        return f"{means.mean():+.3f}"
    error = means.std(ddof=1) / np.sqrt(len(means))
    return f"{means.mean():+.3f} +- {error:.3f} ({len(means)} parts)"


def pairs(grid: Grid) -> Iterator[tuple[str, str, str]]:
    """Methods worth comparing: a search with random search, the others with post-processing."""
    names = {method.name: method.debiaser for method in grid.methods}
    depth = max(training.depth for _, training in grid.trainings)
    for name, debiaser in names.items():
        if isinstance(debiaser, Layerwise) and debiaser.optimizer != "random":
            budget = evaluations(debiaser, depth)
            twin = control(debiaser)
            for other, known in names.items():
                if known == twin:
                    yield name, other, f"random search, same space, {budget} each"
                elif isinstance(known, Random):
                    yield name, other, f"random search in weights, {budget} against {known.trials}"
    told = [name for name, debiaser in names.items() if isinstance(debiaser, RejectOption)]
    for name, debiaser in names.items():
        if name != "threshold" and "threshold" in names:
            yield name, "threshold", "the same network with the best threshold"
        if getattr(debiaser, "changes_weights", False):
            for other in told:
                yield name, other, "post-processing that knows the objective and is told the group"


def evaluations(debiaser: Layerwise, depth: int) -> int:
    """How many networks it tries: per layer, for the last layers or all and the output."""
    return debiaser.evaluations * min(debiaser.layers or depth + 1, depth + 1)


def control(debiaser: Layerwise) -> Layerwise:
    """Random search with the same space and budget."""
    return dataclasses.replace(debiaser, optimizer="random")


def with_controls(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """The methods, each search followed by random search at equal budget where it is not there."""
    found: list[Method] = []
    for method in methods:
        found.append(method)
        searching = method.debiaser
        if not isinstance(searching, Layerwise) or searching.optimizer == "random":
            continue
        twin = control(searching)
        if all(known.debiaser != twin for known in methods):
            found.append(Method(f"{method.name}, random search", twin, method.measures))
    return tuple(found)
