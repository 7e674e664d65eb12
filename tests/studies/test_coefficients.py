"""The study of Figure 2: what a regression on random perturbations can tell, and what it cannot."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, RidgeCV
from torch import nn

from retrofair import Splits, metrics
from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks import MLP, Training
from retrofair.studies import linear, perturbation
from retrofair.studies.base import Study
from retrofair.studies.cells import NetworkCell
from retrofair.studies.coefficients import Coefficients
from retrofair.studies.perturbation import PerturbationCell
from retrofair.studies.run import Plan, run
from retrofair.studies.sources import Source
from retrofair.studies.store import Store

SOURCE = Source("synthetic", ("sex",))
SMALL = Training(depth=2, max_epochs=3)
STUDY = Coefficients(source=SOURCE, seeds=(0, 1, 2), training=SMALL, trials=60)


def planted(
    n: int, p: int, weights: int, noise: float = 0.0, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Columns (n, p) of standard deviation 0.1, coefficients (p,), and the targets they give."""
    rng = np.random.default_rng(seed)
    columns = 0.1 * rng.standard_normal((n, p))
    slopes = np.zeros(p)
    slopes[:weights] = 1.0
    clean = columns @ slopes
    return columns, slopes, clean + noise * clean.std() * rng.standard_normal(n)


def prepared(target: Array, permutations: int = 10) -> tuple[Array, list[Array]]:
    rng = np.random.default_rng(1)
    targets = linear.with_permutations(target, permutations, rng)
    return targets, linear.folds_of(len(target), 5, rng)


# --- what R^2 tells -------------------------------------------------------------------------------


def test_ridge_predicts_a_planted_model_and_not_its_permutations() -> None:
    columns, _, target = planted(n=300, p=50, weights=50, noise=0.3)
    targets, folds = prepared(target)
    found = linear.ridge_held_out(columns @ columns.T, targets, folds)
    assert found[0] > 0.85  # 1 / (1 + 0.3^2) = 0.92 is linear
    assert found[1:].max() < 0.05
    assert abs(found[1:].mean()) < 0.03


def test_noise_is_explained_in_sample_and_not_held_out() -> None:
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((100, 1000))
    targets, folds = prepared(rng.standard_normal(100))
    gram = columns @ columns.T
    assert linear.minimum_norm_r2(gram, targets) == pytest.approx(1)
    assert linear.ridge_held_out(gram, targets, folds).mean() < 0.02
    assert linear.ridge_held_out(gram, targets, folds).max() < 0.15


@pytest.mark.parametrize("weights", [1, 1000])
def test_with_few_samples_ridge_reaches_the_ceiling_however_many_weights_matter(
    weights: int,
) -> None:
    found = []
    for seed in range(20):
        columns, _, target = planted(n=125, p=1000, weights=weights, seed=seed)
        targets, folds = prepared(target, permutations=1)
        found.append(linear.ridge_held_out(columns @ columns.T, targets, folds)[0])
    assert np.mean(found) == pytest.approx(linear.ceiling(100, 1000), abs=0.04)


@pytest.mark.parametrize(("n", "p"), [(60, 200), (60, 20)])
def test_ridge_is_that_of_scikit_learn(n: int, p: int) -> None:
    columns, _, target = planted(n, p, weights=5, noise=0.5)
    targets, folds = prepared(target, permutations=2)
    gram = columns @ columns.T
    duals = linear.ridge_duals(gram, targets)
    in_sample = linear.ridge_in_sample(gram, targets, duals)
    held_out = linear.ridge_held_out(gram, targets, folds)
    assert duals.sum(axis=0) == pytest.approx(0, abs=1e-6)
    for j in range(targets.shape[1]):
        model = reference(columns, targets[:, j])
        assert columns.T @ duals[:, j] == pytest.approx(model.coef_, rel=1e-6, abs=1e-9)
        assert in_sample[j] == pytest.approx(model.score(columns, targets[:, j]))
        wrong = base = 0.0
        for fold in folds:
            train = np.setdiff1d(np.arange(n), fold)
            y = targets[train, j]
            said = reference(columns[train], y).predict(columns[fold])
            wrong += ((targets[fold, j] - said) ** 2).sum()
            base += ((targets[fold, j] - y.mean()) ** 2).sum()
        assert held_out[j] == pytest.approx(1 - wrong / base, abs=1e-6)


def reference(columns: Array, target: Array) -> RidgeCV:
    centred = columns - columns.mean(axis=0)
    mean = np.linalg.eigvalsh(centred @ centred.T).mean()
    return RidgeCV(linear.PENALTIES * mean).fit(columns, target)


def test_least_squares_with_fewer_columns_than_samples_is_the_usual_one() -> None:
    columns, _, target = planted(n=80, p=10, weights=3, noise=1.0)
    targets, _ = prepared(target, permutations=1)
    found = linear.minimum_norm_r2(columns @ columns.T, targets)
    expected = [LinearRegression().fit(columns, y).score(columns, y) for y in targets.T]
    assert found == pytest.approx(expected)


# --- how few --------------------------------------------------------------------------------------


def test_screening_finds_the_planted_columns() -> None:
    columns, slopes, target = planted(n=300, p=500, weights=3, noise=0.5)
    targets, folds = prepared(target)
    found = linear.screened_held_out(columns, targets, folds, (1, 3, 30))
    assert found[1, 0] > 0.7  # 0.8 is linear
    assert found[0, 0] < 0.5 * found[1, 0]
    assert found[2, 0] < found[1, 0]  # 27 of the 30 are chosen by chance
    assert (found[:, 1:].mean(axis=1) < 0).all()
    along = linear.truncated_held_out(columns, slopes, targets, folds, (1, 3, 500))
    assert along[1, 0] > found[1, 0]
    assert along[2] == pytest.approx(along[1])  # the others have no weight
    assert abs(along[:, 1:].mean()) < 0.02


def test_screening_is_that_of_a_plain_loop() -> None:
    columns, _, target = planted(n=60, p=100, weights=2, noise=1.0)
    targets, folds = prepared(target, permutations=1)
    wrong, base = np.zeros(2), np.zeros(2)
    for fold in folds:
        train = np.setdiff1d(np.arange(60), fold)
        for j, y in enumerate(targets.T):
            related = [abs(np.corrcoef(column, y[train])[0, 1]) for column in columns[train].T]
            best = np.argsort(related)[-4:]
            model = LinearRegression().fit(columns[np.ix_(train, best)], y[train])
            wrong[j] += ((y[fold] - model.predict(columns[np.ix_(fold, best)])) ** 2).sum()
            base[j] += ((y[fold] - y[train].mean()) ** 2).sum()
    found = linear.screened_held_out(columns, targets, folds, (2, 4))
    assert found[1] == pytest.approx(1 - wrong / base)


def test_shares_of_known_coefficients() -> None:
    found = linear.concentration(np.array([0.0, -3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert found == {"top_1": 0.9, "top_5": 0.9, "top_10": 0.9, "for_50": 1, "for_90": 1}
    equal = linear.concentration(np.ones(200))
    assert equal == pytest.approx(
        {"top_1": 0.01, "top_5": 0.05, "top_10": 0.1, "for_50": 100, "for_90": 180}
    )


def test_a_tenth_of_pure_noise_carries_44_percent() -> None:
    # E[z^2; |z| > q] = 2 (q phi(q) + 1 - Phi(q)): 0.0845 beyond q = 2.576, 0.4389 beyond 1.645
    found = linear.concentration(np.random.default_rng(0).standard_normal(200_000))
    assert found["top_1"] == pytest.approx(0.0845, abs=0.002)
    assert found["top_10"] == pytest.approx(0.4389, abs=0.003)


def test_singular_values_of_like_and_unlike_rows() -> None:
    assert linear.singular_values(5 * np.eye(3, 10)) == pytest.approx([1, 1, 1])
    same = linear.singular_values(np.tile(np.arange(1.0, 11), (4, 1)))
    assert same == pytest.approx([2, 0, 0, 0], abs=1e-7)
    chance = linear.random_singular_values(10, 10_000, 5, np.random.default_rng(0))
    assert chance.shape == (5, 10)
    assert np.abs(chance - 1).max() < 0.04  # sqrt(10 / 10,000) = 0.03


# --- the cell -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(9, depth=1, width=8).eval()


@pytest.fixture(scope="module")
def splits() -> Splits:
    return SOURCE.load()


def cell(**options: Any) -> PerturbationCell:
    usual: dict[str, Any] = {"trials": 40, "permutations": 3, "gradients": 4}
    return PerturbationCell(NetworkCell(SOURCE, 0, SMALL), **{**usual, **options})


def test_a_cell_leaves_the_network_and_the_random_state_alone(
    network: nn.Module, splits: Splits
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state(), str(np.random.get_state())
    modes = [module.training for module in network.modules()]
    cell().run(splits, network)
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert modes == [module.training for module in network.modules()]
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == str(np.random.get_state())


def test_a_seed_decides_the_answer(network: nn.Module, splits: Splits) -> None:
    one, again, other = (cell(seed=seed).run(splits, network) for seed in (3, 3, 4))
    assert one.values == again.values
    assert one.values != other.values
    for name, values in one.tensors.items():
        assert torch.equal(values, again.tensors[name])
    weights = sum(p.numel() for p in network.parameters())
    shapes = {name: tuple(values.shape) for name, values in one.tensors.items()}
    assert shapes == {
        "biases": (40,),
        "coefficients": (weights,),
        "gradient": (weights,),
        "permuted": (3, weights),
    }
    assert sum(size for _, size in one.values["parameters"]) == weights
    lengths = torch.linalg.vector_norm(one.tensors["permuted"], dim=1)
    assert lengths.tolist() == pytest.approx([1, 1, 1])
    json.dumps(one.values)


def test_the_bias_is_that_of_the_test_data_under_the_paper_s_factors(
    network: nn.Module, splits: Splits
) -> None:
    found = cell(seed=5).run(splits, network)
    data, random = splits.test, torch.Generator().manual_seed(5)
    size = sum(p.numel() for p in network.parameters())
    perturbed = MLP(9, depth=1, width=8).eval()
    for trial in range(3):
        factors = torch.empty(size).normal_(1, 0.1, generator=random)
        pieces = factors.split([p.numel() for p in network.parameters()])
        perturbed.load_state_dict(network.state_dict())
        with torch.no_grad():
            for parameter, piece in zip(perturbed.parameters(), pieces, strict=True):
                parameter *= piece.view_as(parameter)
            chosen = perturbed(data.x) > 0
        rates = [float(chosen[data.group == group].double().mean()) for group in (0, 1)]
        assert found.tensors["biases"][trial].item() == pytest.approx(rates[0] - rates[1])


@pytest.mark.parametrize("measure", perturbation.MEASURES)
def test_measures_are_sums_of_what_each_decision_is_worth(measure: str, splits: Splits) -> None:
    data = splits.test
    chosen = torch.rand(len(data), generator=torch.Generator().manual_seed(0)) > 0.4
    counts = metrics.count(data.y.numpy(), chosen.numpy(), data.group.numpy(), 2)
    worth = perturbation._worth(metrics.get(measure), data)
    assert float(worth[chosen].sum()) == pytest.approx(metrics.get(measure)(counts), abs=1e-5)


def test_the_gradient_is_that_of_finite_differences(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perturbation, "WIDTH", 0.5)
    test = splits.test
    data = GroupedData(x=test.x.double(), y=test.y, group=test.group, group_names=test.group_names)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = MLP(9, depth=1, width=4).double().eval()
    # draws this narrow are all at the weights themselves
    halves = cell(scale=1e-9, gradients=2)._gradients(network, data, torch.Generator())
    worth = perturbation._worth(metrics.SPD, data).double()
    with torch.no_grad():
        width = 0.5 * float(network(data.x).std())
    start, step = 0, 1e-5
    for parameter in network.parameters():
        flat = parameter.data.view(-1)
        at = flat[0].item()
        values = []
        for factor in (1 + step, 1 - step):
            flat[0] = at * factor
            values.append(float((worth * torch.sigmoid(network(data.x) / width)).sum().detach()))
        flat[0] = at
        slope = (values[0] - values[1]) / (2 * step)
        assert halves[:, start] == pytest.approx([slope, slope], rel=1e-3, abs=1e-7)
        start += parameter.numel()
    assert halves.shape == (2, start)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"measure": "disparate_impact"}, "measure"),
        ({"trials": 9}, "trials >= 10"),
        ({"scale": 0.0}, "scale > 0"),
        ({"permutations": 0}, "permutations >= 1"),
        ({"gradients": 1}, "gradients >= 2"),
    ],
)
def test_settings_out_of_range(options: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        cell(**options)


def test_every_setting_is_part_of_the_configuration() -> None:
    names = {field.name for field in dataclasses.fields(PerturbationCell)}
    assert set(cell().config()) == names
    json.dumps(cell().config())


def test_three_groups_and_a_bias_that_does_not_move_are_refused(network: nn.Module) -> None:
    data = Source("synthetic", ("region",)).load()
    with pytest.raises(InputError, match="expected two groups, got 3"):
        cell().run(data, MLP(data.test.x.shape[1], depth=1, width=8).eval())
    constant = MLP(9, depth=0)
    nn.init.zeros_(constant.out.weight)
    nn.init.constant_(constant.out.bias, -5)
    with pytest.raises(InputError, match="expected finite biases that vary over the 40 trials"):
        cell().run(SOURCE.load(), constant.eval())


# --- the study ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_study_from_networks_to_page(folder: Path) -> None:
    study: Study = STUDY
    plan = Plan.of(study.cells(), Store(folder / "store"))
    assert len(plan.missing) == 6
    run(plan, jobs=1)
    assert not plan.missing
    written = study.write(plan, folder / "out")
    assert {path.name for path in written} == {
        f"coefficients.{end}" for end in ("csv", "png", "md")
    }
    rows = pd.read_csv(folder / "out" / "coefficients.csv")
    assert rows["seed"].tolist() == [0, 1, 2]
    assert set(rows["state"]) == {"done"}
    assert rows["r2_in_sample"].to_numpy() == pytest.approx(1)
    assert rows["r2_in_sample_permuted"].to_numpy() == pytest.approx(1)
    assert (rows["r2_held_out"] < 0.3).all()  # 48 samples, 1,537 weights
    # a network this shallow is nearly linear in its weights, as the gradient shows and ridge cannot
    assert (rows["r2_gradient"] > 0.8).all()
    assert (rows["top_10_gradient"] > rows["top_10_ridge"]).all()
    page = (folder / "out" / "coefficients.md").read_text(encoding="utf-8")
    mean, deviation = rows["r2_held_out"].mean(), rows["r2_held_out"].std()
    assert f"| ridge, held out | {mean:.3f} +- {deviation:.3f} |" in page
    assert "0.861 +- 0.090" in page
    assert "(n = 3;" in page
    assert "left out" not in page
    assert len(re.findall(r"^\| (hidden\.\d+|out) \|", page, re.MULTILINE)) == 5
    image = (folder / "out" / "coefficients.png").read_bytes()
    assert image.startswith(b"\x89PNG")


def test_cells_that_are_missing_or_failed_are_counted(folder: Path) -> None:
    plan = Plan.of(STUDY.cells(), Store(folder / "store"))
    first, second = STUDY.cell(0), STUDY.cell(1)
    STUDY.write(plan, folder / "none")
    nothing = (folder / "none" / "coefficients.md").read_text(encoding="utf-8")
    assert "**3 of 3 networks are left out**" in nothing
    assert not (folder / "none" / "coefficients.png").exists()
    run(Plan.of([first], plan.store), jobs=1)
    record = {"key": plan.key(second), "kind": second.kind, "status": "failed", "error": "why"}
    plan.store.add({**record, "wall_seconds": 1.0})
    STUDY.write(plan, folder / "one")
    rows = pd.read_csv(folder / "one" / "coefficients.csv")
    assert rows["state"].tolist() == ["done", "failed", "missing"]
    page = (folder / "one" / "coefficients.md").read_text(encoding="utf-8")
    assert "(n = 1;" in page
    assert "**2 of 3 networks are left out**" in page
    assert (folder / "one" / "coefficients.png").exists()
