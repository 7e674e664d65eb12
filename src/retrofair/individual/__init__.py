"""Networks that treat similar people alike: training for it, and mending until it is proved."""

from retrofair.individual.descent import Epoch, Settings
from retrofair.individual.fair_training import (
    IndividuallyFair,
    fit_individually_fair,
    train_individually_fair,
)
from retrofair.individual.judged import Performance
from retrofair.individual.kept import load_repair
from retrofair.individual.repair import repair
from retrofair.individual.repaired import Repair, RepairStatus, Round

__all__ = [
    "Epoch",
    "IndividuallyFair",
    "Performance",
    "Repair",
    "RepairStatus",
    "Round",
    "Settings",
    "fit_individually_fair",
    "load_repair",
    "repair",
    "train_individually_fair",
]
