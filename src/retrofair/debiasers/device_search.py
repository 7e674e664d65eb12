"""Threshold selection where the scores are: of many vectors at once, on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrofair.errors import InputError
from retrofair.objective import Objective
from retrofair.thresholds import Choice, ThresholdSearch, between

NUMBERS = 2**25  # of counts that are held at once


class DeviceSearch:
    """`ThresholdSearch.best` of many vectors that are on a device: the same choices, but for
    rounding between two that are alike.

    Sorting, counting and the objective stay there; of each vector only the choice comes back.

    Args:
        search: over the same rows; not of a measure that is a function of the caller's (`slow`).
    """

    def __init__(self, search: ThresholdSearch, device: torch.device) -> None:
        self.objective: Objective = search.objective
        self.cells = 2 * search.n_groups
        self.code = torch.from_numpy(search.code.astype("int64")).to(device)
        self.total = torch.from_numpy(search.total).to(device)

    def best_of(self, chances: Tensor) -> list[Choice]:
        """The best threshold of each of (K, n) float64 probabilities in [0, 1], n >= 1.

        Raises:
            InputError: values outside [0, 1].
        """
        together = max(1, NUMBERS // (self.cells * chances.shape[1]))
        return [choice for part in chances.split(together) for choice in self._best_of(part)]

    @torch.inference_mode()
    def _best_of(self, chances: Tensor) -> list[Choice]:
        trials, n = chances.shape
        score, order = chances.sort(dim=1, descending=True)
        inside = (score[:, -1] >= 0) & (score[:, 0] <= 1)  # nan comes first, and is not <= 1
        if not bool(inside.all()):
            high, low = (float(score[~inside][0, end]) for end in (0, -1))
            raise InputError(f"expected finite probabilities in [0, 1], got {low} to {high}")
        kinds = torch.arange(self.cells, device=chances.device)[:, None]
        above = (self.code[order][:, None] == kinds).cumsum(2, dtype=torch.float64)
        above = torch.nn.functional.pad(above, (1, 0))  # (K, 2G, n + 1): nobody first
        counts = self._counts(above.movedim(1, 2))
        ranks: Any = self.objective.rank(counts)  # type: ignore[arg-type]
        # a cut is before all rows of one score, and not after those of score 0
        cut = torch.ones(trials, n + 1, dtype=torch.bool, device=chances.device)
        cut[:, 1:-1] = score[:, :-1] > score[:, 1:]
        cut[:, -1] = score[:, -1] > 0
        ranks = torch.where(cut, ranks, -torch.inf)
        place = ranks.argmax(1)
        each = torch.arange(trials, device=chances.device)
        ends = torch.stack([score[each, (place - 1).clamp(0)], score[each, place.clamp(max=n - 1)]])
        return [
            Choice(_threshold(k, n, high, low), found, rank)
            for k, (high, low), found, rank in zip(
                place.tolist(),
                ends.T.tolist(),
                counts[each, place].cpu().numpy().astype("int64"),
                ranks[each, place].tolist(),
                strict=True,
            )
        ]

    def _counts(self, above: Tensor) -> Tensor:
        """(..., G, 2, 2) from the (..., 2G) numbers of rows above a cut."""
        both = torch.stack([self.total - above, above], -1)
        counts: Tensor = both.unflatten(-2, (-1, 2))
        return counts


def _threshold(cut: int, n: int, high: float, low: float) -> float:
    if cut in (0, n):
        return 0.0 if cut else 1.0
    return between(low, high)
