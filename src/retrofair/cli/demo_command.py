"""`retrofair demo`: train, audit and debias in one go, with a table and a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from retrofair.audit import audit as audit_network
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.debias_command import constant_audit
from retrofair.cli.tables import Row, row_of, show_audit, show_comparison
from retrofair.datasets import bayes_frontier
from retrofair.debiasers import debias
from retrofair.files import json_text
from retrofair.metrics import Array
from retrofair.networks import train_mlp
from retrofair.networks.train import cache_folder
from retrofair.objective import Constrained
from retrofair.plots import Point, bias_performance
from retrofair.report import sections

METHODS = ("threshold", "random", "layerwise", "adversarial", "fair_head", "reject_option")
PATIENCE = 20


def demo(
    data: o.Data = None,
    sensitive: o.Sensitive = None,
    root: o.Root = None,
    epsilon: Annotated[float, typer.Option(help="Bound on the bias.")] = 0.05,
    seed: o.Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("retrofair-out"),
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """See it work: a network is trained, audited and debiased with several methods."""
    reporting = r.Reporting.of(locals())
    name = data or "synthetic"
    started = time.perf_counter()
    choice = o.TableChoice(name, sensitive=sensitive, root=root, seed=seed)
    splits = choice.splits()
    objective = Constrained("spd", epsilon=epsilon)
    notes.say(f"training a network on {len(splits.train):,} rows of {name} ...")
    notes.flush()
    network = train_mlp(
        splits.train, splits.valid, seed=seed, patience=PATIENCE, cache=cache_folder()
    )
    before = audit_network(network, splits.test)
    if not as_json:
        show_audit(before, f"Audit of the network on {before.n:,} test rows of {name}")
    rows = [Row("original, threshold 0.5", before)]
    for method in METHODS:
        notes.say(f"debiasing with {method} on {len(splits.valid):,} validation rows ...")
        notes.flush()
        result = debias(network, splits.valid, objective, method, seed=seed)
        rows.append(row_of(method, result, audit_network(result, splits.test)))
    constant = constant_audit(splits.test, result)
    rows.insert(
        0, Row("constant classifier", constant, result.constant.objective, note="yardstick")
    )
    reporting.begin()
    picture = bias_performance(
        [Point(row.name, row.audit["spd"], row.audit["balanced_accuracy"]) for row in rows],
        out / f"demo-{name}.png",
        title=f"{name}: bias against performance on {before.n:,} test rows",
        epsilon=epsilon,
        optimum=_optimum() if name == "synthetic" and sensitive in (None, "sex") else None,
    )
    found = sections(before)
    found["comparison"] = r.comparison(
        rows,
        objective,
        about=f"Six methods, each asked for |spd| below {epsilon:g} at the best balanced accuracy.",
        caption="Fitted on validation data, shown on test data, with 95 % intervals",
    )
    reporting.about(network=network, rows=splits.test).write(
        found, f"{name}: a network, and six ways to debias it", [picture.name]
    )
    if as_json:
        print(json_text({row.name: row.audit.to_dict() for row in rows}))
    else:
        show_comparison(
            rows,
            objective,
            f"{name}: maximise balanced accuracy subject to |spd| < {epsilon:g}",
            caption="fitted on validation data, shown on test data; intervals are of the test rows",
        )
    notes.say(f"wrote {picture} ({time.perf_counter() - started:.0f} s in all)")
    return 0


def _optimum() -> tuple[Array, Array]:
    bounds = np.linspace(0, 0.3, 13)
    return bounds, bayes_frontier(list(bounds))
