"""What a network says of data and what its layers read, recorded in one pass and kept.

Inside `recording()` a network is run over the same data once, however many methods ask: for its
outputs, or for what the layers read that a head is fitted to. With a folder the record is on disk,
memory-mapped, and outlives the process; an interrupted pass goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.errors import InputError
from retrofair.metrics import Array
from retrofair.networks import outputs
from retrofair.networks.digest import digest
from retrofair.networks.kept import Kept, looked_at
from retrofair.networks.layers import ONE_AT_A_TIME, reading
from retrofair.networks.memory import halved, rows_of, split_rows
from retrofair.networks.outputs import detached, evaluating, forward
from retrofair.networks.resident import Resident

Call = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True, eq=False)
class Record:
    """One pass.

    Args:
        outputs: (n,) or (n, K) float32 on the CPU, as the network gives them.
        inputs: by layer, (n, h) float32 of what it reads.
    """

    outputs: Tensor
    inputs: dict[str, Tensor] = field(default_factory=dict)


class Recordings:
    """Records by network and data.

    Args:
        folder: where they are kept; None: in memory, until the block ends.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._found: dict[tuple[int, str], Record] = {}
        self._data: list[Batches] = []  # as long as they are here, no other data get their ids

    def of(self, model: nn.Module, data: Batches, layers: Sequence[str], call: Call) -> Record:
        """The record of a pass, made now where there is none that has all of the layers."""
        given = data
        data = data.data if isinstance(data, Resident) else data
        key = _key(model, data)
        known = self._found.get(key)
        if known is None or not set(layers) <= set(known.inputs):
            more = dict(known.inputs) if known else {}
            kept = None
            if self.folder is not None:
                # what it answers, too: a network may depend on more than its weights
                name = digest(key[1], _answers(model, data))
                kept = Kept.of(self.folder, name, data, layers)
            made = passed(model, given if kept is None else data, layers, call, kept)
            known = Record(made.outputs, more | made.inputs)
            self.put(model, data, known)
        return known

    def put(self, model: nn.Module, data: Batches, record: Record) -> None:
        """Keep what is known of a network and data."""
        data = data.data if isinstance(data, Resident) else data
        self._found[_key(model, data)] = record
        self._data.append(data)


def _answers(model: nn.Module, data: Batches) -> Tensor:
    """Of a few rows, in single precision, to as many digits as are the same on every run."""
    x, rows = looked_at(data)
    with evaluating(model):
        found = torch.cat([outputs.answers(model, part) for part in split_rows(x, rows)])
        return found.float().cpu().mul(1e3).round()


def _key(model: nn.Module, data: Batches) -> tuple[int, str]:
    return id(data), digest(model, type(model))


_active: ContextVar[Recordings | None] = ContextVar("recordings", default=None)


@contextmanager
def recording(folder: str | Path | None = None) -> Iterator[None]:
    """Until the block ends no pass is made twice; a block inside another shares its records.

    Args:
        folder: keep them there, for later calls with the same network and data.

    Raises:
        InputError: the folder is a file.
    """
    if _active.get() is not None and folder is None:
        yield
        return
    place = None if folder is None else Path(folder)
    if place is not None and place.exists() and not place.is_dir():
        raise InputError(
            f"expected a folder for representations, got the file {place} (cache, --cache)"
        )
    token = _active.set(Recordings(place))
    try:
        yield
    finally:
        _active.reset(token)


def remembering() -> bool:
    """Whether passes are kept at the moment."""
    return _active.get() is not None


def recorded(
    model: nn.Module, data: Batches, layers: Sequence[str] = (), call: Call = forward
) -> Record:
    """What the network says of every row, and what the named layers read.

    Args:
        call: runs the network on a batch's x, as `forward` does; one that checks more may raise.
    """
    active = _active.get()
    if active is None:
        return passed(model, data, layers, call)
    return active.of(model, data, layers, call)


def remember(model: nn.Module, data: Batches, record: Record) -> None:
    """Keep what follows for a network from the record of another."""
    active = _active.get()
    if active is not None:
        active.put(model, data, record)


def chances(model: nn.Module, data: Batches) -> Array:
    """As `outputs.chances`, of a network that is run over the same data again and again."""
    found = recorded(model, data).outputs
    return outputs.probability(found) if found.ndim == 1 else outputs.log_chances(found)


def probabilities(model: nn.Module, data: Batches) -> Array:
    """As `outputs.probabilities`, of a network that is run over the same data again and again."""
    return outputs.probability(recorded(model, data).outputs)


def passed(
    model: nn.Module,
    data: Batches,
    layers: Sequence[str] = (),
    call: Call = forward,
    kept: Kept | None = None,
) -> Record:
    """Run the network over the data, or over what of them a folder does not hold yet; unlike
    `recorded` this remembers nothing."""
    if kept is None:
        return _passed(model, data, layers, call, None)
    if kept.whole:
        return Record(*kept.read())
    with kept.alone() as alone:  # otherwise another process is writing the same: not twice
        return _passed(model, data, layers, call, kept if alone else None)


def _passed(
    model: nn.Module, data: Batches, layers: Sequence[str], call: Call, kept: Kept | None
) -> Record:
    if kept is not None and kept.whole:
        return Record(*kept.read())
    done, parts = 0 if kept is None else kept.rows, []
    with ExitStack() as stack:
        if layers:  # what they read is noted on the network itself: one pass at a time
            stack.enter_context(ONE_AT_A_TIME)
        seen = [stack.enter_context(reading(model, name)) for name in layers]

        def run(x: Any) -> list[Tensor]:
            out = detached(call(model, x)).float().cpu()
            return [out, *(each["input"].detach().cpu() for each in seen)]

        for x, _, _ in _rest(data, done):
            with evaluating(model):
                found = [torch.cat(each) for each in zip(*halved(model, x, run), strict=True)]
            if kept is None:
                parts.append(found)
            else:
                kept.add(found)
    if kept is not None:
        return Record(*kept.read())
    first, *rest = (torch.cat(each) for each in zip(*parts, strict=True))
    return Record(first, dict(zip(layers, rest, strict=True)))


def _rest(data: Batches, done: int) -> Iterator[Any]:
    """The batches from a row on."""
    if not done:
        yield from data
        return
    if hasattr(data, "__getitem__"):
        yield from data[done:]
        return
    for batch in data:
        rows = rows_of(batch[0])
        if done <= 0:
            yield batch
        elif done < rows:
            raise InputError("expected the batches of an earlier pass, got others: empty the cache")
        done -= rows
