"""SenSR and SenSeI of the package inFairness, for benchmarks/individual.py.

    python benchmarks/individual.py --export FOLDER
    python benchmarks/rivals_individual.py --folder FOLDER
    python benchmarks/individual.py --store STORE --rivals FOLDER --page PAGE

The line in the middle runs in an environment of its own, with inFairness 0.2.3, the same version of
torch, and safetensors. Stopped, it goes on where it was.

Both train on from the exported plain network, as lambda's networks do: with its optimiser, batches,
learning rate, most epochs and patience. The distance between people is the package's
LogisticRegSensitiveSubspace, learned from training rows: the protected columns, and the directions
that tell them from the other columns, cost nothing. The one between outputs is the squared
Euclidean one. The epoch is the one with the least objective of the method's own on the validation
rows, the start among them: the loss at the worst rows that the auditor finds (SenSR), or the loss
and rho times how far apart it gets the outputs (SenSeI). (The package's examples take the last
epoch, with no validation rows: --last.)
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks torch for vmap where it was years ago
    from inFairness.auditor import SenSeIAuditor, SenSRAuditor
    from inFairness.distances import (
        LogisticRegSensitiveSubspace,
        SensitiveSubspaceDistance,
        SquaredEuclideanDistance,
    )
    from inFairness.fairalgo import SenSeI, SenSR

METHODS = ("SenSR", "SenSeI")
# of the package's example of SenSeI on Adult; there is none of training by SenSR
EPS, RHO, STEPS, RATE = 0.1, 5.0, 100, 1e-3
# of the package's tests of SenSR: a step of its multiplier, and a factor on its loss
MULTIPLIER_RATE, FACTOR = 1.0, 1.0
MULTIPLIER = torch.tensor(1.0)  # where the package's multipliers start and its audits stay


class Task:
    """One exported data set, width and seed."""

    def __init__(self, about: Path) -> None:
        self.about: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
        tensors = load_file(about.with_suffix(".safetensors"))
        self.parts = {
            part: (tensors[f"{part}.x"].float(), self.targets(tensors[f"{part}.y"]))
            for part in ("train", "valid")
        }
        start = {k.removeprefix("plain."): v for k, v in tensors.items() if k.startswith("plain.")}
        self.network = self.doubled(start)

    @property
    def regression(self) -> bool:
        return bool(self.about["regression"])

    def targets(self, y: Tensor) -> Tensor:
        return y.float()[:, None] if self.regression else y.long()

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(out, y) if self.regression else F.cross_entropy(out, y)

    def doubled(self, start: dict[str, Tensor]) -> nn.Sequential:
        """The plain network, with a logit for each class: the package's losses take two."""
        layers: list[nn.Module] = []
        names = sorted(start, key=lambda name: int(name.split(".")[0]))
        weights = [start[name] for name in names if name.endswith(".weight")]
        biases = [start[name] for name in names if name.endswith(".bias")]
        if not self.regression:
            weights[-1] = torch.cat([-weights[-1] / 2, weights[-1] / 2])
            biases[-1] = torch.cat([-biases[-1] / 2, biases[-1] / 2])
        for weight, bias in zip(weights, biases, strict=True):
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.load_state_dict({"weight": weight, "bias": bias})
            layers += [layer, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def single(self, network: nn.Sequential) -> dict[str, Tensor]:
        """Its weights with one logit, the difference of the two: the same probabilities."""
        state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if not self.regression:
            last = len(network) - 1
            for name in (f"{last}.weight", f"{last}.bias"):
                state[name] = (state[name][1:] - state[name][:1]).contiguous()
        return state

    def people(self) -> SensitiveSubspaceDistance:
        """The distance between people that the package learns from the protected columns."""
        x, protected = self.parts["train"][0], self.about["sensitive"]
        learned = LogisticRegSensitiveSubspace()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a newer scikit-learn would have l1 said otherwise
            basis = learned.compute_basis_vectors_protected_idxs(x, protected)
        # A rare value's regression can be all 0, and columns of one feature add up to 1: the
        # package would divide by 0 there. An orthogonal basis spans the same.
        left, size, _ = torch.linalg.svd(basis.double(), full_matrices=False)
        kept = left[:, size > size[0] * 1e-6].float()
        distance = SensitiveSubspaceDistance()
        distance.fit(kept)
        return distance

    def outputs(self) -> SquaredEuclideanDistance:
        distance = SquaredEuclideanDistance()
        distance.fit(num_dims=1 if self.regression else 2)
        return distance


def train(task: Task, method: str, settings: argparse.Namespace) -> dict[str, Any]:
    """The weights of the best epoch, and how they came about."""
    started = time.perf_counter()
    torch.manual_seed(task.about["seed"])
    np.random.seed(task.about["seed"])  # the package's logistic regressions draw from it
    network, people, outputs = copy.deepcopy(task.network), task.people(), task.outputs()
    steps, rate = settings.steps, settings.rate
    rho, eps = settings.rho, settings.eps
    if method == "SenSR":
        search: Any = SenSRAuditor(task.loss, people, steps, rate)
        trained: Any = SenSR(network, people, task.loss, eps, MULTIPLIER_RATE, FACTOR, steps, rate)
    else:
        search = SenSeIAuditor(people, outputs, steps, rate)
        trained = SenSeI(network, people, outputs, task.loss, rho, eps, steps, rate)

    def look() -> tuple[float, float]:
        x, y = task.parts["valid"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same look at every epoch
            given = (network, x, y) if method == "SenSR" else (network, x)
            worst = search.generate_worst_case_examples(*given, lambda_param=MULTIPLIER)
        with torch.no_grad():
            plain, far = network(x), network(worst)
            loss = float(task.loss(plain, y))
            if method == "SenSR":
                return loss, float(task.loss(far, y))
            return loss, loss + rho * float(outputs(plain, far).mean())

    optimiser = torch.optim.Adam(network.parameters(), lr=task.about["learning_rate"])
    history, best, epoch = [look()], copy.deepcopy(network), 0
    x, y = task.parts["train"]
    trained.train()
    for _ in range(task.about["epochs"]):
        least = min(range(len(history)), key=lambda e: history[e][1])
        if not settings.last and len(history) - 1 - least >= task.about["patience"]:
            break
        for rows in torch.randperm(len(x)).split(task.about["batch_size"]):
            optimiser.zero_grad()
            trained(x[rows], y[rows]).loss.backward()
            optimiser.step()
        history.append(look())
        if not math.isfinite(history[-1][1]):
            raise ValueError(f"expected a finite loss, got {history[-1]} for {task.about['name']}")
        if settings.last or history[-1][1] < history[least][1]:
            epoch = len(history) - 1
            best = copy.deepcopy(network)
    multiplier = trained.lambda_param if method == "SenSR" else trained.lamb
    return {
        "weights": task.single(best),
        "epoch": epoch,
        "history": history,
        "multiplier": float(multiplier),
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="As individual.py exported it.")
    parser.add_argument("--only", default="", help="Only names that have this in them.")
    parser.add_argument("--rate", type=float, default=RATE, help="Of the auditor's steps.")
    parser.add_argument("--steps", type=int, default=STEPS, help="Of the auditor.")
    parser.add_argument("--rho", type=float, default=RHO, help="Of SenSeI.")
    parser.add_argument("--eps", type=float, default=EPS)
    parser.add_argument("--last", action="store_true", help="All epochs, and take the last.")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    for about in sorted(settings.folder.glob("*.plain.json")):
        name = about.name.removesuffix(".plain.json")
        for method in METHODS:
            done = settings.folder / f"{name}-{method}.json"
            if settings.only not in done.stem or done.exists():
                continue
            task = Task(about)
            found = train(task, method, settings)
            save_file(found.pop("weights"), done.with_suffix(".safetensors"))
            found |= {
                "rows": task.about["rows"],
                "settings": {
                    k: getattr(settings, k) for k in ("rate", "steps", "rho", "eps", "last")
                },
                "inFairness": version("inFairness"),
                "torch": version("torch"),
            }
            # written last: a network whose file is not there is trained again
            done.with_suffix(".part").write_text(json.dumps(found), encoding="utf-8")
            done.with_suffix(".part").replace(done)
            print(f"{done.stem}: epoch {found['epoch']}, {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
