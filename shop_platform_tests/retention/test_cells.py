"""Rates, intervals and the matrix: the pure part of retention."""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shop_platform.pictures import read_facts
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
    assert problems([make_cell(JANUARY, 0, 10, 10, 9), make_cell(JANUARY, 1, 10, 4, 2)], users=10, periods=2) == []


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ([make_cell(JANUARY, 0, 9, 9, 9), make_cell(JANUARY, 1, 9, 9, 9)], "hold 9 users, the shop 10"),
        ([make_cell(JANUARY, 0, 10, 9, 9)], "not one cell of the same size for each week"),
        ([make_cell(JANUARY, 0, 10, 9, 9), make_cell(JANUARY, 1, 9, 9, 9)], "not one cell of the same size"),
        ([Cell(JANUARY, 0, 10, 0, 0, 0.0, 0.0, 0.0)], "not yet known but has a number"),
        ([Cell(JANUARY, 0, 10, 0, None, None, None, 0.5)], "not yet known but has a number"),
        ([Cell(JANUARY, 0, 10, 5, 7, 1.4, 1.0, 1.0)], "active <= observed"),
        ([Cell(JANUARY, 0, 10, 5, None, None, None, None)], "active <= observed"),
        ([Cell(JANUARY, 0, 10, 11, 7, 0.6, 0.5, 0.7)], "active <= observed"),
        ([make_cell(JANUARY, 0, 10, 4, 1), make_cell(JANUARY, 1, 10, 5, 1)], "more users have lived through week 1"),
    ],
)
def test_each_contradiction_is_found(cells: list[Cell], complaint: str) -> None:
    assert any(complaint in found for found in problems(cells, users=10, periods=2))


def picture_of(cohorts: int, *, numbers: bool = True) -> bytes:
    """A picture whose last cohorts are partly, then not at all, observed."""
    months = [dt.date(2020 + n // 12, n % 12 + 1, 1) for n in range(cohorts)]
    cells = [
        make_cell(month, period, 50, max(0, min(50, 10 * (4 * (cohorts - n) - period))), 0)
        for n, month in enumerate(months)
        for period in range(8)
    ]
    return draw_heatmap(cells, "A shop", "Any event.", {"run": "r", "cohorts": str(cohorts)}, numbers=numbers)


@pytest.mark.parametrize("cohorts", [1, 12, 60])
def test_the_picture_is_a_png_with_room_for_every_cohort(cohorts: int) -> None:
    picture = Image.open(io.BytesIO(picture_of(cohorts)))
    assert picture.format == "PNG"
    assert picture.height > 100 + 12 * cohorts


@pytest.mark.parametrize(("cohorts", "numbers"), [(13, True), (60, False)])
def test_a_picture_for_the_metadata_is_small(cohorts: int, numbers: bool) -> None:
    assert len(picture_of(cohorts, numbers=numbers)) < 60_000


def test_the_picture_carries_its_facts() -> None:
    assert read_facts(picture_of(3)) == {"run": "r", "cohorts": "3"}


@pytest.mark.parametrize("spoil", [lambda png: png[: len(png) // 2], lambda _: b"", lambda _: b"GIF89a"])
def test_what_is_no_whole_png_carries_no_facts(spoil: Callable[[bytes], bytes]) -> None:
    assert read_facts(spoil(picture_of(3))) == {}


def test_a_shop_in_which_nothing_is_known_yet_can_be_drawn() -> None:
    cells = [make_cell(JANUARY, period, 5, 0, 0) for period in range(8)]
    assert draw_heatmap(cells, "A shop", "Any event.", {}).startswith(b"\x89PNG")
