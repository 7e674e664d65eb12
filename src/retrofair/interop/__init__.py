"""Bridges to scikit-learn, skorch, fairlearn and AIF360; none of the last three is needed."""

from retrofair.interop.aif360_data import from_aif360, to_aif360
from retrofair.interop.classifier import RetrofairClassifier
from retrofair.interop.fairlearn_frames import audit_decisions, to_metric_frame
from retrofair.interop.scorer import FairnessScorer, make_fairness_scorer

__all__ = [
    "FairnessScorer",
    "RetrofairClassifier",
    "audit_decisions",
    "from_aif360",
    "make_fairness_scorer",
    "to_aif360",
    "to_metric_frame",
]
