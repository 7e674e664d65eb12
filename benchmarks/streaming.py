"""How much memory, and how long, 200,000 images take that are read as they are needed.

    python benchmarks/streaming.py                      a few minutes, 0.4 GB of disk meanwhile
    python benchmarks/streaming.py --workers 2 --folder

Makes a zip (or folder) with as many entries as rows, each the same JPEG of 64x64 pixels, and a
table of random labels and groups; audits a tiny convolutional network on them in a process of its
own; prints that process's peak memory (resident, all of it: Python, torch, the zip's index) and
the rows per second. `--utkface` times passes over UTKFace instead, decoded and then kept.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

import retrofair as rf

MIB = 1024  # ru_maxrss counts KiB on Linux


def jpeg(side: int = 64) -> bytes:
    """A picture with some detail, about as large as a face of that size."""
    from PIL import Image

    wave = np.sin(np.arange(side) / 5)
    noise = np.random.default_rng(0).normal(0, 9, (side, side, 3))
    pixels = 128 + 60 * np.add.outer(wave, wave)[:, :, None] / 2 + noise
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def make(folder: Path, rows: int, packed: bool) -> Path:
    """The images and labels.csv; where the images are."""
    content, names = jpeg(), [f"{row:06d}.jpg" for row in range(rows)]
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 2, (rows, 2))
    table = {"file": names, "label": codes[:, 0], "group": codes[:, 1]}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)
    print(f"{rows:,} entries of {len(content):,} bytes", flush=True)
    if packed:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name in names:
                archive.writestr(name, content)
        return folder / "images.zip"
    images = folder / "images"
    images.mkdir()
    for name in names:
        (images / name).write_bytes(content)
    return images


def network() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, stride=4)
    return nn.Sequential(
        first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0)
    ).eval()


def measure(images: Path, workers: int, batch_rows: int) -> None:
    """One audit, in this process."""
    started = time.perf_counter()
    data = rf.images_of(
        images,
        images.parent / "labels.csv",
        label="label",
        sensitive="group",
        workers=workers,
        batch_rows=batch_rows,
    )
    ready = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = rf.audit(network(), data)
    seconds = time.perf_counter() - ready
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if workers else 0
    print(f"{data.rows!r}, spd {found['spd']}")
    print(
        f"{len(data):,} rows, {workers} workers: {ready - started:.1f} s to list them, "
        f"{seconds:.1f} s to audit, {len(data) / seconds:,.0f} rows/s; peak memory "
        f"{own / MIB:,.0f} MiB ({before / MIB:,.0f} MiB before the audit)"
        + (f", and {worker / MIB:,.0f} MiB in the largest worker" if workers else "")
    )


def utkface() -> None:
    """Passes over all of UTKFace."""
    started = time.perf_counter()
    splits = rf.datasets.load("utkface", seed=0)
    print(f"loading: {time.perf_counter() - started:.1f} s")
    for what in ("decoded", "kept", "kept"):
        started = time.perf_counter()
        rows = sum(len(y) for part in vars(splits).values() for _, y, _ in part)
        seconds = time.perf_counter() - started
        print(f"{rows:,} rows, {what}: {seconds:.2f} s, {rows / seconds:,.0f} rows/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / MIB:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch-rows", type=int, default=256)
    parser.add_argument("--folder", action="store_true", help="files in a folder, not a zip")
    parser.add_argument("--utkface", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.utkface:
        utkface()
    elif arguments.measure:
        measure(arguments.measure, arguments.workers, arguments.batch_rows)
    else:
        with tempfile.TemporaryDirectory() as folder:
            images = make(Path(folder), arguments.rows, not arguments.folder)
            given = {"measure": images, "workers": arguments.workers}
            given["batch-rows"] = arguments.batch_rows
            options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
            subprocess.run([sys.executable, __file__, *options], check=True)


if __name__ == "__main__":
    main()
