"""Networks trained to treat similar people alike: the page docs/results/individual.md.

    python benchmarks/individual.py --store FOLDER --page docs/results/individual.md

Hours where nothing is stored; stopped, it goes on where it was. One cell at a time, the seeds
outermost. Beside the page lies its table (.csv), whose rows stay where the store has fewer seeds.
Needs the data sets (RETROFAIR_DATA). The networks of SenSR and SenSeI come from
rivals_individual.py, which says how (--export, --rivals).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import time
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from individual_cells import (
    BOUND,
    EPOCHS,
    EPSILON,
    GAP,
    OURS,
    PATIENCE,
    RIVALS,
    SECONDS,
    SECONDS_OURS,
    SMALL,
    SPARSITY,
    Cell,
    cells,
    load,
    path_of,
    performance,
    rows,
    sparsity,
    untrained,
)
from individual_page import page
from individual_rows import merged, read_rows, rows_of, write_rows
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import retrofair as rf
from retrofair.individual import Settings, fit_individually_fair
from retrofair.progress import track
from retrofair.studies.pages import write_page


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
        settings = Settings(lam=lam, bound=BOUND, sparsity=sparsity(cell.data, lam))
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
        table = arguments.page.with_suffix(".csv")
        found = merged(read_rows(table), rows_of(arguments.store))
        write_rows(table, found.values())
        text = page(found, arguments.page.with_suffix(".png"))
        write_page(arguments.page, "Training for individuals", made, text)


if __name__ == "__main__":
    main()
