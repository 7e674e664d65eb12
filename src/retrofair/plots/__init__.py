"""Pictures: bias against performance, the frontier, certified differences, rounds of a repair."""

from retrofair.plots.groups import Point, allowed, bias_performance
from retrofair.plots.individuals import delta_curve, repair_history
from retrofair.plots.operating import frontier
from retrofair.plots.style import COLOURS, MARKERS

__all__ = [
    "COLOURS",
    "MARKERS",
    "Point",
    "allowed",
    "bias_performance",
    "delta_curve",
    "frontier",
    "repair_history",
]
