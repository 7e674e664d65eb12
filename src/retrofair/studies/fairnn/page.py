"""The page of `fairnn`: what stands above and below the tables, and the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retrofair.studies.fairnn.cells import CERTIFIED, SWEEP
from retrofair.studies.fairnn.figures import OPEN, PUBLISHED_START, Shown, numbers
from retrofair.studies.fairnn.findings import JUMP, findings, jump_of, kept
from retrofair.studies.fairnn.housing import Problem
from retrofair.studies.fairnn.methods import ONE
from retrofair.studies.fairnn.model import FLAT
from retrofair.studies.pages import plain, spread, table

ABOUT = """
Liu and Hu (2023), An implementation of fairness guarantee framework for neural networks: the model
low + (high - low) sigmoid(w x + b) of Boston housing, delta at epsilon = 0.3 under a weighted l_2
distance in which the column B is free, and three algorithms that make delta small. The paper leaves
accuracy aside, and a constant model has delta 0: so the constant model and the error stand beside
everything here.

Known differences, first the slips of print:

- Algorithm 1 takes the draw with the largest delta; its text takes the smallest, as is done here.
- Algorithm 3 never counts its epochs and keeps the largest delta; here it counts, keeps the
  smallest, and stops where delta is more than twice the smallest so far ("much larger").
- Problem 2' says that lambda = 1 ignores accuracy. By the formula of Problem 2 it is lambda = 0,
  and so it is here.
- The paper's "MILP" has no decision in it: its delta is the largest over pairs of *rows*. Here that
  is "rows", and "certified" is over all people in the box around the table, with B free.
- Resampled rows are not standardised anew: epsilon means the same on them.
- The released code replaces the sigmoid by 16 straight pieces, each of which starts at 0 again: a
  saw with teeth of at most 0.153 * 45 = 6.9, which jumps from nearly 0 to 1 at 5. It is kept here
  as "the released code's sigmoid", to see what it does.
"""
TABLE = """
Mean +- standard deviation over folds and seeds, which share rows and so are not independent. Each
method chooses by the training rows; those that train for accuracy choose the epoch by the
validation rows; the test rows choose nothing. `delta, rows` is over pairs of rows within epsilon;
`certified` is an interval for the largest difference over all pairs of the domain: found at least,
proved at most. The gap is the largest of the runs. Equal budget: 601 evaluations of delta, as
Algorithm 1 has them (a gradient by backpropagation counts three).
"""
DEEP = """
With hidden layers the simulated gradient would take two evaluations for each of thousands of
weights; the gradient of the same delta comes from backpropagation (a test holds the two together).
Where the paper's rate is too large for so many weights, its first steps are jumps, and the search
ends at the best draw or next to it. Where the certificate does not close in its time, its upper
bound is a proof that says little.
"""
EPSILON = """
Paper's Figure 2: three random draws. "The rows" can only jump where another pair comes within
epsilon; over the domain, delta grows smoothly.
"""
DESCENT = f"""
Paper's Figure 5. No stop at jumps here, so that they can be seen; Algorithm 1 stops at {JUMP:g}
times the smallest delta. Dotted: what delta is for the same weights, on all rows and with the
sigmoid.
"""
LANDSCAPE = """
Paper's Figure 6 conjectures a toothbrush: a trough with spikes. On the plane of the best draw's w,
longer or shorter, and b (the cross is the draw):
"""


def parts(name: str, shown: Shown, done: pd.DataFrame, problem: Problem) -> Iterator[str]:
    """The page's parts below its head, of what is there."""
    yield "## What it shows\n\n" + "\n".join(f"- {line}" for line in findings(shown, done, problem))
    if len(done):
        yield f"![Error against certified delta]({name}.png)"
        yield (
            "Means; bars are one standard deviation, or where certificates stay open the interval "
            "from the worst pair found to the bound proved."
        )
        yield "## Methods" + TABLE
        for model, part in done.groupby("model", sort=False):
            yield f"### Model: {model}"
            yield methods(part)
            if model != FLAT:
                yield DEEP
        yield '## Does "about 60 % improvement" hold?'
        yield improvements(done)
        yield (
            "1 - delta / delta of a random draw. Rows: against the mean of the same 20 draws, run "
            "by run. Certified: means of upper bounds, against the row of one random draw; open: "
            "with gaps that leave nothing to compare."
        )
    if shown.all("descent"):
        yield "As the search sees its own delta, on all rows, and what it is:"
        yield seen(shown)
    if shown.all("sweep"):
        yield "## Delta by epsilon" + EPSILON + f"\n![Delta by epsilon]({name}-epsilon.png)"
        yield epsilons(shown)
    if shown.all("starts"):
        yield "## Random draws (Figures 3 and 4)"
        yield f"![Random draws in descending order, and the selected weights]({name}-starts.png)"
        yield draws(shown)
    if shown.all("descent"):
        yield "## Simulated gradient" + DESCENT
        yield f"![Delta by epoch]({name}-descent.png)"
        yield traces(shown)
        yield resampled(shown)
    if shown.all("landscape"):
        yield "## The landscape" + LANDSCAPE + f"\n![Delta over w and b]({name}-landscape.png)"
        yield surface(shown)


# --- tables ---------------------------------------------------------------------------------------


def methods(part: pd.DataFrame) -> str:
    """A row per method."""
    lines = []
    for name, runs in part.groupby("method", sort=False):
        gap = runs["certified_gap"].max()
        below = (runs["mse_test"] < runs["constant_mse"] * (1 - 1e-6)).sum()
        lines.append(
            [
                plain(str(name)),
                f"{len(runs)}",
                spread(runs["delta_train"], 2),
                spread(runs["delta_test"], 2),
                spread(runs["certified_lower"], 2),
                spread(runs["certified_upper"], 2),
                f"{100 * gap:.1f} %",
                "/".join(sorted(set(runs["certified_tier"]))),
                spread(runs["mse_test"], 1),
                f"{below}",
            ]
        )
    header = [
        "method",
        "n",
        "delta, training rows",
        "delta, test rows",
        "certified: at least",
        "at most",
        "gap",
        "tier",
        "MSE, test rows",
        "runs below the constant's MSE",
    ]
    return table(header, lines)


def improvements(done: pd.DataFrame) -> str:
    lines = []
    for model, part in done.groupby("model", sort=False):
        base = part[part["method"] == ONE]["certified_upper"].mean()
        for name, runs in part.groupby("method", sort=False):
            rows = [100 * (1 - runs[f"delta_{p}"] / runs[f"draws_{p}"]) for p in ("train", "test")]
            certified = f"{100 * (1 - runs['certified_upper'].mean() / base):.0f}"
            if np.isnan(base):
                certified = "-"
            elif part["certified_gap"].max() > OPEN:
                certified = "open"
            texts = [spread(values, 0) for values in rows]
            lines.append(
                [
                    str(model),
                    plain(str(name)),
                    *texts,
                    certified,
                ]
            )
    return table(["model", "method", "training rows, %", "test rows, %", "certified, %"], lines)


def epsilons(shown: Shown) -> str:
    lines = []
    for k, values in enumerate(shown.all("sweep")):
        for epsilon, found in zip(CERTIFIED, values["certificates"], strict=True):
            at = SWEEP.index(epsilon)
            rows = [float(numbers(values[name])[at]) for name in ("sigmoid", "released")]
            texts = ["undefined" if np.isnan(value) else f"{value:.2f}" for value in rows]
            bounds = [f"{found[end]:.2f}" for end in ("lower", "upper")]
            lines.append([f"{k + 1}", f"{epsilon:g}", f"{values['pairs'][at]:,}", *texts, *bounds])
    header = ["draw", "epsilon", "pairs", "rows", "rows, released code's sigmoid"]
    return table([*header, "certified: at least", "at most"], lines)


def draws(shown: Shown) -> str:
    found = shown.all("starts")
    published = ["published", "", f"{PUBLISHED_START} (one)", "close to 10", "over 40", "", ""]
    lines = [published]
    for seed, values in enumerate(found):
        exact, upper = numbers(values["sigmoid"]), [c["upper"] for c in values["certificates"]]
        best = int(np.argmin(exact))
        lines.append(
            [
                f"seed {seed}, sigmoid",
                f"{len(exact)}",
                f"{exact.mean():.1f}",
                f"{exact.min():.1f}",
                f"{exact.max():.1f}",
                f"{np.mean(upper):.1f} (best draw {upper[best]:.1f})",
                f"{np.mean(values['mse']):.0f} (best draw {values['mse'][best]:.0f})",
            ]
        )
        saw = numbers(values["released"])
        texts = [f"{value:.1f}" for value in (saw.mean(), saw.min(), saw.max())]
        lines.append([f"seed {seed}, released code's sigmoid", f"{len(saw)}", *texts, "", ""])
    header = [
        "",
        "draws",
        "mean delta, rows",
        "smallest",
        "largest",
        "certified at most, mean",
        "MSE",
    ]
    return (
        table(header, lines)
        + f"\n\nThe constant model's MSE on these rows is {found[0]['constant_mse']:.1f}."
    )


def seen(shown: Shown) -> str:
    """Improvement of Algorithm 1 on all rows, in its own eyes and in truth."""
    found = shown.all("descent")
    lines = []
    names = {"sigmoid": "sigmoid", "released": "released code's sigmoid"}
    for squash, label in names.items():
        for place in ("all", "resampled"):
            own, true, mse = [], [], []
            for values in found:
                trace = values[squash][place]
                best = kept(trace["seen"])
                own.append(100 * (1 - trace["seen"][best] / values[squash]["draws"]))
                true.append(100 * (1 - trace["true"][best] / values["sigmoid"]["draws"]))
                mse.append(trace["mse"][best])
            line = [label, place, f"{len(found)}", spread(own, 0), spread(true, 0), spread(mse, 0)]
            lines.append(line)
    header = ["searched with", "rows", "starts", "improvement seen, %", "true, %", "MSE"]
    return table(header, lines)


def traces(shown: Shown) -> str:
    lines = [
        ["published", "all", "around 6.6", "6.18 (epoch 7)", "44.75 at epoch 10", ""],
        ["published", "resampled", "around 6.0", "not given (epoch 5)", "", ""],
    ]
    for label, values, squash, place in _traces(shown):
        trace = values.get(place, values)
        history = trace["seen"]
        best = kept(history)
        first = jump_of(history)
        jump = "none" if first is None else f"{history[first]:.2f} at epoch {first}"
        start = f"{history[0]:.2f} (true {trace['true'][0]:.2f})"
        end = f"{history[best]:.2f} (epoch {best}; true {trace['true'][best]:.2f})"
        step = f"{np.max(trace['lengths']):.2f}"
        lines.append([f"{label}, {squash}", place, start, end, jump, step])
    header = ["start", "rows", "delta at the start", "best before a jump", "first jump"]
    return table([*header, "longest step"], lines)


def _traces(shown: Shown) -> Iterator[tuple[str, dict[str, Any], str, str]]:
    names = {"sigmoid": "sigmoid", "released": "released code's sigmoid"}
    for values in shown.all("descent")[:1]:
        for name, trace in values.get("weights of the released code", {}).items():
            yield "released weights", trace, names[name], "all"
    for (kind, seed), values in shown.values.items():
        if kind == "descent" and seed < 3:
            for name, label in names.items():
                for place in ("all", "resampled"):
                    yield f"seed {seed}", values[name], label, place


def resampled(shown: Shown) -> str:
    """What resampling does to delta before anything is searched."""
    found = shown.all("descent")
    starts = {
        place: [values["sigmoid"][place]["seen"][0] for values in found]
        for place in ("all", "resampled", "bootstrap")
    }
    pairs = {place: [values["pairs"][place] for values in found] for place in starts}
    true = {
        place: [v["sigmoid"][place]["true"][kept(v["sigmoid"][place]["seen"])] for v in found]
        for place in starts
    }
    at = {place: f"{spread(starts[place], 1)}" for place in starts}
    of = {place: f"{spread(pairs[place], 0)} pairs" for place in starts}
    return (
        f"Over {len(found)} starts the same weights have delta {at['all']} on all rows "
        f"({of['all']}), {at['resampled']} on resampled rows ({of['resampled']}) and "
        f"{at['bootstrap']} on a plain bootstrap ({of['bootstrap']}): rows drawn with replacement "
        "are some of the rows, so that delta over them cannot be larger, whatever the weights. "
        f"After the search, delta on all rows is {spread(true['all'], 1)} when searched on all, "
        f"{spread(true['resampled'], 1)} when searched on resampled rows and "
        f"{spread(true['bootstrap'], 1)} on the bootstrap."
    )


def surface(shown: Shown) -> str:
    """How far delta changes between neighbouring points of the plane."""
    (place,) = [key for key in shown.tensors if key[0] == "landscape"]
    tensors = shown.tensors[place]
    steps = {}
    for name in ("sigmoid", "released"):
        values = tensors[name].numpy()
        steps[name] = max(np.abs(np.diff(values, axis=k)).max() for k in (0, 1))
    delta, error = tensors["sigmoid"].numpy(), tensors["mse"].numpy()
    small = delta < 1
    text = (
        f"Between neighbouring points delta changes by at most {steps['sigmoid']:.2f} with the "
        f"sigmoid and by up to {steps['released']:.1f} with the released code's. With the sigmoid "
        "delta is the maximum of finitely many smooth functions: it has kinks and no spikes, and "
        "falls to 0 where w is 0 and where |b| is large: there the model says the same to all."
    )
    if small.any():
        text += (
            f" {100 * small.mean():.0f} % of this plane has delta below 1, with an MSE of at least "
            f"{error[small].min():.0f}; the least MSE on the plane is {error.min():.0f}."
        )
    return text
