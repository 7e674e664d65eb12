"""Decision rules: their edges, their coins, and their way through JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from retrofair.debiasers import rules
from retrofair.debiasers.rules import Band, Cut, Flip, Mix, coins
from retrofair.errors import InputError

RULES: tuple[Any, ...] = (
    Cut(0.25),
    Band(0.5, 0.125, (0, 2)),
    Flip(0.5, (0.9, 1.0, 0.25), (0.0, 0.3, 0.75), seed=2**31 - 1),
    Mix(0.5, (0.0, 1.0, 0.4), (0.2, 0.5, 0.8), seed=7),
)


def test_cut_is_strictly_above() -> None:
    np.testing.assert_array_equal(Cut(0.5)(np.array([0.4, 0.5, 0.6])), [0, 0, 1])


def test_band_includes_its_upper_edge_only() -> None:
    probability = np.array([0.25, 0.3, 0.5, 0.75, 0.8])
    band = Band(0.5, 0.25, (0,))
    np.testing.assert_array_equal(band(probability, np.zeros(5)), [0, 1, 1, 1, 1])
    np.testing.assert_array_equal(band(probability, np.ones(5)), [0, 0, 0, 0, 1])


@given(st.floats(0, 1), st.integers(0, 2))
def test_a_band_without_width_is_a_cut(probability: float, code: int) -> None:
    p, group = np.array([probability]), np.array([code])
    assert Band(0.5, 0.0, (0,))(p, group) == Cut(0.5)(p)


def test_mix_is_positive_at_the_threshold() -> None:
    mix = Mix(0.5, (0.0, 1.0), (0.4, 0.5), seed=0)
    probability, coin = np.array([0.49, 0.5, 0.1, 0.9]), np.array([0.0, 0.0, 0.999, 0.0])
    np.testing.assert_array_equal(mix(probability, np.array([0, 0, 1, 1]), coin), [0, 1, 1, 1])


def test_certain_chances_leave_nothing_to_the_coin() -> None:
    coin = np.array([0.0, 1 - 2.0**-53])
    group, high, low = np.zeros(2, int), np.array([0.9, 0.9]), np.array([0.5, 0.1])
    keep_all, drop_all = Flip(0.5, (1.0,), (0.0,), 0), Flip(0.5, (0.0,), (1.0,), 0)
    np.testing.assert_array_equal(keep_all(high, group, coin), [1, 1])
    np.testing.assert_array_equal(keep_all(low, group, coin), [0, 0])
    np.testing.assert_array_equal(drop_all(high, group, coin), [0, 0])
    np.testing.assert_array_equal(drop_all(low, group, coin), [1, 1])


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_the_chances(seed: int) -> None:
    n, x = 30_000, rows(30_000)
    group = np.arange(n) % 3
    probability = np.where(np.arange(n) % 2 == 0, 0.8, 0.2)
    coin = coins(x, seed)
    flip = Flip(0.5, (0.9, 0.5, 0.05), (0.3, 0.01, 0.6), seed)
    decided = flip(probability, group, coin)
    mix = Mix(0.5, (0.2, 0.5, 0.9), (0.4, 0.6, 0.1), seed)
    mixed = mix(probability, group, coin)
    for code in range(3):
        for high in (True, False):
            cell = (group == code) & ((probability > 0.5) == high)
            chance = flip.keep[code] if high else flip.raise_[code]
            assert stats.binomtest(int(decided[cell].sum()), int(cell.sum()), chance).pvalue > 1e-3
            other = (mix.base[code] >= 0.5) != high
            moved = int((mixed[cell] != high).sum())
            if other:
                assert stats.binomtest(moved, int(cell.sum()), mix.rate[code]).pvalue > 1e-3
            else:
                assert moved == 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_json_round_trip(rule: Any) -> None:
    read = rules.from_dict(json.loads(json.dumps(rules.to_dict(rule))))
    assert read == rule
    assert type(read) is type(rule)
    assert hash(read) == hash(rule)


def test_unreadable_rules() -> None:
    with pytest.raises(
        InputError, match="kind cut, band, flip, mix, per_group, argmax, got 'knife'"
    ):
        rules.from_dict({"kind": "knife"})
    with pytest.raises(InputError, match="got None"):
        rules.from_dict({})
    with pytest.raises(InputError, match="fields of a 'cut' rule"):
        rules.from_dict({"kind": "cut", "edge": 1.0})
    with pytest.raises(InputError, match="fields of a 'band' rule"):
        rules.from_dict({"kind": "band", "threshold": 0.5})


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: rule.kind)
def test_a_missing_group_is_named(rule: Any) -> None:
    assert rule.needs_group
    with pytest.raises(InputError, match=r"expected group codes, got none; use predict\(x, group"):
        rule(np.array([0.5]), None, np.array([0.5]))


# -------------------------------------------------------------------------------------- coins


def tables() -> dict[str, torch.Tensor]:
    """Rows of many kinds, all different."""
    n = 5_000
    number = torch.arange(n)
    bits = (number[:, None] >> torch.arange(13)) & 1
    return {
        "normal": rows(n),
        "counting": number[:, None].float(),
        "one vector": number.float(),
        "doubles": number[:, None].double() / 7,
        "integers": number[:, None],
        "bits as floats": bits.float(),
        "bits": bits.bool(),
        "bytes": bits.to(torch.uint8).reshape(n, 1, 13),
        "halves": rows(n).half(),
        "nearly constant": torch.cat([torch.ones(n, 30), number[:, None] * 1e-6], dim=1),
    }


@pytest.mark.parametrize("kind", tables())
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_coins_are_uniform(kind: str, seed: int) -> None:
    coin = coins(tables()[kind], seed)
    assert coin.shape == (5_000,)
    assert coin.dtype == np.float64
    assert ((coin >= 0) & (coin < 1)).all()
    assert stats.kstest(coin, "uniform").pvalue > 1e-3
    neighbours = stats.pearsonr(coin[:-1], coin[1:])
    assert neighbours.pvalue > 1e-3


@pytest.mark.parametrize("kind", ["normal", "counting", "bits as floats"])
def test_coins_know_neither_the_columns_nor_other_seeds(kind: str) -> None:
    x = tables()[kind]
    coin = coins(x, 0)
    for column in x.reshape(len(x), -1).T:
        assert stats.spearmanr(coin, column.numpy()).pvalue > 1e-3
    for seed in range(1, 6):
        other = coins(x, seed)
        assert abs(stats.pearsonr(coin, other).statistic) < 0.06
        assert not np.isclose(coin, other, atol=1e-9).any()


def test_even_rows_of_zeros_get_other_coins_from_other_seeds() -> None:
    assert len({float(coins(torch.zeros(1, 4), seed)[0]) for seed in range(50)}) == 50


def test_coins_depend_on_the_row_alone() -> None:
    x = rows(200)
    whole = coins(x, 3)
    np.testing.assert_array_equal(coins(x[17:18], 3), whole[17:18])
    np.testing.assert_array_equal(coins(x.flip(0), 3), whole[::-1])
    np.testing.assert_array_equal(coins(x[::2], 3), whole[::2])  # not contiguous
    np.testing.assert_array_equal(coins(x.clone().requires_grad_(), 3), whole)
    assert len(coins(x[:0], 3)) == 0
    np.testing.assert_array_equal(coins(torch.zeros(2, 3), 3), coins(-torch.zeros(2, 3), 3))


def test_every_column_and_its_place_count() -> None:
    x = rows(100)
    for column in range(5):
        changed = x.clone()
        changed[:, column] += 1e-3
        assert (coins(changed, 0) != coins(x, 0)).all()
    assert (coins(x[:, [1, 0, 2, 3, 4]], 0) != coins(x, 0)).all()


def test_coins_of_several_parts() -> None:
    a, b = rows(50, 1), torch.arange(50)[:, None]
    pair = coins((a, b), 0)
    np.testing.assert_array_equal(pair, coins([a, b], 0))
    assert (pair != coins((b, a), 0)).all()
    named = coins({"a": a, "b": b}, 0)
    np.testing.assert_array_equal(named, coins({"b": b, "a": a}, 0))  # the names tell the order


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=8), st.integers(0, 99))
def test_coins_against_a_plain_twin(values: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    state = int(random.integers(2**64, dtype=np.uint64))
    keys = random.integers(2**64, size=len(values), dtype=np.uint64)
    for value, key in zip(values, keys, strict=True):
        word = int.from_bytes((np.float32(value) + np.float32(0)).tobytes(), "little")
        state += word * (int(key) | 1)
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    state ^= state >> 31
    assert coins(torch.tensor([values], dtype=torch.float32), seed)[0] == (state >> 11) / 2**53


def test_coins_of_texts_do_not_depend_on_their_padding() -> None:
    ids = torch.tensor([[5, 7, 9], [4, 2, 6]])
    short = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    padded = {
        "input_ids": torch.cat([ids, torch.full((2, 4), 3)], 1),
        "attention_mask": torch.cat([torch.ones_like(ids), torch.zeros(2, 4, dtype=torch.long)], 1),
    }
    assert rules.coins(short, 1).tolist() == rules.coins(padded, 1).tolist()
    assert rules.coins(short, 1)[0] != rules.coins(short, 1)[1]
