"""Counts the cells of the retention matrix in PostgreSQL, publishes and reads them."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from shop_platform import sqlfiles
from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection
from shop_platform.retention.cells import Cell


@dataclass(frozen=True)
class Basis:
    """What a matrix was counted from.

    Attributes:
        users, events: how many there were.
        data_end: time of the latest event; None where there is none.
        before_signup: events earlier than their user's signup, which are left out.
        in_future: events later than the moment of counting.
    """

    users: int
    events: int
    data_end: dt.datetime | None
    before_signup: int
    in_future: int

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self) | {"data_end": self.data_end.isoformat() if self.data_end else None}


def lock_matrix(connection: Connection) -> None:
    """Make the caller's transaction, which must be new, the only one that counts; all it reads is one snapshot.

    Locks the table rather than an advisory key: LOCK is the one way to wait before the snapshot is taken. An advisory
    lock is waited for by a SELECT, whose snapshot lacks what the run before it publishes; the DELETE then fails.
    Readers are not locked out.

    Raises:
        DataError: another run has been counting for ten minutes.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SET LOCAL lock_timeout = '10min'")
    try:
        connection.execute("LOCK TABLE analytics.cohort_retention IN SHARE ROW EXCLUSIVE MODE")
    except psycopg.errors.LockNotAvailable as error:
        raise DataError(
            "Another session has held analytics.cohort_retention for ten minutes: wait for its run to end, or end it, "
            "then materialise cohort_retention again."
        ) from error


def count_cells(connection: Connection, periods: int, days: int) -> list[tuple[dt.date, int, int, int, int]]:
    """Rows of cohort, period, size, observed, active: the result of `sql/queries/cohort_retention.sql`."""
    query = sqlfiles.read_sql("queries/cohort_retention").text
    return connection.execute(query, {"periods": periods, "days": days}).fetchall()


def read_basis(connection: Connection) -> Basis:
    """What the cells are counted from, in the caller's snapshot."""
    row = connection.execute(sqlfiles.read_sql("queries/cohort_basis").text).fetchone()
    if row is None:
        raise AssertionError("an aggregate without GROUP BY returns one row")
    return Basis(*row)


def publish(connection: Connection, cells: list[Cell]) -> None:
    """Replace the matrix in the caller's transaction: readers see the old one until the commit.

    Deletes and inserts: the table is small, and views and grants on it stay.
    """
    connection.execute("DELETE FROM analytics.cohort_retention")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO analytics.cohort_retention (cohort, period, cohort_size, users_observed, active_users, rate,"
            " rate_low, rate_high) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (c.cohort, c.period, c.cohort_size, c.users_observed, c.active_users, c.rate, c.rate_low, c.rate_high)
                for c in cells
            ],
        )


def read_cells(connection: Connection) -> list[Cell]:
    """The published matrix, ordered by cohort and period; empty where there is none yet."""
    rows = connection.execute(
        "SELECT cohort, period, cohort_size, users_observed, active_users, rate, rate_low, rate_high"
        " FROM analytics.cohort_retention ORDER BY cohort, period"
    )
    return [Cell(*row) for row in rows]


def count_cohorts(connection: Connection) -> int:
    """Cohorts in the published matrix."""
    row = connection.execute("SELECT count(DISTINCT cohort) FROM analytics.cohort_retention").fetchone()
    return int(row[0]) if row else 0
