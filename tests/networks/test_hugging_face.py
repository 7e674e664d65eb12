"""Classifiers in Hugging Face's form: tiny ones, made here and saved into a folder."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair.errors import InputError, MissingFileError, UnsafeFileError
from retrofair.networks import load_network
from retrofair.networks.hugging_face import HuggingFaceNetwork

transformers = pytest.importorskip("transformers")


def text_model(labels: int = 2, **more: Any) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=12,
        num_labels=labels,
        **more,
    )
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config).eval()


def image_model(labels: int = 2) -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=labels,
    )
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    text_model().save_pretrained(tmp_path / "text")
    return tmp_path / "text"


def ids() -> torch.Tensor:
    found = torch.randint(1, 30, (6, 9), generator=torch.Generator().manual_seed(1))
    found[:3, 6:] = 0  # padding
    return found


def test_text_of_two_classes_gives_the_difference_of_the_logits(saved: Path) -> None:
    read = load_network(str(saved))
    assert not any(module.training for module in read.modules())
    mask = (ids() != 0).long()
    with torch.no_grad():
        logits = text_model()(input_ids=ids(), attention_mask=mask).logits
        named = read(input_ids=ids(), attention_mask=mask)
        alone = read(ids().float())  # as a table holds them: the mask follows from the padding
    assert torch.allclose(named, logits[:, 1] - logits[:, 0], atol=1e-6)
    assert torch.allclose(alone, named, atol=1e-6)


@pytest.mark.parametrize(("labels", "shape"), [(1, (4,)), (2, (4,)), (3, (4, 3))])
def test_pictures_of_any_number_of_classes(labels: int, shape: tuple[int, ...], tmp_path: Path):
    made = image_model(labels)
    made.save_pretrained(tmp_path)
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        found, logits = load_network(str(tmp_path))(x), made(x).logits
    assert found.shape == shape
    wanted = {1: logits[:, 0], 2: logits[:, -1] - logits[:, 0], 3: logits}[labels]
    assert torch.allclose(found, wanted, atol=1e-6)


def test_it_can_be_debiased_saved_and_read(tmp_path: Path) -> None:
    image_model().save_pretrained(tmp_path / "vit")
    network = load_network(str(tmp_path / "vit"))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 1, 8, 8, generator=generator)
    with torch.no_grad():
        score = network(x)
    y = (score > score.median()).long()
    group = torch.randint(2, (300,), generator=generator)
    data = rf.GroupedData(x=x, y=y, group=group, group_names=("f", "m"))
    result = rf.debias(
        network,
        data,
        rf.Constrained("spd", 0.2),
        rf.debiasers.Random(trials=3),
        outputs="logits",  # those of so small a network lie between 0 and 1
    )
    again = rf.load_result(result.save(tmp_path / "out"), load_network(str(tmp_path / "vit")))
    assert torch.equal(again.predict(x), result.predict(x))
    with pytest.raises(InputError, match=r"network of your own.*net="):
        rf.load_result(tmp_path / "out")


def test_loading_leaves_the_random_state(saved: Path) -> None:
    state = torch.random.get_rng_state()
    load_network(str(saved))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_pickle_only_is_refused_with_the_way_out(saved: Path) -> None:
    torch.save(text_model().state_dict(), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(UnsafeFileError, match=r"pytorch_model\.bin.*save_pretrained"):
        load_network(str(saved))


def test_a_slip_in_a_path_does_not_ask_the_hub(saved: Path, monkeypatch) -> None:
    monkeypatch.chdir(saved.parent.parent)
    with pytest.raises(MissingFileError, match="there is no"):
        load_network(f"{saved.parent.name}/txet")


def test_folders_that_are_no_classifier(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"config\.json is not there"):
        load_network(str(tmp_path / "empty"))
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds adapters \(adapter_config.*merge_and_unload"):
        load_network(str(tmp_path / "empty"))
    config = json.loads((saved / "config.json").read_text())

    def rewrite(**more: Any) -> None:
        (saved / "config.json").write_text(json.dumps(config | more))

    rewrite(architectures=["BertModel"])
    with pytest.raises(InputError, match="got BertModel"):
        load_network(str(saved))
    rewrite(architectures=None)
    with pytest.raises(InputError, match="to name its architecture, got None"):
        load_network(str(saved))
    rewrite(num_labels=None, id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(InputError, match=r"classifier|missing or of another shape"):
        load_network(str(saved))
    rewrite(model_type="no_such_type")
    with pytest.raises(InputError, match="cannot be read"):
        load_network(str(saved))
    (saved / "config.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        load_network(str(saved))


def test_a_head_without_weights_is_not_made_up(saved: Path) -> None:
    """transformers would draw them at random and go on."""
    body = text_model().bert
    body.save_pretrained(saved)
    config = json.loads((saved / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"expected all weights .*classifier"):
        load_network(str(saved))


def test_damaged_and_missing_weights(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        load_network(str(saved))
    path.unlink()
    with pytest.raises(InputError, match=r"expected model\.safetensors"):
        load_network(str(saved))


def test_weights_besides(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected no weights"):
        load_network(str(saved), tmp_path / "w.safetensors")


def test_without_the_package(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"retrofair\[transformers\]"):
        load_network(str(saved))


def test_an_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an ONNX file"):
        load_network(str(tmp_path / "n.onnx"))


def test_no_padding_no_mask() -> None:
    wrapped = HuggingFaceNetwork(text_model())
    wrapped.padding = None
    assert wrapped(ids()).shape == (6,)
