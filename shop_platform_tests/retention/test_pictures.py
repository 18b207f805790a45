"""Heatmap and curves: whole pictures that carry their facts, small enough, of whatever there is to draw."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from decimal import Decimal

import dagster as dg
import pytest
from PIL import Image

from shop_platform.pictures import read_facts
from shop_platform.retention.cells import Cell, Counts, make_cell
from shop_platform.retention.checks import ARE_A_PICTURE, IS_A_PICTURE, is_a_picture
from shop_platform.retention.curves import draw_curves
from shop_platform.retention.definition import Definition
from shop_platform.retention.heatmap import draw_heatmap, row_name


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
