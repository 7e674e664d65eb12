"""How much faster a study is with two workers than with one: the page docs/results/workers.md.

    python benchmarks/workers.py --page docs/results/workers.md     about ten minutes

Each round runs the same cells (base networks included) with one worker and with two, each time
into an empty store and with an empty cache, one after the other.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import joblib

from retrofair.studies import Plan, Source, Store, run
from retrofair.studies.intra import INTRA

GRID = dataclasses.replace(
    INTRA.grid,
    sources=(Source("compas", ("race",)), Source("compas", ("sex",)), Source("bank", ("age",))),
    measures=("spd",),
    methods=tuple(m for m in INTRA.grid.methods if "papers" not in m.name),
    seeds=(0,),
)


def seconds(jobs: int) -> tuple[float, int]:
    """Wall time of the cells with so many workers, and their number."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        plan = Plan.of(GRID.cells(), Store(Path(folder) / "store"))
        started = time.perf_counter()
        run(plan, jobs=jobs)
        return time.perf_counter() - started, len(plan.cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    lines, ratios, cells = [], [], 0
    for number in range(1, arguments.rounds + 1):
        (one, cells), (two, _) = seconds(1), seconds(2)
        ratios.append(one / two)
        lines.append(f"| {number} | {one:.0f} | {two:.0f} | {one / two:.2f} x |")
        print(lines[-1], flush=True)
    low, high = min(ratios), max(ratios)
    arguments.page.write_text(
        f"# A study with one worker and with two\n\n"
        f"{cells} cells of the study `intra` (COMPAS by race and sex, Bank by age, spd, one seed, "
        f"every method but the papers' own versions), base networks included, each time from "
        f"nothing, on {joblib.cpu_count()} cores, one torch thread per worker.\n\n"
        f"| round | one worker, s | two workers, s | speed-up |\n| --- | --- | --- | --- |\n"
        + "\n".join(lines)
        + f"\n\nMedian {statistics.median(ratios):.2f} x ({low:.2f} to {high:.2f}); wanted: at "
        "least 1.6 x.\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
