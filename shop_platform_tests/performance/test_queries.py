"""The dashboard's queries: what they answer, in which time zone, and that nothing wrong passes for the same."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest

from shop_platform.errors import DataError, SettingsError
from shop_platform.performance.queries import (
    answer,
    dashboard_queries,
    expected_rows,
    measured_queries,
    rows_fingerprint,
)
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

    twins = ("", "_from_summary", "_rewritten")
    mine = [f"{query}{twin}" for query in QUERIES for twin in twins]
    mine += ["dashboard_rows", "summary_sums", "weeks_compared"]
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


def test_the_rewritten_queries_give_the_same_answers(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        for query in QUERIES.values():
            assert query.rewritten is not None
            assert answer(connection, query.rewritten) == answer(connection, query.text)


def test_queries_of_a_folder_come_with_question_parameters_and_twin(tmp_path: Path) -> None:
    (tmp_path / "b.sql").write_text(
        '-- What did they do?\n-- Parameter: user_id = "u1"\n-- Parameter: since = 2025-01-31\n-- Parameter: n = 3\n'
        "SELECT event_id FROM events WHERE user_id = %(user_id)s AND timestamp > %(since)s LIMIT %(n)s"
    )
    (tmp_path / "a.sql").write_text("SELECT 1 AS one")
    (tmp_path / "a_rewritten.sql").write_text("SELECT 2 - 1 AS one;")
    (tmp_path / "notes.txt").write_text("not a query")
    *dashboard, a, b = measured_queries(tmp_path)
    assert dashboard == dashboard_queries()
    assert (a.name, a.question, a.rewritten, dict(a.parameters)) == ("a", "a", "SELECT 2 - 1 AS one;", {})
    assert (b.question, b.rewritten, b.from_summary) == ("What did they do?", None, None)
    assert b.parameters == {"user_id": "u1", "since": dt.date(2025, 1, 31), "n": 3}
    assert len({query.fingerprint for query in (*dashboard, a, b)}) == 4
    (tmp_path / "b.sql").write_text((tmp_path / "b.sql").read_text().replace("u1", "u2"))
    assert measured_queries(tmp_path)[-1].fingerprint != b.fingerprint


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q", "DELETE FROM events", "q.sql: "),
        ("q", "SELECT 1; SELECT 2", "q.sql: "),
        ("q", "SELECT 1; DROP TABLE events", "q.sql: "),
        ("q", "WITH gone AS (DELETE FROM events RETURNING 1) SELECT * FROM gone", "q.sql: "),
        ("q", "SELECT FROM WHERE", "q.sql: "),
        ("q", "SELECT count(*) FROM products JOIN public.events USING (product_id)", "public.events would be read"),
        ("q", "-- Parameter: user_id = u1\nSELECT %(user_id)s", "written as in TOML"),
        ("weekly_active_users", "SELECT 1", "give the file another name"),
    ],
)
def test_a_file_that_can_not_be_measured_is_named_with_the_reason(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / f"{name}.sql").write_text(text)
    with pytest.raises(DataError, match=message):
        measured_queries(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SHOP_QUERIES names"):
        measured_queries(tmp_path / "missing")


def test_an_answer_that_python_can_not_hold_is_named(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        with pytest.raises(DataError, match=r"An answer can't be read.*isfinite"):
            answer(connection, "SELECT 'infinity'::timestamptz")
        with pytest.raises(psycopg.errors.DivisionByZero):
            answer(connection, "SELECT 1 / 0")
