"""Rules as modules decide as the rules do, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrofair.debiasers import rules
from retrofair.debiasers.rules import Argmax, Band, Cut, Flip, Mix, PerGroup
from retrofair.deploy.decisions import Coin, cuts_of, decision_of
from retrofair.deploy.parity import margins
from retrofair.errors import InputError

RULES = [
    Cut(0.5),
    Cut(0.0),
    Cut(1.0),
    Band(0.5, 0.1, (0, 2)),
    Band(0.4, 0.0, ()),
    PerGroup((0.2, 0.5, 0.8)),
    Flip(0.5, (0.9, 0.2, 1.0), (0.0, 0.3, 0.6), seed=3),
    Mix(0.5, (0.3, 0.0, 1.0), (0.5, 0.2, 0.9), seed=4),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_two_classes(rule: rules.Rule) -> None:
    random = np.random.default_rng(0)
    # every threshold itself is among the probabilities
    chance = np.concatenate([random.random(2000), np.repeat(np.linspace(0, 1, 11), 30)])
    group = random.integers(0, 3, len(chance))
    coin = np.where(random.random(len(chance)) < 0.1, 0.3, random.random(len(chance)))
    module = decision_of(rule, 3, randomised=True, kind="torch_export")
    given = torch.from_numpy(group) if rule.needs_group else None
    found = module(torch.from_numpy(chance), given, torch.from_numpy(coin))
    assert found.dtype == torch.int64
    assert (found.numpy() == rule(chance, group, coin)).all()


def test_classes_and_equals() -> None:
    random = np.random.default_rng(0)
    rule = Argmax((0.5, 0.0, -0.25))
    chance = random.integers(-4, 1, (500, 3)) / 4  # many are equal after the offsets
    module = decision_of(rule, 2, randomised=False, kind="onnx")
    assert (module(torch.from_numpy(chance), None, None).numpy() == rule(chance)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(50, 7), (50, 1), (20, 2, 3, 3)])
def test_coins_are_the_same_to_the_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    x[3], x[4] = 0.0, -0.0
    for seed in (0, 1, 2**63 - 1):
        found = Coin(seed, x)(x)
        assert found.numpy().tobytes() == rules.coins(x, seed).tobytes()
    assert found[3] == found[4]


def test_rules_that_cannot_be_exported() -> None:
    for rule in (RULES[-1], RULES[-2]):
        with pytest.raises(InputError, match=r"draws a coin .*format='torch_export'"):
            decision_of(rule, 3, randomised=False, kind="onnx")

    class Oracle:
        kind, seed, needs_group, threshold = "oracle", None, False, 0.5

    with pytest.raises(InputError, match=r"expected a rule of Retrofair to export, got Oracle"):
        decision_of(Oracle(), 3, randomised=True, kind="onnx")  # type: ignore[arg-type]


def test_margins_by_hand() -> None:
    chance, group = np.array([0.3, 0.45, 0.9]), np.array([0, 1, 1])
    assert margins(Cut(0.5), chance, group) == pytest.approx([0.2, 0.05, 0.4])
    assert margins(PerGroup((0.3, 0.5)), chance, group) == pytest.approx([0.0, 0.05, 0.4])
    assert cuts_of(Band(0.5, 0.1, (1,)), 2) == pytest.approx([0.6, 0.4])
    assert margins(Band(0.5, 0.1, (1,)), chance, group) == pytest.approx([0.3, 0.05, 0.5])
    logs = np.log(np.array([0.2, 0.5]) / np.array([0.1, 0.2]))
    table = np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    assert margins(Argmax((0.0, -9.0, 0.0)), table, group[:2]) == pytest.approx(
        [logs[0], np.log(0.5 / 0.2)]
    )
