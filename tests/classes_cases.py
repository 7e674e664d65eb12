"""Three classes for the tests: rows whose group moves them, and a network trained on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import retrofair as rf


def three_classes(n: int, seed: int, groups: int = 2) -> rf.GroupedData:
    """Three ordered classes of a score that x tells with noise, higher for later groups."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(groups, (n,), generator=generator)
    x = torch.randn(n, 4, generator=generator)
    x[:, 3] = group + 0.7 * torch.randn(n, generator=generator)
    score = x[:, 0] + 0.5 * x[:, 1] + 0.6 * group + 0.6 * torch.randn(n, generator=generator)
    y = (score > -0.3).long() + (score > 1.0).long()
    names = tuple("abcdef"[:groups])
    return rf.GroupedData(x=x, y=y, group=group, group_names=names)


def trained_on(data: rf.GroupedData, epochs: int = 20) -> nn.Module:
    """A small network, (n, d) -> (n, K)."""
    classes = int(data.y.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(data.x.shape[1], 16), nn.ReLU(), nn.Linear(16, classes))
        optimiser = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(epochs):
            for rows in torch.randperm(len(data)).split(256):
                loss: Tensor = nn.functional.cross_entropy(net(data.x[rows]), data.y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return net.eval()
