"""Layers whose weight is computed, as by torch.nn.utils.parametrizations, seen as layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from retrofair.networks.outputs import evaluating

PLAIN = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"


def weight_of(module: nn.Module) -> Tensor | None:
    """A layer's weight as it is in eval mode, or None: it has none.

    A computed one is computed outside the layer: asked for it in train mode, a layer under
    `spectral_norm` would take a step of its power iteration, which changes its buffers.
    """
    computed = _computed(module)
    if computed is not None:
        with evaluating(computed):
            found = computed()
    else:
        found = getattr(module, "weight", None)
    return found if isinstance(found, Tensor) else None


def is_computed(module: nn.Module) -> bool:
    """Whether a layer's weight is no parameter of its own."""
    return "weight" not in module._parameters


def named_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The named modules, without those that only compute another's weights."""
    inside = {
        id(part)
        for module in model.modules()
        if is_parametrized(module)
        for part in _parts(module).modules()
    }
    return [(name, module) for name, module in model.named_modules() if id(module) not in inside]


def is_innermost(module: nn.Module) -> bool:
    """Whether no other layers are part of a layer."""
    own = _parts(module) if is_parametrized(module) else None
    return all(child is own for child in module.children())


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """A layer's parameters, without its other layers', with those its weights are computed of."""
    found = list(module.parameters(recurse=False))
    if is_parametrized(module):
        found += _parts(module).parameters()
    return found


def has_signs(module: nn.Module) -> bool:
    """Whether a layer's weight is computed of numbers of which some are signs, cut to -1, 0 or 1.

    `orthogonal` with Householder's map holds them on the diagonal: times a factor below 1 one would
    be cut to 0, and the layer would lose a unit.
    """
    maps = [getattr(part, "orthogonal_map", None) for part in _computed(module) or ()]
    return any(getattr(each, "name", None) == "householder" for each in maps)


def signed_note(model: nn.Module) -> tuple[str, ...]:
    """What to know of layers that keep their weights where those of others are drawn at random."""
    kept = [name for name, module in named_layers(model) if has_signs(module)]
    if not kept:
        return ()
    return (
        f"The orthogonal weight of {', '.join(kept)} stayed as it is, as Householder's map keeps "
        "signs among the numbers it is computed of (orthogonal_map='matrix_exp' does not).",
    )


def columns_of(module: nn.Module) -> nn.Parameter | None:
    """The parameter whose columns, set to 0, make those of a layer's weight 0 and no others.

    It is the weight; or what it is computed of, as under `weight_norm` and `spectral_norm`, where
    two tries with every other column show it. None: of an orthogonal weight no column can be 0.
    What is tried is put back, so the layer may be one of a copy only.
    """
    if not is_computed(module):
        return module._parameters["weight"]
    computed, weight = _computed(module), weight_of(module)
    if computed is None or weight is None or has_signs(module):  # by a hook, say
        return None
    for parameter in computed.parameters(recurse=False):
        if parameter.shape == weight.shape and all(
            _removes(module, parameter, torch.arange(weight.shape[1]) % 2 == odd)
            for odd in range(2)
        ):
            return parameter
    return None


def _parts(module: nn.Module) -> nn.Module:
    found: nn.Module = module.get_submodule("parametrizations")
    return found


def _computed(module: nn.Module) -> ParametrizationList | None:
    """What computes the layer's weight, if anything does."""
    if not is_parametrized(module, "weight"):
        return None
    found = _parts(module).get_submodule("weight")
    assert isinstance(found, ParametrizationList)
    return found


@torch.no_grad()
def _removes(module: nn.Module, parameter: nn.Parameter, columns: Tensor) -> bool:
    """Whether these columns of the parameter, and these alone, make a weight's columns 0."""
    before, whole = parameter.clone(), weight_of(module)
    parameter[:, columns.to(parameter.device)] = 0
    left = weight_of(module)
    parameter.copy_(before)
    if whole is None or left is None:
        return False
    # nan in rows of which nothing is left to divide by
    there, now = (
        each.nan_to_num(0.0).transpose(0, 1).flatten(1).any(1).cpu() for each in (whole, left)
    )
    return bool((now == there & ~columns).all())
