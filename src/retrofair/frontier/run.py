"""`frontier`: every method on one part of the data, every result judged on the other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from retrofair import metrics
from retrofair.data import Rows
from retrofair.debiasers import Debiased, Debiaser, debias, rules
from retrofair.debiasers.run import layers_read
from retrofair.errors import InputError, RetrofairWarning
from retrofair.files import json_text
from retrofair.frontier.asked import check_numbers, debiasers_by_name, goals_of, parts_of
from retrofair.frontier.kept import KeptRuns
from retrofair.frontier.points import (
    Effort,
    Frontier,
    Point,
    Reference,
    decided_alike,
    figures,
    non_dominated,
)
from retrofair.metrics import Array
from retrofair.networks.logits import as_logits, kind_of
from retrofair.networks.outputs import Outputs, as_module, refuse_lazy
from retrofair.networks.recording import probabilities, recording
from retrofair.objective import Constrained, MeasureLike
from retrofair.progress import silent, track

METHODS = ("threshold", "random", "pruning", "fair_head")
BOUNDS = (0.2, 0.1, 0.05, 0.02, 0.01)
MOST_SEEDS = 50  # of each bound, whatever the budget: more would pick out lucky draws


def frontier(
    net: nn.Module,
    data: Rows,
    measure: MeasureLike = "spd",
    *,
    methods: Sequence[str | Debiaser] = METHODS,
    performance: str = "balanced_accuracy",
    bounds: Sequence[float] = BOUNDS,
    seconds: float | None = None,
    held_out: float = 0.5,
    seed: int = 0,
    outputs: Outputs | None = None,
    store: str | Path | None = None,
    head_only: bool = False,
    cache: str | Path | None = None,
) -> Frontier:
    """What several methods reach from one trained network, at equal budget.

    The data are split once, within every group and label. Each method makes a network for each
    bound on the bias from the fitting part, and each of these is judged on the held-out part,
    which no method sees. With a budget each method works through the bounds, the middle one first,
    then again with further seeds, until the budget is spent; a fit that has begun is finished. A
    method that gives the same with another seed stops there, and any after 50 seeds.

    The points were chosen among many by their figures on the held-out part, which therefore
    flatter a little, the more so the more were tried: audit the chosen one on test data.

    Args:
        net: (n, ...) -> (n,) or (n, 1) logits; it is left as it is.
        data: rows the network was not trained on, with labels and groups.
        measure: a measure's name, or a callable `(y, prediction, group) -> number`.
        methods: names, or debiasers with their own options. The default ones are quick and need
            no group to decide.
        performance: a performance measure's name.
        bounds: on the bias, each in (0, 1].
        seconds: wall-clock time for each method; None: each bound once.
        held_out: share of the rows to judge by, in (0, 1).
        seed: of the split and of the first run of each bound; further runs take the next ones.
        outputs: "logits" or "probabilities" (see `debias`).
        store: a folder in which finished runs are kept: the same call goes on after them, and one
            with other methods, bounds or a larger budget finds what it shares with them. A
            callable measure is known there by its name and code.
        head_only, cache: as of `debias`; what the network says of the data is asked once for all
            methods and bounds in any case.

    Returns:
        The non-dominated points, all that were tried, and the original network and the constant
        classifiers for comparison. A method that cannot be run is in `failed`, and a warning says
        so.

    Raises:
        InputError: an option out of range, a network that does not fit the data, too few rows for
            the measure in either part, or no method that could be run.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=2000, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=2, max_epochs=3)
        >>> front = frontier(net, splits.valid, "spd", methods=["threshold", "fair_head"])
        >>> len(front.tried), front.choose(bias=0.9) is front.points[-1]
        (10, True)
    """
    named = debiasers_by_name(methods)
    net = as_module(net)
    refuse_lazy(net)
    goals = goals_of(measure, bounds, performance)
    check_numbers(seconds, held_out)
    parts = parts_of(data, goals[0], held_out, seed)
    with recording(cache):
        # the pass over each part notes all that a method will ask for
        wanted = {
            name: None
            for debiaser in named.values()
            for name in layers_read(debiaser, net, data, head_only)
        }
        model = as_logits(net, parts[0], outputs, layers=list(wanted))
        kind = kind_of(model, net)
        as_logits(net, parts[1], kind, layers=list(wanted))
        kept = KeptRuns.of(store, net, parts[0], kind, head_only)
        runs = _Runs(net, *parts, goals, seed, seconds, kind, kept, head_only)
        reference = runs.reference(model)
        tried: list[Point] = []
        effort, failed = {}, {}
        for name, debiaser in named.items():
            tally = _Tally()
            points = runs.of(name, debiaser, reference[1:], tally)
            try:
                # one by one: what a method made before it failed stays
                for point in track(points, name, total=len(goals) if seconds is None else None):
                    tried.append(point)
            except InputError as error:
                failed[name], tally.note = str(error), "failed"
            effort[name] = Effort(tally.runs, round(tally.seconds, 3), tally.note)
    if not tried:
        raise InputError(
            "expected a method that can be run on these data, got none: "
            + "; ".join(f"{name}: {message}" for name, message in failed.items())
        )
    for name, message in failed.items():
        warnings.warn(f"{name} failed: {message}", RetrofairWarning, stacklevel=2)
    return Frontier(
        measure=goals[0].bias_measure.name,
        performance=goals[0].performance_measure.name,
        points=non_dominated(tried),
        tried=tuple(tried),
        reference=reference,
        failed=failed,
        effort=effort,
        rows_fitted=len(parts[0]),
        rows_held_out=len(parts[1]),
        group_names=tuple(data.group_names),
        seconds=seconds,
    )


@dataclass
class _Tally:
    """What a method has used so far, and why it stopped, once it did."""

    runs: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Runs:
    """What all runs share.

    Args:
        goals: one per bound, in the order they are worked through.
    """

    net: nn.Module
    fitted: Rows
    held: Rows
    goals: tuple[Constrained, ...]
    seed: int
    seconds: float | None
    outputs: Outputs
    kept: KeptRuns
    head_only: bool = False

    def of(
        self, name: str, debiaser: Debiaser, constants: Sequence[Reference], tally: _Tally
    ) -> Iterator[Point]:
        """A method's points, one after the other, until its budget is spent."""
        first = None
        for turn in range(1 if self.seconds is None else MOST_SEEDS):
            seed = (self.seed + turn) % 2**63
            for goal in self.goals:
                if self.seconds is not None and tally.seconds >= self.seconds:
                    bounds = len(self.goals)
                    short = f" after {tally.runs} of {bounds} bounds" * (tally.runs < bounds)
                    tally.note = f"budget spent{short}"
                    return
                result, seconds = self._run(debiaser, goal, seed)
                tally.runs += 1
                tally.seconds += seconds
                first = first or result
                if turn == 1 and goal is self.goals[0] and _same(first, result):
                    tally.note = "the same with every seed"
                    return
                yield self._point(name, result, goal, seed, seconds, constants)
        if self.seconds is not None:
            tally.note = f"all {MOST_SEEDS} seeds"

    def reference(self, model: nn.Module) -> tuple[Reference, ...]:
        """The original network at threshold 0.5, and nobody and everybody positive."""
        n = len(self.held)
        decided = {
            "original, threshold 0.5": probabilities(model, self.held) > 0.5,
            "all negative": np.zeros(n, bool),
            "all positive": np.ones(n, bool),
        }
        return tuple(
            Reference(method=name, **self._figures(decisions))
            for name, decisions in decided.items()
        )

    def _run(self, debiaser: Debiaser, goal: Constrained, seed: int) -> tuple[Debiased, float]:
        found = self.kept.read(debiaser, goal, seed)
        if found is not None:
            return found
        started = time.perf_counter()
        with silent():  # the bar counts runs
            result = debias(
                self.net,
                self.fitted,
                goal,
                debiaser,
                seed=seed,
                outputs=self.outputs,
                head_only=self.head_only,
            )
        seconds = time.perf_counter() - started
        self.kept.add(debiaser, goal, seed, result, seconds)
        return result, seconds

    def _point(
        self,
        name: str,
        result: Debiased,
        goal: Constrained,
        seed: int,
        seconds: float,
        constants: Sequence[Reference],
    ) -> Point:
        shown = self._figures(result.predict_data(self.held))
        bare = Reference(method=name, **shown)
        return Point(
            method=name,
            **shown,
            bound=float(goal.epsilon),
            seed=seed,
            seconds=seconds,
            degenerate=result.status.value == "degenerate"
            or decided_alike(bare.counts)
            or any(bare.no_better_than(constant) for constant in constants),
            result=result,
        )

    def _figures(self, decisions: Array) -> dict[str, Any]:
        goal, held = self.goals[0], self.held
        counts = metrics.count(held.y.numpy(), decisions, held.group.numpy(), len(held.group_names))
        return figures(goal.bias_measure, goal.performance_measure, counts)


def _same(one: Debiased, other: Debiased) -> bool:
    """Whether two runs went the same way, which they do where a method draws nothing at random."""

    def way(result: Debiased) -> str:
        return json_text([result.history, rules.to_dict(result.rule), result.after.counts])

    return way(one) == way(other)
