"""Tiny networks in Hugging Face's form, saved into folders, with images and sentences for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

import retrofair as rf

ROWS, SIDE = 120, 16
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "she", "he", "is", "good", "bad", "very", "kind")
PREPROCESSOR = {
    "size": {"height": SIDE, "width": SIDE},
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.25, 0.5],
    "resample": 2,
}


def resnet(labels: int = 2) -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=labels
    )
    return made(transformers.ResNetForImageClassification, config)


def vit(labels: int = 2) -> nn.Module:
    config = transformers.ViTConfig(
        image_size=SIDE, patch_size=8, num_labels=labels, **SMALL, num_channels=3
    )
    return made(transformers.ViTForImageClassification, config)


def bert(labels: int = 2) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=16, num_labels=labels, **SMALL
    )
    return made(transformers.BertForSequenceClassification, config)


SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
FEW: dict[str, Any] = {"epochs": 1, "critic_steps": 2, "actor_steps": 2, "batch_size": 16}
QUICK = {
    "random": rf.debiasers.Random(trials=3),
    "layerwise": rf.debiasers.Layerwise(evaluations=3, layers=1),
    "adversarial": rf.debiasers.Adversarial(**FEW, minibatches=2),
    "bias_gradient": rf.debiasers.BiasGradient(looks=1, steps=2, batch_size=32),
    "lagrangian": rf.debiasers.Lagrangian(epochs=1, steps=2, batch_size=32, layers=1),
    "zhang": rf.debiasers.Zhang(**FEW),
}
NETWORKS = {"resnet": resnet, "vit": vit, "bert": bert}


def made(kind: Any, config: Any) -> nn.Module:
    """One whose outputs are far from 0, so that decisions differ between rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(config).eval()
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim == 2:
                    weight.mul_(20)
    return network


def tokenizer(length: int = 12, side: str = "right") -> Any:
    """A tokenizer of whole words."""
    inner = Tokenizer(
        models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=length,
        padding_side=side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def saved(name: str, root: Path, labels: int = 2) -> Path:
    """The folder of a network of this kind, with what reads its inputs."""
    return saved_as(name, NETWORKS[name](labels), root / name)


def saved_as(name: str, network: Any, folder: Path) -> Path:
    network.save_pretrained(folder)
    if name == "bert":
        tokenizer().save_pretrained(folder)
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def spoken(name: str, root: Path, words: Sequence[str], *, folder: str = "spoken") -> pd.DataFrame:
    """Save a network with these names of its outputs, and give the table on which it is right:
    its column `said` has for each row the name of the output that is largest there."""
    frame = table()
    place = root / "faces"
    faces = place if place.is_dir() or name == "bert" else pictures(frame, root)
    network: Any = NETWORKS[name](len(words))
    network.config.id2label = dict(enumerate(words))
    network.config.label2id = {word: code for code, word in enumerate(words)}
    saved_as(name, network, root / folder)
    columns = {"label": "smiling", "sensitive": "race", "privileged": "White"}
    if name == "bert":
        data = rf.texts_of(frame, root / folder, text="review", **columns)
    else:
        options = rf.networks.image_options(root / folder)
        data = rf.images_of(faces, frame, file="file", **options, **columns)
    with torch.no_grad():
        given = {"pixel_values": data.x} if name != "bert" else data.x
        logits = network(**given).logits
        last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        last.bias -= logits.mean(0)  # every output is the largest somewhere
        said = network(**given).logits.argmax(1)
    network.save_pretrained(root / folder)
    return frame.assign(said=[words[code] for code in said.tolist()])


def table(rows: int = ROWS) -> pd.DataFrame:
    """Images' names, sentences, labels and groups; the groups look and read unlike each other."""
    generator = np.random.default_rng(0)
    group = generator.integers(2, size=rows)
    label = (generator.random(rows) < 0.35 + 0.3 * group).astype(int)
    words = [
        ["she", "he"][g] + " is " + "very " * int(n) + ["bad", "good"][y] + " thing"
        for g, y, n in zip(group, label, generator.integers(5, size=rows), strict=True)
    ]
    return pd.DataFrame(
        {
            "file": [f"{row:03}.png" for row in range(rows)],
            "review": words,
            "smiling": label,
            "race": np.where(group == 1, "White", "other"),
        }
    )


def pictures(frame: pd.DataFrame, root: Path) -> Path:
    """A folder with an image for every row, of noise about a colour of its label and group."""
    generator = np.random.default_rng(1)
    folder = root / "faces"
    folder.mkdir()
    for name, y, group in zip(frame["file"], frame["smiling"], frame["race"], strict=True):
        middle = np.array([60 + 90 * y, 60 + 90 * (group == "White"), 120])
        pixels = generator.normal(middle, 40, (SIDE, SIDE + 4, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return folder
