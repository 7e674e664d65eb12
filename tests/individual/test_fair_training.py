"""Training for individuals: x* is legal and bad, the bound is proved, lambda means what it says."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.certifiers import Continuous, Domain, Integer, Mahalanobis, OneHot, WeightedLp
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.question import Question
from retrofair.errors import InputError
from retrofair.individual import Settings, fit_individually_fair, train_individually_fair
from retrofair.individual.certified import CertifiedBound
from retrofair.individual.neighbours import Neighbours
from retrofair.networks.randomness import seeded

PEOPLE = Domain(
    [
        Continuous("skill", -1, 1),
        Continuous("hours", 0, 2),
        OneHot("race", 3, sensitive=True),
        OneHot("job", 2),
        Integer("sex", 0, 1, sensitive=True),
    ]
)
D, SIMILAR = PEOPLE.d, WeightedLp(math.inf)


def rows(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels depend on skill and, unfairly, on sex."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(PEOPLE.low, PEOPLE.high, (n, D))
    x[:, 2:5] = np.eye(3)[rng.integers(3, size=n)]
    x[:, 5:7] = np.eye(2)[rng.integers(2, size=n)]
    x[:, 7] = rng.integers(2, size=n)
    y = x[:, 0] + 0.5 * x[:, 7] - 0.25 + 0.2 * rng.normal(size=n) > 0
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def network(seed: int = 0, *, width: int = 12, outputs: int = 1) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(D, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(width, outputs),
            *([nn.Flatten(0)] if outputs == 1 else []),
        )


def fit(lam: float, **options: Any) -> Any:
    given = {"epochs": 12, "batch_size": 64, "learning_rate": 5e-3, "bound": 0.5, "sparsity": 0.0}
    settings = Settings(lam=lam, **{k: v for k, v in (given | options).items() if k in given})
    more = {k: v for k, v in options.items() if k not in given}
    asked = {"epsilon": 0.2, "data": rows(400), "network": network(), "domain": PEOPLE}
    return fit_individually_fair(**(asked | {"distance": SIMILAR, "settings": settings} | more))


def accuracy(module: nn.Module) -> float:
    x, y = rows(2000, seed=9)
    with torch.no_grad():
        return float(((module(x) > 0) == (y > 0)).float().mean())


def upper(module: nn.Module, **options: Any) -> float:
    given = {"method": "milp", "seconds": 5} | options
    return rf.certify(module, PEOPLE, SIMILAR, 0.2, **given).upper


@pytest.mark.parametrize("sparsity", [0.0, 0.3])
def test_lambda_one_is_plain_training(sparsity: float) -> None:
    # the same steps by hand: Adam on the cross-entropy alone, in the same order of rows
    found = fit(1.0, epochs=2, sparsity=sparsity)
    model, (x, y) = network().eval(), rows(400)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    best, least = copy.deepcopy(model.state_dict()), math.inf
    for epoch in (0, 1, 2):
        if epoch:
            with seeded(torch.Generator().manual_seed(epoch)):
                order = torch.randperm(len(x))
            for part in order.split(64):
                optimiser.zero_grad()
                loss = nn.functional.binary_cross_entropy_with_logits(model(x[part]), y[part])
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimiser.step()
                with torch.no_grad():
                    for weight in (model[0].weight, model[4].weight):
                        weight.copy_(nn.functional.softshrink(weight, 5e-3 * sparsity))
        with torch.no_grad():
            now = float(nn.functional.binary_cross_entropy_with_logits(model(x), y))
        if now < least:
            best, least = copy.deepcopy(model.state_dict()), now
    assert [e.objective == e.loss for e in found.history] == [True] * 3
    for name, value in found.network.state_dict().items():
        assert torch.allclose(value, best[name], atol=1e-5), name


def test_lambda_trades_accuracy_for_a_proved_delta() -> None:
    plain, fair, blind = (fit(lam).network for lam in (1.0, 0.5, 0.0))
    assert accuracy(plain) > 0.85
    assert accuracy(fair) > 0.75
    assert upper(fair) < 0.7 * upper(plain)
    assert upper(blind) < 0.05  # nothing but fairness: nearly constant
    assert rf.certify(fair, PEOPLE, SIMILAR, 0.2, method="bounds").upper < 2 * upper(fair)


def test_sparsity_leaves_weights_that_are_exactly_zero() -> None:
    dense, sparse = (fit(0.7, epochs=30, sparsity=s).network for s in (0.0, 0.3))
    zeros = [float((n[0].weight == 0).float().mean()) for n in (dense, sparse)]
    assert zeros[0] == 0
    assert zeros[1] > 0.2
    assert accuracy(sparse) > accuracy(dense) - 0.05


def test_the_bound_is_proved_and_what_the_search_finds_is_below_it() -> None:
    for seed, outputs in itertools.product(range(3), (1, 3)):
        module = network(seed, outputs=outputs).eval()
        pairs = Pairs.of(PEOPLE, SIMILAR, 0.3)
        question = Question.of(module, D, None, None)
        bound = float(CertifiedBound(module, question, pairs, None)(module)[0].detach())
        exact = rf.certify(module, PEOPLE, SIMILAR, 0.3, method="milp", seconds=2)
        assert exact.lower <= bound
        quick = rf.certify(module, PEOPLE, SIMILAR, 0.3, method="bounds")
        assert bound <= quick.upper * 1.3 + 1e-6
        work = Neighbours(question, pairs, np.random.default_rng(0))
        x = rows(300)[0].double()

        def apart(one: Tensor, two: Tensor, module: nn.Module = module) -> Tensor:
            p = [torch.sigmoid(module(t.float()).reshape(len(t), -1)) for t in (one, two)]
            return (p[1] - p[0]).abs().amax(1).double()

        worst = work.worst(x, apart, 3)
        assert pairs.legal(x.numpy(), worst.numpy()).mean() > 0.99
        if outputs == 1:
            assert float(apart(x, worst).detach().max()) <= exact.upper + 1e-6


@pytest.mark.parametrize("distance", [SIMILAR, WeightedLp(2), Mahalanobis(np.eye(D))])
def test_the_worst_neighbour_of_a_linear_model_is_exact(distance: Any) -> None:
    weights = torch.tensor([1.0, -2.0, 0.5, -0.3, 0.1, 4.0, 4.0, 0.7]).double()
    module = nn.Sequential(nn.Linear(D, 1), nn.Flatten(0)).double()
    with torch.no_grad():
        module[0].weight.copy_(weights[None])
    question = Question.of(module, D, "values", None)
    pairs = Pairs.of(PEOPLE, distance, 0.2)
    x = rows(200)[0].double()
    x[:, :2] = torch.tensor([0.0, 1.0])  # no end of a range in the way
    found = Neighbours(question, pairs, np.random.default_rng(0)).worst(
        x, lambda a, b: (module(b) - module(a)).abs(), 3
    )
    size = {math.inf: 0.2 * 3, 2.0: 0.2 * math.sqrt(5)}[getattr(distance, "p", 2.0)]
    race = weights[2:5]
    for row, worst in zip(x, found, strict=True):
        own = float(race @ row[2:5])
        sides = [
            size + float(race.max()) - own + 0.7 * (1 - float(row[7])),
            size + own - float(race.min()) + 0.7 * float(row[7]),
        ]
        with torch.no_grad():
            apart = float((module(worst[None]) - module(row[None])).abs())
        assert apart == pytest.approx(max(sides), rel=1e-6)


@pytest.mark.parametrize("distance", [SIMILAR, WeightedLp(2), WeightedLp(1)])
def test_without_anything_free_both_directions_are_searched(distance: Any) -> None:
    # |f(x) - f(x*)| has no slope at x* = x; a convex f rises farther than it falls
    people = Domain([Continuous(name, -1, 1) for name in "ab"])
    pairs, weights = Pairs.of(people, distance, 0.2), torch.tensor([1.0, -2.0]).double()
    module = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double()

    def apart(one: Tensor, two: Tensor) -> Tensor:
        return ((two @ weights).exp() - (one @ weights).exp()).abs()

    x = torch.zeros(50, 2).double()
    question = Question.of(module, 2, "values", None)
    worst = Neighbours(question, pairs, np.random.default_rng(0)).worst(x, apart, 3)
    far = 0.2 * float(
        torch.linalg.vector_norm(weights, {1: math.inf, 2: 2, math.inf: 1}[distance.p])
    )
    assert torch.allclose(apart(x, worst), torch.tensor(math.expm1(far)).double())


CLOSE = np.eye(D)
CLOSE[0, 1] = CLOSE[1, 0] = 0.99


@pytest.mark.parametrize(
    ("distance", "epsilon"),
    [
        (WeightedLp(1, {"job": 0.05}), 0.2),
        (WeightedLp(2, {"job": 0.015}), 0.2),
        (WeightedLp(math.inf, {"job": 0.1}), 0.2),
        (Mahalanobis(CLOSE), 0.3),
        (rf.Embedding(nn.Linear(D, 3), WeightedLp(2)), 0.1),
        (
            rf.Embedding(nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 2)), WeightedLp(2)),
            0.1,
        ),
    ],
)
def test_the_worst_neighbour_is_similar_where_categories_cost_and_columns_hang_together(
    distance: Any, epsilon: float
) -> None:
    module = network().double().eval()
    question, pairs = Question.of(module, D, None, None), Pairs.of(PEOPLE, distance, epsilon)
    x = rows(300)[0].double()

    def apart(one: Tensor, two: Tensor) -> Tensor:
        return (torch.sigmoid(module(two)) - torch.sigmoid(module(one))).abs()

    worst = Neighbours(question, pairs, np.random.default_rng(0)).worst(x, apart, 3)
    assert pairs.similar(x.numpy(), worst.numpy()).all()
    assert PEOPLE.relaxed().contains(worst.numpy()).all()
    assert float((apart(x, worst) > 0).double().mean()) > 0.9


def test_a_row_outside_the_domain_counts_as_the_person_at_its_edge() -> None:
    x, y = rows(200)
    x[:, 0] *= 2
    inside = x.clone()
    inside[:, 0] = x[:, 0].clamp(-1, 1)
    found = [fit(0.0, data=rows(200), valid=(v, y), epochs=1).history for v in (x, inside)]
    assert [e.apart for e in found[0]] == [e.apart for e in found[1]]


def test_the_bound_knows_shared_weights() -> None:
    shared = nn.Linear(8, 8)
    module = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(8, 1))
    pairs, question = Pairs.of(PEOPLE, SIMILAR, 0.2), Question.of(module, D, None, None)
    early = CertifiedBound(module, question, pairs, None)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(5)
    late = CertifiedBound(module, Question.of(module, D, None, None), pairs, None)
    found, expected = (float(each(module)[0].detach()) for each in (early, late))
    assert found == pytest.approx(expected)
    assert found >= rf.certify(module, PEOPLE, SIMILAR, 0.2, method="bounds").lower


@pytest.mark.parametrize("n", [60, 320])
def test_the_bound_has_its_weight_whatever_the_number_of_batches(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    plain = CertifiedBound.__call__

    def counted(self: CertifiedBound, module: nn.Module) -> Any:
        calls.append(torch.is_grad_enabled())
        return plain(self, module)

    monkeypatch.setattr(CertifiedBound, "__call__", counted)
    fit(0.5, data=rows(n), epochs=8)
    steps = 8 * math.ceil(n / 64)
    assert sum(calls) == steps // 4  # of weight 4 each


def test_the_bound_alone_can_be_descended() -> None:
    found = fit(0.0, bound=1.0)
    assert found.history[-1].bound < 0.5 * found.history[0].bound


def test_extra_pairs_come_nearer() -> None:
    start = fit(1.0).network
    witness = rf.certify(start, PEOPLE, SIMILAR, 0.2, method="bounds").witness
    pairs = torch.from_numpy(PEOPLE.to_inputs(witness.double().numpy()))[None]
    apart = []
    for extra in (None, pairs):
        model = fit(0.5, network=start, bound=0.0, pairs=extra, epochs=4).network
        with torch.no_grad():
            p = torch.sigmoid(model(pairs[0].float()))
        apart.append(float((p[1] - p[0]).abs()))
    assert apart[1] < apart[0]


def test_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = fit(0.5, epochs=6)
    # the warm-up is of all epochs: so it is asked for the same number, and stopped by hand
    with pytest.raises(KeyboardInterrupt):
        fit(0.5, epochs=6, checkpoint=tmp_path / "b", on_epoch=_stop_after(3))
    resumed = fit(0.5, epochs=6, checkpoint=tmp_path / "b")
    assert repr(resumed.history) == repr(whole.history)  # nan is not equal to itself
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    for epoch, weights in whole.weights.items():
        assert all(torch.equal(v, resumed.weights[epoch][k]) for k, v in weights.items())
    (tmp_path / "b" / "training.safetensors").write_bytes(b"{half")
    with pytest.raises(InputError, match="damaged"):
        fit(0.5, epochs=6, checkpoint=tmp_path / "b")


@pytest.mark.parametrize(
    "other",
    [
        {"lam": 0.4},
        {"epochs": 7},
        {"domain": Domain([*PEOPLE.features[:-1], Integer("sex", 0, 1)])},
        {"distance": WeightedLp(2)},
        {"epsilon": 0.1},
        {"pairs": rows(2)[0][None]},
        {"outputs": "values"},
        {"data": (rows(100)[0], rows(100)[1].flip(0))},
        {"network": nn.Sequential(*network()[:2], nn.LeakyReLU(), *network()[3:])},
    ],
)
def test_another_training_does_not_go_on_from_a_checkpoint(
    other: dict[str, Any], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"lam": 0.5, "epochs": 1, "data": rows(100), "checkpoint": tmp_path}
    fit(**given)
    with pytest.raises(InputError, match="same training"):
        fit(**(given | other))


def _stop_after(epoch: int) -> Any:
    def stop(now: Any) -> None:
        # one epoch after the last that was kept
        if now.epoch > epoch:
            raise KeyboardInterrupt

    return stop


def test_regression_and_the_range_of_the_model() -> None:
    class Priced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Linear(D, 1)

        def forward(self, x: Tensor) -> Tensor:
            return 5 + 45 * torch.sigmoid(self.inside(x))

    x, _ = rows(300)
    y = 20 + 8 * x[:, 0] + 6 * x[:, 7]
    found = [fit(lam, network=Priced(), data=(x, y), epochs=25) for lam in (1.0, 0.05)]
    mean = float(((y - y.mean()) ** 2).mean())
    assert found[0].history[-1].loss < found[0].history[0].loss
    assert min(e.loss for e in found[0].history) < 2 * mean
    ends = [upper(f.network, outputs=None, seconds=2) for f in found]
    assert ends[1] < 0.8 * ends[0]
    with pytest.raises(InputError, match=r"within \[5, 50\].*got 5\S* to 60"):
        fit(0.5, network=Priced(), data=(x, y.clamp(min=5.5) * 0 + torch.linspace(5, 60, 300)))


def test_the_network_given_is_not_changed_and_the_seed_decides() -> None:
    given = network().train()
    before = copy.deepcopy(given.state_dict())
    one, two, other = (
        train_individually_fair(given, rows(200), PEOPLE, SIMILAR, 0.2, 0.5, epochs=2, seed=s)
        for s in (0, 0, 1)
    )
    assert given.training
    assert all(torch.equal(v, before[k]) for k, v in given.state_dict().items())
    assert not one.training
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_groups_come_nearer_where_that_is_asked_for() -> None:
    x, y = rows(600)
    x[:, 0] = (x[:, 0] + 0.8 * (2 * x[:, 7] - 1)).clamp(-1, 1)  # skill tells the sex
    y = (x[:, 0] > 0).float()
    data = rf.GroupedData(x=x, y=y.long(), group=x[:, 7].long(), group_names=("women", "men"))
    gaps = []
    for group in (0.0, 3.0):
        settings = Settings(lam=0.7, epochs=15, batch_size=64, learning_rate=5e-3, group=group)
        found = fit_individually_fair(network(), data, PEOPLE, SIMILAR, 0.2, settings)
        with torch.no_grad():
            p = torch.sigmoid(found.network(x))
        gaps.append(abs(float(p[x[:, 7] == 1].mean() - p[x[:, 7] == 0].mean())))
        assert math.isnan(found.history[-1].groups) == (group == 0)
    assert gaps[1] < 0.5 * gaps[0]
    with pytest.raises(InputError, match="two groups"):
        fit_individually_fair(network(), (x, y), PEOPLE, SIMILAR, 0.2, Settings(group=1.0))


def test_the_frontier_holds_what_no_epoch_beats() -> None:
    found = fit(0.5)
    for kept, other in itertools.product(found.frontier, found.history):
        assert not (other.loss < kept.loss and other.bound < kept.bound)
    assert len(found.frontier) > 1
    assert {e.epoch for e in found.frontier} <= set(found.weights)
    x, y = rows(400)
    for epoch in found.frontier:
        with torch.no_grad():
            out = found.at(epoch.epoch)(x)
        loss = nn.functional.binary_cross_entropy_with_logits(out, y)
        assert float(loss) == pytest.approx(epoch.loss, rel=1e-4)
    with pytest.raises(InputError, match="epoch of the frontier"):
        found.at(999)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": 1.5}, r"lam in \[0, 1\], got 1.5"),
        ({"lam": 0.5, "bound": -1.0}, r"bound in \[0, 1\]"),
        ({"lam": 0.5, "sparsity": 1.0}, r"sparsity in \[0, 1\)"),
        ({"lam": 0.5, "epochs": 0}, "at least 1"),
        ({"lam": 0.5, "learning_rate": 0.0}, "learning_rate > 0"),
        ({"lam": 0.5, "data": (torch.zeros(3, 2), torch.zeros(3))}, r"rows x \(n, 8\)"),
        ({"lam": 0.5, "data": (torch.zeros(3, D), torch.full((3,), 7.0))}, "labels from 0 to 1"),
        ({"lam": 0.5, "data": (torch.full((3, D), math.nan), torch.zeros(3))}, "finite"),
        ({"lam": 0.5, "pairs": torch.zeros(2, D)}, r"pairs \(k, 2, 8\)"),
        ({"lam": 0.5, "epsilon": -0.1}, "epsilon"),
        ({"lam": 0.5, "epochs": 2.5}, "epochs as a whole number, got 2.5"),
        ({"lam": 0.5, "learning_rate": "3"}, "learning_rate as a number"),
        ({"lam": 0.5, "data": None}, "GroupedData or a pair"),
        ({"lam": 0.5, "pairs": torch.full((1, 2, D), math.nan)}, "people in the domain"),
        ({"lam": 0.5, "pairs": torch.full((1, 2, D), 9.0)}, "people in the domain"),
        ({"lam": 0.5, "checkpoint": Path(__file__)}, "expected a folder"),
        ({"lam": 0.5, "network": nn.Flatten()}, "parameters to train"),
        ({"lam": 0.5, "network": network(outputs=2), "outputs": "values"}, "one label per row"),
        (
            {
                "lam": 0.5,
                "distance": rf.Embedding(nn.Sequential(nn.Linear(D, 2), nn.ReLU()), SIMILAR),
            },
            "say bound=0",
        ),
        ({"lam": 0.5, "network": "net"}, "torch.nn.Module"),
        (
            {"lam": 0.5, "network": nn.Sequential(nn.Linear(D, 2), nn.Tanh(), nn.Linear(2, 1))},
            "got tanh: say bound=0",
        ),
    ],
)
def test_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(**change)
