"""A small network of images and data for it, for tests of what large networks need."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import retrofair as rf


class ConvNet(nn.Module):
    """(n, 3, 12, 12) -> (n,): the difference of its two outputs. It counts the rows it has seen,
    and runs out of memory with more than `most` at once."""

    rows: ClassVar[int] = 0

    def __init__(self, seed: int = 0, most: int | None = None) -> None:
        super().__init__()
        self.most = most
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()
            )
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.drop = nn.Dropout(0.2)
            self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.most is not None and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        ConvNet.rows += len(x)
        out = self.fc(self.drop(self.pool(self.body(x)).flatten(1)))
        return out[:, 1] - out[:, 0]


def pictures(n: int = 400, seed: int = 0) -> rf.GroupedData:
    """Noise whose brightness tells the label, and whose first channel tells the group."""
    generator = torch.Generator().manual_seed(seed)
    group = (torch.rand(n, generator=generator) < 0.5).long()
    y = (torch.rand(n, generator=generator) < 0.3 + 0.3 * group).long()
    x = torch.randn(n, 3, 12, 12, generator=generator) + 0.4 * y[:, None, None, None]
    x[:, 0] += 0.5 * group[:, None, None]
    return rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))


def trained(seed: int = 0) -> ConvNet:
    """Fitted to other pictures for a moment, in eval mode."""
    net, data = ConvNet(seed), pictures(600, seed=9)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(40):
            optimiser.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(net(data.x), data.y.float())
            loss.backward()
            optimiser.step()
    return net.eval()


def streamed(data: rf.GroupedData, batch_rows: int = 64, **options: Any) -> rf.StreamedData:
    """The same rows as a stream."""
    rows = [(x, int(y), int(g)) for x, y, g in zip(data.x, data.y, data.group, strict=True)]
    return rf.StreamedData.of(rows, data.group_names, batch_rows=batch_rows, **options)
