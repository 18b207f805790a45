"""Part I on Spark: the daily and weekly summaries, from the copy of the events into PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psycopg import sql

from shop_platform.changes import mark_consumed
from shop_platform.engines.export import bring_up, exclusive, prepare
from shop_platform.engines.lake import Lake, Manifest
from shop_platform.engines.session import naming_failures
from shop_platform.engines.tables import bring_back, read_table
from shop_platform.engines.translation import translate, translate_file
from shop_platform.performance.queries import DashboardQuery, answer, dashboard_queries, rows_fingerprint
from shop_platform.performance.sketches import LOG2_BUCKETS
from shop_platform.performance.summaries import (
    CONSUMER,
    Refresh,
    counts,
    fill_summary,
    one_number,
    one_writer,
    reason_to_rebuild,
    vacuum,
)
from shop_platform.resources.postgres import Connection, PostgresResource

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Summaries that Spark counts from the events, by their files in `sql/indexes/`, and their columns.
COUNTED = {"weekly_activity": ["week", "user_id", "events"], "product_sales": ["day", "product_id", "purchases"]}

_WEEK = dt.timedelta(days=7)


@naming_failures()
def refresh_summaries(
    spark: SparkSession, lake: Lake, postgres: PostgresResource, *, rebuild: bool = False, estimated: bool = False
) -> Refresh:
    """What `performance.summaries.refresh_summaries` does, with the events counted by Spark.

    Weeks in which events came, went or changed are counted anew, and their days with them, from the months that hold
    them; the log of changes says which weeks these are. What is made from the summaries alone stays PostgreSQL's.

    Args:
        spark: the session, in the shop's time zone.
        lake: where the copy is.
        postgres: the shop's database.
        rebuild: build anew whatever has changed.
        estimated: estimate active users, without a row for each user and week; `performance/sketches.py` says how good
            that is.

    Raises:
        BusyError: another run has been copying for too long.
        DataError: another refresh has held the tables for too long, or the copy is damaged.
        ServiceError: Spark has given up.
    """
    with exclusive(postgres):
        prepare(postgres, lake)
        with one_writer(postgres, "60s") as (connection, state):
            manifest = bring_up(postgres, connection, lake)
            reason = "asked for" if rebuild else reason_to_rebuild(connection, share=1.0, estimated=estimated)
            weeks = None if reason else _touched_weeks(connection)
            changes = one_number(connection, "SELECT count(*) FROM ops.event_log WHERE sign <> 0")
            connection.execute("DELETE FROM ops.event_log; DELETE FROM ops.product_log")
            if weeks is None or weeks:
                _count_weeks(spark, lake, manifest, connection, weeks, estimated)
            fill_summary(connection, "category_revenue")
            fill_summary(connection, "category_totals")
            done = _judge(spark, lake, manifest, connection, reason, 0 if reason else changes, estimated)
            if done.published:
                mark_consumed(connection, CONSUMER, state)
            else:
                connection.rollback()
    if done.published:
        vacuum(postgres, done)
    return done


def _touched_weeks(connection: Connection) -> list[dt.datetime]:
    rows = connection.execute("SELECT DISTINCT date_trunc('week', timestamp) FROM ops.event_log ORDER BY 1")
    return [row[0] for row in rows]


def _months_of(weeks: Sequence[dt.datetime]) -> set[str]:
    """Months in UTC that hold a moment of the weeks; a week by the shop's clock may last an hour more."""
    ends = [week + extra for week in weeks for extra in (dt.timedelta(0), _WEEK + dt.timedelta(hours=3))]
    return {f"{end.astimezone(dt.UTC):%Y-%m}" for end in ends}


def _count_weeks(
    spark: SparkSession,
    lake: Lake,
    manifest: Manifest,
    connection: Connection,
    weeks: Sequence[dt.datetime] | None,
    estimated: bool,
) -> None:
    """Count weeks, all where None, into `weekly_activity`, `weekly_active_users` and `product_sales`.

    Where active users are estimated, nothing goes into `weekly_activity`.
    """
    events = read_table(spark, lake, manifest, "events", None if weeks is None else _months_of(weeks))
    if weeks is None:
        connection.execute("DELETE FROM weekly_activity; DELETE FROM weekly_active_users; DELETE FROM product_sales")
        connection.execute("DELETE FROM ops.summary_basis")
        connection.execute("INSERT INTO ops.summary_basis (time_zone) VALUES (current_setting('TimeZone'))")
    else:
        from pyspark.sql import functions

        events.where(functions.date_trunc("week", "timestamp").isin(list(weeks))).createOrReplaceTempView("events")
        connection.execute("DELETE FROM weekly_activity WHERE week = ANY(%s)", [weeks])
        connection.execute("DELETE FROM weekly_active_users WHERE week = ANY(%s)", [weeks])
        connection.execute(
            "DELETE FROM product_sales USING unnest(%s::timestamptz[]) AS week"
            " WHERE day >= week::date AND day < week::date + 7",
            [weeks],
        )

    def count(table: str) -> None:
        counted = spark.sql(translate_file(f"indexes/{table}"))
        bring_back(connection, lake, counted, sql.Identifier("analytics", table), COUNTED[table])

    count("product_sales")
    if estimated:
        users, columns = sql.Identifier("analytics", "weekly_active_users"), ["week", "active_users", "estimated"]
        bring_back(connection, lake, estimated_weeks(spark), users, columns)
    else:
        count("weekly_activity")
        connection.execute(
            "INSERT INTO weekly_active_users (week, active_users) SELECT week, count(*) FROM weekly_activity"
            " WHERE %(weeks)s::timestamptz[] IS NULL OR week = ANY(%(weeks)s) GROUP BY week",
            {"weeks": weeks},
        )


def estimated_weeks(spark: SparkSession) -> DataFrame:
    """Active users by week, estimated. The SQL of `sql/` has no sketches, since PostgreSQL has none."""
    from pyspark.sql import functions

    week, users = functions.date_trunc("week", "timestamp"), functions.hll_sketch_agg("user_id", LOG2_BUCKETS)
    return spark.table("events").groupBy(week).agg(functions.hll_sketch_estimate(users), functions.lit(True))


def direct_answers(
    spark: SparkSession, lake: Lake, manifest: Manifest, queries: Sequence[DashboardQuery]
) -> dict[str, list[tuple[Any, ...]]]:
    """Queries as written, by Spark from all of the copy; rows as psycopg gives them."""
    for table in ("events", "products"):
        read_table(spark, lake, manifest, table)
    zone = spark.conf.get("spark.sql.session.timeZone")
    return {query.name: rows_of(spark, translate(query.text), str(zone)) for query in queries}


def rows_of(spark: SparkSession, query: str, time_zone: str) -> list[tuple[Any, ...]]:
    """Rows of a small answer, moments with the zone that a session of PostgreSQL would give them."""
    from zoneinfo import ZoneInfo

    def value(each: Any) -> Any:  # noqa: ANN401  a cell of any type
        # As UTC in Arrow, whatever zone this process lives in.
        return each.astimezone(ZoneInfo(time_zone)) if isinstance(each, dt.datetime) else each

    return [tuple(map(value, row.values())) for row in spark.sql(query).toArrow().to_pylist()]


def _judge(
    spark: SparkSession,
    lake: Lake,
    manifest: Manifest,
    connection: Connection,
    reason: str | None,
    changes: int,
    estimated: bool,
) -> Refresh:
    """Count what must agree; after a rebuild, also compare with the queries as Spark answers them.

    Where users are estimated no events are stored by week, and counting the users exactly would be what the estimate
    saves: weeks drawn at random are compared afterwards.
    """
    rows, counted = counts(connection)
    queries = dashboard_queries()
    if estimated:
        rows["weekly_activity"] = 0
        queries = [query for query in queries if query.name != "weekly_active_users"]
    else:
        counted["events of all weeks and in the copy"] = (
            one_number(connection, "SELECT sum(events) FROM weekly_activity"),
            manifest.rows("events"),
        )
    equal = {}
    if reason is not None:
        direct = direct_answers(spark, lake, manifest, queries)
        equal = {
            query.name: rows_fingerprint(direct[query.name]) == rows_fingerprint(answer(connection, query.from_summary))
            for query in queries
        }
    return Refresh(rebuilt=reason, event_changes=changes, rows=rows, equal=equal, counted=counted, estimated=estimated)
