"""Taking a network apart: from any nn.Module, through torch.export, to affine layers.

Every value inside the network is kept as an affine function of the last activations before it:
one row of coefficients per unit there and a last row for the constant, each row in the value's own
shape. What is linear in torch is then linear in these rows, so that most operators apply as they
are. An operator that is not known ends in an error that names it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.certifiers.activations import Activation
from retrofair.certifiers.layered import Layered
from retrofair.errors import InputError
from retrofair.networks.threads import fitting_threads

ROWS = 3  # of the example batch; no feature dimension is mistaken for it, see `_shaped`
KNOWN = "Linear, BatchNorm, Dropout, Flatten, ReLU, LeakyReLU, Sigmoid, Tanh and a last Softmax"


@dataclass(frozen=True, eq=False)
class Stage:
    """The units after an activation (or the inputs): how they come from the stage before."""

    units: int
    before: Stage | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class Value:
    """An affine function of a stage's units; rows (units + 1, ...), the constant last."""

    stage: Stage
    rows: Tensor
    softmax: bool = False


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
        extract(module, inputs)  # says what is not supported, and compares
        self.program = _exported(copy.deepcopy(module).cpu().eval(), inputs)
        self.inputs = inputs

    def layers(self, module: nn.Module) -> Layered:
        """The layers with the parameters and statistics that the module has now."""
        now = {**dict(module.named_parameters()), **dict(module.named_buffers())}
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
            return _shaped(node, arguments)
        raise InputError(f"expected nothing after a softmax, got the operator {name}")
    handler = HANDLERS.get(short)
    if handler is None:
        raise InputError(
            f"expected a fully connected network of {KNOWN}, got the operator {name}, which is "
            "not supported by certify"
        )
    return handler(node, arguments)


def _unsupported(node: torch.fx.Node, why: str) -> InputError:
    return InputError(f"the operator {node.target} is not supported by certify here: {why}")


# --- operators ------------------------------------------------------------------------------------


def _shaped(node: torch.fx.Node, arguments: list[Any]) -> Value:
    """Operators that keep the order of the values and change at most the features' shape."""
    value = arguments[0]
    shape = tuple(node.meta["val"].shape)
    if shape[:1] != (ROWS,) or torch.Size(shape[1:]).numel() != value.rows[0].numel():
        raise _unsupported(node, "it mixes the rows of a batch")
    return Value(value.stage, value.rows.reshape(len(value.rows), *shape[1:]), value.softmax)


def _features_only(node: torch.fx.Node, arguments: list[Any]) -> Value:
    """Operators along feature dimensions, which torch applies to the rows as they are."""
    value: Value = arguments[0]
    shape = tuple(node.meta["val"].shape)
    target: Any = node.target
    if any(isinstance(each, Value) for each in arguments[1:]):
        raise _unsupported(node, "its options depend on the inputs")
    if tuple(node.args[0].meta["val"].shape) == shape:  # type: ignore[union-attr]
        counted = torch.arange(ROWS * value.rows[0].numel(), dtype=torch.float64)
        if not torch.equal(target(counted.reshape(shape), *arguments[1:]).flatten(), counted):
            raise _unsupported(node, "it may mix the rows of a batch")
        return value
    rows = target(value.rows, *arguments[1:])
    if shape[:1] != (ROWS,) or tuple(rows.shape) != (len(value.rows), *shape[1:]):
        raise _unsupported(node, "it mixes the rows of a batch")
    return Value(value.stage, rows)


def _joined(node: torch.fx.Node, arguments: list[Any]) -> Value:
    parts = arguments[0]
    if not all(isinstance(part, Value) for part in parts):
        raise _unsupported(node, "it joins the inputs with constants")
    stage = _same_stage(node, parts)
    shape = tuple(node.meta["val"].shape)
    rows = torch.cat([part.rows for part in parts], arguments[1] if len(arguments) > 1 else 0)
    if tuple(rows.shape) != (stage.units + 1, *shape[1:]) or shape[0] != ROWS:
        raise _unsupported(node, "it joins rows")
    return Value(stage, rows)


def _linear(node: torch.fx.Node, arguments: list[Any]) -> Value:
    value, weight, *rest = arguments
    if not isinstance(value, Value) or isinstance(weight, Value):
        raise _unsupported(node, "its weights depend on the inputs")
    return _plus(Value(value.stage, value.rows @ weight.T), rest[0] if rest else None)


def _product(node: torch.fx.Node, arguments: list[Any]) -> Value:
    value, weight = arguments
    if not isinstance(value, Value) or isinstance(weight, Value) or weight.ndim > 2:
        raise _unsupported(node, "only inputs times a constant matrix is")
    rows = value.rows @ weight
    if tuple(node.meta["val"].shape) != (ROWS, *rows.shape[1:]):
        raise _unsupported(node, "it mixes the rows of a batch")
    return Value(value.stage, rows)


def _affine_product(node: torch.fx.Node, arguments: list[Any]) -> Value:
    bias, value, weight = arguments
    if not isinstance(value, Value) or isinstance(weight, Value) or isinstance(bias, Value):
        raise _unsupported(node, "only a constant plus inputs times a constant matrix is")
    return _plus(Value(value.stage, value.rows @ weight), bias)


def _sum_of(sign: float) -> Callable[[torch.fx.Node, list[Any]], Value]:
    def add(node: torch.fx.Node, arguments: list[Any]) -> Value:
        first, second = arguments[:2]
        if node.kwargs.get("alpha", 1) != 1:
            raise _unsupported(node, "alpha is not 1")
        if isinstance(first, Value) and isinstance(second, Value):
            if first.rows.shape[1:] != second.rows.shape[1:]:
                raise _unsupported(node, "it adds values of different shapes")
            stage = _same_stage(node, [first, second])
            return Value(stage, first.rows + sign * second.rows)
        if isinstance(first, Value):
            return _plus(first, second * sign if second is not None else None, node)
        return _plus(Value(second.stage, second.rows * sign), first, node)

    return add


def _scaled(node: torch.fx.Node, arguments: list[Any]) -> Value:
    divides = "div" in str(node.target)
    first, second = arguments[:2]
    if isinstance(first, Value) and isinstance(second, Value):
        raise _unsupported(node, "two values that depend on the inputs are multiplied")
    if divides and (isinstance(second, Value) or len(node.args) > 2 or node.kwargs):
        raise _unsupported(node, "only plain division by a constant is")
    value, factor = (first, second) if isinstance(first, Value) else (second, first)
    factor = _per_row(torch.as_tensor(factor, dtype=torch.float64), value, node)
    return Value(value.stage, value.rows / factor if divides else value.rows * factor)


def _batch_norm(node: torch.fx.Node, arguments: list[Any]) -> Value:
    value, weight, bias, mean, variance = arguments[:5]
    numbers = [a for a in arguments[5:] if isinstance(a, float)]
    if mean is None or variance is None or True in arguments[5:6]:
        raise _unsupported(node, "BatchNorm needs running statistics: it depends on the batch")
    scale = 1 / torch.sqrt(variance + numbers[-1])
    scale = scale * weight if weight is not None else scale
    shift = -mean * scale + (bias if bias is not None else 0)
    places = (-1, *[1] * (value.rows.ndim - 2))
    return _plus(
        Value(value.stage, value.rows * scale.reshape(places)), shift.reshape(places), node
    )


def _same(node: torch.fx.Node, arguments: list[Any]) -> Value:
    if "dropout" in str(node.target) and len(arguments) > 2 and arguments[2] is True:
        raise _unsupported(node, "dropout is on: it is not in eval mode")
    value: Value = arguments[0]
    return value


def _negated(node: torch.fx.Node, arguments: list[Any]) -> Value:
    return Value(arguments[0].stage, -arguments[0].rows)


def _activated(make: Callable[[list[Any]], Activation | None]) -> Callable[..., Value]:
    def activate(node: torch.fx.Node, arguments: list[Any]) -> Value:
        value = arguments[0]
        activation = make(arguments)
        if activation is None:
            raise _unsupported(node, "only clamping at 0 from below is")
        rows = value.rows.reshape(len(value.rows), -1)
        units = rows.shape[1]
        stage = Stage(units, value.stage, rows[:-1].T.contiguous(), rows[-1], activation)
        unit = torch.cat([torch.eye(units), torch.zeros(1, units)]).double()
        return Value(stage, unit.reshape(units + 1, *value.rows.shape[1:]))

    return activate


def _clamped(arguments: list[Any]) -> Activation | None:
    below, above = [*arguments[1:], None, None][:2]
    return Activation("relu") if below == 0 and above is None else None


def _softmax(node: torch.fx.Node, arguments: list[Any]) -> Value:
    value = arguments[0]
    if value.rows.ndim != 2 or arguments[1] not in (1, -1):
        raise _unsupported(node, "only a softmax over the classes is")
    return Value(value.stage, value.rows, softmax=True)


SAME = (
    *("dropout", "dropout_", "feature_dropout", "alpha_dropout", "clone", "detach", "alias"),
    *("contiguous", "to", "_to_copy", "lift_fresh_copy", "type_as"),
)
SHAPED = ("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze")
ALONG = ("select", "slice", "permute", "transpose", "t", "sum", "mean", "narrow")
HANDLERS: dict[str, Callable[[torch.fx.Node, list[Any]], Value]] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(SHAPED, _shaped),
    **dict.fromkeys(ALONG, _features_only),
    **dict.fromkeys(["mul", "mul_", "div", "div_"], _scaled),
    **dict.fromkeys(["add", "add_"], _sum_of(1.0)),
    **dict.fromkeys(["sub", "sub_"], _sum_of(-1.0)),
    **dict.fromkeys(["relu", "relu_"], _activated(lambda _: Activation("relu"))),
    **dict.fromkeys(["clamp", "clamp_", "clamp_min", "clamp_min_"], _activated(_clamped)),
    **dict.fromkeys(["sigmoid", "sigmoid_"], _activated(lambda _: Activation("sigmoid"))),
    **dict.fromkeys(["tanh", "tanh_"], _activated(lambda _: Activation("tanh"))),
    **dict.fromkeys(
        ["leaky_relu", "leaky_relu_"],
        _activated(lambda a: Activation("leaky_relu", float(a[1]) if len(a) > 1 else 0.01)),
    ),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax", "_log_softmax"], _softmax),
    **dict.fromkeys(["mm", "matmul"], _product),
    "addmm": _affine_product,
    "batch_norm": _batch_norm,
    "cat": _joined,
    "linear": _linear,
    "neg": _negated,
}


# --- help -----------------------------------------------------------------------------------------


def _per_row(constant: Tensor, value: Value, node: torch.fx.Node) -> Tensor:
    """A constant in a shape that broadcasts over the features, never over rows of a batch."""
    shape = value.rows.shape[1:]
    if constant.ndim > len(shape):
        if constant.shape[0] != 1:
            raise _unsupported(node, "a constant differs between the rows of a batch")
        constant = constant[0]
    try:
        return torch.broadcast_to(constant, shape)
    except RuntimeError:
        raise _unsupported(node, "a constant changes the shape of what it meets") from None


def _plus(value: Value, constant: Any, node: torch.fx.Node | None = None) -> Value:
    if constant is None:
        return value
    constant = torch.as_tensor(constant, dtype=torch.float64)
    constant = _per_row(constant, value, node) if node is not None else constant
    rows = value.rows.clone()
    rows[-1] += constant
    return Value(value.stage, rows)


def _same_stage(node: torch.fx.Node, values: list[Value]) -> Stage:
    if any(value.stage is not values[0].stage for value in values):
        raise _unsupported(node, "it joins values across activations (a skip connection)")
    return values[0].stage


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
