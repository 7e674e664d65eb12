"""`fairnn`: the framework of Liu and Hu (2023) for individual fairness, on Boston housing."""

from retrofair.studies.fairnn.study import FAIRNN, FairNN

__all__ = ["FAIRNN", "FairNN"]
