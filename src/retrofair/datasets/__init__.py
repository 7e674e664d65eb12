"""Public data sets of the fairness literature, and one generated one with a known optimum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrofair.data import Splits
from retrofair.data.split import check_seed
from retrofair.datasets.acs_income import ACS_INCOME
from retrofair.datasets.adult import ADULT
from retrofair.datasets.bank import BANK
from retrofair.datasets.base import Cut, DataSet, Protected
from retrofair.datasets.boston import BOSTON
from retrofair.datasets.celeba import CELEBA
from retrofair.datasets.communities import COMMUNITIES
from retrofair.datasets.compas import COMPAS
from retrofair.datasets.fetch import DataFile, Source
from retrofair.datasets.german import GERMAN
from retrofair.datasets.splitting import split, split_options
from retrofair.datasets.synthetic import SYNTHETIC, bayes_frontier
from retrofair.datasets.utkface import UTKFACE
from retrofair.errors import unknown

ALL = (
    *(SYNTHETIC, ADULT, COMPAS, BANK, GERMAN, BOSTON, ACS_INCOME, COMMUNITIES),
    *(UTKFACE, CELEBA),
)

__all__ = [
    "ALL",
    "Cut",
    "DataFile",
    "DataSet",
    "Protected",
    "Source",
    "bayes_frontier",
    "get",
    "load",
    "split",
]


def get(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        InputError: there is none.

    Example:
        >>> get("compas").default_sensitive
        'race'
    """
    for data_set in ALL:
        if data_set.name == name:
            return data_set
    raise unknown("data set", name, [data_set.name for data_set in ALL])


def load(
    name: str,
    sensitive: str | Sequence[str] | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    include_sensitive: bool = True,
    **options: Any,
) -> Splits[Any]:
    """Read a data set and split it 60/20/20 into training, validation and test data.

    Numbers are standardised on the training part. A protected column of two values is a single
    0/1 column (1 = privileged), whether it is the sensitive one or not. Tables come as
    `GroupedData`, images (utkface, and celeba with `images=`) as `StreamedData`; celeba has an
    official split.

    Args:
        sensitive: a protected column of the data set, or several: their intersections are then
            the groups. Without it: the data set's first.
        root: the folder that holds the files, laid out as `DataFile.path` says. Without it, or
            where the file is not there: the folder in RETROFAIR_DATA, then the user's cache, then
            the network.
        seed: of the split, and of the rows of a generated data set.
        include_sensitive: keep the sensitive columns among the features, of which images have
            none.
        options: `target` ("binary", "regression") of boston and communities, `n` of synthetic,
            `target`, `threshold` and `others` of utkface, `target` and `rows` of celeba; of the
            split: `parts`, `privileged`; of a table `scale`, `drop` (see `split_frame`); of
            images `images`, `size`, `mean`, `std`, `channels`, `keep`, `on_error`, `batch_rows`,
            `workers` (see `images_of`).

    Raises:
        InputError: a name or an option is unknown, a file is broken.
        MissingFileError: a file is neither on disk nor on the network.

    Example:
        >>> splits = load("synthetic", sensitive="sex", n=1000)
        >>> len(splits.train), len(splits.valid), len(splits.test), splits.train.group_names
        (600, 200, 200, ('Female', 'Male'))
    """
    data_set = get(name)
    check_seed(seed)
    own = [option for option in data_set.options if option != "seed"]
    known = [*own, *split_options(data_set)]
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    chosen = data_set.attributes(sensitive)
    reading = {key: value for key, value in options.items() if key in own}
    if "seed" in data_set.options:
        reading["seed"] = seed
    table = data_set.frame(chosen, root, **reading)
    return split(
        data_set,
        table,
        chosen,
        root,
        seed=seed,
        include_sensitive=include_sensitive,
        regression=_is_number(data_set, options.get("target")),
        **{key: value for key, value in options.items() if key not in own},
    )


def _is_number(data_set: DataSet, target: object) -> bool:
    return target is not None and target == data_set.number_target
