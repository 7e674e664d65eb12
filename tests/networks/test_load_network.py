"""A user's own network: factories, weights, and files that must not be unpickled."""

from __future__ import annotations

import importlib
import itertools
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from retrofair.errors import InputError, MissingFileError, UnsafeFileError
from retrofair.networks import MLP, load_network, load_weights

SOURCE = """
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1)
    def forward(self, x):
        return self.inner(x)

def make():
    return nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
def needs(n):
    return nn.Linear(n, 1)
def other():
    return 3
def fails():
    raise ValueError("no such model")
number = 3
"""
numbered = itertools.count()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working folder, which nothing else knows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"users_own_network_{next(numbered)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    importlib.invalidate_caches()
    return name


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))


def test_a_factory_in_the_working_folder(own: str) -> None:
    network = load_network(f"{own}:make")
    assert network(torch.zeros(4, 3)).shape == (4,)
    assert not any(m.training for m in network.modules())
    assert type(load_network(f"{own}:Own")).__name__ == "Own"


def test_with_its_weights(own: str, tmp_path: Path) -> None:
    saved = linear()
    save_file(saved.state_dict(), tmp_path / "w.safetensors")
    network = load_network(f"{own}:make", tmp_path / "w.safetensors")
    x = torch.randn(5, 3)
    assert torch.equal(network(x), saved(x))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{own}", "'package.module:factory', got"),
        ("{own}:", "'package.module:factory', got"),
        (":make", "'package.module:factory', got ':make'"),
        ("", "'package.module:factory', got ''"),
        ("no_such_module:make", "cannot import 'no_such_module'"),
        ("{own}.py:make", "cannot import"),
        (".relative:make", "cannot import '.relative'"),
        ("{own}:mak", "a factory 'mak' in"),
        ("{own}:number", "a factory 'number' in .*, got 3"),
        ("{own}:needs", "a factory without arguments, but .*missing 1 required"),
        ("{own}:fails", "fails: no such model"),
        ("{own}:other", "to return an nn.Module, got int"),
    ],
)
def test_factories_that_cannot_be_used(own: str, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_network(name.format(own=own))


@pytest.mark.parametrize("source", ["import no_such_library\n", "def (\n", "1 / 0\n"])
def test_modules_that_cannot_be_imported(own: str, tmp_path: Path, source: str) -> None:
    name = f"users_broken_module_{next(numbered)}"
    (tmp_path / f"{name}.py").write_text(source)
    importlib.invalidate_caches()
    with pytest.raises(InputError, match=f"cannot import '{name}'"):
        load_network(f"{name}:make")


def test_weights_of_any_size_are_no_pickle(tmp_path: Path) -> None:
    # the first byte of a safetensors file is a length, and may be a pickle's first byte
    path, firsts = tmp_path / "w.safetensors", set()
    for extra in range(1, 300, 8):
        saved, empty = linear(), linear()
        save_file(saved.state_dict(), path, metadata={"note": "x" * extra})
        load_weights(empty, path)
        assert torch.equal(saved[0].weight, empty[0].weight)
        firsts.add(path.read_bytes()[0])
    assert 0x80 in firsts


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"other": torch.zeros(2)}, path)
    network = linear()
    with pytest.raises(InputError, match=r"do not fit the network: .*Missing key.*other"):
        load_weights(network, path)
    save_file({"0.weight": torch.zeros(1, 4), "0.bias": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"do not fit the network: .*size mismatch"):
        load_weights(network, path)


def test_damaged_and_missing_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(linear().state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"\x00" * 20, whole[:9], whole[:40], whole[:-3], b"\xff" * 8 + b"{}"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            load_weights(linear(), path)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(MissingFileError, match="is not there"):
            load_weights(linear(), missing)


@pytest.mark.parametrize("name", ["w.pt", "w.PTH", "w.bin", "w.pkl", "w.ckpt", "w.joblib"])
def test_pickles_are_refused_by_their_suffix(name: str, tmp_path: Path, own: str) -> None:
    save_file(linear().state_dict(), tmp_path / name)  # whatever they hold
    with pytest.raises(UnsafeFileError, match=r"expected a \.safetensors file"):
        load_weights(linear(), tmp_path / name)
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        load_network(str(tmp_path / name))
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        load_network(f"{own}:make", tmp_path / name)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_by_their_first_bytes(protocol: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "w.safetensors", tmp_path / "unpickled"
    path.write_bytes(pickle.dumps(Trap(mark), protocol=protocol))
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        load_weights(linear(), path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # the trap works


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_refused_by_their_first_bytes(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    torch.save(linear().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        load_weights(linear(), path)


def test_an_old_pickle_without_a_mark_is_not_unpickled_either(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.safetensors", tmp_path / "unpickled"
    path.write_bytes(pickle.dumps(Trap(mark), protocol=0))
    with pytest.raises(InputError):
        load_weights(linear(), path)
    assert not mark.exists()


def test_exported_networks_need_trust(tmp_path: Path) -> None:
    for name in ("n.pt2", "N.PT2"):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(UnsafeFileError, match="--trust-network-file"):
            load_network(str(tmp_path / name))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exported_network_that_is_trusted(tmp_path: Path) -> None:
    network, path = MLP(3, depth=1, width=4).eval(), tmp_path / "n.pt2"
    x = torch.randn(6, 3)
    rows = torch.export.Dim("rows")
    program = torch.export.export(network, (x,), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)
    loaded = load_network(str(path), trust_network_file=True)
    assert torch.allclose(loaded(x[:5]), network(x[:5]))
    assert not loaded.training
    assert loaded.train().training  # it may be asked, and answers as exported
    assert torch.allclose(loaded(x), network(x))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match="cannot be read"):
        load_network(str(path), trust_network_file=True)


def test_what_is_no_exported_network(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="is not there"):
        load_network(str(tmp_path / "none.pt2"), trust_network_file=True)
    (tmp_path / "n.pt2").write_bytes(b"anything")
    with pytest.raises(InputError, match="cannot be read"):
        load_network(str(tmp_path / "n.pt2"), trust_network_file=True)
