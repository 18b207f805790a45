"""The SQL of `sql/` in Spark's dialect is what it was when it was last looked at: golden files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_platform.engines.translation import translate_file
from shop_platform.retention.definition import Definition

GOLDEN = Path(__file__).parent / "golden"

PLAIN = [
    "queries/weekly_active_users", "queries/revenue_by_category", "indexes/weekly_activity", "indexes/product_sales",
    "retention/recorded_hours",
]  # fmt: skip

DEFINITIONS = {
    "default": Definition(),
    "calendar_months_with_revenue": Definition(
        cohort="quarter", unit="month", periods=4, anchor="calendar", measure="revenue", breakdown="category"
    ),
    "weeks_on_or_after_a_purchase": Definition(
        cohort="week", start="purchased", anchor="cohort", measure="unbounded", minimum=2, breakdown="country",
        week_start="sunday",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_is_translated_as_its_golden_one(name: str) -> None:
    assert translate_file(name) + "\n" == (GOLDEN / f"{Path(name).name}.sql").read_text("utf-8")


@pytest.mark.parametrize("name", DEFINITIONS)
def test_retention_is_translated_with_its_parameters_in_place(name: str) -> None:
    text = translate_file("retention/user_periods", DEFINITIONS[name].parameters())
    assert text + "\n" == (GOLDEN / f"user_periods_{name}.sql").read_text("utf-8")
    assert "%(" not in text
    assert "analytics." not in text
