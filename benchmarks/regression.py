"""What bounding group losses does on real data: the table in docs/regression.md.

    python benchmarks/regression.py                    some minutes; needs RETROFAIR_DATA

A network per split, of two hidden layers of 32 units, trained with early stopping on the
validation rows; fine-tuned on the training rows with the validation rows to judge by.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import retrofair as rf

SEEDS = 3
WIDTH, EPOCHS, PATIENCE, BATCH, RATE = 32, 500, 40, 64, 1e-3


@dataclass(frozen=True)
class Setting:
    """A data set, its groups and the bounds to ask for; losses are shown in units of `unit`."""

    name: str
    title: str
    sensitive: str
    bounds: tuple[float, ...]
    unit: float = 1.0


SETTINGS = (
    Setting("boston", "Boston, B", "B", (20.0, 14.0, 10.0)),
    Setting("communities", "Communities, race", "race", (0.040, 0.030, 0.025), 0.001),
)


def trained(splits: rf.Splits, seed: int) -> nn.Module:
    """The network of the least squared loss on the validation rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train, valid = splits.train, splits.valid
        net = nn.Sequential(
            nn.Linear(train.x.shape[1], WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, 1),
            nn.Flatten(0),
        )
        with torch.no_grad():
            net[4].bias.fill_(float(train.y.float().mean()))
        optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
        best, least, waited = copy.deepcopy(net.state_dict()), float("inf"), 0
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(train)).split(BATCH):
                optimiser.zero_grad()
                ((net(train.x[rows]) - train.y[rows].float()) ** 2).mean().backward()
                optimiser.step()
            with torch.no_grad():
                now = float(((net(valid.x) - valid.y.float()) ** 2).mean())
            waited += 1
            if now < least:
                best, least, waited = copy.deepcopy(net.state_dict()), now, 0
            if waited >= PATIENCE:
                break
        net.load_state_dict(best)
        return net.eval()


@dataclass(frozen=True)
class Outcome:
    """Of one split: whether the bound was met where it was judged, and the test losses."""

    met: bool
    worst: float
    mean: float


def outcomes(setting: Setting, seed: int) -> dict[float | None, Outcome]:
    """By bound; None is the network before."""
    splits = rf.datasets.load(
        setting.name, sensitive=setting.sensitive, seed=seed, target="regression"
    )
    net = trained(splits, seed)
    before = rf.audit_regression(net, splits.test)
    found: dict[float | None, Outcome] = {
        None: Outcome(False, before.worst_loss.value, before.overall.loss.value)
    }
    for bound in setting.bounds:
        result = rf.bound_group_loss(
            net, splits.train, rf.BoundedGroupLoss(bound), valid=splits.valid, seed=seed
        )
        after = rf.audit_regression(result.model, splits.test)
        met = result.after.worst_loss.value <= bound
        found[bound] = Outcome(met, after.worst_loss.value, after.overall.loss.value)
    return found


def lines(setting: Setting, seeds: int) -> list[str]:
    """The table's lines for one data set."""
    found = [outcomes(setting, seed) for seed in range(seeds)]
    rows = []
    for bound in (None, *setting.bounds):
        each = [one[bound] for one in found]
        worst, mean = (np.mean([getattr(o, name) for o in each]) for name in ("worst", "mean"))
        cells = [setting.title if bound is None else "", "before", "", "", "", ""]
        if bound is not None:
            held = sum(o.worst <= bound for o in each)
            cells[1:3] = [f"{bound / setting.unit:g}", f"{sum(o.met for o in each)} of {seeds}"]
            cells[5] = f"{held} of {seeds}"
        cells[3:5] = [f"{worst / setting.unit:.1f}", f"{mean / setting.unit:.1f}"]
        rows.append("| " + " | ".join(cells).replace("|  |", "| |") + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="splits of each data set")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    print(
        "| data | bound | met on judged rows | test: worst group | test: mean loss | held on test |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for setting in SETTINGS:
        for line in lines(setting, seeds):
            print(line.replace("|  |", "| |"), flush=True)


if __name__ == "__main__":
    main()
