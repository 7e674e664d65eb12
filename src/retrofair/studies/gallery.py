"""Faces with the network's probability before and after: Figure 2 of the intra-processing paper.

Pictures of people are personal data, and the sets of faces are for non-commercial research: a
gallery is written to a folder of the user's own, and is no part of a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from retrofair.debiasers import Debiased
from retrofair.errors import InputError
from retrofair.files import replacing
from retrofair.metrics import Array
from retrofair.networks.outputs import evaluating, forward, probability
from retrofair.studies.cells import DebiasCell
from retrofair.studies.devices import computing_on
from retrofair.studies.figures import LOOK
from retrofair.studies.run import Plan

FILE = "gallery.png"
FACES = 6  # per group
INCHES = 1.1  # of a face
PUBLISHED = ("docs", "results")  # a folder of what is published


def gallery(
    result: Debiased,
    before: nn.Module,
    data: Any,
    folder: Path,
    *,
    label: str = "label 1",
    faces: int = FACES,
    seed: int = 0,
) -> Path:
    """Draw faces of each group with the probability before and after, as one PNG.

    Rows are groups. The faces of each are drawn at random, and stand in the order of their
    probability before, the highest on the left. A frame shows the decision: solid where it is
    positive, dashed where it is not.

    Args:
        result: of `debias`.
        before: the network that it started from, which answers with logits.
        data: images (n, 3, h, w) as `StreamedData` or `GroupedData`.
        folder: of the user's own.
        label: what the probability is of.
        faces: of each group.
        seed: of the draw.

    Returns:
        The file.

    Raises:
        InputError: no images, or a folder that is published.

    Reference:
        Savani, White and Govindarajulu (2020), Intra-processing methods for debiasing neural
        networks, Figure 2.
    """
    if faces < 1:
        raise InputError(f"expected at least one face of each group, got {faces} (faces)")
    whole = folder.resolve().parts
    if any(whole[i : i + 2] == PUBLISHED for i in range(len(whole) - 1)):
        raise InputError(
            f"expected a folder of your own for faces, got {folder}: they must not be published "
            "(--out)"
        )
    chosen = drawn(data.group.numpy(), len(data.group_names), faces, seed)
    every = np.concatenate(chosen)
    part = data[torch.from_numpy(every)]
    pictures = pixels(part)
    first = _chances(before, part)
    second, positive = result.score_data(part)
    lines, start = [], 0
    for rows in chosen:
        here = np.arange(start, start + len(rows))
        lines.append(here[np.argsort(-first[here], kind="stable")])
        start += len(rows)
    with matplotlib.rc_context(LOOK):
        size = INCHES * faces + 1.2, (INCHES + 0.45) * len(lines) + 0.6
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(lines), faces, squeeze=False)
        for name, axes, line in zip(data.group_names, grid, lines, strict=True):
            for one in axes:
                one.set(xticks=[], yticks=[])
                one.spines[:].set_visible(False)
            axes[0].set_ylabel(name)
            for one, row in zip(axes, line, strict=False):
                one.imshow(pictures[row])
                one.set_xlabel(f"{first[row]:.2f} to {second[row]:.2f}", fontsize=7.5)
                solid = "-" if positive[row] else (0, (2, 2))
                one.spines[:].set(visible=True, linewidth=1.6, linestyle=solid, color="#222222")
        figure.suptitle(f"P({label}) before to after; solid frame: decided positive", fontsize=9)
        path = folder / FILE
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150)
    return path


def drawn(group: Array, n_groups: int, faces: int, seed: int) -> list[Array]:
    """Rows of each group, at most so many, at random."""
    random = np.random.default_rng(seed)
    found = []
    for code in range(n_groups):
        rows = np.flatnonzero(group == code)
        found.append(random.permutation(rows)[:faces])
    return found


def pixels(data: Any) -> Array:
    """Images as people see them: (n, h, w, 3) uint8.

    Those of a data set of images as they were decoded; of others the numbers, from the smallest
    to the largest of each image.

    Raises:
        InputError: x are no colour images.
    """
    if hasattr(getattr(data, "rows", None), "pixels"):
        found: Array = data.rows.pixels(data.index.numpy())
        return found.transpose(0, 2, 3, 1)
    x = data.x
    if getattr(x, "ndim", 0) != 4 or x.shape[1] != 3:
        shape = tuple(getattr(x, "shape", ()))
        raise InputError(f"expected colour images (n, 3, h, w) for a gallery, got {shape}")
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    scaled = (x - low) / (high - low).clamp(min=1e-12) * 255
    return np.asarray(scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy())


def _chances(network: nn.Module, data: Any) -> Array:
    with evaluating(network):
        logits = torch.cat([forward(network, x).float().cpu() for x, _, _ in data])
    return probability(logits)


def gallery_of(cell: DebiasCell, plan: Plan, folder: Path, device: str = "cpu") -> Path:
    """Run a cell again and draw the gallery of its test data.

    Raises:
        InputError: the network that it starts from is not stored.
    """
    key = plan.key(cell.network)
    if not (plan.store.done(key) and plan.store.has_tensors(key)):
        raise InputError(
            f"expected the network of the study's first seed in {plan.store.folder}, found none "
            "with its weights: run the study first (without --page-only)"
        )
    splits = cell.source.load(plan.root)
    before = cell.network.build(splits, plan.store.tensors(key))
    with computing_on(device):
        result = cell.debiased(splits, before)
        return gallery(result, before, splits.test, folder, label=cell.source.target or "label 1")
