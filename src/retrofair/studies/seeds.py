"""`seeds`: Table 1 of the post-hoc paper: how much bias changes with the initial weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from retrofair import metrics
from retrofair.debiasers.base import RARE
from retrofair.files import replacing
from retrofair.networks import Training
from retrofair.plots import COLOURS
from retrofair.studies import pages
from retrofair.studies.cells import PAPERS, Cell, NetworkCell
from retrofair.studies.run import Plan
from retrofair.studies.sources import Source

COLUMNS = ("aod", "eod", "spd", "accuracy", "balanced_accuracy")
# mean and standard deviation, as printed
PUBLISHED = {
    ("adult", "sex"): {
        "aod": (-0.084, 0.012),
        "eod": (-0.082, 0.017),
        "spd": (-0.198, 0.011),
        "accuracy": (0.855, 0.002),
    },
    ("bank", "age"): {
        "aod": (0.011, 0.027),
        "eod": (-0.009, 0.051),
        "spd": (0.047, 0.015),
        "accuracy": (0.901, 0.002),
    },
    ("compas", "race"): {
        "aod": (0.138, 0.017),
        "eod": (0.194, 0.027),
        "spd": (0.168, 0.016),
        "accuracy": (0.669, 0.006),
    },
}
ONE, OWN = "one split", "own split"
BIASES = ("aod", "eod", "spd")
WITHIN = {"compas": 0.02}  # how near to the published accuracy a repetition should come

ABOUT = """
Table 1 of Savani, White and Govindarajulu (2020, arXiv 2006.08564v1): bias and accuracy of the
papers' network (10 hidden layers of 32, ReLU, dropout 0.2, BatchNorm; Adam, patience 100) for ten
initial seeds, on test data, at threshold 0.5.

The paper probably keeps one split of the data: its logistic regression, which has no seed, has a
spread of 0.000 (its Table 3). *One split* repeats that: what differs from seed to seed is the
network alone. *Own split* also splits anew for every seed, so that its spread includes who happens
to be in the test data.

Known differences: the split's seed is not published, and all of the *one split* rows hang on it;
batch size and learning rate of the base network are not printed (here 256 and 0.001); *race* in
COMPAS is Caucasian against everybody else, as in AIF360's loader; spd, eod and aod are
unprivileged minus privileged, and the positive label of COMPAS is a new charge.
"""


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Networks of many seeds, with one split and with a split each."""

    sources: tuple[Source, ...] = tuple(Source(data, (group,)) for data, group in PUBLISHED)
    seeds: tuple[int, ...] = tuple(range(10))
    training: Training = PAPERS
    name: ClassVar[str] = "seeds"
    title: ClassVar[str] = "Bias against the initial seed (Table 1 of the post-hoc paper)"

    def cells(self) -> list[Cell]:
        return [cell for _, cell in self._networks()]

    def _networks(self) -> Iterator[tuple[str, NetworkCell]]:
        for seed in self.seeds:
            for source in self.sources:
                yield ONE, self._network(source, self.seeds[0], seed)
                if len(self.seeds) > 1:  # of a single seed, both would be the same network
                    yield OWN, self._network(source, seed, seed)

    def _network(self, source: Source, split: int, seed: int) -> NetworkCell:
        return NetworkCell(dataclasses.replace(source, split=split), seed, self.training)

    def frame(self, plan: Plan) -> pd.DataFrame:
        """One row per network that is stored: measures on test data with their intervals."""
        rows = []
        for split, cell in self._networks():
            record = plan.record(cell)
            row = {
                "data": cell.source.to_dict()["data"],
                "sensitive": cell.source.groups,
                "split": split,
                "seed": cell.seed,
                "state": "missing" if record is None else record["status"],
            }
            if record is not None and record["status"] == "done":
                row |= network_row(record["answer"]) | {"seconds": record["seconds"]}
            rows.append(row)
        return pd.DataFrame(rows)

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        frame = self.frame(plan)
        written = [pages.write_table(folder / f"{self.name}.csv", frame)]
        done = frame[frame["state"] == "done"]
        picture = ""
        if not done.empty:
            written.append(draw(done, folder / f"{self.name}.png"))
            picture = f"![Bias and accuracy of each network]({self.name}.png)"
        parts = [ABOUT, pages.provenance(plan), picture]
        if not done.empty:
            parts += ["## Mean +- standard deviation over seeds", _table(done), _findings(done)]
        written.append(pages.write_page(folder / f"{self.name}.md", self.title, *parts))
        return written


def network_row(answer: dict[str, Any]) -> dict[str, float]:
    """Measures of a network's decisions on test data, and the constant classifier's accuracy."""
    counts = np.array(answer["test"])
    row: dict[str, float] = {"rows": int(counts.sum())}
    for name in BIASES:
        measure = metrics.get(name)
        row[name] = float(measure(counts))
        row[f"{name}_low"], row[f"{name}_high"] = measure.interval(counts)
    for name in ("accuracy", "balanced_accuracy"):
        row[name] = float(metrics.get_performance(name)(counts))
    row["roc_auc"] = answer["roc_auc"][0]
    labels = counts.sum(axis=(0, 2))
    row["constant_accuracy"] = float(labels.max() / labels.sum())
    row["predicted_positive"] = float(counts[..., 1].sum() / counts.sum())
    return row


def _table(done: pd.DataFrame) -> str:
    header = ["data", "", "n", *(name.replace("_", " ") for name in COLUMNS), "largest spread"]
    lines = []
    for (data, sensitive), part in done.groupby(["data", "sensitive"], sort=False):
        title = pages.plain(f"{data} ({sensitive})")
        for split, group in part.groupby("split", sort=False):
            values = [pages.spread(group[name]) for name in COLUMNS]
            lines.append([title, f"ours, {split}", str(len(group)), *values, _ratio(group)])
            constant = pages.spread(group["constant_accuracy"])
            name = f"constant classifier, {split}"
            lines.append([title, name, "", "0", "0", "0", constant, "0.500", ""])
        published = PUBLISHED.get((str(data), str(sensitive)))
        if published:
            texts = [
                f"{published[c][0]:.3f} +- {published[c][1]:.3f}" if c in published else ""
                for c in COLUMNS
            ]
            most = max(published[c][1] for c in BIASES) / published["accuracy"][1]
            lines.append([title, "published", "10", *texts, f"{most:.1f} x"])
    return (
        pages.table(header, lines)
        + "\n\n*Largest spread*: the largest of the three biases' standard deviations, over "
        "accuracy's, with a 90 % bootstrap interval over seeds."
    )


def _ratio(group: pd.DataFrame) -> str:
    """The largest bias's spread over accuracy's, and how unsure so few seeds leave it."""
    if len(group) < 2 or not group["accuracy"].std(ddof=1) > 0:
        return "-"
    rng = np.random.default_rng(0)
    values = group[[*BIASES, "accuracy"]].to_numpy()
    drawn = values[rng.integers(len(values), size=(2000, len(values)))].std(axis=1, ddof=1)
    drawn = drawn[drawn[:, -1] > 0]
    low, high = np.percentile(drawn[:, :-1].max(axis=1) / drawn[:, -1], [5, 95])
    spreads = values.std(axis=0, ddof=1)
    return f"{spreads[:-1].max() / spreads[-1]:.1f} x ({low:.1f} to {high:.1f})"


def _findings(done: pd.DataFrame) -> str:
    lines = []
    for (data, sensitive), part in done.groupby(["data", "sensitive"], sort=False):
        one = part[part["split"] == ONE]
        if len(one) < 2 or not one["accuracy"].std(ddof=1) > 0:
            continue
        spreads = ", ".join(
            f"{name} {one[name].std(ddof=1) / one['accuracy'].std(ddof=1):.1f} x" for name in BIASES
        )
        width = ((one["spd_high"] - one["spd_low"]) / 2).median()
        text = (
            f"{pages.plain(f'{data} ({sensitive})')}, one split, spread over that of accuracy: "
            f"{spreads}. The 95 % interval of one network's spd from "
            f"{int(one['rows'].median()):,} test rows is +-{width:.3f}."
        )
        dead = one[one["predicted_positive"].clip(upper=1 - one["predicted_positive"]) < RARE]
        if len(dead):
            text += f" **{len(dead)} of {len(one)} networks decide alike for everybody.**"
        published = PUBLISHED.get((str(data), str(sensitive)))
        if published:
            wanted = WITHIN.get(str(data), 0.01)
            for split, group in part.groupby("split", sort=False):
                off = group["accuracy"].mean() - published["accuracy"][0]
                verdict = "within" if abs(off) <= wanted else "**not** within"
                text += f" Accuracy, {split}: {off:+.3f} beside the published, {verdict} {wanted}."
        lines.append(text)
    if not lines:
        return ""
    lines.append(
        "The paper's finding, a spread of bias an order of magnitude above that of accuracy, is "
        "about these ratios. A part of it is arithmetic: a bias compares rates in groups, of which "
        "the smaller has few rows (given the label, fewer still), accuracy is a mean over all."
    )
    return "## What it shows\n\n" + "\n".join(f"- {line}" for line in lines)


def draw(done: pd.DataFrame, path: Path) -> Path:
    """Each network's biases and accuracy about their mean: the spreads to one scale."""
    settings = list(dict.fromkeys(zip(done["data"], done["sensitive"], strict=True)))
    figure = Figure(figsize=(4.6 * len(settings), 4.2), layout="constrained")
    axes = np.asarray(figure.subplots(1, len(settings), squeeze=False, sharey=True))[0]
    for axis, (data, sensitive) in zip(axes, settings, strict=True):
        here = done[(done["data"] == data) & (done["sensitive"] == sensitive)]
        for at, name in enumerate(("aod", "eod", "spd", "accuracy")):
            for shift, split, marker in ((-0.15, ONE, "o"), (0.15, OWN, "^")):
                values = here[here["split"] == split][name]
                axis.plot(
                    np.full(len(values), at + shift),
                    values - values.mean(),
                    marker,
                    color=COLOURS[at],
                    fillstyle="full" if split == ONE else "none",
                    markersize=6,
                    alpha=0.8,
                )
        axis.axhline(0, color="#999999", linewidth=0.8)
        axis.set_xticks(range(4), ["AOD", "EOD", "SPD", "accuracy"])
        axis.set_title(f"{data} ({sensitive})")
        axis.grid(axis="y", color="#EEEEEE")
    axes[0].set_ylabel("each network, less the mean of all")
    figure.suptitle("filled: one split; open: a split per seed", fontsize=9)
    with replacing(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "retrofair"}):
        figure.savefig(temporary, dpi=110)
    return path


SEEDS = Seeds()
