"""resnet: weights from the seed alone, and outputs as the library has them."""

from __future__ import annotations

import pytest
import torch

from retrofair.errors import InputError
from retrofair.networks import resnet

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_two_classes_have_one_logit_and_more_have_one_each() -> None:
    assert resnet(18, width=0.125)(IMAGES).shape == (3,)
    assert resnet(50, classes=4, width=0.125)(IMAGES).shape == (3, 4)


def test_the_seed_decides_the_weights_and_the_global_state_stays() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (resnet(18, seed=s, width=0.125)(IMAGES) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("depth", "layers", "weights"), [(18, 20, 11.2), (34, 36, 21.3)])
def test_the_depth_counts_the_layers(depth: int, layers: int, weights: float) -> None:
    network = resnet(depth)
    kernels = [p for p in network.parameters() if p.ndim > 1 and p.shape[2:] != (1, 1)]
    assert len(kernels) == layers - 2  # the last of them is the classifier's matrix
    # 11.7 and 21.8 million with the 1,000 classes of ImageNet, 0.5 of them in its last layer
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(weights, abs=0.05)


def test_other_depths_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown depth .19.: did you mean .18."):
        resnet(19)
    with pytest.raises(InputError, match="two classes"):
        resnet(18, classes=1)
