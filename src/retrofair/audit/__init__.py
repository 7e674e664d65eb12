"""Audit: every measure of a network's decisions on some data, each with its interval."""

from retrofair.audit.audited import audit, audit_predictions
from retrofair.audit.found import Audit, Estimate

__all__ = ["Audit", "Estimate", "audit", "audit_predictions"]
