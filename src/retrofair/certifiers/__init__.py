"""Certifying individuals: who is similar, how far apart they can be treated, and the worst pair.

Adding a certifier = one file and one name in `ALL`.
"""

from retrofair.certifiers.bab import Bab
from retrofair.certifiers.bounds import Bounds, Certifier
from retrofair.certifiers.certificate import Certificate, Step, Verdict
from retrofair.certifiers.curve import Curve, certify_curve
from retrofair.certifiers.distances import Distance, Embedding, Mahalanobis, WeightedLp
from retrofair.certifiers.domain import Continuous, Domain, Feature, Integer, OneHot
from retrofair.certifiers.empirical import EmpiricalDelta, empirical_curve, empirical_delta
from retrofair.certifiers.milp import Milp
from retrofair.certifiers.portfolio import Portfolio
from retrofair.certifiers.pwl import Pwl
from retrofair.certifiers.run import attack, certify
from retrofair.certifiers.witness import Witness

ALL: tuple[type[Certifier], ...] = (Bounds, Milp, Bab, Portfolio, Pwl)

__all__ = [
    "ALL",
    "Bab",
    "Bounds",
    "Certificate",
    "Certifier",
    "Continuous",
    "Curve",
    "Distance",
    "Domain",
    "Embedding",
    "EmpiricalDelta",
    "Feature",
    "Integer",
    "Mahalanobis",
    "Milp",
    "OneHot",
    "Portfolio",
    "Pwl",
    "Step",
    "Verdict",
    "WeightedLp",
    "Witness",
    "attack",
    "certify",
    "certify_curve",
    "empirical_curve",
    "empirical_delta",
]
