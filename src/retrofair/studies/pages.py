"""What the pages of all studies are made of: numbers with their spread, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrofair.files import replacing
from retrofair.studies.cells import versions
from retrofair.studies.run import Plan


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Mean +- standard deviation, over seeds."""
    found = np.asarray(list(values), dtype=float)
    if not len(found):
        return "-"
    if len(found) == 1:
        return f"{found[0]:.{digits}f}"
    return f"{found.mean():.{digits}f} +- {found.std(ddof=1):.{digits}f}"


def middle(values: Iterable[float], digits: int = 3) -> str:
    """Median (smallest to largest), over seeds."""
    found = np.asarray(list(values), dtype=float)
    if not len(found):
        return "-"
    return f"{np.median(found):.{digits}f} ({found.min():.{digits}f} to {found.max():.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(path: Path, title: str, *parts: str) -> Path:
    """A page from its parts, in place of the old one."""
    text = "\n\n".join([f"# {title}", *(part.strip() for part in parts if part.strip())])
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """A CSV in place of the old one."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False)
    return path


def provenance(plan: Plan) -> str:
    """What the numbers were made with, and what is missing."""
    done = [record for cell in plan.cells if (record := plan.record(cell)) is not None]
    good = [record for record in done if record["status"] == "done"]
    versions_used = ", ".join(f"{name} {value}" for name, value in versions().items())
    text = f"Made with {versions_used}; {len(good):,} of {len(plan.cells):,} cells."
    text += f" Their work adds up to {_core_seconds(good) / 60:.0f} core minutes."
    failed = [record for record in done if record["status"] != "done"]
    if failed:
        reasons = sorted({record.get("error", "") for record in failed})
        text += f" **{len(failed):,} cells failed**, for example: {reasons[0]}."
    missing = len(plan.cells) - len(done)
    if missing:
        text += f" **{missing:,} cells have not been run**: the tables below are of the others."
    return text


def _core_seconds(records: Iterable[dict[str, Any]]) -> float:
    """All work, with the training of a network that several cells share counted once."""
    total = 0.0
    trained: dict[str, float] = {}
    for record in records:
        if record["kind"] != "network":
            total += record["wall_seconds"]
            continue
        config = record["config"]
        source = {key: config["source"][key] for key in ("data", "split", "include_sensitive")}
        shared = json.dumps([source, config["seed"], config["training"]], sort_keys=True)
        # a network of an older cache has no time of its own
        trained[shared] = max(record["seconds"] or 0.0, record["wall_seconds"])
    return total + sum(trained.values())
