"""Fine-tuning a large network: which layers, how many rows at once, and its state kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from retrofair.data import Batches
from retrofair.debiasers.base import Best
from retrofair.debiasers.offsets import OffsetChoice
from retrofair.errors import InputError
from retrofair.networks.digest import digest
from retrofair.networks.kept import identity
from retrofair.networks.layers import running_order, weight_layers
from retrofair.networks.memory import (
    NORMS,
    averages_of,
    part_of,
    rows_of,
    split_rows,
    until_it_fits,
    warn,
)
from retrofair.networks.outputs import device_of, forward
from retrofair.networks.parametrized import is_innermost, named_layers
from retrofair.networks.precision import lower_precision
from retrofair.networks.state_file import StateFile, moments, part, put_moments, under
from retrofair.objective import Objective
from retrofair.thresholds import Choice


def check_options(layers: int | None, micro_rows: int | None, folder: str | Path | None) -> None:
    """Refuse options of fine-tuning that are out of range."""
    for name, value in (("layers", layers), ("micro_rows", micro_rows)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"expected {name} >= 1 or None for all, got {value!r}")
    if folder is not None and not isinstance(folder, str | Path):
        raise InputError(f"expected a folder or None, got {folder!r} (checkpoint)")


class Tuning:
    """A network whose last layers are trained, a minibatch in as many parts as memory allows.

    A minibatch in parts gives the same gradients as in one: what the parts' activations were is
    forgotten and computed again on the way back. Layers that are not trained are as in eval mode;
    in parts, so are the statistics of BatchNorm and the power iteration of spectral_norm: each part
    would have its own.

    Args:
        layers: how many of the last layers with weights are trained; None: all.
        rows: of a minibatch in memory at once; None: all. Halved where memory runs out.
        mixed: bfloat16 in forward passes (see `lower_precision`).
        trained: modules that `train` puts in train mode; None: all but those that `layers` leaves.
        option: the caller's, by which parts or minibatches are smaller from the start.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Batches,
        *,
        layers: int | None = None,
        rows: int | None = None,
        mixed: bool = False,
        trained: Sequence[nn.Module] | None = None,
        option: str = "micro_rows",
    ) -> None:
        self.model, self.rows, self.mixed, self.option = model, rows, mixed, option
        self._trained = [model] if trained is None else trained
        self._frozen: list[nn.Module] = []
        self._averages: list[Tensor] = []
        if layers is not None:
            x, _, _ = next(iter(data))
            x = part_of(x, slice(2))
            self._freeze(weight_layers(model, x)[-layers:], x)

    def _freeze(self, names: list[str], x: Any) -> None:
        """All but these layers and what runs after the first of them, such as its BatchNorm."""
        order = running_order(self.model, x, is_innermost)
        first = min(order.index(name) for name in names)
        after = {name for name in order[first:] if name not in order[:first]}
        leaves = [(n, m) for n, m in named_layers(self.model) if is_innermost(m)]
        frozen = {id(module) for name, module in leaves if name not in after}
        self._frozen = [  # with what is made of such layers alone
            module
            for _, module in named_layers(self.model)
            if all(id(m) in frozen for _, m in named_layers(module) if is_innermost(m))
        ]
        kept = {id(p) for name, module in leaves if name in after for p in module.parameters()}
        for parameter in self.model.parameters():
            if id(parameter) not in kept:
                parameter.requires_grad_(False)

    def train(self) -> None:
        """Train mode, of what is trained."""
        for module in self._trained:
            module.train()
        for module in self._frozen:
            module.eval()
        if self.rows is not None:
            for module in self.model.modules():
                if isinstance(module, NORMS):
                    module.eval()
        self._averages = averages_of(self.model)

    def forward(self, x: Any, seen: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Logits (n,) or (n, K) float32, and what `reading` saw meanwhile (n, h)."""

        def run(some: Any) -> tuple[Tensor, Tensor]:
            with lower_precision(self.mixed, device_of(self.model)):
                out = forward(self.model, some).float()
            return out, out if seen is None else seen["input"]

        out, read = self.in_parts(x, run)
        return out, read

    def in_parts(self, x: Any, run: Callable[[Any], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What a forward pass `run` says of x: tensors of one row a row."""
        if self.rows is None or rows_of(x) <= self.rows:
            return run(x)
        parts = [checkpoint(run, some, use_reentrant=False) for some in split_rows(x, self.rows)]
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))

    def step(self, work: Callable[[], None], rows: int, generator: torch.Generator) -> None:
        """Do a step of training, again with fewer rows at once where memory runs out."""
        until_it_fits(work, lambda: self._halve(rows), generator, self._averages)

    def _halve(self, rows: int) -> None:
        now = min(self.rows or rows, rows)
        if now < 2:
            raise InputError(
                "expected memory to train this network on a row, but it runs out: train fewer "
                "layers (layers= or head_only=True, where they are options), or use another device"
            )
        self.rows = (now + 1) // 2
        self.train()
        warn(
            f"out of memory with {now:,} rows at once: going on with {self.rows:,} in each part of "
            f"a minibatch; fewer from the start with {self.option}="
        )


class Rounds:
    """The state of a method that trains in rounds, after each of them.

    Args:
        folder: where it is kept; None: nowhere.
        debiaser: whose options tell one training from another, with network, data and objective.
        modules, optimisers: whose state it is, by name; `best` and the generator's come with it.
    """

    def __init__(
        self,
        folder: str | Path | None,
        debiaser: Any,
        best: Best,
        objective: Objective,
        generator: torch.Generator,
        modules: Mapping[str, nn.Module],
        optimisers: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        self.best, self.generator = best, generator
        self.modules, self.optimisers = {"model": best.model, **modules}, optimisers
        self.file = None
        if folder is not None:
            about = {
                "method": debiaser.name,
                **{k: v for k, v in dataclasses.asdict(debiaser).items() if k != "checkpoint"},
                "objective": objective.to_dict(),
                "network": digest(best.model)[:24],
                "data": digest(*identity(best.data))[:24],
                "seed": digest(generator.get_state())[:24],
            }
            self.file = StateFile(folder, about)

    def restore(self) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        """Put the stored state back: rounds done, the history and other values; 0 rounds if none.

        Raises:
            InputError: the folder holds the state of another training, or a damaged one.
        """
        found = None if self.file is None else self.file.read()
        if found is None or self.file is None:
            return 0, [], {}
        tensors, values = found
        try:
            for name, module in self.modules.items():
                module.load_state_dict(part(name, tensors))
            for name, optimiser in self.optimisers.items():
                put_moments(optimiser, part(f"adam.{name}", tensors))
            own = self.best.model.state_dict()
            self.best.state = {n: v.to(own[n]) for n, v in part("best", tensors).items()}
            self.best.choice = read_choice(values["best"])
            self.generator.set_state(tensors["generator"])
            history = [
                {k: float("nan") if v is None else v for k, v in row.items()}  # JSON has no nan
                for row in values["history"]
            ]
            return int(values["round"]), history, dict(values["more"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise self.file.damaged(error) from None

    def save(self, number: int, history: list[dict[str, Any]], **more: Any) -> None:
        """Keep the state after a round."""
        if self.file is None:
            return
        tensors = under("best", self.best.state) | {"generator": self.generator.get_state()}
        for name, module in self.modules.items():
            tensors |= under(name, module.state_dict())
        for name, optimiser in self.optimisers.items():
            tensors |= under(f"adam.{name}", moments(optimiser))
        best = write_choice(self.best.choice)
        self.file.save(tensors, {"round": number, "history": history, "best": best, "more": more})


def write_choice(choice: Choice) -> dict[str, Any]:
    """A choice as plain values."""
    found: dict[str, Any] = {"counts": choice.counts.tolist(), "rank": choice.rank}
    if isinstance(choice, OffsetChoice):
        return found | {"offsets": list(choice.offsets)}
    return found | {"threshold": choice.threshold}


def read_choice(values: Mapping[str, Any]) -> Choice:
    """What `write_choice` wrote."""
    counts, rank = np.array(values["counts"], dtype=np.int64), values["rank"]
    rank = -np.inf if rank is None else float(rank)  # JSON has no infinity
    if "offsets" in values:
        return OffsetChoice(float("nan"), counts, rank, tuple(values["offsets"]))
    return Choice(float(values["threshold"]), counts, rank)
