"""Rates, intervals and the matrix: the pure part of retention."""

from __future__ import annotations

import datetime as dt
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shop_platform.retention.cells import Cell, make_cell, matrix, problems, wilson
from shop_platform.retention.heatmap import draw_heatmap

JANUARY, FEBRUARY = dt.date(2025, 1, 1), dt.date(2025, 2, 1)


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
    cell = make_cell(JANUARY, 7, size=10, observed=0, active=0)
    assert (cell.active_users, cell.rate, cell.rate_low, cell.rate_high) == (None, None, None, None)


def test_the_matrix_keeps_cohorts_of_which_nothing_is_known() -> None:
    cells = [make_cell(JANUARY, 0, 10, 10, 9), make_cell(FEBRUARY, 0, 5, 0, 0)]
    rates = matrix(cells, "rate")
    assert rates.shape == (2, 1)
    assert rates.loc[JANUARY, 0] == 0.9
    assert math.isnan(rates.loc[FEBRUARY, 0])


def test_a_right_matrix_has_no_problems() -> None:
    assert problems([make_cell(JANUARY, 0, 10, 10, 9), make_cell(JANUARY, 1, 10, 4, 2)], users=10) == []


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ([make_cell(JANUARY, 0, 9, 9, 9)], "hold 9 users, the shop 10"),
        ([Cell(JANUARY, 0, 10, 0, 0, 0.0, 0.0, 0.0)], "not yet known but has a number"),
        ([Cell(JANUARY, 0, 10, 5, 7, 1.4, 1.0, 1.0)], "active <= observed"),
        ([make_cell(JANUARY, 0, 10, 4, 1), make_cell(JANUARY, 1, 10, 5, 1)], "more users have lived through week 1"),
    ],
)
def test_each_contradiction_is_found(cells: list[Cell], complaint: str) -> None:
    assert any(complaint in found for found in problems(cells, users=10))


@pytest.mark.parametrize("cohorts", [1, 12, 60])
def test_the_picture_is_a_small_png_that_grows_with_the_cohorts(cohorts: int) -> None:
    months = [dt.date(2020 + n // 12, n % 12 + 1, 1) for n in range(cohorts)]
    cells = [make_cell(m, p, 50, 50 if n + p < cohorts + 4 else 0, 20) for n, m in enumerate(months) for p in range(8)]
    png = draw_heatmap(matrix(cells, "rate"), dict.fromkeys(months, 50), "A shop", "Any event.")
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert picture.height > 100 + 12 * cohorts
    assert len(png) < 60_000


def test_a_shop_in_which_nothing_is_known_yet_can_be_drawn() -> None:
    cells = [make_cell(JANUARY, period, 5, 0, 0) for period in range(8)]
    assert draw_heatmap(matrix(cells, "rate"), {JANUARY: 5}, "A shop", "Any event.").startswith(b"\x89PNG")
