"""What every study is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from retrofair.studies.cells import Cell
from retrofair.studies.run import Plan


class Study(Protocol):
    """Cells to run, and what is written about them. Implementations are frozen dataclasses.

    `title` is one line for people; `name` is what the command line and the files are called.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...

    def cells(self) -> list[Cell]:
        """Every cell; networks that a cell needs are added by `Plan.of`."""

    def write(self, plan: Plan, folder: Path) -> list[Path]:
        """The page, the tidy table and the figures, from the cells that are stored.

        Cells that are missing or failed are left out, and the page says how many.
        """
