"""Regression networks: the loss of each group, audited and bounded."""

from retrofair.regression.audited import audit_regression
from retrofair.regression.bounded import bound_group_loss
from retrofair.regression.found import GroupLoss, RegressionAudit
from retrofair.regression.losses import Mean
from retrofair.regression.objective import BoundedGroupLoss
from retrofair.regression.result import BoundedLoss, load_bounded_loss

__all__ = [
    "BoundedGroupLoss",
    "BoundedLoss",
    "GroupLoss",
    "Mean",
    "RegressionAudit",
    "audit_regression",
    "bound_group_loss",
    "load_bounded_loss",
]
