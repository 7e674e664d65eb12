"""How fast the three hot spots are, against the plain way: the page docs/results/speed.md.

    python benchmarks/speed.py --page docs/results/speed.md     about ten minutes
    python benchmarks/speed.py --quick                          a minute, fewer rows and rounds

Every comparison is made in one process with its sides alternating (A, B, A, B, ...), so that
whatever else the machine does falls on both. A ratio is taken within each round; the page gives
the median of the rounds and their quartiles.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import nn

import retrofair as rf
from retrofair.debiasers import Random
from retrofair.debiasers.base import Best, clone, search
from retrofair.debiasers.perturbed import Flat
from retrofair.networks import logits, probabilities, probability
from retrofair.thresholds import ThresholdSearch

Array = np.ndarray[Any, Any]
Job = tuple[Callable[[], object], int]  # what to time, and how many times it does its work

ROWS, FEATURES = 9_000, 98
EPSILON = 0.05
OBJECTIVE = rf.Constrained("spd", epsilon=EPSILON)
GRID, BOOTSTRAPS = 501, 5
AUDIT_GROUPS = 9
FRAME_METRICS = {
    "accuracy": accuracy_score,
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
}
PHASES = ("noise", "forward", "probability", "threshold search")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int = 15
    trials: int = 100
    plain_rounds: int = 5
    vectors: int = 20
    audit_rows: int = 2_000_000
    audit_rounds: int = 3
    audits: int = 20
    resamples: tuple[int, int] = (1, 3)
    large: tuple[int, ...] = (9_000, 100_000, 1_000_000)
    epochs: int = 15


QUICK = Sizes(5, 20, 2, 3, 200_000, 2, 5, (1, 2), (9_000, 100_000), 8)


# --- timing ---------------------------------------------------------------------------------------


def interleaved(rounds: int, jobs: dict[str, Job], *, warm: bool = True) -> dict[str, Array]:
    """Seconds per unit of work of each job, (rounds,), the jobs alternating."""
    for work, _ in jobs.values() if warm else ():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (work, units) in jobs.items():
            started = time.perf_counter()
            work()
            seconds[name].append((time.perf_counter() - started) / units)
    return {name: np.array(values) for name, values in seconds.items()}


def show(seconds: Array, unit: str = "ms", digits: int = 2) -> str:
    """Median and quartiles."""
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    return f"{quartiles(seconds * scale, digits)} {unit}"


def quartiles(values: Array, digits: int = 2) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def verdict(met: bool, acceptable: bool = False) -> str:
    return "met" if met else "missed, within the least acceptable" if acceptable else "**missed**"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- data -----------------------------------------------------------------------------------------


def generated(rows: int, seed: int) -> rf.GroupedData:
    """Normal features of which ten matter; two groups that differ in three of these."""
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=rows)
    x = rng.standard_normal((rows, FEATURES)).astype(np.float32)
    x[:, :3] += 0.5 * (group[:, None] - 0.5)
    chance = 1 / (1 + np.exp(-(0.7 * x[:, :10].sum(axis=1) - 0.8)))
    y = (rng.random(rows) < chance).astype(np.int64)
    return rf.GroupedData(
        x=torch.from_numpy(x),
        y=torch.from_numpy(y),
        group=torch.from_numpy(group),
        group_names=("unprivileged", "privileged"),
    )


def scored(rows: int, groups: int, vectors: int = 1) -> tuple[Array, Array, list[Array]]:
    """Labels, groups and score vectors of rows that no network has seen: all scores distinct."""
    rng = np.random.default_rng(rows + groups)
    group = rng.integers(groups, size=rows)
    ability = rng.standard_normal(rows) + 0.1 * group
    y = (rng.random(rows) < 1 / (1 + np.exp(-1.5 * ability))).astype(np.int64)
    noise = rng.standard_normal((vectors, rows))
    return y, group, list(1 / (1 + np.exp(-ability - noise)))


def perturbed(net: nn.Module, data: rf.GroupedData, vectors: int) -> list[Array]:
    """The probabilities of random perturbations of the network."""
    model, generator = clone(net), torch.Generator().manual_seed(1)
    weights, found = Flat(model), []
    for _ in range(vectors):
        weights.scale_by([Random().noise(len(weights), generator)])
        found.append(probabilities(model, data))
    return found


# --- 1. a trial of random perturbation ------------------------------------------------------------


def trial(net: nn.Module, data: rf.GroupedData, sizes: Sizes) -> str:
    def passes() -> None:
        with torch.inference_mode():
            for _ in range(sizes.trials):
                net(data.x)

    def trials() -> None:
        generator = torch.Generator().manual_seed(0)
        Random(trials=sizes.trials)(net, data, OBJECTIVE, generator=generator)

    def on(threads: int, work: Callable[[], None]) -> Job:
        def run() -> None:
            torch.set_num_threads(threads)
            work()

        return run, sizes.trials

    before = torch.get_num_threads()
    rows, found, steps = [], {}, {}
    for threads in (1, 2):
        jobs = {"pass": on(threads, passes), "trial": on(threads, trials)}
        found[threads] = seconds = interleaved(sizes.rounds, jobs)
        rows.append(_trial_row(f"{threads}", f"{threads}", seconds["trial"], seconds["pass"]))
        steps[threads] = breakdown(net, data, sizes)
    jobs = {"pass": on(2, passes), "trial": on(1, trials)}
    crossed = interleaved(sizes.rounds, jobs)
    row = _trial_row("1, as `debias` runs it", "2", crossed["trial"], crossed["pass"])
    rows.append([*row[:-1], "none set"])
    torch.set_num_threads(before)
    head = ("threads: trial", "forward pass", "one trial", "one forward pass", "ratio", "target")
    parts = [[phase, *(show(steps[t][phase], "us", 0) for t in (1, 2))] for phase in PHASES]
    parts.append(["sum", *(show(sum(steps[t].values()), "us", 0) for t in (1, 2))])
    return (
        "## 1. One trial of `random`\n\n"
        f"{len(data):,} rows, {FEATURES} features, the papers' network of 10 x 32, spd with "
        f"epsilon {EPSILON}. A trial is a call of `Random(trials={sizes.trials})`, copying the "
        "network and scoring the original included, divided by the trials; the forward pass is "
        f"`net(x)` in inference mode, {sizes.trials} in a row. {sizes.rounds} rounds. Target: at "
        "most 1.5 times the forward pass; least acceptable 2.\n\n"
        + table(head, rows)
        + "\n\nWhere a trial goes, timed inside the loop (the scores change from trial to trial, "
        "and the forward pass empties the cache before each search, so that a step costs more "
        "here than repeated alone):\n\n"
        + table(("step", "1 thread", "2 threads"), parts)
        + "\n\n`debias` itself runs networks of this size on one thread: the first row is the one "
        "that counts. With two threads on two cores any other process stalls both sides, and these "
        "rows say little unless the machine is idle."
    )


def _trial_row(one: str, other: str, trials: Array, passes: Array) -> list[str]:
    ratio = float(np.median(trials / passes))
    return [
        one,
        other,
        show(trials),
        show(passes),
        quartiles(trials / passes),
        verdict(ratio <= 1.5, ratio <= 2),
    ]


def breakdown(net: nn.Module, data: rf.GroupedData, sizes: Sizes) -> dict[str, Array]:
    """Seconds of each step of a trial, (trials of all rounds,): the loop of `Random`, spelt out."""
    model, generator, method = clone(net), torch.Generator().manual_seed(0), Random()
    weights = Flat(model)
    best = Best.start(model, data, OBJECTIVE)
    clock, times = time.perf_counter, []
    for _ in range(sizes.rounds * sizes.trials):
        stamps = [clock()]
        weights.scale_by([method.noise(len(weights), generator)])
        stamps.append(clock())
        logit = logits(model, data)
        stamps.append(clock())
        chance = probability(logit)
        stamps.append(clock())
        best.thresholds.best(chance)
        stamps.append(clock())
        times.append(np.diff(stamps))
    return dict(zip(PHASES, np.array(times).T, strict=True))


# --- 2. the threshold step ------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainSearch:
    """The papers' search: a grid of thresholds, each judged on bootstraps of the rows.

    The bootstraps are drawn once, before the clock starts, and only the two rates that spd needs
    are computed; the papers' code draws anew at every threshold and computes six.
    """

    y: Array
    privileged: Array
    performance: Callable[[Array, Array], float]
    samples: Array
    lazy: bool = False  # as the papers' code: performance even where the bias is too large

    def __call__(self, probability: Array) -> float:
        thresholds = np.linspace(0, 1, GRID)
        return float(thresholds[np.argmax([self.mean(probability > t) for t in thresholds])])

    def mean(self, decided: Array) -> float:
        return float(np.mean([self.objective(decided, rows) for rows in self.samples]))

    def objective(self, decided: Array, rows: Array) -> float:
        y, decided, privileged = self.y[rows], decided[rows], self.privileged[rows]
        bias = decided[~privileged].mean() - decided[privileged].mean()
        if self.lazy and abs(bias) >= EPSILON:
            return 0.0
        good = self.performance(y, decided)
        return good if abs(bias) < EPSILON else 0.0


def numpy_balanced_accuracy(y: Array, decided: Array) -> float:
    positive = y == 1
    return float((decided[positive].mean() + 1 - decided[~positive].mean()) / 2)


def threshold(net: nn.Module, data: rf.GroupedData, sizes: Sizes) -> str:
    y, group = data.y.numpy(), data.group.numpy()
    samples = np.random.default_rng(0).integers(len(y), size=(BOOTSTRAPS, len(y)))
    plain = PlainSearch(y, group == 1, balanced_accuracy_score, samples)
    lean = PlainSearch(y, group == 1, numpy_balanced_accuracy, samples, lazy=True)
    exact = search(data, OBJECTIVE)
    vectors = perturbed(net, data, sizes.vectors)
    exact.best_of(vectors)
    chance = vectors[0]
    if plain(chance) != lean(chance):
        raise AssertionError("the two plain searches disagree")
    jobs: dict[str, Job] = {
        "exact": (lambda: exact.best_of(vectors), len(vectors)),
        "plain": (lambda: plain(chance), 1),
        "lean": (lambda: lean(chance), 1),
    }
    seconds = interleaved(sizes.plain_rounds, jobs, warm=False)
    rows = [["`ThresholdSearch.best`", show(seconds["exact"]), "", "", ""]]
    for name, what, target in (
        ("plain", "the papers' search, with scikit-learn", 1_000),
        ("lean", "the same with numpy alone, performance only where the bias allows", None),
    ):
        ratio = seconds[name] / seconds["exact"]
        aim = (f"{target:,}", verdict(np.median(ratio) >= target)) if target else ("none set", "")
        rows.append([what, show(seconds[name], digits=0), quartiles(ratio, 0), *aim])
    return (
        "## 2. The threshold step\n\n"
        f"{len(y):,} rows, two groups, probabilities of perturbations of the network above. The "
        f"papers' search tries {GRID} thresholds and judges each by the mean objective over "
        f"{BOOTSTRAPS} bootstraps of the rows; here the bootstraps are drawn once, outside the "
        "clock, which is cheaper than in the papers' code. The exact search tries the midpoint "
        f"between every two neighbouring scores on the rows themselves. {sizes.plain_rounds} "
        f"rounds; the exact search is averaged over {len(vectors)} score vectors in each.\n\n"
        + table(("search", "one score vector", "exact is faster by", "target", ""), rows)
        + "\n\n"
        + choices(exact, lean, vectors)
    )


def choices(exact: ThresholdSearch, plain: PlainSearch, vectors: list[Array]) -> str:
    """What the two searches choose, judged on the rows."""
    pairs = [(exact.best(p), exact.at(p, plain(p))) for p in vectors]
    score = np.array([[float(OBJECTIVE.score(c.counts)) for c in pair] for pair in pairs])
    rank = np.array([[c.rank for c in pair] for pair in pairs])
    if (rank[:, 0] < rank[:, 1]).any():
        raise AssertionError("a threshold of the grid beats the exact one")
    gap = np.array([abs(a.threshold - b.threshold) for a, b in pairs])
    broken = score[:, 1] == 0
    lost = (score[:, 0] - score[:, 1])[~broken]
    text = (
        f"The choices over these {len(pairs)} score vectors, judged on the rows: the exact one's "
        f"objective is at least as high in all {len(pairs)} (strictly higher in "
        f"{int((score[:, 0] > score[:, 1]).sum())}). The grid's threshold breaks the bound on the "
        f"rows, objective 0, in {int(broken.sum())}"
    )
    if len(lost):
        text += (
            f"; in the others it loses {np.median(lost):.4f} in the median and "
            f"{lost.max():.4f} at most"
        )
    return text + (
        f". The thresholds differ by {np.median(gap):.3f} in the median, {gap.max():.3f} at most. "
        "This is about the rows the threshold is chosen on; bootstraps also guard a little "
        "against choosing a threshold on the edge of the bound, which this page does not measure."
    )


# --- 3. the audit ---------------------------------------------------------------------------------


def audit(sizes: Sizes) -> str:
    n = sizes.audit_rows
    y, group, (chance,) = scored(n, AUDIT_GROUPS)
    y_hat = (chance > 0.5).astype(np.int64)

    def frame(**options: Any) -> MetricFrame:
        return MetricFrame(
            metrics=FRAME_METRICS, y_true=y, y_pred=y_hat, sensitive_features=group, **options
        )

    def audits() -> None:
        for _ in range(sizes.audits):
            rf.audit_predictions(y, y_hat, group)

    worst = disagreement(rf.audit_predictions(y, y_hat, group), frame())
    if worst > 1e-12:
        raise AssertionError(f"audit and MetricFrame differ by {worst}")
    jobs: dict[str, Job] = {
        "audit": (audits, sizes.audits),
        "frame": (frame, 1),
        "masks": (lambda: masks(y, y_hat, group), 1),
    }
    seconds = interleaved(sizes.audit_rounds, jobs, warm=False)
    rows = [
        ["`audit_predictions`: all measures, all intervals", show(seconds["audit"]), "", "", ""]
    ]
    ratio = seconds["frame"] / seconds["audit"]
    rows.append(
        [
            "`MetricFrame`: four metrics, no interval",
            show(seconds["frame"], "s"),
            quartiles(ratio, 0),
            "1,000",
            verdict(float(np.median(ratio)) >= 1_000),
        ]
    )
    ratio = seconds["masks"] / seconds["audit"]
    what = "boolean masks in numpy: the same four rates, no interval"
    rows.append([what, show(seconds["masks"], "ms", 0), quartiles(ratio, 0), "none set", ""])
    measured = len(rf.audit_predictions(y, y_hat, group).estimates)
    return (
        "## 3. The audit\n\n"
        f"{n:,} rows in {AUDIT_GROUPS} groups, integers of 64 bits. `audit_predictions` gives "
        f"{measured} measures and {len(rf.metrics.rates.ALL)} rates of each group, each with its "
        f"interval; {sizes.audits} audits in a row per round. fairlearn's `MetricFrame` gives "
        f"{', '.join(FRAME_METRICS)}, by group and overall. {sizes.audit_rounds} rounds. All "
        "rates, by group and overall, and the differences and ratios between groups agree to "
        f"{1e-12} (largest difference {worst:.1e}).\n\n"
        + table(("what", "once", "the audit is faster by", "target", ""), rows)
        + "\n\n"
        + bootstrapped(frame, float(np.median(seconds["audit"])), sizes.resamples)
    )


def disagreement(found: rf.Audit, frame: MetricFrame) -> float:
    """The largest difference of a number that both give."""
    pooled = found.counts.sum(axis=0)
    rates = {rate.name: rate for rate in rf.metrics.rates.ALL}
    gaps = []
    for name in FRAME_METRICS:
        for position, group in enumerate(found.group_names):
            gaps.append(found.groups[group][name].value - frame.by_group[name].iloc[position])
        gaps.append(float(rates[name](pooled[None])[0]) - frame.overall[name])
    differences, ratios = frame.difference(), frame.ratio()
    for ours, theirs in (
        ("demographic_parity_difference", differences["selection_rate"]),
        ("equal_opportunity_difference", differences["true_positive_rate"]),
        ("false_positive_rate_difference", differences["false_positive_rate"]),
        ("accuracy_difference", differences["accuracy"]),
        ("demographic_parity_ratio", ratios["selection_rate"]),
        ("equalized_odds_ratio", min(ratios["true_positive_rate"], ratios["false_positive_rate"])),
    ):
        gaps.append(found[ours].value - theirs)
    return float(np.max(np.abs(gaps)))


def masks(y: Array, y_hat: Array, group: Array) -> list[tuple[float, ...]]:
    """The four rates of each group and overall, as one would write them without a library."""
    everybody = np.ones(len(y), dtype=bool)
    found = []
    for rows in (everybody, *(group == code for code in range(AUDIT_GROUPS))):
        label, decided = y[rows], y_hat[rows]
        right, chosen = (label == decided).mean(), decided.mean()
        found.append((right, chosen, decided[label == 1].mean(), decided[label == 0].mean()))
    return found


def bootstrapped(
    frame: Callable[..., MetricFrame], audit_seconds: float, resamples: tuple[int, int]
) -> str:
    times = []
    for number in resamples:
        started = time.perf_counter()
        frame(n_boot=number, ci_quantiles=[0.025, 0.975], random_state=0)
        times.append(time.perf_counter() - started)
    slope = (times[1] - times[0]) / (resamples[1] - resamples[0])
    hundred = times[1] + (100 - resamples[1]) * slope
    return (
        f"With `MetricFrame`'s own bootstrap intervals, measured once each: {times[0]:.0f} s with "
        f"{resamples[0]} resample, {times[1]:.0f} s with {resamples[1]}, so {slope:.1f} s per "
        f"resample. Extrapolated linearly, not measured, 100 resamples take {hundred / 60:,.0f} "
        f"minutes, about {hundred / audit_seconds:,.0f} times the audit, and 1,000 take "
        f"{(hundred + 900 * slope) / 3600:,.1f} hours."
    )


# --- 4. larger searches ---------------------------------------------------------------------------


def larger(sizes: Sizes) -> str:
    rows = []
    for n, groups, vectors in (
        (sizes.large[0], 2, 32),
        (sizes.large[0], 9, 32),
        *((n, groups, 1) for n in sizes.large for groups in (2, 9)),
    ):
        y, group, chances = scored(n, groups, vectors)
        repeats = max(1, 100_000 // (n * vectors))
        jobs = {}
        for measure in ("spd", "aod"):
            finder = ThresholdSearch(y, group, groups, replace(OBJECTIVE, measure=measure))

            def run(finder: ThresholdSearch = finder) -> None:
                for _ in range(repeats):  # noqa: B023 - called within this turn of the loop
                    finder.best_of(chances)  # noqa: B023

            jobs[measure] = (run, repeats)
        seconds = interleaved(sizes.rounds, jobs)
        shown = [show(seconds[measure], "ms", 2 if n * vectors < 5e5 else 0) for measure in jobs]
        rows.append([f"{n:,}", f"{groups}", f"{vectors}", *shown])
    return (
        "## 4. Larger threshold searches, for the record\n\n"
        f"All score vectors of a row together, every distinct score a cut, {sizes.rounds} "
        "rounds; no target.\n\n" + table(("rows", "groups", "score vectors", "spd", "aod"), rows)
    )


# --- the page -------------------------------------------------------------------------------------


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("torch", "numpy", "scikit-learn", "fairlearn", "pandas")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{os.cpu_count()} cores, {models[0] if models else platform.machine()}; Python "
        f"{platform.python_version()}, {versions}, retrofair {rf.__version__}. Load average at the "
        f"start: {os.getloadavg()[0]:.1f} (figures with two threads suffer most from company)."
    )


def page(sizes: Sizes) -> str:
    torch.set_num_threads(1)
    train, data = generated(20_000, seed=0), generated(ROWS, seed=1)
    net = rf.networks.train_mlp(train, data, max_epochs=sizes.epochs)
    parts = [
        "# Speed",
        "Written by `python benchmarks/speed.py --page docs/results/speed.md`. Times depend on the "
        "machine and on what else it does, ratios less so: both sides of each ratio run in one "
        "process and alternate. Figures are medians over the rounds with their quartiles; a "
        "ratio is taken within each round first.",
        machine(),
    ]
    for part in (
        lambda: trial(net, data, sizes),
        lambda: threshold(net, data, sizes),
        lambda: audit(sizes),
        lambda: larger(sizes),
    ):
        parts.append(part())
        print(parts[-1], end="\n\n", flush=True)
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="write the page there")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    arguments = parser.parse_args()
    text = page(QUICK if arguments.quick else Sizes())
    if arguments.page:
        arguments.page.parent.mkdir(parents=True, exist_ok=True)
        arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
