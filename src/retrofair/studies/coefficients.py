"""`coefficients`: Figure 2 of the post-hoc paper, which weights the bias depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from retrofair import metrics
from retrofair.data import GroupedData, Splits
from retrofair.debiasers import Random
from retrofair.debiasers.base import clone
from retrofair.debiasers.random import Flat
from retrofair.errors import InputError, unknown
from retrofair.files import replacing
from retrofair.metrics import Array
from retrofair.networks import Training
from retrofair.networks.outputs import probabilities
from retrofair.networks.randomness import draw_seed, generator_of
from retrofair.plots import COLOURS
from retrofair.studies import linear
from retrofair.studies.cells import Answer, Cell, NetworkCell
from retrofair.studies.pages import provenance, spread, table, write_page, write_table
from retrofair.studies.run import Plan
from retrofair.studies.sources import Source

MEASURES = ("spd", "eod", "aod")  # linear in the decisions, so that they have a gradient
# Relative to the spread of the logits. Narrow, because many draws are averaged; a width of a tenth
# already misses how steeply people are spread around the threshold.
WIDTH = 0.02
PUBLISHED = "0.861 +- 0.090"
RANDOM_STACKS = 200
KINDS = {
    "ridge": "ridge",
    "permuted": "ridge on permuted biases",
    "gradient": "mean gradient",
}
TENSORS = {"ridge": "coefficients", "permuted": "permuted", "gradient": "gradient"}
SHARES = {
    "top_1": "share of the top 1 %",
    "top_5": "of 5 %",
    "top_10": "of 10 %",
    "for_50": "needed for half",
    "for_90": "for 90 %",
}
LINEAR = """\
- The paper does not say of which fit its R^2 is, whether in sample or held out, nor on which data
  set. It can therefore stand beside these numbers, but not be compared with any one of them.
- In sample, R^2 says nothing: {weights:,} coefficients fit {samples:,} biases exactly, permuted
  ones too.
- Held out, ridge regression can be expected to reach {ceiling} at most, even if the bias were exactly
  linear: so little of {weights:,} dimensions do the samples of a training part span. It shows that
  there is something to learn if it is above the permuted column, and not how linear the bias is.
- The mean gradient needs no regression. For normal draws the best linear model has the bias's mean
  gradient as coefficients (Stein's lemma); it is computed by backpropagation, with a steep sigmoid
  in place of the threshold, on other draws. Only a slope and an intercept are fitted. Its R^2 is a
  lower bound of the share of the bias's variance that is linear in the draws."""
FEW = """\
The shares of a regression's coefficients cannot answer the paper's question: they are mostly noise
spread over all weights, and those of permuted biases have a largest tenth as well. Only what they
carry beyond the permuted row is signal. The gradient's two halves, of other draws each, have a cosine
of {reliability}: its shares are hardly blurred. R^2 held out of models of k weights:"""
CURVE = """\
The k best are the draws with the largest correlation with the bias, chosen in the training part,
with least squares on them. What is above 0 is real; it falls again as more of them are chosen by
chance, and is a lower bound of what k weights predict. The last column takes the largest coefficients
of the gradient, which are chosen without any trial."""
ALIKE = """\
For random and for permuted, mean over stacks. The paper reads singular values near 1 as weights that
matter in one network only. Random unit vectors of so many dimensions have them too, so that
regressions this noisy could not show a likeness if there were one. The gradient's have little noise,
yet values near 1 still do not mean that the networks work differently: hidden units have no order, and
the same network with its units permuted would count as unlike."""


@dataclass(frozen=True)
class PerturbationCell:
    """Multiplies all weights by N(1, scale) draws, many times, and explains the bias by the draws.

    The bias is that of the test data at threshold 0.5, as in the paper. It is explained in two ways:
    by regression on the draws, beside the same on permuted biases, and by the bias's own gradient,
    which no trial was used for. What each number can tell is said in `retrofair.studies.linear`.

    Args:
        measure: spd, eod or aod, between two groups.
        permutations: of the biases, for the null distributions.
        gradients: draws that the gradient is averaged over.
    """

    network: NetworkCell
    measure: str = "spd"
    trials: int = 1000
    scale: float = 0.1
    seed: int = 0
    permutations: int = 20
    gradients: int = 100
    kind: ClassVar[str] = "perturbation"

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise unknown("measure", self.measure, MEASURES)
        if self.trials < 2 * linear.FOLDS or not self.scale > 0:
            raise InputError(
                f"expected trials >= {2 * linear.FOLDS} and scale > 0, got {self.trials} and {self.scale}"
            )
        if self.permutations < 1 or self.gradients < 2:
            raise InputError(
                "expected permutations >= 1 and gradients >= 2, got "
                f"{self.permutations} and {self.gradients}"
            )

    @property
    def source(self) -> Source:
        return self.network.source

    @property
    def needs(self) -> NetworkCell:
        return self.network

    @property
    def label(self) -> str:
        return "perturbation"

    def config(self) -> dict[str, Any]:
        plain = ("measure", "trials", "scale", "seed", "permutations", "gradients")
        return {"network": self.network.config(), **{name: getattr(self, name) for name in plain}}

    def run(self, splits: Splits, network: nn.Module | None) -> Answer:
        """The linear analysis; tensors `biases` (trials,), `coefficients` and `gradient` (p,).

        `permuted` (permutations, p) are the coefficients of the fits to permuted biases. All
        coefficients are of unit length, in the order of `parameters` (names and sizes).
        """
        assert network is not None
        generator = generator_of(self.seed)
        factors, biases, before = self._trials(network, splits.test, generator)
        gradients = self._gradients(network, splits.test, generator)
        rng = np.random.default_rng(draw_seed(generator))
        values, vectors = linear.analyse(factors - 1, biases, gradients, self.permutations, rng)
        values = {
            "parameters": [[name, p.numel()] for name, p in network.named_parameters()],
            "rows": len(splits.test),
            "bias": before,
            "bias_mean": float(biases.mean()),
            "bias_std": float(biases.std(ddof=1)),
            **values,
        }
        tensors = {name: torch.from_numpy(v).float() for name, v in vectors.items()}
        return Answer(values, {**tensors, "biases": torch.from_numpy(biases)})

    def _trials(
        self, network: nn.Module, data: GroupedData, generator: torch.Generator
    ) -> tuple[Array, Array, float]:
        """Factors (trials, p), the biases they lead to (trials,), and the bias without them."""
        model = clone(network)
        weights, random = Flat(model), Random(trials=self.trials, scale=self.scale)
        y, group, names = data.y.numpy(), data.group.numpy(), data.group_names

        def look() -> Array:
            return metrics.count(y, probabilities(model, data) > 0.5, group, len(names))

        measure, counts = metrics.get(self.measure), [look()]
        if len(names) != 2:
            raise InputError(f"expected two groups, got {len(names)}: {list(names)}")
        metrics.require(measure, counts[0], names)
        factors = torch.empty(self.trials, len(weights))
        for trial in range(self.trials):
            factors[trial] = random.noise(len(weights), generator)
            weights.scale_by(factors[trial])
            counts.append(look())
        biases = measure(np.stack(counts)).astype(float)
        return factors.double().numpy(), biases[1:], float(biases[0])

    def _gradients(
        self, network: nn.Module, data: GroupedData, generator: torch.Generator
    ) -> Array:
        """The bias's derivatives by the factors, averaged over two halves of the draws, (2, p).

        For normal factors the best linear predictor of any function of them has its mean gradient
        as coefficients (Stein's lemma). Decisions have none, so a steep sigmoid stands in for them.
        """
        model = clone(network)
        weights, random = Flat(model), Random(scale=self.scale)
        worth = _worth(metrics.get(self.measure), data)
        with torch.no_grad():
            width = max(WIDTH * float(model(data.x).std()), 1e-6)
        halves = torch.zeros(2, len(weights), dtype=torch.double)
        for draw in range(self.gradients):
            weights.scale_by(random.noise(len(weights), generator))
            smooth = (worth * torch.sigmoid(model(data.x) / width)).sum()
            parts = torch.autograd.grad(smooth, list(model.parameters()))
            halves[draw % 2] += torch.cat([part.reshape(-1) for part in parts]) * weights.original
        return halves.numpy()


def _worth(measure: metrics.Measure, data: GroupedData) -> Tensor:
    """What each row's positive decision adds to the measure, (n,): those used here are linear."""
    y, group = data.y.long(), data.group
    nobody = metrics.count(y.numpy(), np.zeros(len(y), bool), group.numpy(), 2)
    worth = torch.zeros(2, 2)
    for g, label in np.ndindex(2, 2):
        if nobody[g, label, 0]:
            one = nobody.copy()
            one[g, label] += (-1, 1)
            worth[g, label] = float(measure(one))
    return worth[group, y]


@dataclass(frozen=True)
class Coefficients:
    """Ten networks of one split, and whether few weights decide their bias.

    The networks differ by their seed alone; each has its own perturbations.

    Args:
        trials, scale: of the perturbations.
    """

    source: Source = Source("adult", ("sex",))  # noqa: RUF009 - frozen
    seeds: tuple[int, ...] = tuple(range(10))
    training: Training = Training()  # noqa: RUF009 - frozen
    trials: int = 1000
    scale: float = 0.1
    name: ClassVar[str] = "coefficients"
    title: ClassVar[str] = "Figure 2 of the post-hoc paper: which weights the bias depends on"

    def cell(self, seed: int) -> PerturbationCell:
        network = NetworkCell(self.source, seed, self.training)
        return PerturbationCell(network, trials=self.trials, scale=self.scale, seed=seed)

    def cells(self) -> list[Cell]:
        return [self.cell(seed) for seed in self.seeds]

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        """`coefficients.csv` with a row per network, `coefficients.png` and `coefficients.md`."""
        found = [Found.of(plan, self.cell(seed)) for seed in self.seeds]
        done = [each for each in found if each.state == "done"]
        rows = [each.row() for each in found]
        written = [write_table(folder / f"{self.name}.csv", pd.DataFrame(rows))]
        parts = ["No network is finished yet."]
        if done:
            stacks = Stacks.of(done)
            written.append(draw(done, stacks, folder / f"{self.name}.png"))
            parts = page(self, done, stacks)
        absent = len(found) - len(done)
        if absent:
            parts.append(f"**{absent} of {len(found)} networks are left out**: failed or not run.")
        parts.append(provenance(plan))
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
        record = plan.record(cell)
        if not plan.store.done(plan.key(cell)) or record is None:
            return cls(cell.seed, "failed" if record else "missing")
        return cls(cell.seed, "done", record["answer"], plan.store.tensors(plan.key(cell)))

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
        for share, value in v["shares"].items():
            row[f"{share}_ridge"] = value
            row[f"{share}_permuted"] = np.mean([null[share] for null in v["shares_permuted"]])
            row[f"{share}_gradient"] = v["shares_gradient"][share]
        return row


@dataclass(frozen=True, eq=False)
class Stacks:
    """Singular values of the networks' coefficients, (k,), and of what chance gives, (draws, k)."""

    ridge: Array
    gradient: Array
    permuted: Array
    random: Array

    @classmethod
    def of(cls, done: list[Found]) -> Stacks:
        ridge, gradient, permuted = (
            np.stack([each.tensors[name].numpy() for each in done])
            for name in ("coefficients", "gradient", "permuted")
        )
        # the chance of a stack of random vectors is the page's alone: no cell depends on it
        rng = np.random.default_rng(0)
        return cls(
            linear.singular_values(ridge),
            linear.singular_values(gradient),
            np.stack([linear.singular_values(rows) for rows in permuted.swapaxes(0, 1)]),
            linear.random_singular_values(*ridge.shape, RANDOM_STACKS, rng),
        )


def page(study: Coefficients, done: list[Found], stacks: Stacks) -> list[str]:
    """The page's parts: numbers are mean +- standard deviation over the finished networks."""
    rows = pd.DataFrame([each.row() for each in done])
    weights, samples = int(rows["weights"].iloc[0]), study.trials

    def over(name: str, digits: int = 3) -> str:
        return spread(rows[name], digits)

    def line(label: str, name: str) -> list[str]:
        null = f"{over(f'{name}_permuted')}, largest {rows[f'{name}_permuted_max'].max():.3f}"
        return [label, over(name), null]

    models = [
        ["the paper", PUBLISHED, "not given"],
        line("least squares of least norm, in sample", "r2_in_sample"),
        line("ridge, in sample", "r2_ridge_in_sample"),
        line("ridge, held out", "r2_held_out"),
        line("mean gradient, held out", "r2_gradient"),
    ]
    shares = [
        [label, *(over(f"{share}_{kind}", 0 if "for" in share else 3) for share in SHARES)]
        for kind, label in KINDS.items()
    ]
    curve = [
        [str(k), over(f"r2_best_{k}"), over(f"r2_best_{k}_permuted"), over(f"r2_gradient_{k}")]
        for k in done[0].values["sizes"]
    ]
    return [
        f"{len(done)} networks of one split of {study.source.data} ({study.source.groups}), seeds "
        f"{', '.join(str(each.seed) for each in done)}. The {weights:,} weights of each are "
        f"multiplied by N(1, {study.scale:g}) draws, {samples:,} times, and spd is measured on "
        f"{int(rows['rows'].iloc[0]):,} test rows at threshold 0.5. Before, it is {over('bias')}; "
        f"over the draws of one network its standard deviation is {over('bias_std')}. Numbers are "
        f"mean +- standard deviation over n = {len(done)} networks. Test data explain here, and "
        "choose nothing.",
        f"![sorted coefficients, singular values, and what few weights predict]({study.name}.png)",
        "## Is the bias linear in the draws?",
        table(["linear model of the bias", "R^2", "R^2 on permuted biases"], models),
        LINEAR.format(
            weights=weights, samples=samples, ceiling=over("ceiling"), published=PUBLISHED
        ),
        "## How few weights carry it?",
        table(["coefficients", *SHARES.values()], shares),
        FEW.format(reliability=over("gradient_reliability")),
        table(["k", "k best draws", "the same on permuted biases", "k largest of gradient"], curve),
        CURVE,
        "## Do the networks depend on the same weights?",
        table(["stacked unit vectors", "smallest singular value", "largest"], _extremes(stacks)),
        ALIKE,
        "## By layer",
        table(["layer", "weights", *KINDS.values()], _layers(done)),
        "Shares of the squared coefficients. Unlike single weights, layers of different networks can "
        "be compared.",
    ]


def _extremes(stacks: Stacks) -> list[list[str]]:
    lines = {**KINDS, "random": "random unit vectors"}
    found = {kind: np.atleast_2d(getattr(stacks, kind)) for kind in lines}
    return [
        [label, *(f"{found[kind][:, end].mean():.3f}" for end in (-1, 0))]
        for kind, label in lines.items()
    ]


def _layers(done: list[Found]) -> list[list[str]]:
    """Share of the squared coefficients by module, over the networks."""
    sizes: dict[str, int] = {}
    for name, size in done[0].values["parameters"]:
        module = name.rpartition(".")[0] or name
        sizes[module] = sizes.get(module, 0) + size
    cuts = np.cumsum(list(sizes.values()))[:-1]
    shares = {
        kind: np.stack([_by_layer(each.tensors[name].numpy(), cuts) for each in done])
        for kind, name in TENSORS.items()
    }
    return [
        [module, f"{size:,}", *(spread(shares[kind][:, i]) for kind in KINDS)]
        for i, (module, size) in enumerate(sizes.items())
    ]


def _by_layer(vectors: Array, cuts: Array) -> Array:
    """Sums of squares of unit vectors (..., p) between the cuts; of several, the mean."""
    parts = np.split(np.atleast_2d(vectors) ** 2, cuts, axis=-1)
    return np.array([part.sum(axis=-1).mean() for part in parts])


def draw(done: list[Found], stacks: Stacks, path: Path) -> Path:
    """The paper's two plots, and beside them what few weights predict."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for (kind, label), colour in zip(KINDS.items(), COLOURS, strict=False):
        shares = np.stack(
            [
                linear.cumulative(row)
                for each in done
                for row in np.atleast_2d(each.tensors[TENSORS[kind]].numpy())
            ]
        )
        _band(left, np.arange(1, shares.shape[1] + 1), shares, label, colour)
        values = np.atleast_2d(getattr(stacks, kind))
        _band(middle, np.arange(1, len(done) + 1), values, label, colour, marker="o")
    ranks = np.arange(1, len(done) + 1)
    _band(middle, ranks, stacks.random, "random unit vectors", COLOURS[-1], linestyle="--")
    sizes = done[0].values["sizes"]
    curves = {
        "gradient": ("k largest of gradient", [each.values["along"] for each in done]),
        "ridge": ("k best draws", [each.values["screened"] for each in done]),
        "permuted": (
            "the same on permuted biases",
            [row for e in done for row in np.transpose(e.values["screened_permuted"])],
        ),
    }
    for kind, (label, lines) in curves.items():
        colour = COLOURS[list(KINDS).index(kind)]
        _band(right, np.array(sizes), np.array(lines), label, colour, marker="o")
    right.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    left.set(xscale="log", xlabel="largest coefficients", ylabel="share of the sum of squares")
    middle.set(xlabel="rank", ylabel="singular value", ylim=(0, None), xticks=ranks)
    right.set(xscale="log", xlabel="k weights", ylabel="R^2, held out")
    left.set_title("Sorted coefficients", fontsize=11)
    middle.set_title("Coefficients of all networks, stacked", fontsize=11)
    right.set_title("What k weights predict", fontsize=11)
    for axes in (left, middle, right):
        axes.grid(color="#EEEEEE", zorder=0)
        axes.legend(fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _band(axes: Axes, x: Array, lines: Array, label: str, colour: str, **style: Any) -> None:
    """Mean of the lines (m, len(x)), and their range."""
    axes.plot(x, lines.mean(axis=0), color=colour, label=label, markersize=4, **style)
    axes.fill_between(x, lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.2, linewidth=0)
