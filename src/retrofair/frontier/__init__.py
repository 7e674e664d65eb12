"""All methods from one network: the operating points that none of the others beats."""

from retrofair.frontier.points import Effort, Frontier, Point, Reference, Spread
from retrofair.frontier.run import frontier

__all__ = ["Effort", "Frontier", "Point", "Reference", "Spread", "frontier"]
