"""The files that an exported network can be. Each is written, and read again to be tried."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from retrofair.deploy.form import OUTPUTS, ROWS, Input
from retrofair.deploy.traced import recorded
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array

Run = Callable[[Sequence[Tensor]], tuple[Array, Array]]


class Format(Protocol):
    """A kind of file.

    `randomised`: whether it can hold a rule with a coin, which is made of the bits of a row.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    randomised: ClassVar[bool]

    def write(
        self, module: nn.Module, given: Sequence[Tensor], inputs: Sequence[Input], path: Path
    ) -> None: ...
    def read(self, path: Path) -> Run: ...


@dataclass(frozen=True)
class Onnx:
    """An ONNX graph, with a free number of rows, for onnxruntime and others.

    Written by the exporter that records a run: it needs the package onnx alone, takes a twentieth
    of the time of the newer one, and agreed with the network as closely.
    """

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    randomised: ClassVar[bool] = False
    opset: int = 18

    def write(
        self, module: nn.Module, given: Sequence[Tensor], inputs: Sequence[Input], path: Path
    ) -> None:
        free = {each.name: each.free for each in inputs} | {name: {0: ROWS} for name in OUTPUTS}
        with recorded(self.name, module, given):
            torch.onnx.export(
                module,
                tuple(given),
                str(path),
                dynamo=False,
                input_names=[each.name for each in inputs],
                output_names=list(OUTPUTS),
                dynamic_axes=free,
                opset_version=self.opset,
            )
        _declare(path, given, inputs)

    def read(self, path: Path) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]

        def run(inputs: Sequence[Tensor]) -> tuple[Array, Array]:
            given = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
            chance, decision = session.run(None, given)
            return chance, decision

        return run


def _declare(path: Path, given: Sequence[Tensor], inputs: Sequence[Input]) -> None:
    """Put back the inputs that the network does not use, which the exporter leaves out."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    known = {each.name for each in model.graph.input}
    absent = [place for place, each in enumerate(inputs) if each.name not in known]
    for place in absent:
        kind = onnx.helper.np_dtype_to_tensor_dtype(given[place].numpy().dtype)
        made = onnx.helper.make_tensor_value_info(
            inputs[place].name, kind, list(inputs[place].shape)
        )
        model.graph.input.insert(place, made)
    if absent:
        onnx.save(model, str(path))


@dataclass(frozen=True)
class TorchExport:
    """A torch.export program (.pt2) with a free number of rows."""

    name: ClassVar[str] = "torch_export"
    suffix: ClassVar[str] = ".pt2"
    packages: ClassVar[tuple[str, ...]] = ()
    randomised: ClassVar[bool] = True

    def write(
        self, module: nn.Module, given: Sequence[Tensor], inputs: Sequence[Input], path: Path
    ) -> None:
        # of tokens, the network's own code says how many may be
        sizes: dict[str, Any] = {ROWS: torch.export.Dim(ROWS, min=1)}
        shapes = tuple(
            {axis: sizes.get(name, torch.export.Dim.AUTO) for axis, name in each.free.items()}
            for each in inputs
        )
        # the module takes any number of tensors: theirs are the shapes of its one argument
        program = torch.export.export(module, tuple(given), dynamic_shapes=(shapes,), strict=False)
        torch.export.save(program, str(path))

    def read(self, path: Path) -> Run:
        return _torch_run(torch.export.load(str(path)).module())


@dataclass(frozen=True)
class TorchScript:
    """A TorchScript module, for runtimes that still read those (libtorch in C++)."""

    name: ClassVar[str] = "torchscript"
    suffix: ClassVar[str] = ".pt"
    packages: ClassVar[tuple[str, ...]] = ()
    randomised: ClassVar[bool] = False  # it cannot view numbers as their bits

    def write(
        self, module: nn.Module, given: Sequence[Tensor], inputs: Sequence[Input], path: Path
    ) -> None:
        with recorded(self.name, module, given):
            traced = torch.jit.trace(module, tuple(given), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), str(path))

    def read(self, path: Path) -> Run:
        return _torch_run(torch.jit.load(str(path)))


FORMATS: tuple[Format, ...] = (Onnx(), TorchExport(), TorchScript())


def format_of(name: str, path: Path) -> Format:
    """The format of a name, if the path has its suffix and its packages are there.

    Raises:
        InputError: an unknown name, another suffix, a package that is missing.
    """
    known = {each.name: each for each in FORMATS}
    if name not in known:
        raise unknown("format", name, known)
    chosen = known[name]
    if path.suffix.lower() != chosen.suffix:
        raise InputError(
            f"expected a path that ends in {chosen.suffix} for format={name!r}, got {path.name!r} "
            "(path, --format)"
        )
    absent = [each for each in chosen.packages if importlib.util.find_spec(each) is None]
    if absent:
        raise InputError(
            f"expected the package{'s' * (len(absent) > 1)} {' and '.join(absent)} for "
            f"format={name!r}: install retrofair[onnx], or choose format='torch_export' (--format)"
        )
    return chosen


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of themselves: deprecations, guesses, progress."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


def _torch_run(module: Any) -> Run:
    def run(inputs: Sequence[Tensor]) -> tuple[Array, Array]:
        with torch.inference_mode():
            chance, decision = module(*inputs)
        return chance.numpy(), decision.numpy()

    return run
