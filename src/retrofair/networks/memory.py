"""What to do when memory runs out: the same in smaller parts."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from retrofair.errors import InputError, RetrofairWarning

R = TypeVar("R")
T = TypeVar("T")
# what a pass in train mode changes: averages, and those of the power iteration of spectral_norm
NORMS = (nn.modules.batchnorm._NormBase, ParametrizationList)
_most: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def halved(model: nn.Module, x: Any, run: Callable[[Any], R]) -> list[R]:
    """What `run` says of x, in one part, or in as many as memory allows.

    Where memory runs out the rows are halved until they fit, which is said in a warning; what did
    not fit a network once is not tried with it again. Only for passes in which each row's answer
    is its own: not while a network with BatchNorm is trained.

    Raises:
        InputError: memory does not suffice for a single row.
    """
    most = _most.get(model)
    if most is None or rows_of(x) <= most:
        return _tried(model, x, run)
    return [each for part in split_rows(x, most) for each in _tried(model, part, run)]


def _tried(model: nn.Module, x: Any, run: Callable[[Any], R]) -> list[R]:
    try:
        return [run(x)]
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
    rows = rows_of(x)
    _free()
    if rows < 2:
        raise InputError(
            "expected memory for one row of this network, but it runs out: use a smaller network, "
            "or rows of a smaller size, or another device (--device)"
        )
    half = (rows + 1) // 2
    _most[model] = half
    warnings.warn(
        f"out of memory with {rows:,} rows at once: going on with {half:,}; fewer from the start "
        "with batch_rows= (--batch-rows)",
        RetrofairWarning,
        stacklevel=2,
    )
    return [each for part in split_rows(x, half) for each in halved(model, part, run)]


class AtOnce:
    """How many things of a kind are done at once: half as many where memory runs out.

    Args:
        most: at first; it never falls below 1.
        kind: their name, in the plural, for the warning.
    """

    def __init__(self, most: int, kind: str) -> None:
        self.most, self.kind = most, kind

    def each(self, things: Sequence[T], run: Callable[[Sequence[T]], Sequence[R]]) -> Iterator[R]:
        """What `run` says of each, some at a time; it is called again where memory ran out."""
        done = 0
        while done < len(things):
            some = things[done : done + self.most]
            try:
                found = run(some)
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error) or self.most < 2:
                    raise
            else:
                done += len(some)
                yield from found
                continue
            _free()
            self.most = (len(some) + 1) // 2
            if len(some) > 1:
                warn(
                    f"out of memory with {len(some):,} {self.kind} at once: going on with "
                    f"{self.most:,}"
                )


def averages_of(model: nn.Module) -> list[Tensor]:
    """Those of BatchNorm and spectral_norm in train mode, which a pass changes and no gradient
    knows of."""
    return [
        buffer
        for module in model.modules()
        if isinstance(module, NORMS) and module.training
        for buffer in module.buffers()
    ]


def until_it_fits(
    work: Callable[[], None],
    smaller: Callable[[], None],
    generator: torch.Generator,
    averages: Sequence[Tensor],
) -> None:
    """Do a step of training; where memory runs out, do `smaller` and then the same step again.

    What the failed one drew, and did to the averages, is undone.
    """
    before = [each.clone() for each in averages]
    while True:
        states = generator.get_state(), torch.get_rng_state()
        try:
            work()
            return
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
        generator.set_state(states[0])
        torch.set_rng_state(states[1])
        for each, value in zip(averages, before, strict=True):
            each.copy_(value)
        _free()
        smaller()


def warn(text: str) -> None:
    """Say that it goes on in smaller parts."""
    warnings.warn(text, RetrofairWarning, stacklevel=3)


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error)  # the CPU's allocator raises a bare RuntimeError
    return "can't allocate memory" in text or "out of memory" in text


def rows_of(x: Any) -> int:
    """The rows of a batch's x."""
    if isinstance(x, dict):
        return len(next(iter(x.values())))
    return len(x[0] if isinstance(x, tuple | list) else x)


def split_rows(x: Any, rows: int) -> list[Any]:
    """A batch's x in parts of so many rows."""
    starts = range(0, rows_of(x), rows)
    return [part_of(x, slice(start, start + rows)) for start in starts]


def part_of(x: Any, rows: slice | Tensor) -> Any:
    """The chosen rows of a batch's x, whatever it is made of."""
    if isinstance(x, dict):
        return {name: value[rows] for name, value in x.items()}
    if isinstance(x, tuple | list):
        return tuple(value[rows] for value in x)
    return x[rows]


def joined(parts: list[Any]) -> Any:
    """Parts of a batch's x as one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], tuple | list):
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))
    return torch.cat(parts)
