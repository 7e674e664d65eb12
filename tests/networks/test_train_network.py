"""train_network: any data, repeatable, resumable, and what cannot be trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from retrofair.data import GroupedData, StreamedData
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks import resnet, train_network
from retrofair.networks import training as module
from retrofair.networks.training import Fitting, train_with

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}


def table(seed: int = 0, n: int = 90, classes: int = 2) -> GroupedData:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=random)
    noisy = x[:, 0] + 0.3 * torch.randn(n, generator=random)
    edges = torch.linspace(-1, 1, classes + 1)[1:-1]
    return GroupedData(
        x=x, y=torch.bucketize(noisy, edges), group=torch.arange(n) % 2, group_names=("a", "b")
    )


def images(seed: int = 0, n: int = 48) -> GroupedData:
    """Label 1 is brighter on the left."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randn(n, 3, 32, 32, generator=random)
    x[..., :16] += y[:, None, None, None].float()
    return GroupedData(x=x, y=y, group=torch.arange(n) // 2 % 2, group_names=("a", "b"))


def streamed(data: GroupedData, batch_rows: int = 256) -> StreamedData:
    rows = list(zip(data.x, data.y, data.group, strict=True))
    return StreamedData.of(rows, data.group_names, batch_rows=batch_rows)


def small(classes: int = 2, dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(8, 1 if classes == 2 else classes),
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def loss(network: nn.Module, data: GroupedData) -> float:
    with torch.no_grad():
        out = network.eval()(data.x)
    if out.shape[1:] in ((), (1,)):
        return float(F.binary_cross_entropy_with_logits(out.reshape(-1), data.y.float()))
    return float(F.cross_entropy(out, data.y))


def test_it_learns_and_leaves_the_network_and_the_global_state() -> None:
    start, before, state = small(), small(), torch.random.get_rng_state()
    trained = train_network(start, table(), table(1), **{**QUICK, "epochs": 20}, seed=1)
    assert same(start, before)
    assert start.training
    assert not trained.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in [*start.parameters(), *trained.parameters()])
    right = ((trained(table(2).x)[:, 0] > 0) == table(2).y.bool()).float().mean()
    assert right > 0.8
    again = train_network(start, table(), table(1), **{**QUICK, "epochs": 20}, seed=1)
    assert same(trained, again)
    assert not same(trained, train_network(start, table(), table(1), **QUICK, seed=2))


def test_one_step_is_adamws() -> None:
    data, start = table(n=16), nn.Linear(3, 1)
    options = {"lr": 0.01, "weight_decay": 0.1}
    expected = nn.Linear(3, 1)
    expected.load_state_dict(start.state_dict())
    step = torch.optim.AdamW(expected.parameters(), **options)
    F.binary_cross_entropy_with_logits(expected(data.x)[:, 0], data.y.float()).backward()
    step.step()
    found = train_network(
        start, data, data, epochs=1, batch_size=16, learning_rate=0.01, weight_decay=0.1
    )
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_each_row_is_seen_once_an_epoch_in_a_new_order(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table(n=40)
    seen: list[Tensor] = []
    whole = module.in_order

    def noting(train: Any, order: Tensor, size: int) -> Any:
        seen.append(order)
        return whole(train, order, size)

    monkeypatch.setattr(module, "in_order", noting)
    train_network(small(), data, data, epochs=2, batch_size=16)
    orders = torch.cat(seen).reshape(2, 40)
    assert torch.equal(orders.sort(1).values, torch.arange(40).repeat(2, 1))
    assert not torch.equal(*orders)


@pytest.mark.parametrize("batch_rows", [256, 6])
def test_streamed_data_train_the_same_network(batch_rows: int) -> None:
    data, valid = table(), table(1)
    start = nn.Linear(3, 1)  # batch norm would tell the pieces of a batch apart
    one = train_network(start, data, valid, **QUICK)
    other = train_network(start, streamed(data, batch_rows), streamed(valid, batch_rows), **QUICK)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_batch_in_parts_gives_the_same_step() -> None:
    start = nn.Linear(3, 3)
    data = table(classes=3)
    whole = train_network(start, data, data, **QUICK)
    parts = train_network(start, data, data, **QUICK, accumulate=3)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_classes_are_learned_with_a_logit_each() -> None:
    data = table(n=200, classes=3)
    start = small(3)
    trained = train_network(start, data, table(1, classes=3), **{**QUICK, "epochs": 10})
    assert loss(trained, data) < 0.8 < loss(start, data)


def test_the_best_epoch_is_kept_and_patience_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [0.5, 0.4, 0.6, 0.7, 0.1]
    monkeypatch.setattr(module, "_loss_on", lambda *_: losses.pop(0))
    settings = Fitting(epochs=5, batch_size=16, patience=2)
    found = train_with(small(), table(), table(1), settings)
    assert (found.epochs, losses) == (4, [0.1])
    monkeypatch.undo()
    best = train_network(small(), table(), table(1), epochs=2, batch_size=16)
    shorter = train_network(small(), table(), table(1), epochs=1, batch_size=16)
    assert same(found.network, best if loss(best, table(1)) < loss(shorter, table(1)) else shorter)


def test_flips_mirror_about_half_of_the_images() -> None:
    x = torch.arange(400.0).reshape(100, 1, 1, 4)
    flipped = module._flipped(x, torch.Generator().manual_seed(0))
    mirrored = (flipped == x.flip(-1)).flatten(1).all(1)
    assert 30 < int(mirrored.sum()) < 70
    assert torch.equal(torch.where(mirrored[:, None, None, None], x.flip(-1), x), flipped)
    with pytest.raises(InputError, match="expected images"):
        train_network(small(), table(), table(1), **QUICK, augment="flip")


def test_a_resnet_learns_images_from_a_stream() -> None:
    options: dict[str, Any] = {"epochs": 4, "batch_size": 16, "learning_rate": 0.003}
    network = resnet(18, width=0.125)
    trained = train_network(network, streamed(images()), streamed(images(1)), **options)
    assert loss(trained, images(2)) < 0.5 * loss(network, images(2))


# --- checkpoints ----------------------------------------------------------------------------------


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    ("stop", "layout"),
    [(1, torch.contiguous_format), (2, torch.contiguous_format), (1, torch.channels_last)],
)
def test_an_interrupted_training_ends_as_one_that_was_not(
    stop: int, layout: torch.memory_format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epochs": 4, "batch_size": 12, "seed": 3, "augment": "flip"}
    start = nn.Sequential(resnet(18, width=0.125), nn.Dropout(0.2)).to(memory_format=layout)
    data, valid = images(), images(1)
    whole = train_network(start, data, valid, **options)
    epoch, ran = module._epoch, 0

    def stopping(*arguments: Any) -> None:
        nonlocal ran
        epoch(*arguments)
        ran += 1
        if ran > stop:
            raise StoppedError

    monkeypatch.setattr(module, "_epoch", stopping)
    with pytest.raises(StoppedError):
        train_network(start, data, valid, **options, checkpoint=tmp_path)
    torch.manual_seed(99)  # whatever the next process is in
    ran = -10
    resumed = train_network(start, data, valid, **options, checkpoint=tmp_path)
    assert ran == -10 + 4 - stop  # only the epochs that were missing
    assert same(whole, resumed)
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]


def test_a_finished_training_is_read_and_more_epochs_go_on(tmp_path: Path) -> None:
    start, data, valid = small(), table(), table(1)
    settings = Fitting(epochs=2, batch_size=16)
    first = train_with(start, data, valid, settings, checkpoint=tmp_path)
    again = train_with(start, data, valid, settings, checkpoint=tmp_path)
    assert (first.fresh, again.fresh, again.epochs) == (True, False, 2)
    assert same(first.network, again.network)
    more = dataclasses.replace(settings, epochs=4)
    longer = train_with(start, data, valid, more, checkpoint=tmp_path)
    assert (longer.fresh, longer.epochs) == (True, 4)
    assert same(longer.network, train_with(start, data, valid, more).network)
    with pytest.raises(InputError, match=r"epochs of at least 4, .* got 2"):
        train_with(start, data, valid, settings, checkpoint=tmp_path)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    start, data, valid = small(), table(), table(1)
    train_network(start, data, valid, **QUICK, checkpoint=tmp_path)
    with pytest.raises(InputError, match="one with another batch_size: name another folder"):
        train_network(start, data, valid, **{**QUICK, "batch_size": 8}, checkpoint=tmp_path)
    with pytest.raises(InputError, match="another seed, network, training data"):
        train_network(small(3), table(9, classes=3), valid, **QUICK, seed=1, checkpoint=tmp_path)
    file = tmp_path / "training.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"cannot be read: .*delete it"):
        train_network(start, data, valid, **QUICK, checkpoint=tmp_path)
    with pytest.raises(InputError, match=r"is a file \(checkpoint\)"):
        train_network(start, data, valid, **QUICK, checkpoint=file)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs, patience and accumulate of at least 1, got 0"),
        ({"batch_size": 6, "accumulate": 4}, "got 6 rows in 4 parts"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"augment": "crop"}, "unknown augment 'crop'"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_network(small(), table(), table(1), **options)


def test_networks_and_labels_that_do_not_fit_are_refused() -> None:
    data = table()
    with pytest.raises(InputError, match="ends in Sigmoid: leave that layer out"):
        train_network(nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), data, data)
    with pytest.raises(InputError, match="training labels from 0 to 1, as the network has one"):
        train_network(small(), table(classes=3), data)
    with pytest.raises(InputError, match="difference of their logits"):
        train_network(nn.Linear(3, 2), data, data)
    with pytest.raises(InputError, match="that takes x of shape"):
        train_network(nn.Linear(4, 1), data, data)
    with pytest.raises(InputError, match="two classes, got one"):
        train_network(small(), data[data.y == 1], data)
    with pytest.raises(InputError, match="weights to train"):
        train_network(small().requires_grad_(False), data, data)
    with pytest.raises(InputError, match="finite validation loss"):
        train_network(small(), data, data, learning_rate=1e36, epochs=2)


class Short(nn.Module):
    """A network with memory for gradients of `most` rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.body = most, small()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)  # its averages and its dropout have had their turn
        if torch.is_grad_enabled() and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        return out


def test_more_parts_where_memory_runs_out() -> None:
    """As if they had been asked for: what the failed step drew and averaged is undone."""
    with pytest.warns(RetrofairWarning) as caught:
        found = train_network(Short(5), table(), table(1), **QUICK)
    assert [str(each.message) for each in caught] == [
        f"out of memory with {rows} rows at once: going on with {rows // 2} in each part of a "
        "minibatch; fewer from the start with accumulate="
        for rows in (16, 8)
    ]
    asked = train_network(Short(5), table(), table(1), **QUICK, accumulate=4)
    assert same(found, asked)


def test_no_memory_for_two_rows() -> None:
    with (
        pytest.warns(RetrofairWarning),
        pytest.raises(InputError, match="expected memory to train this network on 2 rows"),
    ):
        train_network(Short(1), table(), table(1), **QUICK)
