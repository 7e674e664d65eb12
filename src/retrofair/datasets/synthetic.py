"""A generated data set whose best fair classifiers are known exactly.

The causal graph, all noise independent and of variance 1:

    sex ----> skill ---------+
     |                       v
     +-----> neighbourhood -> hired <--- hours <---- region        noise_1, noise_2: unrelated

    sex            Male or Female, one half each
    region         Coast 0.5, Plains 0.3, Hills 0.2, independent of sex
    skill          normal around +0.2 (Male) or -0.2 (Female)
    neighbourhood  normal around +0.75 (Male) or -0.75 (Female): the proxy
    hours          normal around 0.3 (Coast), 0 (Plains) or -0.6 (Hills)
    hired          1 with probability sigmoid(-0.2 + 1.4 skill + 1.2 hours + 0.6 neighbourhood)

Sex acts on the label only through skill and neighbourhood, so that p(hired | x), p(sex | x) and
p(region | x) are short formulas, and neither column adds anything to the prediction. The proxy has
a small part in the label and a large one in the groups: a classifier that does not see the sex
can still correct for it, at a price.

The trade-off (`bayes_frontier`, spd, balanced accuracy): without a constraint 0.787 at a bias of
-0.287. With |spd| <= 0.05 the best is 0.769 for a classifier that sees the sex and 0.741 for one
that does not; with no bias at all 0.761 and 0.723. A constant has 0.5.

    >>> import numpy as np
    >>> aware, blind = (bayes_frontier([1, 0.05, 0], include_sensitive=s) for s in (True, False))
    >>> np.round(np.stack([aware, blind]), 3).tolist()
    [[0.787, 0.769, 0.761], [0.787, 0.741, 0.723]]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from retrofair.datasets.base import DataSet, Protected
from retrofair.errors import InputError, unknown

Array = npt.NDArray[np.float64]
SEXES: tuple[str, ...] = ("Female", "Male")
REGIONS = ("Hills", "Plains", "Coast")
SHARES = np.array([0.2, 0.3, 0.5])
SKILL = np.array([-0.2, 0.2])
PROXY = np.array([-0.75, 0.75])
HOURS = np.array([-0.6, 0.0, 0.3])
# Intercept, and the weights of skill, hours and neighbourhood in the log-odds of the label.
WEIGHTS = (-0.2, 1.4, 1.2, 0.6)
LABEL = "hired"
MEASURES = ("spd", "eod", "aod")
PERFORMANCES = ("balanced_accuracy", "accuracy")
Measure = Literal["spd", "eod", "aod"]
Performance = Literal["balanced_accuracy", "accuracy"]
# Multipliers beyond this are never optimal: the largest that occurs is 0.4.
STEEPEST = 10.0
FINE, GRID = 10_001, 250
WIDTH = 8.0


def read(paths: Mapping[str, Path], *, n: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Draw n rows."""
    if not isinstance(n, int | np.integer) or n < 100:
        raise InputError(f"expected n to be a number of rows, at least 100, got {n!r}")
    # A stream of its own: the split permutes rows with the generator of the bare seed.
    rng = np.random.default_rng([seed, 1])
    sex = rng.integers(2, size=n)
    region = rng.choice(len(REGIONS), size=n, p=SHARES)
    normal = rng.standard_normal((5, n))
    frame = pd.DataFrame(
        {
            "sex": np.array(SEXES)[sex],
            "region": np.array(REGIONS)[region],
            "skill": SKILL[sex] + normal[0],
            "hours": HOURS[region] + normal[1],
            "neighbourhood": PROXY[sex] + normal[2],
            "noise_1": normal[3],
            "noise_2": normal[4],
        }
    )
    frame[LABEL] = (rng.random(n) < probability(frame)).astype(int)
    return frame


def probability(frame: pd.DataFrame) -> Array:
    """p(hired = 1 | x) of each row (n,), exact."""
    start, *weights = WEIGHTS
    columns = frame[["skill", "hours", "neighbourhood"]].to_numpy(dtype=float)
    return np.asarray(expit(start + columns @ np.array(weights)))


def group_probability(frame: pd.DataFrame, attribute: str = "sex") -> pd.DataFrame:
    """p(group | the other columns) of each row, exact: one column per group, unprivileged first.

    The label adds nothing to it: it is also p(group | the other columns, hired).

    Raises:
        InputError: the attribute is neither "sex" nor "region".
    """
    if attribute == "sex":
        skill, proxy = (frame[name].to_numpy(float) for name in ("skill", "neighbourhood"))
        log = -0.5 * ((skill[:, None] - SKILL) ** 2 + (proxy[:, None] - PROXY) ** 2)
        names = SEXES
    elif attribute == "region":
        hours = frame["hours"].to_numpy(float)
        log = np.log(SHARES) - 0.5 * (hours[:, None] - HOURS) ** 2
        names = REGIONS
    else:
        raise unknown("sensitive attribute of synthetic", attribute, ("sex", "region"))
    return pd.DataFrame(softmax(log, axis=1), columns=list(names), index=frame.index)


def bayes_frontier(
    epsilons: Sequence[float],
    *,
    measure: Measure = "spd",
    performance: Performance = "balanced_accuracy",
    include_sensitive: bool = True,
) -> Array:
    """The best performance of any classifier whose bias between the sexes is at most epsilon.

    Bias b(d) and performance c(d) of a (randomised) classifier d(x) in the whole population are
    both linear in d, so that the best performance with |b(d)| <= epsilon equals the least value
    over lambda of max_d c(d) - lambda b(d) + |lambda| epsilon. The inner maximum is the mean of
    the positive part of a function of x, taken here on a grid over the exact densities of the
    two numbers it depends on; its error is below 2e-5.

    Args:
        epsilons: at least 0.
        include_sensitive: False: the classifier does not see the sex.

    Returns:
        One performance per epsilon.

    Raises:
        InputError: a measure or performance is unknown, an epsilon is negative.
    """
    if measure not in MEASURES:
        raise unknown("measure of bayes_frontier", measure, MEASURES)
    if performance not in PERFORMANCES:
        raise unknown("performance of bayes_frontier", performance, PERFORMANCES)
    wanted = np.asarray(epsilons, dtype=float).reshape(-1)
    if not (wanted >= 0).all():
        raise InputError(f"expected epsilons of at least 0, got {list(epsilons)}")
    weight, eta, male = _population(include_sensitive)
    start, gain = _performance(weight, eta, performance)
    gain, bias = weight * gain, weight * _bias(weight, eta, male, measure)

    def dual(multiplier: float, epsilon: float) -> float:
        # A plain sum: a product by many threads is far slower where other work fills the cores.
        best = float(np.maximum(gain - multiplier * bias, 0).sum())
        return start + best + abs(multiplier) * epsilon

    return np.array([_least(functools.partial(dual, epsilon=float(e))) for e in wanted])


def _least(function: Callable[[float], float]) -> float:
    """The least value of a convex function of one number; 0 is tried, it has a kink there."""
    bounds = (-STEEPEST, STEEPEST)
    found = minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(min(function(0.0), found.fun))


def _performance(weight: Array, eta: Array, performance: str) -> tuple[float, Array]:
    """Performance as start + E[d(x) gain(x)]."""
    base = float(weight @ eta)
    if performance == "accuracy":
        return 1 - base, 2 * eta - 1
    return 0.5, 0.5 * (eta / base - (1 - eta) / (1 - base))


def _bias(weight: Array, eta: Array, male: Array, measure: str) -> Array:
    """Bias, Female minus Male, as E[d(x) bias(x)]."""

    def difference(condition: Array) -> Array:
        female_part, male_part = (1 - male) * condition, male * condition
        return female_part / (weight @ female_part) - male_part / (weight @ male_part)

    if measure == "spd":
        return difference(np.ones_like(eta))
    if measure == "eod":
        return difference(eta)
    return 0.5 * (difference(eta) + difference(1 - eta))


@functools.cache
def _population(include_sensitive: bool) -> tuple[Array, Array, Array]:
    """Grid points: weight (adds up to 1), p(hired | x) and p(Male | x).

    A classifier needs the log-odds t of the label, and the sex or its log-odds u. Given sex and
    region both are normal. With u one integrates over u and over t given u.
    """
    start, *slopes = WEIGHTS
    spread = float(np.hypot.reduce(slopes))
    means = start + slopes[0] * SKILL[:, None] + slopes[1] * HOURS + slopes[2] * PROXY[:, None]
    points = FINE if include_sensitive else 2 * GRID
    t = np.linspace(means.min() - WIDTH * spread, means.max() + WIDTH * spread, points)
    if include_sensitive:
        density = _normal(t, means[..., None], spread)  # (sex, region, t)
        weight = 0.5 * np.tensordot(SHARES, density, axes=(0, 1))
        male = np.repeat([0.0, 1.0], len(t))
        return weight.ravel() / weight.sum(), np.tile(expit(t), 2), male
    shifts = np.array([SKILL[1] - SKILL[0], PROXY[1] - PROXY[0]])
    u_spread = float(np.hypot(*shifts))
    u_means = np.array([-0.5, 0.5]) * u_spread**2
    covariance = float(shifts @ np.array([slopes[0], slopes[2]]))
    u = np.linspace(u_means[0] - WIDTH * u_spread, u_means[1] + WIDTH * u_spread, GRID)
    slope = covariance / u_spread**2
    rest = float(np.sqrt(spread**2 - covariance * slope))
    weight = np.zeros((len(u), len(t)))
    for sex in (0, 1):
        given = means[sex] + slope * (u[:, None] - u_means[sex])  # (u, region)
        inner = sum(share * _normal(t, given[:, [r]], rest) for r, share in enumerate(SHARES))
        weight += 0.5 * _normal(u, u_means[sex], u_spread)[:, None] * inner
    eta = np.broadcast_to(expit(t), weight.shape).ravel()
    male = np.broadcast_to(expit(u)[:, None], weight.shape).ravel()
    keep = weight.ravel() > 1e-12 * weight.max()
    return weight.ravel()[keep] / weight.sum(), eta[keep], male[keep]


def _normal(x: Array, mean: Any, spread: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((x - mean) / spread) ** 2))


SYNTHETIC = DataSet(
    name="synthetic",
    label=LABEL,
    protected={"sex": Protected("Male"), "region": Protected("Coast")},
    read=read,
)
