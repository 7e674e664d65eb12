"""Data that stay on the device a network is on, where they fit there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data import Batch, Batches, Rows
from retrofair.data.streamed import ragged
from retrofair.networks.memory import joined, part_of, rows_of
from retrofair.networks.outputs import device_of

SHARE = 0.4  # of the free memory of a device, at most


@dataclass(eq=False)
class Resident:
    """The same rows, moved to a device the first time they are read: hundreds of passes over them
    then wait neither for a disk nor for a bus.

    Args:
        data: whose labels and groups stay on the CPU.
    """

    data: Batches
    device: torch.device
    batches: list[Batch] = field(default_factory=list)
    _whole: Any = None

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.data.group_names

    @property
    def y(self) -> Tensor:
        return self.data.y

    @property
    def group(self) -> Tensor:
        return self.data.group

    @property
    def preparation(self) -> Any:
        """How a table became the data, if one did."""
        return getattr(self.data, "preparation", None)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Batch]:
        if not self.batches:
            self.batches = [(_moved(x, self.device), y, group) for x, y, group in self.data]
        yield from self.batches

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement, the same as from the data themselves."""
        if self._whole is None:
            list(self)
            if ragged([x for x, _, _ in self.batches]):  # texts: of a length for each batch
                x, y, group = self.data.sample(rows, generator)
                return _moved(x, self.device), y, group
        index = torch.randint(len(self), (rows,), generator=generator)
        if self._whole is None:
            self._whole = joined([x for x, _, _ in self.batches])
            sizes = [len(y) for _, y, _ in self.batches]
            starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
            self.batches = [  # views of the whole: nothing is there twice
                (part_of(self._whole, slice(start, start + size)), y, group)
                for start, size, (_, y, group) in zip(starts, sizes, self.batches, strict=False)
            ]
        x = part_of(self._whole, index.to(self.device))
        return x, self.y[index], self.group[index]


def resident(data: Batches, network: object) -> Batches:
    """The data on the network's GPU, where they fit beside it; otherwise as they are."""
    if not isinstance(network, nn.Module) or not isinstance(data, Rows):
        return data
    device = device_of(network)
    if device.type != "cuda" or not len(data):
        return data
    free, _ = torch.cuda.mem_get_info(device)
    x, _, _ = next(iter(data[:2]))
    # a row's bytes, twice: batches are joined once, for drawing rows from them
    fits = 2 * _bytes(x) / rows_of(x) * len(data) < SHARE * free
    return Resident(data, device) if fits else data


def _bytes(x: Any) -> int:
    parts = x.values() if isinstance(x, dict) else [x] if isinstance(x, Tensor) else x
    return sum(part.numel() * part.element_size() for part in parts)


def _moved(x: Any, device: torch.device) -> Any:
    if isinstance(x, dict):
        return {name: value.to(device) for name, value in x.items()}
    return tuple(v.to(device) for v in x) if isinstance(x, tuple | list) else x.to(device)
