"""Pictures: bias against performance, certified differences, rounds of a repair."""

from retrofair.plots.groups import Point, allowed, bias_performance
from retrofair.plots.individuals import delta_curve, repair_history
from retrofair.plots.style import COLOURS, MARKERS

__all__ = [
    "COLOURS",
    "MARKERS",
    "Point",
    "allowed",
    "bias_performance",
    "delta_curve",
    "repair_history",
]
