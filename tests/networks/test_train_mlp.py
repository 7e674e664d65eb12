"""train_mlp: repeatable, best weights kept, the cache, and what cannot be trained on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.networks import MLP, Training, train_mlp
from retrofair.networks import train as module

SMALL: dict[str, Any] = {"depth": 1, "width": 4, "batch_size": 16, "max_epochs": 3}


def data(seed: int = 0, n: int = 60, noise: float = 1.0) -> GroupedData:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=random)
    y = (x[:, 0] + noise * torch.randn(n, generator=random) > 0).long()
    y[:2] = torch.tensor([0, 1])
    return GroupedData(x=x, y=y, group=torch.arange(n) % 2, group_names=("a", "b"))


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def changed(part: GroupedData, **fields: Any) -> GroupedData:
    usual = {"x": part.x, "y": part.y, "group": part.group, "group_names": part.group_names}
    return GroupedData(**{**usual, **fields})


class Recorder:
    """Stands in for torch.nn.functional: notes the validation losses (those without gradients)."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def binary_cross_entropy_with_logits(
        self, logit: Tensor, y: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logit, y, weight)
        if not torch.is_grad_enabled():
            self.losses.append(float(loss))
        return loss


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The validation losses of the training that follows, one per epoch."""
    noted: list[float] = []
    monkeypatch.setattr(module, "F", Recorder(noted))
    return noted


def test_the_seed_decides() -> None:
    one, again = (train_mlp(data(), data(1), seed=5, **SMALL) for _ in range(2))
    other = train_mlp(data(), data(1), seed=6, **SMALL)
    assert same(one, again)
    assert not same(one, other)


def test_global_state_threads_and_data_stay() -> None:
    torch.manual_seed(123)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train, valid = data(), data(1)
    x = train.x.clone()
    train_mlp(train, valid, **SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert torch.equal(train.x, x)
    torch.manual_seed(321)  # nor does the global state enter
    assert same(train_mlp(train, valid, **SMALL), train_mlp(train, valid, **SMALL))


def test_it_learns_and_is_in_eval_mode() -> None:
    train = data(n=200, noise=0.1)
    valid = data(1, noise=0.1)
    network = train_mlp(
        train, valid, depth=1, width=8, batch_size=20, learning_rate=0.01, max_epochs=20
    )
    assert not any(m.training for m in network.modules())
    right = ((network(train.x) > 0).long() == train.y).float().mean()
    assert float(right) > 0.9


def test_the_best_weights_are_kept(losses: list[float]) -> None:
    valid = data(1, noise=3.0)
    network = train_mlp(
        data(noise=3.0), valid, depth=2, width=32, learning_rate=0.05, max_epochs=30, patience=99
    )
    assert len(losses) == 30
    assert min(losses) < losses[-1] - 1e-3  # or the test would show nothing
    found = F.binary_cross_entropy_with_logits(network(valid.x), valid.y.float())
    assert float(found.detach()) == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_patience_epochs_without_a_fall(
    patience: int, losses: list[float]
) -> None:
    train_mlp(
        data(noise=3.0),
        data(1, noise=3.0),
        depth=2,
        width=32,
        learning_rate=0.05,
        max_epochs=300,
        patience=patience,
    )
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + patience < 300
    for epoch in range(best):  # no earlier epoch had waited as long
        assert min(losses[epoch + 1 : epoch + 1 + patience]) < min(losses[: epoch + 1])


def test_a_last_batch_of_one_row_is_left_out() -> None:
    network = train_mlp(data(n=33), data(1), **SMALL)  # 16 + 16 + 1
    assert torch.isfinite(network(data().x)).all()


def test_the_settings_shape_the_network() -> None:
    network = train_mlp(data(), data(1), depth=3, width=5, dropout=0.4, max_epochs=1)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(3, 5), (5, 5), (5, 5), (5, 1)]
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.4}
    order = [type(m).__name__ for m in network.hidden]
    assert order == ["Linear", "ReLU", "Dropout", "BatchNorm1d"] * 3
    assert network(data().x).shape == (60,)


def test_depth_0_is_logistic_regression() -> None:
    network = train_mlp(data(), data(1), depth=0, max_epochs=1)
    assert sum(p.numel() for p in network.parameters()) == 4


# --- the cache ----------------------------------------------------------------------------------


def must_not_train(*_: Any) -> None:
    raise AssertionError("trained again")


def test_a_cache_hit_does_not_train_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_mlp(data(), data(1), cache=tmp_path / "new", **SMALL)
    assert len(list((tmp_path / "new").iterdir())) == 1
    monkeypatch.setattr(module, "_fit", must_not_train)
    again = train_mlp(data(), data(1), cache=str(tmp_path / "new"), **SMALL)
    assert same(first, again)
    assert not any(m.training for m in again.modules())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"dropout": 0.3},
        {"learning_rate": 2e-3},
        {"patience": 7},
        {"max_epochs": 2},
        {"width": 5},
        {"batch_size": 8},
        {"train": changed(data(), x=data().x + 1e-3)},
        {"train": changed(data(), y=1 - data().y)},
        {"valid": changed(data(1), x=data(1).x * 1.001)},
        {"valid": changed(data(1), y=1 - data(1).y)},
        {"train": data()[:59]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_anything_that_changes_the_network_changes_its_name(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"train": data(), "valid": data(1), "seed": 0, **SMALL, "cache": tmp_path}
    train_mlp(**usual)
    monkeypatch.setattr(module, "_fit", must_not_train)
    with pytest.raises(AssertionError, match="trained again"):
        train_mlp(**{**usual, **change})


def test_the_groups_do_not_matter_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_mlp(data(), data(1), cache=tmp_path, **SMALL)
    monkeypatch.setattr(module, "_fit", must_not_train)
    train_mlp(changed(data(), group=1 - data().group), data(1), cache=tmp_path, **SMALL)


def test_a_damaged_cache_is_trained_again_and_replaced(tmp_path: Path) -> None:
    first = train_mlp(data(), data(1), cache=tmp_path, **SMALL)
    [file] = tmp_path.iterdir()
    whole = {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.write_bytes(file.read_bytes()[:50])
    assert same(first, train_mlp(data(), data(1), cache=tmp_path, **SMALL))
    again = load_file(file)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_training_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for name in ("_fit", "save_tensors"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                train_mlp(data(), data(1), cache=tmp_path, **SMALL)
        assert list(tmp_path.iterdir()) == []


# --- what cannot be trained on --------------------------------------------------------------------


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize(
    ("y", "shown"), [(0, r"\[0\]"), (1, r"\[1\]"), (None, r"\[0.0, 0.5, 1.0\]")]
)
def test_labels_of_one_class_or_of_numbers(part: str, y: int | None, shown: str) -> None:
    values = torch.tensor([0.0, 0.5, 1.0] * 20) if y is None else torch.full((60,), y)
    bad = changed(data(), y=values)
    parts = (bad, data()) if part == "training" else (data(), bad)
    with pytest.raises(InputError, match=rf"both classes.*{part} labels, got {shown}"):
        train_mlp(*parts, **SMALL)


@pytest.mark.parametrize(
    ("part", "x"),
    [
        ("validation", torch.zeros(60, 2)),
        ("training", torch.zeros(60, 3, 3)),
        ("training", torch.zeros(60)),
        ("training", torch.zeros(60, 3, dtype=torch.float64)),
        ("validation", torch.zeros(60, 3, dtype=torch.float64)),
    ],
)
def test_features_of_another_shape_or_type(part: str, x: Tensor) -> None:
    bad = changed(data(), x=x)
    parts = (bad, data()) if part == "training" else (data(), bad)
    with pytest.raises(InputError, match=rf"\(n, d\) float32, got .* as the {part} features"):
        train_mlp(*parts, **SMALL)


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"patience": 0},
        {"max_epochs": 0},
        {"depth": -1},
        {"width": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
    ],
)
def test_settings_out_of_range(setting: dict[str, Any]) -> None:
    [(name, value)] = setting.items()
    with pytest.raises(InputError, match=name.split("_")[0]) as caught:
        train_mlp(data(), data(1), **{**SMALL, **setting})
    assert str(value) in str(caught.value)


def test_the_defaults_of_all_three_agree() -> None:
    settings = Training()
    for name in ("width", "depth", "dropout"):
        assert MLP.__init__.__kwdefaults__[name] == getattr(settings, name)
    for name, value in vars(settings).items():
        assert train_mlp.__kwdefaults__[name] == value


def test_the_time_of_training_is_kept_with_the_network(tmp_path: Path) -> None:
    settings = module.Training(**{k: v for k, v in SMALL.items() if k != "seed"})
    fresh = module.fitted(data(), data(1), settings, cache=tmp_path)
    again = module.fitted(data(), data(1), settings, cache=tmp_path)
    assert (fresh.fresh, again.fresh) == (True, False)
    assert again.seconds == pytest.approx(fresh.seconds, abs=0.001)
    assert again.epochs == fresh.epochs >= 1


# --- weights per row ------------------------------------------------------------------------------


def test_equal_weights_train_the_same_network() -> None:
    train, valid = data(0), data(1)
    one = train_mlp(train, valid, **SMALL)
    assert same(one, train_mlp(train, valid, weights=torch.full((60,), 3.0), **SMALL))


def test_whole_weights_count_as_rows_given_more_than_once() -> None:
    """All rows in one batch and no dropout: twice the weight is twice the row."""
    train, valid = data(0), data(1)
    times = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(0))
    repeated = train[torch.repeat_interleave(torch.arange(60), times)]
    options: dict[str, Any] = {"depth": 0, "batch_size": 500, "max_epochs": 40}
    one = train_mlp(train, valid, weights=times.float(), **options)
    other = train_mlp(repeated, valid, **options)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert not same(one, train_mlp(train, valid, **options))


def test_weights_are_part_of_what_the_cache_goes_by(tmp_path: Path) -> None:
    train, valid = data(0), data(1)
    weights = torch.linspace(0, 2, 60)
    for given in (None, weights, weights.flip(0)):
        train_mlp(train, valid, cache=tmp_path, weights=given, **SMALL)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    train_mlp(train, valid, cache=tmp_path, weights=weights.clone(), **SMALL)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(59), "expected 60 weights, one per training row, got shape"),
        (torch.zeros(60), "not all 0"),
        (-torch.ones(60), "at least 0"),
        (torch.full((60,), math.nan), "finite weights"),
        ("equal", "expected weights as a tensor of numbers, got str"),
    ],
)
def test_weights_that_do_not_fit(weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_mlp(data(0), data(1), weights=weights, **SMALL)
