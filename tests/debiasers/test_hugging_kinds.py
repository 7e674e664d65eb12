"""Every method on a ResNet, a ViT and a BERT, with data that are streamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
import retrofair as rf
from hugging_cases import NETWORKS, QUICK, pictures, saved, table
from retrofair import debiasers
from retrofair.debiasers import Debiased
from retrofair.networks import load_network
from retrofair.networks.digest import digest

GOAL = rf.Constrained("spd", 0.1)
Case = tuple[Path, nn.Module, rf.StreamedData]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """By kind the folder, the network and data for it."""
    root, frame = tmp_path_factory.mktemp("kinds"), table()
    place = pictures(frame, root)
    columns = {"label": "smiling", "sensitive": "race", "privileged": "White", "batch_rows": 50}
    found = {}
    for name in NETWORKS:
        folder = saved(name, root)
        if name == "bert":
            data = rf.texts_of(frame, folder, text="review", **columns)
        else:
            data = rf.images_of(place, frame, **rf.networks.image_options(folder), **columns)
        found[name] = folder, load_network(str(folder)), data
    return found


def alike(one: Debiased, other: Debiased, data: Any) -> None:
    """Scores and decisions of every row, to the bit."""
    for mine, its in zip(one.score_data(data), other.score_data(data), strict=True):
        assert np.array_equal(mine, its)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("method", [known.name for known in debiasers.ALL])
def test_every_method_on_every_kind(cases, kind: str, method: str, tmp_path: Path) -> None:
    folder, network, data = cases[kind]
    before, state = digest(network), torch.random.get_rng_state()
    chosen = QUICK.get(method) or debiasers.run.resolve(method)
    result = rf.debias(network, data, GOAL, chosen, outputs="logits", seed=1)
    assert digest(network) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert result.about["method"] == method
    if chosen.changes_weights and np.isfinite(result.after.objective):
        cut = rf.debias(network, data, GOAL, "threshold", outputs="logits")
        if abs(cut.after.bias) < 0.1:  # never worse than the best threshold alone
            assert abs(result.after.bias) < 0.1
            assert result.after.performance >= cut.after.performance - 1e-12
    again = rf.load_result(result.save(tmp_path / "out"), load_network(str(folder)))
    alike(result, again, data)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize("method", ["threshold", "group_thresholds", "fair_head"])
def test_a_stream_gives_what_the_rows_in_memory_give(cases, kind: str, method: str) -> None:
    """To the bit where the batches are the same; in others a network's sums may be rounded
    differently, by far less than 1e-5 in a probability."""
    _, network, data = cases[kind]
    memory = data.read()
    sizes = [len(y) for _, y, _ in memory]
    assert sizes == [len(memory)]
    same = rf.StreamedData(**{**vars(data), "batch_rows": len(data)})
    wanted = rf.debias(network, memory, GOAL, method, outputs="logits")
    found = rf.debias(network, same, GOAL, method, outputs="logits")
    assert found.after == wanted.after
    alike(found, wanted, memory)
    other = rf.debias(network, data, GOAL, method, outputs="logits")
    scores = [each.score_data(memory)[0] for each in (other, wanted)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-5


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_head_alone(cases, kind: str) -> None:
    """Zhang's method runs the network once over the data, and changes its last layer only."""
    _, network, data = cases[kind]
    result = rf.debias(network, data, GOAL, QUICK["zhang"], outputs="logits", head_only=True)
    old, new = network.state_dict(), result.model.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert all("classifier" in name for name in changed)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_cache_is_found_again(cases, kind: str, tmp_path: Path) -> None:
    _, network, data = cases[kind]
    seen: list[int] = []
    hook = network.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        given = {"outputs": "logits", "cache": tmp_path / "kept"}
        first = rf.debias(network, data, GOAL, "fair_head", **given)
        passes = len(seen)
        second = rf.debias(network, data, GOAL, "fair_head", **given)
    finally:
        hook.remove()
    assert passes > len(seen) - passes
    alike(first, second, data)


@pytest.mark.parametrize("kind", NETWORKS)
def test_frontier(cases, kind: str) -> None:
    _, network, data = cases[kind]
    front = rf.frontier(
        network, data, methods=["threshold", QUICK["random"], "fair_head"], outputs="logits"
    )
    assert not front.failed
    assert len(front.tried) == 15
