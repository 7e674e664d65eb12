"""Programs mean the same in any unit, and nothing that is left out makes them smaller."""

from __future__ import annotations

import math

import pytest

from retrofair.certifiers.program import TINY, Program, Term


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e9])
def test_a_program_does_not_depend_on_the_unit(unit: float) -> None:
    program = Program()
    x, y = program.number(0.0, 3 * unit), program.number(-unit, 4 * unit)
    program.row(-math.inf, [(1.0, x), (2.0, y)], 4 * unit)
    assert program.highest(x, 1.0, 5.0) == pytest.approx(3 * unit, rel=1e-5)
    assert program.highest(y, 1.0, 5.0) == pytest.approx(2 * unit, rel=1e-5)
    assert program.highest(y, -1.0, 5.0) == pytest.approx(unit, rel=1e-5)
    total = program.number(-9 * unit, 9 * unit)
    program.equal(total, [(1.0, x), (-1.0, y)])
    assert program.highest(total, 1.0, 5.0) == pytest.approx(4 * unit, rel=1e-5)


def test_a_bound_from_a_program_is_never_below_the_optimum() -> None:
    program = Program()
    x = program.number(0.0, 7.0)
    program.row(-math.inf, [(3.0, x)], 1.0)
    assert program.highest(x, 1.0, 5.0) >= 1 / 3


def test_what_is_too_small_for_the_solver_widens_its_row() -> None:
    program = Program()
    x, z = program.number(0.0, 1.0), program.number(-1.0, 2.0)
    low, factors, high = program.collected(0.0, [(1.0, x), (TINY / 4, z)], 1.0)
    assert list(factors) == [x.variable]
    # z is worth from -1 to 2 of its coefficient
    assert low == pytest.approx(-2 * TINY / 4)
    assert high == pytest.approx(1 + TINY / 4)


def test_constants_and_repeated_variables_are_summed() -> None:
    program = Program()
    x = program.number(0.0, 2.0)
    shifted = Term(x.variable, x.factor, 5.0)
    low, factors, high = program.collected(0.0, [(1.0, shifted), (3.0, x)], 10.0)
    assert factors == {x.variable: 1.0}  # 4 * 2, scaled to 1
    assert (low, high) == (-5.0 / 8.0, 5.0 / 8.0)


def test_a_number_that_is_0_needs_no_variable() -> None:
    program = Program()
    nothing = program.number(0.0, 0.0)
    assert nothing.factor == 0.0
    assert program.highest(nothing, 1.0, 1.0) == 0.0
    assert program.ranges == []


def test_narrowing_is_in_the_numbers_own_unit() -> None:
    program = Program()
    x = program.number(-4.0, 8.0)
    program.narrow(x, -1.0, 2.0)
    assert program.highest(x, 1.0, 5.0) == pytest.approx(2.0, rel=1e-5)
    assert program.highest(x, -1.0, 5.0) == pytest.approx(1.0, rel=1e-5)


def test_without_a_proof_there_is_no_bound() -> None:
    program = Program()
    x = program.number(0.0, 1.0)
    program.row(2.0, [(1.0, x)], math.inf)  # cannot be
    assert program.highest(x, 1.0, 5.0) == math.inf
