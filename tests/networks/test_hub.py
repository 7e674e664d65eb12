"""Names on the hub: here a cache of the hub's own layout, without a connection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
import huggingface_hub.constants

import retrofair as rf
from hugging_cases import PREPROCESSOR, pictures, saved, table
from retrofair.cli import run
from retrofair.errors import InputError, MissingFileError, UnsafeFileError
from retrofair.hub import is_hub_name, local_folder
from retrofair.networks import image_options, load_network

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds ours/bert, ours/resnet, ours/pickled and ours/bare, which is without
    weights, and no way to fetch more."""
    root = tmp_path / "hub"
    for name in ("bert", "resnet", "pickled", "bare"):
        there = root / f"models--ours--{name}"
        snapshot = there / "snapshots" / COMMIT
        shutil.move(saved("bert" if name == "bert" else "resnet", tmp_path / "made"), snapshot)
        (there / "refs").mkdir()
        (there / "refs" / "main").write_text(COMMIT)
        if name == "pickled":
            (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
        if name == "bare":
            (snapshot / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return root


def test_a_name_is_a_folder_in_the_cache(cache: Path) -> None:
    folder = local_folder("ours/bert")
    assert folder == cache / "models--ours--bert" / "snapshots" / COMMIT
    assert local_folder(folder) == folder
    ids = torch.tensor([[2, 3, 1, 0]])
    with torch.no_grad():
        one, other = (load_network(name)(ids) for name in ("ours/bert", str(folder)))
    assert torch.equal(one, other)
    options = image_options("ours/resnet")
    assert options["size"] == PREPROCESSOR["size"]["height"]


def test_texts_take_the_tokenizer_of_a_name(cache: Path) -> None:
    columns: dict[str, Any] = {"text": "review", "label": "smiling", "sensitive": "race"}
    columns["privileged"] = "White"
    one, other = (
        rf.texts_of(table(), source, **columns)
        for source in ("ours/bert", str(local_folder("ours/bert")))
    )
    assert torch.equal(one.x["input_ids"], other.x["input_ids"])


def test_at_the_command_line(cache: Path, capsys: Any) -> None:
    frame = table()
    pictures(frame, Path())
    frame.to_csv("labels.csv", index=False)
    given = ["--label", "smiling", "--sensitive", "race", "--outputs", "logits", "--json"]
    texts = ["audit", "labels.csv", "--text", "review", "--network", "ours/bert"]
    assert run([*texts, *given]) == 0
    assert "spd" in json.loads(capsys.readouterr().out)
    images = ["audit", "--images", "faces", "--labels", "labels.csv", "--network", "ours/resnet"]
    assert run([*images, *given]) == 0
    assert "preprocessor_config.json" in capsys.readouterr().err


def test_what_is_not_to_be_had(cache: Path) -> None:
    with pytest.raises(InputError, match="ours/other, which cannot be fetched: "):
        load_network("ours/other")
    with pytest.raises(UnsafeFileError, match="pickle"):
        load_network("ours/pickled")
    (Path.cwd() / "near").mkdir()
    with pytest.raises(MissingFileError, match="there is no near/bert"):
        load_network("near/bert")
    assert not is_hub_name("near")
    assert not is_hub_name("module:factory")
    assert not is_hub_name("../folder/net")


def test_weights_that_were_not_fetched_offline(cache: Path) -> None:
    with pytest.raises(InputError, match="among the files fetched of ours/bare, but none is in"):
        load_network("ours/bare")


@pytest.mark.parametrize(
    ("listed", "kind", "message"),
    [
        (
            ["config.json", "pytorch_model.bin", "onnx/other.bin"],
            UnsafeFileError,
            r"ours/bare holds its weights as a pickle only \(pytorch_model.bin\).* "
            r"AutoModelForImageClassification.from_pretrained\('ours/bare'\).save_pretrained",
        ),
        (["config.json"], InputError, "model.safetensors in ours/bare, which is not there"),
    ],
)
def test_what_the_hub_says_it_holds(
    listed: list[str], kind: type[Exception], message: str, cache: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, name: listed)
    with pytest.raises(kind, match=message):
        load_network("ours/bare")
