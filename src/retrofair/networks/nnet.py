"""Reading networks in the .nnet text format (Julian 2016) of the verification literature."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from retrofair.errors import InputError, MissingFileError


@dataclass(frozen=True, eq=False)
class NnetFile:
    """A ReLU network with the ranges of its inputs.

    Args:
        network: (n, inputs) -> (n,) for one output, else (n, outputs); on raw inputs.
        low, high: (inputs,) float64, from the file.
    """

    network: nn.Sequential
    low: Tensor
    high: Tensor


def read_nnet(path: str | Path, *, normalised: bool = False) -> NnetFile:
    """Read a .nnet file: plain text, nothing in it is executed.

    Args:
        normalised: apply the file's means and ranges to inputs and outputs, as the format's
            standard says. Networks of the fairness literature take raw inputs and carry other
            numbers in these lines: the default ignores them.

    Raises:
        MissingFileError: the file is not there.
        InputError: it is no .nnet file, or is cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"expected a .nnet file, but {path} is not there (--network)")
    try:
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("//")]
        rows = iter([float(v) for v in line.split(",") if v.strip()] for line in lines)
        layers, inputs, outputs, _ = (int(v) for v in next(rows)[:4])
        sizes = [int(v) for v in next(rows)]
        next(rows)
        lines_of_inputs = [torch.tensor(next(rows), dtype=torch.float64) for _ in range(4)]
        low, high, mean, spread = lines_of_inputs
        if len(sizes) != layers + 1 or sizes[0] != inputs or sizes[-1] != outputs:
            raise ValueError(f"layer sizes {sizes} do not fit {layers} layers")
        affine = [_linear(rows, *size) for size in itertools.pairwise(sizes)]
        if len(low) < inputs or len(high) < inputs:
            raise ValueError(f"{len(low)} and {len(high)} ranges for {inputs} inputs")
        if normalised:
            _fold(affine, mean, spread, inputs)
    except (ValueError, IndexError, OverflowError, StopIteration) as error:
        reason = str(error) or "it ends too early"
        raise InputError(f"expected a .nnet file, but {path} cannot be read: {reason}") from None
    modules: list[nn.Module] = []
    for layer in affine[:-1]:
        modules += [layer, nn.ReLU()]
    modules.append(affine[-1])
    if outputs == 1:
        modules.append(nn.Flatten(0))
    return NnetFile(nn.Sequential(*modules).eval(), low[:inputs], high[:inputs])


def _linear(rows: Iterator[list[float]], size: int, units: int) -> nn.Linear:
    layer: nn.Linear = torch.nn.utils.skip_init(nn.Linear, size, units)  # no random number is drawn
    weight = [next(rows)[:size] for _ in range(units)]
    bias = [next(rows)[0] for _ in range(units)]
    if any(len(row) != size for row in weight):
        raise ValueError(f"expected {size} weights in every row of a layer")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    layer.requires_grad_(False)
    return layer


def _fold(affine: list[nn.Linear], mean: Tensor, spread: Tensor, inputs: int) -> None:
    if len(mean) < inputs + 1 or len(spread) < inputs + 1:
        raise ValueError("no mean and range for every input and the output")
    if bool((spread[: inputs + 1] == 0).any()):
        raise ValueError("a range of 0 cannot normalise an input")
    first, last = affine[0], affine[-1]
    scale = 1 / spread[:inputs]
    first.bias.sub_((first.weight.double() @ (mean[:inputs] * scale)).float())
    first.weight.mul_(scale.float())
    last.weight.mul_(spread[inputs].float())
    last.bias.mul_(spread[inputs].float()).add_(mean[inputs].float())
