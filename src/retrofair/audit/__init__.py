"""Audit: every measure of a network's decisions on some data, each with its interval."""

from retrofair.audit.audited import audit, audit_predictions
from retrofair.audit.found import Audit, Estimate
from retrofair.audit.kept import audit_from_dict, audit_to_dict
from retrofair.audit.scores import ScoreCounts

__all__ = [
    "Audit",
    "Estimate",
    "ScoreCounts",
    "audit",
    "audit_from_dict",
    "audit_predictions",
    "audit_to_dict",
]
