"""Debiasing methods. Adding one = one file and one name in `ALL`."""

from retrofair.debiasers.adversarial import Adversarial
from retrofair.debiasers.base import Debiaser, Fit, Unseen
from retrofair.debiasers.bias_gradient import BiasGradient
from retrofair.debiasers.calibrated_equalized_odds import CalibratedEqualizedOdds
from retrofair.debiasers.compare import compare
from retrofair.debiasers.effects import Effects
from retrofair.debiasers.equalized_odds import EqualizedOdds
from retrofair.debiasers.fair_head import FairHead
from retrofair.debiasers.group_thresholds import GroupThresholds
from retrofair.debiasers.lagrangian import Lagrangian
from retrofair.debiasers.layerwise import Layerwise
from retrofair.debiasers.pruning import Pruning
from retrofair.debiasers.random import Random
from retrofair.debiasers.reject_option import RejectOption
from retrofair.debiasers.result import Debiased, Scores, Status
from retrofair.debiasers.run import debias
from retrofair.debiasers.stored import load_result
from retrofair.debiasers.threshold import Threshold
from retrofair.debiasers.zhang import Zhang

ALL: tuple[type[Debiaser], ...] = (
    Threshold,
    Random,
    Layerwise,
    Adversarial,
    Zhang,
    RejectOption,
    EqualizedOdds,
    CalibratedEqualizedOdds,
    GroupThresholds,
    FairHead,
    Lagrangian,
    BiasGradient,
    Pruning,
)

__all__ = [
    "ALL",
    "Adversarial",
    "BiasGradient",
    "CalibratedEqualizedOdds",
    "Debiased",
    "Debiaser",
    "Effects",
    "EqualizedOdds",
    "FairHead",
    "Fit",
    "GroupThresholds",
    "Lagrangian",
    "Layerwise",
    "Pruning",
    "Random",
    "RejectOption",
    "Scores",
    "Status",
    "Threshold",
    "Unseen",
    "Zhang",
    "compare",
    "debias",
    "load_result",
]
