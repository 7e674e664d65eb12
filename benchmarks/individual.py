"""Networks trained to treat similar people alike: the page docs/results/individual.md.

    python benchmarks/individual.py --store FOLDER --page docs/results/individual.md

Hours where nothing is stored; stopped, it goes on where it was. One cell at a time, the seeds
outermost. Needs the data sets (RETROFAIR_DATA). The networks of SenSR and SenSeI come from
rivals_individual.py, which says how (--export, --rivals).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import retrofair as rf
from retrofair.individual import Settings, fit_individually_fair
from retrofair.progress import track
from retrofair.studies.pages import spread, table, write_page

DATA = Path(os.environ.get("RETROFAIR_DATA", "../shared/data"))
EPSILON, GAP, SMALL = 0.2, 0.05, 0.005
SECONDS, SECONDS_OURS = 30.0, 180.0  # for a certificate
BOUND, SPARSITY = 0.9, 0.2
SETS = {"german": "sex", "adult": "sex", "communities": "race", "boston": "B"}
WIDTHS = ((32, 32), (64, 64))
LAMBDAS = (0.9, 0.7, 0.5, 0.2)
RIVALS = ("SenSR", "SenSeI")
OURS = tuple(f"lambda {lam:g}" for lam in LAMBDAS)
# what two of its parts do alone: weights made 0 without x*, and x* by attack without a bound
PARTS = ("sparse", "attack 0.5")
METHODS = ("plain", "unaware", *PARTS, *OURS, *RIVALS)
SEEDS = (0, 1, 2)
# at most, and how many without a better one: boston's epochs have three steps
EPOCHS = {"german": 60, "adult": 12, "communities": 40, "boston": 500}
PATIENCE = {"boston": 60}


@dataclass(frozen=True)
class Cell:
    data: str
    widths: tuple[int, ...]
    seed: int
    method: str

    @property
    def network(self) -> str:
        return f"{self.data}-{'x'.join(map(str, self.widths))}-{self.seed}"

    @property
    def key(self) -> str:
        return f"{self.network}-{self.method}"


def cells() -> Iterator[Cell]:
    for seed in SEEDS:
        for data in SETS:
            for widths in WIDTHS:
                for method in METHODS:
                    yield Cell(data, widths, seed, method)


class Blind(nn.Module):
    """A network that sees its protected columns as 0."""

    def __init__(self, network: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("kept", kept)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x * self.kept)


def run(cell: Cell, rivals: Path | None = None) -> dict[str, Any]:
    splits = load(cell)
    regression = cell.data == "boston"
    domain = rf.Domain.from_data(splits.train)
    similar = rf.WeightedLp(math.inf)
    outputs: Any = "values" if regression else None
    if cell.method in RIVALS:
        assert rivals is not None
        model, seconds = rival(cell, splits, rivals)
    else:
        model, seconds = fitted(cell, splits, domain)
    found = rf.certify(
        model,
        domain,
        similar,
        EPSILON,
        method="bab",
        outputs=outputs,
        seconds=SECONDS_OURS if cell.method in OURS else SECONDS,
        gap=GAP,
        absolute_gap=SMALL,
        data=splits.valid,
    )
    probability = model if regression else nn.Sequential(model, nn.Sigmoid())
    empirical = rf.empirical_delta(probability, splits.test.x, similar, EPSILON, domain=domain)
    return {
        **performance(model, rows(splits.test), regression),
        "n": len(splits.test),
        "lower": found.lower,
        "upper": found.upper,
        "gap": found.gap,
        "tier": found.tier,
        "certified_in": found.seconds,
        "rows": empirical,
        "trained_in": seconds,
        "load": os.getloadavg()[0],
    }


def fitted(cell: Cell, splits: rf.Splits, domain: rf.Domain) -> tuple[nn.Module, float]:
    """A network trained here, and in how many seconds."""
    if cell.method == "unaware":
        kept = torch.from_numpy(~domain.sensitive).float()
        network: nn.Module = Blind(untrained(splits.train.x.shape[1], cell), kept)
        return trained(network, cell, Settings(lam=1.0), splits, domain)
    network, before = plain(replace(cell, method="plain"))
    if cell.method in OURS:
        lam = float(cell.method.split()[1])
        settings = Settings(lam=lam, bound=BOUND, sparsity=SPARSITY)
    elif cell.method == "attack 0.5":
        settings = Settings(lam=0.5, bound=0.0)
    elif cell.method == "sparse":
        settings = Settings(lam=1.0, sparsity=SPARSITY)
    else:
        return network, before
    network, seconds = trained(network, cell, settings, splits, domain)
    return network, before + seconds


@lru_cache(maxsize=1)
def plain(cell: Cell) -> tuple[nn.Module, float]:
    """The network that the others train on from; it comes before them in `cells`."""
    splits = load(cell)
    network = untrained(splits.train.x.shape[1], cell)
    return trained(network, cell, Settings(lam=1.0), splits, rf.Domain.from_data(splits.train))


def patience(data: str) -> int:
    return PATIENCE.get(data, Settings().patience)


def trained(
    network: nn.Module, cell: Cell, settings: Settings, splits: rf.Splits, domain: rf.Domain
) -> tuple[nn.Module, float]:
    """One training, and its seconds."""
    started = time.perf_counter()
    fair = fit_individually_fair(
        network,
        rows(splits.train),
        domain,
        rf.WeightedLp(math.inf),
        EPSILON,
        replace(settings, epochs=EPOCHS[cell.data], patience=patience(cell.data)),
        valid=rows(splits.valid),
        seed=cell.seed,
        outputs="values" if cell.data == "boston" else None,
    )
    return fair.network, time.perf_counter() - started


# --- networks trained elsewhere -------------------------------------------------------------------


def export(cell: Cell, folder: Path) -> None:
    """What another package needs to train on from a plain network."""
    splits = load(cell)
    domain = rf.Domain.from_data(splits.train)
    model, seconds = fitted(cell, splits, domain)
    tensors = {f"plain.{name}": value for name, value in model.state_dict().items()}
    for name, part in splits_by_name(splits).items():
        tensors |= {f"{name}.x": part.x, f"{name}.y": part.y.float()}
    settings = Settings()
    about = {
        "name": cell.network,
        "seed": cell.seed,
        "regression": cell.data == "boston",
        "sensitive": domain.sensitive.nonzero()[0].tolist(),
        "epochs": EPOCHS[cell.data],
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "patience": patience(cell.data),
        "rows": digest(splits),
        "seconds": seconds,
    }
    path = exported(cell, folder)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, path.with_suffix(".safetensors"))
    path.write_text(json.dumps(about), encoding="utf-8")


def exported(cell: Cell, folder: Path) -> Path:
    return folder / f"{cell.network}.plain.json"


def rival(cell: Cell, splits: rf.Splits, folder: Path) -> tuple[nn.Module, float]:
    """A network that another package trained, and in how many seconds, the plain one's included."""
    about = json.loads((folder / f"{cell.key}.json").read_text(encoding="utf-8"))
    before = json.loads(exported(cell, folder).read_text(encoding="utf-8"))
    if about["rows"] != digest(splits):
        raise ValueError(f"expected {cell.key} trained on these rows, got others: export them anew")
    model = untrained(splits.train.x.shape[1], cell)
    model.load_state_dict(load_file(folder / f"{cell.key}.safetensors"))
    return model.eval(), before["seconds"] + about["seconds"]


def there(cell: Cell, rivals: Path | None) -> bool:
    if cell.method not in RIVALS:
        return True
    return rivals is not None and (rivals / f"{cell.key}.json").exists()


def splits_by_name(splits: rf.Splits) -> dict[str, rf.GroupedData]:
    return {"train": splits.train, "valid": splits.valid, "test": splits.test}


def digest(splits: rf.Splits) -> str:
    found = hashlib.sha256()
    for part in splits_by_name(splits).values():
        for tensor in (part.x, part.y.float()):
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


# --- data and measures ----------------------------------------------------------------------------


def load(cell: Cell) -> rf.Splits:
    options: dict[str, Any] = {"target": "regression"} if cell.data == "boston" else {}
    return rf.datasets.load(
        cell.data, sensitive=SETS[cell.data], root=DATA, seed=cell.seed, **options
    )


def rows(data: rf.GroupedData) -> tuple[Tensor, Tensor]:
    return data.x, data.y.float()


def untrained(d: int, cell: Cell) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        layers: list[nn.Module] = []
        for inside, out in zip([d, *cell.widths[:-1]], cell.widths, strict=True):
            layers += [nn.Linear(inside, out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(cell.widths[-1], 1), nn.Flatten(0))


def performance(model: nn.Module, test: tuple[Tensor, Tensor], regression: bool) -> dict[str, Any]:
    x, y = test
    with torch.no_grad():
        out = model(x)
    if regression:
        return {"mse": float(((out - y) ** 2).mean()), "constant": float(y.var(correction=0))}
    right = ((out > 0).float() == y).float()
    balanced = float(sum(right[y == k].mean() for k in (0, 1)) / 2)
    share = float(y.mean())
    return {
        "accuracy": float(right.mean()),
        "balanced": balanced,
        "constant": max(share, 1 - share),
        "positive": float((out > 0).float().mean()),
    }


# --- the page -------------------------------------------------------------------------------------

INTRO = (
    f"Two hidden layers, ReLU; epsilon {EPSILON:g} in l_inf on the columns as the network takes "
    "them, the protected column free, the box around the training rows. Every network but "
    "`unaware` is trained on from the plain one, which knows the loss alone. `lambda`: lambda * "
    f"loss + (1 - lambda) * |f(x) - f(x*)|, {BOUND:.0%} of the second term a proved bound, and "
    f"sparsity {SPARSITY:g}. Its parts alone: `attack 0.5` is lambda 0.5 without bound and "
    "sparsity, `sparse` the loss alone with sparsity. `unaware`: the protected column is 0 for the "
    "network. Performance on test rows; the epoch is chosen by validation rows. Delta in "
    "probability (boston: in 1,000 dollars): over pairs of test rows within epsilon (undefined "
    "where there are none), and over everybody in the box: at least, by a pair, and at most, by "
    f"branch and bound in {SECONDS_OURS:g} s for lambda's networks and {SECONDS:g} s for the "
    "others, whose upper ends more time would lower; their lower ends are what they have to be "
    f"judged by. Tight: a gap of {GAP:.0%}, or {SMALL:g}, at which it stops. Mean +- standard "
    "deviation over seeds, which share rows. A delta of 0 need not be a constant's: a network that "
    "reads only columns in which similar people are alike, such as categories, has it too; its "
    "balanced accuracy tells."
)
LOADED = "beside other work (median load {:.0f} on two cores)"


def page(store: Path, picture: Path) -> str:
    found = {
        c: json.loads(path_of(store, c).read_text()) for c in cells() if path_of(store, c).exists()
    }
    draw(found, picture)
    tables = [tables_of(found, data) for data in SETS]
    return "\n\n".join(
        [
            INTRO,
            rivals_of(found),
            f"![Error against delta]({picture.name})",
            "\n".join(f"- {each}" for each in findings(found)),
            *filter(None, tables),
        ]
    )


def tables_of(found: dict[Cell, Any], data: str) -> str:
    """What was found on one data set; empty where nothing was."""
    lines = []
    for widths in WIDTHS:
        here = {c: r for c, r in found.items() if (c.data, c.widths) == (data, widths)}
        for method in METHODS:
            of = [r for c, r in here.items() if c.method == method]
            if of:
                lines.append([str(list(widths)), method, str(len(of)), *row_of(data, of)])
        if here:
            constant = spread([r["constant"] for r in here.values()])
            even = "-" if data == "boston" else "0.5"
            lines.append([str(list(widths)), "constant", "", constant, even, *["0"] * 3, *[""] * 3])
    if not lines:
        return ""
    first = "MSE" if data == "boston" else "accuracy"
    n = sorted({r["n"] for c, r in found.items() if c.data == data})
    head = ["widths", "method", "seeds", first, "bal. accuracy", "rows", "at least", "at most"]
    head += ["tight", "trained, s", "certified, s"]
    title = f"## {data}, {SETS[data]} free\n\nTest rows: {', '.join(map(str, n))}."
    return title + "\n\n" + table(head, lines)


def row_of(data: str, of: list[Any]) -> list[str]:
    names = ["mse"] if data == "boston" else ["accuracy", "balanced"]
    shown = [spread([r[name] for r in of]) for name in names] + ["-"] * (2 - len(names))
    return [
        *shown,
        *(spread([r[name] for r in of]) for name in ("rows", "lower", "upper")),
        f"{sum(map(tight, of))} of {len(of)}",
        f"{statistics.median(r['trained_in'] for r in of):.0f}",
        f"{statistics.median(r['certified_in'] for r in of):.0f}",
    ]


def tight(result: dict[str, Any]) -> bool:
    return bool(result["gap"] <= GAP or result["upper"] - result["lower"] <= SMALL)


def findings(found: dict[Cell, Any]) -> Iterator[str]:
    for widths in WIDTHS:
        ours = [r for c, r in found.items() if c.method in OURS and c.widths == widths]
        if ours:
            load = statistics.median(r["load"] for r in ours)
            yield (
                f"{list(widths)}: {sum(map(tight, ours))} of {len(ours)} certificates of lambda's "
                f"networks are tight within {SECONDS_OURS:g} s, {LOADED.format(load)}."
            )
    for data in SETS:
        here = {c: r for c, r in found.items() if c.data == data}
        if plains := [r for c, r in here.items() if c.method == "plain"]:
            yield f"{data}: " + "; ".join(compared(here, plains, data))


def compared(here: dict[Cell, Any], plains: list[Any], data: str) -> Iterator[str]:
    """The networks of a data set in a few words, means over widths and seeds."""
    name, digits = ("mse", 1) if data == "boston" else ("accuracy", 3)

    def mean(of: list[Any], key: str) -> float:
        return statistics.mean(r[key] for r in of)

    before = mean(plains, "lower")
    yield f"plain {mean(plains, name):.{digits}f} {name}, delta at least {before:.3f}"
    for method in METHODS[1:]:
        of = [r for c, r in here.items() if c.method == method]
        if len(of) == len(plains):
            ends = f"{mean(of, 'lower'):.3f} to {mean(of, 'upper'):.3f}"
            yield f"{method} {mean(of, name):.{digits}f}, {ends}"


def draw(found: dict[Cell, Any], picture: Path) -> None:
    """Accuracy or error by proved delta: a point per method, bars of one standard deviation."""
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained")
    for ax, data in zip(axes.flat, SETS, strict=True):
        name = "mse" if data == "boston" else "accuracy"
        for k, method in enumerate(METHODS):
            for widths, marker in zip(WIDTHS, "os", strict=True):
                of = [
                    r
                    for c, r in found.items()
                    if (c.data, c.method, c.widths) == (data, method, widths)
                ]
                if not of:
                    continue
                x, low, y = (np.array([r[key] for r in of]) for key in ("upper", "lower", name))
                ax.errorbar(
                    x.mean(),
                    y.mean(),
                    xerr=[[x.mean() - low.mean()], [0.0]],
                    yerr=y.std(ddof=1) if len(y) > 1 else 0.0,
                    fmt=marker,
                    color=f"C{k}",
                    label=method if widths == WIDTHS[0] else None,
                    markersize=5,
                    linewidth=0.9,
                )
        of = [r["constant"] for c, r in found.items() if c.data == data]
        if of:
            ax.axhline(statistics.mean(of), color="grey", linestyle=":", linewidth=1)
            ax.annotate(
                "constant (delta 0)",
                (0.02, statistics.mean(of)),
                color="grey",
                fontsize=8,
                xycoords=("axes fraction", "data"),
                va="bottom",
            )
        ax.set_xscale("log")
        ax.set_title(f"{data}, {SETS[data]} free", fontsize=10)
        ax.set_ylabel("squared error, test rows" if name == "mse" else "accuracy, test rows")
        ax.set_xlabel("delta: proved at most (bar: down to the worst pair)")
    axes.flat[0].legend(fontsize=7)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def rivals_of(found: dict[Cell, Any]) -> str:
    """How the networks of another package were trained, and how many are missing."""
    all_of = [cell for cell in cells() if cell.method in RIVALS]
    missing = sum(cell not in found for cell in all_of)
    if missing == len(all_of):
        return "SenSR and SenSeI are left out: their networks were not there (--rivals)."
    said = (
        "SenSR and SenSeI are those of inFairness 0.2.3, trained on from the plain network with as "
        "many epochs at most, the epoch chosen by their own objective on validation rows. Their "
        "settings are those of the package's example on Adult for SenSeI, also for SenSR, for "
        "which it has none. Their idea of similar is another: a squared Euclidean distance, 0.1 on "
        "average, that neither the protected column nor what tells it from the other columns adds "
        "to; no epsilon for each column, no box. Here all networks are measured by the first idea."
    )
    return said if not missing else f"{said} {missing} of their {len(all_of)} cells are left out."


def path_of(store: Path, cell: Cell) -> Path:
    return store / f"{cell.key.replace(' ', '-')}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only", default="", help="Only cells whose key has this in it.")
    parser.add_argument("--export", type=Path, help="Write rows and plain networks here, no more.")
    parser.add_argument("--rivals", type=Path, help="That folder, with rivals_individual.py's.")
    arguments = parser.parse_args()
    if (arguments.store is None) == (arguments.export is None):
        parser.error("expected one of --store and --export")
    if arguments.export:
        torch.set_num_threads(1)
        arguments.export.mkdir(parents=True, exist_ok=True)
        first = [c for c in cells() if c.method == "plain" and arguments.only in c.key]
        first = [c for c in first if not exported(c, arguments.export).exists()]
        for cell in track(first, "plain networks"):
            export(cell, arguments.export)
        return
    arguments.store.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    missing = [
        c
        for c in cells()
        if arguments.only in c.key
        and there(c, arguments.rivals)
        and not path_of(arguments.store, c).exists()
    ]
    for cell in track(missing, "networks"):
        found = run(cell, arguments.rivals)
        path = path_of(arguments.store, cell)
        path.with_suffix(".part").write_text(json.dumps(found), encoding="utf-8")
        path.with_suffix(".part").replace(path)
    if arguments.page:
        made = (
            f"Written by `python benchmarks/individual.py`. {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, torch {version('torch')}, retrofair {rf.__version__}."
        )
        text = page(arguments.store, arguments.page.with_suffix(".png"))
        write_page(arguments.page, "Training for individuals", made, text)


if __name__ == "__main__":
    main()
