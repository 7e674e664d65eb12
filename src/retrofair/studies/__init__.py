"""Studies: many cells side by side, stored as they finish, and a page of what they show.

Adding one = one file and one name in `ALL`.
"""

from retrofair.errors import unknown
from retrofair.studies.base import Study
from retrofair.studies.celeba import CELEBA
from retrofair.studies.coefficients import COEFFICIENTS
from retrofair.studies.fairnn import FAIRNN
from retrofair.studies.grid import Grid, Method
from retrofair.studies.grid_study import GridStudy
from retrofair.studies.heads import HEADS
from retrofair.studies.intra import INTRA
from retrofair.studies.networks import NETWORKS
from retrofair.studies.posthoc import POSTHOC
from retrofair.studies.run import Plan, run
from retrofair.studies.runtimes import RUNTIMES
from retrofair.studies.seeds import SEEDS
from retrofair.studies.sources import Source
from retrofair.studies.store import Store
from retrofair.studies.variants import VARIANTS

ALL: tuple[Study, ...] = (
    SEEDS,
    RUNTIMES,
    NETWORKS,
    POSTHOC,
    VARIANTS,
    COEFFICIENTS,
    INTRA,
    FAIRNN,
    HEADS,
    CELEBA,
)

__all__ = [
    "ALL",
    "Grid",
    "GridStudy",
    "Method",
    "Plan",
    "Source",
    "Store",
    "Study",
    "get",
    "run",
]


def get(name: str) -> Study:
    """The study of this name.

    Raises:
        InputError: there is none.

    Example:
        >>> get("seeds").title
        'Bias against the initial seed (Table 1 of the post-hoc paper)'
    """
    for study in ALL:
        if study.name == name:
            return study
    raise unknown("study", name, [study.name for study in ALL])
