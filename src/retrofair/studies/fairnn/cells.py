"""The cells of `fairnn`: a method on a fold, and what the figures show of all rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.certifiers import Certificate, Domain, certify, certify_curve
from retrofair.data import GroupedData, Splits
from retrofair.errors import unknown
from retrofair.networks.outputs import evaluating
from retrofair.studies.cells import Answer
from retrofair.studies.fairnn.descent import JUMP, best_of, descend, kept
from retrofair.studies.fairnn.housing import Fold, Problem, Rows, everyone
from retrofair.studies.fairnn.methods import Case, Method
from retrofair.studies.fairnn.model import Shape, Squash, released_sigmoid

SQUASHES: dict[str, Squash] = {"sigmoid": torch.sigmoid, "released": released_sigmoid}
SWEEP = tuple(round(0.1 + 0.01 * k, 2) for k in range(41))
CERTIFIED = (0.1, 0.2, 0.3, 0.4, 0.5)
# The weights and the bias that the paper's released code starts from, in the table's order.
RELEASED = (
    *(0.28967165, -0.00571129, 0.54370172, -1.6018582, -0.30212816, 0.41453689, 0.69039547),
    *(-1.52664053, 0.19561402, -1.11727328, -1.07267271, -0.70423767, -1.00198178),
    -1.5274488644536222,
)


@dataclass(frozen=True, eq=False)
class Room:
    """All that the cells need of one split."""

    domain: Domain
    shape: Shape
    case: Case
    test: Rows
    splits: Splits
    problem: Problem

    @classmethod
    def of(cls, splits: Splits, source: Fold, problem: Problem, hidden: Sequence[int]) -> Room:
        """Raises InputError: see `Rows.of`; or no similar rows to train with."""
        domain = everyone(splits, source.sensitive)
        shape = Shape(splits.train.x.shape[1], tuple(hidden), problem.low, problem.high)
        train, valid, test = (
            Rows.of(part, problem, domain) for part in (splits.train, splits.valid, splits.test)
        )
        (name,) = source.sensitive
        if name not in splits.train.feature_names:
            raise unknown("numeric column", name, splits.train.feature_names)
        attribute = splits.train.x[:, splits.train.feature_names.index(name)].double()
        train = train.with_pairs()
        # the certificate speaks of everyone, but training knows only its own rows
        known = Domain.from_data(splits.train, sensitive=[name])
        case = Case(shape, train, valid, attribute, known, problem.distance)
        return cls(domain, shape, case, test, splits, problem)

    def certificate(self, theta: Tensor, seconds: float, certifier: str = "milp") -> Certificate:
        """Of the float32 network, over the whole domain, searched from the training rows."""
        return certify(
            self.shape.network(theta),
            self.domain,
            self.problem.distance,
            self.problem.epsilon,
            method=certifier,
            seconds=seconds,
            outputs="values",
            data=self.splits.train,
        )

    def measured(self, theta: Tensor) -> dict[str, float]:
        """Delta over rows and mean squared error, by part, of the float32 network."""
        network = self.shape.network(theta)
        found: dict[str, float] = {}
        parts = {
            "train": (self.splits.train, self.case.train),
            "valid": (self.splits.valid, self.case.valid),
            "test": (self.splits.test, self.test),
        }
        for part, (data, rows) in parts.items():
            outputs = _answers(network, data)
            found[f"delta_{part}"] = float(rows.delta(outputs))
            found[f"mse_{part}"] = float((outputs - rows.y).square().mean())
        return found


def _answers(network: nn.Module, data: GroupedData) -> Tensor:
    with evaluating(network):
        out: Tensor = network(data.x)
    return out.double()


def shown(found: Certificate) -> dict[str, Any]:
    """A certificate as plain values."""
    names = ("lower", "upper", "gap", "tier", "seconds", "stopped")
    return {name: getattr(found, name) for name in names}


@dataclass(frozen=True)
class FairCell:
    """One method on one fold: the model it chooses, by delta, certificate and error.

    Args:
        hidden: sizes of the model's hidden layers.
        seconds, certifier: the time limit of the certificate, and its method.
        starts: random draws whose mean delta improvements are measured against.
    """

    source: Fold
    problem: Problem
    hidden: tuple[int, ...]
    method: Method
    seed: int
    seconds: float
    starts: int = 20
    certifier: str = "milp"
    kind: ClassVar[str] = "fairnn"

    @property
    def needs(self) -> None:
        return None

    @property
    def label(self) -> str:
        return f"{self.method.name}, hidden layers: {self.hidden or 'none'}"

    def config(self) -> dict[str, Any]:
        method: Any = self.method
        return {
            **_asked(self, "seed", "seconds", "starts", "certifier"),
            "hidden": list(self.hidden),
            "method": type(method).__name__,
            "options": dataclasses.asdict(method),
        }

    def run(self, splits: Splits, network: nn.Module | None = None) -> Answer:
        room = Room.of(splits, self.source, self.problem, self.hidden)
        # every method of a fold begins with the same draws
        theta = self.method(room.case, self._rng())
        rng, score, unseen = self._rng(), room.case.delta(), room.case.delta(rows=room.test)
        draws = [room.shape.draw(rng) for _ in range(self.starts)]
        values = {
            **room.measured(theta),
            "draws_train": float(np.mean([score(draw) for draw in draws])),
            "draws_test": float(np.mean([unseen(draw) for draw in draws])),
            "constant_mse": float((room.test.y - room.case.train.y.mean()).square().mean()),
            "pairs_train": len(room.case.train.first),
            "pairs_test": len(room.test.first),
            "certificate": shown(room.certificate(theta, self.seconds, self.certifier)),
        }
        return Answer(values, {"theta": theta})

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.source.fold or 0])


@dataclass(frozen=True)
class StartsCell:
    """Random draws on all rows (Figures 3 and 4): delta over rows, and certified."""

    source: Fold
    problem: Problem
    seed: int
    starts: int
    seconds: float
    kind: ClassVar[str] = "fairnn_starts"
    label: ClassVar[str] = "random draws"

    @property
    def needs(self) -> None:
        return None

    def config(self) -> dict[str, Any]:
        return _asked(self, "seed", "starts", "seconds")

    def run(self, splits: Splits, network: nn.Module | None = None) -> Answer:
        room = Room.of(splits, self.source, self.problem, ())
        rng = np.random.default_rng(self.seed)
        draws = [room.shape.draw(rng) for _ in range(self.starts)]
        values: dict[str, Any] = {"pairs": len(room.case.train.first)}
        for name, squash in SQUASHES.items():
            values[name] = [room.case.delta(squash)(draw) for draw in draws]
        values["mse"] = [float(room.case.mse(draw, room.case.train)) for draw in draws]
        values["certificates"] = [shown(room.certificate(draw, self.seconds)) for draw in draws]
        values["columns"] = list(splits.train.feature_names)
        values["constant_mse"] = float(room.case.train.y.var(correction=0))
        return Answer(values, {"draws": torch.stack(draws)})


@dataclass(frozen=True)
class SweepCell:
    """Delta of one random draw by epsilon (Figure 2)."""

    source: Fold
    problem: Problem
    seed: int
    seconds: float
    epsilons: tuple[float, ...] = SWEEP
    certified: tuple[float, ...] = CERTIFIED
    kind: ClassVar[str] = "fairnn_sweep"
    label: ClassVar[str] = "epsilon sweep"

    @property
    def needs(self) -> None:
        return None

    def config(self) -> dict[str, Any]:
        # cells without errors, of an earlier version, are other cells
        return {**_asked(self, "seed", "seconds", "epsilons", "certified"), "errors": True}

    def run(self, splits: Splits, network: nn.Module | None = None) -> Answer:
        domain = everyone(splits, self.source.sensitive)
        shape = Shape(splits.train.x.shape[1], (), self.problem.low, self.problem.high)
        theta = shape.draw(np.random.default_rng(self.seed))
        found: dict[str, list[float]] = {name: [] for name in SQUASHES}
        pairs = []
        for epsilon in self.epsilons:
            problem = dataclasses.replace(self.problem, epsilon=epsilon)
            rows = Rows.of(splits.train, problem, domain)
            pairs.append(len(rows.first))
            for name, squash in SQUASHES.items():
                found[name].append(float(rows.delta(shape.outputs(theta, rows.x, squash))))
        curve = certify_curve(
            shape.network(theta),
            domain,
            self.problem.distance,
            self.certified,
            seconds=self.seconds,
            outputs="values",
            data=splits.train,
        )
        certificates = [
            {"lower": low, "upper": high}
            for low, high in zip(curve.lower, curve.upper, strict=True)
        ]
        y = splits.train.y.double()
        errors = {
            "mse": float((shape.outputs(theta, splits.train.x.double()) - y).square().mean()),
            "constant_mse": float(y.var(correction=0)),
        }
        return Answer(
            {**found, **errors, "pairs": pairs, "certificates": certificates}, {"theta": theta}
        )


@dataclass(frozen=True)
class DescentCell:
    """Simulated gradients on all rows, without stopping at a jump (Figure 5).

    Each starts at the best of the draws by its own delta: with the sigmoid, and with the released
    code's; on all rows, on rows resampled by Algorithm 2, and on a plain bootstrap of the same
    size, which says what fewer pairs alone do. What the search with the sigmoid on all rows starts
    from and keeps is certified within `seconds` each.
    """

    source: Fold
    problem: Problem
    seed: int
    starts: int
    epochs: int
    seconds: float
    kind: ClassVar[str] = "fairnn_descent"
    label: ClassVar[str] = "simulated gradient"

    @property
    def needs(self) -> None:
        return None

    def config(self) -> dict[str, Any]:
        return {**_asked(self, "seed", "starts", "epochs", "seconds"), "jump": JUMP}

    def run(self, splits: Splits, network: nn.Module | None = None) -> Answer:
        room = Room.of(splits, self.source, self.problem, ())
        rng = np.random.default_rng(self.seed)
        draws = [room.shape.draw(rng) for _ in range(self.starts)]
        used = {
            "all": room.case.train,
            "resampled": room.case.resampled(rng),
            "bootstrap": room.case.resampled(rng, uniform=True),
        }
        values: dict[str, Any] = {
            "pairs": {name: len(rows.first) for name, rows in used.items()},
            "constant_mse": float(room.case.train.y.var(correction=0)),
        }
        for name, squash in SQUASHES.items():
            score = room.case.delta(squash)
            values[name] = {"draws": float(np.mean([score(draw) for draw in draws]))}
            start = best_of(draws, score)
            for place, rows in used.items():
                values[name][place], steps = self._trace(room, start, squash, rows)
                if (name, place) == ("sigmoid", "all"):
                    best = steps[kept(values[name][place]["seen"])]
                    values["certificates"] = {
                        "start": shown(room.certificate(start, self.seconds)),
                        "best": shown(room.certificate(best, self.seconds)),
                    }
        if self.source.data == "boston":
            start = torch.tensor(RELEASED, dtype=torch.double)
            values["weights of the released code"] = {
                name: self._trace(room, start, squash, room.case.train)[0]
                for name, squash in SQUASHES.items()
            }
        return Answer(values)

    def _trace(
        self, room: Room, start: Tensor, squash: Squash, rows: Rows
    ) -> tuple[dict[str, Any], Sequence[Tensor]]:
        """Scores as the search sees them, and what they are (sigmoid, all rows); all weights."""
        score = room.case.delta(squash, rows.with_pairs())
        slope = room.case.slope(score, rows, squash)
        path = descend(start, score, slope, epochs=self.epochs, jump=math.inf)
        true = room.case.delta()
        found = {
            "seen": list(path.history),
            "true": [true(theta) for theta in path.steps],
            "mse": [float(room.case.mse(theta, room.case.train)) for theta in path.steps],
            "lengths": [
                float((b - a).norm()) for a, b in zip(path.steps, path.steps[1:], strict=False)
            ],
        }
        return found, path.steps


@dataclass(frozen=True)
class LandscapeCell:
    """Delta over a plane of weights: the best draw's w times a factor, and b (Figure 6)."""

    source: Fold
    problem: Problem
    seed: int
    starts: int
    points: int = 121
    kind: ClassVar[str] = "fairnn_landscape"
    label: ClassVar[str] = "landscape"

    @property
    def needs(self) -> None:
        return None

    def config(self) -> dict[str, Any]:
        return _asked(self, "seed", "starts", "points")

    def run(self, splits: Splits, network: nn.Module | None = None) -> Answer:
        room = Room.of(splits, self.source, self.problem, ())
        rng = np.random.default_rng(self.seed)
        start = best_of([room.shape.draw(rng) for _ in range(self.starts)], room.case.delta())
        factors = torch.linspace(0, 2, self.points, dtype=torch.double)
        biases = torch.linspace(-8, 8, self.points, dtype=torch.double)
        found = {name: torch.empty(self.points, self.points) for name in (*SQUASHES, "mse")}
        for i, factor in enumerate(factors):
            for j, bias in enumerate(biases):
                theta = torch.cat([factor * start[:-1], bias[None]])
                for name, squash in SQUASHES.items():
                    found[name][i, j] = room.case.delta(squash)(theta)
                found["mse"][i, j] = room.case.mse(theta, room.case.train)
        return Answer(
            {"bias": float(start[-1]), "score": room.case.delta()(start)},
            {**found, "factors": factors, "biases": biases},
        )


def _asked(cell: Any, *names: str) -> dict[str, Any]:
    """A cell's configuration: its rows, its question, and plain fields."""
    return {
        "source": cell.source.to_dict(),
        "problem": dataclasses.asdict(cell.problem),
        **{name: getattr(cell, name) for name in names},
    }
