"""`coefficients`: Figure 2 of the post-hoc paper, which weights the bias depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from retrofair.files import replacing
from retrofair.metrics import Array
from retrofair.networks import Training
from retrofair.plots import COLOURS, MARKERS
from retrofair.studies import linear
from retrofair.studies.cells import PAPERS, Cell, NetworkCell
from retrofair.studies.pages import provenance, spread, table, write_page, write_table
from retrofair.studies.perturbation import PerturbationCell
from retrofair.studies.run import Plan
from retrofair.studies.sources import Source

ADULT = Source("adult", ("sex",))
PUBLISHED = "0.861 +- 0.090"
STACKS = 200
TENSORS = {"ridge": "coefficients", "permuted": "permuted", "gradient": "gradient"}
KINDS = {
    "ridge": "ridge",
    "permuted": "ridge, permuted biases",
    "gradient": "mean gradient",
    "random": "random vectors",
}
SHARES = ("top_1", "top_5", "top_10", "for_50", "for_90")
HEADER = ("largest 1 %", "5 %", "10 %", "needed for half", "for 90 %")

ABOUT = """
Figure 2 and Appendix A of Savani, White and Govindarajulu (2020, arXiv 2006.08564v1): the weights
of each network are multiplied by random factors many times, a linear model explains the bias on
test data by the factors, and its coefficients are to say which weights the bias depends on, and
whether these are the same in another network.

Known differences: the paper names neither the data set nor the linear model, nor says whether its
R^2 is in sample or held out. Its number stands beside ours, and can be compared with none of them.
Test data explain here, and choose nothing.
"""
LINEAR = """
- *In sample*, R^2 is 1 for anything as soon as there are as many coefficients as samples, permuted
  biases included; a penalty lowers it at will.
- *Held out*, ridge regression tells whether there is something to learn, not how linear the bias
  is. Were the bias exactly linear, {ceiling:.3f} would be expected: {samples:,} samples of a
  training part span no larger part of {weights:,} dimensions.
- *The mean gradient* needs no regression. For normal factors it is the best linear model (Stein's
  lemma). It comes from backpropagation at other factors, with a steep sigmoid in place of the
  threshold; a slope and an intercept are fitted. Its R^2 is a lower bound of the share of the
  bias's variance that is linear in the factors.
"""
FEW = """
A squared coefficient is the weight's part of the linear variance. Those of a regression cannot tell
how few matter: most of their length is noise spread over all weights, so that their shares resemble
those of permuted biases, and a tenth of pure noise carries 44 %. The two halves of the gradient,
each from its own factors, have a cosine of {reliability}. Held-out R^2 of k weights:
"""
CURVE = """
Correlation chooses in the training part, and least squares are fitted to the chosen. What is above
the permuted column is real; it is a lower bound, as some are chosen by chance. The gradient chooses
without any trial.
"""
ALIKE = """
Means over stacks, of permuted biases and of random vectors. The paper reads values near 1 as
weights that matter in one network only; random vectors of so many dimensions have them too.
Networks with the very same coefficients would have a largest value of only about {alike:.2f} in
regressions as noisy as these, not {same:.2f}. The gradient has little noise; but hidden units have
no order, so that a network would count as unlike itself with its units permuted. Layers can be
compared, by their share of the squares, below.
"""


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Ten networks of one split, and whether few weights decide their bias.

    The networks differ by their seed alone; each has its own perturbations.

    Args:
        trials, scale: of the perturbations.
    """

    source: Source = ADULT
    seeds: tuple[int, ...] = tuple(range(10))
    training: Training = PAPERS
    trials: int = 1000
    scale: float = 0.1
    name: ClassVar[str] = "coefficients"
    title: ClassVar[str] = "Which weights the bias depends on (Figure 2 of the post-hoc paper)"

    def cell(self, seed: int) -> PerturbationCell:
        network = NetworkCell(self.source, seed, self.training)
        return PerturbationCell(network, trials=self.trials, scale=self.scale, seed=seed)

    def cells(self) -> list[Cell]:
        return [self.cell(seed) for seed in self.seeds]

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        """`coefficients.csv` with a row per network, `coefficients.png` and `coefficients.md`."""
        found = [Found.of(plan, self.cell(seed)) for seed in self.seeds]
        done = [each for each in found if each.state == "done"]
        rows = pd.DataFrame([each.row() for each in found])
        written = [write_table(folder / f"{self.name}.csv", rows)]
        parts = [ABOUT, provenance(plan)]
        if len(done) < len(found):
            absent = len(found) - len(done)
            parts.append(f"**{absent} of {len(found)} networks are left out**: failed or not run.")
        if done:
            stacks = stacked(done)
            written.append(draw(done, stacks, folder / f"{self.name}.png"))
            parts += page(self, done, stacks)
        written.append(write_page(folder / f"{self.name}.md", self.title, *parts))
        return written


@dataclass(frozen=True, eq=False)
class Found:
    """One network's stored analysis; empty where it failed or did not run."""

    seed: int
    state: str
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, cell: PerturbationCell) -> Found:
        key, record = plan.key(cell), plan.record(cell)
        if record is None or not plan.store.done(key):
            failed = record is not None and record["status"] == "failed"
            return cls(cell.seed, "failed" if failed else "missing")
        return cls(cell.seed, "done", record["answer"], plan.store.tensors(key))

    def vectors(self, kind: str) -> Array:
        """Unit-length coefficients of a kind, (m, p) with one row, or one per permutation."""
        return np.atleast_2d(self.tensors[TENSORS[kind]].double().numpy())

    def row(self) -> dict[str, Any]:
        """The network as a row of the table: R^2 by model, shares by kind of coefficient."""
        row: dict[str, Any] = {"seed": self.seed, "state": self.state}
        if self.state != "done":
            return row
        v = self.values
        row["weights"] = sum(size for _, size in v["parameters"])
        row |= {name: v[name] for name in ("rows", "bias", "bias_mean", "bias_std", "ceiling")}
        for model in ("in_sample", "ridge_in_sample", "held_out", "gradient"):
            null = v[f"{model}_permuted"]
            row[f"r2_{model}"] = v[model]
            row |= {f"r2_{model}_permuted": np.mean(null), f"r2_{model}_permuted_max": max(null)}
        row["gradient_reliability"] = v["gradient_reliability"]
        for i, k in enumerate(v["sizes"]):
            row[f"r2_best_{k}"] = v["screened"][i]
            row[f"r2_best_{k}_permuted"] = np.mean(v["screened_permuted"][i])
            row[f"r2_gradient_{k}"] = v["along"][i]
        for share in SHARES:
            row[f"{share}_ridge"] = v["shares"][share]
            row[f"{share}_permuted"] = np.mean([null[share] for null in v["shares_permuted"]])
            row[f"{share}_gradient"] = v["shares_gradient"][share]
        return row


def stacked(done: list[Found]) -> dict[str, Array]:
    """Singular values of the networks' coefficients by kind, (stacks, networks)."""
    found = {}
    for kind in TENSORS:
        rows = np.stack([each.vectors(kind) for each in done], axis=1)
        found[kind] = np.stack([linear.singular_values(stack) for stack in rows])
    # what chance gives is a fact of the two numbers, not of any cell's seed
    rng = np.random.default_rng(0)
    found["random"] = linear.random_singular_values(len(done), rows.shape[-1], STACKS, rng)
    return found


def page(study: Coefficients, done: list[Found], stacks: dict[str, Array]) -> list[str]:
    """The page's parts: numbers are mean +- standard deviation over the finished networks."""
    rows = pd.DataFrame([each.row() for each in done])
    n, weights = len(done), int(rows["weights"].iloc[0])
    alike = np.sqrt(1 + (n - 1) * max(0.0, rows["r2_held_out"].mean()))
    samples = study.trials - -(-study.trials // linear.FOLDS)
    parts = [
        f"![Sorted coefficients, singular values, and what few weights predict]({study.name}.png)",
        "Lines are means, bands are ranges: over networks, permutations and random stacks.",
        _findings(study, rows, stacks),
        "## Is the bias linear in the factors?",
        _models(rows),
        LINEAR.format(ceiling=rows["ceiling"].iloc[0], samples=samples, weights=weights),
        "## How few weights carry it?",
        _shares(rows),
        FEW.format(reliability=spread(rows["gradient_reliability"])),
        _curve(rows, done[0].values["sizes"]),
        CURVE,
    ]
    if n > 1:  # a single vector is alike to itself
        parts += [
            "## Do the networks depend on the same weights?",
            _singular(stacks),
            ALIKE.format(alike=alike, same=np.sqrt(n)),
        ]
    return [*parts, "## Share of the squares by layer", _layers(done)]


def _findings(study: Coefficients, rows: pd.DataFrame, stacks: dict[str, Array]) -> str:
    weights, seeds = int(rows["weights"].iloc[0]), ", ".join(str(seed) for seed in rows["seed"])
    lines = [
        f"{study.source.to_dict()['data']} ({study.source.groups}), one split, networks of the "
        f"seeds {seeds} (n = {len(rows)}; mean +- standard deviation throughout); {weights:,} "
        f"weights each, multiplied by N(1, {study.scale:g}) factors {study.trials:,} times; spd on "
        f"{int(rows['rows'].iloc[0]):,} test rows at threshold 0.5. Unperturbed it is "
        f"{spread(rows['bias'])}; within a network its standard deviation over the trials is "
        f"{spread(rows['bias_std'])}.",
        f"By the gradient, at least {spread(rows['r2_gradient'])} of the bias's variance is linear "
        f"in the factors. {spread(rows['for_50_gradient'], 0)} weights carry half of that, and "
        f"{spread(rows['for_90_gradient'], 0)} carry 90 %.",
        f"Regression on the trials finds {spread(rows['r2_held_out'])} of the variance, and "
        f"{spread(rows['r2_held_out_permuted'])} where there is nothing to find.",
    ]
    if len(rows) > 1:
        lines.append(
            f"The gradients of the networks have a largest singular value of "
            f"{stacks['gradient'].max():.3f}, and random vectors one of "
            f"{stacks['random'][:, 0].mean():.3f} (at most {stacks['random'].max():.3f} in "
            f"{STACKS} stacks)."
        )
    return "## What it shows\n\n" + "\n".join(f"- {line}" for line in lines)


def _models(rows: pd.DataFrame) -> str:
    names = {
        "in_sample": "least squares of least norm, in sample",
        "ridge_in_sample": "ridge, in sample",
        "held_out": "ridge, held out",
        "gradient": "mean gradient, held out",
    }
    lines = [["published", PUBLISHED, "not given", ""]]
    for name, label in names.items():
        null = f"r2_{name}_permuted"
        largest = f"{rows[f'{null}_max'].max():.3f}"
        lines.append([label, spread(rows[f"r2_{name}"]), spread(rows[null]), largest])
    return table(["linear model of the bias", "R^2", "on permuted biases", "largest"], lines)


def _shares(rows: pd.DataFrame) -> str:
    lines = [
        [KINDS[kind], *(spread(rows[f"{s}_{kind}"], 0 if "for" in s else 3) for s in SHARES)]
        for kind in TENSORS
    ]
    return table(["coefficients", *HEADER], lines)


def _curve(rows: pd.DataFrame, sizes: Sequence[int]) -> str:
    names = ("r2_best_{}", "r2_best_{}_permuted", "r2_gradient_{}")
    lines = [[f"{k}", *(spread(rows[name.format(k)]) for name in names)] for k in sizes]
    return table(["k", "chosen by correlation", "on permuted biases", "chosen by gradient"], lines)


def _singular(stacks: dict[str, Array]) -> str:
    lines = [
        [KINDS[kind], *(f"{values[:, end].mean():.3f}" for end in (-1, 0))]
        for kind, values in stacks.items()
    ]
    return table(["stacked unit vectors", "smallest singular value", "largest"], lines)


def _layers(done: list[Found]) -> str:
    """Share of the squared coefficients by module, over the networks."""
    sizes: dict[str, int] = {}
    for name, size in done[0].values["parameters"]:
        module = name.rpartition(".")[0] or name
        sizes[module] = sizes.get(module, 0) + size
    starts = np.cumsum([0, *sizes.values()])[:-1]
    shares = {
        kind: [np.add.reduceat(e.vectors(kind) ** 2, starts, axis=1).mean(axis=0) for e in done]
        for kind in TENSORS
    }
    lines = [
        [module, f"{size:,}", *(spread(np.array(shares[kind])[:, i]) for kind in TENSORS)]
        for i, (module, size) in enumerate(sizes.items())
    ]
    return table(["layer", "weights", *(KINDS[kind] for kind in TENSORS)], lines)


def draw(done: list[Found], stacks: dict[str, Array], path: Path) -> Path:
    """The paper's two plots, and beside them what few weights predict; lines are means."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    styles = dict(zip(KINDS, zip(COLOURS, MARKERS, strict=False), strict=False))
    for kind in TENSORS:
        lines = [linear.cumulative(vector) for each in done for vector in each.vectors(kind)]
        _band(left, range(1, len(lines[0]) + 1), lines, KINDS[kind], styles[kind][0])
    for kind, values in stacks.items():
        _band(middle, range(1, len(done) + 1), values, KINDS[kind], *styles[kind])
    curves = {
        "ridge": ("chosen by correlation", [each.values["screened"] for each in done]),
        "permuted": (
            "the same on permuted biases",
            [line for e in done for line in np.transpose(e.values["screened_permuted"])],
        ),
        "gradient": ("chosen by gradient", [each.values["along"] for each in done]),
    }
    for kind, (label, lines) in curves.items():
        _band(right, done[0].values["sizes"], lines, label, *styles[kind])
    right.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    left.set(xscale="log", xlabel="largest coefficients", ylabel="share of the sum of squares")
    middle.set(xlabel="rank", ylabel="singular value", xticks=range(1, len(done) + 1))
    middle.set_ylim(0, 1.1 * max(values.max() for values in stacks.values()))
    right.set(xscale="log", xlabel="weights", ylabel="R^2, held out")
    titles = ("Sorted coefficients", "Coefficients stacked", "What a few weights predict")
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.set_title(title, fontsize=11)
        axes.grid(color="#EEEEEE")
        axes.set_axisbelow(True)
        axes.legend(fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _band(
    axes: Axes,
    x: Sequence[int],
    lines: Sequence[Array] | Array,
    label: str,
    colour: str,
    marker: str = "",
) -> None:
    """The mean of lines (m, len(x)), and their range."""
    values = np.array(lines)
    axes.plot(x, values.mean(axis=0), color=colour, label=label, marker=marker, markersize=4)
    low, high = values.min(axis=0), values.max(axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


COEFFICIENTS = Coefficients()
