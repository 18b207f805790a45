"""Whether cohorts differ: found where they do, and no more often than it should be where they don't."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from scipy import stats

from shop_platform.retention.cells import Cell, Counts, make_cell
from shop_platform.retention.definition import Definition
from shop_platform.retention.differences import LEVEL, differences, sentence


def cells_of(*periods: list[tuple[int, int]], group: str | None = None) -> list[Cell]:
    """Cells of (active, observed) by cohort, for each period."""
    return [
        make_cell(Counts(group, dt.date(2020 + number, 1, 1), period, 10_000, observed, 0, active, None))
        for period, cohorts in enumerate(periods)
        for number, (active, observed) in enumerate(cohorts)
    ]


def test_the_statistic_is_pearsons() -> None:
    (found,) = differences(cells_of([(9, 9)], [(30, 100), (45, 100), (50, 100)]), Definition(periods=2))
    # By hand: 125 of 300 are active; expected 41.67 active and 58.33 inactive in each.
    by_hand = sum((a - 125 / 3) ** 2 / (125 / 3) + (125 / 3 - a) ** 2 / (175 / 3) for a in (30, 45, 50))
    assert found.statistic == pytest.approx(by_hand)
    assert found.p == pytest.approx(stats.chi2.sf(by_hand, 2))
    assert (found.period, found.rows, found.degrees, found.p_adjusted) == (1, 3, 2, found.p)


def test_small_cohorts_and_those_not_observed_are_left_out() -> None:
    rows = [(30, 100), (45, 100), (1, 4), (0, 0)]
    (found,) = differences(cells_of([(1, 1)], rows), Definition(periods=2))
    assert found.rows == 2
    assert differences(cells_of([(1, 1)], [(30, 100), (0, 0)]), Definition(periods=2)) == []
    assert differences(cells_of([(1, 1)], [(0, 100), (0, 100)]), Definition(periods=2)) == []


def test_periods_are_corrected_after_holm() -> None:
    rows = [[(50, 100), (50, 100)], [(30, 100), (50, 100)], [(35, 100), (50, 100)], [(48, 100), (50, 100)]]
    found = differences(cells_of(*rows), Definition(periods=4))
    ps = [each.p for each in found]
    assert [each.period for each in found] == [1, 2, 3]
    assert ps[0] < ps[1] < ps[2]
    assert [each.p_adjusted for each in found] == pytest.approx([3 * ps[0], max(3 * ps[0], 2 * ps[1]), ps[2]])


def test_where_all_are_alike_a_difference_is_told_about_as_often_as_the_level_says() -> None:
    draw = np.random.default_rng(1)
    shops = 600
    told = 0
    for _ in range(shops):
        periods = [[(int(active), 90) for active in draw.binomial(90, share, 12)] for share in (0.9, 0.45, 0.35, 0.3)]
        found = [each.as_record() for each in differences(cells_of(*periods), Definition(periods=4))]
        told += "differ, most" in (sentence(found, "cohorts", "week") or "")
    # Holm holds the probability of any false alarm at 5 %: within 4 standard errors of a binomial.
    assert told / shops <= LEVEL + 4 * (LEVEL * (1 - LEVEL) / shops) ** 0.5
    assert told > 0


def test_groups_that_differ_are_found_and_told() -> None:
    cells = [
        *cells_of([(90, 100)] * 5, [(40, 100)] * 5),
        *cells_of([(45, 50)] * 5, [(10, 50)] * 5, group="a"),
        *cells_of([(45, 50)] * 5, [(30, 50)] * 5, group="b"),
    ]
    found = [each.as_record() for each in differences(cells, Definition(periods=2))]
    assert [each["among"] for each in found] == ["cohorts", "groups"]
    assert sentence(found, "cohorts", "week") == "That the cohorts differ at all can't be shown (p = 1, 5 compared)."
    assert sentence(found, "groups", "week") == "The groups differ, most clearly in week 1 (p < 0.001, 2 compared)."
    assert sentence([], "groups", "week") is None


def test_the_expected_counts_are_those_of_the_cohorts_that_are_compared() -> None:
    # Twenty tiny cohorts are left out; by their share alone would the other two be expected to have 29 active users.
    rows = [(1, 100), (2, 100), *[(4, 4)] * 20]
    assert differences(cells_of([(1, 1)], rows), Definition(periods=2)) == []


def test_where_older_cohorts_have_had_more_time_nothing_is_compared() -> None:
    rows = cells_of([(90, 100), (60, 100)], [(90, 100), (30, 100)])
    assert differences(rows, Definition(periods=2))
    assert differences(rows, Definition(periods=2, measure="unbounded")) == []


def test_where_all_are_alike_p_lies_below_the_level_in_the_share_of_shops_that_the_level_says() -> None:
    draw = np.random.default_rng(2)
    shops = 1_000
    below = 0
    for _ in range(shops):
        rows = [(int(active), 300) for active in draw.binomial(300, 0.4, 12)]
        (found,) = differences(cells_of([(1, 1)], rows), Definition(periods=2))
        below += found.p < LEVEL
    # Both sides: a test that never tells anything is as wrong as one that tells too much.
    assert abs(below / shops - LEVEL) <= 4 * (LEVEL * (1 - LEVEL) / shops) ** 0.5


def test_where_cohorts_are_not_alike_nearly_every_shop_shows_it() -> None:
    draw = np.random.default_rng(3)
    told = 0
    for _ in range(100):
        shares = np.linspace(0.3, 0.5, 12)
        rows = [(int(active), 300) for active in draw.binomial(300, shares)]
        (found,) = differences(cells_of([(1, 1)], rows), Definition(periods=2))
        told += found.p_adjusted < LEVEL
    assert told >= 95
