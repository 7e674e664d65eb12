"""Retrofit fairness to a trained neural network: audit it, debias it, certify it."""

from retrofair import certifiers, datasets, debiasers, individual, metrics, networks, preprocessing
from retrofair.audit import Audit, Estimate, audit, audit_predictions
from retrofair.certifiers import (
    Certificate,
    Continuous,
    Domain,
    Embedding,
    Integer,
    Mahalanobis,
    OneHot,
    Verdict,
    WeightedLp,
    attack,
    certify,
    certify_curve,
    empirical_curve,
    empirical_delta,
)
from retrofair.data import GroupedData, Preparation, Splits, StreamedData
from retrofair.debiasers import Debiased, Effects, Status, compare, debias, load_result
from retrofair.deploy import Exported, export
from retrofair.errors import InputError, RetrofairError, RetrofairWarning
from retrofair.frontier import Frontier, frontier
from retrofair.individual import (
    Repair,
    RepairStatus,
    load_repair,
    repair,
    train_individually_fair,
)
from retrofair.interop import (
    RetrofairClassifier,
    audit_decisions,
    from_aif360,
    make_fairness_scorer,
    to_aif360,
    to_metric_frame,
)
from retrofair.objective import Constrained, Weighted
from retrofair.regression import (
    BoundedGroupLoss,
    BoundedLoss,
    RegressionAudit,
    audit_regression,
    bound_group_loss,
    load_bounded_loss,
)
from retrofair.report import report
from retrofair.version import __version__

__all__ = [
    "Audit",
    "BoundedGroupLoss",
    "BoundedLoss",
    "Certificate",
    "Constrained",
    "Continuous",
    "Debiased",
    "Domain",
    "Effects",
    "Embedding",
    "Estimate",
    "Exported",
    "Frontier",
    "GroupedData",
    "InputError",
    "Integer",
    "Mahalanobis",
    "OneHot",
    "Preparation",
    "RegressionAudit",
    "Repair",
    "RepairStatus",
    "RetrofairClassifier",
    "RetrofairError",
    "RetrofairWarning",
    "Splits",
    "Status",
    "StreamedData",
    "Verdict",
    "Weighted",
    "WeightedLp",
    "__version__",
    "attack",
    "audit",
    "audit_decisions",
    "audit_predictions",
    "audit_regression",
    "bound_group_loss",
    "certifiers",
    "certify",
    "certify_curve",
    "compare",
    "datasets",
    "debias",
    "debiasers",
    "empirical_curve",
    "empirical_delta",
    "export",
    "from_aif360",
    "frontier",
    "individual",
    "load_bounded_loss",
    "load_repair",
    "load_result",
    "make_fairness_scorer",
    "metrics",
    "networks",
    "preprocessing",
    "repair",
    "report",
    "to_aif360",
    "to_metric_frame",
    "train_individually_fair",
]
