"""What the pages of all studies are made of: numbers with their spread, and Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrofair.files import replacing
from retrofair.metrics import Array
from retrofair.studies.cells import versions
from retrofair.studies.run import Plan


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Mean +- standard deviation, over seeds; undefined ones are left out and counted."""
    found, note = _defined(values)
    if not len(found):
        return "undefined" if note else "-"
    if len(found) == 1:
        return f"{found[0]:.{digits}f}{note}"
    return f"{found.mean():.{digits}f} +- {found.std(ddof=1):.{digits}f}{note}"


def lower_median(values: Any) -> float:
    """Of two values in the middle the lower; nothing scored what is halfway from 0 to a score."""
    return float(np.percentile(np.asarray(values, dtype=float), 50, method="lower"))


def middle(values: Iterable[float], digits: int = 3) -> str:
    """Median (smallest to largest), over seeds; of two in the middle the lower one."""
    found, note = _defined(values)
    if not len(found):
        return "undefined" if note else "-"
    if len(found) == 1:
        return f"{found[0]:.{digits}f}{note}"
    median, low, high = lower_median(found), found.min(), found.max()
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}){note}"


def _defined(values: Iterable[float]) -> tuple[Array, str]:
    given = np.asarray(list(values), dtype=float)
    found = given[~np.isnan(given)]
    note = f" ({len(found)} of {len(given)} defined)" if len(found) < len(given) else ""
    return found, note


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def plain(text: str, length: int = 200) -> str:
    """A user's or an error's text as one line that Markdown leaves alone."""
    line = " ".join(text.split())
    line = line if len(line) <= length else line[: length - 3] + "..."
    return "".join(f"\\{c}" if c in "\\`*<>[]|" else c for c in line)


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
    used = ", ".join(f"{name} {value}" for name, value in versions().items())
    text = f"Made with {used}; {len(good):,} of {len(plan.cells):,} cells."
    if good:
        days = sorted({record["finished"][:10] for record in good})
        machines = sorted({record["machine"] for record in good if "machine" in record})
        data = {record["like"][-1]: record["data"][:12] or "generated" for record in good}
        text += (
            f" Their work adds up to {_core_seconds(good) / 60:.0f} core minutes"
            + (f", on {plain('; '.join(machines))}" if machines else "")
            + f", {' to '.join(dict.fromkeys((days[0], days[-1])))}. Data files (SHA-256): "
            + ", ".join(f"{plain(name)} {checksum}" for name, checksum in data.items())
            + "."
        )
    failed = Counter(record.get("error", "") for record in done if record["status"] != "done")
    if failed:
        reasons = "; ".join(f"{n} x {plain(reason)}" for reason, n in failed.most_common(3))
        text += f" **{failed.total():,} cells failed**: {reasons}."
    missing = len(plan.cells) - len(done)
    if missing:
        text += f" **{missing:,} cells have not been run**: the tables below are of the others."
    notes = Counter(note for record in good for note in record.get("notes", ()))
    for note, n in notes.most_common(5):
        text += f"\n- {n} cells said: {plain(note)}"
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
        source["rows"] = config["source"].get("rows")
        if not source["include_sensitive"] or config["source"].get("others"):
            source["sensitive"] = config["source"]["sensitive"]  # other columns, other networks
        shared = json.dumps([source, config["seed"], config["training"]], sort_keys=True)
        # a network of an older cache has no time of its own
        trained[shared] = max(record["seconds"] or 0.0, record["wall_seconds"])
    return total + sum(trained.values())
