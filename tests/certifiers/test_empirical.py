"""The largest difference over pairs of rows, against all pairs one by one."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import retrofair as rf
from retrofair.certifiers import empirical, pair_search
from retrofair.certifiers.distances import Columns, Embedding, Mahalanobis, WeightedLp
from retrofair.certifiers.domain import Continuous, Domain, OneHot
from retrofair.certifiers.empirical import empirical_curve, empirical_delta, empirical_pair
from retrofair.errors import InputError, RetrofairWarning

INF = math.inf


class Says(nn.Module):
    """A network that is any function of x."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def network(d: int, seed: int = 0, outputs: int = 1, dtype: torch.dtype = torch.float32) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(d, 8), nn.ReLU(), nn.Linear(8, outputs))
    return layers.to(dtype)


def twin(
    module: nn.Module, x: Tensor, distance: Any, epsilon: float, domain: Domain | None = None
) -> float:
    """Every pair of rows, one row against all later ones; nan without a pair."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    with torch.no_grad():
        f = module(x.to(dtype)).reshape(len(x), -1).double().numpy()
    columns = Columns.plain(x.shape[1]) if domain is None else Columns.of(domain)
    norm = distance.resolve(columns)
    values = x.double().numpy()
    best = math.nan
    for i in range(len(x) - 1):
        rest = values[i + 1 :]
        near = norm.between(np.repeat(values[i : i + 1], len(rest), 0), rest) <= epsilon
        if near.any():
            gap = float(np.abs(f[i + 1 :][near] - f[i]).max())
            best = gap if math.isnan(best) else max(best, gap)
    return best


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def lattice(n: int, d: int, high: int = 4, seed: int = 0) -> Tensor:
    """Whole numbers: many pairs at exactly a whole distance, and equal rows."""
    return torch.randint(0, high, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def same(found: float, expected: float) -> bool:
    return bool(found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True))


def distances(d: int) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    narrow = generator.normal(size=(2, d))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        linear, curved = nn.Linear(d, 3), nn.Sequential(nn.Linear(d, 3), nn.Tanh())
    some = np.ones(d)
    some[:2] = 0, 2.5
    return {
        "l1": WeightedLp(1),
        "l2": WeightedLp(2),
        "linf": WeightedLp(INF),
        "l1 weighted": WeightedLp(1, some),
        "l2 weighted": WeightedLp(2, some),
        "linf weighted": WeightedLp(INF, some),
        "all free": WeightedLp(INF, 0.0),
        "null space": Mahalanobis(narrow.T @ narrow),
        "diagonal": Mahalanobis(np.diag(some)),
        "linear": Embedding(linear, WeightedLp(INF)),
        "linear l1": Embedding(linear, WeightedLp(1, [1.0, 0.0, 2.0])),
        "curved": Embedding(curved, WeightedLp(2)),
    }


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves of a few rows, and the ways for many candidates on few of them."""
    monkeypatch.setattr(pair_search, "LEAF_ROWS", 8)
    monkeypatch.setattr(pair_search, "DENSE", 5)
    monkeypatch.setattr(pair_search, "FEW_COLUMNS", 2)
    monkeypatch.setattr(pair_search, "EXACT_AT_ONCE", 3)


# --- against all pairs ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:no two of the")
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.4, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("name", distances(5))
def test_equals_all_pairs(small: None, name: str, epsilon: float) -> None:
    x = torch.cat([normal(120, 5), normal(10, 5).round(), normal(20, 5)])
    distance = distances(5)[name]
    found = empirical_delta(network(5), x, distance, epsilon)
    assert same(found, twin(network(5), x, distance, epsilon))


@pytest.mark.filterwarnings("ignore:no two of the")
@pytest.mark.parametrize("name", distances(6))
def test_equals_all_pairs_on_larger_leaves(name: str) -> None:
    x, distance = normal(900, 6), distances(6)[name]
    for epsilon in (0.3, 0.8, 2.0):
        found = empirical_delta(network(6), x, distance, epsilon)
        assert same(found, twin(network(6), x, distance, epsilon))


@pytest.mark.parametrize("p", [1, 2, INF])
@pytest.mark.parametrize("epsilon", [0, 1, 2, 3, math.sqrt(2), math.nextafter(1, 0)])
def test_ties_at_exactly_epsilon_count(small: None, p: float, epsilon: float) -> None:
    x = lattice(150, 4)
    found = empirical_delta(network(4), x, WeightedLp(p), epsilon)
    assert same(found, twin(network(4), x, WeightedLp(p), epsilon))


def test_double_precision_decides_what_is_within() -> None:
    x = np.array([[0.1], [0.3]])
    distance = abs(x[1, 0] - x[0, 0])
    module = nn.Linear(1, 1)
    assert not math.isnan(empirical_delta(module, x, WeightedLp(INF), distance))
    with pytest.warns(RetrofairWarning, match=r"the smallest distance is 0\.2;"):
        empirical_delta(module, x, WeightedLp(INF), math.nextafter(distance, 0))


def test_far_from_the_origin_nothing_is_lost_to_rounding(small: None) -> None:
    x = (lattice(80, 3).double() + 2.0**20) / 8
    module = network(3, dtype=torch.float64)
    for p in (1, 2, INF):
        found = empirical_delta(module, x, WeightedLp(p), 1 / 8)
        assert found == pytest.approx(twin(module, x, WeightedLp(p), 1 / 8), rel=1e-9)


def test_equal_rows_are_a_pair_without_a_difference() -> None:
    x = torch.cat([normal(1, 4).repeat(40, 1), 50 + normal(3, 4)])
    for module in (network(4), rf.networks.MLP(4, width=5, depth=2).eval()):
        found = empirical_pair(module, x, WeightedLp(2), 0)
        assert (found.delta, found.distance) == (0.0, 0.0)
        assert found.first is not None
        assert found.first < (found.second or 0) < 40
        assert found.pairs == 43 * 42 // 2


def test_many_equal_rows(small: None) -> None:
    x = torch.cat([torch.zeros(400, 3), lattice(100, 3, high=2)])
    x = torch.cat([x, normal(500, 1)], 1)  # a free column tells the rows apart
    distance = WeightedLp(1, [1, 1, 1, 0])
    for epsilon in (0, 1, 2):
        found = empirical_delta(network(4), x, distance, epsilon)
        assert same(found, twin(network(4), x, distance, epsilon))


def test_an_embedding_that_makes_all_rows_alike(small: None) -> None:
    x = normal(200, 3)
    squash = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with torch.no_grad():
        squash[0].bias.fill_(-1e6)  # type: ignore[union-attr,operator]
    found = empirical_delta(network(3), x, Embedding(squash, WeightedLp(2)), 0)
    f = network(3)(x).detach()
    assert found == pytest.approx(float(f.max() - f.min()), rel=1e-5)


@pytest.mark.parametrize("p", [1, 2, INF])
def test_the_largest_of_several_outputs(small: None, p: float) -> None:
    x, module = normal(150, 4), network(4, outputs=3)
    found = empirical_delta(module, x, WeightedLp(p), 0.9)
    assert same(found, twin(module, x, WeightedLp(p), 0.9))
    each = [
        twin(Says(lambda x, k=k: module(x)[:, k]), x, WeightedLp(p), 0.9)  # type: ignore[misc]
        for k in range(3)
    ]
    assert same(found, max(each))


def test_a_double_network_is_evaluated_in_doubles() -> None:
    x = normal(100, 4).double()
    module = network(4, dtype=torch.float64)
    found = empirical_delta(module, x, WeightedLp(2), 1.0)
    assert found == pytest.approx(twin(module, x, WeightedLp(2), 1.0), rel=1e-12)
    assert found != empirical_delta(network(4), x, WeightedLp(2), 1.0)


def test_raw_outputs_are_compared_whatever_their_shape() -> None:
    x = torch.tensor([[0.0], [10.0], [30.0]])
    for shape in ((-1,), (-1, 1)):
        module = Says(lambda x, shape=shape: (3 * x).reshape(shape))  # type: ignore[misc]
        assert empirical_delta(module, x, WeightedLp(1), 20) == 60.0
    probability = nn.Sequential(Says(lambda x: x), nn.Sigmoid())
    assert empirical_delta(probability, x, WeightedLp(1), 100) <= 0.5


def test_large_epsilon_is_the_range_of_the_outputs() -> None:
    x = normal(700, 5)
    f = network(5)(x).detach()
    found = empirical_delta(network(5), x, WeightedLp(1), 1e9)
    assert found == pytest.approx(float(f.max() - f.min()), rel=1e-5)


def test_the_pair_has_the_difference_and_the_distance() -> None:
    x, module, distance = normal(300, 4), network(4, outputs=2), WeightedLp(2, [1, 0, 2, 1])
    found = empirical_pair(module, x, distance, 0.5)
    assert found.first is not None
    assert found.second is not None
    assert found.first < found.second
    pair = x[[found.first, found.second]]
    f = module(pair).detach()
    assert float((f[0] - f[1]).abs().max()) == pytest.approx(found.delta, rel=1e-4)
    a, b = pair.double().numpy()
    own = distance.resolve(Columns.plain(4)).between(a[None], b[None])[0]
    assert own == found.distance <= found.epsilon == 0.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.delta = 0.0  # type: ignore[misc]


def test_the_order_of_the_rows_changes_nothing(small: None) -> None:
    x, module = torch.cat([normal(150, 4), lattice(50, 4)]), network(4, dtype=torch.float64)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    for distance in distances(4).values():
        here = empirical_pair(module, x, distance, 0.7)
        there = empirical_pair(module, x[order], distance, 0.7)
        assert here.delta == pytest.approx(there.delta, rel=1e-12, nan_ok=True)
        assert (here.pairs, here.epsilon) == (there.pairs, there.epsilon)


def test_the_curve_grows_and_is_the_single_values() -> None:
    x, module, distance = normal(300, 4), network(4), WeightedLp(2)
    epsilons = [1.0, 0.01, 0.3, 5.0, 0.3, 2.0]
    curve = empirical_curve(module, x, distance, epsilons)
    assert [point.epsilon for point in curve] == epsilons
    singles = [empirical_pair(module, x, distance, epsilon) for epsilon in epsilons]
    for point, single in zip(curve, singles, strict=True):
        assert point.delta == pytest.approx(single.delta, nan_ok=True)
        assert not point.distance > point.epsilon
    grown = [p.delta for p in sorted(curve, key=lambda p: p.epsilon) if not math.isnan(p.delta)]
    assert grown == sorted(grown)
    assert len(grown) >= 5
    as_tensor = empirical_curve(module, x, distance, torch.tensor([1.0, 5.0], dtype=torch.float64))  # type: ignore[arg-type]
    assert [point.delta for point in as_tensor] == [curve[0].delta, curve[3].delta]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(2, 60),
    st.integers(1, 5),
    st.integers(0, 10_000),
    st.sampled_from(sorted(distances(3))),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0]),
    st.booleans(),
)
def test_equals_all_pairs_on_any_table(
    n: int, d: int, seed: int, name: str, epsilon: float, whole: bool
) -> None:
    d = max(d, 2)
    x = lattice(n, d, seed=seed) / 2 if whole else normal(n, d, seed)
    module, distance = network(d, seed, outputs=1 + seed % 2), distances(d)[name]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(pair_search, "LEAF_ROWS", 4)
        patch.setattr(pair_search, "DENSE", 3)
        patch.setattr(pair_search, "FEW_COLUMNS", 1 + seed % 3)
        warnings.simplefilter("ignore", RetrofairWarning)
        found = empirical_delta(module, x, distance, epsilon)
    assert same(found, twin(module, x, distance, epsilon))


# --- data, domains, state -------------------------------------------------------------------------


def test_sensitive_columns_of_a_domain_are_free() -> None:
    domain = Domain(
        [
            Continuous("age", 0, 50, sensitive=True),
            Continuous("pay", -9, 9),
            OneHot("race", 2, sensitive=True),
        ],
        mean=[20, 0, 0, 0],
        spread=[10, 1, 1, 1],
    )
    x = torch.cat([normal(60, 2), torch.eye(2)[lattice(60, 1, 2)[:, 0].long()]], 1)
    for distance in (WeightedLp(INF), WeightedLp(1), Mahalanobis(np.eye(4))):
        found = empirical_delta(network(4), x, distance, 0.2, domain=domain)
        assert same(found, twin(network(4), x, distance, 0.2, domain))
        assert same(found, twin(network(4), x, WeightedLp(1, [0, 1, 0, 0]), 0.2))


def test_names_of_the_data_serve_as_weights(splits: rf.Splits) -> None:
    part, module = splits.test[:200], network(splits.test.x.shape[1])
    free = dict.fromkeys([n.split("=")[0] for n in part.feature_names], 1.0)
    name = next(iter(free))
    where = [float(n.split("=")[0] != name) for n in part.feature_names]
    found = empirical_delta(module, part, WeightedLp(INF, {name: 0}), 1.0)
    assert same(found, twin(module, part.x, WeightedLp(INF, where), 1.0))
    domain = Domain.from_data(part, sensitive=name)
    assert same(found, empirical_delta(module, part, WeightedLp(INF), 1.0, domain=domain))


def test_nothing_is_left_changed() -> None:
    module = rf.networks.MLP(3, width=4, depth=2)
    module.hidden[1].eval()
    x = normal(50, 3)
    before = [m.training for m in module.modules()], x.clone(), torch.get_rng_state()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    threads = torch.get_num_threads()
    first = empirical_delta(module, x, WeightedLp(INF), 2.0)
    assert [m.training for m in module.modules()] == before[0]
    assert torch.equal(x, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.get_num_threads() == threads
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert first == empirical_delta(module.eval(), x, WeightedLp(INF), 2.0)  # dropout is off


def test_arrays_lists_and_whole_numbers_are_tables_too() -> None:
    rows = [[0, 1], [1, 1], [5, 2]]
    x = torch.tensor(rows, dtype=torch.float32)
    expected = twin(network(2), x, WeightedLp(1), 1)
    for table in (rows, np.array(rows), torch.tensor(rows), x.double().numpy()):
        assert same(empirical_delta(network(2), table, WeightedLp(1), 1), expected)


# --- no pair --------------------------------------------------------------------------------------


def test_without_a_pair_it_is_undefined_and_says_so() -> None:
    x = 100 * torch.eye(4)
    with pytest.warns(
        RetrofairWarning, match="no two of the 4 rows are within epsilon = 1"
    ) as all_:
        assert math.isnan(empirical_delta(network(4), x, WeightedLp(INF), 1))
    assert len(all_) == 1
    assert "the smallest distance is 100;" in str(all_[0].message)
    for p, smallest in ((1, "200"), (2, "141.4")):
        with pytest.warns(RetrofairWarning, match=f"distance is {smallest};"):
            empirical_delta(network(4), x, WeightedLp(p), 1)
    found = empirical_pair(network(4), x, WeightedLp(INF), 1)
    assert (found.first, found.second, found.pairs) == (None, None, 6)
    assert math.isnan(found.delta)
    assert math.isnan(found.distance)
    curve = empirical_curve(network(4), x, WeightedLp(INF), [1, 100, 2])
    assert [math.isnan(point.delta) for point in curve] == [True, False, True]


def test_no_pair_where_every_column_has_near_values(small: None) -> None:
    x = torch.stack([torch.arange(60.0), torch.arange(60.0) * 7 % 60], 1)  # near in one, not both
    for p in (1, 2, INF):
        assert math.isnan(empirical_pair(network(2), x, WeightedLp(p), 1.5).delta)


def test_many_rows_without_a_pair_do_not_look_for_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(empirical, "NEAREST_ROWS", 3)
    with pytest.warns(RetrofairWarning, match=r"undefined \(nan\); use a larger epsilon"):
        empirical_delta(network(4), 100 * torch.eye(4), WeightedLp(INF), 1)


# --- bad input ------------------------------------------------------------------------------------

X = torch.zeros(3, 2)
NAN = torch.tensor([[0.0, math.nan], [0.0, 1.0]])
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "network": (lambda: empirical_delta("net", X, WeightedLp(1), 1), "expected a torch.nn.Module"),  # type: ignore[arg-type]
    "epsilon": (lambda: empirical_delta(network(2), X, WeightedLp(1), -1), "epsilon >= 0, got -1"),
    "distance": (lambda: empirical_delta(network(2), X, "l2", 1), "expected a distance"),
    "nan": (lambda: empirical_delta(network(2), NAN, WeightedLp(1), 1), "got 1 NaN or infinite"),
    "one row": (lambda: empirical_delta(network(2), X[:1], WeightedLp(1), 1), "two rows, got 1"),
    "one axis": (lambda: empirical_delta(network(2), X[0], WeightedLp(1), 1), r"got \(2,\)"),
    "no columns": (lambda: empirical_delta(network(2), X[:, :0], WeightedLp(1), 1), r"\(3, 0\)"),
    "dict": (lambda: empirical_delta(network(2), {"x": X}, WeightedLp(1), 1), "got a dict"),
    "text": (lambda: empirical_delta(network(2), [["a"], ["b"]], WeightedLp(1), 1), "of numbers"),
    "width": (lambda: empirical_delta(network(4), X, WeightedLp(1), 1), "but it fails: "),
    "shape": (
        lambda: empirical_delta(Says(lambda x: x.sum()), X, WeightedLp(1), 1),
        r"outputs of shape \(n,\) or \(n, K\) for n = 3 rows, got \(\)",
    ),
    "tuple": (lambda: empirical_delta(Says(lambda x: (x, x)), X, WeightedLp(1), 1), "got tuple"),
    "no output": (
        lambda: empirical_delta(Says(lambda x: x[:, :0]), X, WeightedLp(1), 1),
        "at least one output",
    ),
    "outputs": (
        lambda: empirical_delta(Says(lambda x: x[:, 0] / 0), X, WeightedLp(1), 1),
        "finite outputs, got 3 NaN",
    ),
    "weights": (
        lambda: empirical_delta(network(2), X, WeightedLp(1, [1, 2, 3]), 1),
        "got 3 weights",
    ),
    "domain": (
        lambda: empirical_delta(
            network(2), X, WeightedLp(1), 1, domain=Domain([Continuous("age", 0, 1)])
        ),
        "the domain's 1 columns, got 2",
    ),
    "no domain": (
        lambda: empirical_delta(network(2), X, WeightedLp(1), 1, domain=["a", "b"]),  # type: ignore[arg-type]
        "expected a Domain",
    ),
    "overflow": (
        lambda: empirical_delta(network(2), X + 1e300, WeightedLp(1, 1e300), 1),
        "NaN or infinite|overflow",
    ),
    "one epsilon": (
        lambda: empirical_curve(network(2), X, WeightedLp(1), 0.5),  # type: ignore[arg-type]
        r"several epsilons, got 0.5: use \[0.5\]",
    ),
    "no epsilons": (lambda: empirical_curve(network(2), X, WeightedLp(1), []), "at least one"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(InputError, match=message):
        call()


def test_distances_that_overflow_are_named() -> None:
    x = torch.full((3, 2), 1e200, dtype=torch.float64)
    with (
        np.errstate(over="ignore"),
        pytest.raises(InputError, match="got an overflow: rescale x"),
    ):
        empirical_delta(Says(lambda x: 0 * x[:, 0].clamp(0, 1)), x.T[:2], WeightedLp(1, 1e300), 1)


# --- real data ------------------------------------------------------------------------------------


def test_adult_equals_all_pairs_in_blocks() -> None:
    root = os.environ.get("RETROFAIR_DATA")
    if not root:
        pytest.skip("RETROFAIR_DATA is not set: no folder with the published data files")
    part = rf.datasets.load("adult", sensitive="sex", root=Path(root)).test
    domain = Domain.from_data(part)
    module = network(part.x.shape[1], seed=4)
    few = part[:2000]
    f = module(few.x).detach().double().numpy()[:, 0]
    values = few.x.double().numpy()[:, ~domain.sensitive]
    gaps = np.abs(f[:, None] - f)
    gaps[np.tril_indices(len(f))] = -1
    for p in (1, 2, INF):
        # the differences of all pairs at once need 3 GB
        apart = np.concatenate(
            [
                np.linalg.norm(values[i : i + 100, None] - values, ord=p, axis=-1)
                for i in range(0, len(values), 100)
            ]
        )
        for epsilon in (0.05, 0.2, 1.0, 2.0):
            found = empirical_delta(module, few, WeightedLp(p), epsilon, domain=domain)
            assert same(found, gaps[apart <= epsilon].max())
    whole = empirical_delta(module, part, WeightedLp(INF), 0.2, domain=domain)
    assert whole >= empirical_delta(module, few, WeightedLp(INF), 0.2, domain=domain)
