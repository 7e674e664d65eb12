"""Datasets that can only be read one row after the other, against the same rows in memory."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

import retrofair as rf
from retrofair.data import spooled
from retrofair.data.mapped import mapped
from retrofair.errors import InputError

NAMES = ("a", "b")
SPLITS = rf.datasets.load("synthetic", n=300, seed=0)


class Stream(IterableDataset[Any]):
    """Rows of the synthetic data, with x of a kind; notes how often it was read."""

    def __init__(self, kind: str = "tensor") -> None:
        self.kind, self.times = kind, 0

    def __iter__(self) -> Any:
        self.times += 1
        data = SPLITS.valid
        for x, y, group in zip(data.x, data.y, data.group, strict=True):
            parts: Any = {"a": x, "mask": x > 0, "ids": (x * 9).long()}
            if self.kind == "tuple":
                parts = (x, x > 0)
            yield (x if self.kind == "tensor" else parts), y, group


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(SPLITS.valid.x.shape[1], 1)

    def forward(self, x: Any = None, **parts: Any) -> Any:
        return self.layer(parts["a"] if x is None else x)


def test_a_network_is_debiased_on_what_can_only_be_read_once(tmp_path: Path) -> None:
    stream = Stream()
    data = rf.StreamedData.of(DataLoader(stream, batch_size=64), NAMES, spool=tmp_path)
    assert stream.times == 1
    assert (len(data), data.batch_rows) == (len(SPLITS.valid), 64)
    method = rf.debiasers.Lagrangian(epochs=2, steps=5)
    goal = rf.Constrained("spd", epsilon=0.1)
    one, other = (
        rf.debias(Net(), each, goal, method, outputs="logits") for each in (data, SPLITS.valid)
    )
    assert one.after.objective == pytest.approx(other.after.objective)
    assert (one.predict_data(data) == other.predict_data(SPLITS.valid)).all()
    assert stream.times == 1


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict"])
def test_rows_are_the_datasets(kind: str) -> None:
    data = rf.StreamedData.of(Stream(kind), NAMES, batch_rows=100)
    expected = list(DataLoader(Stream(kind), batch_size=100))
    for (x, y, group), (their_x, their_y, their_group) in zip(data, expected, strict=True):
        assert torch.equal(y, their_y)
        assert torch.equal(group, their_group)
        names = x if isinstance(x, dict) else range(len(x)) if isinstance(x, tuple) else [...]
        assert type(x) is {"tensor": torch.Tensor, "tuple": tuple, "dict": dict}[kind]
        for name in names:
            assert torch.equal(x[name], their_x[name])
            assert x[name].dtype == their_x[name].dtype
    one, y, _ = data.rows[5]
    first = one["ids"] if kind == "dict" else one[0] if kind == "tuple" else one
    assert first.shape == SPLITS.valid.x[5].shape
    assert y == SPLITS.valid.y[5]
    assert data[10:12].y.tolist() == SPLITS.valid.y[10:12].tolist()


def test_the_copy_goes_with_the_last_data_that_use_it(tmp_path: Path) -> None:
    data = rf.StreamedData.of(Stream(), NAMES, spool=tmp_path)
    part = data[:10]
    del data
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    next(iter(part))
    del part
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_rows_do_not_change_the_copy() -> None:
    data = rf.StreamedData.of(Stream(), NAMES)
    x, _, _ = data.rows[0]
    x += 1  # a view of the map
    assert torch.equal(data.rows[1][0], SPLITS.valid.x[1])


class Items(IterableDataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Any:
        return iter(self.items)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "got none"),
        ([(torch.ones(2), 0, 0), (torch.ones(3), 0, 0)], "padding to one length"),
        ([(torch.ones(2), 0, 0), (torch.ones(2).long(), 0, 0)], "float32.* got .*int64"),
        ([(torch.ones(2), 0)], "2 parts"),
        ([(torch.ones(2), "yes", 0)], "y of each row to be a number"),
        ([(torch.ones(2), 0, 4)], "group codes from 0 to 1"),
        ([(torch.ones(2, 1), torch.zeros(3), torch.zeros(3))], "x of 3 rows as y, got 2"),
        ([("she is good", 0, 0)], "tuple or dict of tensors, got (str|tuple|list)"),
    ],
)
def test_what_cannot_be_copied(items: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        rf.StreamedData.of(DataLoader(Items(items), batch_size=None), NAMES, spool=tmp_path)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_and_a_full_disk(tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(InputError, match="spool"):
        rf.StreamedData.of(Stream(), NAMES, spool=tmp_path / "missing")

    def full(self: Path, mode: str) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spooled.Path, "open", full)
    with pytest.raises(InputError, match=r"room for a copy .* larger disk \(spool=\)"):
        rf.StreamedData.of(Stream(), NAMES, spool=tmp_path)


class Broken(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.ones(2), 0, 0
        raise FileNotFoundError("faces/0.png")


def test_what_a_dataset_raises_is_not_the_disks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"faces/0\.png"):
        rf.StreamedData.of(Broken(), NAMES, spool=tmp_path)


def test_a_collation_of_the_users(tmp_path: Path) -> None:
    def doubled(rows: list[Any]) -> Any:
        x, y, group = default_collate(rows)
        return x * 2, y, group

    plain = rf.StreamedData.of(Stream(), NAMES)
    for source in (Stream(), DataLoader(Stream(), batch_size=50)):
        data = rf.StreamedData.of(source, NAMES, collate=doubled)
        assert torch.equal(data.x, plain.x * 2)


def test_copies_share_the_file(tmp_path: Path) -> None:
    data = rf.StreamedData.of(Stream(), NAMES, spool=tmp_path)
    assert copy.deepcopy(data).rows is data.rows
    sent = pickle.dumps(data[:10])
    assert len(sent) < 20_000  # labels and the place of the copy
    there = pickle.loads(sent)
    assert torch.equal(there.x, data[:10].x)
    del data, there
    gc.collect()
    with pytest.raises(InputError, match="goes with the data it was made for"):
        pickle.loads(sent)


def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    place = tmp_path / "large"
    with place.open("wb") as file:
        file.truncate(2**40)  # sparse
    found = mapped(place)
    assert len(found) == 2**40
    found[5] = 1
    assert mapped(place)[5] == 0
