"""How methods look in figures: a colour for each, a pattern for each version of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from retrofair.debiasers import ALL
from retrofair.plots import COLOURS
from retrofair.studies.grid import Method
from retrofair.studies.results import ORIGINAL

BAR_COLOURS = (*COLOURS[:6], "#F0E442", *COLOURS[6:])  # all eight of Okabe and Ito
BLACK = "#000000"
DARK = "#222222"
GREY = "#BBBBBB"  # the original network, which is no method
PATTERNS = ("", "////", "....", "xxxx", "oo", "\\\\\\\\", "**")


@dataclass(frozen=True)
class Style:
    """A bar's and a point's look; `letter` tells methods of one colour apart in the plane."""

    colour: str
    hatch: str = ""
    letter: str = ""

    @property
    def ink(self) -> str:
        """For edges and hatches: dark, so that yellow can be seen, and white on black."""
        return "white" if self.colour == BLACK else DARK

    @property
    def bar(self) -> dict[str, Any]:
        return {
            "facecolor": self.colour,
            "hatch": self.hatch,
            "edgecolor": self.ink,
            "linewidth": 0.5,
        }

    @property
    def point(self) -> dict[str, Any]:
        """Filled for the first of a colour, hollow with room for the letter for the others."""
        if self.letter:
            return {
                "markerfacecolor": "white",
                "markeredgecolor": self.colour,
                "markeredgewidth": 1.6,
                "markersize": 9,
            }
        return {
            "markerfacecolor": self.colour,
            "markeredgecolor": self.ink,
            "markeredgewidth": 0.6,
            "markersize": 8,
        }

    def handles(self, *, points: bool) -> tuple[Patch | Line2D, ...]:
        """For a legend: the bar, and the point where the figure has a plane."""
        bar = Patch(**self.bar)
        return (bar, Line2D([], [], linestyle="", marker="o", **self.point)) if points else (bar,)


class Styles:
    """A style by a method's name: the same colours in every figure, whichever methods it shows.

    Colours go by the debiaser, in the order of `debiasers.ALL`. From the ninth on they come again
    with horizontal lines. The version that is called like its debiaser, or else the first, is
    plain; others have patterns, in the grid's order.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        bases = [kind.name for kind in ALL]
        versions: dict[str, list[str]] = {}
        for method in methods:
            base = method.debiaser.name
            if base not in bases:
                bases.append(base)
            versions.setdefault(base, []).append(method.name)
        self._found = {ORIGINAL: Style(GREY)}
        used: Counter[str] = Counter()
        for base in sorted(versions, key=bases.index):
            family, which = divmod(bases.index(base), len(BAR_COLOURS))
            colour = BAR_COLOURS[which]
            for version, name in enumerate(_plain_first(versions[base], base)):
                again, pattern = divmod(version, len(PATTERNS))
                hatch = "---" * family + PATTERNS[pattern] + "|" * again
                self._found[name] = Style(colour, hatch, _letter(used[colour]))
                used[colour] += 1
        self.names = (ORIGINAL, *(method.name for method in methods))

    def __getitem__(self, method: str) -> Style:
        return self._found[method]


def _plain_first(names: list[str], base: str) -> list[str]:
    return sorted(names, key=lambda name: name != base)


def _letter(number: int) -> str:
    """None for the first of a colour, then a, b, c."""
    if number == 0:
        return ""
    again, letter = divmod(number - 1, len(ascii_lowercase))
    return ascii_lowercase[letter] * (again + 1)
