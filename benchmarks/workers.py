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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib

from retrofair.studies import Plan, Source, Store, run
from retrofair.studies.intra import INTRA

GRID = dataclasses.replace(
    INTRA.grid,
    sources=(Source("compas", ("race",)), Source("compas", ("sex",))),
    measures=("spd",),
    methods=tuple(m for m in INTRA.grid.methods if "papers" not in m.name),
    seeds=(0,),
)


def measure(jobs: int) -> None:
    """Print the wall time of the cells with so many workers, and their number."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        plan = Plan.of(GRID.cells(), Store(Path(folder) / "store"))
        started = time.perf_counter()
        run(plan, jobs=jobs)
        print(time.perf_counter() - started, len(plan.cells))


def seconds(jobs: int) -> tuple[float, int]:
    """The same in a process of its own, so that nothing is left over from the one before."""
    command = [sys.executable, __file__, "--measure", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, cells = done.stdout.split()
    return float(wall), int(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    lines, ratios, cells = [], [], 0
    for number in range(1, arguments.rounds + 1):
        (one, cells), (two, _) = seconds(1), seconds(2)
        ratios.append(one / two)
        lines.append(f"| {number} | {one:.0f} | {two:.0f} | {one / two:.2f} x |")
        print(lines[-1], flush=True)
    low, high = min(ratios), max(ratios)
    page = (
        f"# A study with one worker and with two\n\n"
        f"{cells} cells of the study `intra` (COMPAS by race and sex, spd, one seed, "
        f"every method but the papers' own versions), base networks included, each time from "
        f"nothing, on {joblib.cpu_count()} cores, one torch thread per worker.\n\n"
        f"| round | one worker, s | two workers, s | speed-up |\n| --- | --- | --- | --- |\n"
        + "\n".join(lines)
        + f"\n\nMedian {statistics.median(ratios):.2f} x ({low:.2f} to {high:.2f}); wanted: at "
        "least 1.6 x.\n"
    )
    if arguments.page is None:
        print(page)
    else:
        arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
