"""The dashboard's queries: what they answer, in which time zone, and that nothing wrong passes for the same."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from shop_platform.performance.queries import answer, dashboard_queries, expected_rows, rows_fingerprint
from shop_platform.resources.postgres import PostgresResource

QUERIES = {query.name: query for query in dashboard_queries()}


def test_weekly_active_users_are_counted_once_a_week(tiny_shop: PostgresResource) -> None:
    with tiny_shop.connect() as connection:
        rows = answer(connection, QUERIES["weekly_active_users"].text)
    assert rows == [
        (dt.datetime(2024, 12, 30, tzinfo=dt.UTC), 2),
        (dt.datetime(2025, 1, 6, tzinfo=dt.UTC), 1),
        (dt.datetime(2025, 1, 20, tzinfo=dt.UTC), 2),
    ]


def test_weeks_are_cut_in_the_time_zone_of_the_session(tiny_shop: PostgresResource) -> None:
    berlin = PostgresResource(time_zone="Europe/Berlin")
    with berlin.connect() as connection:
        rows = answer(connection, QUERIES["weekly_active_users"].text)
        counted = expected_rows(connection)
    zone = ZoneInfo("Europe/Berlin")
    # Bob's purchase of Sunday 23:30 UTC is one of Monday there.
    assert [(week.astimezone(zone).replace(tzinfo=None), users) for week, users in rows] == [
        (dt.datetime(2024, 12, 30), 1),  # noqa: DTZ001  local midnights are what is asked for
        (dt.datetime(2025, 1, 6), 1),  # noqa: DTZ001
        (dt.datetime(2025, 1, 20), 2),  # noqa: DTZ001
    ]
    assert counted["weekly_active_users"] == 3
    assert tiny_shop.time_zone == "UTC"


def test_revenue_counts_purchases_only_to_the_cent(tiny_shop: PostgresResource) -> None:
    with tiny_shop.connect() as connection:
        rows = answer(connection, QUERIES["revenue_by_category"].text)
    assert rows == [("Home", Decimal("820.19")), ("Sports", Decimal("5.00"))]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_the_expected_rows_are_those_that_the_queries_return(random_shop: PostgresResource, zone: str) -> None:
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE timestamp BETWEEN '2025-03-01' AND '2025-04-15'")
        connection.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        rows = {name: len(answer(connection, query.text)) for name, query in QUERIES.items()}
        assert expected_rows(connection) == rows


def test_every_query_file_says_what_it_answers_its_parameters_and_its_columns() -> None:
    from shop_platform import sqlfiles

    mine = [name for query in QUERIES for name in (query, f"{query}_from_summary")] + ["dashboard_rows", "summary_sums"]
    for name in mine:
        header = sqlfiles.read_sql(f"queries/{name}").header
        assert ":" in header.splitlines()[0]
        assert "Parameters:" in header
        assert "Columns" in header


def test_a_fingerprint_knows_a_changed_digit_order_or_row_from_the_same_moment_elsewhere() -> None:
    noon = dt.datetime(2025, 1, 1, 12, tzinfo=dt.UTC)
    rows = [(noon, Decimal("1.10")), (noon, Decimal("2.00"))]
    elsewhere = [(time.astimezone(ZoneInfo("Asia/Tokyo")), money) for time, money in rows]
    assert rows_fingerprint(rows) == rows_fingerprint(elsewhere)
    changed = [rows[::-1], rows[:1], [(noon, Decimal("1.11")), rows[1]]]
    assert rows_fingerprint(rows) not in {rows_fingerprint(other) for other in changed}
