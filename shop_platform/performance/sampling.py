"""Compares the live summaries with the direct queries on a sample of weeks: what no refresh has to take on trust."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass

from psycopg import IsolationLevel

from shop_platform import sqlfiles
from shop_platform.performance.sketches import is_estimate_of
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource

#: Weeks that one comparison looks at: the latest, and others drawn at random.
WEEKS = 3


@dataclass(frozen=True)
class WeekCompared:
    """One week: whether the summaries give what the direct queries give, and the active users by each.

    Attributes:
        week: its first moment.
        active_summed: active users by the summaries.
        active: by the events.
        revenue_equal: whether revenue and purchases of all days and categories are the same.
        estimated: whether the summaries hold an estimate of the active users.
    """

    week: dt.datetime
    active_summed: int
    active: int
    revenue_equal: bool
    estimated: bool = False

    @property
    def equal(self) -> bool:
        """Whether both questions have the same answer in this week, or one that is as near as an estimate can be."""
        alike = is_estimate_of(self.active, self.active_summed) if self.estimated else self.active == self.active_summed
        return alike and self.revenue_equal


def compare_weeks(postgres: PostgresResource, seed: object, weeks: int | None = WEEKS) -> list[WeekCompared]:
    """Compare the latest week, and others drawn at random or all, in one snapshot.

    Weeks for which changes wait that no refresh has taken in yet are left out, since they are known to differ; where
    a product's price or category has changed, so are all. Reads the events of these weeks only: the table has a BRIN
    index on their time.

    Args:
        postgres: the shop's database.
        seed: of the draw, such as the run's id; anything with a stable text.
        weeks: how many at most; None for all.
    """
    with postgres.connect(role=WRITER) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        candidates = _settled_weeks(connection)
        chosen = (
            candidates
            if weeks is None
            else (
                candidates[-1:]
                + random.Random(str(seed)).sample(  # noqa: S311  no secret hangs on it
                    candidates[:-1], min(weeks - 1, max(len(candidates) - 1, 0))
                )
            )
        )
        return [_compare(connection, *week) for week in sorted(chosen)]


def _settled_weeks(connection: Connection) -> list[tuple[dt.datetime, dt.datetime]]:
    """Weeks of the summaries that nothing waits for: first moments of the week and of the next one."""
    return connection.execute(
        "SELECT week, week + interval '7 days' FROM analytics.weekly_active_users WHERE isfinite(week)"
        " AND NOT EXISTS (SELECT FROM ops.product_log) AND NOT EXISTS (SELECT FROM ops.event_log WHERE sign = 0)"
        " AND week NOT IN (SELECT date_trunc('week', timestamp) FROM ops.event_log WHERE sign <> 0) ORDER BY week"
    ).fetchall()


def _compare(connection: Connection, start: dt.datetime, end: dt.datetime) -> WeekCompared:
    row = connection.execute(sqlfiles.read_sql("queries/weeks_compared").text, {"from": start, "until": end}).fetchone()
    if row is None:
        raise AssertionError("a query of scalar subqueries returns one row")
    active_summed, active, revenue_summed, revenue, estimated = row
    return WeekCompared(start, active_summed, active, revenue_summed == revenue, bool(estimated))
