"""Part II on Spark: the users, the hours and the matrix that PostgreSQL counts, by each definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shop_platform.engines.export import exclusive, prepare
from shop_platform.engines.lake import Lake
from shop_platform.engines.retention import refresh_retention
from shop_platform.resources.postgres import PostgresResource
from shop_platform.retention import summaries
from shop_platform.retention.cells import Counts
from shop_platform.retention.counting import lock_matrix
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import Refreshed, count_from_summaries

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

SHOP = """
SELECT setseed(0.7);
INSERT INTO users (user_id, signup_date, country)
SELECT 'u' || n, timestamptz '2024-02-28 12:00+00' + random() * interval '80 days', CASE n % 4 WHEN 0 THEN 'FR' WHEN 1 THEN 'UK' WHEN 2 THEN '' END
FROM generate_series(1, 200) AS n;
INSERT INTO users (user_id, signup_date) VALUES ('never', 'infinity');
INSERT INTO products (product_id, name, category, price)
SELECT 'p' || n, 'Product ' || n, 'category ' || n % 3, round((1 + 200 * random())::numeric, 2)
FROM generate_series(1, 10) AS n;
INSERT INTO events (user_id, product_id, event_type, timestamp)
SELECT
    'u' || 1 + floor(150 * random()), 'p' || 1 + floor(10 * random()),
    CASE WHEN random() < 0.6 THEN 'viewed' WHEN random() < 0.5 THEN 'add_to_cart' ELSE 'purchased' END,
    timestamptz '2024-02-20' + random() * interval '130 days'
FROM generate_series(1, 3000);
DELETE FROM events WHERE timestamp >= '2024-04-20' AND timestamp < '2024-05-02';
INSERT INTO analytics.user_segments (user_id, segment, confidence, distinct_queries, model)
SELECT 'u' || n, CASE n % 2 WHEN 0 THEN 'even' ELSE 'odd' END, 0.9, 3, 'm' FROM generate_series(1, 100) AS n;
"""  # noqa: E501

DEFINITIONS = [
    Definition(),
    Definition(time_zone="Europe/London", cohort="week", unit="day", periods=20, breakdown="country"),
    Definition(anchor="calendar", unit="month", cohort="quarter", periods=4, measure="revenue", breakdown="category"),
    Definition(anchor="cohort", cohort="week", start="purchased", measure="unbounded", minimum=2, week_start="sunday"),
    Definition(start="viewed", activity="purchased", unit="month", breakdown="segment"),
]


def state_of(postgres: PostgresResource, definition: Definition) -> tuple[list[Any], list[Counts]]:
    """All rows of the summaries, and the matrix made from them."""
    with postgres.connect() as connection:
        rows = [
            connection.execute(statement).fetchall()
            for statement in (
                "SELECT * FROM analytics.retention_users ORDER BY user_id",
                "SELECT * FROM analytics.recorded_hours ORDER BY slot",
                "SELECT * FROM analytics.retention_days ORDER BY 1, 2, 3",
            )
        ]
        connection.execute("SET LOCAL search_path TO public, analytics")
        return rows, count_from_summaries(connection, definition)


def by_spark(spark: SparkSession, lake: Lake, postgres: PostgresResource, definition: Definition) -> Refreshed:
    """Refresh by Spark."""
    spark.conf.set("spark.sql.session.timeZone", definition.time_zone)
    with exclusive(postgres):
        prepare(postgres, lake)
        with postgres.connect() as connection:
            lock_matrix(connection)
            return refresh_retention(spark, lake, postgres, connection, definition)


@pytest.mark.exhaustive
def test_each_definition_counts_the_same_users_hours_and_cells(
    spark: SparkSession, lake: Lake, postgres: PostgresResource
) -> None:
    with postgres.connect() as connection:
        connection.execute(SHOP)
    for definition in DEFINITIONS:
        shop = PostgresResource(time_zone=definition.time_zone)
        assert by_spark(spark, lake, shop, definition).equal
        found = state_of(shop, definition)
        with shop.connect() as connection:
            lock_matrix(connection)
            assert summaries.refresh_retention(connection, definition, rebuild=True).equal
        assert found == state_of(shop, definition), definition
        assert sum(cell.active_users for cell in found[1]) > 50
    assert by_spark(spark, lake, shop, definition).rebuilt is None, "nothing has changed"
