"""Taking a network apart: from any nn.Module, through torch.export, to affine layers.

The exported graph is run with affine functions of the inputs and activations in the place of
tensors (see operators.py). An operator that is not known ends in an error that names it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.certifiers.activations import Activation
from retrofair.certifiers.layered import Layered
from retrofair.certifiers.operators import HANDLERS, ROWS, SAME, SHAPED, Stage, Value, shaped
from retrofair.errors import InputError
from retrofair.networks.threads import fitting_threads

KNOWN = "Linear, BatchNorm, Dropout, Flatten, ReLU, LeakyReLU, Sigmoid, Tanh and a last Softmax"


def extract(module: nn.Module, inputs: int) -> Layered:
    """The layers of a fully connected network in eval mode, in double precision.

    BatchNorm is folded into its neighbours, dropout is left out. The result is compared with the
    module on random inputs.

    Raises:
        InputError: the module does not take (n, inputs), or holds an operator that is not
            supported: the error names it.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"expected a torch.nn.Module as the network, got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError("expected an nn.Module, got a TorchScript module: use what it was made of")
    with fitting_threads(module):
        module = copy.deepcopy(module).cpu().eval()
        layered = _layers(_run(_exported(module, inputs), inputs))
        _compare(module, layered, inputs)
        return layered


class Live:
    """The layers of a network in training: exported once, in eval mode, differentiable.

    Raises:
        InputError: as for `extract`.
    """

    def __init__(self, module: nn.Module, inputs: int) -> None:
        module = copy.deepcopy(module).cpu().eval()
        self.program, self.inputs = _exported(module, inputs), inputs
        _compare(module, self.layers(module), inputs)

    def layers(self, module: nn.Module) -> Layered:
        """The layers with the parameters and statistics that the module has now."""
        # all names of a parameter that has several, or the others would stay as they were exported
        now: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
        now |= dict(module.named_buffers(remove_duplicate=False))
        return _layers(_run(self.program, self.inputs, now))


def _exported(module: nn.Module, inputs: int) -> torch.export.ExportedProgram:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    example = torch.zeros(ROWS, inputs, dtype=dtype)
    try:
        logging.disable(logging.CRITICAL)  # torch.export logs a traceback before it raises
        out = module(example)
        program = torch.export.export(module, (example,), strict=False)
    except Exception as error:  # a user's own network may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"expected a network that takes x of shape (n, {inputs}) and can be exported, but it "
            f"fails: {reason[:200]}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    if not isinstance(out, Tensor) or out.shape[:1] != (ROWS,) or out.ndim > 2:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"expected outputs of shape (n,) or (n, K), got {shape} for {ROWS} rows of inputs"
        )
    return program


def _run(
    program: torch.export.ExportedProgram, inputs: int, now: Mapping[str, Tensor] | None = None
) -> Value:
    """Go through the exported graph with affine values in the place of tensors.

    Args:
        now: parameters and buffers that stand in the place of the exported ones.
    """
    start = Stage(inputs)
    signature = program.graph_signature
    held = {**program.state_dict, **program.constants, **(now or {})}
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    values: dict[str, Any] = {}

    def known(argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return values[argument.name]
        if isinstance(argument, list | tuple):
            return [known(each) for each in argument]
        return argument

    for node in program.graph.nodes:
        if node.op == "placeholder":
            held_here = held.get(named.get(node.name, ""))
            if node.name in named and held_here is not None:
                floating = held_here.is_floating_point()
                values[node.name] = held_here.double() if floating else held_here
            else:
                rows = torch.cat([torch.eye(inputs), torch.zeros(1, inputs)]).double()
                values[node.name] = Value(start, rows)
        elif node.op == "call_function":
            values[node.name] = _apply(node, known(node.args), known(node.kwargs or {}))
        elif node.op == "output":
            found = known(node.args[0])[0]
            if not isinstance(found, Value):
                raise InputError("expected outputs that depend on the inputs, got a constant")
            return found
        else:
            raise InputError(f"expected a plain network, got a {node.op} in it ({node.name})")
    raise InputError("expected a network with an output, got none")


def _apply(node: torch.fx.Node, arguments: list[Any], named: Any) -> Any:
    name = str(node.target)
    if isinstance(named, list):
        named = {}
    flat = [*arguments, *(v for a in arguments if isinstance(a, list) for v in a)]
    if not any(isinstance(each, Value) for each in flat):
        if "assert" in name or not isinstance(node.meta.get("val"), Tensor):
            return None
        doubled = {**named, **({"dtype": torch.float64} if "dtype" in named else {})}
        target: Any = node.target
        return target(*arguments, **doubled)
    short = name.removeprefix("aten.").split(".")[0]
    if any(isinstance(each, Value) and each.softmax for each in flat):
        if short in SAME or short in SHAPED:
            return shaped(node, arguments)
        raise InputError(f"expected nothing after a softmax, got the operator {name}")
    handler = HANDLERS.get(short)
    if handler is None:
        raise InputError(
            f"expected a fully connected network of {KNOWN}, got the operator {name}, which is "
            "not supported by certify"
        )
    return handler(node, arguments)


def _layers(value: Value) -> Layered:
    rows = value.rows.reshape(len(value.rows), -1)
    weights, biases = [rows[:-1].T.contiguous()], [rows[-1]]
    activations: list[Activation] = []
    stage = value.stage
    while stage.before is not None:
        assert stage.weight is not None
        assert stage.bias is not None
        assert stage.activation is not None
        weights.insert(0, stage.weight)
        biases.insert(0, stage.bias)
        activations.insert(0, stage.activation)
        stage = stage.before
    for tensor in (*weights, *biases):
        if not bool(torch.isfinite(tensor).all()):
            raise InputError("expected finite weights, got NaN or infinite ones in the network")
    return Layered(tuple(weights), tuple(biases), tuple(activations), value.softmax)


def _compare(module: nn.Module, layered: Layered, inputs: int) -> None:
    """What was taken apart must answer as the whole does."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, inputs, generator=generator, dtype=torch.float64)
    try:
        with torch.no_grad():
            wanted = module(x.to(dtype)).double().reshape(64, -1)
            found = layered.forward(x)
    except Exception as error:
        raise InputError(
            f"expected a network that takes any number of rows, but with 64 it fails: {error}"
        ) from error
    if layered.softmax:
        wanted = wanted.exp() if bool((wanted < 0).any()) else wanted
        found = torch.softmax(found, 1)
    scale = 1 + float(wanted.abs().max())
    if wanted.shape != found.shape or float((wanted - found).abs().max()) > 1e-3 * scale:
        raise InputError(
            "expected a network that answers alike on the same inputs, but its layers, taken "
            "apart, answer otherwise: it may depend on the batch or on its values"
        )
