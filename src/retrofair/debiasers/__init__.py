"""Debiasing methods. Adding one = one file and one name in `ALL`."""

from retrofair.debiasers.base import Debiaser, Fit
from retrofair.debiasers.random import Random
from retrofair.debiasers.result import Debiased, Scores, Status, load_result
from retrofair.debiasers.run import debias
from retrofair.debiasers.threshold import Threshold

ALL = (Threshold, Random)

__all__ = [
    "ALL",
    "Debiased",
    "Debiaser",
    "Fit",
    "Random",
    "Scores",
    "Status",
    "Threshold",
    "debias",
    "load_result",
]
