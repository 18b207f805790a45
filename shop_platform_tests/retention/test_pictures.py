"""Heatmap and curves: whole pictures that carry their facts, small enough, of whatever there is to draw."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shop_platform.pictures import read_facts
from shop_platform.retention.cells import Cell, Counts, make_cell
from shop_platform.retention.checks import ARE_A_PICTURE, IS_A_PICTURE, is_a_picture
from shop_platform.retention.curves import SPACING, apart, axis_top, draw_curves
from shop_platform.retention.definition import Definition
from shop_platform.retention.heatmap import draw_heatmap, row_name, top_of_scale


def cells_of(cohorts: int, periods: int = 8, groups: tuple[str | None, ...] = (None,)) -> list[Cell]:
    """Cohorts of which the last are partly, then not at all, observed; the shop was silent once."""
    months = [dt.date(2020 + n // 12, n % 12 + 1, 1) for n in range(cohorts)]
    return [
        make_cell(
            Counts(
                group,
                month,
                period,
                50,
                0 if n + period == 3 else max(0, min(50, 10 * (4 * (cohorts - n) - period))),
                50 if n + period == 3 else 0,
                0,
                Decimal(3),
            )
        )
        for group in groups
        for n, month in enumerate(months)
        for period in range(periods)
    ]


def heatmap_of(cohorts: int, *, numbers: bool = True) -> bytes:
    facts = {"run": "r", "cohorts": str(cohorts)}
    return draw_heatmap(cells_of(cohorts), Definition(), "A shop", "The data end.", facts, numbers=numbers)


@pytest.mark.parametrize("cohorts", [1, 12, 60])
def test_the_heatmap_is_a_png_with_room_for_every_cohort(cohorts: int) -> None:
    picture = Image.open(io.BytesIO(heatmap_of(cohorts)))
    assert picture.format == "PNG"
    assert picture.height > 100 + 12 * cohorts


@pytest.mark.parametrize(("cohorts", "numbers"), [(13, True), (60, False)])
def test_a_picture_for_the_metadata_is_small(cohorts: int, numbers: bool) -> None:
    assert len(heatmap_of(cohorts, numbers=numbers)) < 60_000


@pytest.mark.parametrize(
    "definition",
    [
        Definition(measure="revenue", unit="day", periods=60, anchor="cohort"),
        Definition(cohort="quarter", unit="month", periods=13, start="purchased", anchor="calendar"),
        Definition(cohort="week", unit="week", periods=1, measure="unbounded", minimum=3),
        Definition(cohort="day", periods=3, breakdown="country"),
    ],
)
def test_every_definition_can_be_drawn(definition: Definition) -> None:
    groups = (None, *(f"group {n}" for n in range(12))) if definition.breakdown else (None,)
    cells = cells_of(5, definition.periods, groups)
    whole = [cell for cell in cells if cell.breakdown is None]
    assert draw_heatmap(whole, definition, "A shop", "", {}, currency="EUR").startswith(b"\x89PNG")
    assert read_facts(draw_curves(cells, definition, "A shop", "", {"run": "r"}, currency="EUR")) == {"run": "r"}


def test_a_shop_in_which_nothing_is_known_yet_can_be_drawn() -> None:
    cells = [make_cell(Counts(None, dt.date(2025, 1, 1), period, 5, 0, 0, 0, None)) for period in range(8)]
    assert draw_heatmap(cells, Definition(), "A shop", "", {}).startswith(b"\x89PNG")
    assert draw_curves(cells, Definition(), "A shop", "", {}).startswith(b"\x89PNG")


def test_the_picture_carries_its_facts() -> None:
    assert read_facts(heatmap_of(3)) == {"run": "r", "cohorts": "3"}


@pytest.mark.parametrize("spoil", [lambda png: png[: len(png) // 2], lambda _: b"", lambda _: b"GIF89a"])
def test_what_is_no_whole_png_carries_no_facts(spoil: Callable[[bytes], bytes]) -> None:
    assert read_facts(spoil(heatmap_of(3))) == {}


@pytest.mark.parametrize("spec", [IS_A_PICTURE, ARE_A_PICTURE])
def test_a_picture_that_is_not_of_this_run_or_lacks_a_cohort_is_noticed(spec: dg.AssetCheckSpec) -> None:
    facts = {"run": "this", "cohorts": "12"}
    assert is_a_picture(spec, facts, "this", 12).passed
    for run_id, cohorts in [("that", 12), ("this", 13)]:
        assert not is_a_picture(spec, facts, run_id, cohorts).passed
    assert not is_a_picture(spec, {}, "this", 12).passed


@pytest.mark.parametrize(
    ("cohort", "name"),
    [("day", "2025-05-01"), ("week", "from 2025-05-01"), ("month", "May 2025"), ("quarter", "2025 Q2")],
)
def test_a_row_is_called_what_people_call_the_cohort(cohort: str, name: str) -> None:
    assert row_name(dt.date(2025, 5, 1), Definition(cohort=cohort)) == name  # type: ignore[arg-type]


def cell_of(period: int, active: int, observed: int) -> Cell:
    return make_cell(Counts(None, dt.date(2025, 1, 1), period, 1_000, observed, 0, active, None))


def test_colours_end_at_the_largest_later_value_that_is_no_chance_of_few_users() -> None:
    cells = [cell_of(0, 99, 100), cell_of(1, 40, 100), cell_of(2, 3, 3)]
    assert top_of_scale(cells, "rate", Definition()) == 0.4
    assert top_of_scale(cells, "rate", Definition(least_users=1)) == 1
    assert top_of_scale([cell_of(0, 1, 4)], "rate", Definition()) == 0.25
    assert top_of_scale([cell_of(1, 0, 100)], "rate", Definition()) == 1


def test_the_colours_of_the_scale_survive_the_smaller_file() -> None:
    import matplotlib as mpl
    import numpy as np

    cells = [
        make_cell(Counts(None, dt.date(2020 + row, 1, 1), period, 100, 100, 0, 5 * ((row + period) % 10), None))
        for row in range(12)
        for period in range(8)
    ]
    pixels = np.asarray(Image.open(io.BytesIO(draw_heatmap(cells, Definition(), "A shop", "", {}))).convert("RGB"))
    kept = np.unique(pixels.reshape(-1, 3), axis=0).astype(int)
    for colour in 255 * mpl.colormaps["YlGnBu"].resampled(20)(range(20))[:, :3]:
        assert np.linalg.norm(kept - colour, axis=1).min() < 10


@given(st.lists(st.floats(0, 1), max_size=8))
def test_names_of_lines_stay_beside_the_axis_and_do_not_overlap(wished: list[float]) -> None:
    places = apart(sorted(wished))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert all(later - earlier >= SPACING - 1e-9 for earlier, later in pairwise(places))


def test_names_that_have_room_stand_at_the_ends_of_their_lines() -> None:
    assert apart([0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9])
    assert apart([0.2, 0.2, 0.9]) == pytest.approx([0.2 - SPACING / 2, 0.2 + SPACING / 2, 0.9])


def test_period_0_does_not_press_the_others_flat() -> None:
    assert axis_top(first=0.98, later=0.4) == pytest.approx(0.432)
    assert axis_top(first=0.5, later=0.4) == pytest.approx(0.54)
    assert axis_top(first=0.98, later=0) == pytest.approx(0.98 * 1.08)
    assert axis_top(first=0, later=0) == 1
