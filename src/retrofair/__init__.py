"""Retrofit fairness to a trained neural network: audit it, debias it, certify it."""

from retrofair import datasets, debiasers, metrics, networks
from retrofair.audit import Audit, Estimate, audit, audit_predictions
from retrofair.data import GroupedData, Splits
from retrofair.debiasers import Debiased, Status, debias, load_result
from retrofair.errors import InputError, RetrofairError, RetrofairWarning
from retrofair.objective import Constrained, Weighted
from retrofair.version import __version__

__all__ = [
    "Audit",
    "Constrained",
    "Debiased",
    "Estimate",
    "GroupedData",
    "InputError",
    "RetrofairError",
    "RetrofairWarning",
    "Splits",
    "Status",
    "Weighted",
    "__version__",
    "audit",
    "audit_predictions",
    "datasets",
    "debias",
    "debiasers",
    "load_result",
    "metrics",
    "networks",
]
