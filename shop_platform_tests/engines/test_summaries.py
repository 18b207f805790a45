"""Part I on a cluster of Spark gives what PostgreSQL gives, to the row and the cent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from shop_platform.engines.export import bring_up, exclusive, prepare
from shop_platform.engines.lake import Lake
from shop_platform.engines.session import naming_failures
from shop_platform.engines.summaries import direct_answers, estimated_weeks, refresh_summaries
from shop_platform.errors import ModelError, ServiceError
from shop_platform.performance import summaries
from shop_platform.performance.queries import answer, dashboard_queries
from shop_platform.performance.sampling import compare_weeks
from shop_platform.performance.sketches import STANDARD_ERROR, is_estimate_of
from shop_platform.performance.summaries import ANALYTICS, SUMMARIES
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform_tests.engines.cluster import Cluster, killed_in_the_middle
from shop_platform_tests.performance.conftest import RANDOM, TINY

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

SMALL_CHANGES = """
INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES
    ('u1', 'p1', 'purchased', '2025-03-01 00:30+00'), ('u2', 'p2', 'viewed', '2025-03-31 23:59:59.999999+00');
DELETE FROM events WHERE timestamp >= '2025-06-10' AND timestamp < '2025-06-11';
UPDATE events SET timestamp = '2025-07-05 12:00+00'
WHERE event_id = (SELECT min(event_id) FROM events WHERE timestamp >= '2025-06-20' AND timestamp < '2025-06-25');
UPDATE products SET price = price + 0.01 WHERE product_id = 'p3';
"""


def _fill(postgres: PostgresResource, statements: str) -> None:
    with postgres.connect() as connection:
        connection.execute(statements)
    with postgres.connect(autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) users, products, events")


def rows_of(postgres: PostgresResource) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all summaries."""
    with postgres.connect() as connection:
        return {table: sorted(_all(connection, table)) for table in SUMMARIES}


def _all(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(ANALYTICS, table))).fetchall()


def by_postgres(postgres: PostgresResource) -> dict[str, list[tuple[Any, ...]]]:
    """The same, built anew by PostgreSQL."""
    assert summaries.refresh_summaries(postgres, rebuild=True).published
    return rows_of(postgres)


def test_the_dashboards_queries_answer_the_same(spark: SparkSession, lake: Lake, postgres: PostgresResource) -> None:
    _fill(postgres, TINY)
    prepare(postgres, lake)
    with exclusive(postgres), summaries.one_writer(postgres, "10s") as (connection, _):
        manifest = bring_up(postgres, connection, lake)
        connection.execute("SET LOCAL search_path TO public")
        expected = {query.name: answer(connection, query.text) for query in dashboard_queries()}
    assert direct_answers(spark, lake, manifest, dashboard_queries()) == expected
    assert [str(revenue) for _, revenue in expected["revenue_by_category"]] == ["820.19", "5.00"]


@pytest.mark.parametrize("time_zone", ["UTC", pytest.param("Europe/London", marks=pytest.mark.exhaustive)])
def test_summaries_are_those_of_postgres_and_later_changes_too(
    spark: SparkSession,
    lake: Lake,
    postgres: PostgresResource,
    time_zone: str,
) -> None:
    _fill(postgres, RANDOM)
    shop = PostgresResource(time_zone=time_zone)
    spark.conf.set("spark.sql.session.timeZone", time_zone)
    first = refresh_summaries(spark, lake, shop)
    assert first.rebuilt == "there were no summaries"
    assert first.published
    assert first.equal == {"weekly_active_users": True, "revenue_by_category": True}
    found = rows_of(shop)
    assert sum(events for *_, events in found["weekly_activity"]) == 20_000
    assert found == by_postgres(shop)
    refresh_summaries(spark, lake, shop)
    before = lake.manifest()
    with shop.connect() as connection:
        connection.execute(SMALL_CHANGES)
    second = refresh_summaries(spark, lake, shop)
    assert (second.rebuilt, second.published) == (None, True)
    after = lake.manifest()
    assert before is not None
    assert after is not None
    kept = {month for month, part in before.partitions["events"].items() if after.partitions["events"][month] == part}
    assert kept == {f"2025-{month:02}" for month in (1, 2, 4, 5, 8, 9, 10, 11, 12)}
    assert rows_of(shop) == by_postgres(shop)
    third = refresh_summaries(spark, lake, shop)
    assert (third.rebuilt, third.event_changes) == (None, 0)
    unchanged = lake.manifest()
    assert unchanged is not None
    assert unchanged.partitions["events"] == after.partitions["events"]


def test_estimated_users_keep_no_row_for_each_user_and_week_and_follow_changes(
    spark: SparkSession, lake: Lake, postgres: PostgresResource
) -> None:
    _fill(postgres, RANDOM)
    shop = PostgresResource(time_zone="Europe/London")
    spark.conf.set("spark.sql.session.timeZone", "Europe/London")

    def estimated(changes: str = "") -> tuple[str | None, dict[str, list[tuple[Any, ...]]]]:
        with shop.connect() as connection:
            connection.execute(changes)
        done = refresh_summaries(spark, lake, shop, estimated=True)
        assert done.published
        assert done.estimated
        assert done.rows["weekly_activity"] == 0
        return done.rebuilt, rows_of(shop)

    first, found = estimated()
    second, changed = estimated(SMALL_CHANGES)
    assert (first, second) == ("there were no summaries", None)
    for rows in (found, changed):
        assert rows["weekly_activity"] == []
        assert all(estimate for *_, estimate in rows["weekly_active_users"])
    assert changed["weekly_active_users"] != found["weekly_active_users"]
    weeks = compare_weeks(shop, "all", None)
    assert len(weeks) == len(changed["weekly_active_users"]) > 50
    assert all(week.equal and week.estimated for week in weeks)
    assert summaries.refresh_summaries(shop).rebuilt == "active users were estimated"
    exact = rows_of(shop)
    # Of so few users, a sketch still knows each.
    assert [row[:2] for row in changed["weekly_active_users"]] == [row[:2] for row in exact["weekly_active_users"]]
    assert {table: changed[table] for table in SUMMARIES[2:]} == {table: exact[table] for table in SUMMARIES[2:]}
    assert estimated()[0] == "active users were counted"


def test_estimates_of_many_users_are_as_near_as_is_said(spark: SparkSession) -> None:
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.range(800_000).selectExpr(
        "'u' || id % 400000 AS user_id", "timestamp '2025-01-06' + make_dt_interval(7 * (id % 20)) AS timestamp"
    ).createOrReplaceTempView("events")
    estimates = [row[1] for row in estimated_weeks(spark).collect()]
    errors = [estimate / 20_000 - 1 for estimate in estimates]
    assert len(errors) == 20
    assert any(errors)
    assert sum(error**2 for error in errors) / 20 < (2 * STANDARD_ERROR) ** 2
    assert all(is_estimate_of(20_000, estimate) for estimate in estimates)


@pytest.mark.exhaustive
def test_a_worker_that_dies_in_the_middle_changes_no_row(
    cluster: Cluster,
    spark: SparkSession,
    lake: Lake,
    postgres: PostgresResource,
) -> None:
    _fill(postgres, RANDOM)
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    # So many tasks that some are done and some are not when the worker goes.
    spark.conf.set("spark.sql.shuffle.partitions", "120")
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    try:
        with killed_in_the_middle(cluster, spark, tasks=120):
            done = refresh_summaries(spark, lake, postgres)
        assert done.published
        assert rows_of(postgres) == by_postgres(postgres)
    finally:
        spark.conf.set("spark.sql.adaptive.enabled", "true")


def test_what_a_worker_says_of_its_failure_is_told(spark: SparkSession) -> None:
    def fail(_: Iterator[Any]) -> Iterator[Any]:
        raise ModelError("This worker has another model.")

    with (
        pytest.raises(ServiceError, match=r"Spark gave up a job \(This worker has another model\.\)"),
        naming_failures(),
    ):
        spark.range(1).mapInPandas(fail, "id bigint").collect()
