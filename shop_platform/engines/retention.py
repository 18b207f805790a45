"""Part II on Spark: who is active in which period, from the copy of the events into PostgreSQL's summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from shop_platform.engines.export import SEGMENTS, bring_up, copy_one
from shop_platform.engines.lake import Lake
from shop_platform.engines.session import naming_failures
from shop_platform.engines.tables import bring_back, read_table
from shop_platform.engines.translation import translate_file
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import Refreshed, rebuild_retention

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_HOURS = ["slot", "events", "first_at", "last_at"]
_USERS = ["user_id", "started_at", "started_on", "breakdown", "active_periods", "revenue", "early_events"]


@naming_failures()
def refresh_retention(
    spark: SparkSession,
    lake: Lake,
    postgres: PostgresResource,
    connection: Connection,
    definition: Definition,
    *,
    rebuild: bool = False,
) -> Refreshed:
    """Count all users by Spark where anything has changed; sums and the matrix are made from them in PostgreSQL.

    Args:
        spark: the session, in the shop's time zone.
        lake: where the copy is.
        postgres: for more connections with the same snapshot.
        connection: in a REPEATABLE READ transaction that holds `counting.lock_matrix`, within `export.exclusive`.
        definition: how retention is counted.
        rebuild: count also where nothing has changed.

    Raises:
        DataError: the break-down is by no column of users, or makes too many groups.
        ServiceError: Spark has given up.
    """

    def fill(connection: Connection, definition: Definition) -> int:
        manifest = bring_up(postgres, connection, lake)
        for table in ("users", "products", "events"):
            read_table(spark, lake, manifest, table)
        hours = spark.sql(translate_file("retention/recorded_hours"))
        bring_back(connection, lake, hours, sql.Identifier("analytics", "recorded_hours"), _HOURS)
        with lake.scratch() as folder:
            file = f"{folder}/segments.parquet"
            copy_one(connection, lake, file, SEGMENTS)
            spark.read.parquet(lake.url(file)).createOrReplaceTempView("user_segments")
            lives = spark.sql(translate_file("retention/user_periods", definition.parameters()))
            return bring_back(connection, lake, lives, sql.Identifier("analytics", "retention_users"), _USERS)

    return rebuild_retention(connection, definition, fill, rebuild=rebuild)
