"""What all tests share: small data, a small trained network, quick versions of the methods."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import retrofair as rf
from retrofair import debiasers

torch.set_num_threads(1)

QUICK = {
    "random": debiasers.Random(trials=10),
    "layerwise": debiasers.Layerwise(evaluations=12, layers=2),
    "adversarial": debiasers.Adversarial(epochs=2, critic_steps=20, actor_steps=20, minibatches=4),
    "bias_gradient": debiasers.BiasGradient(looks=3, steps=10, batch_size=256),
    "lagrangian": debiasers.Lagrangian(epochs=2, steps=20, batch_size=256),
    "zhang": debiasers.Zhang(epochs=2, critic_steps=20, actor_steps=20),
}


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the published files."""
    root = os.environ.get("RETROFAIR_DATA")
    if not root:
        pytest.skip("RETROFAIR_DATA is not set: no folder with the published data files")
    return Path(root)


@pytest.fixture(scope="session")
def splits() -> rf.Splits:
    return rf.datasets.load("synthetic", sensitive="sex", n=3000, seed=0)


@pytest.fixture(scope="session")
def trained(splits: rf.Splits) -> nn.Module:
    return rf.networks.train_mlp(splits.train, splits.valid, depth=2, width=16, max_epochs=15)


@pytest.fixture
def quick() -> dict[str, debiasers.Debiaser]:
    """Each method by name, with options that take a second at most."""
    return {known.name: QUICK.get(known.name, known()) for known in debiasers.ALL}
