"""What `fairnn` shows, in sentences that are read from the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retrofair.studies.fairnn.descent import JUMP, jump_of, kept
from retrofair.studies.fairnn.methods import ALGORITHM, BEST, CONSTANT, ONE, PAIRS, PEOPLE
from retrofair.studies.fairnn.model import FLAT, TOOTH
from retrofair.studies.fairnn.shown import (
    OPEN,
    PUBLISHED,
    PUBLISHED_RANGE,
    PUBLISHED_START,
    Setting,
    Shown,
)
from retrofair.studies.fairnn.tables import below_constant, improvement
from retrofair.studies.pages import plain, spread

By = dict[str, pd.DataFrame]


def findings(shown: Shown, done: pd.DataFrame, setting: Setting) -> Iterator[str]:
    """Sentences from the numbers; what is not there is not spoken of."""
    if len(done):
        yield _asked(done, setting)
        by = _by(done[done["model"] == FLAT])
        yield from _useless(by)
        yield from _trained(by)
        if {ONE, ALGORITHM, BEST} <= set(by):
            yield sixty(by)
        yield from _searches(by)
        yield from _deep(done)
        for model, part in done.groupby("model", sort=False):
            yield from people(str(model), _by(part))
    yield from _resampling(shown)
    yield from _saw(shown, setting)


def _by(part: pd.DataFrame) -> By:
    return {str(name): runs for name, runs in part.groupby("method", sort=False)}


def _asked(done: pd.DataFrame, setting: Setting) -> str:
    runs = done.groupby("model", sort=False)["seed"].agg("nunique")
    seeds = "; ".join(f"{model}: {_count(n, 'seed')}" for model, n in runs.items())
    tiers = ", ".join(f"{n} {tier}" for tier, n in done["certified_tier"].value_counts().items())
    return (
        f"{done['fold'].nunique()} folds ({seeds}); epsilon = {setting.problem.epsilon:g}; "
        f"{_pairs(done)}. Certificates by tier: {tiers}; the time limit ended "
        f"{(done['certified_stopped'] == 'time').sum()} of {len(done)}."
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _pairs(runs: pd.DataFrame) -> str:
    return (
        f"{spread(runs['pairs_train'], 0)} similar pairs among the training rows, "
        f"{spread(runs['pairs_test'], 0)} among the test rows"
    )


def certified(runs: pd.DataFrame) -> str:
    """The mean of what was proved; where certificates stay open, from what was found."""
    upper = spread(runs["certified_upper"], 1)
    if runs["certified_gap"].max() <= OPEN:
        return upper
    return f"from {spread(runs['certified_lower'], 1)} to {upper}"


def _useless(by: By) -> Iterator[str]:
    """What the framework's models cost."""
    if not {ALGORITHM, CONSTANT} <= set(by):
        return
    framework = by[ALGORITHM]
    below = below_constant(framework)
    yield (
        f"Algorithm 1's models have a squared error of {spread(framework['mse_test'], 0)}, where "
        f"the constant model (delta 0) has {spread(by[CONSTANT]['mse_test'], 0)}: {below} of "
        f"{len(framework)} are better than saying the mean to everybody."
        + ("" if below else " Smaller delta alone is no achievement.")
    )


def _reached(runs: pd.DataFrame) -> str:
    return (
        f"MSE {spread(runs['mse_test'], 1)}, test rows {spread(runs['delta_test'], 2)}, certified "
        f"{certified(runs)}"
    )


def _trained(by: By) -> Iterator[str]:
    texts = [
        f"{plain(name).removeprefix(f'{PAIRS}, ')}: {_reached(runs)}"
        for name, runs in by.items()
        if name.startswith(f"{PAIRS},")
    ]
    if texts and ALGORITHM in by:
        yield (
            "Training on lambda * MSE + (1 - lambda) * delta reaches "
            + "; ".join(texts)
            + f". Algorithm 1: {_reached(by[ALGORITHM])}."
        )


def sixty(by: By) -> str:
    """Whether the paper's average improvement holds."""
    framework, base = by[ALGORITHM], by[ONE]
    rows, drawn = (improvement(runs, "test") for runs in (framework, by[BEST]))
    known = int(rows.notna().sum())
    text = '"About 60 % improvement" over one random draw: '
    if known:
        where = "On rows" if known == len(rows) else f"On rows, in the {known} of {len(rows)} runs"
        where += "" if known == len(rows) else " that have similar test rows,"
        text += (
            f"{spread(rows, 0)} % on rows that were not used ({spread(drawn, 0)} % from taking the "
            f"best of the draws alone). {where} it {'holds' if rows.mean() >= 50 else 'does not'}"
            f"{'' if rows.mean() >= 50 else ' hold'}. "
        )
    else:
        text += "undefined on rows that were not used: no similar test rows. "
    if max(runs["certified_gap"].max() for runs in (framework, base)) > OPEN:
        text += "Over the domain it is open. "
    else:
        share = 100 * (1 - framework["certified_upper"].mean() / base["certified_upper"].mean())
        text += f"Over the domain it is {share:.0f} % (certified)"
        if known and share < rows.mean() / 2:
            text += (
                ", less than half of that: delta over rows does not see where no two rows are "
                "similar, and the steep part of the sigmoid can lie there"
            )
        text += ". "
    return text + "A constant model, of delta 0, improves by 100 %."


def _searches(by: By) -> Iterator[str]:
    names = [name for name in by if "equal budget" in name or name in (ALGORITHM, BEST)]
    if len(names) > 1:
        texts = [
            f"{plain(name)} {spread(by[name]['delta_train'], 2)} (certified {certified(by[name])})"
            for name in sorted(names, key=lambda name: by[name]["delta_train"].mean())
        ]
        yield "Delta over the training rows, which all of these minimise: " + "; ".join(texts) + "."


def _deep(done: pd.DataFrame) -> Iterator[str]:
    """Models with hidden layers, whose certificates may stay open."""
    deep = done[(done["model"] != FLAT) & done["method"].str.startswith(f"{PAIRS},")]
    for model, part in deep.groupby("model", sort=False):
        texts = [
            f"{plain(name).removeprefix(f'{PAIRS}, ')}: MSE {spread(runs['mse_test'], 1)}, test "
            f"rows {spread(runs['delta_test'], 2)} (training rows "
            f"{spread(runs['delta_train'], 2)}), certified {certified(runs)}"
            for name, runs in _by(part).items()
        ]
        yield (
            f"With {model}, training reaches "
            + "; ".join(texts)
            + f". Those are largest differences of different numbers of pairs: {_pairs(part)}."
        )


def people(model: str, by: By) -> Iterator[str]:
    """`train_individually_fair` beside training on pairs of rows, at the same lambda."""
    texts = []
    smaller = better = total = 0
    for name, runs in by.items():
        how, _, lam = name.partition(", ")
        other = by.get(f"{PAIRS}, {lam}")
        if how != PEOPLE or other is None:
            continue
        texts.append(f"{lam}: {_reached(runs)} (pairs of rows: {_reached(other)})")
        both = runs.merge(other, on=["seed", "fold"], suffixes=("", "_other"))
        # proved: its upper bound against what was found for the other
        smaller += int((both["certified_upper"] < both["certified_lower_other"]).sum())
        better += int((both["mse_test"] < both["mse_test_other"]).sum())
        total += len(both)
    if texts:
        yield (
            f"{plain(PEOPLE)}, which compares each training row with the worst person similar to "
            f"it instead of with similar rows, {model}: "
            + "; ".join(texts)
            + f". Its certified delta is smaller, by proof, in {smaller} of {total} runs, its "
            f"squared error in {better}."
        )


def _resampling(shown: Shown) -> Iterator[str]:
    found = shown.all("descent")
    if not found:
        return
    ends, errors = {}, {}
    for place in ("all", "resampled"):
        traces = [values["sigmoid"][place] for values in found]
        best = [int(np.argmin(trace["seen"])) for trace in traces]
        ends[place] = [trace["seen"][k] for trace, k in zip(traces, best, strict=True)]
        errors[place] = [trace["mse"][k] for trace, k in zip(traces, best, strict=True)]
        if place == "resampled":
            true = [trace["true"][k] for trace, k in zip(traces, best, strict=True)]
    jumps = {
        name: sum(jump_of(values[name]["all"]["seen"]) is not None for values in found)
        for name in ("sigmoid", "released")
    }
    yield (
        f"Resampling, over {len(found)} starts: the search then sees a smallest delta of "
        f"{spread(ends['resampled'], 1)}, which on all rows is {spread(true, 1)} (MSE "
        f"{spread(errors['resampled'], 0)}); searched on all rows it is {spread(ends['all'], 1)} "
        f"(MSE {spread(errors['all'], 0)}; the constant model {found[0]['constant_mse']:.0f})."
    )
    yield (
        f"The simulated gradient jumps (to more than {JUMP:g} times its smallest delta) from "
        f"{jumps['sigmoid']} of {len(found)} starts with the sigmoid, and from "
        f"{jumps['released']} with the released code's, on all rows."
    )


def _saw(shown: Shown, setting: Setting) -> Iterator[str]:
    """What speaks for the paper's Figure 5 having been made with the saw, and what against."""
    found = [v for v in shown.all("descent") if "weights of the released code" in v]
    if not found or not setting.published:
        return
    traces = found[0]["weights of the released code"]
    seen = traces["released"]["seen"]
    tooth = TOOTH * setting.range
    (_, start), (best, least), (jump, _) = PUBLISHED["all"]
    same = (kept(seen), jump_of(seen), f"{seen[kept(seen)]:.2f}") == (best, jump, f"{least:.2f}")
    yield (
        f"The weights in the released code have delta {seen[0]:.2f} by the released code's sigmoid "
        f"(published for the start of Figure 5: around {start:g}), and "
        f"{traces['sigmoid']['seen'][0]:.2f} by the sigmoid. By that saw every delta is at most "
        f"{tooth:.3g}, the height of a tooth, or at least {setting.range - tooth:.3g}, its jump at "
        f"5. {_small(shown, tooth)}{_steps(seen)} The published curve ({least:g} at epoch {best}, "
        f"a jump at epoch {jump}) is {'met' if same else 'not reproduced'}: that Figure 5 was made "
        "with the saw is a reading that its small deltas and its jump suggest, and no more. The "
        f"{PUBLISHED_START} of Figure 4 cannot have come from it, nor can most of Figure 3's range "
        f"from {PUBLISHED_RANGE[0]:g} to {PUBLISHED_RANGE[1]:g}."
    )


def _small(shown: Shown, tooth: float) -> str:
    """How much a small delta of the saw says: they are all alike."""
    every: list[Any] = [v for values in shown.all("starts") for v in values["released"]]
    for values in shown.all("descent"):
        every += values["released"]["all"]["seen"]
    small = [value for value in every if value <= tooth]
    if not small:
        return ""
    low, high = np.percentile(small, (5, 95))
    return (
        f"Of the {len(small)} below that jump, of draws and on the way of searches, 90 % are from "
        f"{low:.1f} to {high:.1f}: that one of them is near the published start proves little. "
    )


def _steps(seen: list[float]) -> str:
    """Where the simulated gradient goes from the released weights, as the saw sees it."""
    first, best = jump_of(seen), kept(seen)
    if first is None:
        return (
            f"From these weights the simulated gradient does not jump; its smallest delta is "
            f"{seen[best]:.2f}, at epoch {best}."
        )
    after = min(seen[first:])
    stays = f"and stays at {after:.1f} or more" if after > JUMP * seen[best] else "and comes back"
    return (
        f"From these weights the simulated gradient by the saw jumps at epoch {first}, to "
        f"{seen[first]:.2f}, {stays}."
    )
