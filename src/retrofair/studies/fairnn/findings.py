"""What `fairnn` shows, in sentences that are read from the numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from retrofair.studies.fairnn.figures import PUBLISHED_START, Shown
from retrofair.studies.fairnn.housing import Problem
from retrofair.studies.fairnn.methods import CONSTANT, ONE, Framework
from retrofair.studies.fairnn.model import FLAT
from retrofair.studies.pages import plain, spread

JUMP = Framework().jump


def findings(shown: Shown, done: pd.DataFrame, problem: Problem) -> Iterator[str]:
    """Sentences from the numbers; what is not there is not spoken of."""
    if len(done):
        runs = done.groupby("model", sort=False)["seed"].agg("nunique")
        folds = done["fold"].nunique()
        tiers = ", ".join(
            f"{n} {tier}" for tier, n in done["certified_tier"].value_counts().items()
        )
        yield (
            f"{folds} folds; seeds: {', '.join(f'{m} {n}' for m, n in runs.items())}; epsilon = "
            f"{problem.epsilon:g}; {spread(done['pairs_train'], 0)} similar pairs among the "
            f"training rows, {spread(done['pairs_test'], 0)} among the test rows. Certificates by "
            f"tier: {tiers}; the time limit ended {(done['certified_stopped'] == 'time').sum()} of "
            f"{len(done)}."
        )
    first = done[done["model"] == FLAT] if len(done) else done
    by = (
        {str(name): part for name, part in first.groupby("method", sort=False)}
        if len(first)
        else {}
    )
    framework = by.get("Algorithm 1")
    if framework is not None and CONSTANT in by:
        constant = by[CONSTANT]["mse_test"].mean()
        yield (
            f"Algorithm 1's models have a squared error of {spread(framework['mse_test'], 0)}, "
            f"where the constant model (delta 0) has {constant:.0f}: "
            f"{(framework['mse_test'] < framework['constant_mse']).sum()} of {len(framework)} are "
            "better than saying the mean to everybody. Smaller delta alone is no achievement."
        )
    trained = first[first["method"].str.startswith("trained")] if len(first) else first
    if framework is not None and len(trained):
        useful = trained.groupby("method", sort=False).agg(
            delta=("delta_test", "mean"),
            upper=("certified_upper", "mean"),
            mse=("mse_test", "mean"),
        )
        texts = [
            f"{plain(str(name)).removeprefix('trained, ')}: MSE {row.mse:.1f}, rows "
            f"{row.delta:.2f}, certified {row.upper:.1f}"
            for name, row in useful.iterrows()
        ]
        yield (
            "Training on lambda * MSE + (1 - lambda) * delta reaches (means) "
            + "; ".join(texts)
            + ". Algorithm 1: "
            f"MSE {framework['mse_test'].mean():.1f}, rows {framework['delta_test'].mean():.2f}, "
            f"certified {framework['certified_upper'].mean():.1f}."
        )
    if {ONE, "Algorithm 1", "best of 20 draws"} <= set(by):
        yield sixty(by)
    searches = [
        name for name in by if "equal budget" in name or name in ("Algorithm 1", "best of 20 draws")
    ]
    if len(searches) > 1:
        order = sorted(searches, key=lambda name: by[name]["delta_train"].mean())
        texts = [
            f"{plain(name)} {by[name]['delta_train'].mean():.2f} (certified "
            f"{by[name]['certified_upper'].mean():.1f})"
            for name in order
        ]
        yield "Delta over the training rows, which all of these minimise: " + "; ".join(texts) + "."
    yield from _deep(done)
    yield from _resampling(shown)
    yield from _saw(shown)


def sixty(by: dict[str, pd.DataFrame]) -> str:
    """Whether the paper's average improvement holds."""
    framework = by["Algorithm 1"]
    rows = 1 - framework["delta_test"] / framework["draws_test"]
    upper = {name: by[name]["certified_upper"].mean() for name in (ONE, "Algorithm 1")}
    certified = 1 - upper["Algorithm 1"] / upper[ONE]
    drawn = 1 - (by["best of 20 draws"]["delta_test"] / by["best of 20 draws"]["draws_test"]).mean()
    low = rows.mean() >= 0.5
    return (
        f'"About 60 % improvement" over one random draw: {spread(100 * rows, 0)} % on rows that '
        f"were not used ({100 * drawn:.0f} % from taking the best of the draws alone), "
        f"{100 * certified:.0f} % certified. "
        + ("On rows it holds. " if low else "It does not hold. ")
        + (
            "Over the domain it is less than half of that: delta over rows does not see where no "
            "two rows are similar, and the steep part of the sigmoid can lie there. "
            if certified < rows.mean() / 2
            else ""
        )
        + "The constant model improves by 100 %."
    )


def _deep(done: pd.DataFrame) -> Iterator[str]:
    """Models with hidden layers, whose certificates may stay open."""
    deep = done[(done["model"] != FLAT) & done["method"].str.startswith("trained")]
    for model, part in deep.groupby("model", sort=False):
        columns = ["mse_test", "delta_test", "delta_train", "certified_lower", "certified_upper"]
        texts = []
        for name, runs in part.groupby("method", sort=False):
            error, rows, used, low, high = runs[columns].mean()
            texts.append(
                f"{plain(str(name)).removeprefix('trained, ')}: MSE {error:.1f}, rows {rows:.2f} "
                f"(training rows {used:.2f}), certified {low:.1f} to {high:.1f}"
            )
        yield f"With {model}, training reaches " + "; ".join(texts) + "."


def jump_of(history: list[float]) -> int | None:
    """The first epoch at which Algorithm 3 would stop for a jump."""
    far = (e for e in range(1, len(history)) if history[e] > JUMP * min(history[:e]))
    return next(far, None)


def kept(history: list[float]) -> int:
    """The epoch whose weights Algorithm 3 keeps: the smallest delta before the first jump."""
    return int(np.argmin(history[: jump_of(history)]))


def _resampling(shown: Shown) -> Iterator[str]:
    found = shown.all("descent")
    if found:
        ends = {
            place: [min(values["sigmoid"][place]["seen"]) for values in found]
            for place in ("all", "resampled")
        }
        jumps = {
            name: sum(jump_of(values[name]["all"]["seen"]) is not None for values in found)
            for name in ("sigmoid", "released")
        }
        true = [
            v["sigmoid"]["resampled"]["true"][int(np.argmin(v["sigmoid"]["resampled"]["seen"]))]
            for v in found
        ]
        yield (
            f"Resampling, over {len(found)} starts: the search then sees a smallest delta of "
            f"{spread(ends['resampled'], 1)}, which on all rows is {spread(true, 1)}; searched on "
            f"all rows it is {spread(ends['all'], 1)}."
        )
        yield (
            f"The simulated gradient jumps (to more than {JUMP:g} times its smallest delta) from "
            f"{jumps['sigmoid']} of {len(found)} starts with the sigmoid, and from "
            f"{jumps['released']} with the released code's, on all rows."
        )


def _saw(shown: Shown) -> Iterator[str]:
    found = [v for v in shown.all("descent") if "weights of the released code" in v]
    if not found:
        return
    traces = found[0]["weights of the released code"]
    yield (
        f"The weights in the released code have delta {traces['released']['seen'][0]:.2f} by the "
        "released code's sigmoid (published for the start of Figure 5: around 6.6), and "
        f"{traces['sigmoid']['seen'][0]:.2f} by the sigmoid. By that saw every delta is at most "
        "6.9, the height of a tooth, or at least 38, its jump at 5: the small deltas of Figure 5 "
        "and its jump to 44.75 look like the saw's, not like facts about the model. The "
        f"{PUBLISHED_START} of Figure 4 and the range of Figure 3 cannot have come from it."
    )
