"""Networks that treat similar people alike: repaired until it is proved."""

from retrofair.individual.judged import Performance
from retrofair.individual.kept import load_repair
from retrofair.individual.repair import repair
from retrofair.individual.repaired import Repair, RepairStatus, Round

__all__ = ["Performance", "Repair", "RepairStatus", "Round", "load_repair", "repair"]
