"""How many copies of a network a debiasing holds at its peak: measured, and planned for 7 billion.

python benchmarks/memory.py --page docs/results/memory.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import retrofair as rf

WIDTH = 6_000
ROWS = 256
GOAL = rf.Constrained("spd", epsilon=0.05)
D = rf.debiasers
CASES: dict[str, Callable[[nn.Module, rf.GroupedData], Any]] = {
    "nothing": lambda net, data: None,
    "audit": lambda net, data: rf.audit(net, data),
    "threshold, group_thresholds and other post-processing": lambda net, data: rf.debias(
        net, data, GOAL, "threshold"
    ),
    "fair_head": lambda net, data: rf.debias(net, data, GOAL, D.FairHead(inputs=False)),
    "random, 5 trials": lambda net, data: rf.debias(net, data, GOAL, D.Random(trials=5)),
    "zhang, head_only": lambda net, data: rf.debias(
        net, data, GOAL, D.Zhang(epochs=2, critic_steps=5, actor_steps=5), head_only=True
    ),
    "layerwise, last layer": lambda net, data: rf.debias(
        net, data, GOAL, D.Layerwise(evaluations=5, layers=1)
    ),
    "lagrangian, last layer": lambda net, data: rf.debias(
        net, data, GOAL, D.Lagrangian(epochs=2, steps=2, batch_size=32, layers=1)
    ),
    "lagrangian, all layers": lambda net, data: rf.debias(
        net, data, GOAL, D.Lagrangian(epochs=2, steps=2, batch_size=32)
    ),
}


def peak(case: str, queue: Any) -> None:
    """The peak of a process that does one thing, in bytes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(20, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 1),
    ).eval()
    x = torch.randn(ROWS, 20)
    group = (torch.arange(ROWS) % 2).long()
    y = ((x[:, 0] + 0.5 * group) > 0).long()
    data = rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))
    rf.debias(nn.Sequential(nn.Linear(20, 1)), data, GOAL, "fair_head")  # imports, and their heap
    CASES[case](net, data)
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, size))


def main() -> None:
    """One process per case, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    lines, floor = [], 0
    for case in CASES:
        queue = context.Queue()
        process = context.Process(target=peak, args=(case, queue))
        process.start()
        most, size = queue.get()
        process.join()
        floor = floor or most - size
        lines.append(f"| {case} | {(most - floor) / size:.1f} |")
        print(lines[-1], flush=True)
    if options.page is not None:
        table = "\n".join(["| what | copies of the weights |", "| --- | ---: |", *lines])
        text = options.page.read_text(encoding="utf-8")
        before, _, rest = text.partition("| what | copies of the weights |")
        after = rest.partition("\n\n")[2]
        options.page.write_text(f"{before}{table}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
