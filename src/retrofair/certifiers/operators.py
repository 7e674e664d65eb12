"""The operators of an exported graph, each on affine functions in the place of tensors.

Every value inside a network is kept as an affine function of the last activations before it: one
row of coefficients per unit there and a last row for the constant, each row in the value's own
shape. What is linear in torch is then linear in these rows, so that most operators apply as they
are. Adding an operator = one function and one name in `HANDLERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrofair.certifiers.activations import Activation
from retrofair.errors import InputError

ROWS = 3  # of the example batch; no feature dimension is mistaken for it, see `_shaped`


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


def _unsupported(node: torch.fx.Node, why: str) -> InputError:
    return InputError(f"the operator {node.target} is not supported by certify here: {why}")


def shaped(node: torch.fx.Node, arguments: list[Any]) -> Value:
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
    **dict.fromkeys(SHAPED, shaped),
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
