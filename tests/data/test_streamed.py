"""Data that are read as they are needed, against the same rows in memory."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

import retrofair as rf
from retrofair.data import Batches, in_order
from retrofair.errors import InputError

NAMES = ("a", "b", "c")


class Numbers(Dataset[Any]):
    """x = (i, -i), y = i % 2, group = i % 3; notes which rows were read."""

    def __init__(self, n: int = 10) -> None:
        self.n, self.read = n, list[int]()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        self.read.append(i)
        return torch.tensor([i, -i]).float(), i % 2, i % 3


class Blocks(Numbers):
    """The same, whole batches at a time, with labels known before."""

    y = np.arange(10) % 2
    group = np.arange(10) % 3

    def batch(self, index: Tensor) -> Any:
        self.read += index.tolist()
        return torch.stack([index, -index], 1).float(), index % 2, index % 3


def plain(data: Any) -> list[Any]:
    return [[part.tolist() for part in batch] for batch in data]


@pytest.mark.parametrize("kind", [Numbers, Blocks])
def test_batches_in_the_datasets_order(kind: Any) -> None:
    data = rf.StreamedData.of(kind(), NAMES, batch_rows=4)
    assert isinstance(data, Batches)
    assert len(data) == 10
    assert [len(y) for _, y, _ in data] == [4, 4, 2]
    assert torch.cat([x for x, _, _ in data])[:, 0].tolist() == list(range(10))
    assert data.y.tolist() == [i % 2 for i in range(10)]
    assert data.group.tolist() == [i % 3 for i in range(10)]
    assert data.group.dtype == torch.long
    assert plain(data) == plain(data)


def test_labels_that_the_dataset_knows_are_not_read() -> None:
    rows = Blocks()
    rf.StreamedData.of(rows, NAMES)
    assert rows.read == []
    rows = Numbers()
    rf.StreamedData.of(rows, NAMES)
    assert rows.read == list(range(10))


@pytest.mark.parametrize("kind", [Numbers, Blocks])
def test_chosen_rows(kind: Any) -> None:
    data = rf.StreamedData.of(kind(), NAMES, batch_rows=4)
    whole = rf.GroupedData(x=data.x, y=data.y, group=data.group, group_names=NAMES)
    for index in (slice(2, 7), [5, 1, 1], torch.tensor([9, 0]), data.y == 1, 3, np.array([4])):
        some, same = data[index], whole[index]
        assert some.x.tolist() == same.x.tolist()
        assert some.y.tolist() == same.y.tolist()
        assert some.group.tolist() == same.group.tolist()
        assert some.group_names == NAMES
    assert data[2:7][1:3].x[:, 0].tolist() == [3, 4]
    assert len(data[[]]) == 0
    assert list(data[[]]) == []
    with pytest.raises(InputError, match="expected rows from 0 to 9"):
        data[[10]]


@pytest.mark.parametrize("kind", [Numbers, Blocks])
def test_rows_drawn_are_those_of_data_in_memory(kind: Any) -> None:
    data = rf.StreamedData.of(kind(), NAMES)
    whole = data.read()
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for part, same in zip(data.sample(50, one), whole.sample(50, other), strict=True):
        assert part.tolist() == same.tolist()
    x, y, group = data[5:].sample(40, one)
    assert x[:, 0].min() >= 5
    assert (x[:, 0].long() % 2 == y).all()
    assert len(group) == 40


def test_a_dataloader_gives_its_dataset_and_not_its_order() -> None:
    loader = DataLoader(Numbers(), batch_size=3, shuffle=True)
    before = torch.get_rng_state()
    data = rf.StreamedData.of(loader, NAMES)
    assert [x[0, 0].item() for x, _, _ in data] == [0, 3, 6, 9]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {"sampler": SubsetRandomSampler([7, 2, 5]), "batch_size": 2},
        {"sampler": [5, 2, 7]},
        {"batch_sampler": [[5], [7, 2]]},
        {"batch_sampler": BatchSampler(SubsetRandomSampler([2, 5, 7]), 2, drop_last=True)},
    ],
)
def test_the_rows_that_a_sampler_names(options: Any, workers: int) -> None:
    for kind in (Numbers, Blocks):
        loader = DataLoader(kind(), num_workers=workers, **options)
        state = torch.get_rng_state()
        data = rf.StreamedData.of(loader, NAMES)
        assert torch.cat([x for x, _, _ in data])[:, 0].tolist() == [2, 5, 7]
        assert (data.y.tolist(), data.group.tolist()) == ([0, 1, 1], [2, 2, 1])
        assert data.notes == ("3 of 10 rows: the sampler's",)
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 3, "drop_last": True},
        {"batch_size": 3, "drop_last": True, "shuffle": True},
        {"batch_sampler": BatchSampler(range(10), 4, drop_last=True)},
        {"sampler": torch.randperm(10).tolist()},
    ],
)
def test_all_rows_where_a_loader_only_orders_them(options: Any) -> None:
    data = rf.StreamedData.of(DataLoader(Numbers(), **options), NAMES)
    assert data.index.tolist() == list(range(10))
    assert data.notes == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": WeightedRandomSampler([1.0] * 10, 4)}, "got a WeightedRandomSampler"),
        ({"sampler": RandomSampler(range(10), replacement=True)}, "got a RandomSampler"),
        ({"sampler": RandomSampler(range(10), num_samples=4)}, "draws others each time"),
        ({"sampler": [1, 2, 1]}, "Subset"),
        ({"batch_sampler": [[1], [2, 1]]}, "names each row once, got a list"),
        ({"sampler": ["a"]}, "sampler of rows"),
    ],
)
def test_samplers_that_name_no_rows(options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rf.StreamedData.of(DataLoader(Numbers(), **options), NAMES)


class Half(Sampler[int]):
    """Names every other one of its rows; or draws some."""

    def __init__(self, draws: bool) -> None:
        self.indices, self.draws = range(10), draws

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Any:
        return iter(torch.randperm(10)[:5].tolist() if self.draws else self.indices[::2])


def test_samplers_of_the_users_own() -> None:
    loader = DataLoader(Numbers(), sampler=Half(draws=False))
    assert rf.StreamedData.of(loader, NAMES).x[:, 0].tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(InputError, match="draws others each time"):
        rf.StreamedData.of(DataLoader(Numbers(), sampler=Half(draws=True)), NAMES)


class Unsplit(IterableDataset[Any]):
    """Rows one after the other, which every worker would give."""

    def __iter__(self) -> Any:
        return (Numbers()[i] for i in range(10))


def test_workers_do_not_repeat_rows() -> None:
    data = rf.StreamedData.of(DataLoader(Unsplit(), batch_size=4, num_workers=2), NAMES)
    assert data.x[:, 0].tolist() == list(range(10))


class Broken(Numbers):
    def __getitem__(self, i: int) -> Any:
        if i == 7:
            raise InputError("expected a good row, got the seventh")
        return super().__getitem__(i)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_ours_comes_out_of_workers_as_it_is(workers: int) -> None:
    with pytest.raises(InputError) as error:
        rf.StreamedData.of(Broken(), NAMES, workers=workers)
    assert str(error.value) == "expected a good row, got the seventh"


def test_x_of_several_parts() -> None:
    rows = [({"a": torch.ones(2) * i, "b": torch.tensor(i)}, 0, 1) for i in range(5)]
    data = rf.StreamedData.of(rows, NAMES, batch_rows=2)
    assert data.x["a"].shape == (5, 2)
    assert data.x["b"].tolist() == [0, 1, 2, 3, 4]
    pairs = rf.StreamedData.of([((torch.ones(2), torch.zeros(1)), 0, 1)] * 3, NAMES)
    assert [part.shape for part in pairs.x] == [(3, 2), (3, 1)]
    with pytest.raises(InputError, match="one tensor"):
        data.read()


def test_processes_that_read_ahead() -> None:
    data = rf.StreamedData.of(Numbers(), NAMES, batch_rows=3, workers=1)
    assert torch.cat([x for x, _, _ in data])[:, 0].tolist() == list(range(10))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (7, "rows by index.* got int"),
        (iter([(torch.ones(1), 0, 0)]), "IterableDataset.* got list_iterator"),
        ([(torch.ones(1), 0)], "rows \\(x, y, group\\), got 2 parts"),
        ([(torch.ones(1), 0, 5)], "group codes from 0 to 2"),
        ([(torch.ones(1), 0, 0.5)], "integer group codes"),
    ],
)
def test_what_is_no_dataset(source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rf.StreamedData.of(source, NAMES)


def test_numbers_out_of_range() -> None:
    with pytest.raises(InputError, match="batch_rows >= 1"):
        rf.StreamedData.of(Numbers(), NAMES, batch_rows=0)
    with pytest.raises(InputError, match="one length"):
        rf.StreamedData(
            rows=Numbers(),
            y=torch.zeros(3),
            group=torch.zeros(2),
            group_names=NAMES,
            index=torch.arange(3),
        )


def test_images_in_memory_come_in_small_batches() -> None:
    x = torch.zeros(300, 3, 128, 128)
    data = rf.GroupedData(x=x, y=torch.zeros(300), group=torch.zeros(300), group_names=("a", "b"))
    sizes = [len(y) for _, y, _ in data]
    assert sum(sizes) == 300
    assert max(sizes) == 2**23 // (3 * 128 * 128)
    table = rf.GroupedData(
        x=torch.zeros(70_000, 5),
        y=torch.zeros(70_000),
        group=torch.zeros(70_000),
        group_names=("a",),
    )
    assert [len(y) for _, y, _ in table] == [65_536, 4_464]


def test_tuples_that_torch_makes_lists_of() -> None:
    """`default_collate` gives a list for a row's tuple."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 1)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.linear(torch.cat([a, b], 1))

    generator = torch.Generator().manual_seed(0)
    rows = [
        (
            (torch.randn(2, generator=generator), torch.randn(1, generator=generator)),
            i % 2,
            (i // 2) % 2,
        )
        for i in range(80)
    ]
    data = rf.StreamedData.of(DataLoader(rows, batch_size=16), ("a", "b"))
    audit = rf.audit(Two().eval(), data)
    assert audit["spd"].low <= audit["spd"].value <= audit["spd"].high
    goal = rf.Constrained("spd", epsilon=0.2)
    for method in ("fair_head", rf.debiasers.Random(trials=3)):
        assert len(rf.debias(Two().eval(), data, goal, method).predict_data(data)) == 80


def test_what_a_stream_cannot_give() -> None:
    data = rf.StreamedData.of(Numbers(), NAMES)
    with pytest.raises(InputError, match="rows to read, got none"):
        data[:0].x  # noqa: B018 - read for its error
    with pytest.raises(InputError, match="GroupedData of a table, got StreamedData"):
        rf.Domain.from_data(data)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_in_an_order_of_ours(workers: int) -> None:
    order = torch.tensor([7, 2, 9, 0, 5])
    streamed = rf.StreamedData.of(Numbers(), NAMES, batch_rows=4, workers=workers)
    for data in (streamed, streamed.read()):
        batches = list(in_order(data, order, 2))
        assert [len(y) for _, y, _ in batches] == [2, 2, 1]
        assert torch.cat([x for x, _, _ in batches])[:, 0].tolist() == order.tolist()
        x, y, group = data[5:].batch(torch.tensor([2, 0]))
        assert (x[:, 0].tolist(), y.tolist(), group.tolist()) == ([7, 5], [1, 1], [1, 2])


def test_the_good_label_stays_with_rows_that_are_read() -> None:
    rows = [(torch.ones(2), k % 2, k // 2) for k in range(4)]
    data = dataclasses.replace(rf.StreamedData.of(rows, ("a", "b")), favourable=0)
    assert data[:2].favourable == data.read().favourable == 0
    with pytest.raises(rf.InputError, match="good for a person, 0 or 1, got 3"):
        dataclasses.replace(data, favourable=3)


class Encoding(UserDict[str, Any]):
    """What a tokenizer of transformers gives: a mapping, but no dict."""


def encoded(rows: list[Any]) -> Any:
    x, y, group = default_collate(rows)
    return Encoding({"x": x}), y, group


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def test_any_mapping_will_do() -> None:
    loader: Any = DataLoader(Numbers(60), batch_size=7, collate_fn=encoded)  # type: ignore[arg-type]
    data = rf.StreamedData.of(loader, NAMES)
    assert set(data.x) == {"x"}
    goal = rf.Constrained("demographic_parity_difference", epsilon=0.5)
    result = rf.debias(Named(), data, goal, "threshold", outputs="logits")
    x, _, _ = next(iter(data))
    assert len(result.predict(Encoding(x))) == 7


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(torch.ones(2), 0, 0), (torch.ones(3), 0, 0)], "of one shape.*collate="),
        ([({"a": {"b": torch.ones(2)}}, 0, 0)], "tuple or dict of tensors, got dict"),
        ([("she", 0, 0)], "tuple or dict of tensors, got str"),
    ],
)
def test_rows_that_make_no_batch(rows: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rf.StreamedData.of(rows, NAMES)
    with pytest.raises(InputError, match="batch_rows >= 1, got -1"):
        rf.StreamedData.of(rows, NAMES, batch_rows=-1)


class Noisy(Numbers):
    def __getitem__(self, i: int) -> Any:
        return torch.randn(2), i % 2, i % 3


def test_random_transforms_are_others_on_each_pass() -> None:
    """Of worker processes too; the random state decides, and stays as it is."""
    data = rf.StreamedData.of(Noisy(), NAMES, workers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torch.random.get_rng_state()
        one, again = data.x, data.x
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.manual_seed(1)
        other = data.x
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_one_hot_labels_are_one_clear_error() -> None:
    x, group = torch.randn(8, 3), torch.arange(8) % 2
    one_hot = torch.eye(2)[torch.arange(8) // 2 % 2]
    rows = torch.utils.data.TensorDataset(x, one_hot, group)
    with pytest.raises(InputError, match=r"y of each row .* shape \(2,\): .* y\.argmax\(-1\)"):
        rf.StreamedData.of(rows, ("a", "b"))
    column = torch.utils.data.TensorDataset(x, one_hot[:, 1:], group)
    assert rf.StreamedData.of(column, ("a", "b")).y.tolist() == one_hot[:, 1].tolist()


@pytest.mark.parametrize("rows", [9, 11])
def test_labels_of_another_number_than_the_rows_are_refused(rows: int) -> None:
    """Otherwise row i would have the label of another one."""
    with pytest.raises(InputError, match=rf"one per row, {rows} each, .* got 10 and 10"):
        rf.StreamedData.of(Blocks(rows), NAMES)
    chosen = DataLoader(Blocks(11), sampler=SubsetRandomSampler(range(5)))
    with pytest.raises(InputError, match="one per row"):
        rf.StreamedData.of(chosen, NAMES)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
def test_unsigned_codes_are_integers(kind: Any) -> None:
    rows = [(torch.ones(2), kind(i % 2), kind(i % 3)) for i in range(6)]
    streams = [rf.StreamedData.of(rows, NAMES), rf.StreamedData.of(DataLoader(rows), NAMES)]
    y, group = (torch.from_numpy(np.arange(6).astype(kind) % n) for n in (2, 3))
    given = {"y": y, "group": group, "group_names": NAMES}
    streams.append(rf.StreamedData(rows=rows, index=torch.arange(6), **given))
    for data in (*streams, rf.GroupedData(x=torch.ones(6, 2), **given)):
        assert data.y.tolist() == [0, 1] * 3
        assert data.group.tolist() == [0, 1, 2] * 2
        assert data.group.dtype == torch.long
        read = [torch.cat(each) for each in list(zip(*data, strict=True))[1:]]
        assert [each.tolist() for each in read] == [data.y.tolist(), data.group.tolist()]


class Halves(Numbers):
    """Two items, each a batch of five rows."""

    def __getitem__(self, i: int) -> Any:
        return torch.ones(5, 2), torch.arange(5) % 2, torch.arange(5) % 3


def test_a_loader_without_a_batch_size() -> None:
    """Its collation is then torch's of a single item, which is none of a list of rows."""
    data = rf.StreamedData.of(DataLoader(Numbers(), batch_size=None), NAMES, batch_rows=4)
    assert plain(data) == plain(rf.StreamedData.of(Numbers(), NAMES, batch_rows=4))
    with pytest.raises(InputError, match=r"got one of whole batches .* of 5 rows the first"):
        rf.StreamedData.of(DataLoader(Halves(2), batch_size=None), NAMES)


def test_x_of_rows_that_a_batch_fills_up() -> None:
    def filled(rows: list[Any]) -> Any:
        x = nn.utils.rnn.pad_sequence([row[0] for row in rows], batch_first=True)
        return x, *(torch.tensor([row[k] for row in rows]) for k in (1, 2))

    rows = [(torch.ones(1 + i % 5), i % 2, i % 3) for i in range(10)]
    data = rf.StreamedData.of(rows, NAMES, batch_rows=2, collate=filled)
    assert data.x.shape == (10, 5)
    assert data.x.sum(1).tolist() == [1, 2, 3, 4, 5] * 2
