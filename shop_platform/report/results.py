"""The stored results of all parts in one JSON-able dictionary, as docs/results.schema.json describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from shop_platform.performance.ladder import rungs
from shop_platform.performance.sketches import ERROR_95
from shop_platform.records import find_record
from shop_platform.resources.postgres import Connection

if TYPE_CHECKING:
    from shop_platform.performance.advice.records import Advice
    from shop_platform.performance.effects import Effects

#: Raised whenever the form of the results changes in a way that a reader would notice.
FORMAT = 6


def collect_results(connection: Connection) -> dict[str, Any]:
    """Everything that is published, read in one snapshot; a part that was not materialised is null.

    Counts are integers, rates lie between 0 and 1, times are ISO 8601, money is a decimal in a string.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        effects = find_record(connection, "index_effects")
        advice = find_record(connection, "index_advice")
        return {
            "format": FORMAT,
            "time_zone": _value(connection, "SELECT current_setting('TimeZone')"),
            "server_version": _value(connection, "SELECT current_setting('server_version')"),
            "loads": _loads(connection),
            "first_event": _value(connection, "SELECT to_json(min(timestamp))#>>'{}' FROM events"),
            "last_event": _value(connection, "SELECT to_json(max(timestamp))#>>'{}' FROM events"),
            "index_effects": effects,
            "index_advice": advice,
            "ladder": [] if effects is None else rungs(cast("Effects", effects), cast("Advice | None", advice)),
            "weekly_active_users": _rows(
                connection,
                "SELECT week::date::text AS week, active_users FROM analytics.weekly_active_users ORDER BY 1",
            ),
            "active_users_error": {None: None, False: 0.0, True: ERROR_95}[
                _value(connection, "SELECT bool_or(estimated) FROM analytics.weekly_active_users")
            ],
            "revenue_by_category": _rows(
                connection,
                "SELECT category, sum(purchases)::bigint AS purchases, sum(revenue)::text AS revenue"
                " FROM analytics.category_revenue GROUP BY category ORDER BY sum(revenue) DESC, category",
            ),
            "cohort_retention": _rows(
                connection,
                "SELECT breakdown, cohort::text, period, cohort_size, users_observed, users_unrecorded, active_users,"
                " rate, rate_low, rate_high, revenue::text, few_users"
                " FROM analytics.cohort_retention ORDER BY breakdown NULLS FIRST, cohort, period",
            ),
            "pooled_retention": _rows(
                connection,
                "SELECT breakdown, period, cohorts, users_observed, active_users, rate, rate_low, rate_high,"
                " revenue::text FROM analytics.pooled_retention ORDER BY breakdown NULLS FIRST, period",
            ),
            "retention_basis": find_record(connection, "cohort_retention"),
            "segment_retention": find_record(connection, "segment_retention"),
            "segments": _segments(connection),
            "segment_profiles": find_record(connection, "segment_profiles"),
            "search_logs": find_record(connection, "segmented_user_logs"),
        }


def _loads(connection: Connection) -> list[dict[str, Any]]:
    return (
        _rows(
            connection,
            "SELECT table_name AS table, shop, rows_read, rows_loaded, left_out, quarantined,"
            " CASE table_name WHEN 'users' THEN (SELECT count(*) FROM users)"
            " WHEN 'products' THEN (SELECT count(*) FROM products)"
            " ELSE (SELECT count(*) FROM events) END AS rows,"
            " to_json(loaded_at)#>>'{}' AS loaded_at FROM ops.loads ORDER BY table_name",
        )
        or []
    )


def _segments(connection: Connection) -> list[dict[str, Any]] | None:
    """Users of each segment as they are stored, with what is known of it; then the segments that nobody is in."""
    counts = _rows(
        connection,
        "SELECT segment AS name, count(*) AS users, avg(confidence) AS mean_confidence FROM analytics.user_segments"
        " GROUP BY segment ORDER BY segment",
    )
    if counts is None:
        return None
    record = find_record(connection, "user_segments") or {"segments": []}
    profiles = {profile["name"]: profile for profile in record["segments"]}
    told = {row["name"] for row in counts}
    empty = [{"name": name, "users": 0, "mean_confidence": None} for name in profiles if name not in told]
    return [
        row
        | {
            "description": profiles.get(row["name"], {}).get("description", ""),
            "supported": profiles.get(row["name"], {}).get("supported"),
            "margin": profiles.get(row["name"], {}).get("margin"),
            "queries": profiles.get(row["name"], {}).get("queries", []),
        }
        for row in [*counts, *empty]
    ]


def _rows(connection: Connection, query: str) -> list[dict[str, Any]] | None:
    """Rows as dictionaries; None where there are none."""
    cursor = connection.execute(query)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor] or None


def _value(connection: Connection, query: str) -> Any:  # noqa: ANN401  whatever the query gives
    row = connection.execute(query).fetchone()
    return row[0] if row else None
