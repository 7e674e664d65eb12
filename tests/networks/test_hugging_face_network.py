"""A model object of transformers, given as it is, does what its folder loaded does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import retrofair as rf
from hugging_cases import NETWORKS, QUICK, pictures, resnet, spoken, table
from retrofair import debiasers
from retrofair.deploy.formats import quiet
from retrofair.errors import InputError
from retrofair.networks import HuggingFaceNetwork, load_network
from retrofair.networks.digest import digest

GOAL = rf.Constrained("spd", 0.1)
COLUMNS = {"label": "said", "sensitive": "race", "privileged": "White", "positive": "yes"}
Case = tuple[Path, nn.Module, rf.StreamedData]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """By kind the folder, the model in train mode, and data whose labels are noisy."""
    found = {}
    for kind in ("resnet", "bert"):
        root = tmp_path_factory.mktemp(kind)
        frame = spoken(kind, root, ["yes", "no"])
        frame.loc[::7, "said"] = frame["said"].to_numpy()[::-7][: len(frame.loc[::7])]
        folder = root / "spoken"
        if kind == "bert":
            data = rf.texts_of(frame, folder, text="review", **COLUMNS)
            auto: Any = transformers.AutoModelForSequenceClassification
        else:
            options = rf.networks.image_options(folder)
            data = rf.images_of(root / "faces", frame, **options, **COLUMNS)
            auto = transformers.AutoModelForImageClassification
        found[kind] = folder, auto.from_pretrained(folder).train(), data
    return found


def state(model: nn.Module) -> tuple[str, list[bool], list[bool]]:
    modes = [module.training for module in model.modules()]
    return digest(model), modes, [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("kind", ["resnet", "bert"])
@pytest.mark.parametrize("method", [known.name for known in debiasers.ALL])
def test_every_method(cases: dict[str, Case], kind: str, method: str, tmp_path: Path) -> None:
    folder, model, data = cases[kind]
    before = state(model)
    chosen = QUICK.get(method) or debiasers.run.resolve(method)
    result = rf.debias(model, data, GOAL, chosen, seed=1)
    loaded = load_network(str(folder))
    wanted = rf.debias(loaded, data, GOAL, chosen, seed=1)
    assert state(model) == before
    assert result.after == wanted.after
    assert result.before.performance > 0.8
    saved = result.save(tmp_path / "o")
    for again in (rf.load_result(saved, model), rf.load_result(saved, loaded)):
        for mine, its in zip(again.score_data(data), wanted.score_data(data), strict=True):
            assert np.array_equal(mine, its)
    assert state(model) == before


@pytest.mark.parametrize("kind", ["resnet", "bert"])
def test_everything_else(cases: dict[str, Case], kind: str, tmp_path: Path) -> None:
    folder, model, data = cases[kind]
    before, loaded = state(model), load_network(str(folder))
    told = [rf.audit(each, data).to_dict() for each in (model, loaded)]
    assert repr(told[0]) == repr(told[1])  # nan is not itself
    assert rf.audit(model, data)["accuracy"].value > 0.8
    for name in ("logits", "probabilities"):
        mine, its = (getattr(rf.networks, name)(each, data) for each in (model, loaded))
        assert np.array_equal(np.asarray(mine), np.asarray(its))
    methods = ["threshold", QUICK["random"]]
    kept = {"methods": methods, "bounds": [0.2, 0.1], "store": tmp_path / "runs"}
    fronts = [rf.frontier(each, data, **kept) for each in (model, loaded)]
    assert not fronts[0].failed
    mine, its = ([point.result.after for point in front.tried] for front in fronts)
    assert mine == its
    trained = [rf.networks.train_network(each, data, data, epochs=1) for each in (model, loaded)]
    assert isinstance(trained[0], HuggingFaceNetwork)
    assert digest(trained[0]) == digest(trained[1])
    # what differs from the model alone
    result = rf.debias(model, data, GOAL, QUICK["zhang"], head_only=True)
    small, whole = result.save(tmp_path / "small", base=model), result.save(tmp_path / "whole")
    sizes = [(each / "model.safetensors").stat().st_size for each in (small, whole)]
    assert sizes[0] < sizes[1] / 2
    for each in (model, loaded):
        again = rf.load_result(small, each)
        assert np.array_equal(again.score_data(data)[0], result.score_data(data)[0])
    told = [rf.compare(each, result, data).to_dict() for each in (model, loaded)]
    assert repr(told[0]) == repr(told[1])  # nan is not itself
    assert state(model) == before


@pytest.mark.parametrize("kind", ["resnet", "bert"])
@pytest.mark.parametrize("method", [None, "threshold", "fair_head"])
def test_exported(cases: dict[str, Case], kind: str, method: str | None, tmp_path: Path) -> None:
    """The file decides as the network does, turned as the names say."""
    _, model, data = cases[kind]
    given = model if method is None else rf.debias(model, data, GOAL, method)
    done = rf.export(given, tmp_path / "m.pt", "torchscript", data=data)
    assert done.written
    with quiet():  # TorchScript is deprecated
        _, decided = torch.jit.load(tmp_path / "m.pt")(*_parts(data.x))
    if method is not None:
        assert decided.tolist() == given.predict_data(data).tolist()
    else:
        assert decided.tolist() == (rf.networks.probabilities(model, data) > 0.5).tolist()
        assert (decided == data.y).float().mean() > 0.8


def _parts(x: Any) -> list[torch.Tensor]:
    return [x[name] for name in sorted(x)] if isinstance(x, dict) else [x]


def test_from_config_and_other_ways(tmp_path: Path) -> None:
    """A model that was never saved, one that answers with tuples, and one in half precision."""
    frame = table()
    data = rf.images_of(pictures(frame, tmp_path), frame, file="file", size=16, label="smiling",
                        sensitive="race", privileged="White")  # fmt: skip
    model = transformers.AutoModelForImageClassification.from_config(resnet().config).eval()
    wanted = rf.networks.logits(model, data)
    model.config.return_dict = False
    assert torch.equal(rf.networks.logits(model, data), wanted)
    half = rf.networks.logits(model.to(torch.bfloat16), data)
    assert torch.allclose(half, wanted, atol=0.5)
    assert rf.debias(model, data, GOAL, "fair_head").model is not model


def test_values_of_a_label_that_is_a_number(tmp_path: Path) -> None:
    frame = table().assign(age=np.linspace(-1, 1, 120))
    data = rf.images_of(pictures(frame, tmp_path), frame, file="file", size=16, label="age",
                        sensitive="race", privileged="White", regression=True)  # fmt: skip
    assert data.label_names == ()
    model = resnet(1)
    wrapped = HuggingFaceNetwork(model)
    assert rf.audit_regression(model, data) == rf.audit_regression(wrapped, data)
    goal = rf.BoundedGroupLoss(100.0)
    found = rf.bound_group_loss(model, data, goal, epochs=1)
    again = rf.load_bounded_loss(found.save(tmp_path / "o"), model)
    assert again.after == found.after


def test_in_scikit_learn(cases: dict[str, Case]) -> None:
    """Labels in words are the network's."""
    _, model, data = cases["resnet"]
    words = np.array(data.label_names)[data.y.numpy()]
    fair = rf.RetrofairClassifier(model, method="threshold", epsilon=1.0).fit(
        data.x.numpy(), words, sensitive_features=data.group.numpy()
    )
    assert fair.classes_.tolist() == ["no", "yes"]
    assert (fair.predict(data.x.numpy()) == words).mean() > 0.8


def test_a_loaded_model_is_no_name() -> None:
    with pytest.raises(InputError, match=r"got a network, ResNetForImageClassification.*as it is"):
        load_network(NETWORKS["resnet"]())


def test_transformers_is_not_imported_for_other_networks() -> None:
    code = (
        "import sys, torch, retrofair as rf\n"
        "s = rf.datasets.load('synthetic', n=300, seed=0)\n"
        "rf.audit(torch.nn.Linear(s.test.x.shape[1], 1), s.test)\n"
        "assert 'transformers' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
