"""Batches that are halved where memory runs out: the same answers, and said."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch

import retrofair as rf
from convnets import ConvNet, pictures, trained
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks.layers import readable_layers, representation, running_order
from retrofair.networks.memory import (
    halved,
    joined,
    part_of,
    ran_out,
    rows_of,
    split_rows,
    until_it_fits,
)
from retrofair.networks.outputs import logits

GOAL = rf.Constrained("spd", epsilon=0.05)


def small(most: int) -> ConvNet:
    """The trained network, on a machine of little memory."""
    net = trained()
    net.most = most
    return net


def test_the_same_answers_in_smaller_batches() -> None:
    data, net = pictures(), small(60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = logits(net, data)
    assert torch.allclose(found, logits(trained(), data), atol=1e-5)
    assert [re.findall("going on with ([0-9]+);", str(w.message)) for w in caught] == [
        ["200"],
        ["100"],
        ["50"],
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is known now
        logits(net, data)
        assert torch.allclose(
            representation(net, data, "fc"), representation(trained(), data, "fc"), atol=1e-5
        )


@pytest.mark.parametrize("method", ["threshold", "fair_head", "group_thresholds"])
def test_debiasing_and_audits_go_on(method: str) -> None:
    data, net = pictures(), small(50)
    with pytest.warns(RetrofairWarning, match="out of memory"):
        result = rf.debias(net, data, GOAL, method)
    plain = rf.debias(trained(), data, GOAL, method)
    assert result.after == plain.after
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is known for this network
        audit = rf.audit(net, data)
    assert audit["spd"].value == rf.audit(trained(), data)["spd"].value


@pytest.mark.parametrize("most", [20, 1])
@pytest.mark.parametrize("method", ["random", "lagrangian"])
def test_the_last_layer_alone_in_smaller_batches(method: str, most: int) -> None:
    quick = {
        "random": rf.debiasers.Random(trials=3),
        "lagrangian": rf.debiasers.Lagrangian(epochs=2, steps=3, batch_size=32),
    }
    data, net = pictures(), small(most)
    plain = rf.debias(trained(), data, GOAL, quick[method], head_only=True)
    with pytest.warns(RetrofairWarning, match="out of memory"):
        result = rf.debias(net, data, GOAL, quick[method], head_only=True)
    assert result.after.bias == pytest.approx(plain.after.bias, abs=0.01)
    for one, other in zip(result.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_layers_are_found_with_memory_for_one_row() -> None:
    data, net = pictures(40), small(1)
    with pytest.warns(RetrofairWarning, match="going on with 1"):
        order = running_order(net, data.x[:2], lambda module: module is net.fc)
    assert order == ["fc"]  # it runs once, in however many parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrofairWarning)
        found, wanted = (readable_layers(each, data.x[:3]) for each in (small(1), trained()))
    assert found == wanted


def test_a_method_without_memory_is_not_told_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(rf.debiasers.Random, "__call__", none)
    for head_only in (False, True):
        with pytest.raises(InputError, match="expected memory for random") as error:
            rf.debias(trained(), pictures(), GOAL, "random", head_only=head_only)
        assert ("--head-only" in str(error.value)) is not head_only


def test_a_step_that_failed_drew_nothing() -> None:
    drawn, rows = list[float](), [4]
    averages, generator = torch.zeros(2), torch.Generator().manual_seed(3)

    def work() -> None:
        averages.add_(1)
        drawn.append(float(torch.rand(()) + torch.rand((), generator=generator)))
        if rows[0] > 1:
            raise MemoryError

    until_it_fits(work, lambda: rows.insert(0, rows.pop() // 2), generator, [averages])
    assert len(drawn) == 3
    assert len(set(drawn)) == 1
    assert averages.tolist() == [1, 1]


def test_memory_for_no_row() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetrofairWarning)
        with pytest.raises(InputError, match="expected memory for one row"):
            rf.debias(small(0), pictures(40), GOAL, "threshold")


def test_other_errors_are_no_lack_of_memory() -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        halved(trained(), torch.ones(4, 1), broken)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))
    assert ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not ran_out(RuntimeError("shapes do not fit"))


def test_parts_of_any_x() -> None:
    x = torch.arange(10).reshape(5, 2)
    for whole in (x, (x, x + 1), {"a": x, "b": x + 1}):
        assert rows_of(whole) == 5
        parts = split_rows(whole, 2)
        assert [rows_of(part) for part in parts] == [2, 2, 1]
        again = joined(parts)
        flat = list(again.values()) if isinstance(again, dict) else again
        assert torch.equal(flat if isinstance(flat, torch.Tensor) else flat[0], x)
        chosen = part_of(whole, torch.tensor([4, 0]))
        first = chosen["a"] if isinstance(chosen, dict) else chosen
        first = first[0] if isinstance(first, tuple) else first
        assert first.tolist() == [[8, 9], [0, 1]]
