"""One pass over the data for all that is asked of a network, in memory and in a folder."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap

import retrofair as rf
from convnets import ConvNet, pictures, streamed, trained
from disks import full_after
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks import recording
from retrofair.networks.digest import digest
from retrofair.networks.kept import LOOKS, Kept
from retrofair.networks.layers import representation
from retrofair.networks.outputs import logits

GOAL = rf.Constrained("spd", epsilon=0.05)


def passes(work: Any, n: int) -> float:
    ConvNet.rows = 0
    work()
    return ConvNet.rows / n


@pytest.fixture(scope="module")
def net() -> ConvNet:
    return trained()


@pytest.fixture(scope="module")
def data() -> rf.GroupedData:
    return pictures()


def test_a_record_is_what_single_passes_give(net: ConvNet, data: rf.GroupedData) -> None:
    for rows in (data, streamed(data)):
        found = recording.recorded(net, rows, ["fc", "body.3"])
        assert torch.allclose(found.outputs, logits(net, data), atol=1e-5)
        for name in ("fc", "body.3"):
            assert torch.allclose(found.inputs[name], representation(net, data, name), atol=1e-5)


def test_inside_the_block_a_pass_is_made_once(net: ConvNet, data: rf.GroupedData) -> None:
    def twice() -> None:
        with recording.recording():
            recording.recorded(net, data, ["fc"])
            recording.chances(trained(), data)  # another object with the same weights
            with recording.recording():
                recording.recorded(net, data)

    assert passes(lambda: trained(), 1) > 0  # which training costs
    cost = passes(lambda: trained(), len(data))
    assert passes(twice, len(data)) - cost == 1


def test_other_weights_and_other_data_are_others(net: ConvNet, data: rf.GroupedData) -> None:
    other = trained()
    with torch.no_grad():
        other.fc.bias[1] += 1
    with recording.recording():
        first = recording.recorded(net, data).outputs
        assert torch.allclose(recording.recorded(other, data).outputs, first + 1, atol=1e-5)
        assert len(recording.recorded(net, data[:50]).outputs) == 50


@pytest.mark.parametrize(
    ("method", "most"),
    [("threshold", 1), ("group_thresholds", 1), ("reject_option", 1), ("fair_head", 1.1)],
)
def test_how_often_debiasing_runs_the_network(
    method: str, most: float, net: ConvNet, data: rf.GroupedData
) -> None:
    assert 1 <= passes(lambda: rf.debias(net, data, GOAL, method), len(data)) <= most


@pytest.mark.parametrize("method", ["zhang", "lagrangian", "layerwise", "adversarial", "random"])
def test_on_the_head_alone_the_network_runs_once(
    method: str, net: ConvNet, data: rf.GroupedData, quick: Any
) -> None:
    cost = passes(lambda: rf.debias(net, data, GOAL, quick[method], head_only=True), len(data))
    assert 1 <= cost <= 1.4  # and a few rows by which the last layer is known


def test_a_frontier_runs_the_network_once_on_each_part(net: ConvNet, data: rf.GroupedData) -> None:
    def work() -> None:
        rf.frontier(net, data, "spd", methods=["threshold", "fair_head"], bounds=[0.2, 0.1, 0.05])

    assert passes(work, len(data)) <= 1.2  # each asks a few rows which layers there are


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_with_a_folder_it_never_runs_again(
    kind: str, net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    rows: Any = data if kind == "memory" else streamed(data)
    first = rf.debias(net, rows, GOAL, "fair_head", cache=tmp_path)
    again: list[Any] = []
    cost = passes(
        lambda: again.append(rf.debias(net, rows, GOAL, "fair_head", cache=tmp_path)), len(data)
    )
    assert cost < 0.1
    assert again[0].after == first.after
    assert again[0].history == first.history


def test_a_cache_is_the_same_however_few_rows_fit_in_memory(
    data: rf.GroupedData, tmp_path: Path
) -> None:
    plain = rf.debias(trained(), streamed(data), GOAL, "fair_head", cache=tmp_path)
    names = {each.name for each in tmp_path.iterdir()}
    for most, batch_rows in ((10, 64), (10, 8), (1, 3)):
        net = trained()
        net.most = most
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RetrofairWarning)
            found = rf.debias(net, streamed(data, batch_rows), GOAL, "fair_head", cache=tmp_path)
        assert found.after == plain.after
    assert {each.name for each in tmp_path.iterdir()} == names


def test_a_cache_asks_for_no_more_rows_at_once_than_the_data(
    data: rf.GroupedData, tmp_path: Path
) -> None:
    net = trained()
    net.most = 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rf.debias(net, streamed(data, batch_rows=8), GOAL, "fair_head", cache=tmp_path)


def test_rows_filled_up_in_their_batch_are_known_in_batches_of_any_size(tmp_path: Path) -> None:
    class Summed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x.sum(1, keepdim=True))

    def filled(rows: list[Any]) -> Any:
        x = torch.nn.utils.rnn.pad_sequence([row[0] for row in rows], batch_first=True)
        return x, *(torch.tensor([row[k] for row in rows]) for k in (1, 2))

    rows = [(torch.ones(1 + i % 7), i % 2, i // 2 % 2) for i in range(40)]
    net = Summed()
    for batch_rows in (64, 5):
        data = rf.StreamedData.of(rows, ("a", "b"), batch_rows=batch_rows, collate=filled)
        with recording.recording(tmp_path):
            found = recording.recorded(net, data).outputs
        assert torch.allclose(found, logits(net, data), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_pass_goes_on(net: ConvNet, data: rf.GroupedData, tmp_path: Path) -> None:
    rows = streamed(data)
    calls = 0

    def failing(model: Any, x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return model(x)

    with recording.recording(tmp_path), pytest.raises(KeyboardInterrupt):
        recording.recorded(net, rows, ["fc"], failing)
    about = json.loads(next(tmp_path.glob("*/about.json")).read_text())
    assert about["rows"] == 3 * 64
    with recording.recording(tmp_path):
        cost = passes(lambda: recording.recorded(net, rows, ["fc"]), len(data))
        found = recording.recorded(net, rows, ["fc"])
    assert cost == (len(data) - 3 * 64 + 16) / len(data)  # and 16 rows that tell networks apart
    assert torch.allclose(found.outputs, logits(net, data), atol=1e-5)
    assert torch.allclose(found.inputs["fc"], representation(net, data, "fc"), atol=1e-5)


def test_the_folder_tells_networks_and_data_apart(
    net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    other, changed = trained(), pictures(seed=4)
    with torch.no_grad():
        other.fc.bias[1] += 1
    for model, rows in ((net, data), (other, data), (net, changed)):
        with recording.recording(tmp_path):
            found = recording.recorded(model, rows).outputs
        assert torch.allclose(found, logits(model, rows), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_folder_tells_rows_apart_that_look_alike(
    net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    n = len(data)
    looks = torch.linspace(0, n - 1, LOOKS).long()  # the rows that are looked at
    other = data.x.flip(3)
    other[looks] = data.x[looks]
    twice = dataclasses.replace(
        data,
        x=torch.cat([data.x, other]),
        y=torch.cat([data.y, data.y]),
        group=torch.cat([data.group, data.group]),
    )
    rows = streamed(twice)
    for part in (rows[:n], rows[n:]):
        with recording.recording(tmp_path):
            found = recording.recorded(net, part).outputs
        assert torch.allclose(found, logits(net, part), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 2


def test_records_cannot_be_changed_through_what_is_read(
    net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    for _ in range(2):
        with recording.recording(tmp_path):
            found = recording.recorded(net, data, ["fc"])
            assert torch.allclose(found.inputs["fc"], representation(net, data, "fc"), atol=1e-5)
            found.inputs["fc"].zero_()


def test_a_folder_that_is_a_file(net: ConvNet, data: rf.GroupedData, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(InputError, match="got the file"):
        rf.debias(net, data, GOAL, "threshold", cache=place)


def test_a_damaged_record_is_named(net: ConvNet, data: rf.GroupedData, tmp_path: Path) -> None:
    rf.debias(net, data, GOAL, "threshold", cache=tmp_path)
    next(tmp_path.glob("*/0.npy")).write_bytes(b"no array")
    with pytest.raises(InputError, match=r"0\.npy, which cannot be read"):
        rf.debias(net, data, GOAL, "threshold", cache=tmp_path)


def test_a_network_of_probabilities_is_run_once_too(data: rf.GroupedData) -> None:
    class Squashed(ConvNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(super().forward(x))

    squashed = Squashed().eval()
    squashed.load_state_dict(trained().state_dict())
    results: list[Any] = []

    def work() -> None:
        with pytest.warns(RetrofairWarning, match="taken as probabilities"):
            results.append(rf.debias(squashed, data, GOAL, "fair_head"))

    assert passes(work, len(data)) <= 1.1
    plain = rf.debias(trained(), data, GOAL, "fair_head")
    assert results[0].after.objective == pytest.approx(plain.after.objective, abs=0.02)


# --- what must never be served for something else -------------------------------------------------


def bias_before(net: Any, data: Any, tmp_path: Path, **options: Any) -> float:
    return rf.debias(net, data, GOAL, "threshold", cache=tmp_path, **options).before.bias


def test_streamed_rows_in_batches_of_one_are_looked_at(
    net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    x = data.x.clone()
    x[1:] *= -1
    changed = dataclasses.replace(data, x=x)
    first, other = streamed(data[:60], batch_rows=1), streamed(changed[:60], batch_rows=1)
    bias_before(net, first, tmp_path)
    assert bias_before(net, other, tmp_path) == rf.audit(net, other)["spd"].value


def test_both_parts_of_rows_held_out_are_looked_at(
    net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    x = data.x.clone()
    x[200:] *= -1
    method = rf.debiasers.Lagrangian(epochs=1, steps=1, batch_size=16)
    for rows in (data, dataclasses.replace(data, x=x)):
        found = rf.debias(net, rows, GOAL, method, held_out=0.3, cache=tmp_path)
        plain = rf.debias(net, rows, GOAL, method, held_out=0.3)
        assert found.before == plain.before


def test_buffers_and_attributes_that_are_not_stored_count(
    data: rf.GroupedData, tmp_path: Path
) -> None:
    class Shifted(ConvNet):
        def __init__(self, by: float, buffer: bool) -> None:
            super().__init__()
            self.load_state_dict(trained().state_dict())
            self.by: Any = by
            if buffer:
                del self.by
                self.register_buffer("by", torch.tensor(by), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.by

    assert digest(Shifted(0.0, True)) == digest(Shifted(0.0, True)) != digest(Shifted(0.7, True))
    for buffer in (False, True):
        for by in (0.0, 0.7):
            shifted = Shifted(by, buffer).eval()
            found = bias_before(shifted, data, tmp_path)
            assert found == rf.audit(shifted, data)["spd"].value


def test_a_process_that_is_not_the_writer_keeps_nothing(
    net: ConvNet, data: rf.GroupedData, tmp_path: Path
) -> None:
    with recording.recording(tmp_path):
        recording.recorded(net, data)
    place = next(tmp_path.iterdir())
    writing, other = (Kept(place, (), len(data)) for _ in range(2))
    with writing.alone() as first, other.alone() as second:
        assert (first, second) == (True, False)
    with other.alone() as alone:
        assert alone
    assert digest(other.read()[0]) == digest(writing.read()[0])


def test_passes_side_by_side_do_not_mix(net: ConvNet, data: rf.GroupedData) -> None:
    from concurrent.futures import ThreadPoolExecutor

    parts = [data[:200], data[200:]]
    right = [recording.passed(net, part, ["fc"]).inputs["fc"] for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: recording.passed(net, parts[k % 2], ["fc"]), range(40)))
    for k, each in enumerate(found):
        assert torch.allclose(each.inputs["fc"], right[k % 2], atol=1e-6)


def test_a_disk_that_is_full_is_said(net: ConvNet, data: rf.GroupedData, tmp_path: Path) -> None:
    with full_after(1_000), pytest.raises(InputError, match=r"room for representations.*\(cache\)"):
        rf.debias(net, data, GOAL, "threshold", cache=tmp_path)
    assert bias_before(net, data, tmp_path) == rf.audit(net, data)["spd"].value


def test_a_record_larger_than_memory_is_read(tmp_path: Path) -> None:
    rows, numbers = 3_500_000, 2_048
    file = open_memmap(tmp_path / "1.npy", mode="w+", dtype=np.float32, shape=(rows, numbers))
    file[3] = 2  # the rest is a hole in the file
    del file
    kept = Kept(tmp_path, ["layer"], rows)
    kept.rows = rows
    found = kept._mapped(1)
    assert (found.shape, found[3, 0]) == ((rows, numbers), 2)
    found[3] = 9
    assert kept._mapped(1)[3, 0] == 2
