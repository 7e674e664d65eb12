"""A network's weights times factors, for one trial after another or for many at once."""

from __future__ import annotations

import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from retrofair.data import Batches
from retrofair.errors import InputError
from retrofair.metrics import class_count
from retrofair.networks.outputs import device_of, evaluating
from retrofair.networks.parametrized import has_signs, named_layers
from retrofair.networks.threads import SMALL

TOGETHER = 32  # trials at once of a small network on a GPU
NUMBERS = 2**28  # of their weights and widest layers, together
AHEAD = 2**28  # factors of a trial that are held while the trial before is used
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
Factors = Iterable[Tensor]  # one after the other
Noise = Callable[[int, torch.Generator], Tensor]
Drawn = tuple[Tensor, Factors]  # the generator's state before, and the factors


def perturbed(original: nn.Module, model: nn.Module, *, batch_norm: bool = True) -> Weights:
    """The weights of `model`, a copy of `original`: as one vector where it is small."""
    weights = [model.get_parameter(name) for name in _names(model, batch_norm)]
    if sum(p.numel() for p in weights) < SMALL and len({p.dtype for p in weights}) == 1:
        return Flat(model, batch_norm=batch_norm)
    return InPlace(original, model, batch_norm=batch_norm)


class Weights(ABC):
    """Weights of a network that can be multiplied and brought back exactly.

    Args:
        sizes: of the tensors of factors.
    """

    sizes: list[int]

    @abstractmethod
    def scale_by(self, factors: Factors) -> None:
        """Original weights times factors, in place."""

    @abstractmethod
    def reset(self) -> None:
        """The original weights."""

    def together(self, data: Batches) -> int:
        """How many trials are worth trying at once."""
        return 1

    def chances_of(self, trials: Sequence[Factors], data: Batches) -> Tensor:
        """What the network would say of the data with each trial's weights: (K, n) float64
        probabilities, where the network is."""
        raise NotImplementedError


class InPlace(Weights):
    """A large network: the original's own weights are read, and no other copy of them is made."""

    def __init__(self, original: nn.Module, model: nn.Module, *, batch_norm: bool = True) -> None:
        names = _names(model, batch_norm)
        self._pairs = [(original.get_parameter(n), model.get_parameter(n)) for n in names]
        self.sizes = [p.numel() for _, p in self._pairs]

    @torch.no_grad()
    def scale_by(self, factors: Factors) -> None:
        for (source, target), each in zip(self._pairs, factors, strict=True):
            torch.mul(source, each.to(source).view_as(source), out=target.data)

    @torch.no_grad()
    def reset(self) -> None:
        for source, target in self._pairs:
            target.copy_(source)


class Flat(Weights):
    """A small network's weights as one vector, which its parameters are views of.

    One multiplication then perturbs the whole network, without a loop over its layers.
    """

    def __init__(self, model: nn.Module, *, batch_norm: bool = True) -> None:
        self.model, self.names = model, _names(model, batch_norm)
        parameters = [model.get_parameter(name) for name in self.names]
        self.shapes = [p.shape for p in parameters]
        self.original = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.now = self.original.clone()
        self.sizes = [len(self.original)]
        for parameter, part in zip(parameters, self._parts(self.now), strict=True):
            parameter.data = part

    def __len__(self) -> int:
        return len(self.original)

    def scale_by(self, factors: Factors) -> None:
        (all_of_them,) = factors
        torch.mul(self.original, all_of_them.to(self.original.device), out=self.now)

    def reset(self) -> None:
        self.now.copy_(self.original)

    def together(self, data: Batches) -> int:
        """Many on a GPU, where a small network's pass is mostly waiting for its launch."""
        if device_of(self.model).type != "cuda" or class_count(data.y.numpy()) > 2:
            return 1
        x, _, _ = next(iter(data))
        if not isinstance(x, Tensor):
            return 1
        room = NUMBERS // (len(self) + len(data) * max(max(s) for s in self.shapes if s))
        return max(1, min(TOGETHER, room))

    def chances_of(self, trials: Sequence[Factors], data: Batches) -> Tensor:
        factors = torch.stack([torch.cat(list(each)) for each in trials]).to(self.original.device)
        weights = dict(zip(self.names, self._parts(self.original * factors), strict=True))
        state = dict(self.model.named_buffers()) | {
            n: p for n, p in self.model.named_parameters() if n not in weights
        }

        def run(own: dict[str, Tensor], x: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(self.model, {**state, **own}, (x,))
            return out.reshape(len(x), -1)[:, 0]

        with evaluating(self.model), warnings.catch_warnings():
            # of torch's own, where it has no faster way, as under weight_norm
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            parts = [
                torch.func.vmap(run, (0, None))(weights, x.to(self.original.device)).double()
                for x, _, _ in data
            ]
            return torch.cat(parts, 1).sigmoid()

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views of (..., size) by parameter."""
        sizes = [shape.numel() for shape in self.shapes]
        parts = flat.split(sizes, -1)
        return [
            part.reshape(*flat.shape[:-1], *shape) if flat.ndim > 1 else part.view(shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


class Draws:
    """The factors of one trial after another.

    Args:
        noise: makes a tensor of factors of a given size.
        generator: on the CPU, so that every device gets the same factors.
        ahead: draw the next trial's while this one's are used, unless they are too many to hold.
        device: where those drawn ahead are put meanwhile.
    """

    def __init__(
        self,
        weights: Weights,
        noise: Noise,
        generator: torch.Generator,
        *,
        ahead: bool,
        device: torch.device | None = None,
    ) -> None:
        self.weights, self.noise = weights, noise
        self.generator = generator
        self.ahead = ahead and sum(weights.sizes) <= AHEAD
        on_gpu = device is not None and device.type == "cuda"
        self.beside = torch.cuda.Stream(device) if on_gpu and self.ahead else None

    def take(self, trials: int) -> Iterator[Drawn]:
        """So many trials, each to be used before the next is taken."""
        if not self.ahead:
            for _ in range(trials):
                state = self.generator.get_state()
                yield state, self._draw(self.generator)
            return
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._next)
            for left in reversed(range(trials)):
                drawn = coming.result()
                if left:
                    coming = pool.submit(self._next)
                yield drawn

    def batches(self, trials: int, size: int) -> Iterator[list[Drawn]]:
        """So many trials, some at a time."""
        drawn = self.take(trials)
        while True:
            part: list[Drawn] = []
            for state, factors in itertools.islice(drawn, size):
                part.append((state, list(factors)))
            if not part:
                return
            yield part

    def again(self, state: Tensor) -> Factors:
        """The factors that were drawn from a state."""
        generator = torch.Generator()
        generator.set_state(state)
        return self._draw(generator)

    def _next(self) -> Drawn:
        state = self.generator.get_state()
        factors = list(self._draw(self.generator))
        if self.beside is not None:  # beside the passes that the device is busy with
            with torch.cuda.stream(self.beside):
                factors = [each.to(self.beside.device) for each in factors]
            self.beside.synchronize()
        return state, factors

    def _draw(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Tensor by tensor: those of a large network need not be there at once."""
        for size in self.weights.sizes:
            yield self.noise(size, generator)


def _names(model: nn.Module, batch_norm: bool) -> list[str]:
    """Of the parameters to perturb; tied ones count once."""
    found: dict[int, str] = {}
    signs = {
        id(p)
        for _, module in named_layers(model)
        if has_signs(module)
        for p in module.get_submodule("parametrizations.weight").parameters()
    }
    for path, module in model.named_modules():
        if batch_norm or not isinstance(module, NORMS):
            for name, parameter in module.named_parameters(path, recurse=False):
                if parameter.is_floating_point() and id(parameter) not in signs:
                    found.setdefault(id(parameter), name)
    if not found:
        raise InputError("expected a network with weights to perturb, got none")
    return list(found.values())
