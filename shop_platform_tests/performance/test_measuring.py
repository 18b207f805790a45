"""Measuring on the copies: only equal rows and equal answers are timed, and nothing stays behind."""

from __future__ import annotations

import pytest
from psycopg import sql

from shop_platform.errors import MeasurementError
from shop_platform.performance.laboratory import COPY
from shop_platform.performance.measuring import measure_baseline, measure_indexed
from shop_platform.performance.queries import dashboard_queries
from shop_platform.performance.records import SERVER_SETTINGS
from shop_platform.performance.rounds import Rule
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance.conftest import schemas
from shop_platform_tests.performance.examples import INDEXES

QUERIES = dashboard_queries()
SHORT = Rule(warm_ups=0, least=10, most=10, seconds=0)


def test_the_baseline_says_under_which_conditions_it_was_measured(random_shop: PostgresResource) -> None:
    conditions = measure_baseline(random_shop, QUERIES, 60, SHORT)["provenance"]
    with random_shop.connect() as connection:
        settings = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in SERVER_SETTINGS
        }
    assert conditions["settings"] == {name: row[0] for name, row in settings.items() if row}
    assert conditions["rows"] == {"events": 20_000, "products": 20, "users": 500}
    assert conditions["time_zone"] == "UTC"
    assert conditions["one_user_in"] == 1


def test_all_variants_give_the_answer_of_the_baseline(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    indexed = measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    for before, after in zip(baseline["queries"], indexed["queries"], strict=True):
        assert set(after["answers"].values()) == {before["answer"]}
        assert before["rows"] == before["expected_rows"] == after["rows"]
        assert {name: len(times) for name, times in after["times_ms"].items()} == dict.fromkeys(
            ["as_written", "with_indexes", "rewritten", "from_summaries", *(f"only {name}" for name in INDEXES)], 10
        )


def test_a_second_comparison_with_the_same_baseline_makes_its_own_copy(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    again = measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    assert again["provenance"]["fingerprints"] == baseline["provenance"]["fingerprints"]


def test_events_that_change_after_the_baseline_do_not_disturb_a_run(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id <= 10")
    indexed = measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    assert indexed["provenance"]["rows"]["events"] == 20_000
    assert indexed["provenance"]["live_events"] == 19_990


def test_a_baseline_of_other_rows_is_refused_and_no_copy_stays(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    with random_shop.connect() as connection:
        connection.execute("UPDATE products SET price = price + 1 WHERE product_id = 'p1'")
        connection.execute("DROP TABLE lab_copy.events")
    with pytest.raises(MeasurementError, match="can't be compared: fingerprints was"):
        measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    with random_shop.connect() as connection:
        assert schemas(connection) == set()


def test_a_baseline_on_another_server_setting_is_refused(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    with random_shop.connect() as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '5MB'").format(database))
    with pytest.raises(MeasurementError, match=r"settings was .*'5MB'"):
        measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)


def test_a_copy_that_was_never_analysed_is_before_it_is_used_again(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM pg_statistic WHERE starelid = %s::regclass", [f"{COPY}.events"])
    indexed = measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    assert indexed["queries"][0]["variants"]["as_written"]["nodes"] == baseline["queries"][0]["measured"]["nodes"]


def test_a_killed_measurement_leaves_nothing_that_the_next_one_minds(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    with random_shop.connect() as connection:
        connection.execute("CREATE SCHEMA lab_summaries")
        connection.execute(
            "COMMENT ON SCHEMA lab_summaries IS 'Made by shop_platform to measure on; it is dropped and made again.'"
        )
        connection.execute("CREATE TABLE lab_summaries.events (half int)")
    assert measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)["queries"]


def test_times_of_different_answers_are_refused(random_shop: PostgresResource) -> None:
    baseline = measure_baseline(random_shop, QUERIES, 60, SHORT)
    with random_shop.connect() as connection:
        # The copy takes its columns from the live summary table, which here rounds to ten cents.
        connection.execute("ALTER TABLE analytics.category_revenue ALTER COLUMN revenue TYPE numeric(12, 1)")
    with pytest.raises(MeasurementError, match="different answers"):
        measure_indexed(random_shop, QUERIES, baseline, 60, SHORT)
    with random_shop.connect() as connection:
        assert schemas(connection) == set()
