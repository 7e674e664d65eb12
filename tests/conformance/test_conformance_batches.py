"""Every method reads data through the batch protocol only: a stream of dicts serves as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair import debiasers
from retrofair.data import Batch, Batches


class Stream:
    """Rows that never lie in one tensor: small batches, x a dict of named parts."""

    def __init__(self, data: rf.GroupedData, size: int = 170) -> None:
        self._data, self._size = data, size
        self.group_names = data.group_names
        self.y, self.group = data.y, data.group

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self), self._size):
            yield self._batch(torch.arange(start, min(start + self._size, len(self))))

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        return self._batch(torch.randint(len(self), (rows,), generator=generator))

    def _batch(self, index: Tensor) -> Batch:
        x = self._data.x[index]
        return {"left": x[:, :4], "right": x[:, 4:]}, self.y[index], self.group[index]


class TwoInputs(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.inner(torch.cat([left, right], dim=1))


@pytest.mark.parametrize("name", [known.name for known in debiasers.ALL])
def test_a_stream_of_dicts_gives_what_the_tensor_gives(name, quick, splits, trained):
    stream = Stream(splits.valid)
    assert isinstance(stream, Batches)
    objective = rf.Constrained("aod", epsilon=0.05)
    streamed = rf.debias(TwoInputs(trained), stream, objective, quick[name], seed=2)
    held = rf.debias(trained, splits.valid, objective, quick[name], seed=2)
    assert streamed.status is held.status
    # batches are summed in another order, so that weights may differ in their last bits
    assert streamed.after.objective == pytest.approx(held.after.objective, abs=0.02)
    assert streamed.threshold == pytest.approx(held.threshold, abs=0.05)
    found = rf.audit(streamed, Stream(splits.test))
    assert found["aod"].value == pytest.approx(rf.audit(held, splits.test)["aod"].value, abs=0.03)
