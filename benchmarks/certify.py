"""Certificates on real networks, on two cores: the page docs/results/certify.md.

    python benchmarks/certify.py --store FOLDER --page docs/results/certify.md

About two hours where nothing is stored; stopped, it goes on where it was. One thread, one cell at
a time. Needs the data sets (RETROFAIR_DATA), and for part "nets" the folder `nnet` beside them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import retrofair as rf
from retrofair.certifiers import Bab, Milp, Pwl
from retrofair.networks.nnet import read_nnet
from retrofair.progress import track
from retrofair.studies.pages import spread, table, write_page

DATA = Path(os.environ.get("RETROFAIR_DATA", "../shared/data"))
NNET = DATA.parent / "nnet"
NET_SECONDS, TABLE_SECONDS, DEBIASED_SECONDS = 60.0, 30.0, 20.0
PROTECTED = {"AC": 8, "BM": 0, "GC": 19, "compas": 3}
NAMES = {8: "sex", 0: "age", 19: "sex", 3: "race"}
# optima (or intervals) of a twin-network MILP with the shared inputs continuous, from the README
# beside the networks
REFERENCE = {
    "AC-8": (0.5856, 0.5856),
    "AC-10": (1.0405, 1.0405),
    "AC-3": (4.8484, 4.8499),
    "AC-2": (4.6117, 4.7114),
    "GC-4": (0.1026, 0.1026),
    "BM-6": (10.8914, 10.8932),
    "GC-1": (0.2958, 0.3626),
    "BM-3": (20.66, 27.52),
    "BM-5": (8.13, 21.22),
    "GC-2": (0.0999, 0.4382),
}
METHODS: dict[str, Callable[[], Any]] = {
    "difference encoding, HiGHS": Milp,
    "branch and bound": Bab,
    "two copies, HiGHS": lambda: Milp(encoding="two_copies", tighten=False),
    "two copies, PuLP and CBC (pwl)": Pwl,
}
TABLES = (("german", (16,)), ("german", (16, 16)), ("adult", (16,)), ("adult", (16, 16)))
DEBIASED = (("adult", "sex"), ("compas", "race"), ("german", "age"))
DEBIASERS = ("random", "layerwise", "adversarial", "zhang")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Cell:
    """One measurement: its name, and the work that gives a dictionary of numbers."""

    key: str
    work: Callable[[], dict[str, Any]]


class Store:
    """Finished cells, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell) -> Path:
        return self.folder / (cell.key.replace("/", "_").replace(" ", "-") + ".json")

    def get(self, cell: Cell) -> dict[str, Any] | None:
        path = self.path(cell)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def short(certificate: rf.Certificate, **more: Any) -> dict[str, Any]:
    """What the page needs of a certificate."""
    first = certificate.history[0]
    return {
        "lower": certificate.lower,
        "upper": certificate.upper,
        "gap": certificate.gap,
        "lower_logit": certificate.lower_logit,
        "upper_logit": certificate.upper_logit,
        "seconds": certificate.seconds,
        "stopped": certificate.stopped,
        "tier": certificate.tier,
        "first": first.upper,
        "first_seconds": first.seconds,
        "distance": certificate.distance,
        "notes": list(certificate.notes),
        "load": os.getloadavg()[0],
        **more,
    }


# --- networks of the literature -------------------------------------------------------------------


def net_cells() -> Iterator[Cell]:
    for path in sorted(NNET.glob("*.nnet")):
        for kind in ("relaxed", "whole", "bab"):
            yield Cell(
                f"nets/{path.stem}/{kind}", lambda path=path, kind=kind: certify_net(path, kind)
            )


def certify_net(path: Path, kind: str) -> dict[str, Any]:
    """Two people who differ in the protected input only: how far can their logits differ?"""
    file, protected = read_nnet(path), PROTECTED[path.stem.split("-")[0]]
    ranges = zip(file.low.tolist(), file.high.tolist(), strict=True)
    domain = rf.Domain(
        [
            rf.Integer(f"x{i}", low, high, sensitive=i == protected)
            for i, (low, high) in enumerate(ranges)
        ]
    )
    found = rf.certify(
        file.network,
        domain if kind == "whole" else domain.relaxed(),
        rf.WeightedLp(math.inf),
        epsilon=0.0,
        method="bab" if kind == "bab" else "milp",
        outputs="values",
        seconds=NET_SECONDS,
    )
    widths = [layer.out_features for layer in file.network if isinstance(layer, nn.Linear)]
    inputs = file.network[0].in_features
    return short(found, layers="-".join(map(str, [inputs, *widths])), protected=protected)


# --- German and Adult -----------------------------------------------------------------------------


def base(name: str, sensitive: str, widths: tuple[int, ...], seed: int) -> Any:
    splits = rf.datasets.load(name, sensitive=sensitive, root=DATA, seed=seed)
    network = rf.networks.train_mlp(
        splits.train,
        splits.valid,
        seed=seed,
        width=widths[0],
        depth=len(widths),
        dropout=0.0,
        patience=20,
        max_epochs=200,
    )
    return splits, network


def table_cells() -> Iterator[Cell]:
    for name, widths in TABLES:
        for seed in SEEDS:
            for method in METHODS if seed == 0 else list(METHODS)[:2]:
                for outputs in ("values", "logits"):
                    key = f"tables/{name}/{'-'.join(map(str, widths))}/{seed}/{outputs}/{method}"
                    yield Cell(
                        key,
                        lambda n=name, w=widths, s=seed, o=outputs, m=method: certify_table(
                            n, w, s, o, m
                        ),
                    )


def certify_table(
    name: str, widths: tuple[int, ...], seed: int, outputs: Any, method: str
) -> dict[str, Any]:
    splits, network = base(name, "sex", widths, seed)
    found = rf.certify(
        network,
        rf.Domain.from_data(splits.train),
        rf.WeightedLp(math.inf),
        epsilon=0.2,
        outputs=outputs,
        method=METHODS[method](),
        seconds=TABLE_SECONDS,
        data=splits.train,
        gap=1e-3,
    )
    return short(found)


# --- debiased networks ----------------------------------------------------------------------------


def debiased_cells() -> Iterator[Cell]:
    for name, sensitive in DEBIASED:
        for seed in SEEDS:
            yield Cell(
                f"debiased/{name}/{sensitive}/{seed}",
                lambda n=name, s=sensitive, seed=seed: certify_debiased(n, s, seed),
            )


def certify_debiased(name: str, sensitive: str, seed: int) -> dict[str, Any]:
    """The base network and what each debiaser makes of it: bias, performance and delta."""
    splits, network = base(name, sensitive, (16,), seed)
    objective = rf.Constrained("spd", epsilon=0.05, performance="balanced_accuracy")
    domain = rf.Domain.from_data(splits.train)
    results: dict[str, Any] = {}
    for method in ("threshold", *DEBIASERS):
        result = rf.debias(network, splits.valid, objective, method=method, seed=seed)
        model = result.model if method != "threshold" else network
        audit = rf.audit(result, splits.test)
        row: dict[str, Any] = {
            "status": result.status.value,
            "spd": audit["spd"].value,
            "balanced_accuracy": audit["balanced_accuracy"].value,
        }
        for epsilon in (0.0, 0.2):
            found = rf.certify(
                model,
                domain,
                rf.WeightedLp(math.inf),
                epsilon,
                seconds=DEBIASED_SECONDS,
                data=splits.valid,
            )
            probability = nn.Sequential(model, nn.Sigmoid())
            rows = rf.empirical_delta(
                probability, splits.test.x, rf.WeightedLp(math.inf), epsilon, domain=domain
            )
            row[f"{epsilon:g}"] = short(found, empirical=rows)
        results[method] = row
    return results


# --- data sets as a whole -------------------------------------------------------------------------


def empirical_cells() -> Iterator[Cell]:
    for p in (math.inf, 2, 1):
        for epsilon in (0.05, 0.2, 0.5, 1.0, 2.0):
            yield Cell(f"empirical/{p}/{epsilon}", lambda p=p, e=epsilon: empirical(p, e))


def empirical(p: float, epsilon: float) -> dict[str, Any]:
    """All 45,222 rows of Adult."""
    splits, network = base("adult", "sex", (16,), 0)
    parts = (splits.train, splits.valid, splits.test)
    x = torch.cat([part.x for part in parts])
    domain = rf.Domain.from_data(splits.train)
    started = time.perf_counter()
    delta = rf.empirical_delta(network, x, rf.WeightedLp(p), epsilon, domain=domain)
    return {"rows": len(x), "delta": delta, "seconds": time.perf_counter() - started}


# --- the page -------------------------------------------------------------------------------------

PARTS = {
    "nets": net_cells,
    "tables": table_cells,
    "debiased": debiased_cells,
    "empirical": empirical_cells,
}


def interval(found: dict[str, Any], digits: int = 4) -> str:
    return f"{found['lower']:.{digits}f} to {found['upper']:.{digits}f}"


def nets_part(store: Store) -> str:
    rows, closed, finite, within, at_once = [], 0, 0, [], []
    for relaxed in net_cells():
        name, kind = relaxed.key.split("/")[1:]
        if kind != "relaxed":
            continue
        found = store.get(relaxed)
        whole, tree = (store.get(Cell(f"nets/{name}/{k}", dict)) for k in ("whole", "bab"))
        if found is None or whole is None or tree is None:
            continue
        # whole people are among those in between: the one bound holds for both, and so does the
        # other's pair
        between = min(found["upper"], tree["upper"])
        upper = min(between, whole["upper"])
        lower = max(found["lower"], whole["lower"], tree["lower"])
        gap = (between - lower) / between
        reference = REFERENCE.get(name)
        shown = "-"
        if reference:
            shown = (
                f"{reference[0]:g}"
                if reference[0] == reference[1]
                else "{:g} to {:g}".format(*reference)
            )
            # the lower bound reaches the optimum, the upper one does not cut it off
            reached = lower >= 0.99 * reference[0]
            within.append(reached and between >= (1 - 1e-3) * reference[0])
        closed += gap <= 0.01
        at_once.append(1000 * found["first_seconds"])
        for one in (found, whole, tree):
            finite += math.isfinite(one["upper"]) and one["distance"] is not None
        rows.append(
            [
                name,
                found["layers"],
                NAMES[found["protected"]],
                f"{found['first']:.4f}",
                f"{lower:.4f}",
                f"{found['upper']:.4f}",
                f"{found['seconds']:.1f}",
                f"{tree['upper']:.4f}",
                f"{tree['seconds']:.1f}",
                f"{100 * gap:.1f} %",
                shown,
                f"{whole['lower']:.4f}",
                f"{upper:.4f}",
                f"{whole['seconds']:.1f}",
            ]
        )
    head = ["network", "layers", "differs", "bound at once", "lower", "upper: milp", "s"]
    head += ["upper: bab", "s", "gap", "reference", "whole: lower", "upper", "s"]
    return "\n\n".join(
        [
            "## 1. Networks of the verification literature",
            "Two people alike in all but the protected input; the largest difference of their "
            f"logits. Up to {NET_SECONDS:g} s each, one thread. Left: the shared inputs anywhere "
            "in their range, as the reference values have it, by the MILP and by branch and bound; "
            "the better of each counts. Right: whole numbers only, as the "
            "inputs are. Whole inputs are among those in between: the left upper bound holds "
            "on the right, a pair of the right counts on the left. The bound at once is "
            f"difference-CROWN's, in {statistics.median(at_once):.0f} ms (median; at most "
            f"{max(at_once):.0f} ms).",
            table(head, rows),
            f"{len(rows)} networks; {closed} closed to 1 % with continuous inputs; the lower bound "
            "is at least 99 % of the reference's, and the upper bound not below it, in "
            f"{sum(within)} of {len(within)}; {finite} of {3 * len(rows)} certificates have a "
            "finite upper bound and a witness.",
        ]
    )


def tables_part(store: Store) -> str:
    rows = []
    for name, widths in TABLES:
        for outputs in ("values", "logits"):
            for method in METHODS:
                found = [
                    store.get(
                        Cell(
                            f"tables/{name}/{'-'.join(map(str, widths))}/{seed}/{outputs}/{method}",
                            dict,
                        )
                    )
                    for seed in SEEDS
                ]
                done = [f for f in found if f]
                if not done:
                    continue
                rows.append(
                    [
                        name,
                        str(list(widths)),
                        "logits" if outputs == "values" else "probabilities",
                        method,
                        "; ".join(interval(f) for f in done),
                        "; ".join(f"{100 * f['gap']:.2f} %" for f in done),
                        "; ".join(f"{f['seconds']:.1f}" for f in done),
                    ]
                )
    head = ["data", "widths", "difference of", "method", "interval (seeds 0, 1, 2)", "gap", "s"]
    return "\n\n".join(
        [
            "## 2. German and Adult",
            "Networks trained here (ReLU, BatchNorm), sex free, epsilon 0.2 in l_inf on the "
            "columns as the network takes them (standardised numbers; all other categories "
            f"equal), the box around the training rows, {TABLE_SECONDS:g} s each, one after the "
            "other. Two copies on seed 0 only. Target: a gap of at most 0.5 %.",
            table(head, rows),
        ]
    )


def debiased_part(store: Store) -> str:
    rows = []
    for name, sensitive in DEBIASED:
        found = [store.get(Cell(f"debiased/{name}/{sensitive}/{seed}", dict)) for seed in SEEDS]
        done = [f for f in found if f]
        for method in ("threshold", *DEBIASERS) if done else ():
            of = [f[method] for f in done]
            row = [f"{name}/{sensitive}", "none (threshold)" if method == "threshold" else method]
            row += [spread([o["spd"] for o in of]), spread([o["balanced_accuracy"] for o in of])]
            for epsilon in ("0", "0.2"):
                row += [
                    spread([o[epsilon]["empirical"] for o in of]),
                    spread([o[epsilon]["lower"] for o in of]),
                    spread([o[epsilon]["upper"] for o in of]),
                ]
            rows.append(row)
        if done:
            rows.append([f"{name}/{sensitive}", "constant", "0", "0.5", *["0"] * 6])
    head = ["data", "debiased by", "spd", "bal. accuracy"]
    head += ["eps 0: rows", "lower", "upper", "eps 0.2: rows", "lower", "upper"]
    return "\n\n".join(
        [
            "## 3. Does debiasing for groups treat similar people more alike?",
            "Networks [16], debiased for |spd| < 0.05 on validation data; spd and balanced "
            "accuracy on test data; delta in probability over the box of the training rows, the "
            "protected column free, epsilon 0 and 0.2 (l_inf); `rows`: the largest difference "
            f"between two similar test rows. {DEBIASED_SECONDS:g} s per certificate, {len(SEEDS)} "
            "seeds: mean +- standard deviation. The threshold changes decisions, not "
            "probabilities: its rows stand for the base network. The constant classifier is "
            "perfectly fair to individuals and useless.",
            table(head, rows),
        ]
    )


def empirical_part(store: Store) -> str:
    rows = []
    for cell in empirical_cells():
        found = store.get(cell)
        if found:
            _, p, epsilon = cell.key.split("/")
            cells = [f"{found['delta']:.4f}", f"{found['seconds']:.1f}"]
            rows.append([f"l_{p}", epsilon, f"{found['rows']:,}", *cells])
    return "\n\n".join(
        [
            "## 4. The empirical figure over a whole data set",
            "The largest difference of logits between two similar rows of Adult, sex free, over "
            "all pairs of rows, exactly; the seconds include the network's pass. Target: 5 min.",
            table(["distance", "epsilon", "rows", "delta", "s"], rows),
        ]
    )


def machine(loads: list[float]) -> str:
    packages = ("torch", "numpy", "highspy", "pulp")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = (
        f"{statistics.median(loads):.1f} ({min(loads):.1f} to {max(loads):.1f})" if loads else "-"
    )
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}, retrofair "
        f"{rf.__version__}; load average during the cells: median {load}, of which 1 is ours."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--only", default="", help="Only cells whose key has this in it.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(arguments.store)
    store.folder.mkdir(parents=True, exist_ok=True)
    chosen = [cell for part in arguments.parts.split(",") for cell in PARTS[part]()]
    missing = [c for c in chosen if arguments.only in c.key and store.get(c) is None]
    for cell in track(missing, "certificates", total=len(missing)):
        np.random.seed(0)
        found = cell.work()
        temporary = store.path(cell).with_suffix(".part")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        temporary.replace(store.path(cell))
        print(cell.key, {k: v for k, v in found.items() if k in ("lower", "upper", "seconds")})
    if arguments.page:
        loads = [f["load"] for c in chosen if (f := store.get(c)) and "load" in f]
        write_page(
            arguments.page,
            "Certificates",
            "Written by `python benchmarks/certify.py --store FOLDER --page "
            f"docs/results/certify.md`. {machine(loads)}",
            nets_part(store),
            tables_part(store),
            debiased_part(store),
            empirical_part(store),
        )


if __name__ == "__main__":
    main()
