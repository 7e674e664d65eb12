"""The page of `fairnn`: tables and sentences of hand-made numbers with known answers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from retrofair.studies.fairnn import findings, page, tables
from retrofair.studies.fairnn.cells import CERTIFIED, SWEEP
from retrofair.studies.fairnn.housing import Problem
from retrofair.studies.fairnn.methods import ALGORITHM, BEST, CONSTANT, ONE
from retrofair.studies.fairnn.model import FLAT, TOOTH
from retrofair.studies.fairnn.shown import Setting, Shown

PAPER = Setting(name="fairnn", data="boston", sensitive="B", problem=Problem(), draws=7)
OTHER = Setting(
    name="fairnn",
    data="synthetic",
    sensitive="sex",
    problem=Problem(epsilon=0.1, low=0.0, high=1.0),
    draws=7,
)
USUAL: dict[str, Any] = {
    "model": FLAT,
    "delta_train": 3.0,
    "delta_test": 2.0,
    "draws_train": 12.0,
    "draws_test": 10.0,
    "mse_test": 50.0,
    "constant_mse": 80.0,
    "pairs_train": 300,
    "pairs_test": 40,
    "certified_lower": 9.0,
    "certified_upper": 10.0,
    "certified_gap": 0.01,
    "certified_tier": "solver",
    "certified_stopped": "gap",
}


def runs(method: str, *changes: dict[str, Any], **common: Any) -> pd.DataFrame:
    """One run per fold."""
    rows = [
        {**USUAL, **common, "method": method, "seed": 0, "fold": fold, **change}
        for fold, change in enumerate(changes or ({},))
    ]
    return pd.DataFrame(rows)


def lines(text: str) -> list[list[str]]:
    """A table's cells, the header first."""
    found = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


def line(text: str, **cells: str) -> dict[str, str]:
    """The one row with these cells, by its header."""
    header, *rows = lines(text)
    named = [dict(zip(header, row, strict=True)) for row in rows]
    (found,) = [row for row in named if cells.items() <= row.items()]
    return found


# --- about 60 % -----------------------------------------------------------------------------------


def three(rows: list[float], upper: float = 10.0, **common: Any) -> dict[str, pd.DataFrame]:
    return {
        ALGORITHM: runs(ALGORITHM, *({"delta_test": d} for d in rows), certified_upper=upper),
        BEST: runs(BEST, {"delta_test": 4.0}, {"delta_test": 6.0}),
        ONE: runs(ONE, {}, {}, certified_upper=40.0, **common),
    }


def test_an_improvement_that_holds() -> None:
    text = findings.sixty(three([2.0, 6.0]))
    assert "60 +- 28 % on rows that were not used (50 +- 14 % from taking the best" in text
    assert "On rows it holds. Over the domain it is 75 % (certified). " in text


def test_an_improvement_that_does_not_hold_and_is_less_over_the_domain() -> None:
    text = findings.sixty(three([5.0, 6.0], upper=38.0))
    assert "45 +- 7 % on rows" in text
    assert "On rows it does not hold. Over the domain it is 5 % (certified), less than half" in text


def test_an_improvement_without_similar_test_rows_is_undefined() -> None:
    text = findings.sixty(three([math.nan, math.nan]))
    assert ": undefined on rows that were not used: no similar test rows. Over the domain" in text
    assert "hold" not in text
    assert "nan" not in text
    text = findings.sixty(three([math.nan, 2.0]))
    assert "80 % (1 of 2 defined) % on rows" not in text
    assert "80 (1 of 2 defined) % on rows" in text
    assert "On rows, in the 1 of 2 runs that have similar test rows, it holds." in text


def test_an_improvement_between_open_certificates_is_open() -> None:
    assert "Over the domain it is open." in findings.sixty(three([2.0, 6.0], certified_gap=0.5))


def test_improvements_are_one_minus_the_ratio() -> None:
    done = pd.concat(
        [
            runs(CONSTANT, delta_train=0.0, delta_test=0.0, certified_upper=0.0, mse_test=80.0),
            runs(ONE, certified_upper=40.0, certified_lower=39.0),
            runs("some", {}, {"delta_test": math.nan}),
            runs("wide", certified_gap=0.3),
        ]
    )
    text = tables.improvements(done)
    assert list(line(text, method="some").values()) == [
        FLAT,
        "some",
        "75 +- 0",
        "80 (1 of 2 defined)",
        "75",
        "50.0 +- 0.0",
    ]
    assert line(text, method=ONE)["certified, %"] == "0"
    assert line(text, method="wide")["certified, %"] == "open"
    constant = line(text, method=CONSTANT)
    assert [constant[f"{what}, %"] for what in ("training rows", "test rows", "certified")] == [
        "100"
    ] * 3
    assert constant["MSE, test rows"] == "80.0"
    without = tables.improvements(runs("some"))
    assert line(without, method="some")["certified, %"] == "-"
    # a constant is certified, however open the draw is that it is compared with
    done.loc[done["method"] == ONE, "certified_gap"] = 0.5
    text = tables.improvements(done)
    assert line(text, method=CONSTANT)["certified, %"] == "100"
    assert line(text, method="some")["certified, %"] == "open"


# --- methods --------------------------------------------------------------------------------------


def test_the_row_of_a_method() -> None:
    part = pd.concat(
        [
            runs("a", {"certified_gap": 0.02}, {"mse_test": 90.0, "certified_tier": "float64"}),
            runs(CONSTANT, mse_test=80.0),
        ]
    )
    text = tables.methods(part)
    assert list(line(text, method="a").values()) == [
        "a",
        "2",
        "3.00 +- 0.00",
        "2.00 +- 0.00",
        "9.00 +- 0.00",
        "10.00 +- 0.00",
        "2.0 %",
        "float64/solver",
        "70.0 +- 28.3",
        "1",
    ]
    assert line(text, method=CONSTANT)["runs below the constant's MSE"] == "0"


def told(*frames: pd.DataFrame, setting: Setting = PAPER, shown: Shown | None = None) -> str:
    return "\n".join(findings.findings(shown or Shown({}, {}), pd.concat(frames), setting))


def test_who_is_better_than_the_constant_model() -> None:
    constant = runs(CONSTANT, {}, {}, mse_test=80.0)
    text = told(runs(ALGORITHM, {"mse_test": 300.0}, {"mse_test": 100.0}), constant)
    assert (
        "squared error of 200 +- 141, where the constant model (delta 0) has 80 +- 0: 0 of 2"
        in (text)
    )
    assert "Smaller delta alone is no achievement" in text
    text = told(runs(ALGORITHM, {"mse_test": 79.0}, {"mse_test": 100.0}), constant)
    assert "1 of 2 are better than saying the mean to everybody." in text
    assert "no achievement" not in text


def test_what_was_asked_can_be_read() -> None:
    deep = runs("trained, lambda = 1", {}, {}, model="hidden layers 9, 4")
    other = runs("a", {}, {"certified_stopped": "time", "certified_tier": "float64"})
    other.loc[0, "seed"] = 1
    text = told(other, deep)
    assert "2 folds (one layer: 2 seeds; hidden layers 9, 4: 1 seed); epsilon = 0.3; " in text
    assert "300 +- 0 similar pairs among the training rows, 40 +- 0 among the test rows" in text
    assert "by tier: 3 solver, 1 float64; the time limit ended 1 of 4." in text
    assert "different numbers of pairs: 300 +- 0 similar pairs" in text


@pytest.mark.parametrize("model", [FLAT, "hidden layers 9, 4"])
def test_training_against_everybody_stands_beside_training_on_pairs(model: str) -> None:
    text = told(
        runs("trained, lambda = 0.5", {}, {}, {}, model=model),
        runs("trained, lambda = 0.1", {}, {}, {}, model=model, mse_test=77.0),
        runs(
            "train_individually_fair, lambda = 0.5",
            {"certified_upper": 8.9},
            {"certified_upper": 8.8},
            {"certified_upper": 9.1, "mse_test": 40.0},
            model=model,
            delta_test=1.5,
        ),
        runs("train_individually_fair, lambda = 0.9", model=model),
    )
    assert (
        f"{model}: lambda = 0.5: MSE 46.7 +- 5.8, test rows 1.50 +- 0.00, certified 8.9 +- 0.2 "
        "(pairs of rows: MSE 50.0 +- 0.0, test rows 2.00 +- 0.00, certified 10.0 +- 0.0)."
    ) in text
    assert "certified delta is smaller, by proof, in 2 of 3 runs, its squared error in 1." in text


def test_searches_are_sorted_and_open_certificates_are_intervals() -> None:
    text = told(
        runs(BEST, delta_train=9.0),
        runs("x, equal budget", delta_train=1.0, certified_gap=0.4),
        runs(ALGORITHM, delta_train=5.0),
    )
    assert (
        "x, equal budget 1.00 (certified from 9.0 to 10.0); Algorithm 1 5.00 (certified 10.0); "
        "best of 20 draws 9.00 (certified 10.0)."
    ) in text


# --- figures' tables ------------------------------------------------------------------------------


def sweep(factor: float) -> dict[str, Any]:
    steps = range(len(SWEEP))
    return {
        "sigmoid": [factor * k for k in steps],
        "released": [factor * k + 0.5 for k in steps],
        "pairs": [1000 + k for k in steps],
        "certificates": [
            {"lower": factor * k + 0.1, "upper": factor * k + 0.2} for k in range(len(CERTIFIED))
        ],
        "mse": 300.0,
        "constant_mse": 80.0,
    }


def test_each_epsilon_has_its_own_numbers() -> None:
    text = tables.epsilons(Shown({("sweep", 4): sweep(1.0), ("sweep", 9): sweep(2.0)}, {}))
    found = line(text, draw="seed 9", epsilon="0.3")
    assert list(found.values()) == [
        "seed 9",
        "0.3",
        "1,020",
        "40.00",
        "40.50",
        "4.10",
        "4.20",
        "300",
    ]
    assert line(text, draw="seed 4", epsilon="0.5")["rows"] == "40.00"
    assert line(text, draw="seed 4", epsilon="0.1")["certified: at least"] == "0.10"
    assert line(text, draw=CONSTANT)["MSE"] == "80"


def starts() -> dict[str, Any]:
    return {
        "sigmoid": [30.0, 20.0, 40.0],
        "released": [6.0, 45.0, 6.6],
        "certificates": [{"upper": upper} for upper in (33.0, 36.0, 45.0)],
        "mse": [100.0, 200.0, 300.0],
        "constant_mse": 80.0,
    }


def test_random_draws_are_labelled_by_their_seeds_with_each_ones_best() -> None:
    shown = Shown({("starts", 3): starts(), ("starts", 5): starts()}, {})
    text = tables.draws(shown, PAPER)
    found = list(line(text, **{"": "seed 5, sigmoid"}).values())[1:]
    assert found == ["3", "30.0", "20.0", "40.0", "38.0 (best draw 36.0)", "200 (best draw 200)"]
    found = list(line(text, **{"": "seed 3, released code's sigmoid"}).values())[1:]
    assert found == ["3", "19.2", "6.0", "45.0", "38.0 (best draw 33.0)", "200 (best draw 100)"]
    assert line(text, **{"": CONSTANT})["MSE"] == "80"
    assert "published" in text
    assert "published" not in tables.draws(shown, OTHER)


def trace(seen: list[float], true: list[float], shift: float = 0.0) -> dict[str, Any]:
    return {
        "seen": seen,
        "true": true,
        "mse": [100.0 + shift + k for k in range(len(seen))],
        "lengths": [0.25, 0.5][: len(seen) - 1],
    }


def descent() -> dict[str, Any]:
    fair = trace([10.0, 4.0, 6.0], [11.0, 5.0, 7.0])
    saw = trace([6.0, 5.0, 44.0], [30.0, 20.0, 25.0], 50.0)
    return {
        "constant_mse": 80.0,
        "pairs": {"all": 90, "resampled": 40, "bootstrap": 41},
        "sigmoid": {"draws": 20.0, **dict.fromkeys(("all", "resampled", "bootstrap"), fair)},
        "released": {"draws": 40.0, **dict.fromkeys(("all", "resampled", "bootstrap"), saw)},
        "certificates": {"start": {"upper": 31.0}, "best": {"upper": 29.0}},
        "weights of the released code": {
            "sigmoid": trace([28.0, 8.0], [28.0, 8.0]),
            "released": trace([6.7, 44.9, 44.5], [28.0, 30.0, 31.0]),
        },
    }


def test_what_the_search_sees_is_not_what_is_true() -> None:
    text = tables.seen(Shown({("descent", 0): descent()}, {}))
    rows = lines(text)[1:]
    assert rows[0] == ["sigmoid", "all", "1", "80", "75", "101"]
    assert rows[2] == ["released code's sigmoid", "all", "1", "88", "0", "151"]
    assert rows[-1] == [CONSTANT, "all", "", "100", "100", "80"]


def test_traces_end_before_the_jump_and_have_their_certificates() -> None:
    shown = Shown({("descent", seed): descent() for seed in (2, 4, 6, 8)}, {})
    text = tables.traces(shown, PAPER)
    rows = {(row[0], row[1]): row[2:] for row in lines(text)[1:]}
    assert rows["seed 4, sigmoid", "all"] == [
        "10.00 (true 11.00)",
        "31.0",
        "4.00 (epoch 1; true 5.00)",
        "29.0",
        "none",
        "0.50",
        "100, 101",
    ]
    assert rows["seed 6, released code's sigmoid", "all"][2:] == [
        "5.00 (epoch 1; true 20.00)",
        "",
        "44.00 at epoch 2",
        "0.50",
        "150, 151",
    ]
    assert rows["released weights, released code's sigmoid", "all"][4] == "44.90 at epoch 1"
    assert rows["seed 4, sigmoid", "resampled"][1] == ""
    assert ("seed 8, sigmoid", "all") not in rows
    assert rows[CONSTANT, "all"][-1] == "80"
    other = tables.traces(shown, OTHER)
    assert "published" not in other
    assert "released weights" not in other


# --- the saw, and the setting ---------------------------------------------------------------------


def test_what_speaks_against_the_saw_is_said_too() -> None:
    shown = Shown({("descent", 0): descent(), ("starts", 0): starts()}, {})
    text = "\n".join(findings.findings(shown, pd.DataFrame(), PAPER))
    assert "have delta 6.70 by the released code's sigmoid" in text
    assert "28.00 by the sigmoid" in text
    assert "at most 6.86, the height of a tooth, or at least 38.1" in text
    assert (
        "Of the 4 below that jump, of draws and on the way of searches, 90 % are from 5.2" in text
    )
    assert "jumps at epoch 1, to 44.90, and stays at 44.5 or more" in text
    assert "(6.18 at epoch 7, a jump at epoch 10) is not reproduced" in text
    assert (
        "jumps (to more than 2 times its smallest delta) from 0 of 1 starts with the sigmoid, "
        in (text)
    )
    assert "and from 1 with" in text
    assert "sees a smallest delta of 4.0, which on all rows is 5.0 (MSE 101)" in text
    elsewhere = "\n".join(findings.findings(shown, pd.DataFrame(), OTHER))
    assert "tooth" not in elsewhere


def test_the_head_speaks_of_what_was_asked() -> None:
    text = page.about(OTHER)
    assert f"{TOOTH:.3f} * 1 = {TOOTH:.3g}" in text
    assert "epsilon =\n0.1 under" in text
    assert "column sex is" in text
    assert "Boston" not in text + page.title(OTHER)
    assert "Boston housing" in page.title(PAPER)
    done = runs(ONE)
    assert "mean of the same 7 draws" in "\n".join(page.parts(Shown({}, {}), done, OTHER))


def test_below_a_deep_table_stands_what_happened_there() -> None:
    part = pd.concat([runs(ALGORITHM, delta_train=2.5), runs(BEST, delta_train=2.75)])
    text = page.deep(part)
    assert "from the best draw's delta of 2.75 over the training rows to 2.50." in text
    assert "does not close" not in text
    assert "does not close" in page.deep(runs(ONE, certified_gap=0.6))


def test_a_page_without_similar_test_rows_has_no_nan() -> None:
    names = (CONSTANT, ONE, BEST, ALGORITHM, "trained, lambda = 1")
    nothing = {"delta_test": math.nan, "draws_test": math.nan}
    done = pd.concat([runs(name, nothing, nothing) for name in names])
    text = "\n".join(page.parts(Shown({}, {}), done, PAPER))
    assert "nan" not in text
    assert "undefined on rows that were not used" in text
