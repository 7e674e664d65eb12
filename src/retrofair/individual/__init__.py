"""Networks that treat similar people alike: training for it, and mending until it is proved."""

from retrofair.individual.fair_training import (
    Epoch,
    IndividuallyFair,
    Settings,
    fit_individually_fair,
    train_individually_fair,
)

__all__ = [
    "Epoch",
    "IndividuallyFair",
    "Settings",
    "fit_individually_fair",
    "train_individually_fair",
]
