"""`retrofair train`: the papers' network on a data set or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrofair.audit import audit
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.tables import show_audit
from retrofair.files import json_text, replacing, save_tensors, write_json
from retrofair.networks import train_mlp
from retrofair.networks.train import cache_folder
from retrofair.report import sections


def train(
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    width: Annotated[int, typer.Option(help="Units per hidden layer.")] = 32,
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 10,
    dropout: Annotated[float, typer.Option(help="Share of units dropped.")] = 0.2,
    patience: Annotated[int, typer.Option(help="Epochs without improvement.")] = 100,
    config: o.Config = None,
    seed: o.Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("retrofair-out"),
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """Train a base network, and audit it on test data."""
    reporting = r.Reporting.of(locals())
    choice = o.TableChoice(
        o.one_source(file, data),
        label,
        positive,
        sensitive,
        privileged,
        blind,
        missing,
        drop,
        no_scale,
        root,
        seed,
    )
    choice.check_columns()
    splits = choice.splits()
    notes.say(f"training a network on {len(splits.train):,} rows of {choice.data} ...")
    notes.flush()
    network = train_mlp(
        splits.train,
        splits.valid,
        seed=seed,
        width=width,
        depth=depth,
        dropout=dropout,
        patience=patience,
        cache=cache_folder(),
    )
    found = audit(network, splits.test)
    reporting.begin()
    with replacing(out / "network.safetensors") as temporary:
        save_tensors(temporary, network.state_dict())
    preparation = splits.train.preparation
    about = {
        "data": choice.data,
        "features": splits.train.x.shape[1],
        "width": width,
        "depth": depth,
        "dropout": dropout,
        "seed": seed,
        "preparation": None if preparation is None else preparation.to_dict(),
        "test": found.to_dict(),
    }
    write_json(out / "network.json", about)
    reporting.about(network=network, rows=splits.test, source=choice.data).write(
        sections(found),
        f"{choice.name}: a base network on test data",
        ["network.safetensors", "network.json"],
    )
    if as_json:
        print(json_text(found.to_dict()))
    else:
        show_audit(found, f"{choice.data}: the trained network on {found.n:,} test rows")
    notes.say(f"wrote {out / 'network.safetensors'} and network.json")
    return 0
