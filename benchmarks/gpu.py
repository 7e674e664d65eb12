"""A GPU: the same results as on the CPU, and random perturbation against a forward pass.

    python benchmarks/gpu.py --page docs/results/gpu.md

Needs a GPU and the package transformers. Networks have random weights: times do not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.debiasers.perturbed import Flat
from retrofair.networks.hugging_face import HuggingFaceNetwork
from retrofair.networks.outputs import evaluating, forward
from retrofair.networks.resident import resident

GOAL = rf.Constrained("spd", epsilon=0.05)
TRIALS = 10
QUICK = (
    rf.debiasers.Threshold(),
    rf.debiasers.GroupThresholds(),
    rf.debiasers.FairHead(),
    rf.debiasers.FairHead(stages="all"),
    rf.debiasers.Random(trials=5),
    rf.debiasers.Layerwise(evaluations=3, layers=2),
    rf.debiasers.Pruning(rounds=3, rows=256),
    rf.debiasers.BiasGradient(looks=2, steps=5, batch_size=128),
    rf.debiasers.Lagrangian(epochs=2, steps=10, batch_size=128),
    rf.debiasers.Lagrangian(epochs=2, steps=10, batch_size=128, micro_rows=32, layers=2),
    rf.debiasers.Lagrangian(epochs=2, steps=10, batch_size=128, mixed=True),
    rf.debiasers.Adversarial(epochs=2, critic_steps=10, actor_steps=10),
    rf.debiasers.Zhang(epochs=2, critic_steps=10, actor_steps=10),
)


def pictures(rows: int, side: int) -> rf.GroupedData:
    """Noise whose brightness tells the label, and whose first channel tells the group."""
    generator = torch.Generator().manual_seed(0)
    group = (torch.rand(rows, generator=generator) < 0.5).long()
    y = (torch.rand(rows, generator=generator) < 0.3 + 0.3 * group).long()
    x = torch.randn(rows, 3, side, side, generator=generator) + 0.4 * y[:, None, None, None]
    x[:, 0] += 0.5 * group[:, None, None]
    return rf.GroupedData(x=x, y=y, group=group, group_names=("a", "b"))


class Tokens:
    """Random token ids of one length, as a dataset of batches."""

    def __init__(self, rows: int, length: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1, 30_000, (rows, length), generator=generator)
        self.group = (torch.rand(rows, generator=generator) < 0.5).long()
        self.y = (torch.rand(rows, generator=generator) < 0.3 + 0.3 * self.group).long()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Any:
        raise NotImplementedError

    def batch(self, index: Tensor) -> Any:
        ids = self.ids[index]
        x = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return x, self.y[index], self.group[index]


def bert() -> nn.Module:
    """BERT-base with random weights."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(num_labels=2)
    return HuggingFaceNetwork(transformers.BertForSequenceClassification(config)).eval()


def timed(work: Callable[[], Any], repeats: int = 3) -> list[float]:
    """Seconds of each repeat, after one to warm up."""
    found = []
    for k in range(repeats + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if k:
            found.append(time.perf_counter() - started)
    return found


def agreement() -> list[str]:
    """Each method on a ResNet-18 at 32 x 32, on the CPU and on the GPU."""
    data = pictures(400, 32)
    start = rf.networks.resnet(18)
    network = rf.networks.train_network(start.to("cuda"), data, data, epochs=3, batch_size=128)
    lines = []
    for method in QUICK:
        results, seconds = [], []
        for device in ("cpu", "cuda"):
            began = time.perf_counter()
            results.append(rf.debias(copy.deepcopy(network).to(device), data, GOAL, method))
            seconds.append(time.perf_counter() - began)
        cpu, gpu = (r.predict_data(data) for r in results)
        unlike = int((cpu != gpu).sum())
        options = ", ".join(
            f"{f.name}={getattr(method, f.name)}"
            for f in dataclasses.fields(method)
            if f.name in ("stages", "micro_rows", "layers", "mixed")
            and getattr(method, f.name) != f.default
        )
        lines.append(
            f"| {method.name} {options} | {unlike} | {results[0].after.objective:.4f} "
            f"| {results[1].after.objective:.4f} | {seconds[0]:.1f} | {seconds[1]:.1f} |"
        )
        print(lines[-1], flush=True)
    return lines


def trial_times(name: str, network: nn.Module, data: Any) -> str:
    """`random` against as many bare forward passes over data that are on the GPU."""
    network = network.to("cuda")
    moved = resident(data, network)

    def bare() -> None:
        with evaluating(network):
            for x, _, _ in moved:
                forward(network, x).cpu()

    one = statistics.median(timed(bare))
    runs = {}
    for trials in (TRIALS, 3 * TRIALS):
        method = rf.debiasers.Random(trials=trials)
        runs[trials] = statistics.median(timed(lambda m=method: rf.debias(network, moved, GOAL, m)))
    each = (runs[3 * TRIALS] - runs[TRIALS]) / (2 * TRIALS)
    memory = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return (
        f"| {name} | {len(data):,} | {one:.3f} | {each:.3f} | {each / one:.2f} "
        f"| {1 / each:.1f} | {runs[TRIALS] / one:.1f} | {memory:.1f} |"
    )


def together() -> list[str]:
    """Trials of the papers' network, one after another and many at once."""
    splits = rf.datasets.load("synthetic", sensitive="sex", n=40_000, seed=0)
    net = rf.networks.train_mlp(splits.train, splits.valid, max_epochs=3)
    lines = []
    rows = splits.valid
    method = rf.debiasers.Random(trials=101)
    found = {}
    for kind in ("cpu", "cuda, one by one", "cuda, together"):
        device = kind.split(",")[0]
        own = Flat.together
        if kind == "cuda, one by one":
            Flat.together = lambda self, data: 1  # type: ignore[method-assign]
        try:
            model = copy.deepcopy(net).to(device)
            seconds = timed(lambda m=model: rf.debias(m, rows, GOAL, method))
            found[kind] = rf.debias(model, rows, GOAL, method).predict_data(rows)
        finally:
            Flat.together = own  # type: ignore[method-assign]
        unlike = int((found[kind] != found["cpu"]).sum())
        lines.append(f"| {kind} | {statistics.median(seconds):.2f} | {unlike} of {len(rows):,} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Everything, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    agreed = agreement()
    speed = []
    for name, network, data in (
        ("ResNet-18, 224 x 224", rf.networks.resnet(18), pictures(2_048, 224)),
        ("ResNet-50, 224 x 224", rf.networks.resnet(50), pictures(2_048, 224)),
        (
            "BERT-base, 128 tokens",
            bert(),
            rf.StreamedData.of(Tokens(2_048, 128), ("a", "b"), batch_rows=256),
        ),
    ):
        speed.append(trial_times(name, network, data))
        print(speed[-1], flush=True)
    many = together()
    text = f"""# On a GPU

{torch.cuda.get_device_name(0)}, torch {torch.__version__}; `python benchmarks/gpu.py`.

## The same results

A ResNet-18 trained for three epochs on 400 generated images of 32 x 32, debiased in quick
settings with the network on the CPU and on the GPU. Methods that train draw dropout and sum
gradients in another order there: their networks differ, their objective hardly.

| method | decisions unlike | objective, CPU | objective, GPU | seconds, CPU | seconds, GPU |
| --- | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(agreed)}

## Random perturbation against the forward pass

Seconds of one bare pass over the rows (float32, data on the GPU), and of one trial: new weights,
the pass, the best threshold. A trial's time is the difference of runs with {3 * TRIALS} and
{TRIALS} trials; the ratio to the pass is to be at most 1.1. *{TRIALS} trials in passes* is a whole
`debias` with start, judging and effects. Memory is the peak, data included. Medians of three.

| network | rows | pass, s | trial, s | ratio | trials per s | {TRIALS} trials in passes | GiB |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(speed)}

## A small network: many trials at once

The papers' network, 101 trials, the whole of `debias`.

| where | seconds | decisions unlike those of the CPU |
| --- | ---: | ---: |
{chr(10).join(many)}
"""
    if options.page is not None:
        options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
