"""What all pictures share: colours, markers, handles of a legend, and how they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from retrofair.files import replacing

# Okabe and Ito's colours: told apart by colour-blind readers; markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def handle(marker: str, colour: str, name: str, line: Any = "-") -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], color=colour, marker=marker, linestyle=line, label=name)


def saved(figure: Figure, path: str | Path) -> Path:
    """Write a figure, whole or not at all, and the same from run to run."""
    path = Path(path)
    with replacing(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "retrofair"}):
        figure.savefig(temporary, dpi=150)
    return path
