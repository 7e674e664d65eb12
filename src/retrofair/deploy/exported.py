"""What an export is: its files, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retrofair.deploy.form import Input
from retrofair.deploy.parity import Parity
from retrofair.deploy.timing import Timing
from retrofair.version import __version__

FORMAT = 1
ABOUT = "export.json"


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Args:
        path: the file; where `written` is False, what stood there before still does.
        format: "onnx", "torch_export" or "torchscript".
        inputs: a table's columns, or what the network takes, and the group where the rule needs it.
        rule: how it decides, as plain values.
        group_names: what the codes of the second input mean.
        parity: how its answers agree with the network's.
        timings: how long it takes, for one row and for many.
        bytes: of the file.
        sha256: of the file.
    """

    path: Path
    format: str
    inputs: tuple[Input, ...]
    rule: dict[str, Any]
    group_names: tuple[str, ...]
    parity: Parity
    timings: tuple[Timing, ...]
    bytes: int
    sha256: str

    @property
    def written(self) -> bool:
        """Whether it is in its place: only where parity holds."""
        return self.parity.holds

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what export.json holds."""
        return {
            "format": FORMAT,
            "retrofair": __version__,
            "torch": torch.__version__,
            "file": self.path.name,
            "kind": self.format,
            "written": self.written,
            "inputs": [each.to_dict() for each in self.inputs],
            "outputs": [
                {"name": "probability", "dtype": "float64"},
                {"name": "decision", "dtype": "int64", "none": -1},
            ],
            "rule": self.rule,
            "group_names": list(self.group_names),
            "parity": self.parity.to_dict(),
            "latency": [each.to_dict() for each in self.timings],
            "bytes": self.bytes,
            "sha256": self.sha256,
        }
