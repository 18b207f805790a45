"""CSV files that a spreadsheet opens without running anything, and that give back what was published."""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.retention.cells import Cell, Counts, make_cell
from shop_platform.retention.checks import holds_every_cell
from shop_platform.retention.definition import Definition
from shop_platform.retention.spreadsheet import long_csv, matrix_csv

NASTY = [
    '=cmd|" /C calc"!A1',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\r\n=1",
    'a "quoted"; field',
    "Zürich",
    "",
    "(none)",
    "\uff1d1",
]


def cells_of(*groups: str | None) -> list[Cell]:
    return [
        make_cell(Counts(group, dt.date(2025, month, 1), period, 40, 40 * (period < 2), 0, 10, Decimal("12.50")))
        for group in groups
        for month in (1, 2)
        for period in range(3)
    ]


def rows_of(content: bytes) -> list[list[str]]:
    assert content.startswith(b"\xef\xbb\xbf"), "Excel takes a file without a byte order mark for another encoding"
    assert content.count(b"\n") == content.count(b"\r\n")
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@given(group=st.one_of(st.sampled_from(NASTY), st.text(st.characters(blacklist_categories=["Cs"]))))
def test_no_text_is_a_formula_and_none_is_lost(group: str) -> None:
    if "\n" in group.replace("\r\n", "") or "\r" in group.replace("\r\n", ""):
        return  # a line break alone is CSV's own, and is kept inside of quotes
    for content in (
        long_csv(cells_of(group), Definition(periods=3)),
        matrix_csv(cells_of(group), Definition(periods=3)),
    ):
        for row in rows_of(content)[1:]:
            assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
            assert row[0].removeprefix("'") == group.removeprefix("'")


def test_the_long_file_reads_back_as_it_was_published() -> None:
    frame = pd.read_csv(io.BytesIO(long_csv(cells_of(None, "CH"), Definition(periods=3, least_users=41))))
    assert len(frame) == 12
    assert frame.loc[0, "cohort"] == "2025-01-01"
    assert frame.loc[0, "rate"] == 0.25
    assert frame.loc[0, "revenue"] == 12.5
    assert frame.loc[0, "few_users"]
    assert frame.loc[2].isna()[["active_users", "rate", "rate_low", "rate_high", "revenue"]].all()


@pytest.mark.parametrize(("measure", "value"), [("n-period", "0.25"), ("revenue", "0.3125")])
def test_the_matrix_has_cohorts_down_and_periods_across(measure: str, value: str) -> None:
    header, *rows = rows_of(matrix_csv(cells_of(None), Definition(periods=3, measure=measure)))  # type: ignore[arg-type]
    assert header == ["breakdown", "cohort", "users", "week 0", "week 1", "week 2"]
    assert rows == [["", "2025-01-01", "40", value, value, ""], ["", "2025-02-01", "40", value, value, ""]]


def test_a_file_that_lacks_a_cell_or_holds_a_formula_is_noticed() -> None:
    content = long_csv(cells_of(None), Definition(periods=3))
    assert holds_every_cell(content, 6).passed
    assert not holds_every_cell(content, 7).passed
    assert not holds_every_cell(content.replace(b"2025-01-01", b"=2025-01", 1), 6).passed
