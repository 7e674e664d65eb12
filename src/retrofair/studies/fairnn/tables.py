"""The tables of `fairnn`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retrofair.studies.fairnn.cells import CERTIFIED, SWEEP
from retrofair.studies.fairnn.descent import jump_of, kept
from retrofair.studies.fairnn.methods import CONSTANT, ONE
from retrofair.studies.fairnn.shown import (
    OPEN,
    PUBLISHED_RANGE,
    PUBLISHED_START,
    SQUASHED,
    Setting,
    Shown,
    numbers,
)
from retrofair.studies.pages import plain, spread, table

TRACES = 3  # starts whose traces have a line each


def improvement(runs: pd.DataFrame, part: str) -> pd.Series:
    """In per cent of the mean delta of the same fold's random draws; nan without similar rows."""
    found: pd.Series = 100 * (1 - runs[f"delta_{part}"] / runs[f"draws_{part}"])
    return found


def below_constant(runs: pd.DataFrame) -> int:
    """Runs whose squared error is smaller than the constant model's, and not by rounding."""
    return int((runs["mse_test"] < runs["constant_mse"] * (1 - 1e-6)).sum())


def methods(part: pd.DataFrame) -> str:
    """A row per method."""
    lines = []
    for name, runs in part.groupby("method", sort=False):
        lines.append(
            [
                plain(str(name)),
                f"{len(runs)}",
                spread(runs["delta_train"], 2),
                spread(runs["delta_test"], 2),
                spread(runs["certified_lower"], 2),
                spread(runs["certified_upper"], 2),
                f"{100 * runs['certified_gap'].max():.1f} %",
                "/".join(sorted(set(runs["certified_tier"]))),
                spread(runs["mse_test"], 1),
                f"{below_constant(runs)}",
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
        base = part[part["method"] == ONE]
        for name, runs in part.groupby("method", sort=False):
            texts = [spread(improvement(runs, p), 0) for p in ("train", "test")]
            lines.append(
                [
                    str(model),
                    plain(str(name)),
                    *texts,
                    certified_improvement(runs, base),
                    spread(runs["mse_test"], 1),
                ]
            )
    header = ["model", "method", "training rows, %", "test rows, %", "certified, %"]
    return table([*header, "MSE, test rows"], lines)


def certified_improvement(runs: pd.DataFrame, base: pd.DataFrame) -> str:
    """Of the means of upper bounds, in per cent of the base's; open where gaps decide it."""
    if not len(base):
        return "-"
    upper, most = runs["certified_upper"].mean(), base["certified_upper"].mean()
    # a proved delta next to 0 is an improvement by all of it, however open the base is
    nothing = upper <= 1e-3 * base["certified_lower"].mean()
    gap = max(runs["certified_gap"].max(), base["certified_gap"].max())
    return f"{100 * (1 - upper / most):.0f}" if gap <= OPEN or nothing else "open"


def epsilons(shown: Shown) -> str:
    lines = []
    for seed, values in shown.seeds("sweep").items():
        for epsilon, found in zip(CERTIFIED, values["certificates"], strict=True):
            at = SWEEP.index(epsilon)
            rows = [float(numbers(values[name])[at]) for name in SQUASHED]
            texts = ["undefined" if np.isnan(value) else f"{value:.2f}" for value in rows]
            bounds = [f"{found[end]:.2f}" for end in ("lower", "upper")]
            line = [f"seed {seed}", f"{epsilon:g}", f"{values['pairs'][at]:,}", *texts, *bounds]
            lines.append([*line, f"{values['mse']:.0f}"])
    constant = shown.all("sweep")[0]["constant_mse"]
    lines.append([CONSTANT, "any", "", *["0.00"] * 4, f"{constant:.0f}"])
    header = ["draw", "epsilon", "pairs", "rows", "rows, released code's sigmoid"]
    return table([*header, "certified: at least", "at most", "MSE"], lines)


def draws(shown: Shown, setting: Setting) -> str:
    found = shown.seeds("starts")
    lines = []
    if setting.published:
        low, high = PUBLISHED_RANGE
        ends = [f"close to {low:g}", f"over {high:g}"]
        lines.append(["published", "", f"{PUBLISHED_START} (one)", *ends, "", ""])
    for seed, values in found.items():
        upper, mse = [c["upper"] for c in values["certificates"]], values["mse"]
        for name, label in SQUASHED.items():
            delta = numbers(values[name])
            best = int(np.argmin(delta))
            lines.append(
                [
                    f"seed {seed}, {label}",
                    f"{len(delta)}",
                    *(f"{value:.1f}" for value in (delta.mean(), delta.min(), delta.max())),
                    f"{np.mean(upper):.1f} (best draw {upper[best]:.1f})",
                    f"{np.mean(mse):.0f} (best draw {mse[best]:.0f})",
                ]
            )
    constant = next(iter(found.values()))["constant_mse"]
    lines.append([CONSTANT, "", *["0.0"] * 4, f"{constant:.0f}"])
    header = ["", "draws", "mean delta, rows", "smallest", "largest", "certified at most, mean"]
    return table([*header, "MSE"], lines) + (
        "\n\nCertificates and errors are those of the same weights with the sigmoid; the best draw "
        "is the one with the smallest delta of its own line."
    )


def seen(shown: Shown) -> str:
    """Improvement of Algorithm 1 on all rows, in its own eyes and in truth."""
    found = shown.all("descent")
    lines = []
    for squash, label in SQUASHED.items():
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
    lines.append([CONSTANT, "all", "", "100", "100", f"{found[0]['constant_mse']:.0f}"])
    header = ["searched with", "rows", "starts", "improvement seen, %", "true, %", "MSE"]
    return table(header, lines)


def traces(shown: Shown, setting: Setting) -> str:
    lines = []
    if setting.published:
        lines += [
            [
                "published",
                "all",
                "around 6.6",
                "",
                "6.18 (epoch 7)",
                "",
                "44.75 at epoch 10",
                "",
                "",
            ],
            ["published", "resampled", "around 6.0", "", "not given (epoch 5)", *[""] * 4],
        ]
    for label, trace, place, certificates in _traces(shown, setting):
        history = trace["seen"]
        best = kept(history)
        first = jump_of(history)
        bounds = [f"{found['upper']:.1f}" for found in certificates] or ["", ""]
        lines.append(
            [
                label,
                place,
                f"{history[0]:.2f} (true {trace['true'][0]:.2f})",
                bounds[0],
                f"{history[best]:.2f} (epoch {best}; true {trace['true'][best]:.2f})",
                bounds[1],
                "none" if first is None else f"{history[first]:.2f} at epoch {first}",
                f"{np.max(trace['lengths']):.2f}",
                f"{trace['mse'][0]:.0f}, {trace['mse'][best]:.0f}",
            ]
        )
    constant = shown.all("descent")[0]["constant_mse"]
    lines.append([CONSTANT, "all", "0.00", "0.0", "0.00", "0.0", "none", "", f"{constant:.0f}"])
    header = ["start", "rows", "delta at the start", "certified at most"]
    header += ["best before a jump", "certified at most", "first jump", "longest step"]
    return table([*header, "MSE: start, best"], lines)


def _traces(
    shown: Shown, setting: Setting
) -> Iterator[tuple[str, dict[str, Any], str, list[dict[str, Any]]]]:
    """A label, the trace, its rows, and the certificates of its start and best, where there are."""
    found = shown.seeds("descent")
    if setting.published:
        for values in list(found.values())[:1]:
            for name, trace in values.get("weights of the released code", {}).items():
                yield f"released weights, {SQUASHED[name]}", trace, "all", []
    for seed, values in list(found.items())[:TRACES]:
        for name, label in SQUASHED.items():
            for place in ("all", "resampled"):
                certified = (name, place) == ("sigmoid", "all")
                ends = [values["certificates"][end] for end in ("start", "best")]
                yield f"seed {seed}, {label}", values[name][place], place, ends if certified else []


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
    for name in SQUASHED:
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
            f"{error[small].min():.0f}; the least MSE on the plane is {error.min():.0f}, and "
            f"{error[0].min():.0f} among its constant models (w = 0)."
        )
    return text
