"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import retrofair as rf
from convnets import pictures, trained
from disks import full_after
from retrofair.files import replacing, save_tensors, write_json
from retrofair.networks.state_file import StateFile


def test_tensors_that_share_memory_or_lie_scattered(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"whole": whole, "same": whole, "row": whole[1], "turned": whole.T, "empty": whole[:0]}
    state |= nn.Linear(2, 1).state_dict()
    save_tensors(tmp_path / "a.safetensors", state, {"note": "x"})
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_tensors(file, {"old": torch.ones(3)})
    new = {"new": torch.ones(3_000)}
    with (
        full_after(2_000),
        pytest.raises(OSError, match=r"safetensors: .*large"),
        replacing(file) as temporary,
    ):
        save_tensors(temporary, new)
    with full_after(2_000), pytest.raises(OSError, match="large"):
        write_json(tmp_path / "a.json", list(range(3_000)))
    assert load_file(file).keys() == {"old"}
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_results_and_checkpoints_on_a_full_disk(tmp_path: Path) -> None:
    result = rf.debias(trained(), pictures(), rf.Constrained("spd", epsilon=0.05), "threshold")
    state = StateFile(tmp_path / "state", {"a": 1})
    with full_after(2_000):
        with pytest.raises(OSError, match="large"):
            result.save(tmp_path / "result")
        with pytest.raises(OSError, match="large"):
            state.save({"x": torch.ones(3_000)}, {})
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]
    assert state.read() is None
