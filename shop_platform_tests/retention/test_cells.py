"""Rates, intervals, pooled rows and the matrix: the pure part of retention."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.retention.cells import Cell, Counts, largest_groups, make_cell, matrix, pool, problems, wilson

JANUARY, FEBRUARY = dt.date(2025, 1, 1), dt.date(2025, 2, 1)


def cell(
    cohort: dt.date, period: int, size: int, observed: int, active: int, unrecorded: int = 0, group: str | None = None
) -> Cell:
    return make_cell(Counts(group, cohort, period, size, observed, unrecorded, active, None))


def test_wilson_gives_the_figures_of_the_literature() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(trials=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_interval_holds_the_rate_and_stays_between_nothing_and_all(trials: int, share: float) -> None:
    successes = math.floor(share * trials)
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(successes, trials)


def test_a_cell_that_nobody_has_lived_through_has_no_number() -> None:
    empty = cell(JANUARY, 7, size=10, observed=0, active=0)
    assert (empty.active_users, empty.rate, empty.rate_low, empty.rate_high) == (None, None, None, None)
    assert empty.revenue_per_user is None


def test_revenue_is_that_of_a_user_observed() -> None:
    found = make_cell(Counts(None, JANUARY, 0, 10, 4, 0, 1, Decimal("9.00")))
    assert (found.rate, found.revenue_per_user) == (0.25, 2.25)


def test_cohorts_are_pooled_by_their_users_and_not_by_their_rates() -> None:
    rows = pool([cell(JANUARY, 0, 100, 100, 10), cell(FEBRUARY, 0, 10, 10, 9), cell(FEBRUARY, 1, 10, 0, 0)])
    assert [(row.period, row.cohorts, row.users_observed, row.active_users) for row in rows] == [
        (0, 2, 110, 19),
        (1, 0, 0, None),
    ]
    assert rows[0].rate == 19 / 110
    assert (rows[0].rate_low, rows[0].rate_high) == wilson(19, 110)
    assert rows[1].rate is None


COUNTS = st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1), st.integers(0, 999)), min_size=1, max_size=8)


@given(counts=COUNTS)
def test_a_pooled_row_is_the_sum_of_its_cells(counts: list[tuple[int, float, int]]) -> None:
    cells = [
        make_cell(
            Counts(None, JANUARY + dt.timedelta(days=n), 0, 50, seen, 0, math.floor(share * seen), Decimal(money))
        )
        for n, (seen, share, money) in enumerate(counts)
    ]
    (row,) = pool(cells)
    known = [each for each in cells if each.users_observed]
    assert row.users_observed == sum(each.users_observed for each in cells)
    assert row.cohorts == len(known)
    if known:
        assert row.active_users == sum(each.active_users or 0 for each in known)
        assert row.revenue == sum(each.revenue or 0 for each in known)


def test_the_matrix_keeps_cohorts_of_which_nothing_is_known() -> None:
    rates = matrix([cell(JANUARY, 0, 10, 10, 9), cell(FEBRUARY, 0, 5, 0, 0)], "rate")
    assert rates.shape == (2, 1)
    assert rates.loc[JANUARY, 0] == 0.9
    assert math.isnan(rates.loc[FEBRUARY, 0])


def test_a_right_matrix_has_no_problems() -> None:
    cells = [
        cell(JANUARY, 0, 10, 10, 9), cell(JANUARY, 1, 10, 0, 0, unrecorded=6), cell(JANUARY, 2, 10, 4, 2),
        cell(JANUARY, 0, 10, 10, 9, group="g"), cell(JANUARY, 1, 10, 0, 0, unrecorded=6, group="g"),
        cell(JANUARY, 2, 10, 4, 2, group="g"),
    ]  # fmt: skip
    assert problems(cells, users=10, periods=3) == []


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ([cell(JANUARY, 0, 9, 9, 9), cell(JANUARY, 1, 9, 9, 9)], "do not hold the 10 users"),
        ([cell(JANUARY, 0, 10, 9, 9)], "not one cell of the same size for each period"),
        ([cell(JANUARY, 0, 10, 9, 9), cell(JANUARY, 1, 9, 9, 9)], "not one cell of the same size"),
        ([Cell(None, JANUARY, 0, 10, 0, 0, 0, 0.0, 0.0, 0.0)], "is not known but has a number"),
        ([Cell(None, JANUARY, 0, 10, 0, 0, None, None, None, 0.5)], "is not known but has a number"),
        ([Cell(None, JANUARY, 0, 10, 0, 0, None, None, None, None, Decimal(0))], "is not known but has a number"),
        ([Cell(None, JANUARY, 0, 10, 5, 0, 7, 1.4, 1.0, 1.0)], "active <= observed"),
        ([Cell(None, JANUARY, 0, 10, 5, 0, None, None, None, None)], "active <= observed"),
        ([Cell(None, JANUARY, 0, 10, 11, 0, 7, 0.6, 0.5, 0.7)], "active <= observed"),
        ([cell(JANUARY, 0, 10, 4, 1), cell(JANUARY, 1, 10, 5, 1)], "more users have lived through period 1"),
        ([cell(JANUARY, 0, 10, 4, 1), cell(JANUARY, 1, 10, 3, 1, unrecorded=2)], "more users have lived through"),
        ([cell(JANUARY, 0, 10, 4, 1, group="g"), cell(JANUARY, 1, 10, 3, 1, group="g")], "do not hold the 10 users"),
        (
            [*(cell(JANUARY, n, 10, 4, 1) for n in (0, 1)), *(cell(JANUARY, n, 9, 4, 1, group="g") for n in (0, 1))],
            "do not make up the whole",
        ),
    ],
)
def test_each_contradiction_is_found(cells: list[Cell], complaint: str) -> None:
    assert any(complaint in found for found in problems(cells, users=10, periods=2))


def test_the_largest_groups_are_those_with_the_most_users() -> None:
    sizes = {"a": 5, "b": 9, "c": 5, None: 50}
    cells = [
        make_cell(Counts(group, cohort, period, size, 0, 0, 0, None))
        for group, size in sizes.items()
        for cohort in (JANUARY, FEBRUARY)
        for period in range(3)
    ]
    assert list(largest_groups(cells, 2).items()) == [("b", 18), ("a", 10)]
    assert largest_groups([], 2) == {}
