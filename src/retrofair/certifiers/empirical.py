"""The largest difference in output between two similar rows of given data, over all pairs of rows.

Nearly all pairs are decided by bounds: rows that differ only in free columns become one point, the
points fall into parts with no similar pair across, and each part into small leaves with a box
around their places and an interval around their outputs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.distance import pdist
from torch import Tensor, nn

from retrofair.certifiers.distances import (
    Columns,
    NetworkNorm,
    Norm,
    Resolved,
    check_distance,
    check_epsilon,
)
from retrofair.certifiers.domain import Domain, Floats, Mask
from retrofair.certifiers.pair_search import Integers, Points, Search
from retrofair.data import GroupedData
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.outputs import as_input, evaluating, forward
from retrofair.networks.threads import fitting_threads

BATCH_ROWS = 65_536
NEAREST_ROWS = 2_000


@dataclass(frozen=True)
class EmpiricalDelta:
    """The largest difference over all pairs of rows within epsilon, and a pair that has it.

    Args:
        delta: nan where no pair of rows is within epsilon.
        first, second: the pair's row numbers, first < second, or None.
        distance: the pair's own, nan where there is none.
        pairs: all pairs of rows, n (n - 1) / 2; each was decided, by bounds or one by one.
    """

    epsilon: float
    delta: float
    first: int | None
    second: int | None
    distance: float
    pairs: int


def empirical_delta(
    network: nn.Module,
    x: Any,
    distance: object,
    epsilon: float,
    *,
    domain: Domain | None = None,
) -> float:
    """The largest |f(x_i) - f(x_j)| over all pairs of rows with distance(x_i, x_j) <= epsilon.

    Exact over all pairs, identical rows included. f are the network's own outputs in eval mode;
    with K outputs the largest difference of any. It says nothing of people who are not in x: it
    is a lower bound of what `certify` bounds from above. Where no pair is within epsilon it is
    nan, with a warning.

    Args:
        network: (n, d) to (n,), (n, 1) or (n, K).
        x: (n, d) as the network takes it, or GroupedData, whose names weights may use.
        distance: WeightedLp, Mahalanobis or Embedding; taken in double precision on x as given.
        epsilon: at least 0; pairs at exactly epsilon count.
        domain: tells which columns are sensitive, so free to differ, and what they are called. x
            stays as the network takes it.

    Raises:
        InputError: x is no finite table of at least two rows, the network fails on it or answers
            in another shape, or the distance does not fit the columns.

    Example:
        >>> from retrofair.certifiers.distances import WeightedLp
        >>> x = torch.tensor([[0.0, 0.0], [0.1, 1.0], [5.0, 1.0]])
        >>> network = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(network.weight)
        >>> round(empirical_delta(network, x, WeightedLp(math.inf, [1, 0]), 0.2), 6)
        1.1

    Reference: John, Vijaykeerthy and Saha (2020), Verifying individual fairness in machine
    learning models.
    """
    points = _points(network, x, distance, domain)
    found = _search(points, check_epsilon(epsilon))
    if found.first is None:
        warnings.warn(
            f"no two of the {points.rows:,} rows are within epsilon = {epsilon:g} of each other: "
            f"the difference is undefined (nan); {_nearest(points)}use a larger epsilon or more "
            "rows",
            RetrofairWarning,
            stacklevel=2,
        )
    return found.delta


def empirical_pair(
    network: nn.Module,
    x: Any,
    distance: object,
    epsilon: float,
    *,
    domain: Domain | None = None,
) -> EmpiricalDelta:
    """As `empirical_delta`, with the pair of rows that differs most; no pair is no warning."""
    return _search(_points(network, x, distance, domain), check_epsilon(epsilon))


def empirical_curve(
    network: nn.Module,
    x: Any,
    distance: object,
    epsilons: Sequence[float],
    *,
    domain: Domain | None = None,
) -> list[EmpiricalDelta]:
    """`empirical_pair` for each epsilon, in the order given; delta grows with epsilon.

    Raises:
        InputError: as `empirical_delta`, or there is no epsilon.
    """
    if isinstance(epsilons, Tensor):
        epsilons = epsilons.tolist()
    if isinstance(epsilons, str) or not isinstance(epsilons, Iterable):
        raise InputError(f"expected several epsilons, got {epsilons!r}: use [{epsilons!r}]")
    wanted = [check_epsilon(epsilon) for epsilon in epsilons]
    if not wanted:
        raise InputError("expected at least one epsilon, got none")
    points = _points(network, x, distance, domain)
    found: dict[float, EmpiricalDelta] = {}
    before = None
    for epsilon in sorted(set(wanted)):
        before = found[epsilon] = _search(points, epsilon, before)
    return [found[epsilon] for epsilon in wanted]


# --- rows to points -------------------------------------------------------------------------------


def _points(network: nn.Module, x: Any, distance: object, domain: Domain | None) -> Points:
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(network).__name__}")
    known = check_distance(distance)
    names = x.feature_names if isinstance(x, GroupedData) else ()
    table = _table(x.x if isinstance(x, GroupedData) else x, network)
    if domain is not None and not isinstance(domain, Domain):
        raise InputError(f"expected a Domain as domain=, got {type(domain).__name__}")
    if domain is not None and domain.d != table.shape[1]:
        raise InputError(
            f"expected x with the domain's {domain.d} columns, got {table.shape[1]} columns"
        )
    columns = Columns.plain(table.shape[1], names) if domain is None else Columns.of(domain)
    norm = known.resolve(columns)
    outputs = _outputs(network, table)

    exact = table.detach().cpu().double().numpy() + 0.0  # + 0.0: no -0.0
    # a matrix product may round the same row differently at another place in the batch
    label, first = _same(exact)
    outputs = outputs[first][label]
    exact = np.where(_read(norm, table.shape[1]), exact, 0.0)
    label, first = _same(exact)
    low_row, high_row = (np.empty((outputs.shape[1], len(first)), dtype=np.intp) for _ in range(2))
    for k, values in enumerate(outputs.T):
        order = np.lexsort((values, label))
        starts = np.flatnonzero(np.diff(label[order], prepend=-1))
        low_row[k] = order[starts]
        high_row[k] = order[np.append(starts[1:], len(order)) - 1]
    which = np.arange(outputs.shape[1])[:, None]
    points = exact[first]
    places = norm.coordinates(points)
    if not np.isfinite(places).all():
        raise InputError("expected x and a distance with finite values, got an overflow: rescale x")
    return Points(
        len(exact),
        norm,
        points,
        places,
        outputs[low_row, which],
        outputs[high_row, which],
        low_row,
        high_row,
        np.bincount(label) > 1,
    )


def _table(x: Any, network: nn.Module) -> Tensor:
    """x as given, checked."""
    if isinstance(x, dict):
        raise InputError("expected x as one table (n, d), got a dict")
    given = x if isinstance(x, Tensor) else np.asarray(x)
    as_input(given, network)  # one clear error where these are no numbers
    exact = torch.as_tensor(given)
    if exact.ndim != 2 or not exact.shape[1]:
        raise InputError(f"expected x of shape (n, d), got {tuple(exact.shape)}")
    if len(exact) < 2:
        raise InputError(f"expected x with at least two rows, got {len(exact)}")
    bad = int((~torch.isfinite(exact)).sum())
    if bad:
        raise InputError(
            f"expected finite numbers in x, got {bad:,} NaN or infinite ones: drop or fill them"
        )
    return exact


def _outputs(network: nn.Module, table: Tensor) -> Floats:
    """(n, K) float64, from the network in its own dtype."""
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    found = []
    with evaluating(network), fitting_threads(network):
        for batch in table.split(BATCH_ROWS):
            try:
                out: Any = forward(network, batch.to(dtype))
            except Exception as error:  # a user's own network may raise anything
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(
                    f"expected a network that takes x of shape {tuple(batch.shape)}, but it "
                    f"fails: {reason}"
                ) from error
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            if not isinstance(out, Tensor) or out.ndim not in (1, 2) or len(out) != len(batch):
                raise InputError(
                    f"expected outputs of shape (n,) or (n, K) for n = {len(batch):,} rows, got "
                    f"{shape}"
                )
            found.append(out.reshape(len(batch), -1).double().cpu().numpy())
    outputs = np.concatenate(found)
    if not outputs.size:
        raise InputError("expected at least one output per row, got none")
    if not np.isfinite(outputs).all():
        raise InputError(
            f"expected finite outputs, got {int((~np.isfinite(outputs)).sum()):,} NaN or infinite "
            "ones; check the weights and the scale of the features"
        )
    return outputs


def _read(norm: Resolved, d: int) -> Mask:
    """(d,) the columns that the distance depends on."""
    if isinstance(norm, Norm):
        return np.asarray((norm.matrix != 0).any(0))
    if isinstance(norm, NetworkNorm):
        return np.asarray((norm.network.weights[0] != 0).any(0).numpy())
    return np.ones(d, dtype=bool)


def _same(x: Floats) -> tuple[Integers, Integers]:
    """A number per row, the same for equal rows, and the first row of each number."""
    rows = np.ascontiguousarray(x).view(np.dtype((np.void, x.itemsize * x.shape[1]))).ravel()
    _, first, label = np.unique(rows, return_index=True, return_inverse=True)
    return label.reshape(-1), first


def _nearest(points: Points) -> str:
    """The smallest distance in words, where it is cheap."""
    if points.rows > NEAREST_ROWS:
        return ""
    metric: Literal["cityblock", "euclidean", "chebyshev"] = "chebyshev"
    if points.norm.p != math.inf:
        metric = "cityblock" if points.norm.p == 1 else "euclidean"
    smallest = pdist(points.places, metric).min()
    return f"the smallest distance is {smallest:.4g}; "


# --- search ---------------------------------------------------------------------------------------


def _search(points: Points, epsilon: float, before: EmpiricalDelta | None = None) -> EmpiricalDelta:
    """The largest difference within epsilon; `before` is that of a smaller epsilon."""
    search = Search(points, epsilon)
    if before is not None and before.first is not None and before.second is not None:
        search.best, search.distance = before.delta, before.distance
        search.pair = before.first, before.second
    for k in range(len(points.low)):
        search.same_point(k)
    if search.leaves:
        for k in range(len(points.low)):
            search.within_leaves(k)
        for k in range(len(points.low)):
            search.across_leaves(k)
    pair = None if search.pair is None else sorted(search.pair)
    return EmpiricalDelta(
        epsilon,
        math.nan if pair is None else search.best,
        None if pair is None else int(pair[0]),
        None if pair is None else int(pair[1]),
        search.distance,
        points.rows * (points.rows - 1) // 2,
    )
